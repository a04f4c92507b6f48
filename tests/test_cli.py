"""The command: it answers at once, teaches, refuses what it does not know, and hands on what it does."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import typer
from tiny_notebook import WRITE, install, tiny
from typer.testing import CliRunner

from noisebook import _paths, cli, papers, simulated

SMOKE = ("data", "make", "--recipe", "smoke")
HEAVY = ("torch", "numpy", "papermill", "nbformat", "yaml", "matplotlib", "pydicom")


@pytest.fixture
def book(monkeypatch, tmp_path):
    """A place with the chapter ``tiny`` and an empty cache; the present folder is its root."""
    install(monkeypatch, tmp_path)
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, status: int = 0) -> str:
    """What a command prints, on standard output and error, after ending with ``status``."""
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_help_answers_within_half_a_second():
    """The quickest of five runs of ``noisebook --help`` takes less than 0.5 s of processor time, and shows first steps.

    Processor time, because the tests share their machine; on an idle one it is the waiting time.
    """
    command = [sys.executable, "-c", "from noisebook.cli import main; main()", "--help"]
    seconds = []
    for _ in range(5):
        before = os.times()
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(seconds) < 0.5
    assert "noisebook run linearized --preset smoke" in shown


def test_help_imports_nothing_heavy():
    """The command's module brings neither torch nor numpy nor papermill with it."""
    code = f"import sys, noisebook.cli; print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def commands(group, path=()):
    """Every command below a group: the words that call it, and the command."""
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else ()


@pytest.mark.parametrize(("path", "command"), list(commands(typer.main.get_command(cli.app))), ids=str)
def test_help_loses_no_word(path, command):
    """The help of each command has every word of its docstring and of its options and arguments, brackets included."""
    assert path[0] in call("--help")
    shown = "".join(call(*path, "--help").split())
    told = [command.help, *(parameter.help for parameter in command.params)]
    assert len(told[0]) > 20
    for text in filter(None, told):
        assert "".join(text.replace("\b", "").split()) in shown


EXAMPLES = [
    ("run",),
    ("train",),
    ("claims",),
    ("data", "check"),
    ("list",),
    ("weights", "fetch"),
    ("weights", "verify"),
]


@pytest.mark.parametrize("arguments", EXAMPLES)
def test_help_shows_examples(arguments):
    """The help of a command that takes arguments holds an example of it."""
    assert f"noisebook {' '.join(arguments)} " in call(*arguments, "--help")


def test_list_shows_chapters_and_their_parameters(book):
    """The list names chapters with titles; of one chapter it shows presets, parameters, defaults and comments."""
    assert "A tiny chapter" in call("list")
    shown = call("list", "tiny")
    assert "presets: book, paper, smoke" in shown
    assert "seed: int = 0    of everything" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "tinny"), "Did you mean 'tiny'?"),
        (("list", "tinny"), "Did you mean 'tiny'?"),
        (("run", "tiny", "--preset", "boook"), "Did you mean 'book'?"),
        (("run", "tiny", "-p", "sead=1"), "Did you mean 'seed'?"),
        (("run", "tiny", "-p", "seed=x"), "seed: expected int, got 'x' (str)"),
        (("run", "tiny", "-p", "seed", "1.5"), "run: expected one chapter, and parameters as -p NAME=VALUE, got 'seed"),
        (("run", "-p", "probe", "5", "tiny"), "one chapter, and parameters as -p NAME=VALUE, got 'probe tiny'"),
        (("run", "tiny", "-p", f"seed={'9' * 5000}"), "seed: expected int, got '999"),
        (("data", "make", "--recipe", "tests"), "Did you mean 'test'?"),
        (("data", "make", "--recipe", "zzz"), "recipe: expected one of smoke, test, train, got 'zzz'.\n"),
        (("data", "check", "nowhere"), "nowhere: expected a file or folder, got nothing there. Check the path.\n"),
        (("claims", "nowhere"), "no claims below nowhere"),
    ],
)
def test_a_refusal_is_one_line_and_status_two(book, arguments, message):
    """What is unknown is refused with the nearest name, without a traceback, and nothing is written."""
    before = sorted(book.rglob("*"))
    shown = call(*arguments, status=2)
    assert message in shown
    assert shown.count("\n") == 1
    assert len(shown) < 200
    assert sorted(book.rglob("*")) == before


def test_run_tells_the_cost_and_the_place(book):
    """A run prints chapter, seconds and memory, and writes where it was told to."""
    shown = call("run", "tiny", "--preset", "smoke", "-p", "seed=4", "--out", "results")
    assert shown.startswith("tiny: ")
    assert " GB\n" in shown
    assert json.loads((book / "results" / "tiny" / "claims.json").read_text()) == {"seed": 4, "rate": 0.25}
    assert (book / "results" / "tiny" / "run.json").is_file()


