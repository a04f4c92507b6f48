"""CT: pairs of a low and a full dose.

The TCIA collection LDCT-and-Projection-data, McCollough et al. 2020, doi 10.7937/9NPB-2637: first-level folders are
patients, each holding a series of full dose and one of low dose images, such as
``L248/12-23-2021-NA-NA-41828/1.000000-Low Dose Images-05042/1-001.dcm``. The folders of the AAPM Low Dose CT Grand
Challenge (McCollough et al., Med. Phys. 44, 2017, doi 10.1002/mp.12345) are read too, patients above doses or below:
``L067/quarter_1mm/L067_QD_1_1.CT.0001.….IMA``, ``1mm B30/full_1mm/L067/L067_FD_1_1.CT.0001.….IMA``.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from noisebook import dicom
from noisebook._checks import check_one_of, error, nearest
from noisebook._paths import folders_below

ARCHIVE = "LDCT-and-Projection-data"
TEST_PATIENTS = 5
TOLERANCE_MM = 0.1
SERIES = {
    "low": re.compile(r"low[ -]dose images|\b(quarter|qd)[ _-]?\dmm|_qd_", re.IGNORECASE),
    "full": re.compile(r"full[ -]dose images|\b(full|fd)[ _-]?\dmm|_fd_", re.IGNORECASE),
    "noise free": re.compile(r"noise[ -]free images", re.IGNORECASE),
}
"""How a description, else a path, tells what a series is."""
Grid = tuple[tuple[int, int], tuple[float, ...]]
_DOSE_FOLDER = re.compile(r"(full|quarter|fd|qd)[ _-]?\dmm", re.IGNORECASE)


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
        The names of the first-level folders, or of those in the first-level folders of the doses, sorted.

    Raises:
        ValueError: The folder is missing, or holds no such patient.
    """
    base = _base(root)
    folders = [folder for place in _dose_folders(base) or [base] for folder in _folders(place)]
    patients = sorted({folder.name for folder in folders if folder.name.startswith(prefix)})
    if not patients:
        wanted = f"a folder a patient{f' named {prefix}…' if prefix else ''}"
        raise error(str(base), wanted, "none", "Check the path and that the download ended.")
    return patients


def _folders(place: Path) -> list[Path]:
    return [folder for folder in place.iterdir() if folder.is_dir() and folder.name[0] != "."]


def _dose_folders(base: Path) -> list[Path]:
    """The folders ``full_1mm``, ``quarter_1mm`` and the like, where doses lie above patients."""
    return sorted(folder for folder in _folders(base) if _DOSE_FOLDER.match(folder.name))


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
    doses, (mine, theirs) = _paired(root, patient, label, keep=True)
    low, full = (dicom.read_series(series) for series in doses)
    left = (len(low.hu) - len(mine), len(full.hu) - len(mine))
    if any(left):
        text = f"{left[0]} of {len(low.hu)} low-dose and {left[1]} of {len(full.hu)} {label} slices have no partner"
        warnings.warn(f"{text} within {TOLERANCE_MM} mm and are left out", stacklevel=2)
        low, full = (replace(s, hu=s.hu[k], positions_mm=s.positions_mm[k]) for s, k in ((low, mine), (full, theirs)))
    return CtPairs(low.hu, full.hu, low.spacing_mm, low.positions_mm, patient)


def ct_grids(root: str | Path, patients: Iterable[str], *, label: str = "full") -> list[Grid]:
    """The size and the pixel size of each patient's images, from the headers of all of them, which are checked.

    Args:
        root: As for `ct_pairs`.
        patients: Some of ``ct_patients(root)``.
        label: As for `ct_pairs`.

    Returns:
        ((rows, columns), (y, x) in mm) for each patient.

    Raises:
        ValueError: As for `ct_pairs`, as far as headers tell.
    """
    series = [_paired(root, patient, label, keep=False)[0][0] for patient in patients]
    return [(one.size, one.pixel_mm) for one in series]


