"""The chapter's long runs: what claims G1 to G12 rest on.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607. Random quantities are
measured over several seeds; those of an embedded net are of test tissues, photons and sampling, not of its training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook.phantoms import Cells
from noisebook.studies import Study

from .counts import photon_loss
from .measure import (
    chances,
    compared,
    fineness,
    generated,
    in_depth,
    law,
    posterior_samples,
    spectrum,
    thinning,
    toy_averaging,
    toy_error,
)
from .network import UNet
from .sample import denoise, expected_steps
from .toy import toy_prior
from .training import SMALL, load, tissues, train

Arrays = dict[str, np.ndarray]
LAWS = ("alone", "beside", "summed")
"""How images of the study ``law`` were made: one at a time, among others, and by the authors' sampler."""


def columns(rows: list[dict[str, float]]) -> Arrays:
    """One array a quantity, from one dictionary a row."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def study_thinning(
    folder: Path, device: str, *, seeds: list[int], repeats: int, side: int, mean: float, level: float
) -> Arrays:
    """G1: one row a seed, of `thinning`, and the loss of a uniform prediction."""
    rows = []
    for seed in seeds:
        target = torch.poisson(tissues([seed], (side, side), mean), generator=torch.Generator().manual_seed(seed))
        uniform = float(photon_loss(torch.full_like(target, 3.0), target))
        rows.append({"seed": seed, "uniform_loss": uniform} | thinning(mean, level, side, repeats, seed))
    return columns(rows)


def study_toy(
    folder: Path,
    device: str,
    *,
    seeds: list[int],
    levels_db: list[float],
    count: int,
    numbers: list[int],
    images: int,
    betas: list[float],
    generations: int,
) -> Arrays:
    """G2, G5, G8 on the solvable prior.

    Returns:
        ``net_*``: rows of `toy_error` by seed and level; ``mean_*``: error of the mean of ``number`` samples;
        ``beta_*``: rows of `chances`.
    """
    net, parts = load("gap-toy"), []
    for seed in seeds:
        kept = {"seed": seed}
        for level in levels_db:
            parts.append(("net", kept | {"level_db": level} | toy_error(net, toy_prior(), level, count, seed)))
        away = toy_averaging(numbers, images, -10.0, 0.02, seed)
        parts += [("mean", kept | {"number": k, "error": e}) for k, e in zip(numbers, away, strict=True)]
        parts += [("beta", kept | {"beta": beta} | chances(beta, generations, seed)) for beta in betas]
    found: Arrays = {}
    for kind in ("net", "mean", "beta"):
        rows = columns([row for name, row in parts if name == kind])
        found |= {f"{kind}_{name}": values for name, values in rows.items()}
    return found


def study_levels(folder: Path, device: str, *, seeds: list[int], levels_db: list[float], size: int) -> Arrays:
    """G3, G4: one row of `compared` a level and held-out tissue, for ``gap`` and its supervised twin ``mse``."""
    nets = {"gap": load("gap-2d", device), "mse": load("gap-2d-mse", device)}
    rows = [
        {"seed": seed, "level_db": level} | compared(nets, seed, size, level) for seed in seeds for level in levels_db
    ]
    return columns(rows)


def study_diversity(
    folder: Path,
    device: str,
    *,
    seeds: list[int],
    levels_db: list[float],
    numbers: list[int],
    size: int,
    stop_db: float,
    beta: float,
) -> Arrays:
    """G5, G6 on tissue: one row a level, seed and number of samples.

    Returns:
        ``seed``, ``level_db``, ``number``; ``error``: RMS difference of the mean of so many samples from the net's
        posterior mean; ``spread``: standard deviation of single samples; both in units of the mean.
    """
    net, rows = load("gap-2d", device), []
    for seed in seeds:
        for level in levels_db:
            truth = tissues([seed], (size, size), 10 ** (level / 10))
            counts = torch.poisson(truth, generator=torch.Generator().manual_seed(seed)).to(device)
            f = posterior_samples(net, counts, max(numbers), stop_db=stop_db, beta=beta, seed=seed) * size**2
            mean = denoise(net, counts) / counts.mean()
            spread = float(f.var(0).mean().sqrt())
            for k in numbers:
                error = float((f.unflatten(0, (-1, k)).mean(1) - mean).square().mean().sqrt())
                rows.append({"seed": seed, "level_db": level, "number": k, "error": error, "spread": spread})
    return columns(rows)


def study_generation(
    folder: Path,
    device: str,
    *,
    seeds: list[int],
    betas: list[float],
    count: int,
    size: int,
    stop_db: float,
    spectrum_beta: float,
) -> Arrays:
    """G7, G10: images from nothing beside real ones of as many photons.

    Returns:
        ``beta``, ``steps``, ``expected_steps`` by beta and seed; by seed ``mean_ratio`` (photons, over those asked
        for), ``power`` and ``real_power`` (seeds, bands), ``small`` and ``real_small`` (shares of tissues of small
        cells), and ``accuracy`` of that distinction on real ones; the first four images' estimates in ``images``.
    """
    net, rows, found = load("gap-2d-wide", device), [], []
    for seed in seeds:
        for beta in betas:
            photons, estimate, steps = generated(net, count, size, stop_db, beta, seed)
            asked = size**2 * 10 ** (stop_db / 10)
            rows.append({"seed": seed, "beta": beta, "steps": steps, "expected_steps": expected_steps(asked, beta)})
            if beta == spectrum_beta:
                found.append((float(photons.mean()) * size**2 / asked, estimate, _real(net, photons, seed)))
    images = np.stack([one[1][:4, 0].cpu().numpy() for one in found[:1]]).astype(np.float16)
    arrays = [_beside(estimate, real) for _, estimate, real in found]
    together = {name: np.array([one[name] for one in arrays]) for name in arrays[0]}
    return columns(rows) | together | {"mean_ratio": np.array([one[0] for one in found]), "images": images[0]}


def _real(net: UNet, photons: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Estimates of held-out tissues, seen with as many photons as each generated image has; and which have small cells.

    Half of the tissues, on average, are of either kind, as in training.
    """
    numbers = range(100 * seed, 100 * seed + len(photons))
    truth = tissues(numbers, tuple(photons.shape[2:]), 1.0) * photons.cpu().mean((1, 2, 3), keepdim=True)
    counts = torch.poisson(truth, generator=torch.Generator().manual_seed(seed)).to(photons.device)
    small = torch.tensor([Cells(k).kind == "small" for k in numbers])
    return denoise(net, counts), small


