"""The chapter's panels and tables: toy images beside the enumerated posterior, samples, and a user's own counts.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisebook import _numbers
from noisebook.figures import Line, Panel
from noisebook.studies import by_seed

from .data import drawn, own_counts, toy_prior
from .measures import Rows, level_psnr, part, posterior_samples, same_law
from .model import UNet, denoise, sample, shares

Columns = dict[str, list[object]]
SAMPLED_PX = 128
"""Side of the part of a user's image that a sample of the posterior is drawn of."""
_TOY_WINDOW = (0.0, 2.5)


def toy_panels(net: UNet, photons: Sequence[int], seed: int) -> list[Panel]:
    """Photons of one toy image, its posterior mean by enumeration, the net's, and the difference.

    Args:
        net: The net of the toy prior.
        photons: How many, one row each; the same photons and more.
        seed: Of the photons.

    Returns:
        Four panels a number of photons, their images (8, 8); all but the counts in units of a uniform image.
    """
    prior, generator = toy_prior(), torch.Generator().manual_seed(seed)
    places = torch.multinomial(prior.images[0].flatten(), max(photons), replacement=True, generator=generator)
    side = prior.images.shape[-1]
    counts = torch.stack([torch.bincount(places[:n], minlength=side**2).float() for n in photons])
    counts = counts.reshape(-1, 1, side, side)
    exact = prior.next_photon(counts) * side**2
    with torch.no_grad():
        found = shares(net(counts.to(next(net.parameters()).device))).cpu().double() * side**2
    panels = []
    for n, x, wanted, got in zip(photons, counts[:, 0], exact[:, 0].numpy(), found[:, 0].numpy(), strict=True):
        panels += [
            Panel(x.numpy(), f"{n} photons", (0.0, float(x.max())), "photons per pixel"),
            Panel(wanted, f"exact, {n} photons", _TOY_WINDOW, "of a uniform image"),
            Panel(got, f"net, {n} photons", _TOY_WINDOW, "of a uniform image"),
            Panel(got - wanted, f"difference, {n} photons", (-1, 1), "of a uniform image", signed=True),
        ]
    return panels


def captioned(
    made: Mapping[float, Mapping[str, np.ndarray]], titles: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Images of several levels in rows, and captions that tell each one's PSNR.

    Args:
        made: By level in dB, each as `methods` or `stacks` has it.
        titles: What to show, and how to call it; of a stack a plane and, in a second row, a cut along z are shown.

    Returns:
        Images by name and level, (Y, X), and one caption each.
    """
    shown: dict[str, np.ndarray] = {}
    captions = []
    for level, images in made.items():
        scores = {n: f"{level_psnr(images[n], images['truth']):.1f} dB" for n in titles if n != "truth"}
        scores["truth"] = f"level {level:g} dB"
        shape = images["truth"].shape
        cuts: dict[str, Any] = {"": (shape[0] // 2,), " along z": (slice(None), shape[1] // 2)}
        for cut, place in cuts.items() if len(shape) == 3 else [("", ())]:
            shown |= {f"{n} {level:g}{cut}": images[n][place] for n in titles}
            captions += [f"{title}\n{cut.strip() or scores[n]}" for n, title in titles.items()]
    return shown, captions


def sample_panels(net: UNet, levels_db: Sequence[float], count: int, side: int, seed: int, top: float) -> list[Panel]:
    """Samples of the posterior of one held-out tissue at several levels.

    Args:
        net: The 2-D net.
        levels_db: Pseudo-PSNR of the photons; samples are stopped at 6 dB, where its training ended.
        count: Samples.
        side: Pixels.
        seed: Of tissue, photons and sampling.
        top: Largest value shown, in units of the mean; of the spread, a quarter of it.

    Returns:
        A row a level: the noisy image, two samples, the mean and the standard deviation of all, (side, side) each, in
        units of the mean.
    """
    panels = []
    for level in levels_db:
        counts = drawn(seed, (side, side), level)[1].to(next(net.parameters()).device)
        many = posterior_samples(net, counts, count, stop_db=6.0, beta=0.1, seed=seed)[:, 0].cpu().numpy() * side**2
        row = {"noisy": (counts / counts.mean())[0, 0].cpu().numpy(), "a sample": many[0], "another": many[1]}
        row |= {f"mean of {count}": many.mean(0), f"spread of {count}": many.std(0)}
        for name, image in row.items():
            window = (0.0, top / 4 if name.startswith("spread") else top)
            panels.append(Panel(image, f"{name}\nlevel {level:g} dB", window, "of the mean"))
    return panels


def accumulated(net: UNet, frames_db: Sequence[float], side: int, seed: int) -> dict[str, tuple[Panel, Panel]]:
    """One image out of nothing: the photons so far and where the next is expected, by the number of photons.

    Args:
        net: The generating net.
        frames_db: Rising levels to show; the last one is the end.
        side: Pixels.
        seed: Of the sampling.
    """
    device = next(net.parameters()).device
    start, generator = torch.zeros(1, 1, side, side, device=device), torch.Generator(device).manual_seed(seed)
    made = sample(net, start, stop_db=frames_db[-1], beta=0.1, frames_db=frames_db, generator=generator).frames
    images = [(p[0, 0].cpu().numpy(), (e / e.mean())[0, 0].cpu().numpy()) for p, e in made]
    top = float(np.quantile(images[-1][1], 0.999))
    frames = {}
    for p, e in images:
        photons = Panel(p, "photons so far", (0, 2), "photons per pixel")
        frames[f"{p.sum():.0f} photons"] = (photons, Panel(e, "expected next", (0, top), "of a uniform image"))
    return frames


def over_seeds(rows: Rows, quantity: str, x: str, **where: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations over the seeds for each value of a column, rising; of a single value it is 0."""
    values = [by_seed(rows, quantity, **{x: place}, **where) for place in np.unique(rows[x])]
    return np.array([v.mean() for v in values]), np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])


