"""What the network is compared with: the best Gaussian filter, and Anscombe's transform with non-local means.

F. Anscombe, Biometrika 35, 1948, doi 10.1093/biomet/35.3-4.246; M. Mäkitalo, A. Foi, "Optimal inversion of the Anscombe
transformation in low-count Poisson image denoising", IEEE TIP 20(1), 2011, doi 10.1109/TIP.2010.2056693; A. Buades,
B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005, doi 10.1109/CVPR.2005.38. Every free
number is chosen WITH the truth, separately for each image: no user of these filters could do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import gammaln
from skimage.restoration import denoise_nl_means

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error
from noisebook.metrics import psnr

WIDTHS_PX = tuple(0.5 * 1.15**k for k in range(30))
"""Standard deviations of the Gaussian that are tried, 0.5 to 29 pixels."""
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.3, 3.0)
"""Filter strengths h of the non-local means that are tried, in standard deviations of the stabilised noise."""
_TABLE_END = 100.0


def level_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB of an image brought to the truth's total; the peak is the truth's largest value.

    Args:
        image: Any shape, in any unit.
        truth: The same shape.

    Raises:
        ValueError: If shapes differ, a value is not finite, or a sum is not positive.
    """
    check_shape("image", image, truth.shape)
    check_finite("image", image)
    for name, array in (("sum of the image", image), ("sum of the truth", truth)):
        check_positive(name, float(array.sum(dtype=np.float64)))
    scaled = image * (truth.sum(dtype=np.float64) / image.sum(dtype=np.float64))
    return psnr(scaled, truth, data_range=float(truth.max()))


def best_gaussian(counts: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """The Gaussian filter whose width, out of `WIDTHS_PX`, is nearest to the truth.

    Args:
        counts: (Y, X) or (Z, Y, X).
        truth: The same shape; any scale.

    Returns:
        The filtered image, and its width in pixels.
    """
    check_shape("counts", counts, truth.shape)
    filtered = [gaussian_filter(counts.astype(np.float64), width, mode="reflect") for width in WIDTHS_PX]
    best = int(np.argmax([level_psnr(image, truth) for image in filtered]))
    return filtered[best], WIDTHS_PX[best]


def anscombe(counts: np.ndarray) -> np.ndarray:
    """2 sqrt(x + 3/8), any shape: counts become values of variance about 1.

    Raises:
        ValueError: If a count is negative or not finite.
    """
    check_finite("counts", counts)
    if counts.size and counts.min() < 0:
        raise error("counts", "values from 0 on", f"a minimum of {counts.min():g}")
    return np.asarray(2 * np.sqrt(counts.astype(np.float64) + 0.375))


def expected_anscombe(rates: np.ndarray) -> np.ndarray:
    """E[2 sqrt(x + 3/8)] for x ~ Poisson(rate), (N,), summed directly until nothing is left.

    Args:
        rates: (N,), from 0 on; memory grows with N times the largest.
    """
    check_rank("rates", rates, 1, "(N,)")
    largest = float(rates.max(initial=0.0))
    k = np.arange(int(largest + 12 * np.sqrt(largest) + 30))
    safe = np.maximum(rates, 1e-300)[:, None]
    return np.asarray(np.exp(k * np.log(safe) - rates[:, None] - gammaln(k + 1)) @ anscombe(k))


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    rates = np.concatenate([[0.0], np.geomspace(1e-6, _TABLE_END, 4000)])
    return expected_anscombe(rates), rates


def inverse_anscombe(values: np.ndarray) -> np.ndarray:
    """The exact unbiased inverse: the rate whose expected transform is the value; 0 below that of rate 0.

    Up to a rate of 100 from a table of `expected_anscombe`, above it by its expansion, (D / 2)^2 - 1/8.

    Args:
        values: D, any shape: denoised values of `anscombe`.
    """
    check_finite("values", values)
    expected, rates = _table()
    below = np.interp(values, expected, rates)
    return np.asarray(np.where(values <= expected[-1], below, values**2 / 4 - 0.125))


def best_non_local_means(
    counts: np.ndarray, truth: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> tuple[np.ndarray, float]:
    """Anscombe, non-local means of the best strength, and the exact unbiased inverse.

    Args:
        counts: (Y, X).
        truth: (Y, X); any scale.
        strengths: Tried, in standard deviations of the stabilised noise; patches of 5 x 5 in windows of 19 x 19.

    Returns:
        The denoised image, expected photons, and its strength.
    """
    check_shape("counts", counts, truth.shape)
    check_rank("counts", counts, 2, "(Y, X)")
    stable = anscombe(counts)
    settings = {"patch_size": 5, "patch_distance": 9, "sigma": 1.0, "fast_mode": True}
    images = [inverse_anscombe(denoise_nl_means(stable, h=strength, **settings)) for strength in strengths]
    scores = [level_psnr(image, truth) if image.sum() > 0 else -np.inf for image in images]
    best = int(np.argmax(scores))
    return images[best], strengths[best]
