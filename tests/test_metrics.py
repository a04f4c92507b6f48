"""Image quality on known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from noisebook import metrics


def test_rmse_and_psnr_of_a_constant_offset() -> None:
    """An offset of 4 HU has an RMSE of 4 and, at a range of 400, a PSNR of 40 dB."""
    image = np.zeros((8, 9), np.float32)
    assert metrics.rmse(image + 4, image) == pytest.approx(4)
    assert metrics.psnr(image + 4, image, data_range=400) == pytest.approx(40)
    assert metrics.psnr(image, image, data_range=400) == math.inf


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    """SSIM of an image with itself is 1; noise lowers it."""
    random = np.random.default_rng(0)
    image = random.normal(size=(32, 40))
    assert metrics.ssim(image, image, data_range=4) == pytest.approx(1)
    assert metrics.ssim(image + random.normal(size=image.shape), image, data_range=4) < 0.9


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_elongation_of_a_gaussian_is_the_square_of_its_axes_ratio(angle: float) -> None:
    """A Gaussian with widths 4 along and 2 across any direction has elongation 4; turned by 90 degrees, 1/4."""
    y, x = np.mgrid[-30:31, -30:31]
    along = (math.sin(angle), math.cos(angle))
    u, v = y * along[0] + x * along[1], x * along[0] - y * along[1]
    patch = np.exp(-(u**2) / 32 - v**2 / 8)
    assert metrics.elongation(patch, along) == pytest.approx(4, rel=1e-3)
    assert metrics.elongation(-patch, (-along[1], along[0])) == pytest.approx(0.25, rel=1e-3)


def test_bad_input_is_refused() -> None:
    """Unequal shapes, NaN, no range, even patches and a zero direction raise."""
    image = np.zeros((9, 9))
    with pytest.raises(ValueError, match="reference: expected shape"):
        metrics.rmse(image, np.zeros((9, 8)))
    with pytest.raises(ValueError, match="image: expected finite"):
        metrics.rmse(image + math.nan, image)
    with pytest.raises(ValueError, match="data_range: expected a number above zero"):
        metrics.psnr(image, image, data_range=0)
    with pytest.raises(ValueError, match="covariance: expected odd sides"):
        metrics.elongation(np.ones((8, 9)), (1, 0))
    with pytest.raises(ValueError, match="along: its length"):
        metrics.elongation(np.ones((9, 9)), (0, 0))


def test_images_without_room_are_refused() -> None:
    """No pixels at all, and images smaller than the window of SSIM, raise."""
    for measure in (metrics.rmse, lambda a, b: metrics.psnr(a, b, data_range=1.0)):
        with pytest.raises(ValueError, match="image: expected at least one pixel"):
            measure(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="image: expected at least 11 pixels a side"):
        metrics.ssim(np.zeros((10, 20)), np.zeros((10, 20)), data_range=1.0)