def curves(rows: Rows, titles: Mapping[str, str], x: str, **where: float) -> list[Line]:
    """Mean and standard deviation over the seeds against a column, one line a quantity.

    Args:
        rows: Columns of equal length, ``seed`` among them.
        titles: Columns to draw, and how to call them.
        x: The column along the axis.
        where: Values that other columns must have.
    """
    found = {title: over_seeds(rows, name, x, **where) for name, title in titles.items()}
    return [Line(np.unique(rows[x]), mean, title, spread, marker=True) for title, (mean, spread) in found.items()]


def own(path: str | Path, nets: Mapping[str, UNet], seed: int = 0, name: str = "") -> dict[str, np.ndarray]:
    """Photon counts of a user: what the nets of this chapter make of them.

    Args:
        path: As for `noisebook.datasets.read_counts`; an image (Y, X), or a stack (Z, Y, X) for the 3-D net.
        nets: With ``gap-2d`` and ``gap-3d``.
        seed: Of the sampling.
        name: As for `noisebook.datasets.read_counts`.

    Returns:
        ``counts`` and ``estimate``, the file's shape; of an image also ``sample``: one of the posterior, of the first
        128 x 128 pixels, stopped at ten times their photons.

    Raises:
        ValueError: As `own_counts` does.
    """
    array = own_counts(path, name)
    net = nets["gap-2d" if array.ndim == 2 else "gap-3d"]
    counts = torch.from_numpy(array.astype(np.float32))[None, None].to(next(net.parameters()).device)
    found = {"counts": counts, "estimate": denoise(net, counts)}
    if array.ndim == 2:
        part, generator = counts[..., :SAMPLED_PX, :SAMPLED_PX], torch.Generator(counts.device).manual_seed(seed)
        grown = sample(net, part, stop_db=10 * float(part.mean().log10()) + 10, generator=generator).estimate
        found["sample"] = grown * (part.sum() / grown.sum())  # as many photons as it began from
    return {name: values[0, 0].cpu().numpy() for name, values in found.items()}


def toy_table(toy: Rows) -> Columns:
    """How far the net is from the exact answer by level: means over the seeds, standard deviations."""
    heads = {"largest": "largest error", "rms": "RMS error", "excess": "excess loss / (nats per photon)"}
    return _by(part(toy, "net"), "level_db", "level / dB", heads)


def chance_table(toy: Rows) -> Columns:
    """Distance of generated toy images from the prior's probabilities by beta: means and standard deviations."""
    rows = part(toy, "beta")
    rows["beyond"] = rows["distance"] - rows["noise"]
    heads = {"distance": "distance of probabilities", "noise": "of as many exact draws", "beyond": "beyond that"}
    return _by(rows, "beta", "beta", heads)


def step_table(generation: Rows) -> Columns:
    """Steps of generated images and those of the formula by beta: means over the seeds, standard deviations."""
    rows = {**generation, "ratio": generation["steps"] / generation["expected_steps"]}
    heads = {"steps": "steps", "expected_steps": "by the formula", "ratio": "steps / formula"}
    return _by(rows, "beta", "beta", heads)


def law_table(law: Rows) -> Columns:
    """Corrected p-values of the two-sample tests, one column a seed."""
    compared = {"ours, alone and in a batch": "beside", "ours alone, the authors' in a batch": "summed"}
    values = [same_law(law, "alone", other) for other in compared.values()]
    columns: Columns = {"samplers": list(compared)}
    for k, seed in enumerate(np.unique(law["seed"])):
        columns[f"p, seed {int(seed)}"] = [_numbers.number(float(found[k])) for found in values]
    return columns


def _by(rows: Rows, x: str, title: str, heads: Mapping[str, str]) -> Columns:
    """Means and standard deviations over the seeds, the largest ``x`` first; the number alone where all seeds agree."""
    columns: Columns = {title: [_numbers.number(float(place)) for place in np.unique(rows[x])[::-1]]}
    for name, head in heads.items():
        pairs = np.stack(over_seeds(rows, name, x))[:, ::-1].T.tolist()
        columns[head] = [_numbers.with_spread(m, s, 1) if s > 1e-9 * abs(m) else _numbers.number(m) for m, s in pairs]
    return columns
