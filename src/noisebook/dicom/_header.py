"""What this library needs of a file's header, and the reasons why a file is no CT image.

Terms are those of DICOM PS3.3: C.7.6.2 (Image Plane), C.8.2.1 (CT Image), C.7.6.16 (functional groups of multi-frame
images). Identifying elements are read here only to tell series apart and to keep them out of what is shown.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from noisebook._checks import error

MAX_SIDE = 4096
"""Most rows or columns of an image; CT has 512 to 2048."""
MAX_MM = 1e6
"""No position, spacing or direction is larger."""
MAX_INFLATED = 2**30
"""Most bytes that a deflated file may grow to."""
REQUIRED = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
NUMBERS = (
    *("Rows", "Columns", "SamplesPerPixel", *REQUIRED, "SpacingBetweenSlices", "SliceThickness"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "GantryDetectorTilt"),
)
GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "CTImageFrameTypeSequence": ("FrameType",),
}
"""Where the functional groups of a multi-frame image hold an element."""
GROUP = {keyword: group for group, keywords in GROUPS.items() for keyword in keywords}
CT_CLASSES = {
    "CT Image Storage",
    "Enhanced CT Image Storage",
    "Legacy Converted Enhanced CT Image Storage",
    "",  # absent, as in images older than DICOM
}
PHOTOMETRIC = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"}
"""The defined terms that may be repeated in a message."""
IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName"),
    *("AccessionNumber", "InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
)


@dataclass(frozen=True)
class Header:
    """What this library needs of one image: of a file, or of one frame of a multi-frame file."""

    path: Path
    frame: int  # from 0
    frames: int  # in the file
    key: tuple[str, str] = field(repr=False)  # SeriesInstanceUID, PatientID
    description: str
    modality: str
    kind: str  # the SOP class's name
    localizer: bool
    syntax: str
    photometric: str
    rescale: str  # RescaleType
    numbers: dict[str, tuple[float, ...]]  # by keyword of NUMBERS; empty where the element is absent or empty

    @property
    def name(self) -> str:
        """The file, and the frame from 1 where there are several."""
        return f"{self.path}, frame {self.frame + 1}" if self.frames > 1 else str(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns); zeros where there is no image."""
        return int(sum(self.numbers["Rows"])), int(sum(self.numbers["Columns"]))

    @property
    def normal(self) -> np.ndarray:
        """The slice normal, a unit vector in patient coordinates."""
        row, column = np.reshape(self.numbers["ImageOrientationPatient"], (2, 3))
        return np.cross(row, column)

    @property
    def z_mm(self) -> float:
        """Position along the slice normal, mm."""
        return float(self.normal @ self.numbers["ImagePositionPatient"])

    @property
    def cut(self) -> bool:
        """Whether this is a CT object whose header ends before it says so."""
        return not self.modality and self.kind in CT_CLASSES - {""}

    @property
    def reason(self) -> str:
        """Why a folder's reader leaves this file out; empty for a CT image."""
        if self.kind == MediaStorageDirectoryStorage.name:
            return "DICOMDIR"
        if self.modality != "CT":
            return f"modality {self.modality or 'absent or unknown'}"
        if self.kind not in CT_CLASSES:
            return self.kind  # a dose page is a Secondary Capture or a report, projections are Raw Data
        return "localizer" if self.localizer else ""