def test_an_out_that_cannot_be_is_told_as_such(book):
    """Below a file no folder can be: one line names it and the remedy, and ends with two."""
    (book / "file").write_text("")
    said = call("run", "tiny", "--out", str(book / "file" / "out"), status=2)
    assert "out: expected a folder that can be written, got" in said
    assert said.endswith("Choose another --out.\n")


def test_the_claims_of_a_run_that_did_not_end_are_not_shown(book):
    """Where the mark of completion is missing, as after a kill, the command says what to do instead."""
    call("run", "tiny", "--out", "results")
    (book / "results" / "tiny" / "run.json").unlink()
    assert call("claims", "results") == "## tiny\n\nIts run did not end: noisebook run tiny\n\n"


def test_the_claims_of_a_failed_run_are_not_looked_for(book):
    """A run that failed before it had claims did not end, which is another thing than no run; and no run is told."""
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny("1 / 0")))
    call("run", "tiny", "--out", "results", status=1)
    assert call("claims", "results") == "## tiny\n\nIts run did not end: noisebook run tiny\n\n"
    assert "no claims in this folder: run a chapter first" in call("claims", ".", status=2)


def test_a_failed_run_shows_the_cell_and_ends_with_one(book):
    """The failing cell, its error and the notebook so far are named; the status is 1."""
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny(WRITE, "1 / 0")))
    shown = call("run", "tiny", "--out", "results", status=1)
    for part in ("tiny failed in cell 4", "1 / 0", "ZeroDivisionError", "tiny.failed.ipynb"):
        assert part in shown


def test_plain_papermill_runs_a_chapter_with_a_preset(book):
    """``papermill NOTEBOOK OUT -f PRESET`` needs nothing of ours, also with the empty preset of the book."""
    for preset, rate in (("smoke", 0.25), ("book", 0.5)):
        given = ["notebooks/tiny.ipynb", "out.ipynb", "-f", f"notebooks/presets/tiny-{preset}.yaml"]
        command = [sys.executable, "-m", "papermill", *given, "-k", "python3"]
        subprocess.run(command, cwd=book, capture_output=True, check=True)
        assert json.loads((book / "tiny" / "claims.json").read_text())["rate"] == rate


@pytest.mark.parametrize("command", [("figures",), ("book",), ("train", "tiny"), ("studies", "tiny")])
def test_outside_a_clone_the_commands_of_a_clone_say_so(book, monkeypatch, command):
    """What needs the repository ends with status 2 and names what can be done instead."""
    monkeypatch.setattr(_paths, "clone", lambda: None)
    assert "needs a clone of the repository. Here there is:" in call(*command, status=2)


def test_train_hands_on_to_the_paper(book, monkeypatch):
    """The paper's networks get the folder, the names and the device; a paper without networks says so."""
    seen = []
    networks = SimpleNamespace(train_shipped=lambda *a: seen.append(a))
    monkeypatch.setattr(_paths, "clone", lambda: book)
    monkeypatch.setattr(papers, "find", lambda chapter: SimpleNamespace(networks=networks))
    call("train", "tiny", "--name", "a", "--device", "cpu")
    assert seen == [(book / "build" / "training" / "tiny", ["a"], "cpu")]
    monkeypatch.setattr(papers, "find", lambda chapter: SimpleNamespace(networks=None))
    assert call("train", "tiny").strip() == "tiny has no networks of its own"


def test_studies_runs_those_named(book, monkeypatch):
    """Of several stale studies only the named one is run; an unknown name is refused with the known ones."""
    from noisebook import studies

    several = tuple(studies.Study("tiny", name, lambda folder, device: {}, {}) for name in ("first", "second"))
    monkeypatch.setattr(_paths, "clone", lambda: book)
    paper = papers.Paper("tiny", None, ModuleType("measures"), several)
    monkeypatch.setattr(papers, "find", lambda chapter: paper)
    monkeypatch.setattr(studies, "stale", lambda study: "missing")
    monkeypatch.setattr(studies, "make", lambda study, folder, device: f"made {study.name}")
    assert call("studies", "tiny", "--name", "second").strip() == "made second"
    assert "first" in call("studies", "tiny", "--name", "third", status=2)


def test_the_graph_is_asked_for_its_targets(book, monkeypatch):
    """``book`` and ``figures`` call Snakemake in the clone, and end as it ends."""
    calls = []

    def fake(command, cwd, check, pass_fds):
        calls.append((command[3], cwd))
        return subprocess.CompletedProcess(command, 0 if command[3] == "book" else 5)

    monkeypatch.setattr(_paths, "clone", lambda: book)
    monkeypatch.setattr(subprocess, "run", fake)
    assert str(Path("build", "book", "_build", "html", "index.html")) in call("book")
    call("figures", status=5)
    assert calls == [("book", book), ("figures", book)]


