"""The CycleGAN chapter's networks: sizes, names, arithmetic, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook.papers import cyclegan


def test_the_authors_sizes_have_the_authors_counts() -> None:
    """1,958,497 and 2,761,728 parameters, a receptive field of 70 pixels, and 8 x 8 judgements of 128 x 128 pixels."""
    generator, critic = cyclegan.model.Generator(), cyclegan.model.Discriminator()
    assert (cyclegan.model.parameters(generator), cyclegan.model.parameters(critic)) == (1_958_497, 2_761_728)
    assert (cyclegan.model.receptive_field(critic), cyclegan.model.map_size(critic, 128)) == (70, 8)
    assert critic(torch.rand(2, 1, 128, 128)).shape == (2, 1, 8, 8)


def _norm(x: Tensor) -> Tensor:
    return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()


def _reflected(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    weight = w[f"{name}.weight"]
    reach = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), weight, w[f"{name}.bias"])


def test_the_generator_is_that_of_plain_operations() -> None:
    """Layer by layer, written out with the functional operations of the specification."""
    torch.manual_seed(0)
    net = cyclegan.model.Generator(2, 3).double()
    w, x = dict(net.state_dict()), torch.rand(2, 1, 20, 24).double()
    h = _norm(_reflected(x, w, "first_layer.1")).relu()
    for k in (0, 3):
        h = _norm(F.conv2d(h, w[f"conv_block.conv.{k}.weight"], padding=1)).relu()
    for k in range(3):
        name = f"res_layers.{k}.res_block"
        h = h + _norm(_reflected(_norm(_reflected(h, w, f"{name}.1")).relu(), w, f"{name}.5"))
    for k in (0, 3):
        h = _norm(F.conv_transpose2d(h, w[f"deconv_block.deconv.{k}.weight"], padding=1)).relu()
    torch.testing.assert_close(net(x), x + _reflected(h, w, "last_layer.1").tanh())


def test_the_discriminator_is_that_of_plain_operations() -> None:
    """Five convolutions of 4 x 4 without padding, three of them with stride 2, three of them normalised."""
    torch.manual_seed(0)
    net = cyclegan.model.Discriminator(2).double()
    w, x = list(net.state_dict().values()), torch.rand(2, 1, 72, 81).double()
    h = F.leaky_relu(F.conv2d(x, w[0], stride=2), 0.2)
    for weight, stride in zip(w[1:4], (2, 2, 1), strict=True):
        h = F.leaky_relu(_norm(F.conv2d(h, weight, stride=stride)), 0.2)
    torch.testing.assert_close(net(x), F.conv2d(h, w[4]))


def test_the_receptive_field_is_that_of_the_gradient() -> None:
    """Exactly 70 pixels of the input move one judgement, with the norms taken out."""
    net = cyclegan.model.Discriminator(2)
    chain = nn.Sequential(*(layer for layer in net.discriminator if isinstance(layer, nn.Conv2d))).double()
    image = torch.rand(1, 1, 94, 94, dtype=torch.float64, requires_grad=True)
    chain(image)[0, 0, 1, 1].backward()
    assert image.grad is not None
    assert int((image.grad[0, 0].abs().sum(0) > 0).sum()) == cyclegan.model.receptive_field(net) == 70


def test_new_weights_have_their_law() -> None:
    """Normal with standard deviation 0.02 and zero biases; the last layer's may be smaller, which is near identity."""
    torch.manual_seed(0)
    net = cyclegan.model.Generator(16, last=1e-6)
    kernel = net.res_layers[0].res_block[1]
    assert float(kernel.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not kernel.bias.any()
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(net(image), image, rtol=0, atol=1e-3)


def authors(width: int = 4, blocks: int = 6) -> dict[str, object]:
    """A checkpoint as the authors save it, small."""
    nets = {name: cyclegan.model.Generator(width, blocks) for name in ("G_Q2F", "G_F2Q")}
    nets |= {name: cyclegan.model.Discriminator(width) for name in ("D_F", "D_Q")}  # type: ignore[dict-item]
    return {f"{name}_state_dict": dict(net.state_dict()) for name, net in nets.items()} | {"epoch": 65}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_authors_checkpoints_load(prefix: str) -> None:
    """All four networks come back with the stored weights and width, also from a parallel training."""
    stored = authors(4, 2)
    for name, state in stored.items():
        if isinstance(state, dict):
            stored[name] = {prefix + key: value for key, value in state.items()}
    nets = cyclegan.model.from_authors(stored)
    for ours, name in ((nets.q2f, "G_Q2F"), (nets.f2q, "G_F2Q"), (nets.d_f, "D_F"), (nets.d_q, "D_Q")):
        assert ours is not None
        assert not ours.training
        for key, value in ours.state_dict().items():
            torch.testing.assert_close(value, stored[f"{name}_state_dict"][prefix + key], rtol=0, atol=0)  # type: ignore[index]


def test_files_of_the_authors_load(tmp_path: Path) -> None:
    """All four networks of a file, beside optimisers and numbers; nothing in it is run."""
    stored = authors(4, 2)
    net = cyclegan.model.Discriminator(2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 1, 80, 80)).sum().backward()
    adam.step()
    torch.save(stored | {"D_optimizer_state_dict": adam.state_dict(), "loss": [1.0, 2.0]}, tmp_path / "65.pth")
    nets = cyclegan.model.from_authors(tmp_path / "65.pth")
    for ours, name in ((nets.q2f, "G_Q2F"), (nets.f2q, "G_F2Q"), (nets.d_f, "D_F"), (nets.d_q, "D_Q")):
        assert ours is not None
        torch.testing.assert_close(dict(ours.state_dict()), stored[f"{name}_state_dict"], rtol=0, atol=0)
    torch.save({"epoch": 1, "G_Q2F_state_dict": stored["G_Q2F_state_dict"]}, tmp_path / "paired.pth")
    alone = cyclegan.model.from_authors(tmp_path / "paired.pth").q2f
    torch.testing.assert_close(dict(alone.state_dict()), stored["G_Q2F_state_dict"], rtol=0, atol=0)
    torch.save(cyclegan.model.Generator(2, 1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: expected G_Q2F_state_dict, got conv_block"):
        cyclegan.model.from_authors(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected a weights file, got nothing there"):
        cyclegan.model.from_authors(tmp_path / "66.pth")


def test_the_authors_size_loads() -> None:
    """Weights of the published shapes load strictly; the denoiser alone is enough."""
    state = cyclegan.model.Generator().state_dict()
    nets = cyclegan.model.from_authors({"G_Q2F_state_dict": state})
    assert cyclegan.model.parameters(nets.q2f) == 1_958_497
    assert nets.f2q is None


def test_other_checkpoints_are_refused() -> None:
    """No denoiser, another network, and another shape are named."""
    with pytest.raises(ValueError, match="checkpoint: expected G_Q2F_state_dict, got D_F_state_dict, epoch"):
        cyclegan.model.from_authors({"D_F_state_dict": {}, "epoch": 1})
    with pytest.raises(ValueError, match=r"G_Q2F_state_dict: expected first_layer.1.weight, got discriminator.0"):
        cyclegan.model.from_authors({"G_Q2F_state_dict": cyclegan.model.Discriminator(2).state_dict()})
    state = dict(cyclegan.model.Generator(2, 1).state_dict())
    with pytest.raises(ValueError, match=r"1 missing: last_layer.1.bias"):
        cyclegan.model.from_authors({"G_Q2F_state_dict": {k: v for k, v in state.items() if k != "last_layer.1.bias"}})


def test_wrong_sizes_are_refused() -> None:
    """Widths, numbers of blocks and scales are positive; images have one channel."""
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        cyclegan.model.Generator(0)
    with pytest.raises(ValueError, match="blocks: expected a number above zero"):
        cyclegan.model.Generator(2, 0)
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        cyclegan.model.Discriminator(-1)
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, Y, X\)"):
        cyclegan.model.Generator(2, 1)(torch.rand(1, 2, 32, 32))


def test_the_networks_see_hu_over_a_scale() -> None:
    """Water is 0, air and what is below it is -0.25 at the authors' scale."""
    found = cyclegan.model.normalise(torch.tensor([-3024.0, -1000.0, 0.0, 400.0]))
    torch.testing.assert_close(found, torch.tensor([-0.25, -0.25, 0.0, 0.1]))