@contextmanager
def door(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """Turn what pydicom, GDCM or Pillow raise, warn or log into one error of ours: their texts may quote the header."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as problem:
        raise error(str(path), expected, f"{type(problem).__name__} while reading it", remedy) from None
    finally:
        log.setLevel(level)


class _Bounded(io.BufferedReader):
    """A file whose reads ask for no more than is left: a damaged length must not reserve gigabytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def dataset(path: Path, *, pixels: bool) -> Dataset:
    """The file as pydicom reads it; call it within `door`."""
    with _Bounded(path) as stream:
        return pydicom.dcmread(stream, stop_before_pixels=not pixels)


def has_magic(path: Path) -> bool:
    """Whether the file has DICM at byte 128.

    Raises:
        ValueError: It cannot be opened.
    """
    with door(path, "a file that can be read", "Check its permissions and its disk."), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read(path: Path) -> list[Header]:
    """The headers of the images in a file: one, or one a frame.

    Raises:
        ValueError: The file is missing, not DICOM or damaged, or its frames lack functional groups.
    """
    if not path.is_file():
        raise error(str(path), "a DICOM file", "a folder" if path.is_dir() else "nothing there", "Check the path.")
    if not has_magic(path):
        size = path.stat().st_size
        raise error(str(path), "a DICOM file (DICM at byte 128)", f"{size} bytes without it", "Is it a DICOM export?")
    _check_inflated(path)
    with door(path, "a readable DICOM header", "The file is damaged or cut short: fetch or export it again."):
        ds = dataset(path, pixels=False)
        frames = int(ds.get("NumberOfFrames") or 1)
        own = ds.get("PerFrameFunctionalGroupsSequence") or []
        shared = [*(ds.get("SharedFunctionalGroupsSequence") or [])[:1], ds]
        whole = _header(path, ds, shared, 0, frames)
        if frames == 1 or whole.reason:
            return [_header(path, ds, [*own[:1], *shared], 0, frames)]
        if len(own) == frames:
            return [_header(path, ds, [own[k], *shared], k, frames) for k in range(frames)]
    got, remedy = f"{len(own)} groups for {frames} frames", "Export it as enhanced CT, or as single-frame CT images."
    raise error(str(path), "one functional group (position, orientation) a frame", got, remedy)


def _check_inflated(path: Path) -> None:
    """Raise if the file is deflated and damaged, or grows beyond all reason."""
    grown = 0
    with door(path, "a readable DICOM header", "The file is damaged or cut short: fetch or export it again."):
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            with path.open("rb") as stream:
                stream.seek(132 + 12 + meta.FileMetaInformationGroupLength)
                while grown <= MAX_INFLATED and (part := stream.read(4096)):
                    grown += len(inflate.decompress(part))
    if grown > MAX_INFLATED:
        remedy = "It is damaged, or made to fill the memory."
        raise error(str(path), f"at most {MAX_INFLATED} bytes when inflated", "more", remedy)


def _header(path: Path, ds: Dataset, groups: Sequence[Dataset], frame: int, frames: int) -> Header:
    """The header of one frame; ``groups`` are where to look for an element, the nearest first."""
    modality = str(ds.get("Modality") or "").strip()
    kinds = [str(part).strip() for keyword in ("ImageType", "FrameType") for part in _values(_find(groups, keyword))]
    syntax = ds.file_meta.get("TransferSyntaxUID")
    numbers = {keyword: tuple(float(v) for v in _values(_find(groups, keyword))) for keyword in NUMBERS}
    if not np.isfinite(numbers["Rows"] + numbers["Columns"]).all():
        raise ValueError("an image without a size")
    return Header(
        path=path,
        frame=frame,
        frames=frames,
        key=(str(ds.get("SeriesInstanceUID") or ""), str(ds.get("PatientID") or "")),
        description=_description(ds),
        modality=modality if re.fullmatch(r"[A-Z_]{1,16}", modality) else "",
        kind=_public(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID"), "an unknown object"),
        localizer="LOCALIZER" in kinds,
        syntax=_public(syntax, "an unknown transfer syntax") or "no transfer syntax",
        photometric=str(ds.get("PhotometricInterpretation") or "").strip(),
        rescale=str(_find(groups, "RescaleType") or "").strip(),
        numbers=numbers,
    )


def _find(groups: Sequence[Dataset], keyword: str) -> Any:
    """The first of an element's values: of the frame, of all frames, of the file."""
    for group in groups:
        inner = group.get(GROUP[keyword]) if keyword in GROUP else None
        for place in (*(inner or [])[:1], group):
            if place.get(keyword) is not None:
                return place.get(keyword)
    return None


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def _public(uid: UID | None, unknown: str) -> str:
    """The standard's name of a UID; a private one is not shown, as it may tell the institution."""
    return "" if not uid else (uid.name if uid.name != str(uid) else unknown)


def _description(ds: Dataset) -> str:
    """SeriesDescription; empty if it repeats anything of the header that identifies."""
    text = str(ds.get("SeriesDescription") or "").strip()
    words = {word for keyword in IDENTIFYING for word in re.split(r"[\^=\\,;/'\[\]\s]+", str(ds.get(keyword) or ""))}
    return "" if any(len(word) > 2 and word.lower() in text.lower() for word in words) else text


def checked(header: Header) -> Header:
    """The header; raises unless it is that of a CT image with everything that HU and mm need."""
    numbers, remedy = header.numbers, "Export the original images again."
    if header.modality != "CT" and header.reason != "DICOMDIR":
        got = header.modality or "none, or not a modality"
        text = "It is cut short: fetch it again." if header.cut else "Leave this file out, or pass another series."
        raise error(header.name, "modality CT", got, text)
    if header.reason:
        raise error(header.name, "a CT image", header.reason, "Leave this file out.")
    if 0 in header.size:
        raise error(header.name, "an image (Rows, Columns)", "a header without", "It is another object, or cut short.")
    if max(header.size) > MAX_SIDE:
        got = " x ".join(map(str, header.size))
        raise error(header.name, f"at most {MAX_SIDE} rows and columns", got, "The header is damaged.")
    if numbers["SamplesPerPixel"] != (1.0,) or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        samples = "".join(f"{n:g}" for n in numbers["SamplesPerPixel"]) or "no"
        got = f"{samples} samples" + (f", {header.photometric}" if header.photometric in PHOTOMETRIC else "")
        raise error(header.name, "one sample a pixel, MONOCHROME1 or MONOCHROME2", got, remedy)
    for keyword, length in REQUIRED.items():
        if len(numbers[keyword]) != length or not np.isfinite(numbers[keyword]).all():
            got = ", ".join(f"{v:g}" for v in numbers[keyword]) or "none"
            text = f"Without it neither HU nor mm are known. {remedy}"
            raise error(header.name, f"{keyword} of {length} finite number{'s' * (length > 1)}", got, text)
        if "Rescale" not in keyword and np.abs(numbers[keyword]).max() > MAX_MM:
            raise error(header.name, f"{keyword} below {MAX_MM:g} mm", max(numbers[keyword], key=abs), remedy)
    if numbers["RescaleSlope"] == (0.0,):
        raise error(header.name, "RescaleSlope other than zero", "0", remedy)
    if header.rescale not in ("", "HU"):
        raise error(header.name, "RescaleType HU, or none", "another unit", "Pass images in Hounsfield units.")
    if min(numbers["PixelSpacing"]) <= 0:
        raise error(header.name, "PixelSpacing above zero", numbers["PixelSpacing"], remedy)
    if not 0.99 < np.linalg.norm(header.normal) < 1.01:
        got = str(numbers["ImageOrientationPatient"])
        raise error(header.name, "ImageOrientationPatient of two orthogonal unit vectors", got, remedy)
    return header
