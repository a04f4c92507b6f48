"""Denoising, and sampling by letting photons accumulate.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisebook._checks import check_finite, check_positive, error
from noisebook.inference import tiled

from .counts import check_counts, pseudo_psnr
from .network import UNet, cropped, mirrored

_CACHE_PIXELS = 2**14


def shares(log_rates: Tensor) -> Tensor:
    """The distribution of the next photon, for each image: softmax over channels and pixels, the same shape."""
    return log_rates.flatten(1).float().softmax(1).reshape(log_rates.shape)


def denoise(net: UNet, counts: Tensor, *, tile: int = 128, halo: int | None = None) -> Tensor:
    """The posterior mean: the next photon's distribution times the photons of the image.

    Args:
        net: In evaluation mode.
        counts: (B, C, Y, X) or (B, C, Z, Y, X), whole numbers, on the net's device; of any size, so also smaller than
            the pooling grid, or larger than the memory that the network would need at once.
        tile: Side of the tiles; rounded up to the pooling grid.
        halo: Pixels around a tile, rounded up to the grid; the network's reach if None: then tiles are exact. Less is
            faster and approximate.

    Returns:
        The same shape, float32: expected photons, with as many in sum as the image has.

    Raises:
        ValueError: As `check_counts`, or if ``tile`` is not positive.
    """
    check_counts("counts", counts, net.dim)
    check_positive("tile", tile)
    padded = mirrored(counts.float(), net.stride)
    tiles = [-(-tile // step) * step for step in net.stride]
    halos = list(net.reach) if halo is None else [-(-halo // step) * step for step in net.stride]
    rates = tiled(net, padded, tile=tiles, halo=halos, stride=net.stride)
    total = counts.flatten(1).float().sum(1).reshape(-1, *[1] * (counts.ndim - 1))
    return shares(cropped(rates, counts.shape[2:])) * total


@dataclass(frozen=True, eq=False)
class Samples:
    """What accumulated.

    Attributes:
        photons: (B, C, ...), counts.
        estimate: The posterior mean given all those photons, the same shape, with the same sum.
        steps: (B,), how often photons were added.
        frames: (F, 2, B, C, ...): photons and estimate when each image first reached a level of ``frames_db``; F = 0
            if none was asked for.
    """

    photons: Tensor
    estimate: Tensor
    steps: Tensor
    frames: Tensor


def sample(
    model: nn.Module,
    start: Tensor,
    *,
    stop_db: float,
    beta: float = 0.1,
    generator: torch.Generator,
    frames_db: Sequence[float] = (),
    dtype: torch.dtype = torch.float32,
) -> Samples:
    """Let photons accumulate where the network expects them: generation, or samples of the posterior.

    Each step adds Poisson(f n) photons, with f the next photon's distribution and n = max(beta x photons so far, 1).
    Every image counts its own photons and ends by itself, so that its law is the same alone or among others.

    Args:
        model: From counts (B, C, ...) to the logarithm of the next photon's distribution, in evaluation mode.
        start: (B, C, Y, X) or (B, C, Z, Y, X): zeros generate images; the photons of a noisy image, repeated along B,
            give samples of its posterior.
        stop_db: An image ends when its pseudo-PSNR is above this.
        beta: How many photons are added, as a share of those that are there; the smaller, the more exact.
        generator: On the start's device.
        frames_db: Levels at which to keep photons and estimate; one that an image is above from the start keeps that.
        dtype: Of the network's arithmetic: ``torch.bfloat16`` is faster where the machine has it, and another law.

    Raises:
        ValueError: As `check_counts`; if ``beta`` is not positive, a level not finite or above ``stop_db``, or the
            network's rates are not finite.
    """
    check_counts("start", start, start.ndim - 2, empty=True)
    check_positive("beta", beta)
    if not all(math.isfinite(level) and level <= stop_db for level in (*frames_db, stop_db)):
        raise error("stop_db, frames_db", "finite levels, frames up to the stop", f"{stop_db} and {tuple(frames_db)}")
    photons = start.float().clone()
    kept = [torch.zeros(2, *photons.shape, device=photons.device) for _ in frames_db]
    wanted = [torch.ones(len(photons), dtype=torch.bool, device=photons.device) for _ in frames_db]
    estimate, steps = torch.zeros_like(photons), torch.zeros(len(photons), dtype=torch.long, device=photons.device)
    active = torch.arange(len(photons), device=photons.device)
    with torch.no_grad(), torch.autocast(photons.device.type, dtype, enabled=dtype != torch.float32):
        one = len(photons) > 0 and bool((photons == photons[:1]).all())  # all begin alike: one look serves them all
        expected = _next(model, photons[:1] if one else photons).expand_as(photons).clone()
        while len(active):
            now, f = photons[active], expected[active]
            level = pseudo_psnr(now)
            total = now.flatten(1).sum(1).reshape(-1, *[1] * (now.ndim - 1))
            for frame, missing, at in zip(kept, wanted, frames_db, strict=True):
                due = (level >= at) & missing[active]
                frame[:, active[due]] = torch.stack([now[due], (f * total)[due]])
                missing[active[due]] = False
            done = level > stop_db
            estimate[active[done]] = (f * total)[done]
            active, go = active[~done], ~done
            added = torch.poisson(f[go] * (beta * total[go]).clamp(min=1), generator=generator)
            photons[active] += added
            steps[active] += 1
            grown = active[added.flatten(1).any(1)]  # where no photon fell, the expectation stays
            if len(grown):
                expected[grown] = _next(model, photons[grown])
    frames = torch.stack(kept) if kept else photons.new_zeros(0, 2, *photons.shape)
    return Samples(photons, estimate, steps, frames)


def _next(model: nn.Module, photons: Tensor) -> Tensor:
    """The next photon's distribution; on a CPU for a few images at once, as fit its cache."""
    few = max(1, _CACHE_PIXELS // photons[0].numel()) if photons.device.type == "cpu" else len(photons)
    f = torch.cat([shares(model(part)) for part in photons.split(few)])
    if not f.sum().isfinite():  # one number tells; the search for the place is left for when there is one
        check_finite("rates", f)
    return f


def expected_steps(photons: float, beta: float) -> float:
    """About how many steps generation from nothing takes until so many photons: 1 / beta + ln(beta N) / ln(1 + beta).

    One photon a step on average until 1 / beta are there, then growth by 1 + beta.

    Args:
        photons: N, in the whole image, above 1 / beta.
        beta: As for `sample`.

    Raises:
        ValueError: If beta N is below 1: then a step adds one photon, and there are N of them.
    """
    check_positive("beta", beta)
    if not beta * photons >= 1:
        raise error("beta times photons", "at least 1", beta * photons)
    return 1 / beta + math.log(beta * photons) / math.log1p(beta)
