"""DICOM as others write it (plain pydicom, GDCM, literal bytes): bits, code streams, acquisitions, numbers."""

import functools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from test_dicom_syntaxes import enhanced, transcoded

from noisebook import datasets, dicom
from noisebook.dicom import _pixels

BITS = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}


def ct(path: Path, pixels: np.ndarray, **elements: object) -> Path:
    """A CT image by plain pydicom: slope 1, intercept -1024, 16 bits allocated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.Modality = CTImageStorage, "1.2.3.4", "1.2.3", "CT"
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = [0, 0, 0], [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated = 1, "MONOCHROME2", 16
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.PixelData = pixels.astype("<u2").tobytes()
    with pydicom.config.disable_value_validation():
        for keyword, value in (BITS | elements).items():
            setattr(ds, keyword, value)
        ds.save_as(path, enforce_file_format=True)
    return path


def rle(path: Path) -> Path:
    """The file as pydicom compresses it."""
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless)
    ds.save_as(path)
    return path


def recoded(path: Path, syntax: int, **bits: int) -> Path:
    """The file as GDCM compresses all its 16 bits, then with another header."""
    ds = pydicom.dcmread(path)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 0
    ds.save_as(path)
    other = transcoded(path, path.with_suffix(".new"), syntax)
    ds = pydicom.dcmread(other)
    for keyword, value in bits.items():
        setattr(ds, keyword, value)
    ds.save_as(other)
    return other


def test_runs_are_no_marker(tmp_path: Path) -> None:
    """In RLE the bytes FF 4F FF 51 are two runs, not the size of a JPEG 2000 image; in a JPEG comment they are text."""
    stored = np.tile([0x4F, 0x4F, 0x51, 0x51], (8, 8))
    path = rle(ct(tmp_path / "a.dcm", stored))
    assert b"\xff\x4f\xff\x51" in path.read_bytes()
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0], stored - 1024)
    jpeg = recoded(ct(tmp_path / "b.dcm", stored), gdcm.TransferSyntax.JPEGLSLossless)
    ds = pydicom.dcmread(jpeg)
    frame = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    comment = b"\xff\xfe\x00\x1c\xff\x4f\xff\x51" + bytes(22)
    ds.PixelData = pydicom.encaps.encapsulate([frame[:2] + comment + frame[2:]])
    ds.save_as(jpeg)
    np.testing.assert_array_equal(dicom.read_slice(jpeg).hu[0], stored - 1024)


@pytest.mark.parametrize(
    ("syntax", "stream", "size"),
    [
        (pydicom.uid.JPEGLSLossless, b"\xff\xd8\xff\xff\xff\xf7\x00\x0b\x10\x00\x05\x00\x07\x01\x01\x11\x00", (5, 7)),
        (pydicom.uid.JPEGLSLossless, b"\xff\x4f\xff\x51" + bytes(40), None),
        (pydicom.uid.JPEG2000Lossless, b"\xff\x4f\xff\x51\0\x29\0\0\0\0\0\x07\0\0\0\x05" + bytes(30), (5, 7)),
        (pydicom.uid.JPEG2000Lossless, bytes(4) + b"\xff\x4f\xff\x51" + bytes(40), None),
    ],
)
def test_a_code_stream_is_read_in_its_own_syntax(syntax: str, stream: bytes, size: tuple[int, int] | None) -> None:
    """A size stands behind the markers of the syntax that the header names, fill bytes or not, and nowhere else."""
    assert _pixels._stream_size(stream, pydicom.uid.UID(syntax)) == size


SIGNED = {"PixelRepresentation": 1}
HIGH = {"BitsStored": 12, "HighBit": 15}
VALUES = {  # header, stored words, HU
    "overlay above": ({}, [0x8400, 0xF000, 0x0FFF, 0x1401], [0, -1024, 3071, 1]),
    "sign not extended": (SIGNED, [0x0FFF, 0x0F00, 0x07FF, 0x0400], [-1025, -1280, 1023, 0]),
    "sign under an overlay": (SIGNED, [0xFFFF, 0x1FFF, 0x87FF, 0x8400], [-1025, -1025, 1023, 0]),
    "high bit 15": (HIGH, [0x4000, 0x400F, 0xFFF3, 0x0010], [0, 0, 3071, -1023]),
    "high bit 15, signed": (HIGH | SIGNED, [0xFFFF, 0xF00F, 0x7FF3, 0x0010], [-1025, -1280, 1023, -1023]),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("code", [None, "RLE", "JPEG2000Lossless", "JPEGLSLossless", "JPEGLosslessProcess14_1"])
def test_only_the_stored_bits_are_the_value(tmp_path: Path, name: str, code: str | None) -> None:
    """HU are those of the bits that the header calls stored, sign included; shifted bits in a stream are refused."""
    elements, words, hu = VALUES[name]
    path = ct(tmp_path / "a.dcm", np.tile(words, (8, 2)), **elements)
    if code == "RLE":
        rle(path)
    elif code:
        path = recoded(path, getattr(gdcm.TransferSyntax, code), **BITS | elements)
    if code not in (None, "RLE") and "high bit" in name:
        with pytest.raises(ValueError, match=r"expected HighBit = BitsStored - 1 in JPEG.*12 and HighBit 15"):
            dicom.read_slice(path)
        return
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0], np.tile(hu, (8, 2)))


@pytest.mark.parametrize("padding", [("SS", -2000), ("US", 63536), ("US", 2096)])
def test_padding_of_few_bits_is_found_in_any_notation(tmp_path: Path, padding: tuple[str, int]) -> None:
    """The padding -2000 of 12 signed bits is 63536 as an unsigned word and 2096 as unsigned bits."""
    path = ct(tmp_path / "a.dcm", np.array([[0x0830, 0x0400]]), **SIGNED, RescaleIntercept=1000)
    ds = pydicom.dcmread(path)
    ds.add_new("PixelPaddingValue", *padding)
    ds.save_as(path)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0], [[dicom.PADDING_HU, 2024]])


@pytest.mark.parametrize("bits", [{"BitsStored": 17}, {"HighBit": 16}, {"HighBit": 5}, {"PixelRepresentation": 2}])
def test_bits_that_cannot_be_are_refused(tmp_path: Path, bits: dict[str, int]) -> None:
    """More bits than are allocated, or a sign of a third kind, name what the header states."""
    path = ct(tmp_path / "a.dcm", np.zeros((4, 4)), **bits)
    with pytest.raises(ValueError, match=r"a\.dcm: expected BitsStored of 8, 16 or 32 BitsAllocated.*got BitsAlloc"):
        dicom.read_slice(path)


def series(folder: Path, count: int = 8, **varying: list[object]) -> Path:
    """Slices 1 mm apart whose elements take turns: slice k has the value k modulo their number, or the k-th."""
    for k in range(count):
        elements = {keyword: values[k % len(values)] for keyword, values in varying.items()}
        ct(folder / f"{k}.dcm", np.full((32, 32), 1024), ImagePositionPatient=[0, 0, k], **elements)
    return folder


MIXED = {
    "numbers": ({"AcquisitionNumber": [1, 2]}, "2 that lie between each other by Acq.*AcquisitionNumber 2, 4"),
    "overlap": ({"AcquisitionNumber": [1, 1, 1, 2, 1, 2, 2, 2]}, r"Number 2, 4 of them, at 3 to 7 mm.*3\.dcm"),
    "kernels": ({"ConvolutionKernel": [["B30f", "1"], "B70f"]}, "by ConvolutionKernel.*4 of them, at 0 to 6 mm"),
    "times": ({"AcquisitionTime": ["101500.5", "101730"]}, "by AcquisitionTime"),
    "a time a slice": ({"AcquisitionTime": [f"1015{k // 2 + 30 * (k % 2):02d}" for k in range(8)]}, "by Acq.*Time"),
    "dates and times": ({"AcquisitionDateTime": ["20200101101500+0100", "20200101101730"]}, "by Acq.*Time"),
    "exposures": ({"Exposure": [200, 51, 190, 49]}, "by Exposure"),
    "voltages": ({"KVP": [80, 140]}, "by KVP.*KVP 80, 4 of them, at 0 to 6 mm.*KVP 140, 4 of them, at 1 to 7 mm"),
    "types": ({"ImageType": [["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"]]}, "by ImageType.*4 of them"),
    "fields": ({"ReconstructionDiameter": ["350.0", "500.0"]}, "by Rec.*ReconstructionDiameter 350, 4 of them"),
    "thicknesses": ({"SliceThickness": [1, 5]}, "by SliceThickness"),
    "filters": ({"FilterType": ["FLAT", "B30f"]}, "by FilterType"),
    "contrast": ({"ContrastBolusAgent": ["B30f", ""]}, "by ContrastBolusAgent"),
    "phases": ({"NominalPercentageOfCardiacPhase": [40, 75]}, "by Nom.*Phase 40, 4 of them"),
    "descriptions": ({"SeriesDescription": ["B30f", "thin"]}, "by SeriesDescription"),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("reader", [dicom.read_series, dicom.read_volume])
def test_interleaved_acquisitions_are_refused(tmp_path: Path, name: str, reader: object) -> None:
    """Slices of two scans that lie between each other are listed, not stacked; what may identify is not shown."""
    elements, text = MIXED[name]
    with pytest.raises(ValueError, match=f"expected images of one acquisition, got .*{text}") as caught:
        reader(series(tmp_path, **elements))
    assert "B30f" not in str(caught.value)
    assert "1015" not in str(caught.value)


ONE = {
    "steps": {"AcquisitionNumber": [1, 1, 2, 2, 3, 3, 4, 4]},
    "helix": {"AcquisitionTime": [f"10{k:02d}00" for k in range(8)]},
    "midnight": {"AcquisitionTime": ["235957", "235958", "235959", "000000", "000001", "000002", "000003", "000004"]},
    "modulated": {"Exposure": [100, 130, 120, 100, 110, 130, 130, 110], "XRayTubeCurrent": [1, 2]},
    "modulated, without exposure": {"XRayTubeCurrent": [100, 200]},
    "computed anew": {"ReconstructionDiameter": ["350.000001", "349.999999"], "KVP": ["120", "120.0"]},
    "types one after the other": {"ImageType": [["A"], ["A"], ["A"], ["A"], ["B"], ["B"], ["B"], ["B"]]},
    "empty": {"AcquisitionTime": ["", "x"], "Exposure": ["", None]},
    "no numbers": {"AcquisitionDateTime": ["20200101", "20200102"]},
}


@pytest.mark.parametrize("name", ONE)
def test_one_acquisition_is_read(tmp_path: Path, name: str) -> None:
    """Steps of a table, a helix past midnight and a modulated current are one scan."""
    assert dicom.read_volume(series(tmp_path, **ONE[name])).spacing_mm == (1, 0.7, 0.7)


@pytest.mark.parametrize("exposure", [b"12.5", b"1e99", b"1,50", b"none"])
def test_an_exposure_that_is_no_integer_harms_nothing(tmp_path: Path, exposure: bytes) -> None:
    """Elements that only tell acquisitions apart need not be well formed."""
    path = ct(tmp_path / "a.dcm", np.full((4, 4), 1024), Exposure="9876", AcquisitionNumber="5432")
    path.write_bytes(path.read_bytes().replace(b"9876", exposure).replace(b"5432", exposure))
    assert (dicom.read_slice(path).hu == 0).all()


def test_interleaved_frames_are_refused(tmp_path: Path) -> None:
    """Of an enhanced file the frame's own acquisition counts."""
    path = enhanced(tmp_path)
    ds = pydicom.dcmread(path)
    for group, number in zip(ds.PerFrameFunctionalGroupsSequence, (1, 1, 2), strict=True):  # at 2, -3 and -0.5 mm
        content = pydicom.Dataset()
        content.FrameAcquisitionNumber = number
        group.FrameContentSequence = [content]
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"AcquisitionNumber 1, 2 of them, at -3 to 2 mm.*AcquisitionNumber 2, 1 of"):
        dicom.read_series([path])


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"PixelSpacing": "0,488281\\0,488281"}, r"in PixelSpacing, got 0,488281\\0,488281\. .*decimal point"),
        ({"RescaleSlope": "1,0"}, r"in RescaleSlope, got 1,0\. .*decimal point"),
        ({"NumberOfFrames": "1,0"}, r"in NumberOfFrames, got 1,0\. .*decimal point"),
        ({"SliceThickness": "Doe^Jane"}, "in SliceThickness, got text that is none"),
    ],
)
def test_a_malformed_number_names_its_element(tmp_path: Path, element: dict[str, str], text: str) -> None:
    """A decimal comma, or text, where a number ought to be, names the element, at each door; text is not repeated."""
    (keyword, value) = next(iter(element.items()))
    marked = {"NumberOfFrames": "987"}.get(keyword, "9.87\\9.87" if "\\" in value else "9.87")
    path = ct(tmp_path / "a.dcm", np.zeros((4, 4)), **{keyword: marked.split("\\") if "\\" in marked else marked})
    data, old = path.read_bytes(), marked.encode() + b" " * (len(marked) % 2)
    new = value.encode() + b" " * (len(value) % 2)
    place = data.index(old)
    path.write_bytes(data[: place - 2] + len(new).to_bytes(2, "little") + new + data[place + len(old) :])
    for read in (lambda: dicom.read_slice(path), lambda: dicom.read_series(tmp_path)):
        with pytest.raises(ValueError, match=rf"a\.dcm: expected decimal numbers {text}"):
            read()
    assert "Doe" not in str(dicom.scan(tmp_path).damaged[0])


