"""The xray chapter's networks and training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from noisebook import simulated, weights
from noisebook.papers import xray
from noisebook.papers.xray.experiment import NETWORKS

TINY = {
    "residual": xray.experiment.Config(width=0.05, images=6, batch=3, epochs=2),
    "ae": replace(xray.experiment.AE, width=0.1, latent=5, images=6, batch=3, epochs=2),
    "vae": replace(xray.experiment.VARIATIONAL, width=0.1, latent=5, images=6, batch=3, epochs=2),
}


class Plain:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        """Plain backward."""
        loss.backward()


def pictures(count: int = 6, size: int = 64) -> torch.Tensor:
    """Smooth 8-bit images: a bright disc of changing place on a ramp."""
    axis = torch.arange(size) / size
    x, y = axis[None, None, :], axis[None, :, None]
    place = torch.linspace(0.3, 0.7, count)[:, None, None]
    disc = ((x - place) ** 2 + (y - 0.5) ** 2 < 0.06).float()
    return (255 * (0.2 + 0.3 * y + 0.4 * disc)).to(torch.uint8)[:, None]


def generator(seed: int = 0) -> torch.Generator:
    """Seeded."""
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------------- networks


def test_the_authors_sizes_have_the_published_parameters() -> None:
    """Keras' counts of every published network; only the running statistics, 2 for 64 channels, are not trained."""
    with torch.device("meta"):
        residual, plain = xray.model.ResidualAutoencoder(), xray.model.ResidualAutoencoder(skips=False)
        small, large = xray.model.Autoencoder(64, 150), xray.model.Autoencoder(128, 150)
    count = xray.model.keras_parameters
    assert (count(residual), count(plain)) == (12_634_631, 12_634_631)
    assert (count(small.encoder), count(small.decoder)) == (2_179_222, 346_497)
    assert (count(large.encoder), count(large.decoder)) == (286_896, 405_915)
    trained = sum(p.numel() for p in small.encoder.parameters())
    assert count(small.encoder) - trained == 2 * 64 == 128
    state = sum(v.numel() for v in small.encoder.state_dict().values())
    assert state - count(small.encoder) == 1  # torch also counts the batches that the statistics have seen


def by_loops(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Keras' ``same`` convolution of one channel by its definition."""
    side, k = len(image), len(kernel)
    outputs = math.ceil(side / stride)
    before = max((outputs - 1) * stride + k - side, 0) // 2
    found = np.zeros((outputs, outputs))
    for y in range(outputs):
        for x in range(outputs):
            for i in range(k):
                for j in range(k):
                    v, u = y * stride + i - before, x * stride + j - before
                    found[y, x] += kernel[i, j] * image[v, u] if 0 <= v < side and 0 <= u < side else 0
    return found


@pytest.mark.parametrize(("side", "kernel", "stride"), [(7, 4, 1), (8, 8, 2), (9, 3, 2), (8, 3, 4), (6, 4, 2)])
def test_same_convolution_is_keras(side: int, kernel: int, stride: int) -> None:
    """The padded convolution is the definition's, for even and odd sides, kernels and strides."""
    conv = xray.model.SameConv(1, 1, kernel, stride, bias=False).double()
    image = torch.rand(1, 1, side, side, dtype=torch.float64)
    expected = by_loops(image[0, 0].numpy(), conv.weight[0, 0].detach().numpy(), stride)
    torch.testing.assert_close(conv(image)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(4, 3, 4), (5, 3, 2), (6, 3, 1), (4, 16, 2), (3, 4, 2), (9, 33, 1)]
)
def test_the_transposed_convolution_is_the_adjoint(side: int, kernel: int, stride: int) -> None:
    """<K x, y> = <x, K* y> for Keras' ``same`` convolution and its transpose, by sums and by Fourier transforms."""
    up = xray.model.SameTranspose(3, 2, kernel, stride).double()
    down = xray.model.SameConv(2, 3, kernel, stride, bias=False).double()
    nn.init.normal_(up.bias)
    small = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
    large = torch.randn(2, 2, side * stride, (side + 1) * stride, dtype=torch.float64)
    with torch.no_grad():
        down.weight.copy_(up.weight)
        lifted = up(small) - up.bias[:, None, None]
        assert lifted.shape == large.shape
        assert float((lifted * large).sum()) == pytest.approx(float((small * down(large)).sum()), rel=1e-10)


def test_fourier_transforms_have_the_gradients_of_the_sums() -> None:
    """The large kernel's gradients are those of the direct transposed convolution."""
    up = xray.model.SameTranspose(2, 1, 40, 1).double()
    x = torch.rand(1, 2, 12, 12, dtype=torch.float64, requires_grad=True)
    direct = nn.functional.conv_transpose2d(x, up.weight, up.bias, padding=19)[..., :12, :12]
    inputs = (x, up.weight, up.bias)
    found, expected = (torch.autograd.grad(y.square().sum(), inputs) for y in (up(x), direct))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("skips", [True, False])
