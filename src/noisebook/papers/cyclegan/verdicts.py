"""The chapter's tables and claims, computed from what its studies measured.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from noisebook import metrics
from noisebook.claims import Claim
from noisebook.studies import by_seed

from . import told
from .long import ASIDE, PAIRED, UNPAIRED
from .nets import SHIFTED, SMALL, TWIN
from .network import Discriminator, Generator, map_size, parameters, receptive_field
from .quality import AUTHORS_RULE, CONVENTIONS, PROPER_RULE, WINDOW_RULE
from .training import CRITICS

Rows = Mapping[str, np.ndarray]
PROJECT = "course project on the AAPM data"
OURS = "ours"
CHECK = f"{PROJECT}, check of the code"
AIM = 0.15
"""The share by which CycleGAN should lower the input's RMSE against the truth."""
PUBLISHED_GAIN_DB = 2.18
"""By the authors' rule."""
PUBLISHED_HU = {"cycle": 6.0, "identity_full": 2.4, "identity_quarter": 5.6}
"""The authors' residuals of the cycle, and of each generator on what it should leave alone.

Where the published curves end: 0.0015, 0.0006 (``iden_F``) and 0.0014 (``iden_Q``) of 4000 HU."""
TIMES = 2.0
"""So many times the authors' residuals still count as theirs."""
_RULES = list(CONVENTIONS)


def against_input(rows: Rows, quantity: str = "rmse_truth") -> np.ndarray:
    """RMSE of every net over that of the input, (N,): ratios of means over the test slices."""
    return np.asarray(np.asarray(rows[quantity]).mean(1) / np.asarray(rows[f"input_{quantity}"]).mean())


def table(rows: Rows) -> dict[str, list[object]]:
    """The columns of a table of all nets of a study, beside the input, which is the identity's output."""
    kinds = {UNPAIRED: "CycleGAN", PAIRED: "registered pairs", ASIDE: "pairs aside"}
    names = ("net", "seed", "cycle", "identity", "shift / px", "epoch", "RMSE to truth / HU", "over the input's")
    columns: dict[str, list[object]] = {name: [] for name in names}
    cells: list[tuple[object, ...]] = [("input", *[""] * 5, f"{np.mean(rows['input_rmse_truth']):.2f}", "1.000")]
    ratios = against_input(rows)
    for k, kind in enumerate(rows["kind"]):
        weights = [f"{rows[name][k]:g}" if kind == UNPAIRED else "" for name in ("lambda_cycle", "lambda_identity")]
        shift = "" if kind == UNPAIRED else int(rows["shift"][k])
        numbers = (int(rows["epoch"][k]) + 1, f"{rows['rmse_truth'][k].mean():.2f}", f"{ratios[k]:.3f}")
        cells.append((kinds[int(kind)], int(rows["seed"][k]), *weights, shift, *numbers))
    for row in cells:
        for name, cell in zip(names, row, strict=True):
            columns[name].append(cell)
    return columns


def sweep(seeds: Rows, lambdas: Rows) -> dict[str, np.ndarray]:
    """`against_input` of every CycleGAN of two studies, each counted once, by its losses' weights: cycle, identity."""
    groups: dict[str, dict[int, float]] = {}
    for rows in (seeds, lambdas):
        for k, ratio in enumerate(against_input(rows)):
            if rows["kind"][k] == UNPAIRED:
                name = f"{rows['lambda_cycle'][k]:g}, {rows['lambda_identity'][k]:g}"
                groups.setdefault(name, {}).setdefault(int(rows["seed"][k]), float(ratio))
    return {name: np.array(list(values.values())) for name, values in groups.items()}


def beating(seeds: Rows, lambdas: Rows) -> tuple[int, int]:
    """How many CycleGANs have a lower RMSE against the truth than the input, and how many there are."""
    ratios = np.concatenate([np.empty(0), *sweep(seeds, lambdas).values()])
    return int((ratios < 1).sum()), len(ratios)


def claims(seeds: Rows, lambdas: Rows, registration: Rows, critics: Rows) -> list[Claim]:
    """Every claim of the chapter, C1 to C12.

    Args:
        seeds: The study ``seeds``.
        lambdas: The study ``lambdas``.
        registration: The study ``registration``.
        critics: The study ``critics``.
    """
    return [
        *_denoises(seeds),
        *_not_always(seeds, lambdas),
        *_pairs(seeds, registration),
        *_equilibrium(seeds),
        *_conventions(seeds),
        _optimism(seeds),
        *_geometry(),
        *_residuals(seeds),
        *_texture(seeds),
        *_blind(critics),
    ]


def _claim(
    name: str,
    statement: str,
    ours: np.ndarray | float,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    source: str = PROJECT,
    unit: str = "",
    published: str = "",
    how: str = "",
    on: str = "",
) -> Claim:
    """A claim; without a measured value it is not tested."""
    values = tuple(float(value) for value in np.atleast_1d(ours))
    needs = "" if values else "the studies' trainings"
    return Claim(name, statement, source, values, low, high, unit, published, data=on, schedule=how, needs=needs)


