"""The chapter's tables and claims, computed from what its studies measured.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from noisebook import metrics
from noisebook.claims import Claim
from noisebook.studies import by_seed

from .long import ASIDE, PAIRED, UNPAIRED
from .network import Discriminator, Generator, map_size, parameters, receptive_field
from .quality import AUTHORS_RULE, CONVENTIONS, PROPER_RULE, WINDOW_RULE
from .training import CRITICS

Rows = Mapping[str, np.ndarray]
PROJECT = "course project on the AAPM data"
OURS = "ours"
AIM = 0.15
"""The share by which CycleGAN should lower the input's RMSE against the truth."""
PUBLISHED_GAIN_DB = 2.18
"""By the authors' rule."""
PUBLISHED_CYCLE_HU = 6.0
"""The authors' cycle residual, 0.0015 of 4000 HU."""
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


def claims(
    seeds: Rows, lambdas: Rows, registration: Rows, critics: Rows, schedule: str = "", data: str = ""
) -> list[Claim]:
    """Every claim of the chapter, C1 to C12.

    Args:
        seeds: The study ``seeds``.
        lambdas: The study ``lambdas``.
        registration: The study ``registration``.
        critics: The study ``critics``.
        schedule: Width and training of the nets, in words.
        data: What they were measured on, in words.
    """
    found = [
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
    exact = ("C9a", "C9b", "C9c", "C9d")
    return [c if c.id in exact or c.needs else _with(c, schedule, data) for c in found]


def _with(claim: Claim, schedule: str, data: str) -> Claim:
    return Claim(**{**vars(claim), "schedule": schedule, "data": data})


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
) -> Claim:
    """A claim; without a measured value it is not tested."""
    values = tuple(float(value) for value in np.atleast_1d(ours))
    needs = "" if values else "the studies' trainings"
    return Claim(name, statement, source, values, low, high, unit=unit, published=published, needs=needs)


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
        _claim(
            "C1a",
            f"unpaired training lowers the RMSE against the truth by at least {AIM:.0%} of the input's",
            1 - ratio,
            low=AIM,
            source=OURS,
        ),
        _claim(
            "C1b", f"and raises the PSNR {rule}", gains["psnr"], low=0.0, unit="dB", published="34.170 to 36.350 dB"
        ),
        _claim("C1c", f"and the SSIM {rule}", gains["ssim"], low=0.0, published="0.8932 to 0.9318"),
        _claim(
            "C1d",
            "and lowers the RMSE against full dose: upper end of the change's 95 % interval over patients",
            np.array(upper),
            high=0.0,
            source=OURS,
        ),
    ]


def _not_always(seeds: Rows, lambdas: Rows) -> list[Claim]:
    count, total = beating(seeds, lambdas)
    return [
        _claim(
            "C2",
            f"not every seed and weight of the losses beats the input: {count} of {total} do; the share",
            count / total if total else np.empty(0),
            high=1 - 1e-9,
        )
    ]


def _pairs(seeds: Rows, registration: Rows) -> list[Claim]:
    rmse = {kind: by_seed(seeds, "rmse_truth", kind=kind).mean(1) for kind in (UNPAIRED, PAIRED, ASIDE)}
    far = int(np.max(registration["shift"]))
    apart = against_input(registration)[np.asarray(registration["shift"]) == far]
    few = "" if len(apart) > 2 else f", of {len(apart)} training only"
    return [
        _claim(
            "C3",
            "the same generator trained on registered pairs has a lower RMSE against the truth: unpaired less paired",
            rmse[UNPAIRED] - rmse[PAIRED],
            low=0.0,
            unit="HU",
        ),
        _claim(
            "C4a",
            f"trained on pairs without relation, {far} pixels aside, it is worse than its input: ratio of RMSE{few}",
            apart,
            low=1.0,
            published="14.14 dB where the input has 34.170 dB",
        ),
        _claim(
            "C4b",
            "pairs of which one is up to 8 pixels aside are worse than registered ones: ratio of RMSE",
            rmse[ASIDE] / rmse[PAIRED],
            low=1.0,
            source=OURS,
        ),
        _claim(
            "C4c",
            "pairs of which one is up to 8 pixels aside make it worse than its input: ratio of RMSE",
            rmse[ASIDE] / seeds["input_rmse_truth"].mean(),
            low=1.0,
            source=OURS,
        ),
    ]


