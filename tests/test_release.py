"""The last release: what is kept of a claim, how far it may move, and that what has moved further is told."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_notebook import DAMAGES, PARTS, STAMP, WRITE, damage, install, reseal, tiny
from typer.testing import CliRunner

from noisebook import chapters, claims, cli, release
from noisebook.claims import Claim


def claim(*ours: float, **fields: object) -> Claim:
    """A claim with these measured values."""
    return Claim(**({"id": "T1", "statement": "It is small.", "source": "Sec. II", "ours": ours} | fields))


@pytest.mark.parametrize(
    ("ours", "bounds", "allowed"),
    [
        ((2.5, 2.5), {"low": 1.0}, 0.025),  # one per cent
        ((2.0, 2.2, 2.4), {"low": 1.0}, 0.2 / 3**0.5 / 4),  # a quarter of the standard error
        ((3e-16,), {"high": 1e-8}, 1e-11),  # a thousandth of the bound
        ((7.0,), {"low": 1.0}, 0.0),  # counted
        ((0.001,), {"low": 0.0, "high": 5.0}, 0.005),  # a bound at zero says nothing of the scale
    ],
)
def test_the_tolerance_is_the_largest_of_three_unless_counted(
    ours: tuple[float, ...], bounds: dict, allowed: float
) -> None:
    """A value may move by one per cent, a quarter of a standard error or a thousandth of a bound; whole numbers not."""
    assert release.tolerance(claim(*ours, **bounds)) == pytest.approx(allowed, rel=1e-9)


def test_a_value_within_its_tolerance_is_as_released() -> None:
    """A mean on the edge of its tolerance has not drifted, one just beyond it has, and is told with what it was."""
    then = release.frozen(claim(2.5, low=1.0))
    assert release.drift(claim(2.524, low=1.0), then) == "as released"
    assert release.drift(claim(2.526, low=1.0), then) == "drifted: was 2.500\u00a0±\u00a00.025"


def test_the_spread_between_seeds_is_no_tolerance() -> None:
    """All values moved by one standard error have drifted; so have values that moved apart about the same mean."""
    then = release.frozen(claim(4.0, 5.5, 7.0, low=1.0))
    assert release.drift(claim(4.9, 6.4, 7.9, low=1.0), then) == "drifted: was 5.50\u00a0±\u00a00.22"
    assert release.drift(claim(5.0, 5.5, 6.0, low=1.0), then) == "drifted: was spread by a standard error of 0.866"


def test_a_changed_verdict_has_drifted() -> None:
    """A verdict that changes has drifted however little the value moved."""
    then = release.frozen(claim(1.001, low=1.0))
    assert release.drift(claim(0.999, low=1.0), then) == "drifted: was holds"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"low": 0.5}, "was supported by ≥ 1"),
        ({"high": 9.0}, "was supported by ≥ 1"),
        ({"ours": (2.5, 2.5, 2.5)}, "was measured with n = 1"),
        ({"statement": "It is large."}, "was stated as “It is small.”"),
        ({"low": 3.0, "ours": (4.0,)}, "was 2.500\u00a0±\u00a00.025; was supported by ≥ 1"),
    ],
)
def test_another_bound_number_or_statement_has_drifted(changes: dict, told: str) -> None:
    """What a claim says and asks for, and how often it was measured, may not change though its verdict still holds."""
    now = claim(2.5, low=1.0)
    assert release.drift(replace(now, **changes), release.frozen(now)) == f"drifted: {told}"


@pytest.mark.parametrize("changes", [{"source": "Sec. III"}, {"published": "2"}, {"data": "d"}, {"schedule": "s"}])
def test_the_words_beside_a_claim_may_change(changes: dict) -> None:
    """Source, published value, data and schedule are told, not frozen."""
    now = claim(2.5, low=1.0)
    assert release.drift(replace(now, **changes), release.frozen(now)) == "as released"


def test_what_was_not_measured_then_is_new() -> None:
    """A claim that was unknown or untested is new; one that can no longer be tested has drifted."""
    untested = claim(needs="data")
    assert release.drift(claim(1.0), None) == "new"
    assert release.drift(claim(1.0), release.frozen(untested)) == "new"
    assert release.drift(untested, release.frozen(untested)) == "as released"
    assert release.drift(untested, release.frozen(claim(1.5))) == "drifted: was measured, 1.5"


CLAIMS = "from noisebook.claims import Claim, write\nfolder = pathlib.Path(out) / 'tiny'\n"
CLAIMS += "pair = [Claim('T1', 'a', '', (2.5,), low=1.0), Claim('T2', 'b', '', (4.0,), high=4.5)]\n"
SOURCE = tiny(WRITE, f"import pathlib\n{CLAIMS}write(pair, folder / 'claims.json')", STAMP)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny chapter with two claims."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        install(patch, folder, SOURCE)
        chapters.run("tiny", out=folder / "results")
    return folder / "results"


@pytest.fixture
def frozen(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A copy of the results, and the release that was made of them."""
    install(monkeypatch, tmp_path, SOURCE)
    results, file = tmp_path / "results", tmp_path / "data" / "release.json"
    shutil.copytree(ran, results)
    totals = release.freeze(results, ["tiny"], file, tmp_path / "badge.svg")
    assert totals == {"holds": 2, "fails": 0, "undecided": 0, "not tested": 0}
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


