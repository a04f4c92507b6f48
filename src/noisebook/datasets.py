"""Loaders, one a modality: the real archive's layout and the embedded, simulated default go through the same code.

CT: the TCIA collection LDCT-and-Projection-data, McCollough et al. 2020, doi 10.7937/9NPB-2637: first-level folders
are patients, each holding a series of full dose and one of low dose images, such as
``L248/12-23-2021-NA-NA-41828/1.000000-Low Dose Images-05042/1-001.dcm``.

Chest radiographs: D. S. Kermany et al. 2018, doi 10.17632/rscbjbr9sj, in the layout of its copy on Kaggle:
``chest_xray/{train,test,val}/{NORMAL,PNEUMONIA}/*.jpeg``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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


XRAY_PARTS, XRAY_CLASSES = ("train", "val", "test"), ("NORMAL", "PNEUMONIA")
_PATIENT = re.compile(r"person\d+|(NORMAL\d*-)?IM-\d+|(NORMAL|BACTERIA|VIRUS)-\d+")
_SMALLEST, _MOST_PIXELS = 16, 50_000_000  # the archive's: 127 a side at least, 8 million pixels at most


@dataclass(frozen=True)
class XrayFile:
    """A radiograph of the archive.

    Attributes:
        path: The JPEG file.
        part: ``train``, ``val`` or ``test``: the folder it lies in.
        label: ``NORMAL`` or ``PNEUMONIA``.
        patient: For splitting only: not to be printed, plotted or stored.
    """

    path: Path
    part: str
    label: str
    patient: str = field(repr=False)


def xray_files(root: str | Path) -> list[XrayFile]:
    """The radiographs of an archive, each once, sorted by part, class and name.

    The archive's own copy of itself (``chest_xray/chest_xray``), ``__MACOSX`` and hidden files are left out.

    Args:
        root: The folder of the archive, or one above it.

    Raises:
        ValueError: The folder is missing or holds no radiograph, a part lacks a class, or two images of one name differ
            in size.
    """
    root = Path(root)
    found: dict[tuple[str, str, str], Path] = {}
    for path in sorted(root.rglob("*"), key=lambda file: (len(file.parts), file)):
        inside = path.relative_to(root).parts
        if any(name.startswith(".") or name == "__MACOSX" for name in inside) or len(path.parts) < 3:
            continue
        key = (path.parts[-3], path.parts[-2], path.name)
        if key[0] not in XRAY_PARTS or key[1] not in XRAY_CLASSES or not path.is_file():
            continue
        first = found.setdefault(key, path)
        if first.stat().st_size != path.stat().st_size:
            raise error(str(path), f"a copy of {first}", "another file of that name", "Keep one of the two.")
    if not found:
        expected = "radiographs in {train,test,val}/{NORMAL,PNEUMONIA}"
        raise error(str(root), expected, "none" if root.is_dir() else "no folder", "Check the path.")
    for part in sorted({key[0] for key in found}):
        present = {key[1] for key in found if key[0] == part}
        if len(present) == 1:
            got = f"only {present.pop()}"
            raise error(f"{root}: {part}", "images of both classes", got, "Check that the download ended.")
    return [XrayFile(found[key], key[0], key[1], _patient(key[2])) for key in sorted(found)]


def _patient(name: str) -> str:
    """``person17`` of ``person17_bacteria_54.jpeg``, ``IM-0115`` of ``IM-0115-0001.jpeg``, else the name itself."""
    match = _PATIENT.match(name)
    return match.group() if match else Path(name).stem


def xray_split(files: Iterable[XrayFile], by: str = "folder") -> dict[str, list[XrayFile]]:
    """Divide radiographs into ``train``, ``val`` and ``test``, so that no patient is in two of them.

    Args:
        files: As `xray_files` gives them.
        by: ``folder``: as the archive does. ``patient``: anew, because the archive's folders share patients: of each
            class, patients sorted by id, the last tenth is the test and a twentieth before it ``val``, at least one.

    Raises:
        ValueError: An unknown way; a patient in two folders; a class of less than three patients.
    """
    check_one_of("by", by, ("folder", "patient"))
    parts: dict[str, list[XrayFile]] = {part: [] for part in XRAY_PARTS}
    files = list(files)
    chosen = {file.patient: file.part for file in files} if by == "folder" else _parts_by_patient(files)
    for file in files:
        if by == "folder" and chosen[file.patient] != file.part:
            got = f"images of one in {file.part} and in {chosen[file.patient]}, such as {file.path}"
            raise error("split by folder", "each patient in one part", got, 'Divide anew: by="patient".')
        parts[chosen[file.patient]].append(file)
    return parts


def _parts_by_patient(files: list[XrayFile]) -> dict[str, str]:
    labels = {file.patient: file.label for file in files}
    chosen = {}
    for label in XRAY_CLASSES:
        patients = sorted(patient for patient, its in labels.items() if its == label)
        if len(patients) < 3:
            raise error(f"{label}", "at least three patients", len(patients))
        test, val = max(1, len(patients) // 10), max(1, len(patients) // 20)
        for number, patient in enumerate(reversed(patients)):
            chosen[patient] = "test" if number < test else "val" if number < test + val else "train"
    return chosen


def xray_images(files: Iterable[XrayFile], size: int) -> np.ndarray:
    """Read radiographs as grey images, upright, resized to a square as the original work does.

    Args:
        files: As `xray_files` gives them.
        size: Pixels a side; sides of another ratio are not kept.

    Returns:
        ``(N, 1, size, size)`` uint8, in the order given.

    Raises:
        ValueError: A file that is no whole grey or RGB JPEG, or has less than 16 pixels a side or above 50 million.
    """
    images = [_xray_image(file.path, size) for file in files]
    return np.stack(images)[:, None] if images else np.zeros((0, 1, size, size), np.uint8)


def _xray_image(path: Path, size: int) -> np.ndarray:
    """One radiograph, (size, size) uint8. The size in the header is checked before a pixel is decoded."""
    from PIL import Image, ImageOps

    expected, remedy = "a grey or RGB JPEG file", "Remove it, or fetch it again."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            image = Image.open(path)
    except Image.DecompressionBombError as bomb:
        raise error(str(path), f"at most {_MOST_PIXELS} pixels", bomb, remedy) from None
    except Exception:  # whatever a damaged header makes the parser raise
        size_bytes = path.stat().st_size if path.is_file() else None
        got = {None: "nothing there", 0: "an empty file"}.get(size_bytes, "something that is no image")
        raise error(str(path), expected, got, remedy) from None
    with image:
        if image.format != "JPEG" or image.mode not in ("L", "RGB"):
            frames = getattr(image, "n_frames", 1)
            got = f"{image.format} of mode {image.mode}" + (f" with {frames} frames" if frames > 1 else "")
            raise error(str(path), expected, got, remedy)
        if min(image.size) < _SMALLEST or image.width * image.height > _MOST_PIXELS:
            allowed = f"at least {_SMALLEST} pixels a side and at most {_MOST_PIXELS} in all"
            raise error(str(path), allowed, f"{image.width} x {image.height}", remedy)
        try:
            upright = ImageOps.exif_transpose(image).convert("L")
        except Exception as broken:  # as above, also from damaged EXIF tags
            raise error(str(path), expected, f"one that is cut off or damaged ({broken})", remedy) from None
    return np.asarray(upright.resize((size, size), Image.Resampling.BILINEAR))
