"""DICOM: every file that ships with pydicom gives HU or our error, in time.

As a program this file prints the table of outcomes.
"""

import io
import re
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest

from noisebook import dicom

ROOT = Path(pydicom.__file__).parent / "data"
FILES = [path for path in sorted(ROOT.rglob("*")) if path.is_file() and path.suffix not in (".py", ".pyc")]
SECONDS = 5.0
IMAGES = {"693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm"}


@dataclass(frozen=True)
class Outcome:
    """What came of reading: ``HU`` with its range, ``error`` with our message, or ``foreign`` with a traceback."""

    name: str
    kind: str
    text: str
    seconds: float


def outcome(path: Path) -> Outcome:
    """Read one file, or the folder, and tell what came of it; what is warned, logged or printed is foreign too."""
    start, printed = time.perf_counter(), io.StringIO()
    with warnings.catch_warnings(record=True) as told, redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("always")
        try:
            series = dicom.read_series(path if path.is_dir() else [path])
            kind, text = "HU", f"{series.hu.shape}, {series.hu.min():g} to {series.hu.max():g}"
            if series.hu.dtype != np.float32 or not np.isfinite(series.hu).all():
                kind, text = "foreign", "not finite float32"
        except ValueError as problem:
            kind, text = "error", str(problem).removeprefix(str(path))
            if not re.match(r"[^:]*: expected .*, got ", str(problem)):
                kind = "foreign"
        except Exception:
            kind, text = "foreign", traceback.format_exc()
    if told or printed.getvalue():
        kind, text = "foreign", f"{[str(w.message) for w in told]} {printed.getvalue()}"
    return Outcome(str(path.relative_to(ROOT)), kind, text, time.perf_counter() - start)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_file_gives_hu_or_our_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One file: HU, or an error of ours that names the file, with no foreign word, in less than five seconds."""
    found = outcome(path)
    assert found.kind in ("HU", "error"), found.text
    assert found.seconds < SECONDS
    assert not caplog.records
    if path.name in IMAGES:
        assert found.kind == "HU"


def test_the_shipped_files_as_one_folder_are_told_apart() -> None:
    """The folder as a whole is our error; a scan finds its CT series, and says of each other file why it is none."""
    found = outcome(ROOT)
    assert found.kind == "error", found.text
    contents = dicom.scan(ROOT)
    counted = sum(len(s.files) for s in contents.series) + sum(contents.skipped.values()) + len(contents.damaged)
    everything = [path for path in ROOT.rglob("*") if path.is_file()]
    assert counted == len(everything)
    assert contents.skipped["DICOMDIR"] >= 5
    assert contents.skipped["localizer"] == 2


def test_a_dicomdir_is_called_so() -> None:
    """A DICOMDIR that is given by name is refused as what it is."""
    with pytest.raises(ValueError, match=r"DICOMDIR: expected a CT image, got DICOMDIR\. Leave this file out"):
        dicom.read_slice(ROOT / "test_files" / "dicomdirtests" / "DICOMDIR")


def test_no_outcome_tells_a_patient() -> None:
    """No message about a shipped file holds a name, id, birth date, institution or UID of its header."""
    keywords = ("PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "StudyInstanceUID")
    searched = 0
    for path in FILES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ds = pydicom.dcmread(path, stop_before_pixels=True)
            except (pydicom.errors.InvalidDicomError, AttributeError):
                continue
            secrets = [str(ds.get(keyword) or "") for keyword in (*keywords, "SeriesInstanceUID", "SOPInstanceUID")]
        searched += 1
        text = outcome(path).text
        assert not [secret for secret in secrets if len(secret) > 4 and secret in text]
    assert searched > 150


if __name__ == "__main__":
    rows = [outcome(path) for path in (*FILES, ROOT)]
    for row in rows:
        print(f"{row.name}  {row.kind}  {row.text.splitlines()[0][:100]}  {row.seconds:.2f} s")
    slowest = max(rows, key=lambda row: row.seconds)
    print(dict(Counter(row.kind for row in rows)), f"slowest: {slowest.name}, {slowest.seconds:.2f} s")
    print(f"as one folder, scanned: {len(dicom.scan(ROOT).series)} CT series; skipped: {dicom.scan(ROOT)}")
