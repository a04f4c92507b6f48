"""What an observer can detect."""

from __future__ import annotations

import math

import numpy as np

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error


def laguerre_gauss(size: int, width: float, channels: int) -> np.ndarray:
    """Laguerre-Gauss channels about the middle of a square patch, each of unit energy on the continuum.

    Channel n is ``sqrt(2)/width exp(-pi r²/width²) L_n(2 pi r²/width²)``: round, for a round signal of known place.

    Args:
        size: Pixels a side; the middle lies at (size - 1) / 2.
        width: The parameter a, in pixels; a Gaussian signal of sd s is channel 0 for a = s sqrt(2 pi).
        channels: Their number, 6 to 10 as a rule.

    Returns:
        (channels, size, size) float64.

    Source: B. D. Gallas, H. H. Barrett, JOSA A 20(9), 2003, doi 10.1364/JOSAA.20.001725.
    """
    for name, value in (("size", size), ("width", width), ("channels", channels)):
        check_positive(name, value)
    axis = np.arange(size) - (size - 1) / 2
    square = 2 * math.pi * (axis[:, None] ** 2 + axis**2) / width**2
    waves = [np.polynomial.laguerre.lagval(square, np.eye(channels)[n]) for n in range(channels)]
    found: np.ndarray = math.sqrt(2) / width * np.exp(-square / 2) * np.stack(waves)
    return found


def detectability(absent: np.ndarray, present: np.ndarray, channels: np.ndarray) -> float:
    """Detectability d' of a signal by the channelised Hotelling observer, free of the bias of few images.

    The images are seen through the channels alone, with outputs v. With S the mean of both classes' covariances,
    ``d'² = dv' S⁻¹ dv``. From m + n images d'² comes out too large by a known amount (the law of Hotelling's T²), which
    is taken off; what would be negative is 0.

    Args:
        absent: (M, Y, X), patches without the signal.
        present: (N, Y, X), patches with it in the middle.
        channels: (K, Y, X), such as `laguerre_gauss`.

    Returns:
        d', without unit: an observer who must choose between two images is right with probability Phi(d' / sqrt 2).

    Raises:
        ValueError: If shapes differ, values are not finite, there are too few images for the channels, or the channels'
            outputs are linearly dependent.

    Source: H. H. Barrett, J. Yao, J. P. Rolland, K. J. Myers, PNAS 90, 1993, doi 10.1073/pnas.90.21.9758; the
    correction is that of the Mahalanobis distance: G. J. McLachlan, Discriminant Analysis, 1992, section 3.2.
    """
    check_rank("channels", channels, 3, "(K, Y, X)")
    count = len(channels)
    outputs = []
    for name, images in (("absent", absent), ("present", present)):
        check_shape(name, images, (None, *channels.shape[1:]))
        check_finite(name, images)
        if len(images) < 2:
            raise error(name, "at least 2 images", len(images))
        outputs.append(images.reshape(len(images), -1).astype(np.float64) @ channels.reshape(count, -1).T)
    numbers = [len(values) for values in outputs]
    freedom = sum(numbers) - 2
    if freedom <= count + 1:
        raise error("images", f"more than {count + 3} for {count} channels", sum(numbers))
    scatter = sum((len(v) - 1) * np.cov(v, rowvar=False).reshape(count, count) for v in outputs) / freedom
    if np.linalg.matrix_rank(scatter) < count:
        raise error("channels", "linearly independent outputs", "others", "Take fewer channels or other images.")
    difference = outputs[1].mean(0) - outputs[0].mean(0)
    square = float(difference @ np.linalg.solve(scatter, difference))
    square = (freedom - count - 1) / freedom * square - count * (1 / numbers[0] + 1 / numbers[1])
    return math.sqrt(max(0.0, square))
