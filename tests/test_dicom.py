"""DICOM: what is written is read back, order and units come from the header, and faults are named."""

import contextlib
import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from noisebook import dicom

SPACING = (2.5, 0.7, 0.8)
POSITIONS = (-3.0, -0.5, 2.0)


def images(seed: int = 0, shape: tuple[int, ...] = (3, 6, 9)) -> np.ndarray:
    """Whole HU from air to bone, ``(Z, Y, X)``."""
    return np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.float32)


def write(folder: Path, hu: np.ndarray | None = None, **changes: object) -> list[Path]:
    """A series of three slices of 6 x 9 pixels."""
    arguments = {"patient": "SIM001", "description": "Low Dose Images (simulated)"} | changes
    return dicom.write_series(folder, images() if hu is None else hu, SPACING, POSITIONS, **arguments)


def edited(path: Path, **elements: object) -> Path:
    """The file with header elements replaced (None deletes), however invalid."""
    ds = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Whole HU, spacing, positions, description and window survive writing and reading exactly."""
    hu = images()
    write(tmp_path / "a", hu)
    series = dicom.read_series(tmp_path / "a")
    np.testing.assert_array_equal(series.hu, hu)
    assert series.hu.dtype == np.float32
    assert series.spacing_mm == SPACING
    np.testing.assert_allclose(series.positions_mm, POSITIONS, rtol=1e-12)
    assert (series.description, series.window) == ("Low Dose Images (simulated)", (40, 400))


def test_written_values_are_rounded_and_clipped(tmp_path: Path) -> None:
    """Fractions are rounded to the nearest HU; values beyond 16 bits are clipped to -1024 and 64511 HU."""
    hu = np.full((3, 2, 2), [10.4, 10.6], np.float32)
    hu[0, 0] = -5000, 1e6
    series = dicom.read_series(write(tmp_path / "a", hu))
    np.testing.assert_array_equal(series.hu[0], [[-1024, 64511], [10, 11]])


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    """Two writings are byte-identical, and another patient, description or entropy changes the series UID."""
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    variants = ({}, {"patient": "SIM002"}, {"description": "Full Dose Images"}, {"entropy": "other"})
    for k, change in enumerate(variants):
        write(tmp_path / "c" / str(k), **change)
    assert len(dicom.scan(tmp_path / "c").series) == len(variants)


def test_written_files_conform(tmp_path: Path) -> None:
    """CT Image Storage, explicit little endian, 16 bits, HU + 1024, unique instances, marked as simulated, no date."""
    paths = write(tmp_path / "a")
    assert [p.name for p in paths] == ["1-001.dcm", "1-002.dcm", "1-003.dcm"]
    headers = [pydicom.dcmread(p) for p in paths]
    assert len({ds.SOPInstanceUID for ds in headers}) == 3
    assert len({(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID) for ds in headers}) == 1
    ds = headers[0]
    assert ds.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
    assert (ds.BitsAllocated, ds.RescaleSlope, ds.RescaleIntercept) == (16, 1, -1024)
    assert ds.ImageType[0] == "DERIVED"
    assert "Simulated" in ds.ImageComments
    assert not [e for e in ds if e.VR in ("DA", "TM", "DT") and e.value]
    np.testing.assert_array_equal(ds.pixel_array, images()[0] + 1024)


def test_slices_are_sorted_by_position_not_by_name(tmp_path: Path) -> None:
    """A shuffled and renamed series is read in the order of its positions."""
    paths = write(tmp_path / "a")
    renamed = [p.rename(p.with_name(name)) for p, name in zip(paths, ("z.dcm", "a.dcm", "m.dcm"), strict=True)]
    for order in (renamed, renamed[::-1]):
        series = dicom.read_series(order)
        np.testing.assert_array_equal(series.hu, images())
        assert (np.diff(series.positions_mm) > 0).all()


def test_position_is_measured_along_the_slice_normal(tmp_path: Path) -> None:
    """Of sagittal slices the position is the patient's x, whatever their y and z."""
    paths = write(tmp_path / "a")
    for k, path in enumerate(paths):
        edited(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[3.0 * k, 7, 8])
    series = dicom.read_series(paths)
    np.testing.assert_allclose(series.positions_mm, [-6, -3, 0])
    np.testing.assert_array_equal(series.hu, images()[::-1])
    assert series.spacing_mm[0] == pytest.approx(3.0)


