"""What a tag must be to become a release: of this version, frozen whole, and computed from a commit that is known."""

import importlib.util
import json
from pathlib import Path

import pytest
from tiny_notebook import install

from noisebook import __version__, claims, release
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
    (folder / "results.json").write_text(json.dumps({"provenance": {"commit": "0123456789ab"}}))
    monkeypatch.setattr(release, "read", lambda file: {"tiny": {"T1": release.frozen(one)}})
    (tmp_path / "release.json").write_text(json.dumps({"version": __version__}))
    return tmp_path


def problems(root: Path, tag: str = f"v{__version__}") -> list[str]:
    """What the script finds wrong."""
    return TAG.problems(tag, root / "results", root / "release.json")


def test_a_whole_release_passes(frozen):
    """Tag, version, frozen claims and stamps agree."""
    assert problems(frozen) == []


def test_a_tag_of_another_version_is_refused(frozen):
    """The tag must be the version of the package, and the results must have been frozen from it."""
    assert problems(frozen, "v9.9") == [f"the tag is v9.9, the package's version {__version__}"]
    (frozen / "release.json").write_text(json.dumps({"version": "9.9"}))
    assert problems(frozen) == [f"release.json was frozen from version 9.9, not {__version__}"]


@pytest.mark.parametrize("commit", ["unknown (git failed)", "not in a clone", "0123456789ab+changes"])
def test_results_of_no_commit_are_refused(frozen, commit):
    """A stamp without a commit, or with one that the files differed from, is no stamp of a release."""
    (frozen / "results" / "tiny" / "results.json").write_text(json.dumps({"provenance": {"commit": commit}}))
    assert problems(frozen) == [f"tiny: its results name no commit, but: {commit}"]


def test_a_claim_that_was_not_frozen_is_refused(frozen, monkeypatch):
    """A claim, or a whole chapter, that the release does not know would be released without ever being compared."""
    monkeypatch.setattr(release, "read", lambda file: {})
    assert problems(frozen) == ["tiny: claim T1 is not in release.json"]
