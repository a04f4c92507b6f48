"""A chapter that ran on images of an identified patient tells nothing of the patient, whatever is searched."""

import base64
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_dicom import edited

from noisebook import datasets, simulated

IDENTITY = {
    "PatientName": "Whitcombe^Ottoline",
    "PatientID": "QX-7719-33",
    "PatientBirthDate": "19480229",
    "OtherPatientIDs": "ZK-40404",
    "InstitutionName": "Saint Ursula Infirmary",
    "InstitutionAddress": "7 Quagga Lane",
    "ReferringPhysicianName": "Brackenbury^Thaddeus",
    "OperatorsName": "Lillywhite",
    "AccessionNumber": "ACC559021",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.222",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.444",
}
FOLDER = "PX90210"  # how the archive's owner named the patient
SECRETS = [part for value in IDENTITY.values() for part in value.split("^")] + ["1.2.826.0.1.3680043.8.498.333", FOLDER]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated scan of the preset smoke, in the layout of the TCIA collection, its headers full of a patient."""
    root = tmp_path_factory.mktemp("archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISEBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = simulated.embedded_ct(simulated.SMOKE, progress=False) / datasets.ARCHIVE
    shutil.move(next(made.iterdir()), root / datasets.ARCHIVE / FOLDER)
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        own = {key: f"{IDENTITY[key]}{number}" for key in ("SeriesInstanceUID",)}
        edited(path, **IDENTITY | own, SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.333{number}")
    return root


def call(*arguments: str, status: int = 0) -> str:
    """What the command prints, after ending with ``status``."""
    source = str(Path(datasets.__file__).parents[1])
    command = [sys.executable, "-c", "from noisebook.cli import main; main()", *arguments]
    env = os.environ | {"PYTHONPATH": source}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def page(folder: Path, notebook: Path) -> str:
    """The notebook as a page of HTML, by the book's own renderer; it is written below ``folder``."""
    options = {"extensions": "myst_nb", "nb_execution_mode": "off", "root_doc": notebook.stem}
    given = [word for name, value in options.items() for word in ("-D", f"{name}={value}")]
    target = folder / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-C", "-b", "html", *given, str(notebook.parent), str(target)]
    subprocess.run([*command, str(notebook)], check=True, capture_output=True)
    return (target / f"{notebook.stem}.html").read_text(encoding="utf-8")


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that can be read in a folder: files, what is packed in npz, notebooks' pictures, pictures' texts."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield str(path), path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{path}/{name}", packed.read(name)) for name in packed.namelist())
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                yield f"{path}, texts", repr(picture.info).encode()
        elif path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            outputs = [output for cell in cells for output in cell.get("outputs", [])]
            pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
            yield from ((f"{path}, picture", base64.b64decode("".join(picture))) for picture in pictures)


def leaks(name: str, content: bytes) -> list[str]:
    """The secrets in a text, as UTF-8 or UTF-16, in any case."""
    lowered = content.lower()
    coded = {secret: (secret.lower().encode(), secret.lower().encode("utf-16-le")) for secret in SECRETS}
    return [f"{secret} in {name}" for secret, forms in coded.items() if any(form in lowered for form in forms)]


def found(folder: Path) -> list[str]:
    """The secrets in everything that a folder holds."""
    return [leak for name, content in texts(folder) for leak in leaks(name, content)]


def test_a_run_on_an_identified_patient_tells_nothing(archive: Path, tmp_path: Path) -> None:
    """After a whole smoke run neither notebook, figures, numbers, logs, HTML nor the terminal hold the patient."""
    out = tmp_path / "out"
    told = call("run", "linearized", "--preset", "smoke", "-p", f"data_root={archive}", "--out", str(out))
    assert leaks("terminal", told.encode()) == []
    html = page(out, out / "linearized.ipynb")
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert suffixes >= {".ipynb", ".png", ".svg", ".npz", ".json", ".log", ".html"}
    assert "1 test patients, 1 slices" in html
    assert found(out) == []


def test_a_run_that_fails_on_an_identified_patient_tells_no_header(archive: Path, tmp_path: Path) -> None:
    """The error about a file that is cut short names its path, which is the user's own, and nothing of its header."""
    broken, out = tmp_path / "broken", tmp_path / "out"
    shutil.copytree(archive, broken)
    path = next(broken.rglob("*Low Dose*/*.dcm"))
    path.write_bytes(path.read_bytes()[:-100])
    told = call("run", "linearized", "--preset", "smoke", "-p", f"data_root={broken}", "--out", str(out), status=1)
    assert "the file is cut short" in told
    (out / "told.txt").write_text(told.replace(FOLDER, ""))
    assert (out / "linearized.failed.ipynb").is_file()
    assert [leak for leak in found(out) if FOLDER not in leak] == []


def test_the_check_of_data_tells_no_header(archive: Path) -> None:
    """What `noisebook data check` prints names folders, which are the user's own, and nothing of a header."""
    told = call("data", "check", str(archive))
    assert leaks("terminal", told.replace(FOLDER, "").encode()) == []


def test_the_search_finds_what_is_hidden(archive: Path) -> None:
    """The same search finds every secret in the images themselves, so that it would have found a leak."""
    assert {leak.split(" in ")[0] for leak in found(archive)} == set(SECRETS) - {FOLDER}
