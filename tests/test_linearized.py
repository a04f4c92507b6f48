"""The linearized chapter's network, training step and measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisebook import weights
from noisebook.jacobian import Jacobian
from noisebook.papers import linearized
from noisebook.training import fit

TINY = linearized.experiment.Config(channels=2, levels=3, stages=((16, 2), (32, 2)), patches=4, batch=4)


class Plain:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        """Plain backward."""
        loss.backward()


def slices(count: int = 3, side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy discs and the discs, HU."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    clean = torch.stack([100.0 * ((y - 20) ** 2 + (x - 18 - i) ** 2 < 90) for i in range(count)])
    return clean + 30 * torch.randn(clean.shape, generator=generator), clean


def random_net(channels: int = 2, levels: int = 3) -> linearized.model.FBPConvNet:
    """A net that does something: its last layer, zero at first, is random."""
    torch.manual_seed(0)
    net = linearized.model.FBPConvNet(channels, levels).eval()
    torch.nn.init.normal_(net.last.weight)
    return net


def test_the_papers_size_has_the_papers_parameters() -> None:
    """64 channels and five levels: two 3x3 convolutions with batch norm a level, 2x2 up-steps."""
    widths = [64, 128, 256, 512, 1024]
    down = sum(9 * (a * b + b * b) + 4 * b for a, b in zip([1, *widths], widths, strict=False))
    up = sum((4 * 2 * w * w + w) + 9 * (2 * w * w + w * w) + 4 * w for w in widths[:-1])
    assert sum(p.numel() for p in linearized.model.FBPConvNet().parameters()) == down + up + 64 + 1


def test_the_net_starts_as_the_identity() -> None:
    """Untrained, the residual is zero."""
    image = torch.randn(2, 1, 16, 32) * 100
    torch.testing.assert_close(linearized.model.FBPConvNet(2, 3).eval()(image), image)


def test_the_halo_holds_the_receptive_field() -> None:
    """Five levels see 204 pixels: the gradient of a pixel ends within the halo, and reaches more than 90 pixels."""
    net = random_net(3, 5)
    side = 2 * net.halo + 48
    image = torch.randn(1, 1, side, side, dtype=torch.float64) * 100
    centre = side // 2 + 7
    row = Jacobian(net, image)
    weights_of_pixel = (row.T @ row.impulse((centre, centre)))[0, 0]
    reach = (torch.nonzero(weights_of_pixel) - centre).abs().max()
    assert 90 < reach <= net.halo


def test_one_step_changes_every_parameter() -> None:
    """No layer is left out: after two steps (the zero last layer hides the others in the first) all have moved."""
    trainee = linearized.experiment.Training(TINY)
    before = [p.detach().clone() for p in trainee.model.parameters()]
    noisy, clean = slices()
    for _ in range(2):
        trainee.step(Plain(), (noisy[:, None], clean[:, None]))
    assert all((a != b).any() for a, b in zip(before, trainee.model.parameters(), strict=True))


def test_one_batch_can_be_overfitted() -> None:
    """Two hundred steps on one batch bring the loss below a twentieth of the identity's."""
    trainee = linearized.experiment.Training(replace(TINY, channels=4, learning_rate=5e-3))
    noisy, clean = (images[:1, None] for images in slices())
    losses = [float(trainee.step(Plain(), (noisy, clean))["loss"].detach()) for _ in range(200)]
    assert losses[-1] < losses[0] / 20


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_loss_is_what_it_says(loss: str) -> None:
    """At the identity, the loss is the mean square, or mean magnitude, of the noise in units of 200 HU."""
    trainee = linearized.experiment.Training(replace(TINY, loss=loss))
    noisy, clean = (images[:, None] for images in slices())
    expected = ((noisy - clean) / 200).abs().pow(2 if loss == "mse" else 1).mean()
    torch.testing.assert_close(trainee.step(Plain(), (noisy, clean))["loss"].detach(), expected)


def test_four_epochs_equal_two_and_two_resumed(tmp_path: Path) -> None:
    """Weights of 4 epochs equal, to the bit, those of 2 and 2 more from the checkpoint."""
    noisy, clean = slices()

    def train(folder: Path, epochs: int) -> linearized.experiment.Training:
        trainee = linearized.experiment.Training(TINY)

        def of_epoch(epoch: int, generator: torch.Generator) -> Any:
            return linearized.experiment.patches(noisy, clean, TINY, epoch, generator)

        fit(trainee, of_epoch, epochs=epochs, folder=folder, seed=3, device="cpu", progress=False)
        return trainee

    straight = train(tmp_path / "a", 4)
    train(tmp_path / "b", 2)
    torch.testing.assert_close(
        dict(train(tmp_path / "b", 4).model.state_dict()), dict(straight.model.state_dict()), rtol=0, atol=0
    )


