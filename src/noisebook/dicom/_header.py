"""What this library needs of a file's header, and the reasons why a file is no CT image.

Terms are those of DICOM PS3.3: C.7.6.2 (Image Plane), C.8.2.1 (CT Image), C.7.6.16 (functional groups of multi-frame
images). Identifying elements are read here only to tell series apart and to keep them out of what is shown.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from noisebook._checks import error

MAX_SIDE = 4096
"""Most rows or columns of an image; CT has 512 to 2048."""
MAX_MM = 1e6
"""No position, spacing or direction is larger."""
GROUP_OF_PIXELS = 0x7FE00000
UNDEFINED = 0xFFFFFFFF
"""The length of an element that ends with a delimiter."""
SMALL = 2**16
"""Bytes that may be asked for unchecked."""
SHARED = 128
"""Bytes of an element's value that is worth remembering."""
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
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
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "FrameContentSequence": ("FrameAcquisitionNumber", "FrameAcquisitionDateTime", "TemporalPositionIndex"),
    "CTExposureSequence": ("ExposureInmAs",),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "CTXRayDetailsSequence": ("KVP", "FilterType"),
}
"""Where the functional groups of a multi-frame image hold an element."""
GROUP = {keyword: group for group, keywords in GROUPS.items() for keyword in keywords}
CT_CLASSES = {
    "CT Image Storage",
    "Enhanced CT Image Storage",
    "Legacy Converted Enhanced CT Image Storage",
    "",  # absent, as in images older than DICOM
}
ACQUISITION = {
    "AcquisitionNumber": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "ConvolutionKernel": ("ConvolutionKernel",),
    "KVP": ("KVP",),
    "ImageType": ("FrameType", "ImageType"),
    "ReconstructionDiameter": ("ReconstructionDiameter",),
    "SliceThickness": ("SliceThickness",),
    "FilterType": ("FilterType",),
    "ScanOptions": ("ScanOptions",),
    "ContrastBolusAgent": ("ContrastBolusAgent",),
    "TemporalPositionIdentifier": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "NominalPercentageOfCardiacPhase": ("NominalPercentageOfCardiacPhase",),
    "AcquisitionTime": ("FrameAcquisitionDateTime", "AcquisitionTime", "AcquisitionDateTime"),
    "Exposure": ("ExposureInmAs", "Exposure"),
}
"""What differs between acquisitions, and where it stands. The tube current does so within one: it is modulated."""
PIXELS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
"""All that a decoder needs."""
PHOTOMETRIC = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"}
"""The defined terms that may be repeated in a message."""
IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName"),
    *("AccessionNumber", "InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
)


tag_of: Callable[[str], BaseTag] = cache(Tag)
"""The tag of a keyword."""
Keep = Callable[[str, Path], bool]
Pixels = bytes | Dataset
"""Of a file: its uncompressed pixel data, or all that a decoder needs."""


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
    coded: bool  # whether its pixels are a code stream: JPEG, JPEG-LS, JPEG 2000
    photometric: str
    rescale: str  # RescaleType
    acquisition: dict[str, str]  # by keyword of ACQUISITION, and SeriesDescription; of a time no date; empty if absent
    numbers: dict[str, tuple[float, ...]]  # by keyword of NUMBERS; empty where the element is absent or empty
    plain: tuple[int, int] | None = None  # where in the file the pixels start and how many bytes they are, uncompressed
    pixels: Pixels | None = field(default=None, repr=False, compare=False)  # of the file, where they were read with it

    @property
    def name(self) -> str:
        """The file, and the frame from 1 where there are several."""
        return f"{self.path}, frame {self.frame + 1}" if self.frames > 1 else str(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns); zeros where there is no image."""
        return int(sum(self.numbers["Rows"])), int(sum(self.numbers["Columns"]))

    @cached_property
    def normal(self) -> np.ndarray:
        """The slice normal, a unit vector in patient coordinates."""
        row, column = np.reshape(self.numbers["ImageOrientationPatient"], (2, 3))
        return np.cross(row, column)

    @cached_property
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


def nothing(description: str, path: Path) -> bool:
    """Keep no pixels."""
    return False


def same_spacing(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two pixel sizes (row, column) are one but for rounding.

    Over 512 pixels the difference adds up to less than a tenth of a pixel.
    """
    return np.allclose(first, second, rtol=2e-4, atol=0)


