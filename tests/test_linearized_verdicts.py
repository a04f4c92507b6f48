"""Tables and claims of the linearized chapter follow the numbers of its studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noisebook import claims
from noisebook.papers import linearized

EXACT = {"double backward": np.zeros(3), "finite differences": np.zeros(3)}
NAMES = ("i0", "i0-l1", "i0-10", "i0-100", "i0-seed1", "i0-seed2")


def study(ratio: float, linear_psnr: float = 30.0) -> dict[str, np.ndarray]:
    """A study in which every region has a ratio of standard deviations, and of contrast recoveries, of ``ratio``."""
    covariance, response = np.zeros((4, 64, 64)), np.zeros((4, 64, 64))
    covariance[:, 32, 32], response[:, 32, 32] = (2 * ratio) ** 2, 0.1 * ratio
    return {
        "mc_sd": np.full((4, 64, 64), 2.0),
        "mc_covariance": np.full((4, 64, 64), 4.0),
        "linear_covariance": covariance,
        "linear_response": response,
        "recovery": np.full(4, 0.1),
        "advantage": np.full(4, 1e4),
        "plug_sd": np.full((4, 5), 2 * ratio),
        "plug_recovery": np.full((4, 5), 0.1 * ratio),
        "ratio": np.full(4, ratio),
        "ratio_error": np.full(4, 0.01),
        "psnr": np.tile([20.0, 23.0, 26.0, 29.0], (4, 1)),
        "linear_psnr": np.full(4, linear_psnr),
        "evaluations": np.full(4, 5.0),
    }


@pytest.fixture
def results() -> dict[str, dict[str, np.ndarray]]:
    """Studies in which everything is as the paper says."""
    edges = {"edge": np.ones(4), "patient": np.arange(4), "elongation": np.full(4, 2.0)}
    found = {name: study(1.0) for name in NAMES} | {"elongation": edges}
    short = study(1.0) | {"psnr": study(1.0)["psnr"][:, :3]}
    return found | {"i0-10": study(1.7), "i0-100": study(3.1), "i0-l1": short}


def measured(results: dict[str, dict[str, np.ndarray]], errors: dict, adjoints: dict) -> list:
    """The claims of the chapter from given studies."""
    return linearized.PAPER.claims(results | {"derivatives": errors, "adjoints": adjoints})


def verdicts(results: dict[str, dict[str, np.ndarray]], errors: dict[str, np.ndarray] = EXACT) -> dict[str, str]:
    """The verdict of every claim by its id."""
    adjoints = dict.fromkeys(("Jacobian", "projection", "back-projection", "FBP"), errors["double backward"])
    return {claim.id: claim.verdict for claim in measured(results, errors, adjoints)}


def test_everything_holds_where_all_is_as_the_paper_says(results: dict[str, dict[str, np.ndarray]]) -> None:
    """All ten claims are there, and each of their parts holds."""
    found = verdicts(results)
    assert {name.rstrip("abcd") for name in found} == {f"L{k}" for k in range(1, 11)}
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize(
    ("name", "change", "fail"),
    [
        ("i0", study(1.3), {"L3a", "L5a", "L8a"}),
        ("i0-l1", study(0.8), {"L9b"}),
        ("i0", study(1.0, linear_psnr=25.0), {"L4b", "L4c"}),
        ("i0-l1", study(1.0, linear_psnr=25.0), {"L9a"}),
        ("i0-10", study(0.9), {"L6a", "L6c"}),
        ("i0-100", study(1.5), {"L6b", "L6d"}),
        ("i0-seed2", study(1.5), {"L3b"}),
        ("elongation", {"edge": np.ones(3), "patient": np.arange(3), "elongation": np.full(3, 0.9)}, {"L10"}),
    ],
)
def test_a_claim_fails_with_its_numbers(
    results: dict[str, dict[str, np.ndarray]], name: str, change: dict[str, np.ndarray], fail: set[str]
) -> None:
    """A study that says otherwise keeps the claims on it, and those that compare with it, from holding."""
    failed = {claim for claim, verdict in verdicts(results | {name: change}).items() if verdict != "holds"}
    assert fail <= failed
    assert failed - fail <= {"L3b", "L6a", "L6b", "L6c", "L6d"}


def test_wrong_derivatives_fail(results: dict[str, dict[str, np.ndarray]]) -> None:
    """Errors of a tenth turn L1 and L2 to fails."""
    found = verdicts(results, {name: np.full(3, 0.1) for name in EXACT})
    assert all(found[name] == "fails" for name in ("L1a", "L1b", "L2a", "L2b", "L2c", "L2d"))


def test_claims_name_what_they_were_measured_on() -> None:
    """A claim carries the data, realisations, studies and networks that it compares."""
    exact = {name: np.zeros(3) for name in ("Jacobian", "projection", "back-projection", "FBP")}
    found = {claim.id: claim for claim in measured({}, EXACT, exact)}
    assert "11 base channels" in found["L10"].schedule
    assert found["L3a"].data == ("simulated patients, 10,000 realisations, precomputed study i0, one value a region")
    assert "precomputed studies i0-10, i0" in found["L6a"].data
    assert found["L6a"].schedule.endswith("at exposure I0/10 against " + found["L3a"].schedule.split("; ")[-1])
    assert found["L9a"].schedule.split("; ")[1] == "L1 against noise free images"
    assert found["L2b"].schedule == ""  # no network projects


def test_the_published_numbers_are_the_paper_s() -> None:
    """What claims.yaml says was published follows from the tables of the paper."""
    published = {r["id"]: r.get("published", "") for r in claims.records(Path(linearized.__path__[0]) / "claims.yaml")}
    paper = linearized.measures.PAPER
    for id, quantity in (("L3a", "sd / HU"), ("L5a", "CRC")):
        ratios = np.divide(paper[f"{quantity}, linear"], paper[f"{quantity}, Monte Carlo"])
        assert published[id] == ", ".join(f"{ratio:.2f}" for ratio in ratios)
    for ids, quantity in (("L6a L6b", "sd"), ("L6c L6d", "CRC")):
        steps = np.diff(np.log2(linearized.measures.paper_ratios(quantity)))
        assert [published[id] for id in ids.split()] == [f"{step:+.2f}" for step in steps]
    gains = linearized.measures.PAPER_PSNR_GAIN.values()
    assert [published[f"L4{letter}"] for letter in "abc"] == [f"{gain:+.2f} dB" for gain in gains]


def test_the_reference_s_own_noise_is_taken_off(results: dict[str, dict[str, np.ndarray]]) -> None:
    """Monte Carlo whose error falls as 1/N gains 3 dB a doubling, whatever noise the reference adds to both."""
    error = 1 / np.array(linearized.measures.SUBSETS) + 1 / linearized.measures.REFERENCE
    change = {"i0": study(1.0) | {"psnr": np.tile(-10 * np.log10(error), (4, 1))}}
    assert linearized.measures.doubling_gain(results | change).mean() == pytest.approx(10 * np.log10(2))


def test_tables_hold_the_numbers(results: dict[str, dict[str, np.ndarray]]) -> None:
    """Ours stand beside the paper's; equal accuracy is ten decibels a tenfold."""
    beside = linearized.measures.beside_the_paper(results["i0"])
    assert beside["CRC, linear"][0] == pytest.approx(0.1)
    assert beside["sd / HU, Monte Carlo"][beside["region"].index("paper 3")] == 3.26
    cost = linearized.measures.cost_table(results | {"i0": study(1.0, linear_psnr=39.0)})
    assert cost["scans of equal accuracy, at least"][0] == 20000
    assert cost["net"].count("L1") == 4
    assert linearized.measures.ratios(results)["I0/10"]["CRC"] == pytest.approx(np.full(4, 1.7))
    assert linearized.measures.paper_ratios("sd") == pytest.approx([0.984, 1.697, 3.122], abs=1e-3)


def test_covariance_rows_are_centred_on_the_pixel() -> None:
    """The crop has the pixel in its middle, and the third row is the difference."""
    rows = linearized.measures.covariance_rows(study(1.5), half=2)
    assert rows["linear"][0].shape == (5, 5)
    assert rows["linear"][3][2, 2] == 9
    assert rows["linear − Monte Carlo"][0][2, 2] == 5
