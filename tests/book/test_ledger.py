"""The ledger, the status page and the provenance of figures are made from the results."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import chapter_pages
import pytest
import tiny
from ledger import Ledger
from PIL import Image
from status import Status
from tiny_notebook import DAMAGES, damage

from noisebook import _registry, claims, studies

TITLES = {"linearized": "A title"}


def _moved(results: Path, folder: Path, **changes: object) -> Path:
    """A copy of the tiny chapter's results in which its first claim was changed."""
    (folder / "linearized").mkdir(parents=True)
    for name in ("linearized.ipynb", "linearized/results.json", "linearized/run.json", "linearized/run.log"):
        (folder / name).write_bytes((results / name).read_bytes())
    first, second = claims.read(results / "linearized" / "claims.json")
    claims.write([replace(first, **changes), second], folder / "linearized" / "claims.json")
    return folder


def test_every_claim_leads_to_the_cell_that_measured_it(results: Path) -> None:
    """A claim that a cell names in its metadata leads there, any other to the cell that computes the verdicts."""
    table = Ledger(results, ["linearized"], TITLES).tables()
    assert "| {ref}`T1 <linearized-cell-4>` | [holds]{.verdict .verdict-holds} |" in table
    assert "| {ref}`T2 <linearized-cell-2>` | [not tested]{.verdict .verdict-not-tested} (needs the archive) |" in table
    assert "| the **sum** is two *(section 1)* | no number | 2 | 1.9 to 2.1 |" in table


def test_totals_count_every_claim_once(results: Path) -> None:
    """Totals by chapter and over all agree with the claims."""
    ledger = Ledger(results, ["linearized"], TITLES)
    assert "| {ref}`A title <claims-linearized>` | 2 | 1 | 0 | 0 | 1 |" in ledger.totals_by_chapter()
    assert "| **all** | **2** | **1** | **0** | **0** | **1** |" in ledger.totals_by_chapter()


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("part", ["{}.ipynb", "{}/claims.json"])
def test_the_ledger_tells_a_damaged_input_in_one_line(results: Path, tmp_path: Path, part: str, kind: str) -> None:
    """Claims or a notebook that are missing, cut, of wrong types or no UTF-8 are named with the remedy."""
    file = _moved(results, tmp_path / "moved") / part.format("linearized")
    damage(file, kind)
    told = rf"^{re.escape(str(file))}: expected [^\n]*, got [^\n]*\. (R|Remove [^\n]* and r)un: make book$"
    with pytest.raises(ValueError, match=told):
        Ledger(tmp_path / "moved", ["linearized"], TITLES).tables()


def test_the_status_tells_time_memory_versions_and_device(results: Path) -> None:
    """Run time and memory are those of the run's log; versions those of its stamp."""
    status = Status(results, ["linearized"], TITLES)
    seconds = re.match(r"seconds: (\d+)", (results / "linearized" / "run.log").read_text())
    row = status.runs().splitlines()[-1]
    assert seconds
    assert re.search(r"\| \d+ s \| 0\.\d\d GB \| book \| cpu \|", row)
    assert f"| {round(float(seconds[1]))}" in row or f"| {int(seconds[1]) + 1} s" in row
    stamp = json.loads((results / "linearized" / "results.json").read_text())["provenance"]
    assert f"| torch | {stamp['packages']['torch']} |" in status.versions()
    assert f"| Python | {stamp['python']} |" in status.versions()


def test_every_figure_has_its_provenance(results: Path) -> None:
    """Under a figure stand commit, preset, seed, device, data and weights, escaped, and a link to its cell."""
    files = chapter_pages.chapter_files(results, "linearized")
    cells = json.loads(files["notebooks/linearized.ipynb"])["cells"]
    texts = [output["data"]["text/html"] for output in cells[4]["outputs"] if "text/html" in output.get("data", {})]
    commit = json.loads((results / "linearized" / "results.json").read_text())["provenance"]["commit"]
    assert cells[4]["metadata"]["anchor"] == "linearized-cell-4"
    (text,) = texts
    assert ' · <a href="#linearized-cell-4">code</a>' in text
    network = f"linearized-quarter (sha256 <code>{_registry.entries()['linearized-quarter']['sha256'][:12]}</code>)"
    said = f"commit <code>{commit}</code>; preset book; seed 3; cpu; data: of &lt;my&gt; own; weights: {network}<"
    assert said in text
    assert "notebooks/linearized/figures/line.png" in files  # the picture that the prose shows


