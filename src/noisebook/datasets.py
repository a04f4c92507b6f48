"""Loaders, one a modality: the real archive's layout and the embedded, simulated default go through the same code.

CT: the TCIA collection LDCT-and-Projection-data, McCollough et al. 2020, doi 10.7937/9NPB-2637: first-level folders
are patients, each holding a series of full dose and one of low dose images, such as
``L248/12-23-2021-NA-NA-41828/1.000000-Low Dose Images-05042/1-001.dcm``.

Photon counts: TIFF files and NumPy arrays of whole numbers, read as they are, and told from what merely looks alike.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from noisebook import dicom
from noisebook._checks import check_one_of, error, nearest

ARCHIVE = "LDCT-and-Projection-data"
TEST_PATIENTS = 5
TOLERANCE_MM = 0.1
SERIES = {kind: re.compile(rf"{kind}[ -]dose images", re.IGNORECASE) for kind in ("low", "full")} | {
    "noise free": re.compile(r"noise[ -]free images", re.IGNORECASE)
}


@dataclass(frozen=True, eq=False)
class CtPairs:
    """Low-dose images of one patient and, slice for slice, what a network should make of them.

    Attributes:
        low: ``(Z, Y, X)`` float32, HU.
        label: ``(Z, Y, X)`` float32, HU: full dose or, simulated only, noise free.
        spacing_mm: ``(z, y, x)``, mm.
        positions_mm: ``(Z,)``, position along the slice normal, mm, ascending.
        patient: For splitting only: not to be printed, plotted or stored.
    """

    low: np.ndarray
    label: np.ndarray
    spacing_mm: tuple[float, float, float]
    positions_mm: np.ndarray
    patient: str = field(repr=False)


def ct_patients(root: str | Path, prefix: str = "") -> list[str]:
    """The patients of a CT archive.

    Args:
        root: The folder of the archive, or the folder that holds ``LDCT-and-Projection-data``.
        prefix: Only patients whose id starts so: in the TCIA collection L is abdomen, C chest, N head.

    Returns:
        The names of the first-level folders, sorted.

    Raises:
        ValueError: The folder is missing, or holds no such patient.
    """
    base = _base(root)
    patients = sorted(p.name for p in base.iterdir() if p.is_dir() and p.name.startswith(prefix) and p.name[0] != ".")
    if not patients:
        wanted = f"a folder a patient{f' named {prefix}…' if prefix else ''}"
        raise error(str(base), wanted, "none", "Check the path and that the download ended.")
    return patients


def split(patients: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide patients into training and test, as Xu & Noo do: sorted by id, the last five are the test.

    Of two to five patients only the last one is the test; one patient alone is a test patient. No patient is in both.

    Args:
        patients: Ids, in any order.

    Returns:
        (training, test), each sorted.

    Raises:
        ValueError: No patient, or one given twice.
    """
    ordered = sorted(patients)
    if not ordered or len(set(ordered)) < len(ordered):
        raise error("patients", "at least one id, each once", f"{len(ordered)} of which {len(set(ordered))} differ")
    test = TEST_PATIENTS if len(ordered) > TEST_PATIENTS else 1
    return ordered[:-test], ordered[-test:]


