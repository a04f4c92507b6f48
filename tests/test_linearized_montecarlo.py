"""Monte Carlo and linearized analysis of the same chain, on chains where both are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from noisebook import ct
from noisebook.papers import linearized
from noisebook.papers.linearized import measures
from noisebook.phantoms import Thorax

PLACE = (0, 250, 240)


@pytest.fixture(scope="module")
def slice_hu() -> np.ndarray:
    """A thorax of 512 x 512 pixels, HU."""
    return Thorax(3).image(-60.0, oversampling=1).numpy()


@pytest.fixture(scope="module")
def region(slice_hu: np.ndarray) -> linearized.data.Region:
    """A region of that thorax at I0."""
    return linearized.data.region(slice_hu, ct.Grid(512, 0.75), "I0", PLACE)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of twenty realisations."""
    monkeypatch.setattr(measures, "BLOCK", 20)
    monkeypatch.setattr(measures, "CHUNK", 10)


class Smooth(nn.Module):
    """A linear network: the mean over 3 x 3 pixels."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, Y, X) to the same shape."""
        return nn.functional.avg_pool2d(image, 3, 1, 1)


class Square(nn.Module):
    """A network whose mean is not what it makes of the mean: image + image² / 1000."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, Y, X) to the same shape."""
        return image + image.square() / 1000


def test_a_pixel_raised_by_one_hu_changes_the_line_integrals_by_the_point(
    slice_hu: np.ndarray, region: linearized.data.Region
) -> None:
    """The sinogram of one pixel alone is the difference that raising it by one HU makes to the whole slice's."""
    raised = slice_hu.copy()
    raised[PLACE[1:]] += 100
    grid, geometry = ct.Grid(512, 0.75), linearized.data.SCAN.sparse(linearized.data.EVERY)
    images = [torch.from_numpy(image).double()[None] for image in (slice_hu, raised)]
    before, after = (ct.project(ct.hu_to_mu(image), geometry, grid) for image in images)
    torch.testing.assert_close((after - before) / 100, region.point.double(), rtol=1e-4, atol=1e-9)


def test_the_target_is_centred_on_the_pixel(region: linearized.data.Region) -> None:
    """The reconstructed target is the crop of the whole slice's reconstruction with the pixel at its centre."""
    whole = ct.mu_to_hu(ct.fbp(region.scan.expected, region.scan.geometry, ct.Grid(512, 0.75)))[0]
    rows, columns = (slice(c - 64, c + 64) for c in PLACE[1:])
    torch.testing.assert_close(region.scan.mean[0, 0], whole[rows, columns], rtol=0, atol=0.05)


def test_sums_give_the_moments_of_the_realisations(region: linearized.data.Region, few: None) -> None:
    """Mean, standard deviation and covariance from a block's sums are those of numpy on the same realisations."""
    model = Square()
    sums = linearized.measures.block_sums(model, region, 4, seed=9)
    generator = torch.Generator().manual_seed(measures.epoch_seed(9, 4))
    drawn = np.concatenate(
        [linearized.measures.realise(model, region, 10, generator).double().numpy() for _ in range(2)]
    )
    found = linearized.measures.moments(sums[None])
    origin = model(region.scan.mean)[0, 0, measures.INNER, measures.INNER].numpy()
    np.testing.assert_allclose(found.mean, drawn.mean(0) - origin, atol=1e-3)
    np.testing.assert_allclose(found.sd, drawn.std(0, ddof=1), rtol=1e-4)
    expected = [np.cov(drawn[:, row, 20], drawn[:, 32, 32])[0, 1] for row in (31, 32, 33)]
    np.testing.assert_allclose(found.covariance[31:34, 20], expected, rtol=1e-3, atol=1e-3)


def test_monte_carlo_of_a_linear_chain_is_the_linearized_analysis(region: linearized.data.Region) -> None:
    """For a linear network both agree within the error of Monte Carlo, everywhere and at the pixel."""
    model = Smooth()
    sums = np.stack([linearized.measures.block_sums(model, region, block, seed=2) for block in range(2)])
    computed, measured = linearized.measures.linear(model, region), linearized.measures.moments(sums)
    ratio, error = linearized.measures.median_ratio(computed.sd, sums)
    assert abs(ratio - 1) < 4 * error < 0.2
    assert computed.centre_sd == pytest.approx(measured.sd[32, 32], rel=4 / math.sqrt(1000))
    assert computed.sd[8, 8] == pytest.approx(computed.centre_sd, rel=1e-3)
    assert linearized.measures.covariance_psnr(computed.covariance, measured.covariance) > 20


def test_the_response_of_a_linear_chain_is_the_same_in_every_pair(region: linearized.data.Region, few: None) -> None:
    """With common random numbers the noise cancels in a linear chain; independent noise is far worse."""
    model = Smooth()
    computed, found = (
        linearized.measures.linear(model, region, lattice=False),
        linearized.measures.recovery(model, region, 20, seed=3),
    )
    np.testing.assert_allclose(found.response, computed.response, atol=0.05 * computed.contrast_recovery)
    assert found.contrast_recovery == pytest.approx(computed.contrast_recovery, rel=0.02)
    assert found.standard_error < 0.02 * found.contrast_recovery
    assert found.advantage > 100
    assert computed.sd.size == 0


def test_plug_in_linearizes_at_the_scan_that_it_is_given(region: linearized.data.Region) -> None:
    """For a squaring network the gain follows the measured image, and the variance the measured counts."""
    measured = region.scan.measure(1, torch.Generator().manual_seed(0))
    at_mean, plugged = (
        linearized.measures.linear(Square(), region, measured=m, lattice=False) for m in (None, measured)
    )
    gain = [1 + 2 * float(region.scan.fbp(m)[0, 0, 64, 64]) / 1000 for m in (region.scan.expected, measured)]
    ratio = plugged.contrast_recovery / at_mean.contrast_recovery
    assert ratio == pytest.approx(gain[1] / gain[0], rel=0.01)
    assert plugged.centre_sd == pytest.approx(at_mean.centre_sd * ratio, rel=0.1)


def test_the_median_ratio_and_its_error_are_known() -> None:
    """Twice the true standard deviation gives a ratio of two; equal blocks leave no error."""
    sums = np.zeros((4, 3, 64, 64))
    sums[:, 1] = measures.BLOCK * 9.0
    ratio, error = linearized.measures.median_ratio(np.full((16, 16), 6.0), sums)
    assert ratio == pytest.approx(2, rel=1e-3)
    assert error == pytest.approx(0, abs=1e-3)


def test_the_peak_of_a_covariance_psnr_is_the_references() -> None:
    """A tenth of the peak wrong everywhere is 20 dB."""
    reference = np.zeros((5, 5))
    reference[2, 2] = 4
    assert linearized.measures.covariance_psnr(reference + 0.4, reference) == pytest.approx(20)


def test_bad_regions_are_refused(slice_hu: np.ndarray) -> None:
    """A target that would leave the image is refused, and so are no realisations."""
    with pytest.raises(ValueError, match="part"):
        linearized.data.region(slice_hu, ct.Grid(512, 0.75), "I0", (0, 30, 240))
    with pytest.raises(ValueError, match="blocks"):
        linearized.measures.moments(np.zeros((0, 3, 64, 64)))