_TESTED = partial(_claim, on=told.data(told.TEST, "seeds"))
_UNPAIRED, _PAIRED = (partial(_TESTED, how=told.nets(config)) for config in (SMALL, TWIN))
_BOTH = partial(_TESTED, how=told.nets(SMALL, TWIN))


def _denoises(rows: Rows) -> list[Claim]:
    ratio = against_input(rows)[np.asarray(rows["kind"]) == UNPAIRED]
    gains = {
        name: by_seed(rows, name, kind=UNPAIRED)[:, _RULES.index(AUTHORS_RULE)].mean(1)
        - rows[f"input_{name}"][_RULES.index(AUTHORS_RULE)].mean()
        for name in ("psnr", "ssim")
    }
    changes = by_seed(rows, "rmse_full", kind=UNPAIRED) / rows["input_rmse_full"] - 1
    upper = [metrics.bootstrap(change, rows["patient"], seed=0)[1] for change in changes]
    rule = "against full dose, by the authors' rule"
    return [
        _UNPAIRED(
            "C1a",
            f"unpaired training lowers the RMSE against the truth by at least {AIM:.0%} of the input's",
            1 - ratio,
            low=AIM,
            source=OURS,
        ),
        _UNPAIRED(
            "C1b",
            f"unpaired training raises the PSNR {rule}",
            gains["psnr"],
            low=0.0,
            unit="dB",
            published="34.170 to 36.350 dB",
        ),
        _UNPAIRED(
            "C1c", f"unpaired training raises the SSIM {rule}", gains["ssim"], low=0.0, published="0.8932 to 0.9318"
        ),
        _UNPAIRED(
            "C1d",
            "unpaired training lowers the RMSE against full dose: upper end of the change's 95 % interval over "
            "patients",
            np.array(upper),
            high=0.0,
            source=OURS,
        ),
    ]


def _not_always(seeds: Rows, lambdas: Rows) -> list[Claim]:
    better, total = beating(seeds, lambdas)
    groups = sweep(seeds, lambdas)
    pairs = [(float(cycle), float(identity)) for cycle, identity in (name.split(", ") for name in groups)]
    tried = ", ".join(f"({name}) with {len(ratios)} seed{'s' * (len(ratios) > 1)}" for name, ratios in groups.items())
    return [
        _claim(
            "C2",
            f"not every CycleGAN beats the input: networks of {total} that do not, each seed counted; weights (cycle, "
            f"identity): {tried}; that of (0, 0) is expected not to",
            np.array(total - better if total else []),
            low=1,
            how=told.weighted(pairs),
            on=told.data(told.TEST, "seeds", "lambdas"),
        )
    ]


def _pairs(seeds: Rows, registration: Rows) -> list[Claim]:
    rmse = {kind: by_seed(seeds, "rmse_truth", kind=kind).mean(1) for kind in (UNPAIRED, PAIRED, ASIDE)}
    far = int(np.max(registration["shift"]))
    apart = against_input(registration)[np.asarray(registration["shift"]) == far]
    few = "" if len(apart) > 2 else f", of {len(apart)} training only"
    return [
        _BOTH(
            "C3",
            "trained on registered pairs the same generator has a lower RMSE against the truth: unpaired less paired",
            rmse[UNPAIRED] - rmse[PAIRED],
            low=0.0,
            unit="HU",
        ),
        _claim(
            "C4a",
            f"a generator trained on pairs without relation, {far} pixels aside, is worse than its input: ratio of RMSE"
            f"{few}",
            apart,
            low=1.0,
            published="14.14 dB where the input has 34.170 dB",
            how=told.nets(replace(TWIN, shift=far), study="registration"),
            on=told.data(told.TEST, "registration"),
        ),
        _TESTED(
            "C4b",
            "training on pairs of which one is up to 8 pixels aside is worse than on registered ones: RMSE ratio",
            rmse[ASIDE] / rmse[PAIRED],
            low=1.0,
            source=OURS,
            how=told.nets(SHIFTED, TWIN),
        ),
        _TESTED(
            "C4c",
            "a generator trained on pairs of which one is up to 8 pixels aside is worse than its input: ratio of RMSE",
            rmse[ASIDE] / seeds["input_rmse_truth"].mean(),
            low=1.0,
            source=OURS,
            how=told.nets(SHIFTED),
        ),
    ]


def _equilibrium(rows: Rows) -> list[Claim]:
    generators, critics = (by_seed(rows, name, kind=UNPAIRED)[:, -1] for name in ("adversarial", "critics"))
    claim = partial(_claim, how=told.nets(SMALL, last=True), on=told.data(told.TRAINING, "seeds"))
    return [
        claim("C5a", "the generators' term ends near 1/4", generators, low=0.2, high=0.3, published="0.264"),
        claim(
            "C5b",
            "the sum of a discriminator's two squared terms, before halving, ends near 1/2",
            critics,
            low=0.4,
            high=0.6,
            published="0.52",
        ),
    ]


