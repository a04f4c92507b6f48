"""The xray chapter's claims and tables, on made-up studies that support all of them and on others that do not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from noisebook.papers import xray
from noisebook.studies import by_seed

SEEDS = 3
Arrays = dict[str, np.ndarray]


def by_method(values: dict[str, dict[str, float]], clean: dict[str, float] | None = None) -> Arrays:
    """Rows of a study, a little different from seed to seed, the seeds in falling order."""
    rows = []
    for seed in reversed(range(SEEDS)):
        named = {-1: clean} if clean else {}
        named |= {xray.measures.METHODS.index(name): row for name, row in values.items()}
        for method, row in named.items():
            rows.append({"method": method, "seed": seed} | {k: v * (1 + 0.001 * seed) for k, v in row.items()})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def spread() -> Arrays:
    """Residual best, coders smooth."""
    psnr = {"identity": 21, "median": 29, "Gaussian": 29.5, "non-local means": 29, "ae": 24, "vae": 22, "residual": 31}
    kept = {"ae": 0.1, "vae": 0.05, "residual": 0.7}
    return by_method(
        {
            name: {
                "psnr": value,
                "ssim": value / 40,
                "mse": 10 ** (-value / 10),
                "kept": kept.get(name, 1),
                "train_mse": 10 ** (-value / 10) * 0.97,
            }
            for name, value in psnr.items()
        }
    )


def transfer() -> Arrays:
    """Own nets gain 10 dB, others 4; the mixed net 9.8 on Gaussian noise."""
    rows: list[dict[str, float]] = []
    for seed in range(SEEDS):
        for trained, names in enumerate(xray.measures.TRAINED):
            for tested, name in enumerate(xray.data.CORRUPTIONS):
                gain = 10.0 if names == (name,) else 9.8 if trained == 6 and name in names else 4.0
                psnr = {"psnr": 20 + gain + 0.01 * seed, "before": 20.0}
                rows.append({"trained": trained, "tested": tested, "seed": seed} | psnr)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def studies() -> dict[str, Arrays | np.ndarray]:
    """What supports every claim."""
    latents, count = [10, 20, 40, 50, 150], 20
    fall = np.exp(-np.arange(count) / 8)
    images = {"images": np.repeat([50, 400, 1300], SEEDS), "seed": np.tile(range(SEEDS), 3)}
    images["epochs"] = np.repeat([336, 56, 12], SEEDS)
    detect = {
        name: {"detectability": d}
        for name, d in zip(xray.measures.METHODS, (1.4, 1.1, 1.3, 0.7, 0.5, 0.3, 1.35), strict=True)
    }
    return {
        "spread": spread(),
        "transfer": transfer(),
        "latent": {
            "latent": np.array(latents),
            "seed": np.arange(SEEDS),
            "loss": np.full((5, SEEDS, 4), 2366.0),
            "psnr": np.full((5, SEEDS), 22.0),
        },
        "skips": {
            "seed": np.arange(SEEDS),
            "loss": np.stack([np.tile(fall, (SEEDS, 1)), np.tile(fall**4, (SEEDS, 1))]),
            "psnr": np.array([[28.0] * SEEDS, [29.0] * SEEDS]),
        },
        "images": images | {"psnr": np.repeat([27.0, 29.8, 30.0], SEEDS)},
        "detect": by_method(detect, {"detectability": 2.4}),
        "initial": np.full(5, 64**2 * math.log(2) * 1.002),
        "wrapped": {
            "share": np.array([0.06, 0.07, 0.1]),
            "clipped": np.array([24.3, 21.4, 17.6]),
            "wrapped": np.array([12.5, 11.7, 10.5]),
            "carried": np.array([0.93, 0.89, 0.82]),
            "elsewhere": np.zeros(3),
        },
    }


def verdicts(found: dict[str, Arrays | np.ndarray]) -> dict[str, str]:
    """By the claims' names."""
    return {claim.id: claim.verdict for claim in xray.PAPER.claims(found)}