class MalformedError(Exception):
    """An element that ought to hold numbers and does not: its keyword and what it holds."""


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
    except MalformedError as problem:
        keyword, text = problem.args
        # what is no number may tell a patient
        shown = text if re.fullmatch(r"[-+\d.,eE\\ ]{1,99}", text) else "text that is none"
        remedy = "Write it with a decimal point." if "," in text else "Export the original images again."
        raise error(str(path), f"decimal numbers in {keyword}", shown, remedy) from None
    except Exception as problem:
        raise error(str(path), expected, f"{type(problem).__name__} while reading it", remedy) from None
    finally:
        log.setLevel(level)


class _Bounded(io.BufferedReader):
    """A file whose reads ask for no more than is left: a damaged length must not reserve gigabytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb", buffering=0))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and 0 <= size <= SMALL:
            return super().read(size)
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def _opened(path: Path) -> Iterator[_Bounded]:
    """The file, to be read."""
    with door(path, "a file that can be read", "Check its permissions and its disk."):
        stream = _Bounded(path)
    with stream:
        yield stream


def pixels(header: Header) -> Pixels:
    """The pixels of the file, read with its header or now, without anything that identifies; call it within `door`."""
    if header.pixels is not None:
        return header.pixels
    with _opened(header.path) as stream:
        return _pixels(stream, header)


def _pixels(stream: _Bounded, header: Header) -> Pixels:
    if header.plain:
        stream.seek(header.plain[0])
        return stream.read(header.plain[1])
    stream.seek(0)
    ds = pydicom.dcmread(stream, specific_tags=list(PIXELS))
    kept = Dataset({element.tag: element for element in ds.elements() if element.tag.group != 8})
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    kept.set_original_encoding(*ds.original_encoding)
    return kept


def read(path: Path, keep: Keep = nothing) -> list[Header]:
    """As `find`, but a file that is missing or not DICOM is an error."""
    if not path.is_file():
        raise error(str(path), "a DICOM file", "a folder" if path.is_dir() else "nothing there", "Check the path.")
    headers = find(path, keep)
    if not headers:
        size = path.stat().st_size
        raise error(str(path), "a DICOM file (DICM at byte 128)", f"{size} bytes without it", "Is it a DICOM export?")
    return headers


def find(path: Path, keep: Keep = nothing) -> list[Header]:
    """The headers of the images in a file: none if it is not DICOM, else one, or one a frame. It is opened once.

    Args:
        path: An existing file.
        keep: Told the description and the path of a CT image, whether its pixels are read too.

    Raises:
        ValueError: The file cannot be opened or is damaged, an element is malformed, or frames lack functional groups.
    """
    grown, remedy = 0, "The file is damaged or cut short: fetch or export it again."
    with _opened(path) as stream, door(path, "a readable DICOM header", remedy):
        if stream.read(132)[128:] != b"DICM":
            return []
        meta = Dataset({raw.tag: raw for raw in data_element_generator(stream, False, True, stop_when=_beyond_meta)})
        if _get(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            grown = _inflated(stream)
        if grown <= MAX_INFLATED:
            meta, ds = _dataset(stream, meta)
            frames = int(*_numbers([ds], "NumberOfFrames")[:1]) or 1
            own = _get(ds, "PerFrameFunctionalGroupsSequence") or []
            plain = _plain(stream, _get(meta, "TransferSyntaxUID"))
            headers = [replace(header, plain=plain) for header in _headers(path, meta, ds, own, frames)]
            if headers and not headers[0].reason and keep(headers[0].description, path):
                kept = _pixels(stream, headers[0])
                headers = [replace(header, pixels=kept) for header in headers]
    if grown > MAX_INFLATED:
        remedy = "It is damaged, or made to fill the memory."
        raise error(str(path), f"at most {MAX_INFLATED} bytes when inflated", "more", remedy)
    if not headers:
        remedy = "Export it as enhanced CT, or as single-frame CT images."
        got = f"{len(own)} groups for {frames} frames"
        raise error(str(path), "one functional group (position, orientation) a frame", got, remedy)
    return headers


def _dataset(stream: _Bounded, meta: Dataset) -> tuple[Dataset, Dataset]:
    """A file's elements of group 2, as they were just read, and those before its pixels."""
    syntax = _get(meta, "TransferSyntaxUID")
    if syntax in PLAIN:
        stop = GROUP_OF_PIXELS
        return meta, read_dataset(stream, syntax.is_implicit_VR, True, stop_when=lambda tag, vr, length: tag >= stop)
    stream.seek(0)
    ds = pydicom.dcmread(stream, stop_before_pixels=True)
    return ds.file_meta, ds