def _paired(
    root: str | Path, patient: str, label: str, *, keep: bool
) -> tuple[list[dicom.SeriesFiles], tuple[np.ndarray, np.ndarray]]:
    """A patient's series of low dose and of the label, and which of their slices belong together, from headers."""
    folder, (low, full) = _base(root) / patient, _doses(root, patient, label, keep=keep)
    indices = pair(low.positions_mm, full.positions_mm)
    _check_same_grid(folder, low, full)
    if not len(indices[0]):
        got = f"low {_extent(low)}, {label} {_extent(full)}"
        raise error(str(folder), f"doses with slices within {TOLERANCE_MM} mm of each other", got, "Is it one scan?")
    return [low, full], indices


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


def _doses(root: str | Path, patient: str, label: str, *, keep: bool) -> list[dicom.SeriesFiles]:
    """A patient's one series of low dose and one of the label, by SeriesDescription, else by their path."""
    base, wanted = _base(root), ("low", label)
    if not patient or patient not in ct_patients(root):
        raise error("patient", f"a folder of {base}", repr(patient), nearest(patient, ct_patients(root)))
    places = [dose / patient for dose in _dose_folders(base) if (dose / patient).is_dir()] or [base / patient]
    # The archive holds one series a folder, beside tens of thousands of projections: open only folders that can match.
    inner = [folder for place in places for folder in folders_below(place)]
    named = {kind: [f for f in inner if SERIES[kind].search(_below(base, f))] for kind in wanted}
    chosen = [f for folders in named.values() for f in folders] if all(named.values()) else places
    chosen = [f for f in dict.fromkeys(chosen) if not set(f.parents) & set(chosen)]
    kept = partial(_is_kept, base, wanted if keep else ())
    series = [entry for place in chosen for entry in _scan(place, kept)]
    found = {kind: [s for s in series if kind == _kind(base, s.description, s.files[0])] for kind in wanted}
    for kind, some in found.items():
        if len(some) != 1:
            others = ", ".join(sorted({s.description or s.files[0].parent.name for s in series})) or "none"
            remedy = "GE scanners of the collection have no low-dose images; keep one series of each dose."
            raise error(str(places[0]), f"one series of {kind} images", f"{len(some)} among: {others}", remedy)
    return [some[0] for some in found.values()]


def _is_kept(base: Path, wanted: tuple[str, ...], description: str, path: Path) -> bool:
    return _kind(base, description, path) in wanted


def _kind(base: Path, description: str, path: Path) -> str:
    """Which of `SERIES` an image is of; empty if none."""
    kinds = (kind for text in (description, _below(base, path)) for kind in _kinds(text))
    return next(kinds, "")


def _kinds(text: str) -> list[str]:
    return [kind for kind, pattern in SERIES.items() if pattern.search(text)]


def _below(base: Path, path: Path) -> str:
    return path.relative_to(base).as_posix()


def _scan(folder: Path, keep: Callable[[str, Path], bool]) -> tuple[dicom.SeriesFiles, ...]:
    """The CT series below a folder; a damaged header is an error, as it may be a missing slice."""
    contents = dicom.scan(folder, keep)
    if contents.damaged:
        raise contents.damaged[0]
    return contents.series


def _check_same_grid(folder: Path, low: dicom.SeriesFiles, label: dicom.SeriesFiles) -> None:
    for name, mine, other, same in (
        ("images of one size", low.size, label.size, operator.eq),
        ("one pixel spacing", low.pixel_mm, label.pixel_mm, dicom.same_spacing),
    ):
        if not same(mine, other):
            raise error(str(folder), f"{name} in both doses", f"{mine} and {other}", "They do not belong together.")


def _extent(series: dicom.SeriesFiles) -> str:
    positions = series.positions_mm
    return f"{positions[0]:.2f} to {positions[-1]:.2f} mm"
