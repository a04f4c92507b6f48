"""Read CT series: headers, the checks that HU and mm need, pixels.

The standard's terms are those of DICOM PS3.3, sections C.7.6.2 (Image Plane) and C.8.2.1 (CT Image).
"""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from noisebook._checks import check_shape, error

PADDING_HU = -1024.0
"""What pixels outside the field of view are set to: the lowest value of a 12-bit CT image."""
VOID_HU = -1500.0
"""No reconstruction of matter goes below this; scanners write -2000 or -3024 outside the field of view."""
EXAMPLE = "J2K_pixelrep_mismatch.dcm"
REQUIRED = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
NUMBERS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", *REQUIRED, "SpacingBetweenSlices", "SliceThickness"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth"),
)


@dataclass(frozen=True, eq=False)
class Series:
    """CT images of one series.

    Attributes:
        hu: ``(Z, Y, X)`` float32, Hounsfield units; Z ascends along the slice normal. Padding is ``PADDING_HU``.
        spacing_mm: ``(z, y, x)`` distance of neighbouring pixel centres, mm. z is the median over the slices; of a
            single slice it is SpacingBetweenSlices, else SliceThickness, else NaN.
        positions_mm: ``(Z,)`` float64, position of each slice along the slice normal, mm.
        description: SeriesDescription ("" if absent).
        patient: PatientID ("" if absent). Only for splitting patients into sets: it must not be printed, plotted or
            stored, and is therefore left out of ``repr``.
        window: (centre, width) of the display window in HU, the first one in the file, or None.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    positions_mm: np.ndarray
    description: str = ""
    patient: str = field(default="", repr=False)
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series, known from their headers alone.

    Attributes:
        uid: SeriesInstanceUID ("" if absent).
        description: SeriesDescription ("" if absent).
        patient: PatientID ("" if absent); not to be printed, see ``Series``.
        modality: such as ``CT``.
        files: paths sorted by name (``read_series`` sorts the slices).
    """

    uid: str = field(repr=False)
    description: str
    patient: str = field(repr=False)
    modality: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Header:
    """What this module needs of one file's header."""

    path: Path
    uid: str
    description: str
    patient: str
    modality: str
    syntax: str
    numbers: dict[str, tuple[float, ...]]  # by keyword of NUMBERS; empty where the element is absent or empty

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


def read_series(path: str | Path | Sequence[str | Path]) -> Series:
    """Read one CT series.

    Args:
        path: A folder that holds the files of one series (in subfolders too), or the files themselves. In a folder,
            files that are not DICOM and DICOMDIR are left out; among files given by name they are errors.

    Returns:
        The series, slices sorted along the slice normal.

    Raises:
        ValueError: Folder missing or empty; a file that is not DICOM, truncated, without pixels, undecodable, not a
            single-frame CT image or without slope, intercept, position, orientation or spacing; several series;
            slices of mixed size, spacing or orientation, or two at one position.
    """
    headers = [_checked(_header(file)) for file in _files(path)]
    uids = {header.uid for header in headers}
    if len(uids) > 1:
        remedy = "List them with noisebook.dicom.scan(folder) and read the files of one."
        raise error(_name(path), "the files of one series", f"{len(uids)} series", remedy)
    headers.sort(key=lambda header: header.z_mm)
    _check_agreement(headers)
    first = headers[0]
    image = _hu(first)  # before the allocation: a damaged header may claim any size
    hu = np.empty((len(headers), *image.shape), np.float32)
    hu[0] = image
    for k, header in enumerate(headers[1:], 1):
        hu[k] = _hu(header)
    positions = np.array([header.z_mm for header in headers])
    y, x = first.numbers["PixelSpacing"]
    centre, width = first.numbers["WindowCenter"], first.numbers["WindowWidth"]
    window = (centre[0], width[0]) if centre and width else None
    return Series(hu, (_slice_spacing(positions, first), y, x), positions, first.description, first.patient, window)


def read_slice(path: str | Path) -> Series:
    """Read one CT image as a series of one slice, ``hu`` of shape ``(1, Y, X)``.

    Args:
        path: A DICOM file.

    Returns:
        The series with Z = 1.

    Raises:
        ValueError: As for ``read_series``.
    """
    return read_series([path])


def scan(folder: str | Path) -> list[SeriesFiles]:
    """Tell the series in a folder and its subfolders apart, from the headers alone.

    Args:
        folder: Any folder. Files that are not DICOM and DICOMDIR are left out.

    Returns:
        One entry a series, of any modality, sorted by the path of its first file.

    Raises:
        ValueError: Folder missing, or without a DICOM file; a header that cannot be read.
    """
    groups: dict[str, list[_Header]] = {}
    for file in _files(folder):
        header = _header(file)
        groups.setdefault(header.uid, []).append(header)
    return [
        SeriesFiles(uid, group[0].description, group[0].patient, group[0].modality, tuple(h.path for h in group))
        for uid, group in groups.items()
    ]


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


def _name(path: str | Path | Sequence[str | Path]) -> str:
    return str(path) if isinstance(path, str | Path) else f"{len(path)} files"


