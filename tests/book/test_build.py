"""How the book is laid out for Sphinx: what enters, what is refused, and what is left alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import chapter_pages
import inserts
import pytest
import tiny
import yaml
from tiny_notebook import DAMAGES, PARTS, damage

from noisebook import claims
from noisebook.simulated import CtRecipe, XrayRecipe

ROOT = Path(__file__).resolve().parents[2]


def _config(build: ModuleType, address: str) -> dict[str, Any]:
    config: dict[str, Any] = build.effective_config(yaml.safe_load((ROOT / "_config.yml").read_text()), address)
    return config


@pytest.fixture
def spoiled(results: Path, tmp_path: Path) -> Path:
    """A copy of the results that a test may damage."""
    return Path(shutil.copytree(results, tmp_path / "results"))


def test_no_button_without_an_address(build: ModuleType) -> None:
    """While the repository has no address, no button that would need one is asked for."""
    config = _config(build, "")
    assert config["repository"]["url"] == ""
    assert not config["html"]["use_repository_button"]
    assert not config["html"]["use_edit_page_button"]
    assert not {"binderhub_url", "colab_url"} & set(config["launch_buttons"])


def test_buttons_with_an_address(build: ModuleType) -> None:
    """With an address all buttons are asked for, on branch main and with the clone's own paths."""
    config = _config(build, "https://github.com/someone/noisebook")
    assert config["repository"] == {
        "url": "https://github.com/someone/noisebook",
        "path_to_book": "",
        "branch": "main",
    }
    assert config["html"]["use_repository_button"]
    assert config["html"]["use_edit_page_button"]
    assert config["launch_buttons"]["binderhub_url"].startswith("https://mybinder.org")
    assert config["launch_buttons"]["colab_url"].startswith("https://colab.")


def test_colab_reads_github_alone(build: ModuleType) -> None:
    """On another host the button for Colab, which reads GitHub alone, is left out."""
    assert "colab_url" not in _config(build, "https://gitlab.com/someone/noisebook")["launch_buttons"]


def test_the_stage_mirrors_the_clone(build: ModuleType, results: Path) -> None:
    """Every page of the stage that is in the clone has the clone's path, so that edit buttons are right."""
    files = build.contents(ROOT, results)
    pages = [name for name in files if name.startswith("book/") and name.endswith(".md") and "/api/" not in name]
    assert len(pages) > 10
    assert all((ROOT / name).is_file() for name in pages)
    assert "notebooks/linearized.ipynb" in files
    assert "_extra/notebooks/linearized/figures/line.csv" in files


def test_the_clock_is_not_published(build: ModuleType, results: Path) -> None:
    """What the runner writes for itself, run times among it, stays out of the book."""
    assert (results / "linearized" / "run.log").is_file()
    assert not [name for name in build.contents(ROOT, results) if name.endswith(("run.log", "run.json"))]


def test_no_marker_is_left(build: ModuleType, results: Path) -> None:
    """Every insert of every page is expanded."""
    files = build.contents(ROOT, results)
    assert not [name for name, data in files.items() if name.endswith(".md") and b"<!-- insert" in data]


def test_numbers_come_from_the_results(build: ModuleType, spoiled: Path) -> None:
    """A changed result changes the pages: totals and table of the claims, and the data card."""
    path = spoiled / "linearized" / "claims.json"
    before = build.contents(ROOT, spoiled)
    assert "**1** hold, **0** fail, **0** are undecided, **1** could not" in before["book/claims.md"].decode()
    claims.write([claims.Claim("T1", "the sum is two", "section 1", (3.0,), low=1.9, high=2.1)], path)
    manifest = spoiled / "linearized" / "run.json"
    manifest.write_text(manifest.read_text().replace("tiny data", "other data"))
    after = build.contents(ROOT, spoiled)
    assert "**0** hold, **1** fail" in after["book/claims.md"].decode()
    assert "{ref}`T1 <linearized-cell-4>`" in after["book/claims.md"].decode()
    assert "read: tiny data." in before["book/data-linearized.md"].decode()
    assert "read: other data." in after["book/data-linearized.md"].decode()