def ct_pairs(root: str | Path, patient: str, *, label: str = "full") -> CtPairs:
    """Read a patient's low-dose images and their labels, paired by position along the slice normal, never by name.

    Args:
        root: As for ``ct_patients``.
        patient: One of ``ct_patients(root)``.
        label: ``full`` for the full-dose images, ``noise free`` for the reference of the simulated data.

    Returns:
        The slices that have a partner within 0.1 mm, ascending. Those without are left out and counted in a warning.

    Raises:
        ValueError: Unknown patient or label; not exactly one series of a dose; doses of another size or pixel spacing,
            or without a single pair; and whatever ``dicom.read_series`` refuses.
    """
    check_one_of("label", label, [kind for kind in SERIES if kind != "low"])
    folder = _base(root) / patient
    if not patient or not folder.is_dir():
        remedy = nearest(patient, ct_patients(root))
        raise error("patient", f"a folder of {_base(root)}", repr(patient), remedy)
    low, full = (dicom.read_series(_files(folder, kind)) for kind in ("low", label))
    _check_same_grid(folder, low, full)
    mine, theirs = pair(low.positions_mm, full.positions_mm)
    left = (len(low.hu) - len(mine), len(full.hu) - len(mine))
    if not len(mine):
        got = f"low {_extent(low)}, {label} {_extent(full)}"
        raise error(str(folder), f"doses with slices within {TOLERANCE_MM} mm of each other", got, "Is it one scan?")
    if any(left):
        text = f"{left[0]} of {len(low.hu)} low-dose and {left[1]} of {len(full.hu)} {label} slices have no partner"
        warnings.warn(f"{text} within {TOLERANCE_MM} mm and are left out", stacklevel=2)
    return CtPairs(low.hu[mine], full.hu[theirs], low.spacing_mm, low.positions_mm[mine], patient)


def pair(
    first_mm: np.ndarray, second_mm: np.ndarray, tolerance_mm: float = TOLERANCE_MM
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the positions that are each other's nearest and at most ``tolerance_mm`` apart.

    Args:
        first_mm: ``(M,)`` positions, mm, in any order.
        second_mm: ``(N,)`` positions, mm, in any order.
        tolerance_mm: Largest distance of a pair.

    Returns:
        Two ``(K,)`` integer arrays: ``first_mm[i]`` belongs to ``second_mm[j]``.
    """
    distance = np.abs(np.subtract.outer(np.asarray(first_mm, float), np.asarray(second_mm, float)))
    if not distance.size:
        return np.zeros(0, int), np.zeros(0, int)
    i, j = np.arange(len(distance)), distance.argmin(1)
    # 1e-9: positions are decimal strings, and 0.1 has no exact binary form
    keep = (distance.argmin(0)[j] == i) & (distance[i, j] <= tolerance_mm + 1e-9)
    return i[keep], j[keep]


def _base(root: str | Path) -> Path:
    root = Path(root)
    base = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    if not base.is_dir():
        got = "a file" if base.exists() else "nothing there"
        raise error(str(base), f"the folder of {ARCHIVE}", got, "Check the path.")
    return base


def _files(folder: Path, kind: str) -> list[Path]:
    """The files of the one series of that kind, by SeriesDescription, else by the name of the folder they lie in."""
    pattern = SERIES[kind]
    # The archive holds one series a folder, beside tens of thousands of projections: open only folders that can match.
    named = [f for f in sorted(folder.rglob("*")) if f.is_dir() and pattern.search(f.name)]
    series = [entry for place in named or [folder] for entry in dicom.scan(place)]
    found = [s for s in series if pattern.search(s.description or s.files[0].parent.name)]
    if len(found) != 1:
        others = ", ".join(sorted({s.description or s.files[0].parent.name for s in series}))
        remedy = "GE scanners of the collection have no low-dose images; keep one series of each dose."
        raise error(str(folder), f"one series of {kind} images", f"{len(found)} among: {others}", remedy)
    return list(found[0].files)


def _check_same_grid(folder: Path, low: dicom.Series, label: dicom.Series) -> None:
    for name, mine, other in (
        ("images of one size", low.hu.shape[1:], label.hu.shape[1:]),
        ("one pixel spacing", low.spacing_mm[1:], label.spacing_mm[1:]),
    ):
        if not np.allclose(mine, other, rtol=0, atol=1e-4):
            raise error(str(folder), f"{name} in both doses", f"{mine} and {other}", "They do not belong together.")


def _extent(series: dicom.Series) -> str:
    return f"{series.positions_mm[0]:.2f} to {series.positions_mm[-1]:.2f} mm"


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
    check_one_of("suffix of the file", path.suffix.lower(), (".tif", ".tiff", ".npy", ".npz"))
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
            raise error(str(path), "a name, as there are several arrays", "none", f"Known: {', '.join(found.files)}.")
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
