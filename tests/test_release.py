"""The last release: what is kept of a claim, how far it may move, and that what has moved further is told."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_notebook import WRITE, install, tiny

from noisebook import chapters, claims, release
from noisebook.claims import Claim


def claim(*ours: float, **fields: object) -> Claim:
    """A claim with these measured values."""
    return Claim(**({"id": "T1", "statement": "It is small.", "source": "Sec. II", "ours": ours} | fields))


@pytest.mark.parametrize(
    ("ours", "bounds", "allowed"),
    [
        ((2.5, 2.5), {"low": 1.0}, 0.025),  # one per cent
        ((2.0, 2.2, 2.4), {"low": 1.0}, 2 * 0.2 / 3**0.5),  # two standard errors
        ((3e-16,), {"high": 1e-8}, 1e-11),  # a thousandth of the bound
        ((7.0,), {"low": 1.0}, 0.0),  # counted
        ((0.001,), {"low": 0.0, "high": 5.0}, 0.005),  # a bound at zero says nothing of the scale
    ],
)
def test_the_tolerance_is_the_largest_of_three_unless_counted(
    ours: tuple[float, ...], bounds: dict, allowed: float
) -> None:
    """A value may move by two standard errors, one per cent or a thousandth of a bound; whole numbers by nothing."""
    assert release.tolerance(claim(*ours, **bounds)) == pytest.approx(allowed, rel=1e-9)


def test_a_value_within_its_tolerance_is_as_released() -> None:
    """A mean on the edge of its tolerance has not drifted, one just beyond it has, and is told with what it was."""
    then = release.frozen(claim(2.5, low=1.0))
    assert release.drift(claim(2.524, low=1.0), then) == "as released"
    assert release.drift(claim(2.526, low=1.0), then) == "drifted: was 2.500\u00a0±\u00a00.025"


def test_a_changed_verdict_has_drifted() -> None:
    """A verdict that changes has drifted however little the value moved."""
    then = release.frozen(claim(1.001, low=1.0))
    assert release.drift(claim(0.999, low=1.0), then) == "drifted: was holds"


def test_what_was_not_measured_then_is_new() -> None:
    """A claim that was unknown or untested is new; one that can no longer be tested has drifted."""
    untested = claim(needs="data")
    assert release.drift(claim(1.0), None) == "new"
    assert release.drift(claim(1.0), release.frozen(untested)) == "new"
    assert release.drift(untested, release.frozen(untested)) == "as released"
    assert release.drift(untested, release.frozen(claim(1.5))) == "drifted: was measured, 1.5"


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The results of a tiny chapter with two claims, and the release that was made of them."""
    lines = "from noisebook.claims import Claim, write\nfolder = pathlib.Path(out) / 'tiny'\n"
    lines += "pair = [Claim('T1', 'a', '', (2.5,), low=1.0), Claim('T2', 'b', '', (4.0,), high=4.5)]\n"
    install(monkeypatch, tmp_path, tiny(WRITE, f"import pathlib\n{lines}write(pair, folder / 'claims.json')"))
    results, file = tmp_path / "results", tmp_path / "release.json"
    chapters.run("tiny", out=results)
    assert release.freeze(results, ["tiny"], file, tmp_path / "badge.svg") == {
        "holds": 2,
        "fails": 0,
        "undecided": 0,
        "not tested": 0,
    }
    return results, file


def test_a_changed_result_is_caught(frozen: tuple[Path, Path]) -> None:
    """Nothing has drifted from a fresh release; a value beyond its tolerance and a claim that is gone are both told."""
    results, file = frozen
    assert release.drifted(results, file) == []
    path = results / "tiny" / "claims.json"
    first, _ = claims.read(path)
    claims.write([replace(first, ours=(2.6,))], path)
    told = ["tiny T2: drifted: no longer there", "tiny T1: drifted: was 2.500\u00a0±\u00a00.025"]
    assert release.drifted(results, file) == told
    path.unlink()
    assert release.drifted(results, file) == []  # a chapter that was not run has not drifted


def test_the_same_results_give_the_same_release(frozen: tuple[Path, Path], tmp_path: Path) -> None:
    """Frozen again, the file has the same bytes: no clock stands in it; and the badge is a picture with the totals."""
    results, file = frozen
    before = file.read_bytes()
    release.freeze(results, ["tiny"], file)
    assert file.read_bytes() == before
    badge = ET.fromstring((tmp_path / "badge.svg").read_text())
    assert badge.get("aria-label") == "claims: 2 holds · 0 fails · 0 undecided · 0 not tested"
    assert "1 drifted" in release.badge({"holds": 1}, 1)


def test_only_whole_runs_with_the_book_s_preset_are_frozen(frozen: tuple[Path, Path]) -> None:
    """A chapter that was not run, one whose notebook was changed since, and a smoke run are each refused."""
    results, file = frozen
    with pytest.raises(ValueError, match=r"results of gap: expected a whole run in .*, got none. Run: make book"):
        release.freeze(results, ["tiny", "gap"], file)
    executed = results / "tiny.ipynb"
    executed.write_text(executed.read_text() + "\n")
    with pytest.raises(ValueError, match="another content than the run"):
        release.freeze(results, ["tiny"], file)
    chapters.run("tiny", preset="smoke", out=results)
    with pytest.raises(ValueError, match="a run with the preset book, got smoke"):
        release.freeze(results, ["tiny"], file)


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    """No file is an empty release; one of another shape is an error that says what to run."""
    file = tmp_path / "release.json"
    assert release.read(file) == {}
    for text in ("{", "[]", "{}", json.dumps({"chapters": {"a": {"T1": {"value": 1}}}})):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"expected a release, got .* Run: noisebook freeze"):
            release.read(file)


def test_the_badge_is_that_of_the_release() -> None:
    """The picture that the README shows has the totals of the committed release."""
    verdicts = [one.verdict for kept in release.read().values() for one in kept.values()]
    totals = {name: verdicts.count(name) for name in claims.VERDICTS}
    badge = Path(__file__).parents[1] / "book" / "images" / "claims.svg"
    assert sum(totals.values()) == len(verdicts) > 0
    assert badge.read_text(encoding="utf-8") == release.badge(totals)
