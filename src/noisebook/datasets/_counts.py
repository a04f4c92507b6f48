"""Photon counts: TIFF files and NumPy arrays of whole numbers, read as they are, and told from what looks alike."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from noisebook._checks import check_one_of, error

COUNT_SUFFIXES = (".tif", ".tiff", ".npy", ".npz")


def read_counts(path: str | Path, name: str = "") -> np.ndarray:
    """Read an image or a stack of photon counts, as it is stored: no scaling, no check that they are counts.

    Args:
        path: A ``.tif`` or ``.tiff`` file (ImageJ's or plain, one page or a stack), ``.npy``, or ``.npz``.
        name: Of the array in an ``.npz`` that holds several.

    Returns:
        The array, in the file's own type; axes of length 1 that a writer added in front are dropped. Colours, where a
        file has them, stay the last axis.

    Raises:
        ValueError: The file is missing, of another kind or damaged, an ``.npz`` holds several arrays and none is named,
            or the array is no image: below two axes, empty, or of anything but numbers.

    Source: the layout of the gap chapter's data (doi 10.6084/m9.figshare.23675334) and of common microscopes.
    """
    path = Path(path)
    check_one_of("suffix of the file", path.suffix.lower(), COUNT_SUFFIXES)
    if not path.is_file():
        raise error(str(path), "a file of photon counts", "nothing there", "Check the path.")
    try:
        array = _read_array(path, name)
    except (OSError, EOFError, zipfile.BadZipFile, tifffile.TiffFileError) as damage:
        raise error(str(path), f"a whole {path.suffix} file", f"{type(damage).__name__}: {damage}") from None
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim < 2 or not array.size or array.dtype.kind not in "biuf":
        raise error(str(path), "an image or a stack of numbers", f"{array.dtype} of shape {array.shape}")
    return array


def _read_array(path: Path, name: str) -> np.ndarray:
    if path.suffix.lower() not in (".npy", ".npz"):
        return np.asarray(tifffile.imread(path))
    with path.open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
        except ValueError as problem:  # pickled objects, or no array at all
            raise error(str(path), "an array of numbers", problem) from None
        if isinstance(found, np.ndarray):
            return found
        if not name and len(found.files) != 1:
            got = f"{len(found.files)}: {', '.join(found.files)}"
            raise error(str(path), "one array", got, "Name it in Python, or save it alone, as .npy.")
        if name:
            check_one_of(f"array in {path}", name, found.files)
        return np.asarray(found[name or found.files[0]])


@dataclass(frozen=True)
class CountReport:
    """What an array looks like, seen as photon counts.

    Attributes:
        whole: Whether every value is a whole number from 0 on.
        problem: The first value that is not, and where; empty if there is none.
        mean: Photons per pixel.
        variance_to_mean: Of neighbouring pixels: half the mean squared difference of pixels next to each other along
            the last axis, over the mean. Poisson noise alone gives 1, structure adds to it; smoothed or interpolated
            images have less. NaN without a photon.
        largest: The largest value.
        saturated: Share of the pixels that have it.
        verdict: In words.
    """

    whole: bool
    problem: str
    mean: float
    variance_to_mean: float
    largest: float
    saturated: float
    verdict: str

    @property
    def counts(self) -> bool:
        """Whether the array can be photon counts."""
        return self.verdict.startswith("looks like")


def count_report(array: np.ndarray) -> CountReport:
    """Tell whether an array looks like photon counts: whole numbers, as noisy as Poisson's law has them.

    Gain, offset, smoothing and clipping all break the law that the gap chapter rests on; each has its own verdict.

    Args:
        array: (..., Y, X), numbers, as from `read_counts`.

    Raises:
        ValueError: If there are no two axes of at least one and two pixels.
    """
    if array.ndim < 2 or not array.size or array.shape[-1] < 2:
        raise error("array", "an image of at least 1 x 2 pixels", f"shape {array.shape}")
    values = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(values) | (values < 0) | (values != np.round(values))
    problem = ""
    if bad.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(bad))
        problem = f"{int(bad.sum())} values are no counts, the first {values[place]:g} at index {place}"
    mean, largest = float(values.mean()), float(values.max())
    noise = float(np.square(np.diff(values)).mean()) / 2
    ratio = noise / mean if mean > 0 else math.nan
    saturated = float((values == largest).mean()) if largest > 0 else 0.0
    return CountReport(
        not problem, problem, mean, ratio, largest, saturated, _verdict(values, problem, ratio, saturated)
    )


def _verdict(values: np.ndarray, problem: str, ratio: float, saturated: float) -> str:
    if problem:
        return f"no photon counts: {problem}"
    if math.isnan(ratio):
        return "no photon at all"
    used = np.unique(values)
    if len(used) > 1 and (gain := np.gcd.reduce(used.astype(np.int64))) > 1:
        return f"no photon counts as they are: all values are multiples of {gain}; divide by this gain"
    if values.min() > 0 and ratio < 0.5:
        return f"no photon counts as they are: nothing below {values.min():g} and too little noise; subtract the offset"
    if ratio < 0.5:
        return f"hardly photon counts: variance to mean {ratio:.2g}, far below Poisson's 1; smoothed or rescaled?"
    below = float((values == values.max() - 1).mean())  # of a clipped tail, more lies at the end than just before it
    if values.max() > 1 and saturated > max(0.01, below / 2):
        return f"saturated: {saturated:.1%} of the pixels have the largest value {values.max():g}"
    return f"looks like photon counts: whole numbers, variance to mean {ratio:.2g} (Poisson noise alone: 1)"
