"""Image quality: PSNR, SSIM, RMSE, and the shape of a covariance image.

PSNR and SSIM are scikit-image's (Z. Wang et al., IEEE TIP 13(4), 2004, doi 10.1109/TIP.2003.819861, for SSIM). The data
range is always the caller's to state: with another range the same images score decibels apart.
"""

from __future__ import annotations

import math

import numpy as np
from skimage import metrics as _skimage

from noisebook._checks import check_finite, check_positive, check_rank, check_real, check_shape, error

SSIM_WINDOW = 11
"""Side of the Gaussian window of `ssim`, in pixels."""


def _check_pair(image: np.ndarray, reference: np.ndarray) -> None:
    check_real("image", image)
    check_real("reference", reference)
    if not image.size:
        raise error("image", "at least one pixel", f"shape {image.shape}")
    check_shape("reference", reference, image.shape)
    check_finite("image", image)
    check_finite("reference", reference)


def rmse(image: np.ndarray, reference: np.ndarray) -> float:
    """Root of the mean squared difference, any equal shapes, in the images' unit."""
    _check_pair(image, reference)
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
    _check_pair(image, reference)
    check_rank("image", image, 2, "(Y, X)")
    check_positive("data_range", data_range)
    if min(image.shape) < SSIM_WINDOW:
        raise error("image", f"at least {SSIM_WINDOW} pixels a side", image.shape)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(_skimage.structural_similarity(image, reference, data_range=data_range, **settings))


def elongation(covariance: np.ndarray, along: tuple[float, float]) -> float:
    """Ratio of second moments of a covariance image along and across a direction.

    The moments are those of the squared covariance about the patch's centre: negative lobes count by their size.

    Args:
        covariance: (Y, X) with odd sides, centred on its pixel.
        along: Direction (row, column); its length does not matter.

    Returns:
        The moment along over the moment across: 1 for a round covariance, above 1 for one stretched along.

    Raises:
        ValueError: If the patch has an even side, is not finite or has no extent, or the direction is zero.

    Source: claim L10; the definition is ours.
    """
    check_real("covariance", covariance)
    check_rank("covariance", covariance, 2, "(Y, X)")
    check_finite("covariance", covariance)
    if not all(side % 2 for side in covariance.shape):
        raise error("covariance", "odd sides, centred on the pixel", covariance.shape)
    length = math.hypot(*along)
    check_positive("along: its length", length)
    rows, columns = (np.arange(side) - side // 2 for side in covariance.shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    u, v = (y * along[0] + x * along[1]) / length, (x * along[0] - y * along[1]) / length
    weight = covariance.astype(np.float64) ** 2
    across = float((weight * v**2).sum())
    check_positive("second moment across", across)
    return float((weight * u**2).sum()) / across
