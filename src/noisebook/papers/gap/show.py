"""What the chapter's notebook shows: its nets, toy images beside the enumerated posterior, and a user's own counts.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook import datasets, weights
from noisebook._checks import check_one_of, error
from noisebook.figures import Line, Panel

from .baselines import level_psnr
from .measure import drawn, posterior_samples
from .network import UNet, from_checkpoint
from .sample import denoise, sample, shares
from .toy import toy_prior
from .training import EMBEDDED, Config, checkpoints, load, train

_TOY_WINDOW = (0.0, 2.5)
SAMPLED_PX = 128
"""Side of the part of a user's image that a sample of the posterior is drawn of."""


@dataclass(frozen=True)
class Family:
    """The nets of the chapter.

    Attributes:
        nets: By registry id.
        architecture: In words.
        schedule: Of the 2-D net's training, in words.
    """

    nets: Mapping[str, UNet]
    architecture: str
    schedule: str


def published(config: Config) -> Config:
    """An embedded configuration at the authors' size and schedule; of the toy prior, as it is."""
    if config.data == "toy":
        return config
    full = replace(config, width=32, top_share=0.0, steps=0, anneal=False, images=64)
    if config.dim == 3:
        crop, size = (64, 64, 64), (64, 128, 128)
        return replace(full, depth=4, batch=8, epochs=30, learning_rate=5e-4, crop=crop, size=size)
    return replace(full, depth=6, batch=16, epochs=2000, learning_rate=1e-4, crop=(256, 256), size=(512, 512))


def family(source: str, folder: Path, device: str = "cpu", seed: int = 0, checkpoint: str = "") -> Family:
    """The five nets of the chapter.

    Args:
        source: ``embedded``: the small ones of this book; ``train``: the authors' size, trained here.
        folder: For the checkpoints of a training.
        device: Where to train, and where the nets are put.
        seed: Of a training.
        checkpoint: A ``.ckpt`` of the authors to take as the 2-D net; none if empty.

    Raises:
        ValueError: If the source is unknown, a file of weights is not the registered one, or `from_checkpoint` refuses
            the checkpoint, or it is not for grey images.
    """
    check_one_of("nets", source, ("embedded", "train"))
    if source == "embedded":
        nets = {name: load(name, device) for name in EMBEDDED}
        card = weights.metadata("gap-2d")
        words = card.architecture, card.schedule
    else:
        full = {name: replace(published(config), seed=seed) for name, config in EMBEDDED.items()}
        nets = {k: train(c, checkpoints(folder, k, c), device=device).to(device) for k, c in full.items()}
        words = "2-D residual U-Net of the authors' size", "the authors' schedule, trained in this run"
    if checkpoint:
        net = of_authors(checkpoint).to(device)
        nets["gap-2d"], words = net, (f"2-D residual U-Net, {net.depth} resolutions, of a checkpoint", "not known")
    return Family(nets, *words)


def of_authors(checkpoint: str) -> UNet:
    """The 2-D net of a file of the authors.

    Raises:
        ValueError: If `from_checkpoint` refuses it, or it is not for grey images.
    """
    net = from_checkpoint(checkpoint)
    if (net.dim, net.channels) != (2, 1):
        raise error(checkpoint, "a net for grey images", f"{net.dim} dimensions and {net.channels} channels")
    return net


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
        for cut in ("", " along z") if images["truth"].ndim == 3 else ("",):
            shown |= {f"{n} {level:g}{cut}": _plane(images[n], cut) for n in titles}
            captions += [f"{title}\n{cut.strip() or scores[n]}" for n, title in titles.items()]
    return shown, captions


def _plane(image: np.ndarray, cut: str) -> np.ndarray:
    if image.ndim == 2:
        return image
    return image[:, image.shape[1] // 2] if cut else image[len(image) // 2]


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
    return {
        f"{p.sum():.0f} photons": (
            Panel(p, "photons so far", (0, 2), "photons per pixel"),
            Panel(e, "expected next", (0, top), "of a uniform image"),
        )
        for p, e in images
    }


def curves(rows: Mapping[str, np.ndarray], titles: Mapping[str, str], x: str, **where: float) -> list[Line]:
    """Mean and standard deviation over the seeds against a column, one line a quantity; no spread of a single value.

    Args:
        rows: Columns of equal length.
        titles: Columns to draw, and how to call them.
        x: The column along the axis.
        where: Values that other columns must have.
    """
    chosen = np.ones(len(rows[x]), bool)
    for name, value in where.items():
        chosen &= rows[name] == value
    places = np.unique(rows[x][chosen])
    lines = []
    for name, title in titles.items():
        values = [rows[name][chosen & (rows[x] == place)] for place in places]
        mean = np.array([float(v.mean()) for v in values])
        spread = np.array([float(v.std(ddof=1)) if len(v) > 1 else 0.0 for v in values])
        lines.append(Line(places, mean, title, spread, marker=True))
    return lines


def check_row(rows: Mapping[str, np.ndarray], again: Mapping[str, float], *, atol: float, **where: float) -> None:
    """Raise unless a row of a study is what a computation now gives.

    Args:
        rows: Columns of equal length.
        again: The row by column, computed again.
        atol: How far apart values may be: machines round differently.
        where: Values of other columns, which choose the row.

    Raises:
        ValueError: If there is not exactly one such row, or it differs.
    """
    chosen = np.logical_and.reduce([rows[name] == value for name, value in where.items()])
    if chosen.sum() != 1:
        raise error("rows", f"one with {where}", int(chosen.sum()))
    for name, value in again.items():
        if not abs(rows[name][chosen][0] - value) <= atol:
            got = f"{value:g} computed again"
            raise error(f"{name} with {where}", f"{rows[name][chosen][0]:g}, as precomputed", got, "Run: make studies")


def own_counts(path: str | Path, name: str = "") -> np.ndarray:
    """Photon counts of a user, (Y, X) or (Z, Y, X), as `noisebook.datasets.read_counts` reads them.

    Raises:
        ValueError: If the file is none of counts, by `noisebook.datasets.count_report`, or has other axes.
    """
    array = datasets.read_counts(path, name)
    if not (report := datasets.count_report(array)).counts:
        raise error(str(path), "photon counts", report.verdict)
    if array.ndim not in (2, 3):
        raise error(str(path), "an image (Y, X) or a stack (Z, Y, X)", f"shape {array.shape}")
    return array


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
        found["sample"] = _sampled(net, counts[..., :SAMPLED_PX, :SAMPLED_PX], seed)
    return {name: values[0, 0].cpu().numpy() for name, values in found.items()}


def _sampled(net: UNet, counts: Tensor, seed: int) -> Tensor:
    """One sample of the posterior, with as many photons in sum as it began from."""
    stop = 10 * float(counts.mean().log10()) + 10
    estimate = sample(net, counts, stop_db=stop, generator=torch.Generator(counts.device).manual_seed(seed)).estimate
    return estimate * (counts.sum() / estimate.sum())
