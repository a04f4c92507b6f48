"""Trained nets of the CycleGAN chapter: whole slices, tiles, the registry, and what the embedded ones learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cyclegan_training import NETWORKS, PAIRED, TINY, scans, split
from torch import nn

from noisebook import datasets, dicom, simulated, weights
from noisebook.papers import cyclegan


def random_net() -> cyclegan.model.Generator:
    """A generator that does something."""
    torch.manual_seed(0)
    return cyclegan.model.Generator(2, 1, scale_hu=400.0).eval()


def test_whole_slices_are_what_the_network_makes_of_them() -> None:
    """HU in, HU out, slice by slice, with the net's own scale."""
    net, hu = random_net(), scans(2).quarter
    with torch.no_grad():
        expected = 400 * net(torch.from_numpy(hu)[:, None].clamp(min=-1000) / 400)[:, 0]
    np.testing.assert_allclose(cyclegan.model.denoise(net, hu), expected.numpy(), rtol=1e-4, atol=1e-2)


def test_tiles_change_what_instance_normalisation_sees() -> None:
    """Tiles as large as the slice change nothing; smaller ones do, even with all that convolutions reach."""
    found = cyclegan.measures.tiling(random_net(), scans(1).quarter, (128, 64, 32))
    assert found["tile"].tolist() == [128, 64, 32]
    assert found["rms_hu"][0] == found["max_hu"][0] == 0
    assert (found["rms_hu"][1:] > 1).all()
    assert (found["max_hu"] >= found["rms_hu"]).all()


def test_without_normalisation_tiles_change_nothing() -> None:
    """So the change is that of the statistics: with the norms out of the way, a halo of 32 pixels is exact."""
    net = random_net()
    for layer in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for k, child in enumerate(layer):
            if isinstance(child, cyclegan.model.InstanceNorm):
                layer[k] = nn.Identity()
    assert cyclegan.measures.tiling(net, scans(1).quarter, (64, 32))["max_hu"].max() < 0.01


def test_bad_slices_are_refused_before_the_network() -> None:
    """Doors to the network check HU."""
    with pytest.raises(ValueError, match="hu: expected float32, got float64"):
        cyclegan.model.denoise(random_net(), scans(1).quarter.astype(np.float64))
    with pytest.raises(ValueError, match="tile: expected a number above zero"):
        cyclegan.measures.tiling(random_net(), scans(1).quarter, (0,))


@pytest.mark.parametrize("config", [replace(TINY, scale_hu=400.0), PAIRED], ids=["cyclegan", "paired"])
def test_stored_networks_load(
    config: cyclegan.experiment.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored comes back in half precision, with its scale, and its card says how it was trained."""
    (tmp_path / "registry.yaml").write_text("embedded: []\nexternal: []\n")
    monkeypatch.setattr(cyclegan.experiment, "embedded_split", split)
    net = cyclegan.experiment.build(config).eval()
    NETWORKS.store("net", config, net, tmp_path)
    nets = NETWORKS.load("net", data=tmp_path)
    assert (nets.f2q is None) == config.supervised
    assert nets.q2f.scale_hu == config.scale_hu
    for name, value in net.state_dict().items():
        torch.testing.assert_close(nets.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    seen = np.concatenate(cyclegan.data.domains(split().training, config.pairing))
    value = weights.metadata("net", tmp_path).trained_on["value"]
    assert (value.low, value.high, value.unit) == (seen.min(), seen.max(), "HU")
    card = weights.model_card("net", tmp_path)
    assert "the best of 4 epochs on 5 validation patients" in card
    assert ("no patient at both doses" in card) != config.supervised


@pytest.mark.parametrize("name", cyclegan.experiment.SHIPPED)
def test_shipped_networks_are_those_of_their_files(name: str) -> None:
    """Every tensor of the file is in the network, under its name, and nothing else; so are its width and scale."""
    net, stored = NETWORKS.load(name), weights.load(name)
    torch.testing.assert_close(dict(net.state_dict()), stored, rtol=0, atol=0)
    assert net.q2f.scale_hu == 100
    assert {key.split(".")[0] for key in stored} == ({"q2f", "f2q"} if name == "cyclegan-small" else {"q2f"})


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven patients with two slices at each dose, in place of the embedded data."""
    for k, patient in enumerate(f"SIM{n:03d}" for n in range(7)):
        data = scans(2, k)
        for dose, hu in (("Low", data.quarter), ("Full", data.full), ("Noise Free", data.full * 0 + 50)):
            title = f"{dose} Dose Images" if dose != "Noise Free" else "Noise Free Images"
            place = tmp_path / "data" / datasets.ARCHIVE / patient / "simulated" / f"1-{title}-1"
            dicom.write_series(place, hu.round(), (35, 1, 1), [0, 35], patient=patient, description=title)
    monkeypatch.setattr(simulated, "embedded_ct", lambda recipe: tmp_path / "data")
    return tmp_path


@pytest.mark.usefixtures("archive")
def test_the_last_five_training_patients_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    """All slices of the others train, one slice of each of the five validates; truth stands in for the full dose."""
    with monkeypatch.context() as others:
        others.setattr(cyclegan.data, "embedded_test", lambda: scans(2, 99))
        given = cyclegan.data.embedded_split()
    training, validation = given.training, given.scored["validation"]
    assert training.patients == ("SIM000", "SIM000", "SIM001", "SIM001")
    assert validation.patients == tuple(f"SIM{n:03d}" for n in range(2, 7))
    np.testing.assert_array_equal(training.quarter[:2], scans(2, 0).quarter.round())
    test, truth = cyclegan.data.embedded_test(), cyclegan.data.embedded_test("noise free")
    np.testing.assert_array_equal(test.quarter, truth.quarter)
    assert (truth.full == 50).all()
    assert test.patients == truth.patients


@pytest.mark.usefixtures("archive")
def test_embedded_networks_are_trained_on_their_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the one that is named, with its own configuration, pictures, and never on a validation patient."""
    kept = []
    monkeypatch.setattr(cyclegan.data, "embedded_test", lambda: scans(2, 99))
    monkeypatch.setattr(cyclegan.experiment.networks.Networks, "store", lambda *given: kept.append(given[1:]))
    config = replace(TINY, pairing="patients", epochs=1)
    monkeypatch.setitem(cyclegan.experiment.SHIPPED, "cyclegan-small", config)
    NETWORKS.train_shipped(tmp_path / "work", ["cyclegan-small"], "cpu")
    ((name, used, net),) = kept
    assert (name, used) == ("cyclegan-small", config)
    assert net.f2q is not None
    (folder,) = (tmp_path / "work").iterdir()
    assert folder.name.startswith("cyclegan-small-")
    assert [picture.name for picture in (folder / "samples").iterdir()] == ["sample-0001.png"]
