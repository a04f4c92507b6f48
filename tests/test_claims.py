"""Claims: verdicts follow from the numbers, and files cannot say otherwise."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from noisebook import claims
from noisebook.claims import Claim


def claim(*ours: float, **fields: object) -> Claim:
    """A claim with these measured values."""
    return Claim(**({"id": "L1", "statement": "It is small.", "source": "Sec. II", "ours": ours} | fields))


def test_mean_and_standard_error_are_the_usual_ones() -> None:
    """Mean and standard error agree with numpy; one value has no spread, none has no mean."""
    values = np.random.default_rng(0).normal(3, 2, 17)
    measured = claim(*values)
    assert measured.mean == pytest.approx(values.mean(), rel=1e-12)
    assert measured.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(17), rel=1e-12)
    assert claim(4.0).standard_error == 0
    assert math.isnan(claim(needs="data").mean)
    assert math.isnan(claim(needs="data").standard_error)


@pytest.mark.parametrize(
    ("ours", "bounds", "verdict"),
    [
        ((1e-12,), {"high": 1e-8}, "holds"),
        ((1e-7,), {"high": 1e-8}, "fails"),
        ((1e-8,), {"high": 1e-8}, "holds"),
        ((1.0, 1.2, 1.4), {"low": 0.8}, "undecided"),  # 1.2 - 4.30 x 0.115 < 0.8 < 1.2 - 2 x 0.115
        ((1.0, 1.2, 1.4), {"high": 1.0}, "undecided"),
        ((1.0, 1.2, 1.4), {"low": 1.8}, "fails"),
        ((1.3, 1.4, 1.5), {"low": 1.1}, "holds"),
        ((1.3, 1.4, 1.5), {"low": 1.0, "high": 1.5}, "undecided"),
        ((5.0,), {}, "holds"),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(ours: tuple[float, ...], bounds: dict, verdict: str) -> None:
    """The 95 % interval by Student's t: all within the bounds holds, all beyond fails, both is undecided."""
    assert claim(*ours, **bounds).verdict == verdict


def test_an_untested_claim_says_what_it_needs() -> None:
    """A claim without measurement is not tested, and the verdict names what is missing."""
    assert claim(needs="TCIA LDCT").verdict == "not tested (needs TCIA LDCT)"


def test_claims_that_say_nothing_are_refused() -> None:
    """NaN, infinity, no value without a need, a value with a need, crossed or NaN bounds and no id are errors."""
    for fields, text in (
        ({"ours": (1.0, math.nan)}, "claim L1: expected finite measured values"),
        ({"ours": (math.inf,)}, "claim L1: expected finite measured values"),
        ({}, "expected either measured values or what it needs, got 0 values"),
        ({"ours": (1.0,), "needs": "x"}, "expected either measured values or what it needs, got 1 values"),
        ({"ours": (1.0,), "low": 2, "high": 1}, "expected low <= high"),
        ({"ours": (1.0,), "low": math.nan}, "expected low <= high"),
        ({"ours": (1.0,), "id": ""}, "claim: expected an id"),
    ):
        with pytest.raises(ValueError, match=text):
            claim(**fields)