def _conventions(rows: Rows) -> list[Claim]:
    ssim = by_seed(rows, "ssim", kind=UNPAIRED).mean(2)
    psnr = by_seed(rows, "psnr", kind=UNPAIRED).mean(2)
    authors, proper, window = (_RULES.index(name) for name in (AUTHORS_RULE, PROPER_RULE, WINDOW_RULE))
    return [
        _UNPAIRED(
            "C6",
            "the same images score a higher SSIM with a data range of 2 than with their own of 1: difference",
            ssim[:, authors] - ssim[:, proper],
            low=0.005,
        ),
        _UNPAIRED(
            "C7",
            "by the authors' rule images score more decibels than in the window, by more than the published gain",
            psnr[:, authors] - psnr[:, window],
            low=PUBLISHED_GAIN_DB,
            unit="dB",
            published="a gain of 2.18 dB",
        ),
    ]


def _optimism(rows: Rows) -> Claim:
    chosen = np.asarray(rows["epoch"])
    test = np.asarray(rows["test"])
    at_validation = test[np.arange(len(chosen)), chosen]
    return _claim(
        "C8",
        "an epoch chosen on the test patients scores better on them than one chosen on validation patients: "
        f"share of the RMSE, one value for each of {len(chosen)} nets of three kinds",
        at_validation / test.min(1) - 1,
        low=1e-3,
        how=told.nets(SMALL, TWIN, SHIFTED),
        on=told.data(told.WATCHED, "seeds"),
    )


def _geometry() -> list[Claim]:
    with torch.device("meta"):
        generator, critic = Generator(), Discriminator()
    numbers = {
        "C9a": ("parameters of the generator", parameters(generator), 1_958_497),
        "C9b": ("parameters of the discriminator", parameters(critic), 2_761_728),
        "C9c": ("receptive field of the discriminator, pixels a side", receptive_field(critic), 70),
        "C9d": ("side of its map for a crop of 128 x 128 pixels", map_size(critic, 128), 8),
    }
    return [
        _claim(name, what, ours, low=published, high=published, source=CHECK, published=f"{published:,}")
        for name, (what, ours, published) in numbers.items()
    ]


def _residuals(rows: Rows) -> list[Claim]:
    cycle = (by_seed(rows, "cycle_quarter", kind=UNPAIRED) + by_seed(rows, "cycle_full", kind=UNPAIRED)) / 2
    found = {
        "cycle": ("after training the cycle residual", cycle),
        "identity_full": ("what the denoiser changes of full dose", by_seed(rows, "identity_full", kind=UNPAIRED)),
        "identity_quarter": (
            "what the way back changes of quarter dose",
            by_seed(rows, "identity_quarter", kind=UNPAIRED),
        ),
    }
    return [
        _UNPAIRED(
            f"C10{letter}",
            f"{what} is at most {TIMES:g} times the authors'",
            values,
            high=TIMES * PUBLISHED_HU[name],
            unit="HU",
            published=f"{PUBLISHED_HU[name]:g} HU",
        )
        for letter, (name, (what, values)) in zip("abc", found.items(), strict=True)
    ]


def _texture(rows: Rows) -> list[Claim]:
    kinds = (UNPAIRED, PAIRED)
    shift = {kind: np.log2(by_seed(rows, "mean_frequency", kind=kind) / rows["full_mean_frequency"]) for kind in kinds}
    circumference = np.asarray(rows["frequency"])
    total = {
        kind: np.log2((by_seed(rows, "power", kind=kind) @ circumference) / (rows["full_power"] @ circumference))
        for kind in kinds
    }
    return [
        _PAIRED(
            "C11a",
            "after training on registered pairs noise is coarser than at full dose: log2 of its mean frequency over "
            "that of full dose",
            shift[PAIRED],
            high=0.0,
            source=OURS,
        ),
        _BOTH(
            "C11b",
            "the mean frequency of CycleGAN's noise is nearer to full dose than that of the paired net's: how much "
            "smaller |log2| of the ratio is",
            np.abs(shift[PAIRED]) - np.abs(shift[UNPAIRED]),
            low=0.0,
            source=OURS,
        ),
        _UNPAIRED(
            "C11c",
            "CycleGAN keeps the noise power of full dose within a factor of two (log2)",
            total[UNPAIRED],
            low=-1.0,
            high=1.0,
            source=OURS,
        ),
        _PAIRED(
            "C11d",
            "the paired net has less noise than full dose (log2 of the power)",
            total[PAIRED],
            high=0.0,
            source=OURS,
        ),
    ]


def _blind(rows: Rows) -> list[Claim]:
    authors, ours = (by_seed(rows, "loss", kind=CRITICS.index(name))[:, -1] for name in ("authors", "windowed"))
    steps = "the sum of the two squared terms at the end"
    claim = partial(_claim, source=OURS, on=told.data(told.TRAINING, "critics"))
    return [
        claim(
            "C12a",
            f"alone with real crops, discriminators with instance normalisation cannot tell the doses apart: {steps}",
            authors,
            low=0.5,
            how=told.critics("authors"),
        ),
        claim(
            "C12b",
            "alone with real crops, discriminators without instance normalisation that see soft tissue only tell the "
            f"doses apart: {steps}",
            ours,
            high=0.45,
            how=told.critics("windowed"),
        ),
    ]