def test_spacing_between_slices_is_the_median_of_the_positions(tmp_path: Path) -> None:
    """The z spacing comes from the positions, not from SliceThickness; of one slice it is what the header states."""
    paths = [edited(p, SliceThickness=5) for p in write(tmp_path / "a")]
    assert dicom.read_series(paths).spacing_mm[0] == 2.5
    assert dicom.read_slice(paths[0]).spacing_mm[0] == 5
    assert dicom.read_slice(edited(paths[0], SpacingBetweenSlices=4)).spacing_mm[0] == 4
    assert np.isnan(dicom.read_slice(edited(paths[1], SliceThickness=None)).spacing_mm[0])


def test_uneven_spacing_is_warned_of_with_its_numbers(tmp_path: Path) -> None:
    """A series with a missing slice is read, with a warning that states the distances."""
    folder = tmp_path / "a"
    dicom.write_series(folder, images(shape=(4, 3, 3)), (2, 1, 1), [0, 2, 4, 8], patient="SIM001", description="")
    with pytest.warns(UserWarning, match=r"unevenly spaced: 2\.00 to 4\.00 mm, median 2\.00 mm"):
        assert dicom.read_series(folder).spacing_mm[0] == 2


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2.5, -1000), (-1, 100), (0.1, 3.7)])
def test_any_slope_and_intercept_are_applied(tmp_path: Path, slope: float, intercept: float) -> None:
    """HU are slope times stored value plus intercept, for any slope but zero."""
    path = write(tmp_path / "a", np.arange(300, dtype=np.float32).reshape(3, 10, 10) - 1024)[1]
    edited(path, RescaleSlope=slope, RescaleIntercept=intercept)
    expected = slope * np.arange(100, 200).reshape(10, 10) + intercept
    np.testing.assert_allclose(dicom.read_slice(path).hu[0], expected, rtol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_declared_padding_becomes_air(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    """Declared padding and a padding range become -1024 HU, whatever the syntax; their neighbours stay."""
    path = write(tmp_path / "a", np.tile(np.float32([-1000, 0, 40, 41, 42]), (3, 1, 1)))[0]
    ds = pydicom.dcmread(path)
    ds.add_new("PixelPaddingValue", "US", 40 + 1024)
    ds.save_as(path)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0, 0], [-1000, 0, dicom.PADDING_HU, 41, 42])
    ds.add_new("PixelPaddingRangeLimit", "US", 41 + 1024)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0, 0], [-1000, 0, dicom.PADDING_HU, dicom.PADDING_HU, 42])


