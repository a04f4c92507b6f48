"""What a tag must be to become a release: of this version, frozen whole, and computed from a commit that is known."""

import importlib.util
from pathlib import Path

import pytest
from tiny_notebook import install

from noisebook import __version__, claims
from noisebook.claims import Claim

SCRIPT = Path(__file__).parents[1] / ".ci" / "release.py"
SPEC = importlib.util.spec_from_file_location("ci_release", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
TAG = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TAG)


@pytest.fixture
def frozen(monkeypatch, tmp_path):
    """Results of the chapter ``tiny`` with one claim, and the release that has it."""
    install(monkeypatch, tmp_path)
    folder = tmp_path / "results" / "tiny"
    folder.mkdir(parents=True)
    one = Claim(id="T1", statement="It is small.", source="Sec. II", ours=(1.5,), low=1.0)
    claims.write([one], folder / "claims.json")
    (tmp_path / "release").mkdir()
    claims.write([one], tmp_path / "release" / "tiny.json")
    run = {"provenance": {"commit": "0123456789ab"}}
    monkeypatch.setattr(TAG._notebook, "of_book", lambda results, chapter: run)
    return tmp_path


def problems(root: Path, tag: str = f"v{__version__}") -> list[str]:
    """What the script finds wrong."""
    return TAG.problems(tag, root / "results", root / "release")


def test_a_whole_release_passes(frozen):
    """Tag, version, frozen claims and stamps agree."""
    assert problems(frozen) == []


def test_a_tag_of_another_version_is_refused(frozen):
    """The tag must be the version of the package."""
    assert problems(frozen, "v9.9") == [f"the tag is v9.9, the package's version {__version__}"]


@pytest.mark.parametrize("commit", ["unknown (git failed)", "not in a clone", "0123456789ab+changes"])
def test_results_of_no_commit_are_refused(frozen, commit, monkeypatch):
    """A stamp without a commit, or with one that the files differed from, is no stamp of a release."""
    run = {"provenance": {"commit": commit}}
    monkeypatch.setattr(TAG._notebook, "of_book", lambda results, chapter: run)
    assert problems(frozen) == [f"tiny: its results name no commit, but: {commit}"]


def test_a_claim_that_was_not_frozen_is_refused(frozen):
    """A claim, or a whole chapter, that the release does not know would be released without ever being compared."""
    (frozen / "release" / "tiny.json").unlink()
    assert problems(frozen) == ["tiny: claim T1 is not in tiny.json"]
