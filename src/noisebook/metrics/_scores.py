"""Numbers for pairs of images, and intervals of their means."""

from __future__ import annotations

import math

import numpy as np
from skimage import metrics as _skimage

from noisebook._checks import check_finite, check_positive, check_rank, check_real, check_shape, error

SSIM_WINDOW = 11
"""Side of the Gaussian window of `ssim`, in pixels."""


def check_pair(image: np.ndarray, reference: np.ndarray) -> None:
    check_real("image", image)
    check_real("reference", reference)
    if not image.size:
        raise error("image", "at least one pixel", f"shape {image.shape}")
    check_shape("reference", reference, image.shape)
    check_finite("image", image)
    check_finite("reference", reference)


def rmse(image: np.ndarray, reference: np.ndarray) -> float:
    """Root of the mean squared difference, any equal shapes, in the images' unit."""
    check_pair(image, reference)
    return float(np.sqrt(np.mean((image.astype(np.float64) - reference) ** 2)))


def psnr(image: np.ndarray, reference: np.ndarray, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB, any equal shapes; infinite for equal images.

    Args:
        image: The image.
        reference: What it should be.
        data_range: The peak, such as the width of the display window in HU.

    Raises:
        ValueError: If shapes differ, a value is not finite, or ``data_range`` is not positive.
    """
    check_positive("data_range", data_range)
    error_rms = rmse(image, reference)
    return math.inf if error_rms == 0 else 20 * math.log10(data_range / error_rms)


def ssim(image: np.ndarray, reference: np.ndarray, *, data_range: float) -> float:
    """Structural similarity of two images (Y, X), Gaussian window of 1.5 pixels as in Wang et al. 2004.

    Raises:
        ValueError: If shapes differ, are not two-dimensional or below 11 pixels, a value is not finite, or
            ``data_range`` is not positive.
    """
    check_pair(image, reference)
    check_rank("image", image, 2, "(Y, X)")
    check_positive("data_range", data_range)
    if min(image.shape) < SSIM_WINDOW:
        raise error("image", f"at least {SSIM_WINDOW} pixels a side", image.shape)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(_skimage.structural_similarity(image, reference, data_range=data_range, **settings))


def bootstrap(
    values: np.ndarray, groups: np.ndarray | None = None, *, seed: int, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """A percentile bootstrap interval of a mean, drawing whole groups, as slices of a patient are not independent.

    Args:
        values: (N,), any unit.
        groups: (N,), what each value belongs to, such as patients; None draws the values themselves.
        seed: Of the draws.
        draws: How many.
        level: Of confidence.

    Returns:
        (low, high), in the unit of ``values``. With few groups it is too narrow, and with one it has no width.

    Raises:
        ValueError: If there is no value, one is not finite, or shapes differ.

    Source: B. Efron, R. J. Tibshirani, *An Introduction to the Bootstrap*, Chapman & Hall 1993, chapters 8 and 13.
    """
    check_rank("values", values, 1, "(N,)")
    if not len(values):
        raise error("values", "at least one", "none")
    check_finite("values", values)
    members = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    check_shape("groups", members, values.shape)
    sums, counts = np.bincount(members, values), np.bincount(members)
    chosen = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
