"""Denoising, and sampling by letting photons accumulate.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisebook import weights
from noisebook._checks import check_finite, check_positive, error
from noisebook.inference import tiled

from .counts import brightness, check_counts, pseudo_psnr
from .network import UNet, cropped, mirrored

_CACHE_PIXELS = 2**14
_REACH = 1.25
"""How far photons that accumulate by chance may exceed the brightness of the training before they are thinned."""


def shares(log_rates: Tensor) -> Tensor:
    """The distribution of the next photon, for each image: softmax over channels and pixels, the same shape."""
    return log_rates.flatten(1).float().softmax(1).reshape(log_rates.shape)


def kept_share(net: nn.Module, counts: Tensor, reach: float = 1.0) -> Tensor:
    """The share of its photons that each image may keep to be no brighter than what an embedded net was trained on.

    Args:
        net: One without known ranges may see every photon.
        counts: (B, C, ...), float.
        reach: By what the greatest brightness of the training may be exceeded, as a factor.

    Returns:
        (B, 1, ...), at most 1.
    """
    share, trained = counts.new_ones(len(counts)), weights.carried(net)
    for name, seen in brightness(counts).items():
        if name in trained:
            high = trained[name].high
            chance = 5 * math.sqrt(high / counts[0].numel()) if name == "image" else 0.0  # the others hold theirs
            share = share.minimum(reach * (high + chance) / seen)
    return share.reshape(-1, *[1] * (counts.ndim - 1))


def _thinned(counts: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    return torch.binomial(counts, share.expand_as(counts).contiguous(), generator=generator)


def denoise(
    net: UNet, counts: Tensor, *, tile: int = 128, halo: int | None = None, thinnings: int = 8, seed: int = 0
) -> Tensor:
    """The posterior mean: the next photon's distribution times the photons of the image.

    An image that is brighter than what an embedded net was trained on, as a whole or in one place, is thinned: each
    photon is kept with the probability of `kept_share`. Poisson counts stay Poisson, of the same image, so that the net
    answers what it has learnt to; the answers to several thinnings are averaged. The price is the photons of the dim
    parts, of which each answer sees that share only.

    Args:
        net: In evaluation mode.
        counts: (B, C, Y, X) or (B, C, Z, Y, X), whole numbers, on the net's device; of any size, so also smaller than
            the pooling grid, or larger than the memory that the network would need at once.
        tile: Side of the tiles; rounded up to the pooling grid.
        halo: Pixels around a tile, rounded up to the grid; the network's reach if None: then tiles are exact. Less is
            faster and approximate.
        thinnings: How many are averaged, of images that are too bright.
        seed: Of the thinnings.

    Returns:
        The same shape, float32: expected photons, with as many in sum as the image has.

    Raises:
        ValueError: As `check_counts`, or if ``tile`` is not positive.
    """
    check_counts("counts", counts, net.dim)
    check_positive("tile", tile)
    check_positive("thinnings", thinnings)
    tiles = [-(-tile // step) * step for step in net.stride]
    halos = list(net.reach) if halo is None else [-(-halo // step) * step for step in net.stride]

    def expected(photons: Tensor) -> Tensor:
        rates = tiled(net, mirrored(photons, net.stride), tile=tiles, halo=halos, stride=net.stride)
        return shares(cropped(rates, counts.shape[2:]))

    x = counts.float()
    found, share = expected(x), kept_share(net, x)
    if known := weights.carried(net).get("image"):  # brighter ones are thinned; for dimmer ones nothing can be done
        weights.warn_outside(net, image=brightness(x)["image"].clamp(max=known.high))
    if (bright := (share < 1).flatten()).any():
        generator = torch.Generator(x.device).manual_seed(seed)
        found[bright] = sum(
            expected(_thinned(x[bright], share[bright], generator)) / thinnings for _ in range(thinnings)
        )
    return found * x.flatten(1).sum(1).reshape(share.shape)


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
    Images that are too bright for an embedded net are thinned for it, anew at each step: a net that knows less.

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
        expected = _next(model, photons[:1] if one else photons, generator).expand_as(photons).clone()
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
                expected[grown] = _next(model, photons[grown], generator)
    frames = torch.stack(kept) if kept else photons.new_zeros(0, 2, *photons.shape)
    return Samples(photons, estimate, steps, frames)


def _next(model: nn.Module, photons: Tensor, generator: torch.Generator) -> Tensor:
    """The next photon's distribution; on a CPU for a few images at once, as fit its cache."""
    share = kept_share(model, photons, _REACH)
    if (bright := (share < 1).flatten()).any():
        photons = photons.clone()
        photons[bright] = _thinned(photons[bright], share[bright], generator)
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
