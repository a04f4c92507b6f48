"""The paper's scans: counts and noise as stated, labels from all views, targets that are parts of the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noisebook import ct, embedded
from noisebook.papers import linearized

GRID = ct.Grid(64, 6.0)


def disc(hu: float = 0.0, radius_mm: float = 150.0) -> np.ndarray:
    """A disc of ``hu`` in air, (64, 64)."""
    x, y = (axis.numpy() for axis in GRID.axes_mm())
    return np.where(np.hypot(y[:, None], x) < radius_mm, hu, -1000.0).astype(np.float32)


@pytest.fixture
def water() -> linearized.data.Scan:
    """A sparse scan of a water disc at I0, reconstructed on 32 pixels about the centre."""
    return linearized.data.scan(disc(), GRID, GRID.part(slice(16, 48), slice(16, 48)), "I0")


def test_the_scan_is_the_papers() -> None:
    """1160 views of 672 channels, of which every eighth is kept; exposures in steps of ten."""
    assert linearized.data.SCAN.sinogram_shape == (1160, 672)
    assert linearized.data.SCAN.sparse(linearized.data.EVERY).views == 145
    photons = [dose.photons for dose in linearized.data.EXPOSURES.values()]
    assert list(linearized.data.EXPOSURES) == ["I0", "I0/10", "I0/100"]
    assert photons == pytest.approx([photons[0], photons[0] / 10, photons[0] / 100])
    assert all(dose.electronic == 0 and dose.edge_share == 0.2 for dose in linearized.data.EXPOSURES.values())


def test_line_integrals_are_those_of_water(water: linearized.data.Scan) -> None:
    """Behind a disc of water of 300 mm the central ray measures 300 mm times its attenuation."""
    central = float(water.expected[0, :, 330:342].mean())
    assert central == pytest.approx(300 * ct.MU_WATER_PER_MM, rel=0.02)


def test_padding_counts_as_air() -> None:
    """Values below air attenuate nothing: a sinogram is nowhere negative."""
    assert (
        float(
            linearized.data.line_integrals(
                np.full((1, 64, 64), -1024, np.float32), GRID, linearized.data.SCAN.sparse(8)
            )
            .abs()
            .max()
        )
        < 1e-6
    )


def test_the_mean_image_is_the_object(water: linearized.data.Scan) -> None:
    """FBP of the expected line integrals gives the disc back, on the part of the image that was asked for."""
    assert water.mean.shape == (1, 1, 32, 32)
    assert float(water.mean.mean()) == pytest.approx(0, abs=5)


def test_the_covariance_is_that_of_many_scans(water: linearized.data.Scan) -> None:
    """The variance that the covariance map states at a pixel is that of 400 simulated scans, within 10 %."""
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([water.fbp(water.measure(50, generator)) for _ in range(8)])
    impulse = torch.zeros(1, 1, 32, 32)
    impulse[0, 0, 16, 16] = 1
    variance = water.dose.variance(water.expected, water.geometry)
    stated = water.covariance(variance)(impulse)[0, 0, 14:19, 14:19]
    pixels = images[:, 0, 14:19, 14:19]
    centred = pixels - pixels.mean(0)
    measured = (centred * centred[:, 2, 2, None, None]).sum(0) / 399
    torch.testing.assert_close(measured, stated, rtol=0.1, atol=0.2 * float(stated[2, 2]))
    assert float(measured[2, 2]) == pytest.approx(float(stated[2, 2]), rel=0.15)


def test_noise_grows_as_the_root_of_the_exposure_falls() -> None:
    """A hundredth of the photons gives ten times the noise."""
    target = GRID.part(slice(24, 40), slice(24, 40))
    spread = []
    for exposure in ("I0", "I0/100"):
        one = linearized.data.scan(disc(radius_mm=60), GRID, target, exposure)
        images = one.fbp(one.measure(20, torch.Generator().manual_seed(1)))
        spread.append(float((images - one.mean).std()))
    assert spread[1] / spread[0] == pytest.approx(10, rel=0.1)


def test_training_scans_are_kept_and_follow_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are made once; other images give other scans; labels are the FBP of all views."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    small = ct.Geometry(views=160, channels=96, pitch=linearized.data.SCAN.pitch * 7)
    monkeypatch.setattr(linearized.data, "SCAN", small)
    recipe = replace(embedded.SMOKE, patients=(3,), slices=1, pixels=48, views=60, channels=64, photons=4e6)
    root = embedded.embedded_ct(recipe, progress=False)
    sparse, labels, grid = linearized.data.training_scans(root, ["SIM003"], "noise free", tmp_path)
    assert sparse.shape == (1, 20, 96)
    assert labels.shape == (1, 48, 48)
    assert grid == ct.Grid(48, 8.0)
    (kept,) = tmp_path.glob("scans-*.npz")
    before = kept.stat().st_mtime_ns
    again = linearized.data.training_scans(root, ["SIM003"], "noise free", tmp_path)
    assert kept.stat().st_mtime_ns == before
    torch.testing.assert_close(again[1], labels)
    linearized.data.training_scans(root, ["SIM003"], "full", tmp_path)
    assert len(list(tmp_path.glob("scans-*.npz"))) == 2
    noisy = linearized.data.noisy_inputs(sparse, grid, "I0", 0)
    assert noisy.shape == labels.shape
    assert float((noisy - labels).std()) > 1


def test_unknown_exposures_are_refused() -> None:
    """An exposure that the paper does not have is refused by name."""
    with pytest.raises(ValueError, match="I0/10"):
        linearized.data.scan(disc(), GRID, GRID, "I0/1000")
