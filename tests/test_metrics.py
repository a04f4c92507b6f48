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


def test_a_ramp_has_its_length_as_width() -> None:
    """A linear ramp over 10 samples rises from a tenth to nine tenths in 8, rising or falling, in any unit."""
    ramp = np.concatenate([np.zeros(20), np.linspace(0, 1, 11), np.ones(20)])
    assert metrics.edge_width(ramp) == pytest.approx(8)
    assert metrics.edge_width(5 - 3 * ramp, spacing=0.5) == pytest.approx(4)


def test_a_step_and_a_gaussian_edge_have_their_widths() -> None:
    """A step has 0.8 samples; a Gaussian blur of sd 4 has 2.563 sd (the 10 % and 90 % points of the normal law)."""
    assert metrics.edge_width(np.repeat([0.0, 1.0], 8)) == pytest.approx(0.8)
    x = np.arange(-40, 41) / 4
    normal = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    assert metrics.edge_width(normal) == pytest.approx(2.563 * 4, rel=5e-3)


def test_overshoot_does_not_widen_an_edge() -> None:
    """A wiggle beyond the plateaus leaves the width between the last crossing of a tenth and the next of nine."""
    profile = np.repeat([0.0, 1.0], 8)
    profile[6], profile[9] = 0.25, 0.75
    assert metrics.edge_width(profile) < 1


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (np.zeros(20), "an edge, got equal ends"),
        (np.arange(5.0), "at least 8 samples"),
        (np.full(9, np.nan), "finite values"),
        (np.zeros((3, 9)), "1 axes"),
    ],
)
def test_what_is_no_edge_is_refused(profile: np.ndarray, message: str) -> None:
    """Flat, short, broken and two-dimensional profiles have no width."""
    with pytest.raises(ValueError, match=message):
        metrics.edge_width(profile)


def test_the_largest_step_is_between_neighbours() -> None:
    """Of 0, 1, 4, 2 the largest step is 3."""
    assert metrics.largest_step(np.array([0.0, 1.0, 4.0, 2.0])) == 3
    with pytest.raises(ValueError, match="at least 2 samples"):
        metrics.largest_step(np.zeros(1))


def test_total_variation_is_contrast_times_perimeter() -> None:
    """A rectangle of contrast 3, 10 by 20 pixels of 0.5: 3 times 30; constants have none; shifts change nothing."""
    image = np.zeros((40, 40))
    image[10:20, 5:25] = 3
    corner = 3 * 0.5 * (2 - math.sqrt(2))  # where both differences meet they are joined to one length
    assert metrics.total_variation(image, spacing=0.5) == pytest.approx(3 * 0.5 * 60 - corner)
    assert metrics.total_variation(np.full((5, 5), 7.0)) == 0
    assert metrics.total_variation(np.roll(image, 3, 1)) == pytest.approx(metrics.total_variation(image))


def test_the_modulus_of_continuity_of_a_ramp_and_of_a_jump() -> None:
    """A ramp of slope 2 changes by 2 h; a jump changes by its height at every distance."""
    ramp = 2.0 * np.arange(30)[None, :].repeat(20, 0)
    np.testing.assert_allclose(metrics.modulus_of_continuity(ramp, 4), [2, 4, 6, 8])
    jump = np.zeros((20, 30))
    jump[:, 11:] = 5
    np.testing.assert_allclose(metrics.modulus_of_continuity(jump.T, 3), [5, 5, 5])
    with pytest.raises(ValueError, match="shifts: expected 1 to 19"):
        metrics.modulus_of_continuity(ramp, 20)