def test_another_schedule_does_not_go_on_from_old_checkpoints(tmp_path: Path) -> None:
    """The same configuration finds its checkpoints again; any other one has a folder of its own."""
    place = linearized.experiment.NETWORKS.checkpoints(tmp_path, "net", TINY)
    assert linearized.experiment.NETWORKS.checkpoints(tmp_path, "net", replace(TINY)) == place
    assert linearized.experiment.NETWORKS.checkpoints(tmp_path, "net", replace(TINY, seed=1)) != place


def test_patches_follow_the_stages_and_stay_pairs() -> None:
    """Patch sizes follow the schedule, and input and label are cut and turned alike."""
    noisy, _ = slices()
    assert [TINY.patch(epoch) for epoch in range(5)] == [16, 16, 32, 32, 32]
    assert TINY.epochs == 4
    for epoch, shape in ((0, (4, 1, 16, 16)), (3, (1, 1, 32, 32))):
        for a, b in linearized.experiment.patches(noisy, noisy + 1, TINY, epoch, torch.Generator().manual_seed(1)):
            assert a.shape == shape
            torch.testing.assert_close(b - a, torch.ones_like(a), rtol=0, atol=1e-3)


def test_any_size_is_denoised() -> None:
    """`denoise` pads what is not a multiple of the stride and equals the net where it is."""
    net = random_net()
    hu = np.random.default_rng(0).normal(0, 50, (2, 32, 24)).astype(np.float32)
    direct = net(torch.from_numpy(hu)[:, None])[:, 0].detach().numpy()
    np.testing.assert_allclose(linearized.model.denoise(net, hu), direct, atol=1e-3)
    assert linearized.model.denoise(net, hu[:, :31, :23]).shape == (2, 31, 23)


def test_l1_and_l2_hold_for_a_random_net() -> None:
    """Forward mode, double backward and differences agree; adjoints are exact; every check has one value a seed."""
    image = 60 * torch.randn(1, 1, 24, 16, generator=torch.Generator().manual_seed(2))
    derivatives = linearized.measures.derivative_errors(random_net(), image, range(3))
    adjoints = linearized.measures.adjoint_errors(random_net(), image, range(3))
    assert derivatives["double backward"].max() < 1e-8
    assert derivatives["finite differences"].max() < 1e-5
    assert list(adjoints) == ["Jacobian", "projection", "back-projection", "FBP"]
    assert all(values.shape == (3,) and values.max() < 1e-10 for values in adjoints.values())


def test_the_embedded_net_denoises() -> None:
    """The registered net loads strictly and halves the error of a noisy simulated slice, at least."""
    from noisebook import datasets, metrics, simulated

    net = linearized.experiment.NETWORKS.load("linearized-quarter")
    assert weights.metadata("linearized-quarter").parameters == sum(p.numel() for p in net.parameters())
    recipe = replace(simulated.TEST, patients=(50,), slices=1)
    images = simulated.simulate(recipe, 50, recipe.positions_mm(50)[0]).numpy().clip(-1024)  # as stored
    assert datasets.TEST_PATIENTS == 5
    before, after = (
        metrics.rmse(images[1], images[2]),
        metrics.rmse(linearized.model.denoise(net, images[1:2])[0], images[2]),
    )
    assert after < before / 2


def test_quality_is_the_mean_over_slices() -> None:
    """A patient's RMSE is the mean over its slices, for input and output."""
    from noisebook.datasets import CtPairs

    label = np.zeros((2, 16, 16), np.float32)
    low = label + np.array([1, 3], np.float32)[:, None, None]
    pair = CtPairs(low, label, (1.0, 1.0, 1.0), np.arange(2.0), "SIM001")
    found = linearized.measures.quality([pair], [low * 2], data_range=400.0)
    assert found["RMSE / HU, input"] == pytest.approx([2.0])
    assert found["RMSE / HU, output"] == pytest.approx([4.0])
    assert set(found) == {f"{m}, {k}" for m in ("RMSE / HU", "PSNR / dB", "SSIM") for k in ("input", "output")}


def test_bad_input_is_refused() -> None:
    """Sizes off the pooling grid, colour images, unknown losses and unknown nets raise."""
    net = random_net()
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, Y, X\) with Y and X multiples of 4"):
        net(torch.zeros(1, 1, 18, 16))
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, Y, X\)"):
        net(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="loss: expected one of l1, mse, got 'l2'"):
        linearized.experiment.Training(replace(TINY, loss="l2"))
    with pytest.raises(ValueError, match="network: expected one of linearized-i0, "):
        linearized.experiment.NETWORKS.train_shipped(Path("nowhere"), ["linearized-half"])
    with pytest.raises(ValueError, match="channels: expected a number above zero"):
        linearized.model.FBPConvNet(0)