def test_studies_that_support_all_claims_do() -> None:
    """X1 to X11 hold, each named once, with data, and with nets wherever nets are measured."""
    found = xray.PAPER.claims(studies())
    assert {claim.id: claim.verdict for claim in found if claim.verdict != "holds"} == {}
    assert {int(claim.id[1:].rstrip("abcd")) for claim in found} == set(range(1, 12))
    assert len({claim.id for claim in found}) == len(found)
    assert all(claim.data.startswith("simulated chest radiographs") for claim in found)
    assert {claim.id for claim in found if not claim.schedule} == {"X8a", "X8b", "X8c"}


def test_claims_name_what_they_were_measured_on() -> None:
    """Training losses name training images, errors of known images those; each claim names its own nets and study."""
    found = {claim.id: claim for claim in xray.PAPER.claims(studies())}
    on = {name: claim.data for name, claim in found.items()}
    assert {name for name, text in on.items() if "training images" in text} == {"X5a", "X6a"}
    assert {name for name, text in on.items() if "patients of the training" in text} == {"X3a", "X3b"}
    assert {name for name, text in on.items() if "held-out patients" not in text} == {"X3a", "X5a", "X6a"}
    assert {name for name, text in on.items() if "computed in the run" in text} == {"X4", "X8a", "X8b", "X8c"}
    assert all("precomputed study images" in claim.data for claim in found.values() if claim.id[:3] == "X10")
    how = {name: claim.schedule for name, claim in found.items()}
    for part in ("variational autoencoder", "residual autoencoder, 0.25", "150 latent numbers"):
        assert part in how["X1a"]
    assert how["X2a"].startswith("autoencoder, the authors' width, 150 latent numbers; binary cross-entropy; RMSprop")
    assert "10 latent numbers against variational autoencoder, the authors' width, 40 latent numbers" in how["X5a"]
    assert "0.125 of the authors' width, without skips" in how["X6b"]
    assert "12 epochs of 1300 images" in how["X10a"]
    assert "336 epochs of 50 images" in how["X10a"]
    assert "40 epochs of 400 images" in how["X10b"]
    assert "; untrained;" in how["X4"]
    assert found["X7a"].ours != found["X7b"].ours


def _method(study: str, quantity: str, name: str, value: float) -> Callable[[dict], None]:
    def change(found: dict) -> None:
        rows = found[study]
        rows[quantity][rows["method"] == xray.measures.METHODS.index(name)] = value

    return change


def _put(study: str, quantity: str, value: object) -> Callable[[dict], None]:
    def change(found: dict) -> None:
        found[study][quantity][...] = value

    return change


def _untrained(found: dict) -> None:
    found["initial"] = found["initial"] * 1.1


def _gain(trained: int, value: float) -> Callable[[dict], None]:
    def change(found: dict) -> None:
        rows = found["transfer"]
        rows["psnr"][(rows["trained"] == trained) if trained == 6 else (rows["trained"] != rows["tested"])] = value

    return change


FAILING = {
    "X1a": _method("spread", "psnr", "ae", 32),
    "X1b": _method("spread", "ssim", "vae", 0.99),
    "X1c": _method("spread", "mse", "residual", 0.1),
    "X1d": _method("spread", "psnr", "Gaussian", 33),
    "X2a": _method("spread", "kept", "ae", 0.6),
    "X2b": _method("spread", "kept", "vae", 0.6),
    "X2c": _method("spread", "kept", "residual", 0.09),
    "X3a": _method("spread", "train_mse", "residual", 0.002),
    "X3b": _method("spread", "mse", "residual", 0.002),
    "X4": _untrained,
    "X5a": lambda found: found["latent"]["loss"].__setitem__(2, 2300),
    "X5b": lambda found: found["latent"]["psnr"].__setitem__(2, 23),
    "X6a": lambda found: found["skips"]["loss"].__setitem__(1, 1.0),
    "X6b": lambda found: found["skips"]["psnr"].__setitem__(1, 27.0),
    "X7a": _gain(0, 30.0),
    "X7b": _gain(0, 19.0),
    "X8a": _put("wrapped", "elsewhere", [0, 0, 1]),
    "X8b": _put("wrapped", "carried", [0.9, 0.9, 0.4]),
    "X8c": _put("wrapped", "wrapped", [12.5, 11.7, 16]),
    "X9": _gain(6, 29.0),
    "X10a": _put("images", "psnr", np.repeat([31.0, 29.0, 30.0], SEEDS)),
    "X10b": _put("images", "psnr", np.repeat([27.0, 29.0, 30.0], SEEDS)),
    "X11a": _method("detect", "detectability", "ae", 1.4),
    "X11b": _method("detect", "detectability", "vae", 1.4),
    "X11c": _method("detect", "detectability", "residual", 1.0),
}


