"""The xray chapter's studies at tiny size: their rows, their seeds, and resuming after an interruption."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from noisebook import studies
from noisebook.papers import xray
from noisebook.papers.xray import experiment
from noisebook.papers.xray import studies as long


def pictures(count: int, size: int = 64) -> Tensor:
    """Smooth 8-bit images that differ."""
    axis = torch.linspace(0, 1, size)
    phase = torch.arange(count)[:, None, None] / count
    return (120 + 60 * torch.sin(6 * axis + phase) * torch.cos(5 * axis[:, None] - phase)).to(torch.uint8)[:, None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny nets and data, and the folder of one study."""
    for name in ("AE", "VARIATIONAL", "SMALL"):
        base = getattr(long, name)
        width = 0.05 if name == "SMALL" else 0.1
        monkeypatch.setattr(long, name, replace(base, width=width, images=4, batch=2, latent=5))
    monkeypatch.setattr(long, "held_out", lambda part="test", size=64: pictures(3, size))
    monkeypatch.setattr(experiment, "training_images", lambda size=64: pictures(4, size))
    place = tmp_path / "study" / "inputs"
    place.mkdir(parents=True)
    return place


EPOCHS = {"residual": 1, "ae": 1, "vae": 1}
ALL = {"seeds": [0], "corruption": "gaussian-medium", "epochs": EPOCHS, "width": 0.05}


def test_the_spread_has_a_row_for_every_method(folder: Path) -> None:
    """Each method and seed once; the identity's error is that of the noise; nets are kept and not trained again."""
    rows = long.study_spread(folder, "cpu", **ALL)
    assert rows["method"].tolist() == list(range(7))
    identity = xray.measures.METHODS.index("identity")
    assert rows["mse"][identity] == pytest.approx((xray.data.sigma("medium") / 255) ** 2, rel=0.1)
    assert rows["train_mse"][identity] == pytest.approx(rows["mse"][identity], rel=0.1)
    assert set(rows) == {"method", "seed", "psnr", "ssim", "mse", "high", "kept", "train_mse"}
    nets = folder.parents[1] / "nets"
    times = {file: file.stat().st_mtime_ns for file in nets.rglob("*.pt")}
    assert len(times) == 3
    again = long.study_spread(folder, "cpu", **ALL)
    assert {file: file.stat().st_mtime_ns for file in nets.rglob("*.pt")} == times
    for name, values in rows.items():
        np.testing.assert_array_equal(again[name], values)


def test_embedded_nets_are_not_trained_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that ships is loaded by its name."""
    config = replace(long.SMALL, corruptions=("gaussian-easy",), epochs=1, width=0.05)
    net = xray.experiment.build(config).eval()
    monkeypatch.setattr(long, "SHIPPED", {"xray-residual": config})
    monkeypatch.setattr(experiment.Networks, "load", lambda self, id: {"xray-residual": net}[id])
    found = dict(xray.studies.methods(folder, "cpu", 0, "gaussian-easy", EPOCHS, 0.05))
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(found["residual"](image), xray.model.denoise(net, image))
    assert tuple(found) == xray.measures.METHODS


def test_transfer_tests_every_net_on_every_corruption(folder: Path) -> None:
    """Seven nets, six corruptions; before denoising the PSNR is the corrupted images'."""
    rows = long.study_transfer(folder, "cpu", seeds=[0], epochs=1, width=0.05, images=2)
    assert len(rows["psnr"]) == 42
    assert sorted(zip(rows["trained"], rows["tested"], strict=True)) == [(i, j) for i in range(7) for j in range(6)]
    hard = rows["tested"] == xray.data.CORRUPTIONS.index("salt-and-pepper-hard")
    assert np.unique(rows["before"][hard]).tolist() == [pytest.approx(12.0, abs=1.0)]
    assert xray.measures.TRAINED[6] == xray.measures.MIXED == ("gaussian-easy", "gaussian-medium", "gaussian-hard")


LATENT = {"latents": [3, 5], "seeds": [0, 1], "corruption": "gaussian-easy", "epochs": 2, "images": 4}
SHOWN = {"shown": [1, 2], "vectors": 2, "sampled": 5}


def test_latent_sizes_keep_losses_and_samples(folder: Path) -> None:
    """Losses begin near n ln 2 and fall; samples of each epoch shown are those of the net trained so far."""
    found = long.study_latent(folder, "cpu", **LATENT, **SHOWN)
    assert (found["loss"].shape, found["psnr"].shape) == ((2, 2, 2), (2, 2))
    assert found["loss"][..., 0] == pytest.approx(4096 * math.log(2), rel=0.05)
    assert (found["loss"][..., 1] < found["loss"][..., 0]).all()
    assert found["samples"].shape == (2, 2, 64, 64)
    config = replace(long.VARIATIONAL, corruptions=("gaussian-easy",), epochs=1)
    first = experiment.NETWORKS.train(config, folder / "other", pictures(4), device="cpu").net
    drawn = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = (255 * xray.model.sample(first, drawn)[:, 0]).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(found["samples"][0], expected)


