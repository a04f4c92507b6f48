"""Write simulated CT images as conforming DICOM series (PS3.3 section A.3 CT Image; PS3.10 file format)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error

INTERCEPT = -1024
"""Stored values are HU - INTERCEPT, as in the TCIA LDCT collection; slope 1."""


def write_series(
    folder: str | Path,
    hu: np.ndarray,
    spacing_mm: Sequence[float],
    positions_mm: Sequence[float] | np.ndarray,
    *,
    patient: str,
    description: str,
    series_number: int = 1,
    body_part: str = "CHEST",
    entropy: str = "noisebook",
) -> list[Path]:
    """Write simulated CT images as a conforming series: CT Image Storage, 16 bits, explicit VR little endian.

    The same arguments write the same bytes: UIDs are hashes, no clock is read, dates are empty. Stored values are
    ``round(HU) + 1024``, clipped to 0…65535 (-1024…64511 HU). The files are marked as derived and simulated. The image
    centre lies on the axis x = y = 0; files are named as in TCIA, ``1-001.dcm`` onwards.

    Args:
        folder: Made if missing; must be empty. Not atomic: rename the finished folder where that matters.
        hu: ``(Z, Y, X)``, Hounsfield units.
        spacing_mm: ``(z, y, x)``, mm; z is written as SliceThickness.
        positions_mm: ``(Z,)``, z of each slice, mm.
        patient: PatientID, such as ``SIM001``.
        description: SeriesDescription, such as ``Low Dose Images (simulated)``.
        series_number: SeriesNumber.
        body_part: BodyPartExamined, a defined term of the standard.
        entropy: Text from which all UIDs are made, with patient, description and slice number. Series of one patient
            with one ``entropy`` share the study and the frame of reference.

    Returns:
        The paths, in the order of the slices.

    Raises:
        ValueError: Wrong shapes, values that are not finite, spacing not above zero, or a folder that is not empty.
    """
    hu, positions = np.asarray(hu), np.asarray(positions_mm, float)
    check_rank("hu", hu, 3, "(Z, Y, X)")
    check_finite("hu", hu)
    check_shape("spacing_mm", np.asarray(spacing_mm), (3,))
    for value in spacing_mm:
        check_positive("spacing_mm", value)
    check_shape("positions_mm", positions, (len(hu),))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise error(str(folder), "an empty folder", "files in it", "Choose another folder, or remove this one.")
    stored = np.clip(np.rint(hu) - INTERCEPT, 0, 65535).astype("<u2")
    paths = [folder / f"1-{k:03d}.dcm" for k in range(1, len(hu) + 1)]
    for k, path in enumerate(paths):
        ds = _series_header(patient, description, series_number, body_part, entropy)
        _add_image(ds, stored[k], spacing_mm, positions[k], k + 1)
        ds.save_as(path, enforce_file_format=True)
    return paths


def _uid(*sources: str) -> UID:
    return generate_uid(entropy_srcs=["/".join(["noisebook", *sources])])


def _series_header(patient: str, description: str, series_number: int, body_part: str, entropy: str) -> FileDataset:
    """The part of the header that all images of a series share."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "NOISEBOOK"
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "StudyID": "1",
        "StudyInstanceUID": _uid(entropy, patient, "study"),
        "SeriesInstanceUID": _uid(entropy, patient, description, "series"),
        "FrameOfReferenceUID": _uid(entropy, patient, "frame"),
        "Modality": "CT",
        "Manufacturer": "noisebook",
        "SeriesDescription": description,
        "SeriesNumber": series_number,
        "PatientID": patient,
        "PatientName": patient,
        "PatientPosition": "HFS",
        "BodyPartExamined": body_part,
        "ImageComments": "Simulated by noisebook from an analytic phantom; not a patient.",
    }
    # Required to be present, allowed to be empty (type 2): nothing is known, and a clock would change the bytes.
    empty = "StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientBirthDate PatientSex KVP"
    values |= dict.fromkeys([*empty.split(), "AcquisitionNumber", "PositionReferenceIndicator"])
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _add_image(ds: FileDataset, stored: np.ndarray, spacing_mm: Sequence[float], z_mm: float, number: int) -> None:
    """Complete the header for one image ``(Y, X)`` of stored values and attach its pixels."""
    (rows, columns), (dz, dy, dx) = stored.shape, spacing_mm
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = _uid(ds.SeriesInstanceUID, str(number))
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [_decimal(-(columns - 1) / 2 * dx), _decimal(-(rows - 1) / 2 * dy), _decimal(z_mm)]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [_decimal(dy), _decimal(dx)]
    ds.SliceThickness = _decimal(dz)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.PixelData = stored.tobytes()


def _decimal(value: float) -> str:
    """A decimal string (DS) of at most 16 characters."""
    return f"{value:.10g}"