def _headers(path: Path, meta: Dataset, ds: Dataset, own: Sequence[Dataset], frames: int) -> list[Header]:
    """The headers of a file's images; none if it does not hold a functional group a frame."""
    shared = [*(ds.get("SharedFunctionalGroupsSequence") or [])[:1], ds]
    whole = _header(path, meta, ds, [*own[: frames == 1], *shared], 0, frames)
    if frames == 1 or whole.reason:
        return [whole]
    if len(own) != frames:
        return []
    return [_header(path, meta, ds, [group, *shared], k, frames) for k, group in enumerate(own)]


def _plain(stream: _Bounded, syntax: UID | None) -> tuple[int, int] | None:
    """Where uncompressed little-endian pixels start, from the end of a header, and how many bytes they are."""
    if syntax not in PLAIN:
        return None
    for raw in data_element_generator(stream, syntax.is_implicit_VR, True, defer_size=0):
        if raw.tag == tag_of("PixelData") and isinstance(raw, RawDataElement) and raw.length < UNDEFINED:
            return raw.value_tell, raw.length
    return None


def _beyond_meta(tag: int, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _inflated(stream: _Bounded) -> int:
    """The bytes that the rest of a deflated file grows to, as far as `MAX_INFLATED`."""
    grown, inflate = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    while grown <= MAX_INFLATED and (part := stream.read(4096)):
        grown += len(inflate.decompress(part))
    return grown


def _header(path: Path, meta: Dataset, ds: Dataset, groups: Sequence[Dataset], frame: int, frames: int) -> Header:
    """The header of one frame; ``groups`` are where to look for an element, the nearest first."""
    modality = str(_get(ds, "Modality") or "").strip()
    kinds = [str(part).strip() for keyword in ("ImageType", "FrameType") for part in _values(_find(groups, keyword))]
    syntax = _get(meta, "TransferSyntaxUID")
    numbers = {keyword: _numbers(groups, keyword) for keyword in NUMBERS}
    acquisition = {name: _first(groups, keywords) for name, keywords in ACQUISITION.items()}
    acquisition["AcquisitionTime"] = re.sub(r"^\d{8}", "", acquisition["AcquisitionTime"])
    acquisition["SeriesDescription"] = description = _description(ds)
    if not np.isfinite(numbers["Rows"] + numbers["Columns"]).all():
        raise ValueError("an image without a size")
    return Header(
        path=path,
        frame=frame,
        frames=frames,
        key=(str(_get(ds, "SeriesInstanceUID") or ""), str(_get(ds, "PatientID") or "")),
        description=description,
        modality=modality if re.fullmatch(r"[A-Z_]{1,16}", modality) else "",
        kind=_public(_get(ds, "SOPClassUID") or _get(meta, "MediaStorageSOPClassUID"), "an unknown object"),
        localizer="LOCALIZER" in kinds,
        coded=bool(syntax and syntax.is_transfer_syntax and syntax.is_encapsulated and syntax != RLELossless),
        syntax=_public(syntax, "an unknown transfer syntax") or "no transfer syntax",
        photometric=str(_get(ds, "PhotometricInterpretation") or "").strip(),
        rescale=str(_find(groups, "RescaleType") or "").strip(),
        acquisition=acquisition,
        numbers=numbers,
    )


def _get(ds: Dataset, keyword: str) -> Any:
    """An element's value as pydicom gives it, converted once for all images that share it; None if it is absent."""
    tag = tag_of(keyword)
    if tag not in ds.keys():  # noqa: SIM118
        return None
    raw: Any = ds.get_item(tag)
    charset = ds._character_set
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and len(raw.value) <= SHARED:
        value = _converted(raw._replace(value_tell=0), charset if isinstance(charset, str) else tuple(charset))
        if not isinstance(value, bytes):  # which it is where its type depends on others
            return value
    return ds[tag].value


@lru_cache(maxsize=256)
def _converted(raw: RawDataElement, charset: str | tuple[str, ...]) -> Any:
    return convert_raw_data_element(raw, encoding=charset if isinstance(charset, str) else list(charset)).value


def _find(groups: Sequence[Dataset], keyword: str) -> Any:
    """The first of an element's values: of the frame, of all frames, of the file."""
    for group in groups:
        inner = _get(group, GROUP[keyword]) if keyword in GROUP else None
        for place in (*(inner or [])[:1], group):
            value = _get(place, keyword)
            if value is not None:
                return value
    return None


def _first(groups: Sequence[Dataset], keywords: Sequence[str]) -> str:
    """The first of some elements that is there and well formed, as text."""
    for keyword in keywords:
        with suppress(ValueError, TypeError, OverflowError):  # an exposure of 12.5 in a field of integers harms nothing
            if (value := _find(groups, keyword)) not in (None, ""):
                return str(value).strip()
    return ""


def _numbers(groups: Sequence[Dataset], keyword: str) -> tuple[float, ...]:
    """The numbers of an element, none if it is absent or empty; call it within `door`."""
    values = _values(_find(groups, keyword))
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise MalformedError(keyword, "\\".join(map(str, values))) from None


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def _public(uid: UID | None, unknown: str) -> str:
    """The standard's name of a UID; a private one is not shown, as it may tell the institution."""
    return "" if not uid else (uid.name if uid.name != str(uid) else unknown)


def _description(ds: Dataset) -> str:
    """SeriesDescription; empty if it repeats anything of the header that identifies."""
    text = str(_get(ds, "SeriesDescription") or "").strip()
    words = (word for keyword in IDENTIFYING for word in _words(str(_get(ds, keyword) or "")))
    return "" if any(word in text.lower() for word in words) else text


@lru_cache(maxsize=64)
def _words(text: str) -> tuple[str, ...]:
    """The words of more than two letters, in lower case."""
    return tuple(word.lower() for word in re.split(r"[\^=\\,;/'\[\]\s]+", text) if len(word) > 2)


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
    _check_bits(header)
    if header.rescale not in ("", "HU"):
        raise error(header.name, "RescaleType HU, or none", "another unit", "Pass images in Hounsfield units.")
    if min(numbers["PixelSpacing"]) <= 0:
        raise error(header.name, "PixelSpacing above zero", numbers["PixelSpacing"], remedy)
    if not 0.99 < np.linalg.norm(header.normal) < 1.01:
        got = str(numbers["ImageOrientationPatient"])
        raise error(header.name, "ImageOrientationPatient of two orthogonal unit vectors", got, remedy)
    return header


def _check_bits(header: Header) -> None:
    """Raise unless the header tells which bits of a pixel are its value."""
    keywords = ("BitsAllocated", "BitsStored", "PixelRepresentation")
    numbers = {keyword: header.numbers[keyword][:1] for keyword in keywords}
    allocated, stored, signed = ((*found, -1.0)[0] for found in numbers.values())
    high = (*header.numbers["HighBit"], stored - 1)[0]
    if allocated not in (8, 16, 32) or signed not in (0, 1) or not 1 <= stored <= high + 1 <= allocated:
        got = ", ".join(f"{keyword} {found[0]:g}" if found else f"no {keyword}" for keyword, found in numbers.items())
        expected = "BitsStored of 8, 16 or 32 BitsAllocated, below HighBit, PixelRepresentation 0 or 1"
        raise error(header.name, expected, f"{got}, HighBit {high:g}", "Export the original images again.")
    if high != stored - 1 and header.coded:
        got = f"BitsStored {stored:g} and HighBit {high:g}"
        raise error(header.name, f"HighBit = BitsStored - 1 in {header.syntax}", got, "Decompress it, and compare.")
