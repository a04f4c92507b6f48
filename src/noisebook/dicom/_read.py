"""Read CT series: which files belong together, the checks that a stack needs, and the stack."""

from __future__ import annotations

import itertools
import math
import operator
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom

from noisebook._checks import error
from noisebook._paths import files_below

from ._header import Header, Keep, checked, find, nothing, read, same_spacing
from ._pixels import images, to_hu

EXAMPLE = "J2K_pixelrep_mismatch.dcm"
SUFFIXES = (".dcm", ".ima")
"""Files so named ought to be DICOM: where they are not, they are damaged."""
AGREE: dict[str, Callable[[Sequence[float], Sequence[float]], bool]] = {
    "Rows": operator.eq,
    "Columns": operator.eq,
    "PixelSpacing": same_spacing,
    "ImageOrientationPatient": lambda ours, other: np.allclose(ours, other, rtol=0, atol=1e-3),
}
"""What all images of a series have in common."""
MOST_LISTED = 8
UNEVEN_MM = 0.1
TILT_DEG = 0.1


@dataclass(frozen=True, eq=False)
class Series:
    """CT images of one series; nothing of the header that identifies a patient is kept.

    Attributes:
        hu: ``(Z, Y, X)`` float32, Hounsfield units; Z ascends along the slice normal. Padding is ``PADDING_HU``.
        spacing_mm: ``(z, y, x)`` distance of neighbouring pixel centres, mm. z is the median over the slices; of a
            single slice it is SpacingBetweenSlices, else SliceThickness, else NaN.
        positions_mm: ``(Z,)`` float64, position of each slice along the slice normal, mm.
        description: SeriesDescription; "" if absent, or if it repeats what identifies the patient.
        window: (centre, width) of the display window in HU, the first one in the file, or None.
        faults: What forbids to take the stack for a volume: uneven spacing, gantry tilt, with their numbers.
        skipped: How many files of the folder are not in the series, by reason.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    positions_mm: np.ndarray
    description: str = ""
    window: tuple[float, float] | None = None
    faults: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one CT series, known from their headers alone.

    Attributes:
        description: As in ``Series``.
        files: Paths sorted by name (``read_series`` sorts the slices).
        images: How many images they hold.
        headers: Theirs, which `read_series` then need not read again.
    """

    description: str
    files: tuple[Path, ...]
    images: int
    headers: tuple[Header, ...] = field(repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the first image."""
        return checked(self.headers[0]).size

    @property
    def pixel_mm(self) -> tuple[float, ...]:
        """(y, x) distance of neighbouring pixel centres of the first image, mm."""
        return checked(self.headers[0]).numbers["PixelSpacing"]

    @property
    def positions_mm(self) -> np.ndarray:
        """As in ``Series``; raises what `read_series` would, as far as headers tell."""
        return np.array([header.z_mm for header in _ordered(self.headers)])


Place = str | Path | Sequence[str | Path] | SeriesFiles


@dataclass(frozen=True)
class Contents:
    """What a folder holds, known from the headers alone.

    Attributes:
        series: The CT series, sorted by the path of their first file.
        skipped: How many other files there are, by reason: not DICOM, DICOMDIR, localizer, another modality or object.
        damaged: The errors of the files that ought to be DICOM and have no readable header: a slice of any series may
            be among them.
    """

    series: tuple[SeriesFiles, ...]
    skipped: Mapping[str, int]
    damaged: tuple[ValueError, ...] = ()

    def __str__(self) -> str:
        """The skipped files in words, such as ``2 localizer, 1 DICOMDIR``."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))


def read_series(path: Place, *, series: int | None = None) -> Series:
    """Read one CT series.

    Args:
        path: A folder that holds the series (in subfolders too), the files themselves, or a series that `scan` found.
            In a folder, what is no CT image is left out and counted in ``skipped``; among files it is an error.
        series: Which one of several in a folder, from 1, in the order of `scan`.

    Returns:
        The series, slices sorted along the slice normal. A gantry tilt and uneven spacing are warned of.

    Raises:
        ValueError: Folder missing, empty or without CT images; a file that is not DICOM, truncated, without pixels,
            undecodable, or without slope, intercept, position, orientation or spacing; several series and none chosen;
            slices of mixed size, spacing or orientation, or two at one position.
    """
    stack = _stack(path, series)
    for fault in stack.faults:
        warnings.warn(f"{fault}: not a volume", stacklevel=2)
    return stack


def read_volume(path: Place, *, series: int | None = None) -> Series:
    """Read one CT series for use in three dimensions: as `read_series`, but a tilt or uneven spacing is an error.

    Args:
        path: As for `read_series`.
        series: As for `read_series`.

    Returns:
        The series, of two slices or more.

    Raises:
        ValueError: As for `read_series`; a single slice, uneven spacing, a gantry tilt.
    """
    stack = _stack(path, series)
    faults = stack.faults if len(stack.hu) > 1 else ("a single slice",)
    if faults:
        remedy = "Resample it to an even grid first, or use its slices one by one: read_series."
        raise error(_name(path), "a volume: evenly spaced slices, no gantry tilt", "; ".join(faults), remedy)
    return stack


def read_slice(path: str | Path) -> Series:
    """Read one CT image as a series of one slice, ``hu`` of shape ``(1, Y, X)``.

    Args:
        path: A DICOM file.

    Returns:
        The series with Z = 1.

    Raises:
        ValueError: As for ``read_series``; several frames.
    """
    headers = read(Path(path))
    if len(headers) > 1 and not headers[0].reason:
        raise error(str(path), "one image", f"{len(headers)} frames", "Read them with read_series([file]).")
    return read_series([path])


def scan(folder: str | Path, keep: Keep = nothing) -> Contents:
    """Tell the CT series in a folder and its subfolders apart, from the headers alone; each file is opened once.

    Args:
        folder: Any folder.
        keep: Told the description and the path of a CT image, whether its pixels are kept for `read_series`, which
            then opens no file.

    Raises:
        ValueError: Folder missing, or without a DICOM file.
    """
    groups, skipped, damaged = _gather(folder, keep)
    found = tuple(_files(group) for group in groups)
    return Contents(found, skipped, tuple(damaged))


def _files(group: list[Header]) -> SeriesFiles:
    headers = tuple(replace(header, key=("", "")) for header in group)  # which identifies
    return SeriesFiles(group[0].description, tuple(dict.fromkeys(h.path for h in group)), len(group), headers)


def shipped_example() -> Path:
    """The real CT slice that this library shows without a download: a head of 512 x 512 pixels of 0.431 mm.

    It is a test file of pydicom (``pydicom/data/test_files``, issue 1149: JPEG 2000 lossless, unsigned code stream
    under a signed header, gantry tilt -22 degrees), read from the installed package. Its sha256 stands in
    ``data/registry.yaml`` under ``pydicom-head-ct``.

    Returns:
        The path of the file.

    Raises:
        ValueError: The installed pydicom does not hold the file.
    """
    path = Path(pydicom.__file__).parent / "data" / "test_files" / EXAMPLE
    if not path.is_file():
        remedy = "Install pydicom from its wheel: pip install --force-reinstall pydicom."
        raise error("shipped_example", f"{EXAMPLE} in the pydicom package", f"pydicom {pydicom.__version__}", remedy)
    return path


def _name(path: Place) -> str:
    if isinstance(path, SeriesFiles):
        return f"{len(path.files)} files"
    return str(path) if isinstance(path, str | Path) else f"{len(path)} files"


def _gather(folder: str | Path, keep: Keep) -> tuple[list[list[Header]], dict[str, int], list[ValueError]]:
    """The CT images below a folder by series, the count of other files by reason, and the errors of damaged headers."""
    folder = Path(folder)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise error(str(folder), "a folder", got, "Check the path; read one file with read_slice.")
    files = files_below(folder)
    groups: dict[object, list[Header]] = {}
    skipped: Counter[str] = Counter()
    damaged = []
    for file in files:
        try:
            ought = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            headers = (read if ought else find)(file, keep)
            if headers and headers[0].cut:
                checked(headers[0])
        except ValueError as problem:
            damaged.append(problem)
            continue
        if not headers or headers[0].reason:
            skipped[headers[0].reason if headers else "not DICOM"] += 1
        else:
            groups.setdefault(headers[0].key, []).extend(headers)
    if skipped["not DICOM"] == len(files):
        remedy = "Check the path and that the download ended."
        raise error(str(folder), "DICOM files", "a folder without any", remedy)
    return list(groups.values()), dict(skipped), damaged


def _choose(path: Place, series: int | None) -> tuple[list[Header], dict[str, int]]:
    """The images of the one series that is meant, and what else the folder holds."""
    if isinstance(path, SeriesFiles):
        return list(path.headers), {}
    if not isinstance(path, str | Path):
        if not path:
            raise error("files", "at least one file", "none")
        headers = [header for file in path for header in read(Path(file))]
        groups = _by_series([checked(header) for header in headers])
        skipped: dict[str, int] = {}
    else:
        groups, skipped, damaged = _gather(path, nothing)
        if damaged:
            raise damaged[0]
    if not groups:
        got = str(Contents((), skipped))
        raise error(_name(path), "CT images", got, "Pass the folder of a CT series.")
    if series is None and len(groups) == 1:
        return groups[0], skipped
    if series is None or not 1 <= series <= len(groups):
        listed = "; ".join(f"{k}: {_described(group)}" for k, group in enumerate(groups, 1))
        got = f"{len(groups)} series" if series is None else f"series={series}"
        remedy = f"Choose one by its number, such as series=1, or pass its files. They are {listed}."
        raise error(_name(path), "the files of one series", got, remedy)
    others = sum(len({h.path for h in group}) for group in groups) - len({h.path for h in groups[series - 1]})
    return groups[series - 1], skipped | ({"of another series": others} if others else {})


def _by_series(headers: list[Header]) -> list[list[Header]]:
    groups: dict[object, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.key, []).append(header)
    return list(groups.values())


def _described(group: list[Header]) -> str:
    """A series in words, for a list to choose from."""
    first = group[0]
    size = " x ".join(map(str, first.size))
    return f"{first.description!r}, {len(group)} of {size} pixels, in {first.path}"


def _stack(path: Place, series: int | None) -> Series:
    """The series that is meant; its faults are kept, not warned of."""
    chosen, skipped = _choose(path, series)
    headers = _ordered(chosen)
    first = headers[0]
    positions = np.array([header.z_mm for header in headers])
    y, x = first.numbers["PixelSpacing"]
    centre, width = first.numbers["WindowCenter"], first.numbers["WindowWidth"]
    return Series(
        hu=_decoded(headers),
        spacing_mm=(_slice_spacing(positions, first), y, x),
        positions_mm=positions,
        description=first.description,
        window=(centre[0], width[0]) if centre and width else None,
        faults=tuple(fault for fault in (_uneven(positions), _tilted(headers)) if fault),
        skipped=skipped,
    )


def _ordered(headers: Sequence[Header]) -> list[Header]:
    """The headers of one series along the slice normal; raises unless they are those of CT images that agree."""
    ordered = sorted((checked(header) for header in headers), key=lambda header: header.z_mm)
    _check_agreement(ordered)
    return ordered


def _decoded(headers: list[Header]) -> np.ndarray:
    """The stack ``(Z, Y, X)`` float32, HU, of images in their order; each file is opened once."""
    places: dict[Path, list[int]] = {}
    for k, header in enumerate(headers):
        places.setdefault(header.path, []).append(k)
    hu: np.ndarray | None = None
    order = [k for slots in places.values() for k in slots]
    for k, stored in zip(order, images([headers[k] for k in slots] for slots in places.values()), strict=True):
        if hu is None:  # after a first image was decoded: a damaged header may claim any size
            _check_memory(headers)
            hu = np.empty((len(headers), *stored.shape), np.float32)
        to_hu(headers[k], stored, hu[k])
    assert hu is not None  # there is at least one image
    return hu


def _check_memory(headers: list[Header]) -> None:
    """Raise if the stack is larger than this machine's memory: frames that compress to nothing may be many."""
    wanted = 4 * len(headers) * math.prod(headers[0].size)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > memory:
        got = f"{len(headers)} images of {wanted / 1e9:.3g} GB in all"
        expected = f"a series that fits into {memory / 1e9:.3g} GB of memory"
        raise error(str(headers[0].path), expected, got, "Pass the files of a part of it.")


def _check_agreement(headers: list[Header]) -> None:
    """Raise unless all slices (sorted by position) are of one grid and one acquisition, each at a place of its own."""
    first = headers[0]
    for before, header in itertools.pairwise(headers):
        for keyword, agree in AGREE.items():
            ours, other = header.numbers[keyword], first.numbers[keyword]
            if ours != other and not agree(ours, other):
                remedy = "Images of several kinds lie in one series: pass the files of one kind."
                raise error(header.name, f"{keyword} {other} as in {Path(first.name).name}", ours, remedy)
        if header.z_mm - before.z_mm < 1e-3:
            got = f"{header.z_mm:g} mm, where {Path(before.name).name} lies already"
            raise error(header.name, "a slice position of its own", got, "Copies or several phases: pass one's files.")
    for keyword in first.acquisition:
        labels = _labels(keyword, [header.acquisition[keyword] for header in headers])
        runs = [label for label, _ in itertools.groupby(labels)]
        if len(runs) > len(set(runs)):  # a label that comes back: blocks one after the other are one scan in steps
            raise _interleaved(keyword, labels, headers)


def _labels(keyword: str, values: list[str]) -> list[object]:
    """What tells the acquisition of each slice: the value; for times and exposures, which side of the widest gap.

    Times run along the slices of a scan. Exposures go up and down with the patient's width (tube current modulation),
    so they tell nothing unless most neighbours differ by a fifth.
    """
    if keyword not in ("AcquisitionTime", "Exposure"):
        return [_rounded(value) for value in values]
    try:
        numbers = np.array([_seconds(v) if keyword == "AcquisitionTime" else float(v) for v in values])
    except ValueError:  # absent in some
        return [""]
    if not np.isfinite(numbers).all():
        return [""]
    if keyword == "Exposure":
        steps = np.abs(np.diff(np.log(np.maximum(numbers, 1e-9))))
        if not len(steps) or np.median(steps) <= np.log(1.2):
            return [""]
    ordered = np.unique(numbers)
    widest = int(np.diff(ordered).argmax()) if len(ordered) > 1 else 0
    return list(numbers > ordered[widest])


def _rounded(value: str) -> str:
    """A number to four digits, as writers compute them anew for each slice; anything else as it is."""
    return f"{float(value):.4g}" if re.fullmatch(r"\d+\.\d*|\d{1,4}", value) else value


def _seconds(time: str) -> float:
    """Seconds of the day of HHMMSS.F, HH:MM:SS.F or their beginnings.

    Raises:
        ValueError: It is none.
    """
    clock = re.split("[+-]", time)[0].replace(":", "")
    return int(clock[:2]) * 3600 + int(clock[2:4] or 0) * 60 + float(clock[4:] or 0)


def _interleaved(keyword: str, labels: list[object], headers: list[Header]) -> ValueError:
    """The error that lists the acquisitions; words and times are not shown, as they may tell a patient."""
    parts = []
    for label in dict.fromkeys(labels):
        group = [header for header, its in zip(headers, labels, strict=True) if its == label]
        number = f"{keyword} {label}, " if re.fullmatch(r"\d{1,4}(\.\d{1,4})?", str(label)) else ""
        span = f"{group[0].z_mm:g} to {group[-1].z_mm:g} mm"
        parts.append(f"{number}{len(group)} of them, at {span}, the first in {Path(group[0].name).name}")
    got = f"{len(parts)} that lie between each other by {keyword}"
    remedy = f"Pass the files of one. They are {'; '.join(parts[:MOST_LISTED])}."
    return error(str(headers[0].path.parent), "images of one acquisition", got, remedy)


def _slice_spacing(positions: np.ndarray, header: Header) -> float:
    """Median distance of the slices, mm."""
    if len(positions) == 1:
        return (header.numbers["SpacingBetweenSlices"] + header.numbers["SliceThickness"] + (float("nan"),))[0]
    return float(np.median(np.diff(positions)))


def _uneven(positions: np.ndarray) -> str:
    """The numbers of an uneven spacing; empty if it is even."""
    gaps = np.diff(positions)
    if len(gaps) < 2 or np.abs(gaps - np.median(gaps)).max() <= UNEVEN_MM:
        return ""
    return f"slices are unevenly spaced: {gaps.min():.2f} to {gaps.max():.2f} mm, median {np.median(gaps):.2f} mm"


def _tilted(headers: list[Header]) -> str:
    """The angle between the slice normal and the way from the first slice to the last; empty if there is none.

    A tilt that the header states counts too: some exports straighten the orientation, not the pixels.
    """
    if len(headers) == 1:
        return ""
    first, last = headers[0], headers[-1]
    way = np.subtract(last.numbers["ImagePositionPatient"], first.numbers["ImagePositionPatient"])
    along = last.z_mm - first.z_mm
    sideways = float(np.linalg.norm(way - along * first.normal))
    degrees = float(np.degrees(np.arctan2(sideways, along)))
    stated = max(abs(value) for header in headers for value in (header.numbers["GantryDetectorTilt"] or (0.0,)))
    if max(degrees, stated) <= TILT_DEG:
        return ""
    return f"the stack leans by {degrees:.1f} degrees (gantry tilt; the header states {stated:.1f})"