def _files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files to read: those given, or the DICOM files of a folder, sorted."""
    if not isinstance(path, str | Path):
        if not path:
            raise error("files", "at least one file", "none")
        return [Path(file) for file in path]
    folder = Path(path)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise error(str(folder), "a folder", got, "Check the path; read one file with read_slice.")
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != "DICOMDIR" and _has_magic(f)]
    if not files:
        raise error(str(folder), "DICOM files", "a folder without any", "Check the path and that the download ended.")
    return files


def _has_magic(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


@contextmanager
def _door(path: Path, expected: str, remedy: str) -> Iterator[None]:
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


def _header(path: Path) -> _Header:
    if not path.is_file():
        raise error(str(path), "a DICOM file", "a folder" if path.is_dir() else "nothing there", "Check the path.")
    if not _has_magic(path):
        size = path.stat().st_size
        raise error(str(path), "a DICOM file (DICM at byte 128)", f"{size} bytes without it", "Is it a DICOM export?")
    with _door(path, "a readable DICOM header", "The file is damaged or cut short: fetch or export it again."):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        return _Header(
            path=path,
            uid=str(ds.get("SeriesInstanceUID") or ""),
            description=str(ds.get("SeriesDescription") or "").strip(),
            patient=str(ds.get("PatientID") or "").strip(),
            modality=str(ds.get("Modality") or "").strip(),
            syntax=getattr(ds.file_meta.get("TransferSyntaxUID"), "name", "no transfer syntax"),
            numbers={keyword: _floats(ds, keyword) for keyword in NUMBERS},
        )


def _floats(ds: Dataset, keyword: str) -> tuple[float, ...]:
    value = ds.get(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    return tuple(float(v) for v in values)


def _checked(header: _Header) -> _Header:
    """Raise unless the header is that of a single-frame CT image with everything that HU and mm need."""
    name, numbers, remedy = str(header.path), header.numbers, "Export the original images again."
    if header.modality != "CT":
        got = header.modality if re.fullmatch(r"[A-Z_]{1,16}", header.modality) else "none, or not a modality"
        raise error(name, "modality CT", got, "Leave this file out, or pass another series.")
    if 0 in header.size:
        raise error(name, "an image (Rows, Columns)", "a header without", "It is another object, or cut short.")
    if numbers["NumberOfFrames"] not in ((), (1.0,)) or numbers["SamplesPerPixel"] != (1.0,):
        got = f"{numbers['NumberOfFrames'] or (1.0,)} frames of {numbers['SamplesPerPixel']} samples"
        raise error(name, "one frame of one sample a pixel", got, "Export it as single-frame CT images.")
    for keyword, length in REQUIRED.items():
        if len(numbers[keyword]) != length or not np.isfinite(numbers[keyword]).all():
            got = ", ".join(f"{v:g}" for v in numbers[keyword]) or "none"
            text = f"Without it neither HU nor mm are known. {remedy}"
            raise error(name, f"{keyword} of {length} finite number{'s' * (length > 1)}", got, text)
    if numbers["RescaleSlope"] == (0.0,):
        raise error(name, "RescaleSlope other than zero", "0", remedy)
    if min(numbers["PixelSpacing"]) <= 0:
        raise error(name, "PixelSpacing above zero", numbers["PixelSpacing"], remedy)
    if not 0.99 < np.linalg.norm(header.normal) < 1.01:
        got = str(numbers["ImageOrientationPatient"])
        raise error(name, "ImageOrientationPatient of two orthogonal unit vectors", got, remedy)
    return header


def _check_agreement(headers: list[_Header]) -> None:
    """Raise unless all slices (sorted by position) have one size, spacing and orientation, and distinct positions."""
    first = headers[0]
    for before, header in itertools.pairwise(headers):
        name = str(header.path)
        for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            ours, other = header.numbers[keyword], first.numbers[keyword]
            if not np.allclose(ours, other, rtol=0, atol=1e-3):
                remedy = "Images of several kinds lie in one series: pass the files of one kind."
                raise error(name, f"{keyword} {other} as in {first.path.name}", ours, remedy)
        if header.z_mm - before.z_mm < 1e-3:
            got = f"{header.z_mm:g} mm, where {before.path.name} lies already"
            raise error(name, "a slice position of its own", got, "Copies or several phases: pass the files of one.")


def _slice_spacing(positions: np.ndarray, header: _Header) -> float:
    """Median distance of the slices, mm; warns with the numbers where it is uneven by more than 0.1 mm."""
    if len(positions) == 1:
        return (header.numbers["SpacingBetweenSlices"] + header.numbers["SliceThickness"] + (float("nan"),))[0]
    gaps = np.diff(positions)
    median = float(np.median(gaps))
    if np.abs(gaps - median).max() > 0.1:
        text = f"slices are unevenly spaced: {gaps.min():.2f} to {gaps.max():.2f} mm, median {median:.2f} mm"
        warnings.warn(text, stacklevel=3)
    return median


def _hu(header: _Header) -> np.ndarray:
    """Decode one image, ``(Y, X)`` float32 in HU, padding set to ``PADDING_HU``."""
    remedy = "Fetch or export the file again; it may be damaged, or its syntax have no decoder here."
    with _door(header.path, f"decodable pixels ({header.syntax})", remedy):
        ds = pydicom.dcmread(header.path)
        found = len(ds.PixelData) if "PixelData" in ds else 0
        needed = 1 if ds.file_meta.TransferSyntaxUID.is_compressed else ds.BitsAllocated // 8 * ds.Rows * ds.Columns
        stored = ds.pixel_array if found >= needed else None
    if stored is None:
        got = f"{found} (the file is cut short)"
        raise error(str(header.path), f"{needed} bytes of pixel data or more", got, remedy)
    check_shape(str(header.path), stored, header.size)
    hu = stored * header.numbers["RescaleSlope"][0] + header.numbers["RescaleIntercept"][0]
    outside = hu < VOID_HU
    padding = header.numbers["PixelPaddingValue"] + header.numbers["PixelPaddingRangeLimit"]
    if padding:
        outside |= (stored >= min(padding)) & (stored <= max(padding))
    hu[outside] = PADDING_HU
    return hu.astype(np.float32)
