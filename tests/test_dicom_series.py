"""DICOM series: what forbids a volume is told with its numbers, and nothing that identifies a patient comes out."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from test_dicom import edited, images, write

from noisebook import dicom

IDENTITY = {
    "PatientName": "Whitcombe^Ottoline",
    "PatientID": "QX-7719-33",
    "PatientBirthDate": "19480229",
    "InstitutionName": "Saint Ursula Infirmary",
    "ReferringPhysicianName": "Brackenbury^Theophila",
    "AccessionNumber": "ACC559021",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.222",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.333",
}


def test_a_tilted_gantry_is_warned_of_with_its_angle(tmp_path: Path) -> None:
    """Slices tilted by 20 degrees along an untilted table are read with a warning, and are no volume."""
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    for path in write(tmp_path):
        edited(path, ImageOrientationPatient=[1, 0, 0, 0, round(cos, 6), round(-sin, 6)])
    with pytest.warns(UserWarning, match=r"the stack leans by 20\.0 degrees \(gantry tilt.*: not a volume"):
        series = dicom.read_series(tmp_path)
    assert series.spacing_mm[0] == pytest.approx(2.5 * cos, abs=1e-4)
    with pytest.raises(ValueError, match=r"expected a volume: .*, got the stack leans by 20\.0 degrees.*Resampl"):
        dicom.read_volume(tmp_path)


def test_a_tilt_that_only_the_header_states_counts(tmp_path: Path) -> None:
    """GantryDetectorTilt is believed even where the positions show none; of a single slice it does not matter."""
    paths = [edited(path, GantryDetectorTilt=-12.5) for path in write(tmp_path)]
    with pytest.warns(UserWarning, match=r"leans by 0\.0 degrees \(gantry tilt; the header states 12\.5\)"):
        dicom.read_series(paths)
    assert dicom.read_slice(paths[0]).faults == ()


def test_a_volume_is_even_and_has_slices(tmp_path: Path) -> None:
    """An even series is a volume, equal to the series; a single slice and uneven spacing are refused."""
    paths = write(tmp_path / "a")
    np.testing.assert_array_equal(dicom.read_volume(tmp_path / "a").hu, images())
    with pytest.raises(ValueError, match=r"expected a volume: .*, got a single slice"):
        dicom.read_volume(paths[:1])
    edited(paths[2], ImagePositionPatient=[0, 0, 7])
    with pytest.raises(ValueError, match=r"got slices are unevenly spaced: 2\.50 to 7\.50 mm, median 5\.00 mm"):
        dicom.read_volume(tmp_path / "a")


@pytest.mark.parametrize("stored", [64000, -1536])
def test_negative_padding_is_found_however_it_was_written(tmp_path: Path, stored: int) -> None:
    """In signed pixels the padding -1536 is air, also where the header holds it as the unsigned 64000."""
    path = write(tmp_path / "a", np.tile(np.float32([-1000, 0, 40]), (3, 1, 1)))[0]
    ds = pydicom.dcmread(path)
    ds.PixelRepresentation, ds.RescaleIntercept, ds.PixelData = 1, 300, np.int16([-1536, -1300, 40]).tobytes()
    ds.add_new("PixelPaddingValue", "US" if stored > 0 else "SS", stored)
    ds.save_as(path)
    np.testing.assert_array_equal(dicom.read_slice(path).hu[0, 0], [dicom.PADDING_HU, -1000, 340])


def test_nothing_that_identifies_comes_out(tmp_path: Path) -> None:
    """Neither a series nor its list nor their pickles hold a name, id, date, institution or UID of the header."""
    paths = [edited(path, **IDENTITY) for path in write(tmp_path, description="Low Dose Images")]
    series, listed = dicom.read_series(paths), dicom.scan(tmp_path)
    said = repr(series) + repr(listed) + str(listed) + str(dataclasses.asdict(series)) + str(dataclasses.asdict(listed))
    bytes_ = pickle.dumps((series, listed)) + said.encode()
    for value in IDENTITY.values():
        for part in value.split("^"):
            assert part.encode() not in bytes_
    assert series.description == "Low Dose Images"


@pytest.mark.parametrize(
    "text", ["Head of Ottoline", "qx-7719-33 axial", "19480229", "SAINT ursula", "for Brackenbury"]
)
def test_a_description_that_identifies_is_withheld(tmp_path: Path, text: str) -> None:
    """A SeriesDescription that repeats a part of the name, the id, the birth date or the institution is empty."""
    path = edited(write(tmp_path)[0], **IDENTITY, SeriesDescription=text)
    assert dicom.read_slice(path).description == ""


FAULTS = (
    *({"RescaleSlope": None}, {"RescaleSlope": 0}, {"Rows": None}, {"Modality": "Whitcombe"}, {"PixelData": b"12"}),
    *({"SOPClassUID": "1.2.826.0.1.3680043.8.498.222"}, {"PixelSpacing": [0, 1]}, {"NumberOfFrames": 3}),
    *({"PhotometricInterpretation": "Whitcombe"}, {"RescaleType": "Ottoline"}, {"ImagePositionPatient": None}),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: next(iter(fault)))
def test_no_error_tells_a_patient(tmp_path: Path, fault: dict[str, object]) -> None:
    """The errors of a header that identifies a patient everywhere do not repeat any of it."""
    path = edited(write(tmp_path)[0], **IDENTITY | {"SeriesDescription": "Whitcombe"}, **fault)
    with pytest.raises(ValueError, match=r"1-001\.dcm") as caught:
        dicom.read_slice(path)
    told = str(caught.value) + str(caught.value.__cause__)
    assert not [part for value in IDENTITY.values() for part in value.split("^") if part in told]


def test_a_size_that_is_no_number_is_our_error(tmp_path: Path) -> None:
    """Rows that a damaged header gives as NaN are an error of ours."""
    path = write(tmp_path)[0]
    ds = pydicom.dcmread(path)
    del ds.Rows
    ds.add_new("Rows", "FD", float("nan"))
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"1-001\.dcm: expected a readable DICOM header"):
        dicom.read_slice(path)


def test_a_file_that_cannot_be_opened_is_our_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without permission is an error that says so; a scan lists it among the damaged."""
    refused, *_ = write(tmp_path)
    opened = Path.open

    def guarded(self: Path, *arguments: object, **options: object) -> object:
        if self == refused:
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(
        ValueError, match=r"1-001\.dcm: expected a file that can be read, got PermissionError.*permissions"
    ):
        dicom.read_series(tmp_path)
    assert len(dicom.scan(tmp_path).damaged) == 1