def test_the_residual_network_is_that_of_plain_operations(skips: bool) -> None:
    """ReLU after each layer, the encoder's output added after it where sizes meet, nothing after the last layer."""
    net = xray.model.ResidualAutoencoder(0.05, skips)
    image = torch.rand(2, 1, 32, 48)
    a = net.down[0](image).relu()
    b = net.down[1](a).relu()
    c = net.down[2](b).relu()
    d = net.down[3](c).relu()
    x = net.down[4](d).relu()
    for up, skip in zip(net.up, (d, c, b, a), strict=True):
        x = up(x).relu() + skips * skip
    torch.testing.assert_close(net(image), net.out(x))
    assert net(image).shape == image.shape


def test_weights_are_drawn_as_in_keras() -> None:
    """Kernels are uniform up to the root of 6 over the sum of both fans, biases zero, and the seed decides."""
    net = xray.experiment.build(xray.experiment.AE)
    dense, last = net.encoder[-1], net.decoder[-1]
    for weight, fans in ((dense.weight, 14_400 + 150), (last.weight, 9 * (32 + 1)), (net.encoder[2].weight, 9 * 96)):
        limit = math.sqrt(6 / fans)
        assert 0.97 * limit < float(weight.detach().abs().max()) <= limit
        assert float(weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.1)
    assert not dense.bias.any()
    torch.testing.assert_close(xray.experiment.build(xray.experiment.AE).state_dict(), net.state_dict(), rtol=0, atol=0)
    assert not torch.equal(
        xray.experiment.build(replace(xray.experiment.AE, seed=1)).encoder[0].weight, net.encoder[0].weight
    )
    norm = net.encoder[4]
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


@pytest.mark.parametrize("size", [64, 128])
def test_coders_keep_the_shape(size: int) -> None:
    """Both architectures give logits of the image's shape; denoised images lie in [0, 1] and leave the mode alone."""
    for config in TINY.values():
        net = xray.experiment.build(replace(config, size=size))
        found = xray.model.denoise(net, torch.rand(3, 1, size, size), batch=2)
        assert found.shape == (3, 1, size, size)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert net.training


def test_a_sample_is_what_the_decoder_makes() -> None:
    """The sigmoid of the decoder's logits, one image a vector."""
    net = xray.model.VAE(64, 4, 0.1)
    latent = torch.randn(3, 4)
    torch.testing.assert_close(xray.model.sample(net, latent), net.decoder(latent).sigmoid().detach())
    with pytest.raises(ValueError, match=r"latent: expected shape \('any', 4\)"):
        xray.model.sample(net, torch.zeros(3, 5))


def test_wrong_networks_and_images_are_refused() -> None:
    """Unknown models and sizes, widths of nothing, and images of another size are named."""
    with pytest.raises(ValueError, match="model: expected one of ae, residual, vae, got 'unet'"):
        xray.experiment.build(xray.experiment.Config(model="unet"))
    with pytest.raises(ValueError, match="size: expected one of 128, 64, got '65'"):
        xray.model.Autoencoder(65)
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        xray.model.ResidualAutoencoder(0)
    with pytest.raises(ValueError, match=r"latent: expected a number above zero"):
        xray.model.VAE(64, 0)
    with pytest.raises(ValueError, match=r"image: expected shape \('any', 1, 64, 64\)"):
        xray.model.Autoencoder(64, 5, 0.1)(torch.zeros(1, 1, 128, 128))
    with pytest.raises(ValueError, match="image: expected sides that are multiples of 16"):
        xray.model.ResidualAutoencoder(0.05)(torch.zeros(1, 1, 64, 65))


# ---------------------------------------------------------------------------------------------------------- training


