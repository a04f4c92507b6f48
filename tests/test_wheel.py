"""The wheel alone is enough: it carries notebooks, presets, registry, weights and studies, and runs a chapter."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from noisebook import provenance

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from noisebook.cli import main; main()"]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this tree without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("noisebook-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    """The folder that the wheel would be installed into."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def call(
    unpacked: Path, folder: Path, *arguments: str, command: list[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run a command from ``folder`` with the unpacked wheel first on the path, and a cache of its own."""
    variables = {"PYTHONPATH": str(unpacked), "NOISEBOOK_CACHE": str(unpacked / "cache"), "OMP_NUM_THREADS": "1"}
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )


def test_the_wheel_carries_the_package_and_its_data_and_nothing_else(wheel):
    """Modules, notebooks, presets, registry, weights and studies are in it; links, outputs and tests are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("noisebook/") for name in archive.namelist() if name.startswith("noisebook/")}
        others = {name.split("/")[0] for name in archive.namelist()} - {"noisebook"}
    source = ROOT / "src" / "noisebook"
    wanted = {str(file.relative_to(source)) for file in source.rglob("*") if file.suffix in (".py", ".yaml")}
    patterns = ("notebooks/*.ipynb", "notebooks/presets/*.yaml", "data/registry.yaml", "data/weights/**/*.safetensors")
    for pattern in (*patterns, "data/studies/*/*.*"):
        wanted |= {str(file.relative_to(ROOT)) for file in ROOT.glob(pattern)}
    assert {"data/registry.yaml", "notebooks/linearized.ipynb", "papers/__init__.py"} <= wanted
    assert wanted - names == set()
    assert {name for name in names - wanted if not name.endswith((".typed", ".gitkeep"))} == {"commit.txt"}
    assert {name.split("-")[0] for name in others} == {"noisebook"}


def test_the_wheel_knows_that_it_is_no_clone(unpacked, tmp_path):
    """The unpacked package is the one that runs; it lists its chapters, and refuses what needs a clone."""
    shown = call(unpacked, tmp_path / "empty", "list")
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [line.split()[0] for line in shown.stdout.splitlines()] == chapters
    refused = call(unpacked, tmp_path / "empty", "book")
    assert refused.returncode == 2
    assert "needs a clone" in refused.stderr


def test_the_wheel_runs_notebooks_by_its_extra_alone(wheel):
    """What it always brings holds no papermill and no kernel; its extra ``run`` does, and book and dev ask for that."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = archive.read(name).decode()
    needs = [line.removeprefix("Requires-Dist: ") for line in told.splitlines() if line.startswith("Requires-Dist: ")]
    assert [
        need for need in needs if "extra ==" not in need and need.startswith(("ipykernel", "nb", "papermill"))
    ] == []
    assert {f"papermill>=2.6; extra == '{extra}'" for extra in ("run", "book", "dev")} <= set(needs)


def test_two_smoke_runs_from_the_wheel_give_the_same_bytes(unpacked, tmp_path):
    """The wheel computes the chapter in empty folders, every PNG, SVG and JSON the same twice, and names its commit."""
    results = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        ran = call(unpacked, folder, "run", "linearized", "--preset", "smoke", "--out", "out")
        assert ran.returncode == 0, ran.stderr
        files = [file for file in folder.rglob("*") if file.suffix in (".png", ".svg", ".json")]
        results.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    assert {"out/linearized/claims.json", "out/linearized/results.json", "out/linearized/run.json"} <= set(results[0])
    stamp = json.loads(results[0]["out/linearized/results.json"])["provenance"]
    assert stamp["commit"] == provenance.commit() == (unpacked / "noisebook" / "commit.txt").read_text().strip()
    assert results[0].keys() == results[1].keys()
    assert [name for name in results[0] if results[0][name] != results[1][name]] == []


@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name != "linearized"])  # which the test above runs
def test_every_chapter_runs_from_the_wheel(unpacked, tmp_path, chapter):
    """From an empty folder the wheel alone runs the chapter with its smoke preset, and its claims are there."""
    ran = call(unpacked, tmp_path / "empty", "run", chapter, "--preset", "smoke")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "empty" / chapter / "claims.json").is_file()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_runs_with_plain_papermill(unpacked, tmp_path, chapter):
    """Papermill itself executes the wheel's notebook in an empty folder, with the preset as its file of parameters."""
    notebooks = unpacked / "noisebook" / "notebooks"
    preset = notebooks / "presets" / f"{chapter}-smoke.yaml"
    arguments = [str(notebooks / f"{chapter}.ipynb"), "out.ipynb", "-f", str(preset), "--no-progress-bar"]
    ran = call(unpacked, tmp_path / "empty", *arguments, command=[sys.executable, "-m", "papermill"])
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "empty" / chapter / "claims.json").is_file()