def _beside(estimate: Tensor, real: tuple[Tensor, Tensor]) -> dict[str, np.ndarray | float]:
    """Power spectra and class shares; the border between the classes is half way between their means on real ones."""
    images, small = real
    fine, kind = fineness(images), small.numpy()
    border = (fine[kind].mean() + fine[~kind].mean()) / 2
    return {
        "power": spectrum(estimate.cpu()),
        "real_power": spectrum(images.cpu()),
        "small": float((fineness(estimate) > border).mean()),
        "real_small": float((fine > border).mean()),
        "accuracy": float(((fine > border) == kind).mean()),
    }


def study_law(
    folder: Path, device: str, *, seeds: list[int], count: int, batch: int, size: int, stop_db: float, beta: float
) -> Arrays:
    """G9: ``count`` images a seed and kind of sampling (``law``, see `LAWS`), with the columns of `measure.law`."""
    net, parts = load("gap-2d-wide"), []
    for seed in seeds:
        for kind, name in enumerate(LAWS):
            kept = folder / f"{name}-{seed}.pt"
            if not kept.is_file():
                many = 1 if name == "alone" else batch
                values = law(net, count, many, size, stop_db, beta, 10 * seed + kind, summed=name == "summed")
                torch.save({k: torch.from_numpy(v) for k, v in values.items()}, kept.with_suffix(".partial"))
                kept.with_suffix(".partial").replace(kept)
            columns_of_law = {k: v.numpy() for k, v in torch.load(kept, weights_only=True).items()}
            parts.append({"seed": np.full(count, seed), "law": np.full(count, kind)} | columns_of_law)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def study_depth(folder: Path, device: str, *, seeds: list[int], levels_db: list[float], shape: list[int]) -> Arrays:
    """G11: one row of `in_depth` a level and held-out stack."""
    solid, flat = load("gap-3d", device), load("gap-2d", device)
    sides = (shape[0], shape[1], shape[2])
    rows = [
        {"seed": seed, "level_db": level} | in_depth(solid, flat, seed, sides, level)
        for seed in seeds
        for level in levels_db
    ]
    return columns(rows)