def step_batch(config: xray.experiment.Config) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One batch."""
    return next(xray.experiment.shuffled(pictures(3), config, generator()))


@pytest.mark.parametrize("model", xray.measures.MODELS)
def test_one_step_changes_every_parameter(model: str) -> None:
    """No layer is left out of the training."""
    trainee = xray.experiment.Training(TINY[model])
    before = [p.detach().clone() for p in trainee.net.parameters()]
    trainee.step(Plain(), step_batch(TINY[model]))
    assert all((a != b).any() for a, b in zip(before, trainee.net.parameters(), strict=True))


@pytest.mark.parametrize("model", xray.measures.MODELS)
def test_one_batch_can_be_overfitted(model: str) -> None:
    """Many steps on one batch bring the loss near the least possible: zero, or the entropy of the images themselves."""
    trainee = xray.experiment.Training(replace(TINY[model], width=0.25, latent=20, learning_rate=1e-3))
    batch = step_batch(replace(TINY[model], latent=20))
    steps = 40 if model == "residual" else 400
    losses = [float(trainee.step(Plain(), batch)["loss"].detach()) for _ in range(steps)]
    entropy = float(nn.functional.binary_cross_entropy(batch[1], batch[1]))
    least = {"residual": 0, "ae": entropy, "vae": entropy * 4096}[model]
    assert losses[-1] - least < 0.25 * (losses[0] - least)


def test_the_residual_loss_is_the_squared_error() -> None:
    """And the autoencoder's is the cross-entropy a pixel, by its definition."""
    for model in ("residual", "ae"):
        config = TINY[model]
        trainee, (noisy, truth, draw) = xray.experiment.Training(config), step_batch(config)
        with torch.no_grad():
            out = trainee.net(noisy)
            p = out.sigmoid()
            entropy = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
            expected = (out - truth).square().mean() if model == "residual" else entropy
        torch.testing.assert_close(trainee.step(Plain(), (noisy, truth, draw))["loss"].detach(), expected)


