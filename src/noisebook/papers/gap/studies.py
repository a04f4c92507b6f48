"""The chapter's long runs: what claims G1 to G12 rest on.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607. Random quantities are
measured over several seeds; those of an embedded net are of test tissues, photons and sampling, not of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisebook.phantoms import Cells
from noisebook.studies import Arrays, Study

from . import measures
from .data import drawn, tissues, toy_prior
from .experiment import DIMMEST, NETWORKS, photon_loss
from .model import UNet, denoise, expected_steps, sample

Ints = list[int]
Floats = list[float]


def columns(rows: Sequence[Mapping[str, Any]]) -> Arrays:
    """One array a quantity, from one dictionary a row."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def study_thinning(
    folder: Path, device: str, *, seeds: Ints, repeats: int, side: int, mean: float, level: float
) -> Arrays:
    """G1: one row a seed, of `measures.thinning`, and the loss of a uniform prediction."""
    rows = []
    for seed in seeds:
        target = torch.poisson(tissues([seed], (side, side), mean), generator=torch.Generator().manual_seed(seed))
        uniform = float(photon_loss(torch.full_like(target, 3.0), target))
        rows.append({"seed": seed, "uniform_loss": uniform} | measures.thinning(mean, level, side, repeats, seed))
    return columns(rows)


def study_toy(
    folder: Path,
    device: str,
    *,
    seeds: Ints,
    levels_db: Floats,
    count: int,
    numbers: Ints,
    images: int,
    betas: Floats,
    generations: int,
) -> Arrays:
    """G2, G5, G8 on the solvable prior.

    Returns:
        ``net_*``: rows of `toy_error` by seed and level; ``mean_*``: error of the mean of ``number`` samples;
        ``beta_*``: rows of `probabilities`.
    """
    net, rows = NETWORKS.load("gap-toy"), {kind: list[dict[str, float]]() for kind in ("net", "mean", "beta")}
    for seed in seeds:
        for level in levels_db:
            found = measures.toy_error(net, toy_prior(), level, count, seed)
            rows["net"].append({"seed": seed, "level_db": level} | found)
        away = measures.toy_averaging(numbers, images, -10.0, 0.02, seed)
        rows["mean"] += [{"seed": seed, "number": k, "error": e} for k, e in zip(numbers, away, strict=True)]
        rows["beta"] += [{"seed": seed, "beta": b} | measures.probabilities(b, generations, seed) for b in betas]
    return {f"{kind}_{name}": values for kind, some in rows.items() for name, values in columns(some).items()}


def study_levels(folder: Path, device: str, *, seeds: Ints, levels_db: Floats, size: int) -> Arrays:
    """G3, G4: one row of `compared` a level and held-out tissue, for ``gap`` and ``mse``, which saw the truth."""
    nets = {"gap": NETWORKS.load("gap-2d", device), "mse": NETWORKS.load("gap-2d-mse", device)}
    return columns([{"seed": s, "level_db": v} | measures.compared(nets, s, size, v) for s in seeds for v in levels_db])


def study_diversity(
    folder: Path, device: str, *, seeds: Ints, levels_db: Floats, numbers: Ints, size: int, stop_db: float, beta: float
) -> Arrays:
    """G5, G6 on tissue: one row a level, seed and number of samples.

    Returns:
        ``seed``, ``level_db``, ``number``; ``error``: RMS difference of the mean of so many samples from the net's
        posterior mean; ``spread``: standard deviation of single samples; both in units of the mean.
    """
    net, rows = NETWORKS.load("gap-2d", device), []
    for seed in seeds:
        for level in levels_db:
            counts = drawn(seed, (size, size), level)[1].to(device)
            f = measures.posterior_samples(net, counts, max(numbers), stop_db=stop_db, beta=beta, seed=seed) * size**2
            mean = denoise(net, counts) / counts.mean()
            spread = float(f.var(0).mean().sqrt())
            for k, error in zip(numbers, measures.errors_of_means(f, mean, numbers), strict=True):
                rows.append({"seed": seed, "level_db": level, "number": k, "error": error, "spread": spread})
    return columns(rows)


