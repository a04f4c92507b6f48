"""Trained nets of the CycleGAN chapter: whole slices, tiles, the registry, and what the embedded ones learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cyclegan_training import PAIRED, TINY, scans
from torch import nn

from noisebook import datasets, dicom, embedded, weights
from noisebook.papers import cyclegan


def random_net() -> cyclegan.Generator:
    """A generator that does something."""
    torch.manual_seed(0)
    return cyclegan.Generator(2, 1, scale_hu=400.0).eval()


def test_whole_slices_are_what_the_network_makes_of_them() -> None:
    """HU in, HU out, slice by slice, with the net's own scale."""
    net, hu = random_net(), scans(2).quarter
    with torch.no_grad():
        expected = 400 * net(torch.from_numpy(hu)[:, None].clamp(min=-1000) / 400)[:, 0]
    np.testing.assert_allclose(cyclegan.denoise(net, hu), expected.numpy(), rtol=1e-4, atol=1e-2)


def test_tiles_change_what_instance_normalisation_sees() -> None:
    """Tiles as large as the slice change nothing; smaller ones do, even with all that convolutions reach."""
    found = cyclegan.tiling(random_net(), scans(1).quarter, (128, 64, 32))
    assert found["tile"].tolist() == [128, 64, 32]
    assert found["rms_hu"][0] == found["max_hu"][0] == 0
    assert (found["rms_hu"][1:] > 1).all()
    assert (found["max_hu"] >= found["rms_hu"]).all()


def test_without_normalisation_tiles_change_nothing() -> None:
    """So the change is that of the statistics: with the norms out of the way, a halo of 32 pixels is exact."""
    net = random_net()
    for layer in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for k, child in enumerate(layer):
            if isinstance(child, cyclegan.InstanceNorm):
                layer[k] = nn.Identity()
    assert cyclegan.tiling(net, scans(1).quarter, (64, 32))["max_hu"].max() < 0.01


def test_bad_slices_are_refused_before_the_network() -> None:
    """Doors to the network check HU."""
    with pytest.raises(ValueError, match="hu: expected float32, got float64"):
        cyclegan.denoise(random_net(), scans(1).quarter.astype(np.float64))
    with pytest.raises(ValueError, match="tile: expected a number above zero"):
        cyclegan.tiling(random_net(), scans(1).quarter, (0,))


@pytest.mark.parametrize("config", [replace(TINY, scale_hu=400.0), PAIRED], ids=["cyclegan", "paired"])
def test_registered_nets_load(config: cyclegan.Config, tmp_path: Path) -> None:
    """What is registered comes back in half precision, with its scale, and its card says how it was trained."""
    (tmp_path / "registry.yaml").write_text("embedded: []\nexternal: []\n")
    data = cyclegan.domains(scans(), config.pairing)
    found = cyclegan.train(replace(config, epochs=1), data, tmp_path / "w", {"validation": scans(1, 9)}, "cpu", False)
    cyclegan.register("net", config, found, scans(1).quarter, data, tmp_path)
    nets = cyclegan.load("net", data=tmp_path)
    assert (nets.f2q is None) == config.supervised
    assert nets.q2f.scale_hu == config.scale_hu
    for name, value in found.nets.q2f.state_dict().items():
        torch.testing.assert_close(nets.q2f.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    card = weights.model_card("net", tmp_path)
    assert "epoch 1 of 4, chosen on 5 patients" in card
    assert ("no patient at both doses" in card) != config.supervised


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven patients with two slices at each dose, in place of the embedded data."""
    for k, patient in enumerate(f"SIM{n:03d}" for n in range(7)):
        data = scans(2, k)
        for dose, hu in (("Low", data.quarter), ("Full", data.full), ("Noise Free", data.full * 0 + 50)):
            title = f"{dose} Dose Images" if dose != "Noise Free" else "Noise Free Images"
            place = tmp_path / "data" / datasets.ARCHIVE / patient / "simulated" / f"1-{title}-1"
            dicom.write_series(place, hu.round(), (35, 1, 1), [0, 35], patient=patient, description=title)
    monkeypatch.setattr(embedded, "embedded_ct", lambda recipe: tmp_path / "data")
    return tmp_path


@pytest.mark.usefixtures("archive")
def test_the_last_five_training_patients_validate() -> None:
    """All slices of the others train, one slice of each of the five validates; truth stands in for the full dose."""
    training, validation = cyclegan.embedded_scans()
    assert training.patients == ("SIM000", "SIM000", "SIM001", "SIM001")
    assert validation.patients == tuple(f"SIM{n:03d}" for n in range(2, 7))
    np.testing.assert_array_equal(training.quarter[:2], scans(2, 0).quarter.round())
    test, truth = cyclegan.embedded_test(), cyclegan.embedded_test("noise free")
    np.testing.assert_array_equal(test.quarter, truth.quarter)
    assert (truth.full == 50).all()
    assert test.patients == truth.patients


def test_embedded_nets_are_trained_and_registered(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the net that is named, with its own configuration and data, and never on a validation patient."""
    kept = []
    monkeypatch.setattr(cyclegan.nets, "embedded_test", lambda: scans(2, 99))
    monkeypatch.setattr(cyclegan.nets, "register", lambda *given: kept.append(given))
    config = replace(TINY, pairing="patients", epochs=1)
    monkeypatch.setitem(cyclegan.EMBEDDED, "cyclegan-small", config)
    cyclegan.train_embedded(archive / "work", ["cyclegan-small"], "cpu")
    ((name, used, found, examples, seen),) = kept
    assert seen.quarter.shape[1:] == (128, 128)
    assert (name, used, examples.shape) == ("cyclegan-small", config, (5, 128, 128))
    assert found.nets.f2q is not None
    assert [path.name.rpartition("-")[0] for path in (archive / "work").iterdir()] == ["patients"]


def test_unknown_nets_are_not_trained(tmp_path: Path) -> None:
    """The name is checked before any data are made."""
    with pytest.raises(ValueError, match="name: expected one of cyclegan-paired"):
        cyclegan.train_embedded(tmp_path, ["cyclegan-big"])
