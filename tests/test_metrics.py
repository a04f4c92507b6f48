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


def test_white_noise_has_a_flat_spectrum() -> None:
    """White noise of 10 HU on pixels of 0.5 mm has 100 HU² times 0.25 mm² at every frequency but zero."""
    noise = np.random.default_rng(0).normal(7, 10, (4000, 8, 12)).astype(np.float32)
    found = metrics.noise_power_spectrum(noise, spacing_mm=0.5)
    assert found.shape == (8, 12)
    assert found[0, 0] == pytest.approx(0, abs=1e-6)
    assert found.ravel()[1:] == pytest.approx(25, rel=0.1)
    assert found.ravel()[1:].mean() == pytest.approx(25, rel=0.01)


def test_the_spectrum_holds_the_variance() -> None:
    """Parseval: the sum over all frequencies times their cell is the mean variance of the regions."""
    noise = np.random.default_rng(1).normal(size=(3, 9, 10)).cumsum(2)
    cell = 1 / (9 * 10 * 0.7**2)
    total = metrics.noise_power_spectrum(noise, spacing_mm=0.7).sum() * cell
    assert total == pytest.approx(noise.var((1, 2)).mean(), rel=1e-10)


def test_a_wave_has_its_power_at_its_frequency() -> None:
    """A cosine of amplitude 2 with 4 periods along x in 32 pixels has all its power at +-4/(32 spacing)."""
    wave = 2 * np.cos(2 * np.pi * 4 * np.arange(32) / 32) * np.ones((1, 32, 1))
    nps = metrics.noise_power_spectrum(wave, spacing_mm=0.5)
    assert sorted(map(tuple, np.argwhere(nps > 1e-9))) == [(0, 4), (0, 28)]
    frequency, power = metrics.radial_spectrum(nps, spacing_mm=0.5)
    assert int(power.argmax()) == 3
    assert frequency[3] == pytest.approx(4 / 16, rel=0.03)
    assert metrics.mean_frequency(frequency, power) == pytest.approx(4 / 16, rel=0.03)


def test_rings_of_a_round_spectrum_are_its_profile() -> None:
    """A spectrum that depends on the radius alone comes back, up to the width of a ring; rings end at Nyquist."""
    axis = np.fft.fftfreq(64, 0.5)
    nps = np.exp(-(np.hypot(axis[:, None], axis) ** 2) / 0.1)
    frequency, power = metrics.radial_spectrum(nps, spacing_mm=0.5)
    assert len(frequency) == 32
    assert frequency[-1] == pytest.approx(1.0, rel=0.01)
    assert power == pytest.approx(np.exp(-(frequency**2) / 0.1), abs=0.01)


def test_white_noise_has_the_mean_frequency_of_a_disc() -> None:
    """Two thirds of the Nyquist frequency, as the mean radius of a disc is."""
    frequency = np.linspace(0, 1, 2001)
    assert metrics.mean_frequency(frequency, np.ones(2001)) == pytest.approx(2 / 3, rel=1e-3)


def test_spectra_that_cannot_be_are_refused() -> None:
    """No regions, NaN, no spacing, oblong spectra and spectra without power."""
    with pytest.raises(ValueError, match="noise: expected at least one pixel"):
        metrics.noise_power_spectrum(np.zeros((0, 8, 8)), spacing_mm=1)
    with pytest.raises(ValueError, match="noise: expected finite"):
        metrics.noise_power_spectrum(np.full((1, 8, 8), np.nan), spacing_mm=1)
    with pytest.raises(ValueError, match="spacing_mm: expected a number above zero"):
        metrics.noise_power_spectrum(np.ones((1, 8, 8)), spacing_mm=0)
    with pytest.raises(ValueError, match="nps: expected a square from 4 pixels a side on"):
        metrics.radial_spectrum(np.ones((8, 9)), spacing_mm=1)
    with pytest.raises(ValueError, match="total power: expected a number above zero"):
        metrics.mean_frequency(np.ones(3), np.zeros(3))


def test_the_bootstrap_is_the_interval_of_a_normal_mean() -> None:
    """For many independent values it is the mean +- 1.96 standard errors; one seed, one interval."""
    values = np.random.default_rng(0).normal(5, 2, 1000)
    low, high = metrics.bootstrap(values, seed=0)
    assert (low, high) == pytest.approx((values.mean() - 0.124, values.mean() + 0.124), abs=0.01)
    assert metrics.bootstrap(values, seed=0) == (low, high)
    assert metrics.bootstrap(values, seed=1) != (low, high)