def test_values_below_all_matter_become_air(tmp_path: Path) -> None:
    """Values below -1500 HU are padding that was not declared; the noise of air below -1024 HU is kept."""
    path = write(tmp_path / "a", np.tile(np.float32([-1000, -600, -400, 40]), (3, 1, 1)))[0]
    edited(path, RescaleIntercept=-2024)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0, 0], [dicom.PADDING_HU, dicom.PADDING_HU, -1400, -960])


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_every_lossless_syntax_gives_the_same_hu(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    """A compressed, implicit or deflated file gives the same HU as the plain one."""
    path = write(tmp_path / "a")[0]
    plain = dicom.read_slice(path).hu
    ds = pydicom.dcmread(path)
    if syntax == RLELossless:
        ds.compress(syntax)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(dicom.read_slice(path).hu, plain)


def test_the_shipped_example_is_a_head(tmp_path: Path) -> None:
    """The slice that ships with pydicom is read as HU: brain near 30, air near -1000, bone above 1000, no void."""
    series = dicom.read_slice(dicom.shipped_example())
    assert series.hu.shape == (1, 512, 512)
    assert series.spacing_mm[1:] == (0.431, 0.431)
    assert 10 < np.median(series.hu[0, 230:290, 230:290]) < 50
    assert series.hu.max() > 1000
    assert series.hu.min() > -1100
    digest = hashlib.sha256(dicom.shipped_example().read_bytes()).hexdigest()
    assert digest == "2df92c523d36639e4d88f892f47e4f6616c48ab017a445a6241ffe38b2d07bbf"


def test_a_missing_example_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pydicom was installed without its test files, the error says so."""
    monkeypatch.setattr(pydicom, "__file__", "/nowhere/pydicom/__init__.py")
    with pytest.raises(ValueError, match=r"expected J2K_pixelrep_mismatch\.dcm in the pydicom package"):
        dicom.shipped_example()


def test_scan_tells_series_apart_and_counts_the_rest(tmp_path: Path) -> None:
    """Two series in one folder are listed with all their files; everything else is counted with its reason."""
    write(tmp_path / "a", description="Full Dose Images")
    for path in write(tmp_path / "b", description="Low Dose Images"):
        path.rename(tmp_path / "a" / f"low-{path.name}")
    edited(tmp_path / "a" / "low-1-003.dcm", Modality="MR", SeriesInstanceUID="1.2.3", SeriesDescription="T1")
    others = {
        "localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "Secondary Capture Image Storage": {"SOPClassUID": pydicom.uid.SecondaryCaptureImageStorage},
        "DICOMDIR": {"SOPClassUID": pydicom.uid.MediaStorageDirectoryStorage},
        "an unknown object": {"SOPClassUID": "1.2.826.0.1.3680043.10.999"},
        "modality absent or unknown": {"Modality": "Jane Doe", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
    }
    for k, elements in enumerate(others.values()):
        edited(write(tmp_path / f"other {k}")[0], **elements)
        for path in sorted((tmp_path / f"other {k}").glob("*.dcm"))[1:]:
            path.unlink()
    (tmp_path / "a" / "LICENSE").write_text("text")
    for length in (0, 100, 300, 500):
        (tmp_path / f"cut-{length}.dcm").write_bytes((tmp_path / "a" / "1-001.dcm").read_bytes()[:length])
    found = dicom.scan(tmp_path)
    listed = [(s.description, s.images, len(s.files)) for s in found.series]
    assert listed == [("Full Dose Images", 3, 3), ("Low Dose Images", 2, 2)]
    assert found.skipped == dict.fromkeys(others, 1) | {"modality MR": 1, "not DICOM": 1}
    assert "1 localizer" in str(found)
    assert [type(problem) for problem in found.damaged] == [ValueError] * 4
    with pytest.raises(ValueError, match=r"cut-0\.dcm: expected a DICOM file \(DICM at byte 128\), got 0 bytes"):
        dicom.read_series(tmp_path)


def test_one_of_several_series_is_chosen_by_its_number(tmp_path: Path) -> None:
    """Without a choice the series are listed; the number gives the series, and the count of what was left out."""
    write(tmp_path / "a", description="Full Dose Images")
    write(tmp_path / "b", images() - 5, description="Low Dose Images")
    listed = r"1: 'Full Dose Images', 3 of 6 x 9 pixels, in .*1-001\.dcm; 2: 'Low Dose Images', 3 of 6 x 9"
    with pytest.raises(ValueError, match=rf"expected the files of one series, got 2 series\. Choose one .*{listed}"):
        dicom.read_series(tmp_path)
    with pytest.raises(ValueError, match=rf"got series=3\. .*{listed}"):
        dicom.read_series(tmp_path, series=3)
    second = dicom.read_series(tmp_path, series=2)
    np.testing.assert_array_equal(second.hu, np.maximum(images() - 5, -1024))
    assert second.skipped == {"of another series": 3}


def test_a_folder_without_ct_images_says_what_it_holds(tmp_path: Path) -> None:
    """Where only a localizer and another modality lie, the error counts them."""
    first, second, third = write(tmp_path)
    edited(first, Modality="MR")
    for path in (second, third):
        edited(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(ValueError, match="expected CT images, got 2 localizer, 1 modality MR"):
        dicom.read_series(tmp_path)
    with pytest.raises(ValueError, match=r"1-002\.dcm: expected a CT image, got localizer\. Leave this file out"):
        dicom.read_slice(second)


FAULTS = {
    "wrong modality": ({"Modality": "MR"}, "expected modality CT, got MR"),
    "unreadable modality": ({"Modality": "Jane Doe"}, "expected modality CT, got none, or not a modality. It is cut"),
    "no slope": ({"RescaleSlope": None}, "expected RescaleSlope of 1 finite number, got none"),
    "empty slope": ({"RescaleSlope": ""}, "expected RescaleSlope of 1 finite number, got none"),
    "zero slope": ({"RescaleSlope": 0}, "expected RescaleSlope other than zero, got 0"),
    "no intercept": ({"RescaleIntercept": None}, "expected RescaleIntercept of 1 finite number, got none"),
    "no position": ({"ImagePositionPatient": None}, "expected ImagePositionPatient of 3 finite numbers, got none"),
    "no spacing": ({"PixelSpacing": None}, "expected PixelSpacing of 2 finite numbers, got none"),
    "zero spacing": ({"PixelSpacing": [0, 1]}, "expected PixelSpacing above zero"),
    "degenerate": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two orthogonal unit vectors"),
    "no pixels": ({"PixelData": None}, "expected 108 bytes of pixel data or more, got 0"),
    "short pixels": ({"PixelData": b"12"}, "expected 108 bytes of pixel data or more, got 2"),
    "no image": ({"Rows": None}, r"expected an image \(Rows, Columns\), got a header without"),
    "frames": ({"NumberOfFrames": 2}, "expected one functional group .* a frame, got 0 groups for 2 frames"),
    "colour": ({"SamplesPerPixel": 3}, "expected one sample a pixel, MONOCHROME1 or MONOCHROME2, got 3 samples"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "got 1 samples, PALETTE COLOR"),
    "wrong unit": ({"RescaleType": "Z_EFF"}, "expected RescaleType HU, or none, got another unit"),
    "overflow": ({"RescaleSlope": "1e300"}, r"expected finite HU, got values that are not, with slope 1e\+300"),
    "NaN": ({"RescaleSlope": "nan"}, "expected RescaleSlope of 1 finite number, got nan"),
    "too far": (
        {"ImagePositionPatient": [0, 0, "1e300"]},
        "expected ImagePositionPatient below 1e\\+06 mm, got 1e\\+300",
    ),
    "too long": ({"ImageOrientationPatient": ["1e200", 0, 0, 0, "1e200", 0]}, "expected ImageOrientationPatient below"),
    "too large": ({"Rows": 5000}, "expected at most 4096 rows and columns, got 5000 x 9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_header_faults_are_errors_that_name_the_file(tmp_path: Path, fault: str) -> None:
    """Each header fault raises ValueError with the file, what was expected and what was found."""
    elements, text = FAULTS[fault]
    path = edited(write(tmp_path / "a")[1], **elements)
    with pytest.raises(ValueError, match=rf"1-002\.dcm: .*{text}"):
        dicom.read_slice(path)


def test_an_undecodable_syntax_is_named(tmp_path: Path) -> None:
    """A transfer syntax without a decoder raises our error with the syntax's name, no foreign one."""
    path = write(tmp_path / "a")[0]
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    ds["PixelData"].VR = "OB"
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"1-001\.dcm: expected decodable pixels \(MPEG2 Main") as caught:
        dicom.read_slice(path)
    assert caught.value.__context__ is None