@functools.cache
def watched() -> list[str]:
    """The paths of all files that are opened from the first call on: an audit hook stays for good."""
    opened: list[str] = []
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
    return opened


def openings(call: Callable[..., object], *arguments: object) -> Counter[str]:
    """How often a call opens each DICOM file."""
    before = len(watched())
    call(*arguments)
    return Counter(path for path in watched()[before:] if path.endswith(".dcm"))


@pytest.mark.parametrize("names", [("1-Low Dose Images-1", "2-Full Dose Images-2"), ("a", "b")])
@pytest.mark.parametrize("code", [None, gdcm.TransferSyntax.JPEG2000Lossless])
def test_every_file_is_opened_once(tmp_path: Path, names: tuple[str, str], code: int | None) -> None:
    """Pairs open each file once, told apart by folder or by description, compressed or not; a series twice."""
    for name, dose in zip(names, ("Low", "Full"), strict=True):
        told = {"SeriesDescription": [f"{dose} Dose Images"], "SeriesInstanceUID": [f"1.{dose == 'Low':d}"]}
        for path in sorted(series(tmp_path / "P1" / name, 3, **told).iterdir()):
            if code:
                transcoded(path, path.with_suffix(".new"), code).rename(path)
    found = openings(datasets.ct_pairs, tmp_path, "P1")
    assert len(found) == 6
    assert set(found.values()) == {1}
    assert set(openings(dicom.read_series, tmp_path / "P1" / names[0]).values()) == {2}
    assert set(openings(dicom.scan, tmp_path / "P1").values()) == {1}