def test_an_interrupted_latent_study_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the first sample, it gives what an uninterrupted one gives."""
    whole = long.study_latent(folder, "cpu", **LATENT, **SHOWN)
    other = folder.parents[1] / "x" / "y" / "z"
    other.mkdir(parents=True)
    save, calls = np.save, []

    def failing(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(np, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        long.study_latent(other, "cpu", **LATENT, **SHOWN)
    resumed = long.study_latent(other, "cpu", **LATENT, **SHOWN)
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values)


def test_skips_are_compared_seed_by_seed(folder: Path) -> None:
    """Nets without and with skips have losses of their own, epoch by epoch."""
    found = long.study_skips(folder, "cpu", seeds=[0, 1], corruption="gaussian-easy", epochs=2, width=0.05, images=4)
    assert found["loss"].shape == (2, 2, 2)
    assert found["psnr"].shape == (2, 2)
    assert (found["loss"][0] != found["loss"][1]).all()


def test_few_images_get_as_many_steps(folder: Path) -> None:
    """Epochs times batches are equal, as far as whole epochs allow; checkpoints lie apart by epochs."""
    found = long.study_images(folder, "cpu", counts=[2, 4], seeds=[0], corruption="gaussian-easy", steps=4, width=0.05)
    assert found["images"].tolist() == [2, 4]
    assert found["epochs"].tolist() == [4, 2]
    names = {file.parent.name.rsplit("-", 1)[0] for file in (folder.parents[1] / "nets").rglob("*.pt")}
    assert names == {"residual-seed0-epochs4", "residual-seed0-epochs2"}


def test_detection_has_a_row_for_every_method_and_one_without_noise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise the opacity is seen best; the identity is what there is to detect."""
    monkeypatch.setattr(long, "held_out", lambda part="test", size=64: xray.data.corrupt(
        pictures(40 if part == "test" else 3, size), "gaussian-easy", torch.Generator().manual_seed(1)
    ))  # fmt: skip
    monkeypatch.setattr(long, "held_out_patients", lambda: np.arange(40) // 2)
    rows = long.study_detect(folder, "cpu", **ALL, contrast=60.0, draws=1)
    assert rows["method"].tolist() == [-1, *range(7)]
    assert rows["detectability"][0] > rows["detectability"][1] > 0


@pytest.mark.parametrize("size", [64, 128])
def test_untrained_nets_have_the_loss_of_indifference(size: int) -> None:
    """The size in pixels times ln 2, one value a seed, all different, their mean within 1 %."""
    found = xray.measures.initial_losses(pictures(8, size))
    assert len(set(found)) == 5
    assert found.mean() == pytest.approx(size**2 * math.log(2), rel=0.01)


def test_images_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts come from the embedded archive."""
    monkeypatch.setattr(long.simulated, "embedded_xray", lambda progress: tmp_path)
    monkeypatch.setattr(xray.data, "radiographs", lambda *arguments: arguments)
    assert xray.data.held_out("val", 128) == (tmp_path, "val", 128)
    monkeypatch.setattr(xray.data, "patient_numbers", lambda *arguments: arguments)
    assert xray.data.held_out_patients("val") == (tmp_path, "val")


def test_pairs_are_corrupted_by_their_seed() -> None:
    """The same seed gives the same noise; the truth is the image."""
    noisy, truth = xray.data.pairs(pictures(2), "gaussian-hard", 3)
    torch.testing.assert_close(truth, pictures(2).float() / 255)
    torch.testing.assert_close(xray.data.pairs(pictures(2), "gaussian-hard", 3)[0], noisy, rtol=0, atol=0)
    assert not torch.equal(xray.data.pairs(pictures(2), "gaussian-hard", 4)[0], noisy)


@pytest.mark.parametrize("study", xray.studies.STUDIES, ids=lambda study: study.name)
def test_planned_studies_can_be_called(study: studies.Study) -> None:
    """Every configuration is plain JSON, has three seeds, and names the parameters of its function."""
    import inspect

    parameters = set(inspect.signature(study.run).parameters) - {"folder", "device"}
    assert set(study.config) == parameters
    assert study.config["seeds"] == [0, 1, 2]
    studies.inputs(replace(study, weights=()))
    assert set(study.weights) <= set(experiment.SHIPPED)
