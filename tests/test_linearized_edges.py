"""Pixels on edges and in flat tissue, and the covariance's shape there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noisebook import metrics
from noisebook.jacobian import Jacobian, white
from noisebook.papers import linearized


def random_net(channels: int = 2, levels: int = 3) -> linearized.model.FBPConvNet:
    """A net that does something: its last layer, zero at first, is random."""
    torch.manual_seed(0)
    net = linearized.model.FBPConvNet(channels, levels).eval()
    torch.nn.init.normal_(net.last.weight)
    return net


def disc() -> np.ndarray:
    """A disc of 100 HU, radius 60, on 200 x 200 pixels of 0 HU."""
    y, x = np.mgrid[:200, :200] - 99.5
    return np.where(np.hypot(y, x) < 60, 100.0, 0.0)


def test_edge_pixels_lie_on_edges_and_know_their_direction() -> None:
    """On a disc they lie on its rim within two pixels, and their direction is the tangent within 3 degrees."""
    pixels = linearized.data.find_pixels(disc(), 8, margin=20, seed=0)
    radius = pixels.places - 99.5
    np.testing.assert_allclose(np.hypot(*radius.T), 60, atol=2)
    np.testing.assert_allclose(np.hypot(*pixels.along.T), 1)
    tangent = np.abs((pixels.along * radius).sum(1)) / np.hypot(*radius.T)
    assert tangent.max() < np.sin(np.radians(3))


def test_flat_pixels_keep_away_from_edges() -> None:
    """On a disc flat pixels stay ten pixels from its rim; the same seed gives the same ones; too many raise."""
    pixels = linearized.data.find_pixels(disc(), 8, margin=20, seed=1, flat=True)
    assert np.abs(np.hypot(*(pixels.places - 99.5).T) - 60).min() > 10
    np.testing.assert_array_equal(
        linearized.data.find_pixels(disc(), 8, margin=20, seed=1, flat=True).places, pixels.places
    )
    with pytest.raises(ValueError, match="image: expected 500 pixels of straight edges 20 pixels from its sides, got"):
        linearized.data.find_pixels(disc(), 500, margin=20, seed=0)


def test_elongation_on_a_crop_equals_the_whole_image() -> None:
    """The crop's covariance gives the same elongation as the whole image's, and a crop that would leave it raises."""
    net = random_net(2, 2)
    image = disc()[20:180, 20:180].astype(np.float32)
    pixels = linearized.data.find_pixels(image, 2, margin=32, seed=0)
    operator = Jacobian(net, torch.from_numpy(image)[None, None])
    expected = []
    for place, along in zip(pixels.places, pixels.along, strict=True):
        covariance = operator.covariance_image((int(place[0]), int(place[1])), white(1.0))[0, 0]
        patch = covariance[place[0] - 16 : place[0] + 17, place[1] - 16 : place[1] + 17].numpy()
        expected.append(metrics.elongation(patch, tuple(along)))
    np.testing.assert_allclose(linearized.measures.elongations(net, image, pixels), expected, rtol=1e-3)
    outside = linearized.data.Pixels(np.array([[3, 80]]), np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match=r"roi: expected slices within \(160, 160\)"):
        linearized.measures.elongations(net, image, outside)


def test_the_probe_keeps_its_distance() -> None:
    """A probe pixel with room on every side passes; one too near a side is named."""
    assert linearized.data.probe_pixel(disc(), 40, 159, margin=40) == (40, 159)
    with pytest.raises(ValueError, match=r"probe: expected a pixel 40 pixels inside \(200, 200\), got \(39, 100\)"):
        linearized.data.probe_pixel(disc(), 39, 100, margin=40)
    assert linearized.data.probe_place([1, 2, 3], (2, 3, 4)) == (1, 2, 3)
    for probe, text in {(1, 2): "three whole numbers", (2, 0, 0): r"slice, row and column within \(2, 3, 4\)"}.items():
        with pytest.raises(ValueError, match=f"probe: expected {text}"):
            linearized.data.probe_place(probe, (2, 3, 4))


def test_pixels_are_found_without_a_margin() -> None:
    """A margin of zero keeps the whole image."""
    assert len(linearized.data.find_pixels(disc(), 8, margin=0, seed=0).places) == 8


def test_the_rows_computed_again_are_rows_of_the_study() -> None:
    """None is an empty array; more than the study has raises."""
    assert linearized.studies.first_elongations(linearized.PAPER.study("elongation"), 0).shape == (0,)
    with pytest.raises(ValueError, match="rows: expected 0 to 16, got 17"):
        linearized.studies.first_elongations(linearized.PAPER.study("elongation"), 17)


def test_an_interrupted_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients whose values are kept are not computed again, and the table is the same."""
    calls: list[str] = []

    def counted(model: object, root: object, patient: str, count: int, seed: int) -> np.ndarray:
        calls.append(patient)
        return np.column_stack([np.repeat([1, 0], count), np.full((2 * count, 3), len(calls))])

    monkeypatch.setattr(linearized.studies, "_patient_elongations", counted)
    monkeypatch.setattr(linearized.studies.simulated, "embedded_ct", lambda recipe: tmp_path)
    monkeypatch.setattr(linearized.studies.datasets, "ct_patients", lambda root: ["SIM046", "SIM047"])
    first = linearized.studies.study_elongation(tmp_path, "cpu", count=2, seed=0, net="linearized-quarter")
    (tmp_path / "1.npy").unlink()
    linearized.studies.study_elongation(tmp_path, "cpu", count=2, seed=0, net="linearized-quarter")
    assert calls == ["SIM046", "SIM047", "SIM047"]
    assert first["patient"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert first["edge"].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
