"""The gap chapter's measurements, studies at tiny size, and verdicts on made-up arrays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisebook import claims as shared
from noisebook import studies
from noisebook.claims import Claim
from noisebook.networks import Networks
from noisebook.papers import gap
from noisebook.papers.gap import experiment, figures, measures
from noisebook.papers.gap.data import ExactPredictor, toy_prior
from noisebook.papers.gap.model import UNet

TINY = replace(experiment.SMALL, levels=3, depth=2, width=2)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained tiny nets stand in for the embedded ones."""

    def load(_: object, name: str, device: str = "cpu") -> UNet:
        return experiment.build(replace(TINY, dim=experiment.SHIPPED[name].dim)).eval()

    monkeypatch.setattr(Networks, "load", load)


def test_the_exact_predictor_has_no_error() -> None:
    """Measured as a net is, enumeration itself is off by nothing, and a uniform prediction by a lot."""
    exact = measures.toy_error(ExactPredictor(toy_prior()), toy_prior(), -10, 50, 0)
    assert exact["largest"] < 1e-5
    assert abs(exact["excess"]) < 1e-6
    uniform = measures.toy_error(nn.Threshold(1e9, 0.0), toy_prior(), -10, 50, 0)
    assert uniform["largest"] > 0.3
    assert uniform["excess"] > 0.02


def test_averaging_is_the_error_of_means() -> None:
    """A predictor that is sure has samples of no spread; of one that is not, more samples are nearer to the mean."""
    prior = toy_prior()
    dark = torch.zeros(1, 1, 8, 8)
    f = measures.posterior_samples(ExactPredictor(prior), dark, 64, stop_db=8.0, beta=0.1, seed=0)
    away = measures.errors_of_means(f, prior.next_photon(dark).float(), (1, 64))
    assert away[1] < 0.3 * away[0]
    assert measures.errors_of_means(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]]), (1, 2)) == [1.0, 0.0]
    with pytest.raises(ValueError, match="numbers: expected divisors of the number of samples, 64, got"):
        measures.errors_of_means(f, dark, (4, 6))