def test_writing_and_reading_is_exact_and_stable(tmp_path: Path) -> None:
    """Claims survive a file exactly, sorted L2 before L10; the bytes do not depend on the order given."""
    some = [
        claim(0.1, 0.2, id="L10", low=0),
        claim(needs="real data", id="G1"),
        claim(1 / 3, id="L2", high=1, unit="HU"),
    ]
    claims.write(some, tmp_path / "a.json")
    claims.write(some[::-1], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert claims.read(tmp_path / "a.json") == [some[1], some[2], some[0]]
    assert "Infinity" not in (tmp_path / "a.json").read_text()


def test_a_stored_verdict_that_disagrees_is_refused(tmp_path: Path) -> None:
    """A file whose verdict was edited by hand does not load."""
    path = tmp_path / "claims.json"
    claims.write([claim(2.0, high=1.0)], path)
    path.write_text(path.read_text().replace('"fails"', '"holds"'))
    with pytest.raises(ValueError, match="claim L1: expected 'fails', got 'holds'"):
        claims.read(path)


def test_what_is_no_claims_file_is_refused(tmp_path: Path) -> None:
    """Missing files, text, other JSON and records with missing or unknown fields are errors that name the file."""
    path = tmp_path / "claims.json"
    with pytest.raises(ValueError, match=r"claims\.json: expected a claims file, got no such file"):
        claims.read(path)
    claims.write([claim(1.0)], path)
    record = json.loads(path.read_text())["claims"][0]
    for content in ("no", "[]", '{"claims": [1]}', {"claims": [record | {"x": 1}]}, {"claims": [{"verdict": "holds"}]}):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(ValueError, match=r"claims\.json: expected a claims file"):
            claims.read(path)


def test_doubles_are_refused(tmp_path: Path) -> None:
    """Two claims of one id cannot be written or tabulated."""
    for call in (lambda c: claims.write(c, tmp_path / "x.json"), claims.markdown):
        with pytest.raises(ValueError, match="claims: expected distinct ids, got L1 twice"):
            call([claim(1.0), claim(2.0)])


def test_the_table_shows_measurement_bound_and_verdict() -> None:
    """Each row holds id, verdict, statement, mean with standard error and number, bound and published value."""
    table = claims.markdown(
        [
            claim(1.0, 1.2, 1.4, id="L3", low=0.9, high=1.1, unit="HU", published="0.98", statement="a | b"),
            claim(1e-12, high=1e-8),
            claim(2.0, id="L4", low=1),
            claim(2.0, id="L5"),
            claim(id="L6", needs="a GPU"),
        ]
    )
    rows = table.replace("\u00a0", " ").splitlines()
    assert rows[2] == "| L1 | **holds** | It is small. *(Sec. II)* | 10⁻¹² | ≤ 10⁻⁸ | no number |"
    assert rows[3] == r"| L3 | **undecided** | a \| b *(Sec. II)* | 1.20 ± 0.12 HU (n = 3) | 0.9 to 1.1 HU | 0.98 |"
    assert rows[4].endswith("| 2 | ≥ 1 | no number |")
    assert rows[5].endswith("| 2 | any value | no number |")
    assert rows[6].startswith("| L6 | **not tested (needs a GPU)** |")


def test_an_exact_claim_has_one_value() -> None:
    """Where one value alone supports a claim, it is told once."""
    assert claims.support(claim(70.0, low=70.0, high=70.0, unit="pixels")) == "70 pixels"


def test_what_is_published_is_told() -> None:
    """A work's number, that it gives none, and nothing for a claim of ours."""
    told = [
        claims.published(claim(1.0, source=s, published=p))
        for s, p in (("Sec. II", "2"), ("Sec. II", ""), ("ours", ""))
    ]
    assert told == ["2", "no number", ""]


def test_the_table_says_what_was_measured_with_what() -> None:
    """Without published values their column is left out; data and schedules stand under the table."""
    first = [claim(1.0, id=id, data="chests", schedule="40 epochs") for id in ("L1", "L2")]
    table = claims.markdown([*first, claim(2.0, id="L10", data="heads")])
    assert "published" not in table
    assert table.endswith("\n\nL1, L2: chests; 40 epochs.\n\nL10: heads.\n")


def test_counts_are_written_with_all_digits() -> None:
    """Measured values and bounds of what was counted lose no digit; where one value is not whole, three are enough."""
    counted = claim(1958497, low=1958497, high=2e6)
    assert (claims.measured(counted), claims.support(counted)) == ("1,958,497", "1,958,497 to 2,000,000")
    twice = claim(1958497, 1958497, low=1958496.5)
    assert claims.measured(twice).startswith("1,958,497\u00a0±\u00a00")
    assert claims.support(twice) == "≥ 1.96\u00a0×\u00a010⁶"
    assert claims.support(claim(1958497.5, low=1958497)) == "≥ 1.96\u00a0×\u00a010⁶"


def test_compared_networks_are_told_once_where_they_agree() -> None:
    """What two schedules share stands once; those that are divided otherwise stand in full, equal ones once."""
    first, second = "8 channels, decay 0 (1, 2); MSE, Adam", "8 channels, decay 1 (3, 2); MSE, Adam"
    assert claims.against(first, second) == "8 channels, decay 0 (1, 2) against decay 1 (3, 2); MSE, Adam"
    assert (
        claims.against(first, "L1, here; SGD") == "8 channels, decay 0 (1, 2) against L1, here; MSE, Adam against SGD"
    )
    assert claims.against(first, "L1", first) == f"{first}; against: L1"
    assert claims.against(first) == claims.against(first, first) == first


def test_totals_count_every_claim_once() -> None:
    """Totals add up to the number of claims, by verdict."""
    some = [
        claim(1.0),
        claim(1.0, high=0),
        claim(2.0, high=0),
        claim(1.0, 2.0, high=1.6),
        claim(needs="a"),
        claim(needs="b"),
        claim(needs="c"),
    ]
    assert claims.totals(some) == {"holds": 1, "fails": 2, "undecided": 1, "not tested": 3}


def test_what_failed_is_listed_with_what_was_needed() -> None:
    """What fails, and apart from it what is undecided, is named with measurement and bound; without any, it says so."""
    good, bad = (
        Claim("T1", "one is one", "", (1.0,), low=1.0),
        Claim("T2", "two is small", "", (2.0,), high=1.0, unit="dB"),
    )
    unknown = Claim("T3", "who knows", "", (), needs="data")
    assert claims.failures([bad, good, unknown]) == "- **T2**: two is small: 2 dB where ≤ 1 dB was needed\n"
    assert claims.failures([good, unknown]) == "No claim fails.\n"
    unsure = Claim("T4", "four is small", "", (0.8, 1.0, 1.1), high=1.0)
    told = claims.failures([unsure, bad]).replace("\u00a0", " ").splitlines()
    assert told[0].startswith("- **T2**")
    assert told[1:4:2] == ["", ""]
    assert told[2].startswith("Undecided, since the mean's 95 % interval")
    assert told[4] == "- **T4**: four is small: 0.967 ± 0.088 (n = 3) where ≤ 1 was needed"


RECORDS = """
source: A. Author 2020
claims:
  - id: T1
    statement: nets of {width} channels gain, most in {most[place]}
    value: gain
    with: {over: 2.0}
    axes: [seed, patient]
    study: edges
    data: simulated
    networks: [small, "{other}"]
    low: 0
    unit: dB
  - {id: T2, kind: check, statement: it adds up, value: total, high: 10, source: ours}
  - {id: T3, statement: faces are drawn, needs: a million faces}
"""


@pytest.fixture
def tiny(tmp_path):
    """A claims.yaml and the module that it names functions of."""
    import types

    module = types.ModuleType("tiny_measures")
    code = (
        "import math\n"
        "def gain(found, over):\n    return found['edges'] - over\n"
        "def total(found):\n    return float(found['edges'].sum())\n"
    )
    exec(code, module.__dict__)
    file = tmp_path / "claims.yaml"
    file.write_text(RECORDS)
    return file, module


def measured(file: Path, module: object) -> list[Claim]:
    """The claims of the tiny paper."""
    found = {"edges": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "most": {"place": "bone"}, "other": "wide"}
    return claims.measure(file, module, found, lambda study: {"width": 8}, lambda *ids: " and ".join(ids))


def test_claims_are_measured_from_their_records(tiny) -> None:
    """The function that a record names measures it; named axes stay; study and run fill what stands in braces."""
    first, second, third = measured(*tiny)
    assert first.statement == "nets of 8 channels gain, most in bone"
    assert first.axes == {"seed": 2, "patient": 3}
    np.testing.assert_array_equal(first.values, [[-1, 0, 1], [2, 3, 4]])
    assert first.data == "simulated, precomputed study edges, one value a seed and patient"
    assert (first.schedule, first.source, first.low, first.high) == ("small and wide", "A. Author 2020", 0.0, math.inf)
    assert (second.kind, second.ours, second.verdict, second.source) == ("check", (21.0,), "fails", "ours")
    assert third.verdict == "not tested (needs a million faces)"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("value: gain", "value: gian", "claim T1: value: expected one of gain, total, got 'gian'"),
        ("value: gain", "value: math", "claim T1: value: expected one of gain, total, got 'math'"),
        ("low: 0", "bound: 0", "claim T1: field: expected one of .*, got 'bound'"),
        ("low: 0", "low: none", "claim T1: low: expected float, got 'none'"),
        ("[seed, patient]", "[seed]", r"claim T1: expected values with the axes \['seed'\], got shape \(2, 3\)"),
        ("kind: check", "kind: chek", "claim T2: kind: expected one of check, claim, got 'chek'"),
        ("needs: a million faces", "unit: dB", "claim T3: expected a statement, and a value or what it needs"),
        ("source: A. Author 2020", "", "expected YAML with source and claims"),
    ],
)
def test_a_wrong_record_is_refused_by_name(tiny, old: str, new: str, text: str) -> None:
    """Unknown fields, functions and kinds, mistyped values and axes that do not fit end in one line."""
    file, module = tiny
    file.write_text(RECORDS.replace(old, new))
    with pytest.raises(ValueError, match=text):
        measured(file, module)
