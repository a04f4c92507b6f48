"""Photon counts: TIFF files and NumPy arrays of whole numbers, read as they are, and told from what looks alike."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from scipy import ndimage

from noisebook._checks import check_one_of, error

from ._tiff import read_tiff

COUNT_SUFFIXES = (".tif", ".tiff", ".npy", ".npz")
_PLANES, _TILE = 32, 7
"""Planes in which noise is measured, and pixels a side of the tiles."""


def read_counts(path: str | Path, name: str = "") -> np.ndarray:
    """Read an image or a stack of photon counts, as it is stored: no scaling, no check that they are counts.

    Args:
        path: A ``.tif`` or ``.tiff`` file (OME, ImageJ's or plain, one page or a stack), ``.npy``, or ``.npz``.
        name: Of the array in an ``.npz`` that holds several. What to take of a TIFF that holds more than one image or
            stack in depth: ``series=1`` for the second series; of the axis of time, channels or samples an index,
            ``sum``, or ``Z`` to take it for depth, such as ``C=0,T=sum``.

    Returns:
        (Y, X) or (Z, Y, X), or what a NumPy file holds, in the file's own type; axes of length 1 that a writer added in
        front are dropped.

    Raises:
        ValueError: The file is missing, of another kind or damaged, or another file that belongs to it is missing; it
            holds several arrays, series, frames or channels and none is named; or the array is no image: below two
            axes, empty, or of anything but numbers.

    Source: the layout of the gap chapter's data (doi 10.6084/m9.figshare.23675334) and of common microscopes.
    """
    path = Path(path)
    check_one_of("suffix of the file", path.suffix.lower(), COUNT_SUFFIXES)
    if not path.is_file():
        raise error(str(path), "a file of photon counts", "nothing there", "Check the path.")
    try:
        array = _read_array(path, name)
    except (OSError, EOFError, zipfile.BadZipFile) as damage:
        raise error(str(path), f"a whole {path.suffix} file", f"{type(damage).__name__}: {damage}") from None
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim < 2 or not array.size or array.dtype.kind not in "biuf":
        raise error(str(path), "an image or a stack of numbers", f"{array.dtype} of shape {array.shape}")
    return array


def _read_array(path: Path, name: str) -> np.ndarray:
    if path.suffix.lower() not in (".npy", ".npz"):
        return read_tiff(path, name)
    with path.open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
        except ValueError as problem:  # pickled objects, or no array at all
            raise error(str(path), "an array of numbers", problem) from None
        if isinstance(found, np.ndarray):
            return found
        if not name and len(found.files) != 1:
            got = f"{len(found.files)}: {', '.join(found.files)}"
            remedy = f"counts_name in the chapter gap: -p counts_name={found.files[0]}"
            raise error(str(path), "one array", got, f"Give a name ({remedy}).")
        if name:
            check_one_of(f"array in {path}", name, found.files)
        return np.asarray(found[name or found.files[0]])


class CountKind(Enum):
    """What an array is, seen as photon counts."""

    COUNTS = "counts, as far as noise tells"
    UNDECIDED = "counts, or numbers with a gain: their noise cannot tell"
    NONE = "no counts"


@dataclass(frozen=True)
class CountReport:
    """What an array looks like, seen as photon counts.

    Attributes:
        problem: Why it is no array of photon counts; empty if it can be one.
        mean: Photons per pixel.
        variance_to_mean: Of neighbouring pixels, or of neighbouring planes where these are more alike. Poisson noise
            alone gives 1, fine structure adds to it; smoothed or interpolated images have less. NaN without a photon.
        gain: Slope of the line of variance over mean; photons give about 1. NaN without a photon.
        offset: Where that line meets 0; photons give about 0. An image of one brightness cannot tell both: gain 1, or
            offset 0, is taken for granted.
        kind: Whether it is counts. Where the noise cannot tell, a gain has to be known from the camera.
    """

    problem: str
    mean: float
    variance_to_mean: float
    gain: float
    offset: float
    kind: CountKind

    @property
    def counts(self) -> bool:
        """Whether the array can be photon counts."""
        return self.kind is not CountKind.NONE

    @property
    def verdict(self) -> str:
        """The report in words."""
        ratio = f"variance to mean {self.variance_to_mean:.2g} (Poisson noise alone: 1)"
        doubt = "; it cannot tell a gain: if the camera has one, convert to (x - offset) / gain, rounded"
        text = f"looks like photon counts: whole numbers, {ratio}"
        return self.problem or text + (doubt if self.kind is CountKind.UNDECIDED else "")


def count_report(array: np.ndarray) -> CountReport:
    """Whether an array looks like photon counts: whole numbers, as noisy as Poisson's law has them.

    Gain, offset, smoothing and clipping all break the law that the gap chapter rests on. Counts are never refused for
    their structure, which only adds to the variance of neighbours. A gain leaves gaps in the histogram; where noise of
    the camera fills them, it shows in how noise grows with brightness, hence neither in an image of one brightness, nor
    in one of less than about 75 x 75 pixels, nor where structure outweighs the noise everywhere. Read noise of variance
    s^2 looks like an offset lower by s^2 / gain. Texture whose variance grows with brightness itself looks like a gain.

    Where neither counts nor a gain above 1.5 can be excluded by three standard errors, the report is undecided, and the
    gain has to be known from the camera. Measured on 20 draws of each of four simulated scenes of 256 x 256 pixels:
    counts of a mean of 20 and 200 photons all pass as counts, of 10,000 three in four, of 0.5 and of one brightness
    none; the rest is undecided, and none refused. Of 2.17 e + 100 with 1.6 e of read noise, all are refused at 20
    photons, nine in ten at 200; of 4 e + 100, about half at 20 and all at 200; the rest is undecided, and none passes
    as counts. An EM gain of 30 is always refused. Of counts of pixels whose sensitivity differs by 2 %, 2 in 80 are
    refused at 10,000 photons, none at 50; of emitters of one pixel, speckle and fine texture, none.

    Args:
        array: (..., Y, X), numbers, as from `read_counts`. Of a stack of more than 32 planes, noise is measured in the
            middle ones.

    Raises:
        ValueError: If there are no two axes of at least three pixels.

    Source: the line of variance over mean of one image, after Heintzmann et al., arXiv 1611.05654.
    """
    if array.ndim < 2 or min(array.shape[-2:]) < 3 or not array.size:
        raise error("array", "an image of at least 3 x 3 pixels", f"shape {array.shape}")
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(array) | (array < 0) | (array != np.round(array))
    if bad.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(bad))
        problem = f"{int(bad.sum())} values are no counts, the first {array[place]:g} at index {place}"
        return _none(f"no photon counts: {problem}", array)
    if not array.any():
        return _none("no photon at all", array)
    planes = array.reshape(-1, *array.shape[-2:])
    first = max(0, len(planes) // 2 - _PLANES // 2)
    return _noise_report(array, planes[first : first + _PLANES].astype(np.float64))


def _none(problem: str, array: np.ndarray) -> CountReport:
    return CountReport(problem, float(array.mean()), math.nan, math.nan, math.nan, CountKind.NONE)


def _noise_report(array: np.ndarray, planes: np.ndarray) -> CountReport:
    """The report on whole numbers, by the noise of some of their planes."""
    if planes.max() == planes.min() > 0:
        problem = f"no photon counts: every pixel has the value {planes.max():g}, which tells nothing about noise"
        return _none(problem, array)
    mean, noise = _tiles(planes)
    if not len(mean):  # the only photons lie at the border
        return CountReport("", float(array.mean()), math.nan, math.nan, math.nan, CountKind.UNDECIDED)
    values, number = np.unique(planes, return_counts=True)
    ratio, (gain, offset) = float(noise.sum() / mean.sum()), _line(mean, noise)
    if holes := _has_holes(values, number.astype(np.float64)):
        steps = np.diff(values)
        slope, gain = gain, float(steps[steps < 2 * np.median(steps)].mean())
        if abs(slope / gain - 1) > 0.2:  # structure, or one brightness: the line says nothing
            offset = float(np.clip(mean.mean() - noise.mean() / gain, 0, values[0]))
    elif ratio < 0.7 and offset == 0:  # one brightness
        gain, offset = 1.0, float(mean.mean() - noise.mean())
    problem = "the values leave gaps as no sum of Poisson laws does" if holes else _too_quiet(mean, noise)
    kind, line = _amplified(planes)
    if not problem and kind is CountKind.NONE:
        problem, (gain, offset) = "the noise grows too fast with brightness, so there is a gain", line
    if problem:
        found = f"found gain {gain:.3g}, offset {offset:.3g} and variance to mean {ratio:.2g}"
        remedy = f"convert to (x - {offset:.3g}) / {gain:.3g}, rounded, if the camera's data sheet agrees"
        problem = f"no photon counts: {problem}; {found}; {remedy}"
    problem = problem or _saturation(array)
    return CountReport(problem, float(array.mean()), ratio, gain, offset, CountKind.NONE if problem else kind)


def _blocks(values: np.ndarray) -> np.ndarray:
    """Planes (N, Y, X) cut into tiles of at most 7 x 7 pixels, (tiles, pixels of each)."""
    rows, columns = values.shape[1:]
    side = min(_TILE, rows, columns)
    cut = values[:, : rows // side * side, : columns // side * side]
    return cut.reshape(len(cut), rows // side, side, columns // side, side).swapaxes(2, 3).reshape(-1, side * side)


def _tiles(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each tile with a photon: the mean, and the noise's variance.

    Noise is measured by differences of differences, along the two of the three axes that give least: structure adds.
    """
    quads = ndimage.uniform_filter(planes, (0, 2, 2))[:, 1:-1, 1:-1]
    _, n, k = quads.shape
    mixed = [np.diff(np.diff(planes, axis=1), axis=2)]
    if len(planes) > 2:
        steps = np.diff(planes, axis=0, append=planes[-2:-1])
        mixed += [np.diff(steps, axis=1), np.diff(steps, axis=2)]
    mean, *noise = (_blocks(values).mean(1) for values in (quads, *(m[:, :n, :k] ** 2 / 4 for m in mixed)))
    lit = mean > 0
    return mean[lit], min(noise, key=np.sum)[lit]


def _curvature(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each tile: the median brightness, and the noise's variance by differences that structure hardly lifts.

    The noise is given as mean and median of second differences, and as mean of first differences, each along both of
    the two axes that give least; of a stack, without its first and last planes.
    """
    frames = len(planes) - 2 if len(planes) > 2 else len(planes)
    inner = (frames, planes.shape[1] - 2, planes.shape[2] - 2)

    def centre(values: np.ndarray) -> np.ndarray:
        begin = [(have - want) // 2 for have, want in zip(values.shape, inner, strict=True)]
        return values[tuple(slice(first, first + want) for first, want in zip(begin, inner, strict=True))]

    def squares(order: int, first: int, second: int) -> np.ndarray:
        differences = np.diff(np.diff(planes, order, axis=first), order, axis=second)
        return _blocks(centre(differences) ** 2) / math.comb(2 * order, order) ** 2

    pairs = [(1, 2), (0, 1), (0, 2)] if len(planes) > 2 else [(1, 2)]
    curved, axes = min(((squares(2, *two), two) for two in pairs), key=lambda found: found[0].sum())
    around = centre(ndimage.uniform_filter(planes, (0, 3, 3)))
    median = np.median(curved, axis=1) / 0.455  # the median of chi-squared
    return np.median(_blocks(around), axis=1), curved.mean(1), median, squares(1, *axes).mean(1)


def _amplified(planes: np.ndarray) -> tuple[CountKind, tuple[float, float]]:
    """Whether the noise of tiles tells a gain above 1.5 by three standard errors; if it does, the gain and offset.

    `CountKind.COUNTS` if it tells a gain below 1.5 by as much, `CountKind.UNDECIDED` if neither.

    Over tiles of one image, noise = gain (mean - offset) + c mean^2, where c >= 0 is the contrast of texture and of the
    pixels' sensitivity; the gain must be above 1.5 with c and without. Medians pass over edges and lone bright pixels.
    A tenth of what first differences have more is taken for what second differences leave of structure. Tiles below
    5 photons, where whole numbers make the median coarse, do not count.
    """
    tiles = np.stack(_curvature(planes))
    mean, full, noise, mixed = tiles[:, tiles[0] >= 5]
    if len(mean) < 100 or mean.var() < 4 * full.mean() / _TILE**2 or mixed.sum() > 5 * noise.sum():
        return CountKind.UNDECIDED, (math.nan, math.nan)
    bright = mean / mean.mean()
    terms, scale = np.stack([np.ones_like(bright), bright, bright**2], 1), full.mean() * (0.2 + bright)
    fits = [_fitted(terms[:, :count], 1.1 * noise - 0.1 * mixed, scale) for count in (3, 2)]
    least = [found - 3 * error for found, error in fits]
    most = [found + 3 * error for found, error in fits]
    other = CountKind.COUNTS if min(most[1][1], most[0][1]) < 1.5 * mean.mean() else CountKind.UNDECIDED
    if min(least[1][1], least[0][1] - 2 * max(least[0][2], 0)) < 1.5 * mean.mean():  # texture is not all of one c
        return other, (math.nan, math.nan)
    start, gain = fits[1][0]
    if not -np.quantile(bright, 0.05) < start / gain < 0.3:  # offset above dim tiles, or below zero: structure
        return other, (math.nan, math.nan)
    start, gain = _fitted(terms[:, :2], 1.1 * full - 0.1 * mixed, scale)[0]  # of skewed noise, the median is too low
    return CountKind.NONE, (float(gain / mean.mean()), float(-start / gain * mean.mean()))


def _fitted(terms: np.ndarray, noise: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and standard errors of noise over terms, for errors in proportion to it; far tiles are left out."""
    kept = np.ones(len(noise), bool)
    for _ in range(8):
        weighted = terms[kept] / scale[kept, None]
        found = np.linalg.lstsq(weighted, (noise / scale)[kept], rcond=None)[0]
        scale = np.maximum(terms @ found, 0.1 * max(float(np.median(noise)), 1e-9))
        off = (noise - terms @ found) / scale
        near = np.abs(off) < 4 * max(1.48 * float(np.median(np.abs(off[kept]))), 0.3)
        if near.sum() < 20:
            break
        kept = near
    weighted = terms[kept] / scale[kept, None]
    inverse = np.linalg.pinv(weighted.T @ weighted)
    return found, np.sqrt(np.diag(inverse @ (weighted.T * off[kept] ** 2) @ weighted @ inverse))


def _line(mean: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """Gain and offset of noise = gain (mean - offset) over tiles, without those that structure lifts far above it.

    Where the tiles' means differ by no more than noise makes them, the offset is taken for 0.
    """
    ratio = float(noise.sum() / mean.sum())
    gain, offset = ratio, 0.0
    kept = np.ones(len(mean), bool)
    while mean[kept].var() > 2 * noise[kept].mean() / _TILE**2 and kept.sum() > 8:
        slope, start = np.polyfit(mean[kept], noise[kept], 1, w=1 / (mean[kept] + mean.mean() / 4))
        if slope <= 0:
            break
        gain, offset = float(slope), float(-start / slope)
        within = kept & (noise < 2 * np.maximum(slope * mean + start, ratio * mean.min()))
        if (within == kept).all():
            break
        kept = within
    return gain, offset


def _has_holes(values: np.ndarray, number: np.ndarray) -> bool:
    """Whether neighbouring values are rarer than equal ones, as a gain of 1.5 or more leaves them.

    Of any mixture a of Poisson laws, log(k! a_k) is convex: a_(k-1) a_(k+1) >= a_k^2 k / (k + 1) for k > 0, hence
    a_(k-1) + a_(k+1) >= 1.41 a_k.
    """
    equal = (number * (number - 1))[values > 0].sum()
    near = 2 * (number[1:] * number[:-1])[np.diff(values) == 1].sum()
    return bool(equal > 100 and near < equal / 2)


def _too_quiet(mean: np.ndarray, noise: np.ndarray) -> str:
    """Why the noise of tiles is less than that of photons, by more than four standard errors; empty if it can be."""

    def low(tiles: np.ndarray, limit: float) -> bool:
        error = math.sqrt(0.1 / tiles.sum() + 0.5 / (mean[tiles].sum() * _TILE**2))
        return bool(noise[tiles].sum() / mean[tiles].sum() < limit - 4 * error)

    if low(mean > 0, 0.7):
        return "too little noise, so there is an offset, or it was smoothed"
    if low(mean <= np.quantile(mean, 0.1), 0.75):  # the detector's dead time thins bright places, an offset dim ones
        return "too little noise where it is dim, so there is an offset"
    return ""


def _saturation(array: np.ndarray) -> str:
    """Whether many pixels have the largest value, where Poisson's law (see `_has_holes`) has 20 or more above it."""
    largest = float(array.max())
    at, below = int((array == largest).sum()), int((array == largest - 1).sum())
    if largest > 1 and at >= max(10, 0.01 * array.size) and at**2 * largest / (largest + 1) > 20 * max(below, 1):
        return f"saturated: {at / array.size:.1%} of the pixels have the largest value {largest:g}"
    return ""
