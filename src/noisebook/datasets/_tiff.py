"""TIFF stacks, read by what their axes are: frames in time, channels and missing parts never pass for depth."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import tifffile

from noisebook._checks import error

_STACKED = "ZQI"
"""Axes that make a stack without a question: depth, and pages of which the file does not say what they are."""
_MOST = 8
"""Series that are listed."""
_GIVE = "Give a name (counts_name in the chapter gap): "


class _Complaints(logging.Handler):
    """What tifffile logs while it goes on with zeros, or with fewer pages, in place of what is missing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line of a message."""
        self.found.append(record.getMessage().splitlines()[0])


def read_tiff(path: Path, part: str) -> np.ndarray:
    """Read an image (Y, X) or a stack (Z, Y, X).

    Args:
        path: The file.
        part: What to take of a file that holds more, separated by commas: ``series=1``, the second of several images,
            and for an axis other than depth its index, ``sum``, or ``Z`` to take it for depth: ``C=0,T=sum``.

    Raises:
        ValueError: The file is damaged or compressed in a way that cannot be read, a part of it is missing, or it holds
            several series, frames or channels and ``part`` does not say which.
    """
    log, complaints = logging.getLogger("tifffile"), _Complaints()
    log.addHandler(complaints)
    propagate, log.propagate = log.propagate, False
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page.size for page in file.pages]
            declared = sum(level.size for one in file.series for level in one.levels)
            found = [(one.kind, *_without_single(one.axes, one.asarray())) for one in file.series]
    except Exception as damage:  # whatever a damaged file makes the parser raise
        codec = "imagecodecs" in str(damage)
        remedy = "Run: pip install imagecodecs. Or save it uncompressed." if codec else "Fetch or save it again."
        raise error(str(path), "a whole .tif file", f"{type(damage).__name__}: {damage}", remedy) from None
    finally:
        log.removeHandler(complaints)
        log.propagate = propagate
    if declared < sum(pages):
        got = f"{len(pages)} pages, where it declares fewer"
        raise error(str(path), "a description that declares every page", got, "Save it again as a stack.")
    if complaints.found or not found:
        got = complaints.found[0] if complaints.found else "no image"
        raise error(str(path), "a whole .tif file", got, "Put missing files beside it, or fetch or save it again.")
    chosen = dict(item.partition("=")[::2] for item in part.split(",") if item)
    axes, array = _series(path, found, chosen.pop("series", ""))
    for axis in [axis for axis, length in zip(axes, array.shape, strict=True) if axis not in f"YX{_STACKED}"]:
        array, axes = _taken(path, array, axes, axis, chosen.pop(axis, ""))
    if chosen:
        raise error(str(path), f"a part of axes {axes}", f"{', '.join(chosen)} in {part!r}")
    if not {"Y", "X"} <= set(axes):
        raise error(str(path), "an image with axes Y and X", f"axes {axes}")
    return np.moveaxis(array, [axes.index("Y"), axes.index("X")], [-2, -1])


def _without_single(axes: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Axes and values without the axes of `_STACKED` that are of length 1, as writers put in front."""
    single = [k for k, axis in enumerate(axes) if axis in _STACKED and array.ndim == len(axes) and array.shape[k] == 1]
    return "".join(axis for k, axis in enumerate(axes) if k not in single), array.squeeze(tuple(single))


def _series(path: Path, found: list[tuple[str, str, np.ndarray]], choice: str) -> tuple[str, np.ndarray]:
    """The axes and values of the series that is meant; images of one kind, appended one by one, are one stack."""
    kinds = {(kind, axes, array.shape, array.dtype) for kind, axes, array in found}
    if len(found) > 1 and len(kinds) == 1 and found[0][:2] == ("shaped", "YX") and not choice:
        return "IYX", np.stack([array for _, _, array in found])
    choice = choice or ("0" if len(found) == 1 else "")
    if not (choice.isdecimal() and int(choice) < len(found)):
        several = [f"series={k} is {_described(axes, array)}" for k, (_, axes, array) in enumerate(found)]
        listed = ", ".join(several[:_MOST]) + (f", and {len(found) - _MOST} more" if len(found) > _MOST else "")
        raise error(str(path), "one of its series", repr(choice), f"{_GIVE}{listed}.")
    return found[int(choice)][1:]


def _taken(path: Path, array: np.ndarray, axes: str, axis: str, choice: str) -> tuple[np.ndarray, str]:
    """An axis that is no depth, by the choice of it."""
    place, rest = axes.index(axis), axes.replace(axis, "")
    if array.shape[place] == 1:
        choice = "0"
    if choice == "sum":
        return array.sum(place), rest
    if choice == "Z":
        return array, axes.replace(axis, "Z")
    if choice.isdecimal() and int(choice) < array.shape[place]:
        return array.take(int(choice), place), rest
    index = f"{axis}=0 to {axis}={array.shape[place] - 1} for one"
    remedy = f"{_GIVE}{index}, {axis}=sum for their sum, {axis}=Z if it is depth."
    raise error(str(path), "an image or a stack in depth", _described(axes, array), remedy)


def _described(axes: str, array: np.ndarray) -> str:
    return f"{' x '.join(f'{axis} {length}' for axis, length in zip(axes, array.shape, strict=True))} of {array.dtype}"
