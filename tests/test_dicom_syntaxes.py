"""DICOM: every transfer syntax and multi-frame images give the same HU; hostile headers take no memory."""

import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from test_dicom import edited, images, write

from noisebook import dicom
from noisebook.dicom import _header, _pixels

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CT = {"SOPClassUID": pydicom.uid.CTImageStorage, "Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1000}
PLANE = {"ImagePositionPatient": [0, 0, 5], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
SHIPPED = ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless")
TRANSCODED = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG lossless, process 14": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
    "deflated": gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian,
    "big-endian": gdcm.TransferSyntax.ExplicitVRBigEndian,
}


def transcoded(source: Path, target: Path, syntax: int) -> Path:
    """The file as GDCM writes it in another transfer syntax."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


def smooth(folder: Path, top: int = 2000) -> Path:
    """One smooth slice of 64 x 48 pixels, from -1024 HU up to below ``top`` HU above."""
    ramp = np.add.outer(np.arange(64.0), np.arange(48.0)) / 111 * top - 1024
    return dicom.write_series(folder, ramp[None], (1, 1, 1), [0], patient="SIM001", description="")[0]


@pytest.mark.parametrize("syntax", SHIPPED)
def test_a_shipped_image_is_the_same_in_every_syntax(tmp_path: Path, syntax: str) -> None:
    """The test image that ships with pydicom in many syntaxes, made a CT image, has the same HU in each."""
    plain = dicom.read_slice(_as_ct(FILES / "MR_small.dcm", tmp_path / "plain.dcm")).hu
    np.testing.assert_array_equal(dicom.read_slice(_as_ct(FILES / f"MR_small_{syntax}.dcm", tmp_path / "b")).hu, plain)
    assert plain.shape == (1, 64, 64)
    assert len(np.unique(plain)) > 100


def _as_ct(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return edited(target, **CT, **PLANE)


@pytest.mark.parametrize("syntax", TRANSCODED)
def test_lossless_syntaxes_by_another_encoder_change_no_value(tmp_path: Path, syntax: str) -> None:
    """A slice transcoded by GDCM reads as the plain one does."""
    path = smooth(tmp_path / "a")
    other = transcoded(path, tmp_path / "b.dcm", TRANSCODED[syntax])
    assert pydicom.dcmread(other).file_meta.TransferSyntaxUID != pydicom.dcmread(path).file_meta.TransferSyntaxUID
    np.testing.assert_array_equal(dicom.read_slice(other).hu, dicom.read_slice(path).hu)


def test_jpeg_baseline_is_read(tmp_path: Path) -> None:
    """A slice of 8 bits in baseline JPEG differs from the plain one by its loss alone."""
    path = edited(smooth(tmp_path / "a", top=250), RescaleIntercept=-100)
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.pixel_array.astype(np.uint8).tobytes()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds["PixelData"].VR = "OB"
    ds.save_as(path)
    other = transcoded(path, tmp_path / "b.dcm", gdcm.TransferSyntax.JPEGBaselineProcess1)
    plain, lossy = dicom.read_slice(path).hu, dicom.read_slice(other).hu
    assert 0 < np.abs(lossy - plain).max() < 8


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"])
def test_lossy_syntaxes_are_read(tmp_path: Path, name: str) -> None:
    """Lossy test images that ship with pydicom, made CT images, have many values, all finite."""
    hu = dicom.read_slice(_as_ct(FILES / name, tmp_path / "a")).hu
    assert np.isfinite(hu).all()
    assert len(np.unique(hu)) >= 10


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_a_syntax_without_a_decoder_is_named(tmp_path: Path, name: str) -> None:
    """No decoder here knows JPEG Extended of 12 bits: our error says which syntax it is."""
    with pytest.raises(ValueError, match=r"expected decodable pixels \(JPEG Extended .*have no decoder here"):
        dicom.read_slice(_as_ct(FILES / name, tmp_path / "a"))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_hu_do_not_depend_on_how_they_are_shown(tmp_path: Path, photometric: str) -> None:
    """MONOCHROME1 inverts what a screen shows, not HU: air stays at -1000."""
    path = edited(write(tmp_path / "a")[0], PhotometricInterpretation=photometric)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0], images()[0])


def enhanced(folder: Path, **changes: object) -> Path:
    """The three slices of `test_dicom.images` as one enhanced CT file, frames in the order 2, 0, 1."""
    paths = write(folder)
    ds = pydicom.dcmread(paths[0])
    frames, stored = [], []
    for k in (2, 0, 1):
        one = pydicom.dcmread(paths[k])
        stored.append(one.pixel_array)
        frames.append(_group(PlanePositionSequence={"ImagePositionPatient": one.ImagePositionPatient}))
    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            _group(
                PlaneOrientationSequence={"ImageOrientationPatient": ds.ImageOrientationPatient},
                PixelMeasuresSequence={"PixelSpacing": ds.PixelSpacing, "SliceThickness": 3},
                PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"},
                FrameVOILUTSequence={"WindowCenter": 50, "WindowWidth": 350},
            )
        ]
    )
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    ds.NumberOfFrames, ds.PixelData = 3, np.stack(stored).tobytes()
    for path in paths:
        path.unlink()
    ds.save_as(folder / "enhanced.dcm")
    return edited(folder / "enhanced.dcm", **changes)


def _group(**sequences: dict[str, object]) -> Dataset:
    group = Dataset()
    for sequence, elements in sequences.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(group, sequence, Sequence([item]))
    return group


def test_enhanced_ct_is_read_frame_by_frame(tmp_path: Path) -> None:
    """A multi-frame file gives the same series as its slices, whatever the order of its frames."""
    path = enhanced(tmp_path)
    series = dicom.read_series(tmp_path)
    np.testing.assert_array_equal(series.hu, images())
    assert series.spacing_mm == (2.5, 0.7, 0.8)
    assert series.window == (50, 350)
    assert dicom.scan(tmp_path).series[0].images == 3
    with pytest.raises(ValueError, match=r"enhanced\.dcm: expected one image, got 3 frames"):
        dicom.read_slice(path)


def test_compressed_frames_are_read_each_for_itself(tmp_path: Path) -> None:
    """A multi-frame file in RLE gives the same HU."""
    path = enhanced(tmp_path)
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(path)
    np.testing.assert_array_equal(dicom.read_series(path.parent).hu, images())


def test_faults_of_frames_name_the_frame(tmp_path: Path) -> None:
    """Two frames at one position, a frame without one, a localizer among other objects: named, or skipped."""
    path = enhanced(tmp_path / "a")
    ds = pydicom.dcmread(path)
    frames = ds.PerFrameFunctionalGroupsSequence
    frames[1].PlanePositionSequence[0].ImagePositionPatient = frames[0].PlanePositionSequence[0].ImagePositionPatient
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"enhanced\.dcm, frame 2: expected a slice position of its own, got 2 mm"):
        dicom.read_series([path])
    del frames[1].PlanePositionSequence
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"enhanced\.dcm, frame 2: expected ImagePositionPatient of 3 finite"):
        dicom.read_series([path])
    frames[0].CTImageFrameTypeSequence = _group(S={"FrameType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]}).get("S")
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.CTImageFrameTypeSequence = Sequence([Dataset()])
    shared.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    ds.save_as(path)
    assert dicom.scan(tmp_path / "a").skipped == {"localizer": 1}


def _j2k(rows: int, columns: int) -> bytes:
    """The beginning of a JPEG 2000 code stream of this size."""
    numbers = (columns, rows, 0, 0, columns, rows, 0, 0)
    return b"\xff\x4f\xff\x51\x00\x29\x00\x00" + b"".join(n.to_bytes(4) for n in numbers) + b"\x00\x01\x0f\x01\x01"


def _jpeg(rows: int, columns: int) -> bytes:
    """The beginning of a baseline JPEG code stream of this size."""
    start = b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xc0\x00\x0b\x08"
    return start + rows.to_bytes(2) + columns.to_bytes(2) + b"\x01\x01\x11\x00"


def _compressed(path: Path, syntax: pydicom.uid.UID, frame: bytes, **elements: object) -> Path:
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds.save_as(path)
    return edited(path, **elements)


def _bomb(path: Path) -> Path:
    """A deflated file of 1.2 MB that would fill 300 MB."""
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.save_as(path)
    meta = 132 + 12 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    zeros = bytes(2**20)
    body = b"".join(squeeze.compress(zeros) for _ in range(300)) + squeeze.flush()
    path.write_bytes(path.read_bytes()[:meta] + body)
    return path


def _claim(path: Path) -> Path:
    """A file whose pixel data claim 4 GB."""
    data = path.read_bytes()
    place = data.rindex(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
    path.write_bytes(data[:place] + b"\xfe\xff\xff\xff" + data[place + 4 :])
    return path


HOSTILE = {
    "rows": (
        lambda p: edited(p, Rows=65535, Columns=65535),
        "expected at most 4096 rows and columns, got 65535 x 65535",
    ),
    "sides": (lambda p: edited(p, Rows=4096, Columns=4096), "expected 33554432 bytes of pixel data or more, got 108"),
    "frames": (lambda p: edited(p, NumberOfFrames=2**31 - 1), "got 0 groups for 2147483647 frames"),
    "length": (_claim, "expected"),
    "deflate": (_bomb, "expected at most 16777216 bytes when inflated, got more"),
    "RLE": (
        lambda p: _compressed(p, pydicom.uid.RLELossless, bytes(64), Rows=4096, Columns=4096),
        "expected decodable",
    ),
    "JPEG 2000": (
        lambda p: _compressed(p, pydicom.uid.JPEG2000Lossless, _j2k(60000, 60000)),
        "expected 6 x 9 compressed pixels, got 60000 x 60000",
    ),
    "JPEG": (
        lambda p: _compressed(p, pydicom.uid.JPEGBaseline8Bit, _jpeg(60000, 50000)),
        "expected 6 x 9 compressed pixels, got 60000 x 50000",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_is_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Claims of huge images, lengths and frames, and bombs, are errors of ours for less than 100 MB."""
    change, text = HOSTILE[kind]
    monkeypatch.setattr(_header, "MAX_INFLATED", 2**24)
    path = change(write(tmp_path)[0])
    tracemalloc.start()
    try:
        if kind == "length":  # what is there counts, not what is claimed
            np.testing.assert_array_equal(dicom.read_slice(path).hu[0], images()[0])
        else:
            with pytest.raises(ValueError, match=rf"1-001\.dcm: .*{text}"):
                dicom.read_slice(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("syntax", "marker"), [("JPEG lossless", b"\xff\xc3"), ("JPEG-LS", b"\xff\xf7")])
def test_a_stream_that_kills_the_decoder_is_our_error(tmp_path: Path, syntax: str, marker: bytes) -> None:
    """A code stream of 216 bits a sample, on which GDCM ends its process, is an error of ours that names the file."""
    path = transcoded(smooth(tmp_path / "a"), tmp_path / "b.dcm", TRANSCODED[syntax])
    data = bytearray(path.read_bytes())
    data[data.index(marker) + 4] = 216
    path.write_bytes(data)
    direct = f"import pydicom; pydicom.dcmread({str(path)!r}).pixel_array"
    assert subprocess.run([sys.executable, "-c", direct], capture_output=True, check=False).returncode < 0
    with pytest.raises(ValueError, match=r"b\.dcm: expected decodable pixels \(JPEG.*, got nothing from the decoder"):
        dicom.read_slice(path)


def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that does not answer in its time is ended, and the error states the time."""
    monkeypatch.setattr(_pixels, "SECONDS", 0.001)
    path = transcoded(smooth(tmp_path / "a"), tmp_path / "b.dcm", TRANSCODED["JPEG-LS"])
    with pytest.raises(ValueError, match=r"got nothing from the decoder, which failed or took more than 0\.001 s"):
        dicom.read_slice(path)


def test_one_decoder_serves_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of a compressed series are decoded by one process, in their order."""
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a) or start(*a, **k))
    (tmp_path / "b").mkdir()
    for path in write(tmp_path / "a"):
        transcoded(path, tmp_path / "b" / path.name, TRANSCODED["JPEG-LS"])
    np.testing.assert_array_equal(dicom.read_series(tmp_path / "b").hu, images())
    assert len(started) == 1


def test_a_series_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that claim more memory than the machine has are refused before it is taken."""
    path = enhanced(tmp_path)
    monkeypatch.setattr("os.sysconf", lambda name: 20)
    with pytest.raises(ValueError, match=r"enhanced\.dcm: expected a series that fits into .* memory, got 3 images of"):
        dicom.read_series([path])