RUN = {"commit": "c", "seed": 3, "device": "cpu", "data": "a slice", "weights": "linearized-quarter"}


def _manifest(made_of: dict[str, list[str]], **run: str) -> dict[str, object]:
    """The manifest of a run whose figures were made of this."""
    figures = {name: {"cell": "x", "made_of": names} for name, names in made_of.items()}
    return {"preset": "book", "provenance": RUN | run, "figures": figures}


def test_the_provenance_of_a_figure_is_its_own() -> None:
    """A precomputed figure names its study, seeds, networks and hash; one of data alone no network."""
    manifest = _manifest({"sweep": ["study i0"], "slice": []})
    record = studies.load("linearized", "i0")[1]
    line = chapter_pages.provenance(manifest, "linearized", "sweep")
    assert f"precomputed study <code>i0</code>, sha256 <code>{record['sha256'][:12]}</code> · seed 1" in line
    assert "weights linearized-i0 (sha256" in line
    assert "seed 3" not in line
    assert "linearized-quarter" not in line
    alone = chapter_pages.provenance(manifest, "linearized", "slice")
    assert alone.endswith("seed 3; cpu; data: a slice; weights: none</details>")


def test_what_a_figure_was_made_of_has_to_exist() -> None:
    """A figure of unknown making, an unknown study or network stops the build; a trained one is told as such."""
    manifest = _manifest({"a": ["study nothing"], "b": ["gap-4d"], "c": ["gap-2d"]}, weights="gap-2d")
    for figure, message in {"other": "expected made_of of the figure other", "a": "nothing", "b": "gap-3d"}.items():
        with pytest.raises(ValueError, match=message):
            chapter_pages.provenance(manifest, "gap", figure)
    trained = _manifest({"c": ["gap-2d"]}, weights="train: gap")
    assert "weights: gap-2d (trained in that run)" in chapter_pages.provenance(trained, "gap", "c")


def test_the_executed_notebook_itself_is_left_alone(results: Path) -> None:
    """The build changes only what it stages: the executed notebook keeps its bytes, and so two runs stay equal."""
    before = (results / "linearized.ipynb").read_bytes()
    first, second = (chapter_pages.chapter_files(results, "linearized") for _ in range(2))
    assert first == second
    assert (results / "linearized.ipynb").read_bytes() == before


def test_the_first_page_shows_a_picture_a_chapter(build: ModuleType, results: Path) -> None:
    """Each chapter with a picture has it on the first page, small, and cut from its own figure alone."""
    files = build.contents(tiny.ROOT, results)
    intro = files["book/intro.md"].decode()
    pictures = re.findall(r"\(images/(\w+)\.png\)", intro)
    assert len(pictures) >= 4
    for name in pictures:
        picture = Image.open(io.BytesIO(files[f"book/images/{name}.png"]))
        assert picture.width == chapter_pages.WIDTH
        assert len(files[f"book/images/{name}.png"]) < 200_000
        assert f":link: ../notebooks/{name}\n" in intro


def test_a_picture_that_no_chapter_drew_is_refused(
    build: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first page that asks for a figure that is not there is refused, and told where to mend it."""
    wrong = {"linearized": {"figure": "absent", "part": [0, 0, 1, 1], "alt": ""}}
    monkeypatch.setattr(build.Inserts, "shown", lambda self: wrong)
    with pytest.raises(ValueError, match=r"picture of linearized: .* got absent. Mend book/chapters.yml"):
        build.contents(tiny.ROOT, results)
