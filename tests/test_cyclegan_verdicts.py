"""Studies of the CycleGAN chapter at tiny size, and claims that follow the numbers of studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noisebook import studies
from noisebook.papers import cyclegan
from noisebook.papers.cyclegan import studies as long

Rows = dict[str, np.ndarray]
NETWORKS, SMALL = cyclegan.experiment.NETWORKS, cyclegan.experiment.SMALL
RULES, SLICES, EPOCHS = len(cyclegan.measures.CONVENTIONS), 10, 4


def study(unpaired: float = 0.7, paired: float = 0.5, misaligned: float = 1.4) -> Rows:
    """A study of three seeds whose RMSE are these shares of the input's 20 HU; everything else is as published."""
    kinds = np.tile([cyclegan.measures.UNPAIRED, cyclegan.measures.PAIRED, cyclegan.measures.MISALIGNED], 3)
    share = np.tile([unpaired, paired, misaligned], 3)
    gan = kinds == cyclegan.measures.UNPAIRED
    psnr = np.tile(np.array([36.0, 36.0, 24.0, 23.0, 43.0])[:, None], SLICES)
    frequency = np.linspace(0.04, 0.66, 16)
    flat = np.ones(16)
    curve = np.array([30.0, 22.0, 20.0, 21.0])
    rows = {
        "kind": kinds,
        "seed": np.repeat([1, 2, 3], 3),
        "shift": np.where(kinds == cyclegan.measures.MISALIGNED, 8, 0),
        "lambda_cycle": np.full(9, 10.0),
        "lambda_identity": np.full(9, 5.0),
        "epoch": np.full(9, 3),
        "mean_frequency": np.where(gan, 0.4, 0.2),
        "rmse_truth": 20 * share[:, None] * np.ones(SLICES),
        "rmse_full": 17 * share[:, None] * np.ones(SLICES),
        "psnr": np.tile(psnr, (9, 1, 1)),
        "ssim": np.tile(np.linspace(0.93, 0.85, RULES)[:, None], (9, 1, SLICES)),
        "power": np.where(gan, 1.1, 0.3)[:, None] * flat,
        "validation": np.tile(curve, (9, 1)),
        "test": np.tile(curve, (9, 1)),
        "adversarial": np.where(gan, 0.26, np.nan)[:, None] * np.ones(EPOCHS),
        "critics": np.where(gan, 0.52, np.nan)[:, None] * np.ones(EPOCHS),
        **{name: np.where(gan, 4.0, np.nan) for name in long.RESIDUALS},
    }
    inputs = {"rmse_truth": np.full(SLICES, 20.0), "rmse_full": np.full(SLICES, 17.0), "psnr": psnr - 2}
    inputs |= {"ssim": np.full((RULES, SLICES), 0.8), "power": 4 * flat, "mean_frequency": np.array(0.42)}
    full = {"power": flat, "mean_frequency": np.array(0.42), "rmse_truth": np.full(SLICES, 10.0)}
    rows |= {f"input_{name}": values for name, values in inputs.items()}
    rows |= {f"full_{name}": values for name, values in full.items()}
    return rows | {"frequency": frequency, "patient": np.arange(SLICES) // 2}


def only(rows: Rows, kind: int, **change: np.ndarray) -> Rows:
    """The nets of one kind of a study, with some columns changed."""
    count = len(rows["kind"])
    chosen = rows["kind"] == kind
    return {name: v[chosen] if v.ndim and len(v) == count else v for name, v in rows.items()} | change


def published() -> dict[str, Rows]:
    """Studies in which everything is as the sheet of claims says."""
    worse = only(study(unpaired=1.2), cyclegan.measures.UNPAIRED, lambda_cycle=np.ones(3))
    ramp = only(study(), cyclegan.measures.PAIRED, shift=np.array([0, 4, 512]))
    ramp["rmse_truth"] = ramp["rmse_truth"] * np.array([1.0, 2.0, 4.0])[:, None]
    kinds = np.repeat([0, 1], 3)
    blind = {"kind": kinds, "seed": np.tile([0, 1, 2], 2), "loss": np.array([[0.6, 0.53], [0.5, 0.3]])[kinds]}
    return {"seeds": study(), "lambdas": worse, "registration": ramp, "critics": blind}


def found(given: dict[str, Rows]) -> dict[str, str]:
    """The verdict of every claim by its id."""
    return {claim.id: claim.verdict for claim in cyclegan.PAPER.claims(given)}


def test_everything_holds_where_all_is_as_published() -> None:
    """All twelve claims are there, and each of their parts holds."""
    verdict = found(published())
    assert {name.rstrip("abcd") for name in verdict} == {f"C{k}" for k in range(1, 13)}
    assert {name: text for name, text in verdict.items() if text != "holds"} == {}


def test_published_values_are_those_of_the_project() -> None:
    """Every number that stands as published, typed from its report and plots; residuals may be twice theirs."""
    known = {claim.id: claim for claim in cyclegan.PAPER.claims(published())}
    assert {name: claim.published for name, claim in known.items() if claim.published} == {
        "C1b": "34.170 to 36.350 dB",
        "C1c": "0.8932 to 0.9318",
        "C4a": "14.14 dB where the input has 34.170 dB",
        "C5a": "0.264",
        "C5b": "0.52",
        "C7": "a gain of 2.18 dB",
        "C9a": "1,958,497",
        "C9b": "2,761,728",
        "C9c": "70",
        "C9d": "8",
        "C10a": "6 HU",
        "C10b": "2.4 HU",
        "C10c": "5.6 HU",
    }
    bounds = {name: known[name].high for name in ("C10a", "C10b", "C10c")}
    assert bounds == pytest.approx({"C10a": 12.0, "C10b": 4.8, "C10c": 11.2})
    assert "full dose" in known["C10b"].statement
    assert "quarter dose" in known["C10c"].statement


def test_networks_that_do_not_beat_the_input_are_counted() -> None:
    """C2 is a whole number, at least one, and says truly how many networks there are, and seeds of each weights."""
    (claim,) = (claim for claim in cyclegan.PAPER.claims(published()) if claim.id == "C2")
    assert (claim.ours, claim.low) == ((3.0,), 1.0)
    groups = cyclegan.measures.sweep(*(studies.read(cyclegan.PAPER.study(name)) for name in ("seeds", "lambdas")))
    assert {name: len(ratios) for name, ratios in groups.items()} == {"10, 5": 3, "0, 0": 1, "10, 0": 1, "100, 50": 1}
    assert "networks of 6 that do not" in claim.statement


def changed(**columns: object) -> Rows:
    """The published study of seeds with some columns multiplied."""
    rows = study()
    return rows | {name: rows[name] * factor for name, factor in columns.items()}


@pytest.mark.parametrize(
    ("name", "rows", "fail"),
    [
        ("seeds", study(unpaired=0.9), {"C1a"}),
        ("seeds", study(unpaired=1.1), {"C1a", "C1d"}),
        ("seeds", changed(psnr=0.9), {"C1b"}),
        ("seeds", changed(ssim=0.8), {"C1c"}),
        ("lambdas", only(study(), cyclegan.measures.UNPAIRED, lambda_cycle=np.ones(3)), {"C2"}),
        ("seeds", study(paired=0.8), {"C3"}),
        ("seeds", study(misaligned=0.9), {"C4c"}),
        ("seeds", study(misaligned=0.4), {"C4b", "C4c"}),
        ("registration", only(study(), cyclegan.measures.PAIRED, shift=np.array([0, 4, 512])), {"C4a"}),
        ("seeds", changed(adversarial=2), {"C5a"}),
        ("seeds", changed(critics=0.5), {"C5b"}),
        ("seeds", study() | {"ssim": np.full((9, RULES, SLICES), 0.9)}, {"C6"}),
        ("seeds", study() | {"psnr": np.full((9, RULES, SLICES), 36.5)}, {"C7"}),
        ("seeds", study() | {"epoch": np.full(9, 2)}, {"C8"}),
        ("seeds", changed(cycle_quarter=6), {"C10a"}),
        ("seeds", changed(identity_full=2), {"C10b"}),
        ("seeds", changed(identity_quarter=3), {"C10c"}),
        ("seeds", changed(mean_frequency=3), {"C11a", "C11b"}),
        ("seeds", study() | {"mean_frequency": np.tile([0.1, 0.4, 0.4], 3)}, {"C11b"}),
        ("seeds", changed(power=4), {"C11c", "C11d"}),
        ("critics", published()["critics"] | {"loss": np.full((6, 2), 0.3)}, {"C12a"}),
        ("critics", published()["critics"] | {"loss": np.full((6, 2), 0.52)}, {"C12b"}),
    ],
)
def test_a_claim_fails_with_its_numbers(name: str, rows: Rows, fail: set[str]) -> None:
    """A study that says otherwise turns the claims on it to fails, and no other."""
    verdict = found(published() | {name: rows})
    assert {claim for claim, text in verdict.items() if text == "fails"} == fail


def test_pairs_without_relation_can_be_no_worse() -> None:
    """C4a fails where the RMSE falls with the shift."""
    given = published()
    given["registration"]["rmse_truth"] = given["registration"]["rmse_truth"][::-1]
    assert found(given)["C4a"] == "fails"


def test_wrong_geometry_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of another width turn C9a and C9b to fails."""
    count = cyclegan.model.parameters
    monkeypatch.setattr(cyclegan.model, "parameters", lambda net: count(net) + 1)
    verdict = found(published())
    assert {name for name, text in verdict.items() if text == "fails"} == {"C9a", "C9b"}


def test_claims_name_what_they_were_measured_on() -> None:
    """Each claim names its own nets and patients; those of the exact sizes name none."""
    found = {claim.id: claim for claim in cyclegan.PAPER.claims(published())}
    how = {name: claim.schedule for name, claim in found.items()}
    assert all(("simulated" in claim.data) != name.startswith("C9") for name, claim in found.items())
    alone = {"C12a", "C12b"}
    assert all(("precomputed stud" in claim.data) == bool(how[n] or n in alone) for n, claim in found.items())
    adversarial, paired = "LSGAN + 10 cycle + 5 identity", "L1 on registered pairs"
    assert {name for name, text in how.items() if adversarial in text and paired in text} == {"C3", "C8", "C11b"}
    assert {name for name, text in how.items() if paired in text and adversarial not in text} == {"C4b", "C11a", "C11d"}
    assert "LSGAN + 100 cycle + 50 identity" in how["C2"]
    assert "L1 on pairs misaligned by up to 512 pixels" in how["C4a"]
    assert "L1 on pairs misaligned by up to 8 pixels" in how["C4c"]
    assert "with instance normalisation" in found["C12a"].data
    assert "without instance normalisation" in found["C12b"].data
    settings = cyclegan.experiment.SMALL
    for text in (found[name].data for name in alone):
        assert (
            f"Adam, {settings.learning_rate:g}; 1,200 steps of 4 crops of {settings.patch} x {settings.patch}" in text
        )
        assert not any(word in text for word in ("generator", "cycle", "identity"))
    assert {name for name, claim in found.items() if "training patients" in claim.data} == {"C5a", "C5b", *alone}
    assert "validation patients" in found["C8"].data
    assert {name for name, claim in found.items() if claim.kind == "check"} == {"C6", "C7", *(f"C9{k}" for k in "abcd")}


def test_studies_train_the_networks_that_claims_name() -> None:
    """Epochs, width, weights and largest shift of the studies are those of the configurations in words."""
    known, config = NETWORKS.others, cyclegan.PAPER.study("registration").config
    assert known["unrelated"].shift == max(config["shifts"])
    for study in cyclegan.studies.STUDIES[:3]:
        assert (study.config["epochs"], study.config["width"]) == (SMALL.epochs, SMALL.width)
    weights = [[c.lambda_cycle, c.lambda_identity] for c in (*known.values(), SMALL) if not c.supervised]
    assert sorted(weights) == sorted(cyclegan.PAPER.study("lambdas").config["lambdas"])


def test_all_nets_stand_beside_the_input() -> None:
    """The table begins with the input, its ratio is 1, and those that beat it are counted."""
    table = cyclegan.measures.network_table(study())
    assert table["net"][:4] == ["input", "CycleGAN", "registered pairs", "misaligned pairs"]
    assert table["over the input's"][:4] == ["1.000", "0.700", "0.500", "1.400"]
    assert table["shift / px"][:4] == ["", "", 0, 8]


def test_every_net_is_counted_once() -> None:
    """Those of both studies are; the sweep has one group a pair of weights."""
    other = only(study(unpaired=1.1), cyclegan.measures.UNPAIRED, lambda_cycle=np.array([1.0, 1.0, 10.0]))
    groups = cyclegan.measures.sweep(study(), other)
    assert {name: values.tolist() for name, values in groups.items()} == {
        "10, 5": pytest.approx([0.7] * 3),
        "1, 5": pytest.approx([1.1] * 2),
    }
    assert cyclegan.measures.not_beating({"seeds": study(), "lambdas": other}) == 2


def test_ratios_are_of_means() -> None:
    """Of slices, against either reference."""
    assert cyclegan.measures.against_input(study(), "rmse_full")[:3] == pytest.approx([0.7, 0.5, 1.4])


def test_nets_are_ordered_by_seed() -> None:
    """Whatever the order of the rows."""
    rows = study() | {"seed": np.repeat([3, 1, 2], 3), "epoch": np.repeat([30, 10, 20], 3)}
    assert studies.by_seed(rows, "epoch", kind=cyclegan.measures.PAIRED).tolist() == [10, 20, 30]


def simulated(count: int, seed: int) -> tuple[cyclegan.data.Scans, np.ndarray]:
    """Discs of tissue with noise at both doses, one a patient, and their truth."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128] / 128 - 0.5
    clean = np.stack([np.where(np.hypot(y, x - 0.02 * k) < 0.45, 60.0, -900.0) for k in range(count)])
    quarter, full = ((clean + random.normal(0, sd, clean.shape)).astype(np.float32) for sd in (40, 20))
    return cyclegan.data.Scans(quarter, full, tuple(f"P{seed}{k}" for k in range(count))), clean.astype(np.float32)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data in place of the embedded ones."""
    test, truth = simulated(2, 3)
    exact = cyclegan.data.Scans(test.quarter, truth, test.patients)
    scored = {"validation": simulated(1, 2)[0], "test": test.of([0, 1])}
    monkeypatch.setattr(long, "embedded_split", lambda: cyclegan.data.Split(simulated(4, 1)[0], scored))
    monkeypatch.setattr(long, "embedded_test", lambda label="full": exact if label == "noise free" else test)


@pytest.mark.usefixtures("tiny")
def test_the_seeds_are_measured_and_written(tmp_path: Path) -> None:
    """A tiny study has the arrays that claims need, survives the file, and goes on from its checkpoints."""
    config = {"seeds": [1], "epochs": 2, "width": 2}
    one = studies.Study("cyclegan", "seeds", cyclegan.studies.study_seeds, config)
    studies.make(one, tmp_path / "work", "cpu", tmp_path / "kept")
    arrays = studies.read(one, tmp_path / "kept")
    assert set(arrays) == set(study())
    for name, values in study().items():
        assert arrays[name].ndim == np.ndim(values), name
    assert arrays["kind"].tolist() == [0, 1, 2]
    assert arrays["input_rmse_full"] == pytest.approx(np.sqrt(40**2 + 20**2) * np.ones(2), rel=0.03)
    assert arrays["input_power"].mean() / arrays["full_power"].mean() == pytest.approx(4, rel=0.2)
    assert arrays["test"].shape == arrays["adversarial"].shape == (3, 2)
    assert np.isfinite(arrays["cycle_full"][arrays["kind"] == 0]).all()
    assert np.isnan(arrays["cycle_full"][arrays["kind"] != 0]).all()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "nets").rglob("*.pt")}
    again = cyclegan.studies.study_seeds(next((tmp_path / "work").glob("[0-9a-f]*")), "cpu", **config)
    np.testing.assert_array_equal(again["rmse_truth"], arrays["rmse_truth"])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "nets").rglob("*.pt")} == stamps
    assert len(stamps) == 6


@pytest.mark.usefixtures("tiny")
def test_lambdas_and_shifts_are_swept(tmp_path: Path) -> None:
    """One row a weight of the losses, and one a shift; claims are computed from them."""
    size = {"seeds": [1], "epochs": 1, "width": 2}
    given = {
        "lambdas": cyclegan.studies.study_lambdas(tmp_path / "a" / "b", "cpu", lambdas=[[0, 0], [10, 5]], **size),
        "registration": cyclegan.studies.study_registration(tmp_path / "a" / "c", "cpu", shifts=[0, 512], **size),
    }
    assert given["lambdas"]["lambda_cycle"].tolist() == [0, 10]
    assert given["registration"]["shift"].tolist() == [0, 512]
    assert given["registration"]["kind"].tolist() == [1, 2]
    assert set(found(published() | given)) == set(found(published()))


@pytest.mark.usefixtures("tiny")
def test_critics_are_trained_alone(tmp_path: Path) -> None:
    """A row a kind and seed, a column so many steps; new ones know nothing."""
    sizes = {"seeds": [1, 2], "steps": 4, "every": 2, "batch": 1, "width": 2}
    rows = cyclegan.studies.study_critics(tmp_path, "cpu", **sizes)
    assert (rows["kind"].tolist(), rows["seed"].tolist()) == ([0, 0, 1, 1], [1, 2, 1, 2])
    assert rows["loss"].shape == (4, 2)
    assert (rows["loss"] > 0.4).all()
    again = cyclegan.studies.study_critics(tmp_path, "cpu", **sizes | {"seeds": [2]})
    np.testing.assert_array_equal(again["loss"][0], rows["loss"][1])


def test_studies_can_be_recorded() -> None:
    """Their configurations are JSON, and their arguments those of their functions."""
    for one in cyclegan.studies.STUDIES:
        assert studies.inputs(one)["config"] == one.config
        assert set(one.config) == set(one.run.__annotations__) - {"folder", "device", "return"}