def test_a_spectrum_is_that_of_the_waves() -> None:
    """A wave of a quarter of a cycle per pixel has its power in the fifth of eight bands; white noise in all alike."""
    x = torch.arange(64)
    wave = (1 + 0.5 * torch.cos(torch.pi / 2 * x)).expand(2, 1, 64, 64)
    power = measures.spectrum(wave)
    assert power.argmax() == 4
    assert np.delete(power, 4).max() < 1e-9 * power[4]
    white = measures.spectrum(1 + 0.01 * torch.randn(20, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(white, 1e-4, rtol=0.1)
    with pytest.raises(ValueError, match="images: expected sides above 16"):
        measures.spectrum(wave[..., :16])


def test_fine_structure_is_finer() -> None:
    """A wave of twice the frequency has about twice the fineness, whatever its height."""
    x = torch.arange(64.0)
    slow, fast = (3 * torch.sin(2 * torch.pi * k * x / 64).expand(1, 1, 64, 64) for k in (2, 4))
    assert measures.fineness(fast)[0] == pytest.approx(2 * measures.fineness(slow)[0], rel=0.05)
    assert measures.fineness(5 * slow)[0] == pytest.approx(measures.fineness(slow)[0], rel=1e-5)


class Flat(nn.Module):
    """A uniform prediction."""

    def forward(self, counts: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(counts)


def test_two_sample_tests_tell_the_authors_sampler_and_not_ours() -> None:
    """The laws of 200 images alone and beside others agree; photons counted over the batch give another law."""
    parts = []
    for kind, name in enumerate(measures.LAWS):
        values = measures.law(Flat(), 200, 1 if name == "alone" else 10, 8, 0.0, 0.3, kind, summed=name == "summed")
        assert all(len(v) == 200 for v in values.values())
        parts.append({"seed": np.zeros(200), "law": np.full(200, kind)} | values)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert measures.same_law(rows, "alone", "beside")[0] > 0.01
    assert measures.same_law(rows, "alone", "summed")[0] < 1e-3


SMALLER: dict[str, dict[str, object]] = {
    "thinning": {"seeds": [0, 1], "repeats": 200, "side": 8},
    "toy": {"seeds": [0, 1], "levels_db": [-10.0], "count": 20, "numbers": [1, 4], "images": 2, "betas": [1.0, 0.03]}
    | {"generations": 50},
    "levels": {"seeds": [0, 1], "levels_db": [0.0, 6.0], "size": 24},
    "diversity": {"seeds": [0, 1], "levels_db": [-3.0, 0.0], "numbers": [1, 16], "size": 8},
    "generation": {"seeds": [0, 1], "betas": [0.2], "spectrum_beta": 0.2, "count": 8, "size": 20},
    "law": {"seeds": [0], "count": 6, "batch": 4, "size": 8},
    "depth": {"seeds": [0, 1], "shape": [4, 12, 12]},
    "dimmest": {"steps": 20, "width": 2},
}


def tiny(study: studies.Study, folder: Path) -> studies.Arrays:
    """A planned study at tiny size."""
    folder.mkdir(exist_ok=True)
    return study.run(folder, "cpu", **(study.config | SMALLER[study.name]))


@pytest.mark.usefixtures("untrained")
def test_every_study_runs_and_every_claim_has_a_verdict(tmp_path: Path) -> None:
    """All studies at tiny size fit their file, come back the same, and give finite claims G1 to G13."""
    found = {}
    for study in gap.studies.STUDIES:
        found[study.name] = tiny(study, tmp_path / study.name)
        studies.write(found[study.name], tmp_path / "result" / study.name)
        assert json.loads(json.dumps(study.config)) == study.config
        assert set(study.weights) <= set(experiment.SHIPPED)
    again = tiny(gap.studies.STUDIES[1], tmp_path / "again")
    for name, values in found["toy"].items():
        np.testing.assert_array_equal(again[name], values)
    claims = gap.PAPER.claims(found)
    assert {int("".join(c for c in claim.id if c.isdigit())) for claim in claims} == set(range(1, 14))
    shared.write(claims, tmp_path / "claims.json")


@pytest.mark.usefixtures("untrained")
def test_the_law_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What a killed study had finished is not sampled again."""
    study = next(s for s in gap.studies.STUDIES if s.name == "law")
    first = tiny(study, tmp_path)
    stamp = (tmp_path / "alone-0.npz").stat().st_mtime_ns
    (tmp_path / "summed-0.npz").unlink()
    second = tiny(study, tmp_path)
    assert (tmp_path / "alone-0.npz").stat().st_mtime_ns == stamp
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)


def made_up(good: bool) -> dict[str, measures.Rows]:
    """Arrays of every study, as they would be if all claims held, or if all failed."""
    sign = 1 if good else -1
    seeds = np.array([0, 1, 2])
    wide = np.repeat(seeds, 2)
    random = np.random.default_rng(0)
    two = np.tile([0.0, 1.0], 3)

    def around(value: float) -> np.ndarray:
        return value + 1e-4 * np.array([-1.0, 0.0, 1.0])

    kinds = np.repeat([0, 1, 2], 300)
    shift = np.where(kinds == (2 if good else 1), 3.0, 0.0)
    law = {name: random.normal(size=900) + shift for name in ("photons", "steps", "contrast")}
    number, error = np.tile([1.0, 4.0, 16.0], 3), np.tile([1.0, 0.5, 0.25] if good else [1.0, 0.9, 0.8], 3)
    psnr = {"flat": np.zeros(6), "gaussian": np.full(6, 5.0), "non_local": 5 + 0.01 * two, "mse": np.full(6, 8.0)}
    return {
        "thinning": {"seed": seeds, "uniform_loss": around(0 if good else 1) * 0.01}
        | {"fixed_correlation": around(0 if good else 1), "fixed_ratio": around(1 if good else 2)}
        | {"drawn_correlation": around(-0.4 if good else 0), "drawn_ratio": around(0.5 if good else 1)}
        | {"fixed_places": around(0 if good else 0.2), "drawn_places": around(0 if good else 0.2)},
        "toy": {
            "net_seed": seeds,
            "net_level_db": np.full(3, -10.0),
            "net_largest": around(0.1 if good else 1),
            "net_excess": around(0.001 if good else 1),
            "net_rms": around(0.05 if good else 1),
        }
        | {"mean_seed": np.repeat(seeds, 3), "mean_number": number, "mean_error": error}
        | {"beta_seed": wide, "beta_beta": 0.97 * two + 0.03, "beta_noise": np.full(6, 0.01)}
        | {"beta_distance": np.tile([0.01, 0.2] if good else [0.2, 0.1], 3)},
        "levels": {"seed": wide, "level_db": 6 * two} | psnr | {"gap": np.full(6, 8.0 if good else 4.0)},
        "diversity": {"seed": np.repeat(seeds, 4), "level_db": np.tile([0, 0, 5, 5], 3), "number": np.tile([1, 16], 6)}
        | {"error": np.tile([1, 0.3] if good else [1, 1.1], 6), "spread": np.tile([2, 2, 2 - sign, 2 - sign], 3)},
        "generation": {
            "beta": np.full(3, 0.1),
            "seed": seeds,
            "steps": around(1 if good else 2),
            "expected_steps": np.ones(3),
        }
        | {"mean_ratio": around(1.02 if good else 3), "power": np.full((3, 8), 1.1 if good else 4.0)}
        | {"real_power": np.ones((3, 8)), "small": around(0.5), "real_small": around(0.5 if good else 0.1)},
        "law": {"seed": np.zeros(900), "law": kinds} | law,
        "depth": {"seed": np.repeat(seeds, 3), "level_db": np.tile([-10, -5, 0], 3)}
        | {"solid": np.full(9, 9.0 + sign), "flat": np.full(9, 9.0)},
        "dimmest": {"finite": np.array([1.0 if good else 0.9])},
    }


@pytest.mark.parametrize(("good", "verdict"), [(True, "holds"), (False, "fails")])
def test_verdicts_follow_the_arrays(good: bool, verdict: str) -> None:
    """Of arrays made to support the claims every claim holds, of their opposite every one fails; faces need data."""
    claims = gap.PAPER.claims(made_up(good))
    assert {claim.id: claim.verdict for claim in claims if claim.id != "G13"} == {
        claim.id: verdict for claim in claims if claim.id != "G13"
    }
    assert claims[-1].verdict == "not tested (needs FFHQ-256)"


def test_claims_name_what_they_were_measured_on() -> None:
    """Every claim says simulated and names its study; its schedule has the nets that are compared."""
    found = {claim.id: claim for claim in gap.PAPER.claims(made_up(True)) if not claim.needs}
    assert all("simulated" in claim.data for claim in found.values())
    assert all("precomputed study " in claim.data for claim in found.values())
    how = {name: claim.schedule for name, claim in found.items()}
    assert {name for name, text in how.items() if not text} == {
        *("G1a", "G1b", "G1c", "G1d", "G1e", "G2a"),  # rest on no network
        *("G5a", "G8a", "G8b"),  # on the exact posterior
    }
    assert all("in place of a network" in found[name].data for name in ("G5a", "G8a", "G8b"))
    assert "photon loss against supervised mse loss" in how["G3"]
    assert how["G11a"].startswith("3-D residual U-Net")
    assert "against 2-D residual U-Net" in how["G11a"]
    assert "10 epochs of 2000 steps" in how["G12"]
    assert all(("trained once" in claim.data) == bool(claim.schedule) for claim in found.values())
    assert len(found["G9b"].ours) == len(found["G9a"].ours) == 1


def test_tables_show_what_the_claims_rest_on() -> None:
    """Distances and steps by beta, and p-values by seed."""
    rows = made_up(True)
    chances = figures.chance_table(rows["toy"])
    assert chances["beta"] == ["1", "0.03"]
    assert chances["beyond that"] == ["0.19", "0"]  # without a spread where all seeds agree
    toy = figures.toy_table(rows["toy"])
    assert toy["level / dB"] == ["−10"]
    assert str(toy["RMS error"][0]).startswith("0.0500")
    steps = figures.step_table(rows["generation"])
    assert [len(column) for column in steps.values()] == [1] * 4
    assert str(steps["steps / formula"][0]).startswith("1.0000")
    law = figures.law_table(rows["law"])
    assert [float(str(p).split("\u00a0")[0]) > 0.01 for p in law["p, seed 0"][:1]] == [True]
    assert "10⁻" in str(law["p, seed 0"][1])


def test_levels_that_tell_nothing_are_left_out() -> None:
    """Where the best Gaussian is below 1 dB above a flat image a loss does not count; without any level nothing is."""
    rows = dict(made_up(True)["levels"])
    rows["gaussian"] = np.where(rows["level_db"] == 0, 0.5, 5.0)
    rows["gap"] = np.where(rows["level_db"] == 0, 0.0, 8.0)
    found = {claim.id: claim for claim in gap.PAPER.claims(made_up(True) | {"levels": rows})}
    assert list(measures.telling_levels(rows)) == [6.0]
    assert found["G4a"].verdict == "holds"
    rows["gaussian"] = np.zeros(6)
    none: dict[str, Claim] = {claim.id: claim for claim in gap.PAPER.claims(made_up(True) | {"levels": rows})}
    assert none["G4a"].verdict.startswith("not tested (needs a level at which")


def test_each_seed_has_its_values() -> None:
    """A row a seed, seeds rising, its values as they stand, among the rows that are asked for."""
    rows = {"seed": np.array([1, 0, 1, 0]), "x": np.array([1.0, 2, 3, 4]), "k": np.array([0, 0, 1, 1])}
    assert measures.each_seed(rows, "x").tolist() == [[2, 4], [1, 3]]
    assert measures.each_seed(rows, "x", k=1).tolist() == [[4], [3]]


def test_thinning_is_measured_as_it_is() -> None:
    """At half of the photons: totals independent and Poisson at a fixed share, neither at the authors'; places are."""
    found = measures.thinning(4.0, 2.0, 8, 4000, 0)
    assert abs(found["fixed_correlation"]) < 0.05
    assert found["fixed_ratio"] == pytest.approx(1, abs=0.08)
    assert found["drawn_correlation"] < -0.3
    assert found["drawn_ratio"] == pytest.approx(0.5, abs=0.05)
    assert max(abs(found["fixed_places"]), abs(found["drawn_places"])) < 0.01


def test_posterior_samples_of_a_sure_posterior_are_the_truth() -> None:
    """With many photons to start from, every sample is the toy image that they came from, of sum 1."""
    prior = toy_prior()
    counts, which = prior.draw(1, 8.0, torch.Generator().manual_seed(0))
    found = measures.posterior_samples(ExactPredictor(prior), counts, 5, stop_db=10.0, beta=0.2, seed=0, batch=2)
    torch.testing.assert_close(found, prior.images[which].expand(5, 1, 8, 8), rtol=1e-4, atol=1e-7)


def test_every_method_is_compared_at_the_same_photons() -> None:
    """Baselines do not depend on the nets beside them, and a net of one plane equals its 2-D twin in depth."""
    flat = experiment.build(TINY).eval()
    first, second = (measures.compared(nets, 3, 24, 3.0) for nets in ({}, {"gap": flat}))
    assert {name: second[name] for name in first} == first
    assert first["gaussian"] > first["noisy"]
    solid = experiment.build(replace(TINY, dim=3, z_conv_stage=0)).eval()
    solid.load_state_dict({k: v.unsqueeze(2) if v.ndim == 4 else v for k, v in flat.state_dict().items()})
    found = measures.in_depth(solid, flat, 3, (1, 24, 24), 3.0)
    assert found["solid"] == pytest.approx(found["flat"], abs=1e-3)