def test_a_chapter_that_is_gone_has_drifted_unless_others_were_asked_for(frozen: tuple[Path, Path]) -> None:
    """A chapter of the release without results is told; where only some chapters ought to be there, only these."""
    results, file = frozen
    content = json.loads(file.read_text())
    content["chapters"]["lost"] = content["chapters"]["tiny"]
    file.write_text(json.dumps(content))
    assert release.drifted(results, file) == ["lost: drifted: no longer there"]
    assert release.drifted(results, file, ["tiny"]) == []


def test_the_same_results_give_the_same_release(frozen: tuple[Path, Path], tmp_path: Path) -> None:
    """Frozen again, the file has the same bytes: no clock stands in it; and the badge is a picture with the totals."""
    results, file = frozen
    before = file.read_bytes()
    release.freeze(results, ["tiny"], file)
    assert file.read_bytes() == before
    badge = ET.fromstring((tmp_path / "badge.svg").read_text())
    assert badge.get("aria-label") == "claims: 2 holds · 0 fails · 0 undecided · 0 not tested"
    assert "1 drifted" in release.badge({"holds": 1}, 1)


def test_a_release_names_the_commit_of_each_run(frozen: tuple[Path, Path]) -> None:
    """Beside a chapter's claims stands the commit that measured them, not the one that froze them."""
    results, file = frozen
    path = results / "tiny" / "results.json"
    content = json.loads(path.read_text())
    content["provenance"]["commit"] = "0123456789ab"
    path.write_text(json.dumps(content))
    reseal(results / "tiny")
    release.freeze(results, ["tiny"], file)
    kept = json.loads(file.read_text())["chapters"]["tiny"]
    assert kept["commit"] == "0123456789ab"
    assert kept["claims"]["T1"] == {"statement": "a", "ours": [2.5], "low": 1.0, "high": None, "verdict": "holds"}


def test_only_whole_runs_with_the_book_s_preset_are_frozen(frozen: tuple[Path, Path]) -> None:
    """A chapter that was not run, one whose notebook was changed since, and a smoke run are each refused."""
    results, file = frozen
    with pytest.raises(ValueError, match=r"gap.ipynb: expected a notebook, got no such file .*\. Run: make book"):
        release.freeze(results, ["tiny", "gap"], file)
    executed = results / "tiny.ipynb"
    executed.write_text(executed.read_text() + "\n")
    with pytest.raises(ValueError, match=r"tiny.ipynb: expected what its run left, got another content"):
        release.freeze(results, ["tiny"], file)
    chapters.run("tiny", preset="smoke", out=results)
    with pytest.raises(ValueError, match=r"a run with the preset book, got smoke. Remove .*tiny and run: make book"):
        release.freeze(results, ["tiny"], file)


def test_stale_results_are_not_frozen(frozen: tuple[Path, Path], tmp_path: Path) -> None:
    """Once the chapter's notebook has changed, what an older one measured is refused."""
    results, file = frozen
    source = tmp_path / "notebooks" / "tiny.ipynb"
    source.write_text(source.read_text().replace("(2.5,)", "(2.6,)"))
    with pytest.raises(ValueError, match=r"results of tiny: expected a run of its present notebook.* Run: make book"):
        release.freeze(results, ["tiny"], file)


