"""The chapter's claims, computed from what was measured.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from scipy import stats

from noisebook import weights
from noisebook.claims import Claim, against
from noisebook.studies import named, precomputed

from .long import LAWS, STUDIES

Rows = Mapping[str, np.ndarray]
SOURCE = "Krull et al. 2023"
OURS = "ours"
CHECK = f"{SOURCE}, check of the code"
EXACT = "the exact posterior in place of a network"
TISSUE = "held-out simulated tissue, one value a tissue"
TOY = "five known images (simulated), posterior by enumeration"
DIMMEST = named(STUDIES, "dimmest").config
_MARGIN_DB = 1.0
"""Levels at which the best Gaussian filter is not so far above a flat image say nothing about a method."""


def claims(studies: Mapping[str, Rows]) -> list[Claim]:
    """Every claim of the chapter, G1 to G12, and what it could not test.

    Args:
        studies: By name: ``thinning``, ``toy``, ``levels``, ``diversity``, ``generation``, ``law``, ``depth``,
            ``dimmest``, each with the arrays of its study.

    Raises:
        KeyError: If a study is missing.
    """
    return [
        *_thinning(studies["thinning"]),
        *_toy(studies["toy"]),
        *_levels(studies["levels"]),
        *_diversity(studies["diversity"]),
        *_generation(studies["generation"]),
        *_law(studies["law"]),
        *_depth(studies["depth"]),
        _claim(
            "G12",
            "training on the dimmest data never meets a loss that is not finite, nor ends with such a weight: share of "
            "finite weights",
            studies["dimmest"]["finite"],
            low=1.0,
            source=OURS,
            data=f"simulated tissue of {DIMMEST['mean']:g} photons per pixel",
            study="dimmest",
            how=f"2-D residual U-Net, {DIMMEST['width']} base channels; {DIMMEST['steps']:,} steps; trained once",
        ),
        Claim("G13", "natural faces are generated", SOURCE, (), needs="FFHQ-256"),
    ]


def per_seed(rows: Rows, quantity: str, worst: str = "min", **where: float) -> np.ndarray:
    """The smallest or largest value that each seed has of a quantity, in the order of the seeds.

    Args:
        rows: Columns of equal length, one of them ``seed``.
        quantity: The name of a column.
        worst: ``min`` or ``max``.
        where: Values that other columns must have.
    """
    seeds = np.asarray(rows["seed"])
    chosen = np.ones(len(seeds), bool)
    for name, value in where.items():
        chosen &= np.asarray(rows[name]) == value
    values = np.asarray(rows[quantity])
    return np.array([getattr(np, worst)(values[chosen & (seeds == seed)]) for seed in np.unique(seeds[chosen])])


def telling_levels(rows: Rows) -> np.ndarray:
    """The levels at which the best Gaussian filter beats a flat image by 1 dB on average over the tissues, rising."""
    levels = np.asarray(rows["level_db"])
    gain = np.asarray(rows["gaussian"]) - np.asarray(rows["flat"])
    return np.array([level for level in np.unique(levels) if gain[levels == level].mean() >= _MARGIN_DB])


def gain(rows: Rows, method: str, other: str) -> dict[float, np.ndarray]:
    """PSNR of one method less that of another, dB, tissue by tissue, for each of `telling_levels`."""
    difference = dict(rows) | {"gain": np.asarray(rows[method]) - np.asarray(rows[other])}
    return {float(level): per_seed(difference, "gain", level_db=level) for level in telling_levels(rows)}


def same_law(rows: Rows, one: str, other: str) -> np.ndarray:
    """Whether two samplers of the study ``law`` have one law: the least p-value a seed, corrected for three tests.

    Two-sample Kolmogorov-Smirnov tests of photons, steps and contrast; the p-value times three, at most 1.
    """
    found = []
    seeds, kinds = np.asarray(rows["seed"]), np.asarray(rows["law"])
    for seed in np.unique(seeds):
        pair = [(seeds == seed) & (kinds == LAWS.index(name)) for name in (one, other)]
        tests = [
            stats.ks_2samp(*(np.asarray(rows[q])[chosen] for chosen in pair)) for q in ("photons", "steps", "contrast")
        ]
        found.append(min(1.0, 3 * min(float(test.pvalue) for test in tests)))
    return np.array(found)


def _claim(
    name: str,
    statement: str,
    ours: np.ndarray | float,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    unit: str = "",
    source: str = SOURCE,
    data: str = "",
    study: str = "",
    nets: tuple[str, ...] = (),
    how: str = "",
    needs: str = "a level at which the best Gaussian filter is 1 dB above a flat image",
) -> Claim:
    """A claim on a study, with the nets that it compares; without a value it is not tested, and ``needs`` says why."""
    values = tuple(float(value) for value in np.atleast_1d(ours))
    cards = [weights.metadata(net) for net in nets]
    how = against(*(f"{card.architecture}; {card.schedule}; trained once" for card in cards)) if cards else how
    needs, on = "" if values else needs, f"{data}, {precomputed(study)}"
    return Claim(name, statement, source, values, low, high, unit=unit, data=on, schedule=how, needs=needs)


def _thinning(rows: Rows) -> list[Claim]:
    totals = "totals of input and target"
    places = np.concatenate([rows["fixed_places"], rows["drawn_places"]])
    statements: list[tuple[str, str, np.ndarray, float, float]] = [
        ("G1a", f"a fixed share gives {totals} without correlation", rows["fixed_correlation"], -0.05, 0.05),
        ("G1b", "a fixed share gives an input total of Poisson's variance over mean", rows["fixed_ratio"], 0.93, 1.07),
        ("G1c", f"the authors' share level / mean(x) correlates {totals}", rows["drawn_correlation"], -1.0, -0.2),
        ("G1d", "the authors' share leaves the input total less variance than its mean", rows["drawn_ratio"], 0.0, 0.7),
        (
            "G1e",
            "given the totals, places of input and target are independent, which the loss rests on: correlation, one "
            "value a share and seed",
            places,
            -0.01,
            0.01,
        ),
        ("G2a", "the loss of a uniform prediction is 0", rows["uniform_loss"], -1e-5, 1e-5),
    ]
    sources = {"G1a": SOURCE, "G2a": CHECK}
    claim = partial(_claim, data="simulated tissue, one value a seed", study="thinning", how="no network")
    return [
        claim(name, statement, ours, low=low, high=high, source=sources.get(name, OURS))
        for name, statement, ours, low, high in statements
    ]


def _slopes(rows: Rows) -> np.ndarray:
    """Slope of log error against log number of samples, (seeds,)."""
    numbers = np.unique(rows["mean_number"])
    errors = [
        per_seed({"seed": rows["mean_seed"], "k": rows["mean_number"], "e": rows["mean_error"]}, "e", k=k)
        for k in numbers
    ]
    return np.asarray(np.polyfit(np.log(numbers), np.log(np.stack(errors)), 1)[0])


def _toy(rows: Rows) -> list[Claim]:
    claim = partial(_claim, data=TOY, study="toy")
    trained = partial(claim, nets=("gap-toy",))
    net = {"seed": rows["net_seed"]} | {name: rows[f"net_{name}"] for name in ("largest", "rms", "excess")}
    beyond = rows["beta_distance"] - rows["beta_noise"]
    beta = {"seed": rows["beta_seed"], "beta": rows["beta_beta"], "beyond": beyond}
    least, most = float(beta["beta"].min()), float(beta["beta"].max())
    small, large = (per_seed(beta, "beyond", beta=b) for b in (least, most))
    return [
        trained(
            "G2b",
            "a trained net finds E[s / sum s | x]: largest error of any pixel's share, in units of a uniform one",
            per_seed(net, "largest", "max"),
            high=0.5,
        ),
        trained(
            "G2c",
            "a trained net finds E[s / sum s | x]: RMS error over all pixels, in units of a uniform one",
            per_seed(net, "rms", "max"),
            high=0.1,
        ),
        trained(
            "G2d",
            "a trained net loses next to nothing against the exact prediction",
            per_seed(net, "excess", "max"),
            high=0.005,
            unit="nats per photon",
            source=OURS,
        ),
        claim(
            "G5a",
            "the mean of K samples nears the posterior mean as 1 / sqrt(K): slope of the logarithms",
            _slopes(rows),
            low=-0.6,
            high=-0.4,
            how=EXACT,
        ),
        claim(
            "G8a",
            f"at beta = {least:g} samples have the prior's chances: distance beyond that of as many exact draws",
            small,
            high=0.01,
            how=EXACT,
        ),
        claim(
            "G8b",
            f"at beta = {most:g} samples are farther from the prior's chances than at {least:g}: difference of the "
            "distances",
            large - small,
            low=0.0,
            source=OURS,
            how=EXACT,
        ),
    ]


def _levels(rows: Rows) -> list[Claim]:
    claim = partial(_claim, unit="dB", data=TISSUE, study="levels")
    top = float(np.asarray(rows["level_db"]).max())
    found = []
    for every, at_top, other, words, wanted in (
        ("G4a", "G4c", "gaussian", "the best Gaussian filter", 2.0),
        ("G4b", "G4d", "non_local", "the best Anscombe transform with non-local means", 1.0),
    ):
        gains = gain(rows, "gap", other)
        levels = ", ".join(f"{level:g}" for level in gains)
        worst = gains[min(gains, key=lambda level: gains[level].mean())] if gains else np.zeros(0)
        statement = f"one net beats {words} at every level that tells ({levels} dB): gain at the worst"
        found.append(claim(every, statement, worst, low=0.0, nets=("gap-2d",)))
        statement = f"at {top:g} dB the net is {wanted:g} dB above {words}"
        found.append(claim(at_top, statement, gains.get(top, np.zeros(0)), low=wanted, source=OURS, nets=("gap-2d",)))
    twin = gain(rows, "gap", "mse")
    mean = np.mean(list(twin.values()), axis=0) if twin else np.zeros(0)
    statement = (
        "a net that never saw the truth denoises within half a dB of the same net trained on it: mean gain over the "
        "levels"
    )
    return [claim("G3", statement, mean, low=-0.5, nets=("gap-2d", "gap-2d-mse")), *found]


def _diversity(rows: Rows) -> list[Claim]:
    claim = partial(_claim, data=TISSUE, study="diversity", nets=("gap-2d",))
    least, most = float(rows["number"].min()), float(rows["number"].max())
    one, many = (per_seed(rows, "error", "mean", number=k) for k in (least, most))
    spread = np.array([per_seed(rows, "spread", level_db=level) for level in np.unique(rows["level_db"])])
    ideal = -0.5 * np.log2(most / least)
    return [
        claim(
            "G5b",
            f"on tissue the mean of {most:g} samples is nearer to the net's own posterior mean than {least:g} is: log2 "
            f"of the errors, at most half of what it would be without a floor ({ideal:g})",
            np.log2(many / one),
            high=0.5 * ideal,
        ),
        claim(
            "G6",
            "samples differ less from each other the more photons they start from: largest change of the log2 of their "
            "spread between neighbouring levels",
            np.diff(np.log2(spread), axis=0).max(0),
            high=0.0,
        ),
    ]


def _generation(rows: Rows) -> list[Claim]:
    images = "generated images of simulated tissue"
    claim = partial(_claim, study="generation", nets=("gap-2d-wide",))
    claim = partial(claim, data=f"{images} beside as many held-out ones, one value a seed of the sampling")
    betas = " and ".join(f"{beta:g}" for beta in np.unique(rows["beta"]))
    return [
        claim(
            "G7",
            "sampling N photons takes 1 / beta + ln(beta N) / ln(1 + beta) steps: steps over formula, one value a seed "
            f"for each beta of {betas}",
            rows["steps"] / rows["expected_steps"],
            low=0.9,
            high=1.1,
            source=OURS,
            data=images,
        ),
        claim("G10a", "generated images have the photons asked for (ratio)", rows["mean_ratio"], low=1.0, high=1.1),
        claim(
            "G10b",
            "generated images have the power spectrum of real ones: largest |log2 ratio| of eight bands",
            np.abs(np.log2(rows["power"] / rows["real_power"])).max(1),
            high=0.5,
        ),
        claim(
            "G10c",
            "generated images have real ones' share of tissues of small cells (difference)",
            rows["small"] - rows["real_small"],
            low=-0.15,
            high=0.15,
        ),
    ]


def _law(rows: Rows) -> list[Claim]:
    data = "generated images of simulated tissue, alone and in batches"
    claim = partial(_claim, source=OURS, data=data, study="law", nets=("gap-2d-wide",))
    return [
        claim(
            "G9a",
            "an image has the same law alone and in a batch: least p-value of two-sample tests, corrected for their "
            "number",
            min(1.0, float(same_law(rows, "alone", "beside").min()) * len(np.unique(rows["seed"]))),
            low=0.01,
        ),
        claim(
            "G9b",
            "two-sample tests tell the authors' sampler, which counts a batch's photons together, apart: largest "
            "p-value of any seed",
            same_law(rows, "alone", "summed").max(),
            high=1e-3,
        ),
    ]


def _depth(rows: Rows) -> list[Claim]:
    difference = dict(rows) | {"gain": np.asarray(rows["solid"]) - np.asarray(rows["flat"])}
    claim = partial(_claim, source=OURS, unit="dB", data="held-out simulated stacks, one value a stack", study="depth")
    claim = partial(claim, nets=("gap-3d", "gap-2d"))
    statement = "on a stack with structure along z the 3-D net beats the 2-D net plane by plane, at {:g} dB"
    return [
        claim(f"G11{letter}", statement.format(level), per_seed(difference, "gain", level_db=level), low=0.0)
        for letter, level in zip("abcdef", np.unique(rows["level_db"]), strict=False)
    ]
