"""The shape of a covariance image; how sharp edges are, and how smooth images."""

from __future__ import annotations

import math

import numpy as np

from noisebook._checks import check_finite, check_positive, check_rank, check_real, error


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


def edge_width(profile: np.ndarray, *, spacing: float = 1.0) -> float:
    """The 10-90 % width of an edge: between the last rise through a tenth and the next through nine tenths.

    The profile is linear between its samples, and tenths count from the mean of its first quarter to that of its last,
    so that lost contrast does not count as width. A step between two pixels has a width of 0.8.

    Args:
        profile: (N,), N at least 8, across one edge, rising or falling.
        spacing: Distance of the samples, in the unit that is wanted.

    Returns:
        The width, in units of ``spacing``.

    Raises:
        ValueError: If the profile is too short or not finite, or its ends are equal.

    Source: the 10-90 % edge response of ISO 12233; on samples, linear between them (ours).
    """
    normal = _normalised(profile)
    middle = len(normal) // 4 + int(np.argmax(normal[len(normal) // 4 :] >= 0.5))
    below = np.flatnonzero(normal[:middle] < 0.1)
    above = np.flatnonzero(normal[middle:] > 0.9)
    if not len(below) or not len(above):
        raise error("profile", "plateaus on both sides of an edge", "none", "Take more samples on each side.")
    start, end = int(below[-1]), middle + int(above[0])
    first = start + (0.1 - normal[start]) / (normal[start + 1] - normal[start])
    last = end - (normal[end] - 0.9) / (normal[end] - normal[end - 1])
    return spacing * float(last - first)


def _normalised(profile: np.ndarray) -> np.ndarray:
    check_rank("profile", profile, 1, "(N,)")
    check_finite("profile", profile)
    if len(profile) < 8:
        raise error("profile", "at least 8 samples", len(profile))
    quarter = len(profile) // 4
    low, high = float(profile[:quarter].mean()), float(profile[-quarter:].mean())
    if low == high:
        raise error("profile", "an edge", "equal ends")
    return (profile.astype(np.float64) - low) / (high - low)


def largest_step(profile: np.ndarray) -> float:
    """The largest difference of neighbouring samples, in the profile's unit: what is left of a jump.

    Args:
        profile: (N,), N at least 2.

    Raises:
        ValueError: If the profile is too short or not finite.
    """
    check_rank("profile", profile, 1, "(N,)")
    check_finite("profile", profile)
    if len(profile) < 2:
        raise error("profile", "at least 2 samples", len(profile))
    return float(np.abs(np.diff(profile)).max())


def total_variation(image: np.ndarray, *, spacing: float = 1.0) -> float:
    """Isotropic total variation of an image (Y, X), by forward differences that vanish beyond the border.

    Args:
        image: (Y, X).
        spacing: Pixel size: the sum of gradient lengths times pixel areas, so a disc has contrast times perimeter (up
            to the grid's own anisotropy, at most a factor of 4/pi).

    Raises:
        ValueError: If the image has another rank or is not finite, or ``spacing`` is not positive.

    Source: L. Rudin, S. Osher, E. Fatemi, Physica D 60, 1992, discretised as by A. Chambolle 2004.
    """
    check_rank("image", image, 2, "(Y, X)")
    check_finite("image", image)
    check_positive("spacing", spacing)
    values = image.astype(np.float64)
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[:-1], right[:, :-1] = np.diff(values, axis=0), np.diff(values, axis=1)
    return spacing * float(np.hypot(down, right).sum())


def modulus_of_continuity(image: np.ndarray, shifts: int) -> np.ndarray:
    """The modulus of continuity along the axes: the largest change between pixels at most so far apart.

    Args:
        image: (Y, X).
        shifts: The largest distance, in pixels.

    Returns:
        (shifts,): for distances of at most 1, 2, … pixels along rows or columns, in the image's unit. A function that
        is continuous has values that fall to zero with the distance; a jump stays.

    Raises:
        ValueError: If the image has another rank, is not finite, or is not larger than ``shifts``.
    """
    check_rank("image", image, 2, "(Y, X)")
    check_finite("image", image)
    if not 0 < shifts < min(image.shape):
        raise error("shifts", f"1 to {min(image.shape) - 1}", shifts)
    found = [
        max(np.abs(image[k:] - image[:-k]).max(), np.abs(image[:, k:] - image[:, :-k]).max())
        for k in range(1, shifts + 1)
    ]
    return np.maximum.accumulate(np.array(found, np.float64))
