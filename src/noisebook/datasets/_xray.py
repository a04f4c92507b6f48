"""Chest radiographs, grey images of two classes.

D. S. Kermany et al. 2018, doi 10.17632/rscbjbr9sj, in the layout of its copy on Kaggle:
``chest_xray/{train,test,val}/{NORMAL,PNEUMONIA}/*.jpeg``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from noisebook._checks import check_one_of, error

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