def test_the_chapters_are_listed_with_their_verdicts(build: ModuleType, results: Path) -> None:
    """The first page links every chapter of the table of contents, with its number of claims and of each verdict."""
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    rows = [
        row for row in build.contents(ROOT, results)["book/intro.md"].decode().splitlines() if row.startswith("| [")
    ]
    assert [re.search(r"notebooks/(\w+)\.ipynb", row)[1] for row in rows] == re.findall(r"notebooks/(\w+)", toc)
    assert rows[0].endswith("| 2 | 1 | 0 | 0 | 1 |")


def test_model_cards_stand_under_their_chapter(
    build: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every embedded network has its card, under its chapter's heading, in the order of the chapters."""
    networks = [SimpleNamespace(id=f"{name}-net", chapter=name) for name in ("xray", "linearized")]
    monkeypatch.setattr(inserts.weights, "embedded", lambda data: networks)
    monkeypatch.setattr(inserts.weights, "model_card", lambda id, data: f"### {id}\n")
    headings = [line for line in inserts.Inserts(ROOT, results, []).model_cards().splitlines() if line.startswith("#")]
    assert headings == [
        "## Noise through a linearized network",
        "### linearized-net",
        "## Through a bottleneck",
        "### xray-net",
    ]


def test_an_unknown_insert_is_refused(build: ModuleType, results: Path) -> None:
    """A page that asks for what nobody makes is refused, and the nearest name is given."""
    with pytest.raises(ValueError, match="Did you mean 'totals'"):
        inserts.Inserts(ROOT, results, ["linearized"]).expand("<!-- insert: totls -->")


def test_a_chapter_that_was_not_run_is_refused(build: ModuleType, tmp_path: Path) -> None:
    """Without an executed notebook there is no book, and the message says what to run."""
    with pytest.raises(ValueError, match=r"linearized.ipynb: expected a notebook, got no such file.* Run: make book"):
        chapter_pages.chapter_files(tmp_path, "linearized")


def test_a_run_with_another_preset_is_refused(build: ModuleType, spoiled: Path) -> None:
    """Results of a preset other than the book's never enter the book; the message says what to run."""
    mark = spoiled / "gap" / "run.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"preset": "smoke"}))
    with pytest.raises(ValueError, match=r"results of gap: .* preset book, got smoke. Remove .*gap and run: make book"):
        build.contents(ROOT, spoiled)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_input_ends_the_build_in_one_line(
    build: ModuleType, spoiled: Path, capsys: pytest.CaptureFixture[str], part: str, kind: str
) -> None:
    """Whatever is missing, cut, of wrong types or no UTF-8, is named; status 2."""
    file = spoiled / part.format("linearized")
    damage(file, kind)
    with pytest.raises(SystemExit) as ended:
        build.main(["--results", str(spoiled), "--stage", str(spoiled / "stage"), "--out", str(spoiled / "out")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.fullmatch(
        rf"noisebook: {re.escape(str(file))}: expected .*, got .*\. (R|Remove .* and r)un: make book\n", said
    )


def test_an_unexecuted_notebook_is_refused(build: ModuleType, spoiled: Path) -> None:
    """A notebook that was put there without being run never enters the book."""
    (spoiled / "linearized.ipynb").write_text(json.dumps(tiny.notebook()))
    with pytest.raises(ValueError, match="was not executed"):
        build.contents(ROOT, spoiled)


def test_a_failed_notebook_is_refused(build: ModuleType, spoiled: Path) -> None:
    """A notebook with a cell that raised never enters the book."""
    content = json.loads((spoiled / "linearized.ipynb").read_text())
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    next(cell for cell in content["cells"] if cell["cell_type"] == "code")["outputs"] = [failed]
    (spoiled / "linearized.ipynb").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="failed"):
        build.contents(ROOT, spoiled)


def test_missing_claims_are_refused(build: ModuleType, spoiled: Path) -> None:
    """A chapter without a claims file is refused, and the message says what to run."""
    (spoiled / "linearized" / "claims.json").unlink()
    with pytest.raises(ValueError, match=r"claims.json: expected a claims file, got no such file.* run: make book"):
        build.contents(ROOT, spoiled)


def test_the_data_card_follows_the_recipe(build: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another recipe of the embedded data gives another data card."""
    monkeypatch.setattr(inserts.simulated, "TEST", CtRecipe(patients=(1, 2, 3), pixels=96))
    card = inserts.Inserts(ROOT, results, []).ct_data()
    assert "| patients | 3 |" in card
    assert "96 × 96 pixels of 4 mm" in card


def test_missing_provenance_is_refused(build: ModuleType, spoiled: Path) -> None:
    """A chapter whose run does not say what it read is refused."""
    file = spoiled / "linearized" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"provenance": {}}))
    with pytest.raises(ValueError, match=r"run.json: expected the manifest of a whole run, got one without commit"):
        build.contents(ROOT, spoiled)


def test_sync_writes_what_changed_alone(build: ModuleType, tmp_path: Path) -> None:
    """A second sync touches nothing; a changed file is rewritten, one that is no longer wanted is removed."""
    files = {"a.md": b"a", "deep/b.md": b"b"}
    assert sorted(build.sync(files, tmp_path)) == ["a.md", "deep/b.md"]
    stamp = (tmp_path / "a.md").stat().st_mtime_ns
    assert build.sync(files, tmp_path) == []
    assert sorted(build.sync({"a.md": b"a", "c.md": b"c"}, tmp_path)) == ["c.md", "deep/b.md"]
    assert (tmp_path / "a.md").stat().st_mtime_ns == stamp
    assert not (tmp_path / "deep" / "b.md").exists()


def test_a_failed_build_is_not_remembered(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure Sphinx's memory is gone: a second try repeats the warnings instead of passing."""
    memory = tmp_path / "out" / "_build" / ".doctrees"
    memory.mkdir(parents=True)
    monkeypatch.setattr(build.subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match="mend the warnings"):
        build.render(tmp_path / "stage", tmp_path / "out")
    assert not memory.exists()


def test_a_killed_build_is_not_gone_on_with(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted build left is removed before the next one; what a finished one left is kept."""
    page = tmp_path / "_build" / "html" / "index.html"

    def interrupted(*arguments: object, **options: object) -> None:
        page.parent.mkdir(parents=True)
        page.write_text("<html><bo")
        raise KeyboardInterrupt

    def finished(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.append(page.exists())
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html></html>")
        return subprocess.CompletedProcess(command, 0)

    seen: list[bool] = []
    monkeypatch.setattr(build.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.render(tmp_path / "stage", tmp_path)
    monkeypatch.setattr(build.subprocess, "run", finished)
    for _ in range(2):
        build.render(tmp_path / "stage", tmp_path)
    assert seen == [False, True]


def test_every_module_has_a_page(build: ModuleType) -> None:
    """The reference has a page for each public module, with its first words; private modules have none."""
    names = inserts.modules()
    assert {"claims", "jacobian", "dicom", "papers.gap"} <= set(names)
    assert "cli" not in names  # its help is its reference
    assert not [name for name in names if name.startswith("_") or "._" in name]
    assert all(len(text) > 10 for text in names.values())


def test_the_card_of_radiographs_follows_the_recipe(
    build: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another recipe gives other identities, subjects and views on the card."""
    monkeypatch.setattr(inserts.simulated, "XRAY_TEST", XrayRecipe(train=(1,), val=(2, 3), test=(4, 5, 6), views=7))
    card = inserts.Inserts(ROOT, results, []).xray_data()
    assert "| subjects in train, val, test | 1, 2, 3 | 336, 0, 0 |" in card
    assert "| views a subject | 7 | 4 |" in card
    assert "128 × 128 pixels" in card
