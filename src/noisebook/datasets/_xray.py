"""Chest radiographs, grey images of two classes.

D. S. Kermany et al. 2018, doi 10.17632/rscbjbr9sj, in the layout of its copy on Kaggle:
``chest_xray/{train,test,val}/{NORMAL,PNEUMONIA}/*.jpeg``. Copies of it as PNG are read too.
"""

from __future__ import annotations

import functools
import hashlib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noisebook._checks import check_one_of, error
from noisebook._paths import files_below

if TYPE_CHECKING:
    from PIL import Image

XRAY_PARTS, XRAY_CLASSES = ("train", "val", "test"), ("NORMAL", "PNEUMONIA")
_PATIENT = re.compile(r"person\d+|(NORMAL\d*-)?IM-\d+|(NORMAL|BACTERIA|VIRUS)-\d+")
_EXPECTED, _REMEDY = "a grey or RGB JPEG or PNG file", "Remove it, or fetch it again."
_SMALLEST, _MOST_PIXELS = 16, 50_000_000  # the archive's: 127 a side at least, 8 million pixels at most


@dataclass(frozen=True)
class XrayFile:
    """A radiograph of the archive.

    Attributes:
        path: The JPEG or PNG file.
        part: ``train``, ``val`` or ``test``: the folder it lies in.
        label: ``NORMAL`` or ``PNEUMONIA``.
        patient: For splitting only: not to be printed, plotted or stored. Patients that share a picture are one.
    """

    path: Path
    part: str
    label: str
    patient: str = field(repr=False)


def xray_files(root: str | Path) -> list[XrayFile]:
    """The radiographs of an archive, each once, sorted by part, class and name.

    The archive's own copy of itself (``chest_xray/chest_xray``), ``__MACOSX``, hidden files and what is no picture
    (``Thumbs.db``) are left out; of files with the same pixels, whatever their names, the first one is taken. Only
    identical pixels are found: a picture that was saved again with loss, such as a JPEG of another quality, resized or
    cropped, counts as another picture, and its patient as another where the name says so.

    Args:
        root: The folder of the archive, or one above it.

    Raises:
        ValueError: The folder is missing or holds no radiograph, a part lacks a class, two images of one name differ in
            size, or one picture is in both classes.
    """
    root = Path(root)
    found: dict[tuple[str, str, str], Path] = {}
    for path in sorted(files_below(root) if root.is_dir() else [], key=lambda file: (len(file.parts), file)):
        inside = path.relative_to(root).parts
        if any(name.startswith(".") or name == "__MACOSX" for name in inside) or len(path.parts) < 3:
            continue
        key = (path.parts[-3], path.parts[-2], path.name)
        if key[0] not in XRAY_PARTS or key[1] not in XRAY_CLASSES or not is_picture(path):
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
    return _each_once([XrayFile(found[key], key[0], key[1], _patient(key[2])) for key in sorted(found)])


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name, or else because it can be opened as one."""
    from PIL import Image

    if path.suffix.lower() in (".jpeg", ".jpg", ".png"):
        return True
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path):
            return True
    except Exception:  # whatever a file of another kind makes the parser raise
        return False


def _each_once(files: list[XrayFile]) -> list[XrayFile]:
    """The files without those whose pixels are those of one before; patients that share a picture become one."""
    by_sides: dict[tuple[int, ...], list[XrayFile]] = {}  # so that only what can be alike is decoded
    for file in files:
        by_sides.setdefault(_sides(file.path), []).append(file)
    first: dict[bytes, XrayFile] = {}
    same: dict[str, str] = {}  # a patient, and the one that has a picture of theirs
    copies = set()
    for file in (file for alike in by_sides.values() if len(alike) > 1 for file in alike):
        original = first.setdefault(_digest(file.path, file.path.stat().st_mtime_ns), file)
        if original.label != file.label:
            raise error(str(file.path), "one class for a picture", f"the pixels of {original.path}", "Remove one.")
        if original is not file:
            copies.add(file.path)
            mine, theirs = _named(same, file.patient), _named(same, original.patient)
            same |= {max(mine, theirs): min(mine, theirs)} if mine != theirs else {}
    return [replace(file, patient=_named(same, file.patient)) for file in files if file.path not in copies]


def _named(same: dict[str, str], patient: str) -> str:
    while patient in same:
        patient = same[patient]
    return patient


def _sides(path: Path) -> tuple[int, ...]:
    """The shorter and the longer side by the header; none of a damaged file."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return tuple(sorted(image.size))
    except Exception:  # refused when it is read
        return ()


@functools.cache
def _digest(path: Path, _changed: int) -> bytes:
    """Of the pixels as they are read; of the file itself if it cannot be."""
    try:
        image = _grey(path)
    except ValueError:  # refused when it is read
        return hashlib.sha256(path.read_bytes()).digest()
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()


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
        ValueError: A file that is no whole grey or RGB JPEG or PNG, or has less than 16 pixels a side or above 50
            million.
    """
    images = [_xray_image(file.path, size) for file in files]
    return np.stack(images)[:, None] if images else np.zeros((0, 1, size, size), np.uint8)


def _xray_image(path: Path, size: int) -> np.ndarray:
    """One radiograph, (size, size) uint8."""
    from PIL import Image

    return np.asarray(_grey(path).resize((size, size), Image.Resampling.BILINEAR))


def check_xray(files: Iterable[XrayFile]) -> None:
    """Raise where `xray_images` would, as far as the headers tell; no pixel is decoded."""
    for file in files:
        _opened(file.path).close()


def _grey(path: Path) -> Image.Image:
    """One radiograph, grey and upright. The size in the header is checked before a pixel is decoded."""
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            return ImageOps.exif_transpose(image).convert("L")
        except Exception as broken:  # whatever damaged pixels or EXIF tags make the parser raise
            got = f"one that is cut off or damaged ({broken})"
            raise error(str(path), _EXPECTED, got, _REMEDY) from None


def _opened(path: Path) -> Image.Image:
    """One radiograph whose header is that of one."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            image = Image.open(path)
    except Image.DecompressionBombError as bomb:
        raise error(str(path), f"at most {_MOST_PIXELS} pixels", bomb, _REMEDY) from None
    except Exception:  # whatever a damaged header makes the parser raise
        size_bytes = path.stat().st_size if path.is_file() else None
        got = {None: "nothing there", 0: "an empty file"}.get(size_bytes, "something that is no image")
        raise error(str(path), _EXPECTED, got, _REMEDY) from None
    wrong = None
    if image.format not in ("JPEG", "PNG") or image.mode not in ("L", "RGB"):
        frames = getattr(image, "n_frames", 1)
        got = f"{image.format} of mode {image.mode}" + (f" with {frames} frames" if frames > 1 else "")
        wrong = error(str(path), _EXPECTED, got, _REMEDY)
    elif min(image.size) < _SMALLEST or image.width * image.height > _MOST_PIXELS:
        allowed = f"at least {_SMALLEST} pixels a side and at most {_MOST_PIXELS} in all"
        wrong = error(str(path), allowed, f"{image.width} x {image.height}", _REMEDY)
    if wrong:
        image.close()
        raise wrong
    return image