def study_generation(
    folder: Path,
    device: str,
    *,
    seeds: Ints,
    betas: Floats,
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
    net, rows, found, images = NETWORKS.load("gap-2d-wide", device), [], [], []
    for seed in seeds:
        for beta in betas:
            start, generator = torch.zeros(count, 1, size, size, device=device), torch.Generator(device)
            made = sample(net, start, stop_db=stop_db, beta=beta, generator=generator.manual_seed(seed))
            asked, steps = size**2 * 10 ** (stop_db / 10), float(made.steps.double().mean())
            rows.append({"seed": seed, "beta": beta, "steps": steps, "expected_steps": expected_steps(asked, beta)})
            if beta == spectrum_beta:
                found.append(_beside(made.estimate, _real(net, made.photons, seed)))
                found[-1]["mean_ratio"] = float(made.photons.mean()) * size**2 / asked
                images.append(made.estimate[:4, 0].cpu().numpy().astype(np.float16))
    return columns(rows) | columns(found) | {"images": images[0]}


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
    fine, kind = measures.fineness(images), small.numpy()
    border = (fine[kind].mean() + fine[~kind].mean()) / 2
    return {
        "power": measures.spectrum(estimate.cpu()),
        "real_power": measures.spectrum(images.cpu()),
        "small": float((measures.fineness(estimate) > border).mean()),
        "real_small": float((fine > border).mean()),
        "accuracy": float(((fine > border) == kind).mean()),
    }


def study_law(
    folder: Path, device: str, *, seeds: Ints, count: int, batch: int, size: int, stop_db: float, beta: float
) -> Arrays:
    """G9: ``count`` images a seed and kind of sampling (``law``, see `LAWS`), with the columns of `law`."""
    net, parts = NETWORKS.load("gap-2d-wide"), []
    for seed in seeds:
        for kind, name in enumerate(measures.LAWS):
            kept = folder / f"{name}-{seed}.npz"
            if not kept.is_file():
                many = 1 if name == "alone" else batch
                values = measures.law(net, count, many, size, stop_db, beta, 10 * seed + kind, summed=name == "summed")
                np.savez(kept.with_suffix(".partial.npz"), allow_pickle=False, **values)
                kept.with_suffix(".partial.npz").replace(kept)
            parts.append({"seed": np.full(count, seed), "law": np.full(count, kind), **np.load(kept)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def study_depth(folder: Path, device: str, *, seeds: Ints, levels_db: Floats, shape: Ints) -> Arrays:
    """G11: one row of `in_depth` a level and held-out stack."""
    solid, flat = (NETWORKS.load(name, device) for name in ("gap-3d", "gap-2d"))
    sides, cases = (shape[0], shape[1], shape[2]), [(seed, level) for seed in seeds for level in levels_db]
    return columns([{"seed": s, "level_db": v} | measures.in_depth(solid, flat, s, sides, v) for s, v in cases])


def study_dimmest(folder: Path, device: str, *, seeds: Ints, steps: int, width: int, mean: float) -> Arrays:
    """G12: a training on the dimmest data, most of whose images hold no photon; it stops if a loss is not finite.

    Returns:
        By seed: ``steps`` done, and ``finite``, the share of finite parameters at the end.
    """
    rows = []
    for seed in seeds:
        config = replace(DIMMEST, width=width, mean=mean, steps=steps // DIMMEST.epochs, seed=seed)
        net = NETWORKS.train(config, folder / f"seed-{seed}", device=device).net
        finite = float(torch.cat([p.flatten() for p in net.parameters()]).isfinite().float().mean())
        rows.append({"seed": seed, "steps": config.epochs * config.steps, "finite": finite})
    return columns(rows)


_SEEDS = list(range(8))
_TOY = {"levels_db": [-15.0, -10.0, -5.0], "count": 2000, "numbers": [1, 4, 16, 64, 256], "images": 16}
_GROWN = {"count": 64, "size": 64, "stop_db": -5.0, "spectrum_beta": 0.05}
_LEVELS = [-20.0, -15.0, -10.0, -5.0, 0.0, 3.0, 6.0]
_LAW = {"count": 500, "batch": 16, "size": 32, "stop_db": -10.0, "beta": 0.1}
_PLANES = {"size": 64, "stop_db": 5.0, "beta": 0.1, "numbers": [1, 4, 16]}
_STACK = {"shape": [32, 96, 96]}
_RUNS: tuple[tuple[str, Callable[..., Arrays], tuple[str, ...], dict[str, Any]], ...] = (
    ("thinning", study_thinning, (), {"seeds": _SEEDS[:5], "repeats": 4000, "side": 32, "mean": 4.0, "level": 2.0}),
    ("toy", study_toy, ("gap-toy",), {"seeds": _SEEDS[:5], "betas": [1.0, 0.3, 0.1, 0.03], "generations": 4000} | _TOY),
    ("levels", study_levels, ("gap-2d", "gap-2d-mse"), {"seeds": _SEEDS, "levels_db": _LEVELS, "size": 128}),
    ("diversity", study_diversity, ("gap-2d",), {"seeds": _SEEDS[:4], "levels_db": _LEVELS[1:5]} | _PLANES),
    ("generation", study_generation, ("gap-2d-wide",), {"seeds": _SEEDS[:3], "betas": [0.05, 0.1]} | _GROWN),
    ("law", study_law, ("gap-2d-wide",), {"seeds": _SEEDS[:3]} | _LAW),
    ("depth", study_depth, ("gap-3d", "gap-2d"), {"seeds": _SEEDS[:4], "levels_db": _LEVELS[2:5]} | _STACK),
    ("dimmest", study_dimmest, (), {"seeds": [0], "steps": 20_000, "width": DIMMEST.width, "mean": DIMMEST.mean}),
)
STUDIES = tuple(Study("gap", name, run, config, nets) for name, run, nets, config in _RUNS)
"""Every long run of the chapter."""