def test_the_bootstrap_draws_whole_groups() -> None:
    """Ten equal values a group carry no more than one; a single group has no width; the mean weighs values alike."""
    values = np.random.default_rng(0).normal(size=40)
    once = metrics.bootstrap(values, seed=3)
    tenfold = metrics.bootstrap(np.repeat(values, 10), np.repeat(np.arange(40), 10), seed=3)
    assert tenfold == pytest.approx(once)
    assert metrics.bootstrap(np.array([1.0, 2.0, 6.0]), np.zeros(3), seed=0) == pytest.approx((3, 3))
    with pytest.raises(ValueError, match="groups: expected shape"):
        metrics.bootstrap(values, np.zeros(3), seed=0)
    with pytest.raises(ValueError, match="values: expected at least one"):
        metrics.bootstrap(values[:0], seed=0)


def test_power_above_a_frequency_is_that_of_the_waves_there() -> None:
    """Of two waves only the fast one counts; twice the height is four times the power; constants have none."""
    x = np.arange(64)[None, :].repeat(64, 0)
    slow, fast = np.cos(2 * np.pi * 4 * x / 64), np.cos(2 * np.pi * 24 * x / 64)
    power = metrics.high_frequency_power(np.stack([slow, fast, slow + 2 * fast + 7, np.ones_like(slow)]))
    assert power[0] < 1e-6 * power[1]
    window = (np.hanning(66)[1:-1, None] * np.hanning(66)[1:-1]) ** 2
    assert power[1] == pytest.approx(window.sum() / 2, rel=1e-3)
    assert power[2] == pytest.approx(4 * power[1], rel=1e-3)
    assert power[3] == pytest.approx(0)
    with pytest.raises(ValueError, match=r"cutoff: expected below 0\.707 cycles a pixel, got 0.8"):
        metrics.high_frequency_power(np.zeros((1, 64, 64)), 0.8)
    with pytest.raises(ValueError, match="images: expected 3 axes"):
        metrics.high_frequency_power(np.zeros((64, 64)))


def test_high_frequencies_are_kept_whatever_the_noise() -> None:
    """The reference keeps 1, a weaker one its factor, noise adds nothing, and noise alone has 0."""
    random = np.random.default_rng(0)
    reference, noise = random.normal(size=(2, 20, 64, 64))
    assert metrics.high_frequency_kept(0.3 * reference + 5, reference) == pytest.approx(0.3)
    assert metrics.high_frequency_kept(reference + 2 * noise, reference) == pytest.approx(1, abs=0.03)
    assert metrics.high_frequency_kept(noise, reference) == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="power of the reference above the cutoff: expected a number above zero"):
        metrics.high_frequency_kept(reference, np.ones_like(reference))
    with pytest.raises(ValueError, match="reference: expected shape"):
        metrics.high_frequency_kept(reference, reference[:1])


def test_the_spectrum_kept_is_the_gain_of_each_band() -> None:
    """Of a slow and a fast wave each band holds its own factor, whatever noise is added; empty bands are refused."""
    x = np.arange(64)[None, None, :].repeat(64, 1)
    slow, fast = np.cos(2 * np.pi * 4 * x / 64), np.cos(2 * np.pi * 24 * x / 64)
    reference = np.concatenate([slow + fast, slow - fast])
    edges = np.array([0.0, 0.2, 0.5])
    images = np.concatenate([0.9 * slow + 0.3 * fast, 0.9 * slow - 0.3 * fast]) + 7
    np.testing.assert_allclose(metrics.spectrum_kept(images, reference, edges), [0.9, 0.3], atol=1e-3)
    noise = np.random.default_rng(0).normal(size=(2, 40, 64, 64))
    np.testing.assert_allclose(metrics.spectrum_kept(noise[0] + noise[1], noise[0], edges), 1, atol=0.03)
    whole = metrics.spectrum_kept(images, reference, np.array([0.25, 0.8]))
    assert whole[0] == pytest.approx(metrics.high_frequency_kept(images, reference))
    with pytest.raises(ValueError, match="least power of the reference in a band: expected a number above zero"):
        metrics.spectrum_kept(images, reference, np.array([0.0, 0.001, 0.5]))