@pytest.mark.parametrize("name", FAILING)
def test_every_claim_can_fail(name: str) -> None:
    """A study that says the opposite leaves no claim standing."""
    found = studies()
    FAILING[name](found)
    assert verdicts(found)[name] in ("fails", "undecided")


def test_every_claim_has_a_study_that_fails_it() -> None:
    """No claim holds whatever is measured."""
    assert set(verdicts(studies())) == set(FAILING)


def test_the_spread_over_seeds_counts() -> None:
    """A mean on the right side is not enough when the seeds disagree."""
    found = studies()
    rows = found["spread"]
    chosen = rows["method"] == xray.measures.METHODS.index("ae")  # type: ignore[index]
    rows["psnr"][chosen] = [22.0, 24.0, 40.0]  # type: ignore[index]
    assert verdicts(found)["X1a"] == "undecided"


def test_values_come_in_the_order_of_the_seeds() -> None:
    """Whatever the order of the rows."""
    rows = {"seed": np.array([2, 0, 1, 0]), "method": np.array([1, 1, 1, 0]), "psnr": np.array([22.0, 20.0, 21.0, 9.0])}
    assert by_seed(rows, "psnr", method=1).tolist() == [20, 21, 22]
    assert xray.measures.of_method(rows, "psnr", xray.measures.METHODS[1]).tolist() == [20, 21, 22]


def test_the_table_has_means_and_deviations() -> None:
    """One row a method; one seed alone has no deviation."""
    found = xray.measures.method_table(studies()["spread"], studies()["detect"])  # type: ignore[arg-type]
    assert found["method"] == list(xray.measures.METHODS)
    assert set(found) == {"method", "PSNR / dB", "SSIM", "squared error × 10³", "high frequencies kept", "d'"}
    assert found["PSNR / dB"][0] == "21.02\u00a0±\u00a00.02"
    one = {name: values[spread()["seed"] == 0] for name, values in spread().items()}
    seen = {name: np.array(values) for name, values in one.items()} | {"detectability": np.ones(7)}
    assert xray.measures.method_table(one, seen)["PSNR / dB"][0] == 21


def test_errors_on_training_images_stand_beside_the_others() -> None:
    """One row a network: both squared errors and their ratio."""
    found = xray.measures.training_table(spread())
    assert found["network"] == ["autoencoder", "VAE", "residual"]
    known, held, ratio = ([float(str(cell).split("\u00a0")[0]) for cell in found[head]] for head in list(found)[1:])
    assert ratio == pytest.approx([1 / 0.97] * 3, abs=0.01)
    assert held == pytest.approx([known_one / 0.97 for known_one in known], rel=0.02)


def test_the_transfer_matrix_holds_gains() -> None:
    """By net, corruption and seed; diagonal and mixed levels as made up."""
    gain = xray.measures.transfer_matrix(transfer())
    assert gain.shape == (7, 6, SEEDS)
    np.testing.assert_allclose(gain[:6].diagonal()[0], 10)
    np.testing.assert_allclose(gain[6, :, 0], [4, 4, 4, 9.8, 9.8, 9.8])


@pytest.mark.parametrize(("target", "epoch"), [(0.5, 2), (0.05, 4), (2.0, 1), (0.3, 3)])
def test_epochs_are_counted_from_one(target: float, epoch: int) -> None:
    """The first epoch at or below the target; one more than there are when it is never reached."""
    assert xray.measures.epochs_to(np.array([1.0, 0.5, 0.3]), target) == epoch