def study_dimmest(folder: Path, device: str, *, seeds: list[int], steps: int, width: int, mean: float) -> Arrays:
    """G12: a training on the dimmest data, most of whose images hold no photon; it stops if a loss is not finite.

    Returns:
        By seed: ``steps`` done, and ``finite``, the share of finite parameters at the end.
    """
    rows = []
    for seed in seeds:
        config = replace(SMALL, width=width, depth=3, low_db=-40.0, high_db=-5.0, top_low_db=-20.0, seed=seed)
        config = replace(config, crop=(16, 16), size=(16, 16), mean=mean, steps=steps // 10, epochs=10)
        net = train(config, folder / f"seed-{seed}", device=device)
        state = torch.cat([p.detach().flatten() for p in net.parameters()])
        rows.append({"seed": seed, "steps": 10 * config.steps, "finite": float(state.isfinite().float().mean())})
    return columns(rows)


_SEEDS = list(range(8))
STUDIES = (
    Study(
        "gap",
        "thinning",
        study_thinning,
        {"seeds": [0, 1, 2, 3, 4], "repeats": 4000, "side": 32, "mean": 4.0, "level": 2.0},
    ),
    Study(
        "gap",
        "toy",
        study_toy,
        {
            "seeds": [0, 1, 2, 3, 4],
            "levels_db": [-15.0, -10.0, -5.0],
            "count": 2000,
            "numbers": [1, 4, 16, 64, 256],
            "images": 16,
            "betas": [1.0, 0.3, 0.1, 0.03],
            "generations": 4000,
        },
        ("gap-toy",),
    ),
    Study(
        "gap",
        "levels",
        study_levels,
        {"seeds": _SEEDS, "levels_db": [-20.0, -15.0, -10.0, -5.0, 0.0, 3.0, 6.0], "size": 128},
        ("gap-2d", "gap-2d-mse"),
    ),
    Study(
        "gap",
        "diversity",
        study_diversity,
        {
            "seeds": _SEEDS[:4],
            "levels_db": [-15.0, -10.0, -5.0, 0.0],
            "numbers": [1, 4, 16],
            "size": 64,
            "stop_db": 5.0,
            "beta": 0.1,
        },
        ("gap-2d",),
    ),
    Study(
        "gap",
        "generation",
        study_generation,
        {"seeds": [0, 1, 2], "betas": [0.05, 0.1], "count": 64, "size": 64, "stop_db": -5.0, "spectrum_beta": 0.05},
        ("gap-2d-wide",),
    ),
    Study(
        "gap",
        "law",
        study_law,
        {"seeds": [0, 1, 2], "count": 500, "batch": 16, "size": 32, "stop_db": -10.0, "beta": 0.1},
        ("gap-2d-wide",),
    ),
    Study(
        "gap",
        "depth",
        study_depth,
        {"seeds": _SEEDS[:4], "levels_db": [-10.0, -5.0, 0.0], "shape": [32, 96, 96]},
        ("gap-3d", "gap-2d"),
    ),
    Study("gap", "dimmest", study_dimmest, {"seeds": [0], "steps": 20_000, "width": 8, "mean": 1e-3}),
)
"""Every long run of the chapter."""