def _equilibrium(rows: Rows) -> list[Claim]:
    generators, critics = (by_seed(rows, name, kind=UNPAIRED)[:, -1] for name in ("adversarial", "critics"))
    return [
        _claim("C5a", "the generators' term ends near 1/4", generators, low=0.2, high=0.3, published=".264"),
        _claim(
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
        _claim(
            "C6",
            "the same images score a higher SSIM with a data range of 2 than with their own of 1: difference",
            ssim[:, authors] - ssim[:, proper],
            low=0.005,
        ),
        _claim(
            "C7",
            "by the authors' rule images score more decibels than in the window, by more than the published gain",
            psnr[:, authors] - psnr[:, window],
            low=PUBLISHED_GAIN_DB,
            unit="dB",
            published="37.9 and 23.7 dB for one slice; a gain of 2.18 dB",
        ),
    ]


def _optimism(rows: Rows) -> Claim:
    chosen = np.asarray(rows["epoch"])
    test = np.asarray(rows["test"])
    at_validation = test[np.arange(len(chosen)), chosen]
    return _claim(
        "C8",
        "an epoch chosen on the test patients scores better on them than one chosen on validation patients: "
        "share of the RMSE, all nets of study seeds",
        at_validation / test.min(1) - 1,
        low=1e-3,
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
        _claim(name, what, ours, low=published, high=published, published=f"{published:,}")
        for name, (what, ours, published) in numbers.items()
    ]


def _residuals(rows: Rows) -> list[Claim]:
    cycle = (by_seed(rows, "cycle_quarter", kind=UNPAIRED) + by_seed(rows, "cycle_full", kind=UNPAIRED)) / 2
    high = 2 * PUBLISHED_CYCLE_HU
    few = f"is at most {high:g} HU, twice the authors' cycle"
    return [
        _claim("C10a", f"after training the cycle residual {few}", cycle, high=high, unit="HU", published="6 HU"),
        _claim(
            "C10b",
            f"what the denoiser changes about full dose {few}",
            by_seed(rows, "identity_full", kind=UNPAIRED),
            high=high,
            unit="HU",
            published="5.6 HU",
        ),
        _claim(
            "C10c",
            f"what the way back changes about quarter dose {few}",
            by_seed(rows, "identity_quarter", kind=UNPAIRED),
            high=high,
            unit="HU",
            published="2.4 HU",
        ),
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
        _claim(
            "C11a",
            "trained on registered pairs the noise is coarser than at full dose: log2 of its mean frequency over that",
            shift[PAIRED],
            high=0.0,
            source=OURS,
        ),
        _claim(
            "C11b",
            "CycleGAN's is nearer to full dose than the paired net's: difference of the magnitudes of that",
            np.abs(shift[PAIRED]) - np.abs(shift[UNPAIRED]),
            low=0.0,
            source=OURS,
        ),
        _claim(
            "C11c",
            "CycleGAN keeps the noise power of full dose within a factor of two (log2)",
            total[UNPAIRED],
            low=-1.0,
            high=1.0,
            source=OURS,
        ),
        _claim(
            "C11d",
            "the paired net has less noise than full dose (log2 of the power)",
            total[PAIRED],
            high=0.0,
            source=OURS,
        ),
    ]


def _blind(rows: Rows) -> list[Claim]:
    authors, ours = (by_seed(rows, "loss", kind=CRITICS.index(name))[:, -1] for name in ("authors", "windowed"))
    steps = "after the study's steps, the sum of the two squared terms"
    return [
        _claim(
            "C12a",
            f"alone with real crops, discriminators with instance normalisation cannot tell the doses apart: {steps}",
            authors,
            low=0.5,
            source=OURS,
        ),
        _claim("C12b", f"without it and shown the window only they can: {steps}", ours, high=0.45, source=OURS),
    ]