def test_claims_that_were_typed_are_not_frozen(frozen: tuple[Path, Path]) -> None:
    """Claims that were edited after the run are refused, and the release keeps what it had."""
    results, file = frozen
    before, path = file.read_bytes(), results / "tiny" / "claims.json"
    first, second = claims.read(path)
    claims.write([replace(first, ours=(99.0,)), second], path)
    with pytest.raises(ValueError, match=r"claims.json: expected what its run left, got another content"):
        release.freeze(results, ["tiny"], file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("sealed", [False, True], ids=["edited", "written"])
def test_a_damaged_input_is_told_in_one_line(
    frozen: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, part: str, kind: str, sealed: bool
) -> None:
    """``noisebook freeze`` names what is missing, cut, of wrong types or no UTF-8, and the remedy; status 2."""
    results, release_file = frozen
    before, root = release_file.read_bytes(), results.parent
    shutil.copytree(results, root / "build" / "results")
    file = root / "build" / "results" / part.format("tiny")
    damage(file, kind)
    if sealed and "run" not in part:
        reseal(root / "build" / "results" / "tiny")
    monkeypatch.setattr(cli._paths, "clone", lambda: root)
    result = CliRunner().invoke(cli.app, ["freeze"])
    assert result.exit_code == 2
    told = rf"noisebook: {re.escape(str(file))}: expected .*, got .*\. (R|Remove .* and r)un: make book\n"
    assert re.fullmatch(told, result.output), result.output
    assert release_file.read_bytes() == before


RECORD = {"id": "T1", "statement": "a", "source": "", "ours": [2.5], "low": None, "high": None, "unit": ""}
RECORD |= {"published": "", "data": "", "schedule": "", "needs": "", "verdict": "holds"}
WRONG = ({"ours": "x"}, {"ours": ["x"]}, {"ours": 5}, {"ours": [10**400]}, {"ours": []}, {"low": "x"}, {"low": [1]})
WRONG += ({"statement": 5}, {"id": 5}, {"id": [1]}, {"needs": 5}, {"verdict": None}, {"verdict": "fails"}, {"more": 1})


@pytest.mark.parametrize("records", [5, [5], {"a": 1}, [RECORD, RECORD], *([RECORD | wrong] for wrong in WRONG)])
def test_claims_of_wrong_types_are_told_with_their_file(tmp_path: Path, records: object) -> None:
    """Whatever stands in a claims file in place of claims is an error of one line that names the file."""
    file = tmp_path / "tiny" / "claims.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"claims": records}))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected the claims of a run, got .* make book$"):
        release.measured(tmp_path, "tiny")


KEPT = {"statement": "a", "ours": [1.5], "low": 1.0, "high": None, "verdict": "holds"}
DAMAGED = ({"ours": ["x"]}, {"ours": "x"}, {"ours": None}, {"ours": [10**400]}, {"ours": [True]}, {"low": "x"})
DAMAGED += ({"low": True}, {"low": 9.0, "high": 1.0}, {"statement": 5}, {"verdict": "maybe"}, {"verdict": "not tested"})
DAMAGED += ({"tolerance": 1.0}, {"ours": []})


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "5", "", '{"chapters": {}}', '{"chapters": null}', '{"chapters": {"a": {"claims": {}}}}'),
        *(json.dumps({"chapters": {"a": {"claims": {"T1": KEPT | wrong}}}}) for wrong in DAMAGED),
        *(json.dumps({"chapters": {"a": {"claims": {"T1": wrong}}}}) for wrong in ([1], None, 5, {})),
        json.dumps({"chapters": {"a": {"T1": {"mean": 1.0, "tolerance": 1.0, "verdict": "holds"}}}}),
        *(json.dumps({"chapters": {"a": {"claims": {"T1": KEPT | {"ours": [bad]}}}}}) for bad in (1e999, float("nan"))),
        b"\xff\xfe",
        None,
    ],
)
def test_what_is_no_release_is_refused(tmp_path: Path, text: str | bytes | None) -> None:
    """No file, one without claims and one of another shape are errors of one line that say what to run."""
    file = tmp_path / "release.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    told = rf"^{re.escape(str(file))}: expected a release with claims, got .*\. Run: noisebook freeze$"
    for call in (lambda: release.read(file), lambda: release.drifted(tmp_path, file)):
        with pytest.raises(ValueError, match=told):
            call()


def test_the_badge_is_that_of_the_release() -> None:
    """The picture that the README shows has the totals of the committed release."""
    verdicts = [one.verdict for kept in release.read().values() for one in kept.values()]
    totals = {name: verdicts.count(name) for name in claims.VERDICTS}
    badge = Path(__file__).parents[1] / "book" / "images" / "claims.svg"
    assert sum(totals.values()) == len(verdicts) > 0
    assert badge.read_text(encoding="utf-8") == release.badge(totals)
