"""Image quality: PSNR, SSIM, RMSE; covariance shape; sharpness and smoothness; spectra; what an observer can detect.

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


def high_frequency_power(images: np.ndarray, cutoff: float = 0.25) -> np.ndarray:
    """Spectral power above a spatial frequency, image by image.

    Means are taken off and a Hann window laid over each image, so that its borders do not count as edges.

    Args:
        images: (N, Y, X).
        cutoff: Cycles a pixel, from 0 to 0.5 along an axis; the radial frequency counts.

    Returns:
        (N,): power, in the squared unit of the images.

    Raises:
        ValueError: If the images have another rank or are not finite, or no frequency lies above the cutoff.
    """
    check_rank("images", images, 3, "(N, Y, X)")
    check_finite("images", images)
    power: np.ndarray = (np.abs(_above(images, cutoff)) ** 2).sum(1)
    return power


def high_frequency_kept(images: np.ndarray, reference: np.ndarray, cutoff: float = 0.25) -> float:
    """The share of a reference's high frequencies that images hold, whatever noise they hold beside it.

    The projection of the images' spectra on the reference's, above a spatial frequency: 1 for the reference with any
    independent noise on it, the transfer of a filter, 0 for what has nothing to do with the reference.

    Args:
        images: (N, Y, X).
        reference: The same shape.
        cutoff: As for `high_frequency_power`, which see for mean and window.

    Raises:
        ValueError: As for `high_frequency_power`; if shapes differ, or the reference has no power above the cutoff.
    """
    _check_pair(images, reference)
    check_rank("images", images, 3, "(N, Y, X)")
    found, wanted = _above(images, cutoff), _above(reference, cutoff)
    power = float((np.abs(wanted) ** 2).sum())
    check_positive("power of the reference above the cutoff", power)
    return float((found * wanted.conj()).real.sum()) / power


def spectrum_kept(images: np.ndarray, reference: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """As `high_frequency_kept`, in bands of radial frequency: what images hold of a reference, band by band.

    Args:
        images: (N, Y, X).
        reference: The same shape.
        edges: (B + 1,), ascending, cycles a pixel; a band reaches from above one edge to the next, this one included.

    Returns:
        (B,) shares.

    Raises:
        ValueError: As `high_frequency_kept`, of any band.
    """
    _check_pair(images, reference)
    check_rank("images", images, 3, "(N, Y, X)")
    found, wanted = _above(images, edges[0]), _above(reference, edges[0])
    frequency = _frequencies(images)
    band = np.searchsorted(edges, frequency[frequency > edges[0]], side="left") - 1
    cross, power = (
        np.bincount(band, (part * wanted.conj()).real.sum(0), len(edges))[: len(edges) - 1] for part in (found, wanted)
    )
    check_positive("least power of the reference in a band", float(power.min()))
    share: np.ndarray = cross / power
    return share


def _frequencies(images: np.ndarray) -> np.ndarray:
    """The radial frequency of each component of the images' spectra, (Y, X) cycles a pixel."""
    high, wide = images.shape[1:]
    frequency: np.ndarray = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide))
    return frequency


def _above(images: np.ndarray, cutoff: float) -> np.ndarray:
    """The spectra of windowed images above a cutoff, (N, frequencies): their squares sum to the power in pixels."""
    high, wide = images.shape[1:]
    frequency = _frequencies(images)
    if not (frequency > cutoff).any():
        raise error("cutoff", f"below {frequency.max():.3g} cycles a pixel", cutoff)
    window = np.hanning(high + 2)[1:-1, None] * np.hanning(wide + 2)[1:-1]
    values = images.astype(np.float64)
    spectrum = np.fft.fft2((values - values.mean((1, 2), keepdims=True)) * window, norm="ortho")
    found: np.ndarray = spectrum[:, frequency > cutoff]
    return found


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
