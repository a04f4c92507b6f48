"""Provenance: equal runs give equal stamps, and nothing about the machine stands in them."""

import getpass
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

import noisebook
from noisebook import _paths, provenance

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one committed file, taken for the clone of this package."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "file").write_text("one")
    for call in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"], ["tag", "v9"]):
        subprocess.run(["git", "-C", str(root), *call], check=True, env=os.environ | GIT)
    monkeypatch.setattr(_paths, "clone", lambda: root)
    return root


def stamp(**changes: object) -> provenance.Stamp:
    """A stamp of a fixed run."""
    arguments = {"seed": 1, "device": "cpu", "data": "ct-0", "weights": "net", "parameters": {"b": 1e-4, "a": [1]}}
    return provenance.stamp(**(arguments | changes))


def test_a_clean_clone_is_known_by_its_commit(clone: Path) -> None:
    """The commit is the first twelve digits of HEAD, whatever tags, untracked files and GIT_DIR say."""
    head = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    (clone / "untracked").write_text("x")
    assert provenance.commit() == head.stdout[:12]


def test_git_variables_do_not_mislead(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GIT_DIR that points at nothing changes nothing."""
    expected = provenance.commit()
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance.commit() == expected


def test_changes_are_told(clone: Path) -> None:
    """A changed tracked file adds +changes to the commit."""
    clean = provenance.commit()
    (clone / "file").write_text("two")
    assert provenance.commit() == f"{clean}+changes"


def test_without_git_or_clone_there_is_still_a_stamp(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No git, a slow git, no repository and a wheel give words for the commit, no error."""
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "GIT_TIMEOUT_S", 1e-9)
        assert provenance.commit() == "unknown (git failed)"
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert provenance.commit() == "unknown (git failed)"
    with monkeypatch.context() as patch:
        patch.setattr(_paths, "clone", lambda: clone.parent)
        assert provenance.commit() == "not in a clone"
    monkeypatch.setattr(_paths, "clone", lambda: None)
    assert stamp().commit == "not in a clone"


def test_a_repository_without_commit_is_unknown(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first commit the commit is unknown."""
    empty = clone.parent / "empty"
    subprocess.run(["git", "init", "-q", str(empty)], check=True)
    monkeypatch.setattr(_paths, "clone", lambda: empty)
    assert provenance.commit() == "unknown (git failed)"


def test_equal_runs_give_equal_stamps() -> None:
    """Two stamps of one run are equal, and the order of the parameters does not matter."""
    assert stamp() == stamp()
    assert stamp().markdown() == stamp(parameters={"a": [1], "b": 1e-4}).markdown()


def test_a_stamp_tells_versions_and_ids() -> None:
    """Version, Python, packages, seed, device, data, weights and parameters stand in the dictionary and the table."""
    values = stamp().as_dict()
    assert values["version"] == noisebook.__version__
    assert values["python"] == platform.python_version()
    assert values["packages"]["numpy"] == __import__("numpy").__version__
    assert json.loads(json.dumps(values)) == values
    table = stamp().markdown()
    for text in (
        "| seed, device | 1, cpu |",
        "| data | ct-0 |",
        "| weights | net |",
        "| parameters | a = [1], b = 0.0001 |",
    ):
        assert text in table
    assert f"numpy {values['packages']['numpy']}" in table


def test_a_package_that_is_missing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed does not stop a run."""
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert stamp().packages == {"no-such-package": "not installed"}


def test_nothing_of_the_machine_is_in_a_stamp() -> None:
    """Neither the output folder, absolute paths, the host nor the user's home stand in a stamp."""
    parameters = {
        "out": "/home/jane/out",
        "data": "/home/jane/LDCT",
        "more": [Path("/home/jane/x"), "~/y"],
        "rel": "a/b",
    }
    made = stamp(parameters=parameters, data="/home/jane/LDCT")
    text = json.dumps(made.as_dict(), ensure_ascii=False) + made.markdown()
    assert made.parameters == {"data": "…/LDCT", "more": ["…/x", "…/y"], "rel": "a/b"}
    for secret in ("/home", "jane", str(Path.cwd()), platform.node(), f"/{getpass.getuser()}/"):
        assert secret not in text


def test_parameters_must_be_literals() -> None:
    """A parameter that JSON cannot hold, NaN included, is refused."""
    for value in (object(), float("nan")):
        with pytest.raises(ValueError, match="parameters: expected values that JSON can hold"):
            stamp(parameters={"a": value})


def test_a_device_that_is_none_is_refused() -> None:
    """Every notebook has its stamp made before it computes, so that a mistyped device ends it there."""
    with pytest.raises(ValueError, match="device: expected one of cpu, cuda, got 'gpu'"):
        stamp(device="gpu")