def test_one_build_at_a_time(book, monkeypatch):
    """While one build holds the lock another is refused; the lock of a build that has ended is free."""
    monkeypatch.setattr(_paths, "clone", lambda: book)
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 0))
    call("book")
    with (book / "build" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another build is under way" in call("book", status=2)
    call("book")


def test_data_are_made_once_and_listed(book):
    """The embedded data are simulated into the cache, found there again, made again on demand, and listed."""
    folder = Path(call(*SMOKE).strip())
    first = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.dcm")}
    call(*SMOKE)
    assert first
    assert all(path.stat().st_mtime_ns == made for path, (made, _) in first.items())
    call(*SMOKE, "--again")
    assert all(path.stat().st_mtime_ns > made for path, (made, _) in first.items())
    assert all(path.read_bytes() == data for path, (_, data) in first.items())
    assert f"{folder.name}: " in call("data", "list")
    assert folder == book / "cache" / "data" / simulated.SMOKE.id


def test_data_check_hands_on_and_ends_with_what_was_found(book):
    """A folder that can be used ends with 0; a broken file and an empty folder, as the help says, with 1."""
    folder = call(*SMOKE).strip()
    assert "The chapter linearized can use it:" in call("data", "check", folder)
    (book / "broken.dcm").write_bytes(b"no image")
    assert "cannot be used: broken.dcm: expected a DICOM file" in call("data", "check", "broken.dcm", status=1)
    (book / "empty").mkdir()
    assert "expected DICOM files, got a folder without any" in call("data", "check", "empty", status=1)
    np.savez(book / "two.npz", a=np.ones((4, 4)), b=np.ones((4, 4)))
    assert "two.npz: expected one array, got 2: a, b. " in call("data", "check", "two.npz", status=1)


def test_the_lists_of_the_registry(book):
    """Networks and data sets are listed apart, a size that is not known is said to be so."""
    net = {"id": "net", "chapter": "tiny", "size": 2_000_000, "licence": "CC-BY-4.0", "architecture": "a U-Net"}
    scans = {"id": "scans", "chapter": "tiny", "kind": "data", "size": None, "licence": "CC-BY-3.0", "citation": "Them"}
    (book / "data" / "registry.yaml").write_text(json.dumps({"embedded": [net], "external": [scans]}))
    assert call("weights", "list") == "net  (tiny, 2.00 MB, CC-BY-4.0)\n    a U-Net\n"
    assert call("data", "list").startswith("scans  (tiny, size not stated, CC-BY-3.0)\n    Them\ncache: ")


@pytest.mark.parametrize("coding", ["latin-1", "ascii"])
def test_a_terminal_that_lacks_characters_is_answered(book, coding):
    """Letters that a terminal cannot show end no command in a traceback: they are replaced, in as many lines."""
    np.save(book / "µ-Ω.npy", np.ones((4, 4)))
    command = [sys.executable, "-c", "from noisebook.cli import main; main()", "data", "check", "µ-Ω.npy"]
    shown = [
        subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": c}, capture_output=True, check=False)
        for c in (coding, "utf-8")
    ]
    assert [done.returncode for done in shown] == [1, 1]
    assert [done.stderr for done in shown] == [b"", b""]
    assert shown[0].stdout.count(b"\n") == shown[1].stdout.count(b"\n") > 1


CACHES = {"a file": "file", "below a file": "file/cache", "a circle": "circle", "nobody's": "~nobody-at-all/cache"}
CACHES["of a home that is a file"] = ""  # not set: the system's place below HOME
DOORS = [SMOKE, ("weights", "fetch", "regularity"), ("run", "tiny")]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("command", DOORS, ids=str)
def test_a_cache_that_is_none_is_one_line_at_every_door(book, monkeypatch, cache, command):
    """Where the cache cannot be a folder, whatever needs it names it in one line of ours."""
    (book / "file").write_text("")
    (book / "circle").symlink_to("circle")
    chapter = tiny("from noisebook import simulated", "simulated.embedded_ct(simulated.SMOKE)")
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(chapter))
    shutil.copy(_paths.PACKAGE / "data" / "registry.yaml", book / "data")
    monkeypatch.setenv("NOISEBOOK_CACHE", CACHES[cache].replace("file", str(book / "file")))
    monkeypatch.setenv("HOME", str(book / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(_paths, "clone", lambda: None)
    said = call(*command, status=1 if command[0] == "run" else 2)
    line = next(line for line in said.splitlines() if "expected a folder" in line)
    assert "NOISEBOOK_CACHE" in line
    assert "Error" not in said.replace("RuntimeError", "")
    assert said.count("\n") <= (3 if command[0] == "run" else 1)