def test_the_loss_of_a_vae_is_the_bound() -> None:
    """Summed cross-entropy of the drawn latent, and the divergence that torch.distributions gives."""
    net, (noisy, truth, draw) = xray.experiment.build(TINY["vae"]).eval(), step_batch(TINY["vae"])
    assert isinstance(net, xray.model.VAE)
    entropy, divergence = xray.experiment.vae_loss(net, noisy, truth, draw)
    mean, log_variance = net.posterior(noisy)
    law = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(law, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(divergence, expected)
    pixels = torch.distributions.Bernoulli(logits=net.decoder(mean + law.scale * draw), validate_args=False)
    torch.testing.assert_close(entropy, -pixels.log_prob(truth).sum((1, 2, 3)).mean())


@pytest.mark.parametrize("size", [64, 128])
def test_an_untrained_vae_costs_n_ln_2(size: int) -> None:
    """Glorot's weights leave the decoder indifferent: n ln 2 within 1 %, mean of 5 seeds."""
    config = replace(xray.experiment.VARIATIONAL, size=size, images=8)
    found = []
    for seed in range(5):
        net = xray.experiment.build(replace(config, seed=seed))
        noisy, truth, draw = next(xray.experiment.shuffled(pictures(8, size), config, generator(seed)))
        with torch.no_grad():
            found.append(float(sum(xray.experiment.vae_loss(net, noisy, truth, draw))))
    assert np.mean(found) == pytest.approx(size**2 * math.log(2), rel=0.01)


@pytest.mark.parametrize("model", xray.measures.MODELS)
def test_four_epochs_equal_two_killed_and_two_resumed(model: str, tmp_path: Path) -> None:
    """Training resumes exactly: identical weights and log; and a finished net is not trained again."""
    config = TINY[model]
    longer = replace(config, epochs=4)
    whole = NETWORKS.train(longer, tmp_path / "whole", pictures(), device="cpu")
    NETWORKS.train(config, tmp_path / "parts", pictures(), device="cpu")
    (tmp_path / "parts" / "checkpoint-0003.partial").write_bytes(b"half a file, as kill -9 leaves it")
    resumed = NETWORKS.train(longer, tmp_path / "parts", pictures(), device="cpu")
    torch.testing.assert_close(whole.net.state_dict(), resumed.net.state_dict(), rtol=0, atol=0)
    assert whole.log == resumed.log
    assert len(whole.log) == 4
    stamp = (tmp_path / "parts" / "checkpoint-0004.pt").stat().st_mtime_ns
    finished = NETWORKS.train(longer, tmp_path / "parts", device="cpu").net  # needs no images
    assert (tmp_path / "parts" / "checkpoint-0004.pt").stat().st_mtime_ns == stamp
    torch.testing.assert_close(finished.state_dict(), whole.net.state_dict(), rtol=0, atol=0)


def test_batches_hold_every_image_once_with_new_noise() -> None:
    """An epoch is a permutation; a last batch that is too small is left out; mixed levels are drawn image by image."""
    images = torch.arange(0, 200, 20, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 64, 64)
    config = replace(TINY["ae"], batch=4, corruptions=("salt-and-pepper-hard", "salt-and-pepper-easy"))
    seen = list(xray.experiment.shuffled(images, config, generator()))
    assert len(seen) == 2
    assert len({float(one[0, 0, 0]) for _, truth, _ in seen for one in truth}) == 8
    changed = torch.cat([(noisy != truth).float().mean((1, 2, 3)) for noisy, truth, _ in seen])
    assert 0 < int((changed > 0.15).sum()) < 8
    assert float(changed.min()) < 0.05
    assert seen[0][2].shape == (4, 5)


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Too few images, and images of another size, are named."""
    with pytest.raises(ValueError, match="images: expected at least 6, got 3"):
        NETWORKS.train(TINY["ae"], tmp_path, pictures(3), device="cpu")
    with pytest.raises(ValueError, match=r"images: expected shape \('any', 1, 64, 64\)"):
        NETWORKS.train(TINY["ae"], tmp_path, pictures(6, 32), device="cpu")


def test_subsets_are_spread_over_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images than there are come from all of them, and a part of the archive is cut the same way."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    root = simulated.embedded_xray(simulated.XRAY_SMOKE, progress=False)
    both = xray.data.radiographs(root, "train", 64)
    assert both.shape == (2, 1, 64, 64)
    torch.testing.assert_close(xray.data.radiographs(root, "train", 64, limit=1), both[:1])
    torch.testing.assert_close(xray.data.radiographs(root, "train", 64, label="PNEUMONIA"), both[1:])
    with pytest.raises(ValueError, match=r"label: expected one of .*Did you mean 'NORMAL'"):
        xray.data.radiographs(root, "train", 64, label="NORMALS")
    none = simulated.embedded_xray(replace(simulated.XRAY_SMOKE, val=()), progress=False)
    with pytest.raises(ValueError, match="val: expected radiographs, got none"):
        xray.data.radiographs(none, "val", 64)


def test_views_of_a_patient_have_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers go with the images, whichever are chosen, and are no names."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    root = simulated.embedded_xray(simulated.XRAY_SMOKE, progress=False)
    (view,) = root.rglob("train/PNEUMONIA/*.jpeg")
    Image.open(view).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(view.with_name(view.name.replace("_1", "_2")))
    assert xray.data.patient_numbers(root, "train").tolist() == [0, 1, 1]
    assert xray.data.patient_numbers(root, "train", limit=2).tolist() == [0, 1]
    assert xray.data.patient_numbers(root, "train", label="PNEUMONIA").tolist() == [0, 0]


def test_checkpoints_of_other_nets_lie_elsewhere() -> None:
    """More epochs resume in the same folder; another seed, width or data set does not."""
    config = TINY["ae"]
    at = {NETWORKS.checkpoints(Path(), "a", c) for c in (config, replace(config, epochs=9))}
    assert len(at) == 1
    others = {NETWORKS.checkpoints(Path(), "a", c) for c in (replace(config, seed=1), replace(config, width=0.2))}
    assert len(at | others | {NETWORKS.checkpoints(Path(), "a", config, "other")}) == 4


@pytest.mark.parametrize("name", ["xray-residual", "xray-vae-40"])
def test_what_is_registered_loads_as_it_was_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net goes through half precision and the registry, and comes back with its configuration."""
    small = replace(xray.experiment.SHIPPED[name], width=0.05, images=4, batch=2, epochs=1)
    monkeypatch.setitem(xray.experiment.SHIPPED, name, small)
    monkeypatch.setattr(xray.experiment, "training_images", lambda size: pictures(4, size))
    monkeypatch.setattr(xray.experiment, "radiographs", lambda *a, **k: pictures(2))
    monkeypatch.setattr(xray.experiment.simulated, "embedded_xray", lambda: tmp_path)
    data = tmp_path / "data"
    (data / "weights").mkdir(parents=True)
    (data / "registry.yaml").write_text("embedded: []\nexternal: []\n")
    embed = weights.embed
    monkeypatch.setattr(weights, "embed", lambda *a, **k: embed(*a, **(k | {"data": data})))
    NETWORKS.train_shipped(tmp_path / "work", [name], "cpu")
    net = NETWORKS.load(name, data=data)
    image = torch.rand(1, 1, 64, 64)
    trained = NETWORKS.train(small, NETWORKS.checkpoints(tmp_path / "work", name, small), device="cpu").net
    torch.testing.assert_close(xray.model.denoise(net, image), xray.model.denoise(trained, image), rtol=0, atol=2e-3)
    assert weights.metadata(name, data).architecture == xray.experiment.describe(small)["architecture"]


def test_the_embedded_nets_are_described_and_small() -> None:
    """Each is buildable, at most 6 MB in half precision, and says its width."""
    for config in xray.experiment.SHIPPED.values():
        assert 2 * sum(p.numel() for p in xray.experiment.build(config).parameters()) < 6e6
    assert "0.25 of the authors' width" in xray.experiment.describe(xray.experiment.SMALL)["architecture"]
    assert xray.experiment.describe(replace(xray.experiment.SMALL, skips=False))["architecture"].endswith(
        "without skips"
    )
    assert xray.experiment.describe(xray.experiment.AE)["architecture"].endswith(
        "the authors' width, 150 latent numbers"
    )
