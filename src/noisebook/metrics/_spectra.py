"""Power spectra: of noise, and what images keep of a reference."""

from __future__ import annotations

import numpy as np

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error

from ._scores import check_pair


def noise_power_spectrum(noise: np.ndarray, *, spacing_mm: float) -> np.ndarray:
    """The noise power spectrum of regions of interest: squared DFT of each less its mean, times pixel area over pixels.

    Args:
        noise: (N, Y, X), HU, regions of equal size; at best differences from the truth, as structure counts as noise.
        spacing_mm: Pixel size.

    Returns:
        (Y, X), HU² mm², the mean over the regions, with frequency zero first, as by `numpy.fft.fftfreq`. Its sum over
        (Y X spacing²) is the mean variance of the regions; white noise of variance s² has s² spacing² everywhere but
        at frequency zero, which is 0.

    Raises:
        ValueError: If there is no region, a value is not finite, or ``spacing_mm`` is not positive.

    Source: ICRU Report 87, 2012; J. H. Siewerdsen, I. A. Cunningham, D. A. Jaffray, Medical Physics 29, 2002,
    doi 10.1118/1.1513158.
    """
    check_rank("noise", noise, 3, "(N, Y, X)")
    if not noise.size:
        raise error("noise", "at least one pixel", f"shape {noise.shape}")
    check_finite("noise", noise)
    check_positive("spacing_mm", spacing_mm)
    centred = noise.astype(np.float64)
    centred -= centred.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centred)) ** 2
    return np.asarray(power.mean(0) * spacing_mm**2 / noise[0].size)


def radial_spectrum(nps: np.ndarray, *, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A noise power spectrum averaged over rings as wide as its own frequency step, up to the Nyquist frequency.

    Args:
        nps: (Y, X), as `noise_power_spectrum` gives it, square.
        spacing_mm: Pixel size.

    Returns:
        Frequencies in 1/mm, (R,), means of those in each ring, ascending; and the spectrum there, (R,), in the unit of
        ``nps``. Frequency zero is left out.

    Raises:
        ValueError: If ``nps`` is not square from 4 pixels a side on, or not finite, or ``spacing_mm`` is not positive.
    """
    check_rank("nps", nps, 2, "(Y, X)")
    check_finite("nps", nps)
    check_positive("spacing_mm", spacing_mm)
    side = nps.shape[0]
    if nps.shape[1] != side or side < 4:
        raise error("nps", "a square from 4 pixels a side on", nps.shape)
    axis = np.fft.fftfreq(side) * side
    radius = np.hypot(axis[:, None], axis)
    ring = np.rint(radius).astype(int)
    chosen = (ring > 0) & (ring <= side // 2)
    counts = np.bincount(ring[chosen])[1:]
    frequency, power = (np.bincount(ring[chosen], values[chosen])[1:] / counts for values in (radius, nps))
    return frequency / (side * spacing_mm), power


def mean_frequency(frequency: np.ndarray, power: np.ndarray) -> float:
    """The mean frequency of isotropic noise: of a radial spectrum, weighted by power times circumference.

    Args:
        frequency: (R,), 1/mm, evenly spaced.
        power: (R,), not negative.

    Returns:
        In the unit of ``frequency``: low for coarse, patchy noise, high for fine noise.

    Raises:
        ValueError: If shapes differ, or there is no power.
    """
    check_rank("frequency", frequency, 1, "(R,)")
    check_shape("power", power, frequency.shape)
    weight = frequency * power
    check_positive("total power", float(weight.sum()))
    return float((weight * frequency).sum() / weight.sum())


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
    check_pair(images, reference)
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
    check_pair(images, reference)
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
