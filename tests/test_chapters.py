"""Chapters: what they depend on, how they run, and that nothing unfinished enters the book."""

import json
import re
import tempfile

import pytest
from tiny_notebook import STAMP, WRITE, cell, install, notebook, tiny

from noisebook import _kernel, _notebook, _paths, _registry, chapters


@pytest.fixture
def book(monkeypatch, tmp_path):
    """A folder that holds the chapter ``tiny``, and is the package's place for notebooks and data."""
    install(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of one whole run of the tiny chapter, with a preset and an override."""
    root = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        install(patch, root, tiny(WRITE, STAMP))
        ran = chapters.run("tiny", preset="smoke", overrides=["seed=3"], out=root / "out")
    assert ran.notebook == root / "out" / "tiny.ipynb"
    assert ran.seconds > 0
    assert 0.01 < ran.memory_gb < 100
    return root / "out"


def test_a_chapter_is_described_by_its_notebook(book):
    """Names, title, presets and parameters come from the files themselves."""
    assert chapters.names() == ["tiny"]
    assert chapters.title("tiny") == "A tiny chapter"
    assert list(chapters.presets("tiny")) == ["book", "paper", "smoke"]
    assert chapters.parameters("tiny")["seed"].kind == "int"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tinny", "book"), "chapter: expected one of tiny, got 'tinny'. Did you mean 'tiny'?"),
        (("tiny", "smok"), "preset of tiny: expected one of book, paper, smoke, got 'smok'. Did you mean 'smoke'?"),
        (("tiny", "book", ["sed=1"]), "Did you mean 'seed'?"),
        (("tiny", "book", ["seed=x"]), "seed: expected int, got 'x' (str)"),
        (("tiny", "book", ["out=a"]), "-p: expected a parameter that is no place of the run, got out. The folder is"),
    ],
)
def test_unknown_words_are_refused_with_the_nearest(book, arguments, message):
    """A mistyped chapter, preset or parameter is named together with what was meant."""
    with pytest.raises(ValueError, match=re.escape(message)):
        chapters.values(*arguments)


def test_a_preset_with_an_unknown_name_is_refused(book):
    """A preset file is held to the same names and types as the command line."""
    (book / "notebooks" / "presets" / "tiny-smoke.yaml").write_text("speed: 3\n")
    with pytest.raises(ValueError, match=r"tiny-smoke.yaml: parameter: .* got 'speed'. Did you mean 'seed'"):
        chapters.values("tiny", "smoke")


def test_overrides_win_and_places_are_made_absolute(book, monkeypatch):
    """A value from the command line beats the preset; a place on disk is relative to the caller, an empty one stays."""
    monkeypatch.chdir(book)
    values = chapters.values("tiny", "smoke", ["rate=0.75", "scan_path=data"])
    assert values == {"rate": 0.75, "scan_path": str(book / "data")}
    assert chapters.values("tiny", "book", ["scan_path="]) == {"scan_path": ""}
    assert chapters.values("tiny", "book") == {}
    assert [chapters.is_place(name) for name in ("data_root", "a_folder", "path_count")] == [True, True, False]


def test_modules_are_found_through_one_another():
    """The closure follows imports inside functions, of packages and relative ones, and stops at other libraries."""
    names = {str(file.relative_to(_paths.PACKAGE)) for file in chapters.closure("from noisebook import studies")}
    assert names == {"__init__.py", "studies.py", "_registry.py", "_paths.py", "_checks.py"}
    names = {str(file.relative_to(_paths.PACKAGE)) for file in chapters.closure("import numpy, noisebook.dicom as d")}
    assert {"dicom/__init__.py", "dicom/_read.py", "dicom/_write.py", "_checks.py"} <= names
    assert "studies.py" not in names


def test_a_chapter_depends_on_what_is_its_own(book):
    """Notebook, preset, imported modules, its weights and its studies count; those of other chapters do not."""
    for file in ("weights/a.safetensors", "weights/b.safetensors", "studies/tiny/x.csv", "studies/other/y.csv"):
        (book / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (book / "data" / file).write_text("")
    owners = {"a": "tiny", "b": "other"}
    registry = [{"id": name, "chapter": owner, "file": f"{name}.safetensors"} for name, owner in owners.items()]
    (book / "data" / "registry.yaml").write_text(json.dumps({"embedded": registry}))
    source = tiny("%matplotlib inline\nfrom noisebook import photons")
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(source))
    found = chapters.dependencies("tiny")
    own = {str(file.relative_to(book)) for file in found if file.is_relative_to(book)}
    assert own == {
        "notebooks/tiny.ipynb",
        "notebooks/presets/tiny-book.yaml",
        "data/weights/a.safetensors",
        "data/studies/tiny/x.csv",
    }
    assert {file.name for file in found if not file.is_relative_to(book)} == {"__init__.py", "photons.py", "_checks.py"}


def test_the_registry_is_read_by_id_or_by_key(tmp_path):
    """An entry is found whether the table lists entries with ids or maps ids to entries."""
    (tmp_path / "r.yaml").write_text("a: {chapter: x, size: 1}\ngroup:\n- {id: b, chapter: y}\n")
    assert set(_registry.entries(tmp_path / "r.yaml")) == {"a", "b"}
    assert _registry.of_chapter("y", tmp_path / "r.yaml") == {"b": {"id": "b", "chapter": "y"}}
    assert _registry.entries(tmp_path / "none.yaml") == {}


def test_a_chapter_depends_on_the_weights_of_every_paper_that_it_imports():
    """The comparison imports every paper, so a retrained network of any of them makes it run again."""
    for name in ("linearized", "regularity"):
        assert chapters.works(name) == [name]
    assert chapters.works("compare") == ["compare", "cyclegan", "gap", "linearized", "regularity", "xray"]
    files = {file.name for file in chapters.dependencies("compare")}
    assert {"gap-2d.safetensors", "xray-ae.safetensors", "linearized-i0.safetensors"} <= files


def test_a_whole_run_has_a_manifest(done):
    """A run leaves the notebook, its results, a log of its cost and a manifest."""
    mark = _notebook.manifest(done, "tiny")
    assert json.loads((done / "tiny" / "claims.json").read_text()) == {"seed": 3, "rate": 0.25}
    assert mark["parameters"] == {"rate": 0.25, "seed": 3}
    assert mark["provenance"]["data"] == "tiny data"
    assert (done / "tiny" / "run.log").read_text().startswith("seconds: ")
    assert not list(done.glob("*partial*"))


def test_an_executed_notebook_holds_no_clock_and_no_path(done):
    """No time, folder or random id stays in the executed notebook, so equal runs give equal bytes."""
    text = (done / "tiny.ipynb").read_text()
    assert str(done) not in text
    assert not re.search(r"start_time|duration|\d\d:\d\d:\d\d|iopub", text)
    assert '"injected-parameters"' in text


def test_progress_bars_are_not_stored():
    """What a bar wrote, whole, in parts or wiped out, is dropped; warnings, without their place, and prints stay."""

    def stream(name, text):
        return {"output_type": "stream", "name": name, "text": text}

    bars = [
        "\rsimulating:   0%|          | 0/2 [00:00<?, ?it/s]",
        "\rsimulating: 100%|███| 2/2 [00:01<00:00,  1.9it/s]",
        "\n",
    ]
    wiped, warning = "\repoch 1/2:  50%|█| 1/2 [00:01<00:01, 1.0s/it]\r          \r", "x.py:3: UserWarning: odd [3]\n"
    said = [stream("stdout", "50 [it/s]\n"), {"output_type": "display_data", "data": {}, "metadata": {}}]
    executed = tiny(WRITE)
    executed["cells"][2]["outputs"] = [*(stream("stderr", t) for t in (*bars, wiped + warning, "".join(bars))), *said]
    outputs = _notebook.tidy(executed, {})["cells"][2]["outputs"]
    assert outputs == [stream("stderr", "UserWarning: odd [3]\n"), *said]


def test_a_second_run_gives_the_same_bytes_and_removes_what_was_there(book):
    """A run over an old one replaces it wholly, and gives the same notebook, mark and results."""
    chapters.run("tiny", out=book / "out")
    first = {path: path.read_bytes() for path in (book / "out").rglob("*") if path.suffix in (".ipynb", ".json")}
    (book / "out" / "tiny" / "old.png").write_text("")
    chapters.run("tiny", out=book / "out")
    assert len(first) == 3
    assert {path: path.read_bytes() for path in first} == first
    assert not (book / "out" / "tiny" / "old.png").exists()


FAILURES = {
    "raise": ("raise KeyError('lost')", r"tiny failed in cell 4:\n    raise KeyError\('lost'\)[\s\S]*KeyError: 'lost'"),
    "exit": ("import sys; sys.exit(0)", r"cell 4 failed \(SystemExit: 0\)"),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"tiny stopped: Kernel died"),
    "slow": ("import time; time.sleep(60)", "tiny stopped: A cell timed out"),
}


@pytest.mark.parametrize(("code", "message"), FAILURES.values(), ids=FAILURES)
def test_a_run_that_does_not_end_well_is_an_error_and_leaves_no_chapter(book, monkeypatch, code, message):
    """A cell that raises, exits, kills the kernel or takes too long leaves only ``tiny.failed.ipynb`` and no mark."""
    chapters.run("tiny", out=book / "out")
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny(WRITE, code, "print('after')")))
    with pytest.raises(chapters.RunError, match=message):
        chapters.run("tiny", out=book / "out", cell_timeout=1 if "sleep" in code else None)
    assert [path.name for path in (book / "out").glob("*.ipynb")] == ["tiny.failed.ipynb"]
    assert not (book / "out" / "tiny" / "run.json").exists()
    assert (book / "out" / "tiny" / "run.log").read_text() == "failed\n"


def test_a_refused_input_is_one_line(book):
    """What the library refuses inside a notebook is told first, without the traceback, which the notebook has."""
    code = "from noisebook._checks import check_positive\ncheck_positive('rate', -1)"
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny(WRITE, code)))
    with pytest.raises(chapters.RunError) as refused:
        chapters.run("tiny", out=book / "out")
    kept = book / "out" / "tiny.failed.ipynb"
    told = ["noisebook: rate: expected a number above zero, got -1.", "tiny failed in cell 4."]
    assert str(refused.value).splitlines() == [*told, f"The notebook so far: {kept}"]
    assert "Traceback" in kept.read_text()


OPENING = "from noisebook._checks import check_range\ncheck_range('seed', seed, 0, 9)"
STOPPED = {"refusal": (OPENING, "expected a whole number from 0 to 9, got 10"), "killed": FAILURES["killed"]}


@pytest.mark.parametrize("kind", STOPPED)
def test_earlier_results_survive_what_the_first_cell_refuses(book, kind):
    """A parameter that the first cell refuses, or a kernel that dies in it, leaves the earlier run as it was."""
    opening, message = STOPPED[kind]
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny(OPENING, WRITE)))
    chapters.run("tiny", out=book / "out")
    before = {path: path.read_bytes() for path in (book / "out").rglob("*") if path.is_file()}
    (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(tiny(opening, WRITE)))
    for _ in range(2):
        with pytest.raises(chapters.RunError, match=message):
            chapters.run("tiny", overrides=["seed=10"], out=book / "out")
        left = {path: path.read_bytes() for path in (book / "out").rglob("*") if path.is_file()}
        assert left.pop(book / "out" / "tiny.failed.ipynb")
        assert left == before
    chapters.move_earlier("tiny", book / "out")  # and the process is killed
    (book / "out" / "tiny").mkdir()
    (book / "out" / "tiny" / "run.log").write_text("running\n")
    with pytest.raises(chapters.RunError, match=message):
        chapters.run("tiny", overrides=["seed=10"], out=book / "out")
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in (book / "out").iterdir() if path.name.startswith(".")]


def test_a_notebook_without_parameters_replaces_its_earlier_run(book):
    """Where no cell validates parameters, the earlier results go when the new ones are whole."""
    for number in (1, 2):
        (book / "notebooks" / "tiny.ipynb").write_text(json.dumps(notebook(cell(f"print({number})"))))
        chapters.run("tiny", out=book / "out")
    assert "print(2)" in (book / "out" / "tiny.ipynb").read_text()
    assert sorted(path.name for path in (book / "out").iterdir()) == ["tiny", "tiny.ipynb"]


def test_without_a_runner_nothing_is_touched(book, monkeypatch):
    """Where the extra ``run`` is not installed, one line says how to install it, and an earlier result stays."""
    chapters.run("tiny", out=book / "out")
    monkeypatch.setattr(_kernel, "find_spec", lambda name: None if name == "papermill" else object())
    with pytest.raises(ValueError, match=r"got no papermill\. Install: .* -m pip install ipykernel nbclient papermill"):
        chapters.run("tiny", out=book / "out")
    assert (book / "out" / "tiny" / "run.json").is_file()


def test_sockets_of_killed_runs_are_removed_and_no_others(tmp_path, monkeypatch):
    """A run removes the folder that a killed one left; that of a run under way, and what is not ours, stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (f"{_kernel.SOCKETS}killed", "noisebook-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with _kernel._sockets() as first:
        with _kernel._sockets() as second:
            assert {path.name for path in tmp_path.iterdir()} == {"noisebook-mine", first.name, second.name}
        assert first.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["noisebook-mine"]


def _copy(done, folder, change):
    """A copy of the whole run in ``folder`` after ``change`` was applied to its notebook; the notebook's path."""
    content = json.loads((done / "tiny.ipynb").read_text())
    change(content)
    (folder / "tiny").mkdir()
    for name in ("run.json", "run.log", "claims.json", "results.json"):
        (folder / "tiny" / name).write_bytes((done / "tiny" / name).read_bytes())
    (folder / "tiny.ipynb").write_text(json.dumps(content))
    return folder / "tiny.ipynb"


def _error(content):
    output = {"output_type": "error", "ename": "KeyError", "evalue": "x\n  y", "traceback": []}
    content["cells"][-1]["outputs"] = [output]


UNFIT = {
    "unexecuted": (lambda c: c["cells"][-1].update(execution_count=None), "cell 5 was not executed"),
    "error": (_error, r"cell 5 failed \(KeyError: x y\). Remove .* run: make book"),
    "exception": (lambda c: c["metadata"]["papermill"].update(exception=True), "papermill recorded an exception"),
    "changed": (
        lambda c: c["cells"][-1].update(source="print(1)"),
        r"tiny.ipynb: expected what its run left, got another",
    ),
}


@pytest.mark.parametrize(("change", "message"), UNFIT.values(), ids=UNFIT)
def test_what_is_not_whole_is_refused(done, tmp_path, change, message):
    """An unexecuted, failed or later changed notebook is refused, whatever manifest lies beside it."""
    _copy(done, tmp_path, change)
    with pytest.raises(ValueError, match=message):
        _notebook.manifest(tmp_path, "tiny")


def test_a_notebook_without_a_manifest_is_refused(done, tmp_path):
    """A notebook that looks whole but was not run by us is refused, with the command that makes one."""
    _copy(done, tmp_path, lambda content: None)
    (tmp_path / "tiny" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"run.json: expected the manifest of a whole run, got no.*Remove .*tiny and"):
        _notebook.manifest(tmp_path, "tiny")


def test_a_fingerprint_is_of_the_source_alone():
    """Outputs, injected parameters and storage as lines do not change it; a changed cell does."""
    plain = tiny("print(1)")
    lines = tiny("print(1)")
    lines["cells"][2] |= {"source": ["print", "(1)"], "outputs": [{"output_type": "stream"}]}
    lines["cells"].insert(2, cell("seed = 3", tags=("injected-parameters",)))
    assert _notebook.fingerprint(plain) == _notebook.fingerprint(lines)
    assert _notebook.fingerprint(plain) != _notebook.fingerprint(tiny("print(2)"))


def test_a_folder_that_no_run_made_is_left_alone(book):
    """A run never removes files of a folder that happens to have the chapter's name."""
    (book / "out" / "tiny").mkdir(parents=True)
    (book / "out" / "tiny" / "mine.txt").write_text("keep")
    chapters.move_earlier("tiny", book / "out")
    chapters.discard_earlier("tiny", book / "out")
    assert (book / "out" / "tiny" / "mine.txt").exists()


@pytest.mark.parametrize("out", ["notebooks", "mine"])
def test_a_notebook_that_no_run_made_is_left_alone(book, out):
    """A run into the folder of the sources, or beside somebody's own notebook of that name, is refused; both stay."""
    (book / "mine").mkdir()
    (book / "mine" / "tiny.ipynb").write_text("my work")
    before = (book / out / "tiny.ipynb").read_bytes()
    with pytest.raises(ValueError, match=r"tiny.ipynb: expected no notebook, or an earlier run's.*another --out"):
        chapters.run("tiny", out=book / out)
    assert (book / out / "tiny.ipynb").read_bytes() == before
    assert not (book / out / "tiny").exists()


def test_the_linearized_chapter_follows_its_library():
    """The Jacobian, the figures and the paper count for the chapter; the command and the runner do not."""
    files = {str(file.relative_to(_paths.PACKAGE)) for file in chapters.modules("linearized")}
    assert {"jacobian/_operator.py", "figures/_save.py", "_checks.py"} <= files
    assert any(name.startswith("papers/linearized") for name in files)
    assert not files & {"cli.py", "chapters.py", "_notebook.py"}
    assert "linearized-book.yaml" in {file.name for file in chapters.dependencies("linearized")}


def test_the_home_of_nobody_is_named():
    """The home of an unknown user, as a parameter or as the output folder, is a ValueError that names which."""
    with pytest.raises(ValueError, match="data_root: expected a folder or file, got ~nobody-at-all/data"):
        chapters.values("linearized", "smoke", ["data_root=~nobody-at-all/data"])
    with pytest.raises(ValueError, match="--out: expected a folder or file, got ~nobody-at-all"):
        chapters.run("linearized", out="~nobody-at-all")