def test_what_is_not_there_or_not_dicom_is_named(tmp_path: Path) -> None:
    """Missing paths, folders for files, files for folders, empty folders, empty lists and foreign files are errors."""
    text = tmp_path / "note.txt"
    text.write_text("not DICOM")
    for path, expected in (
        (tmp_path / "gone", "expected a folder, got nothing there"),
        (text, r"note\.txt: expected a folder, got a file"),
        (tmp_path, "expected DICOM files, got a folder without any"),
        ([tmp_path / "gone.dcm"], r"gone\.dcm: expected a DICOM file, got nothing there"),
        ([tmp_path], "expected a DICOM file, got a folder"),
        ([text], r"note\.txt: expected a DICOM file \(DICM at byte 128\), got 9 bytes without it"),
        ([], "files: expected at least one file, got none"),
    ):
        with pytest.raises(ValueError, match=expected):
            dicom.read_series(path)
    with pytest.raises(ValueError, match="expected a folder, got nothing there"):
        dicom.scan(tmp_path / "gone")


@pytest.mark.parametrize("share", [0.0, 0.03, 0.2, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    """A plain or a compressed file cut anywhere before its last pixel raises our error."""
    for k, source in enumerate((write(tmp_path / "a")[0], dicom.shipped_example())):
        data = source.read_bytes()
        path = tmp_path / f"cut-{k}.dcm"
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=rf"cut-{k}\.dcm: expected"):
            dicom.read_slice(path)


def test_damaged_files_give_hu_or_our_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under 200 random changes of bytes a file gives finite HU or our error; nothing is warned, logged or printed."""
    rng = np.random.default_rng(1)
    data, path = write(tmp_path / "a")[0].read_bytes(), tmp_path / "damaged.dcm"
    hu, errors = [], []
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(io.StringIO()) as printed:
        warnings.simplefilter("always")
        for _ in range(200):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                hu.append(dicom.read_slice(path).hu)
            except ValueError as problem:
                errors.append(str(problem))
    assert min(len(hu), len(errors)) > 10
    assert all(np.isfinite(image).all() for image in hu)
    assert all(text.startswith(f"{path}: expected") for text in errors)
    assert not caught
    assert not printed.getvalue()
    assert not caplog.records


MIXTURES = {
    "sizes": ({"Rows": 3, "Columns": 18}, r"expected Rows \(6\.0,\) as in 1-001\.dcm, got \(3\.0,\)"),
    "spacing": ({"PixelSpacing": [1, 1]}, r"expected PixelSpacing \(0\.7, 0\.8\) as in 1-001\.dcm"),
    "orientation": ({"ImageOrientationPatient": [1, 0, 0, 0, 0.96, -0.28]}, "expected ImageOrientationPatient"),
    "series": ({"SeriesInstanceUID": "1.2.3"}, "expected the files of one series, got 2 series"),
    "copies": ({"ImagePositionPatient": [0, 0, -3]}, "expected a slice position of its own, got -3 mm"),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixed_series_are_refused(tmp_path: Path, mixture: str) -> None:
    """Slices that differ in size, spacing, orientation or series, or share a position, are errors."""
    elements, text = MIXTURES[mixture]
    edited(write(tmp_path / "a")[1], **elements)
    with pytest.raises(ValueError, match=text):
        dicom.read_series(tmp_path / "a")


def test_writing_refuses_bad_input(tmp_path: Path) -> None:
    """NaN, a wrong rank, wrong lengths, zero spacing and a folder with files in it are refused, nothing written."""
    call = {"patient": "SIM001", "description": ""}
    hu = images()
    for bad, spacing, positions, text in (
        (hu * np.nan, SPACING, POSITIONS, "hu: expected finite values"),
        (hu[0], SPACING, POSITIONS, r"hu: expected 3 axes \(Z, Y, X\)"),
        (hu, SPACING[:2], POSITIONS, r"spacing_mm: expected shape \(3,\)"),
        (hu, (1, 0, 1), POSITIONS, "spacing_mm: expected a number above zero"),
        (hu, SPACING, POSITIONS[:2], r"positions_mm: expected shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            dicom.write_series(tmp_path / "a", bad, spacing, positions, **call)
    assert not (tmp_path / "a").exists()
    write(tmp_path / "a")
    with pytest.raises(ValueError, match="expected an empty folder, got files in it"):
        write(tmp_path / "a")
