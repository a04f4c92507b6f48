"""Photon counts: what is accepted, how they are divided into input and target, and the two losses.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from noisebook._checks import check_finite, check_shape, error

from .network import AXES

CAP = 0.99
"""The largest share of the photons that may become the input."""
FLOOR_DB = -40.0
"""What the pseudo-PSNR of an image without photons is set to."""


def check_counts(name: str, counts: Tensor, dim: int, *, empty: bool = False, full: float | None = None) -> None:
    """Raise unless an array holds photon counts; whole numbers stored as floats are accepted.

    Args:
        name: Of the array, for the message.
        counts: (B, C, Y, X) or (B, C, Z, Y, X).
        dim: 2 or 3: how many spatial axes it should have.
        empty: Whether an image without any photon is accepted.
        full: The count at which the detector saturates, if known: images in which one pixel in a hundred or more is
            at it are refused, since clipped counts are not Poisson.

    Raises:
        ValueError: If the rank is wrong, a value is not finite, negative or fractional (the first one and its place
            are named), an image holds no photon, or the detector is saturated.
    """
    if counts.ndim != dim + 2:
        remedy = "Add axes for batch and channel: counts[None, None]."
        raise error(name, f"{dim + 2} axes {AXES[dim]}", f"{counts.ndim} in shape {tuple(counts.shape)}", remedy)
    check_finite(name, counts)
    for bad, what in ((counts < 0, "negative"), (counts != counts.round(), "fractional")):
        if bad.any():
            where = tuple(int(i) for i in bad.nonzero()[0])
            got = f"{int(bad.sum())} {what} values, the first {float(counts[where]):g} at index {where}"
            raise error(name, "photon counts: whole numbers from 0 on", got, "Undo any offset, gain or smoothing.")
    if not empty and counts.numel():
        none = (counts.flatten(1).sum(1) == 0).nonzero().flatten()
        if len(none):
            raise error(name, "images with at least one photon", f"image {int(none[0])} with none")
    if full is not None and (share := float((counts >= full).float().mean())) >= 0.01:
        raise error(name, "a detector that is not saturated", f"{share:.0%} of the pixels at {full:g} or above")


def pseudo_psnr(counts: Tensor) -> Tensor:
    """10 log10 of the mean photons per pixel, for each image: (B,) dB, at least -40.

    Args:
        counts: (B, ...).
    """
    mean = counts.flatten(1).double().mean(1)
    return (10 * mean.clamp(min=10 ** (FLOOR_DB / 10)).log10()).to(counts.dtype)


def brightness(counts: Tensor) -> dict[str, Tensor]:
    """How bright each image is where it is brightest, and as a whole: photons per pixel, (B,) each.

    Args:
        counts: (B, C, Y, X) or (B, C, Z, Y, X), float.

    Returns:
        ``pixel``: its greatest count; ``patch``: the greatest mean over 3 pixels a side; ``image``: its mean.
    """
    side = min(3, *counts.shape[2:])
    means = (F.avg_pool2d if counts.ndim == 4 else F.avg_pool3d)(counts, side, 1)
    greatest = {"pixel": counts.flatten(1).amax(1), "patch": means.flatten(1).amax(1)}
    return greatest | {"image": counts.flatten(1).mean(1)}


def photon_loss(log_rates: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of where the target's photons lie, less that of a uniform guess, averaged over the images.

    For one image -mean(r t) / mean(t) + log mean exp(r): 0 for a uniform prediction, negative for a better one, and
    least for r = log E[s / sum s | x] + constant. An image without a photon in its target adds 0. A photon counts the
    same however few there are beside it, so gradients are bounded: at most 2 / B in sum for an image.

    Args:
        log_rates: r, (B, ...): the network's output.
        target: t, the same shape, counts or rates; its scale does not matter.

    Returns:
        A scalar, nats per photon.
    """
    check_shape("target", target, tuple(log_rates.shape))
    r, t = log_rates.flatten(1).float(), target.flatten(1).float()
    total = t.sum(1)
    share = t / total.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    each = r.logsumexp(1) - math.log(r.shape[1]) - (r * share).sum(1)
    return torch.where(total > 0, each, torch.zeros_like(each)).mean()


def mse_loss(log_rates: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of prediction and target, both divided by their means, averaged over the images.

    Targets of less than a photon a pixel are weighted by their mean: of so few photons, t / mean(t) has a variance of
    1 / mean(t), and one photon in an image would outweigh all others.

    Args:
        log_rates: r, (B, ...): the network's output.
        target: t, the same shape, counts or rates.

    Returns:
        A scalar.
    """
    check_shape("target", target, tuple(log_rates.shape))
    r, t = log_rates.flatten(1).float(), target.flatten(1).float()
    mean = t.mean(1, keepdim=True)
    predicted = r.softmax(1) * r.shape[1]
    wanted = t / mean.clamp(min=torch.finfo(torch.float32).tiny)
    return ((predicted - wanted).square().mean(1) * mean[:, 0].clamp(max=1)).mean()


@dataclass(frozen=True, eq=False)
class Split:
    """Counts divided in two.

    Attributes:
        input: The photons that the network sees, the counts' shape.
        target: The photons whose places it should predict, the same shape.
        capped: (B,) bool: whether the level drawn from the whole range asked for more than 0.99 of an image's photons.
    """

    input: Tensor
    target: Tensor
    capped: Tensor


def split(counts: Tensor, low_db: float, high_db: float, generator: torch.Generator) -> Split:
    """Divide each image's photons at a random level: pseudo-PSNR of the input uniform from ``low_db`` to ``high_db``.

    The authors cap the share of the input at 0.99, which piles the levels of dim images up at the cap. Here such an
    image's range ends at the cap instead and its level stays uniform; how often the cap would have acted is reported.

    Args:
        counts: (B, C, ...), float, not checked again.
        low_db: Lowest level, dB.
        high_db: Highest level, dB.
        generator: On the counts' device.

    Raises:
        ValueError: If the range is empty or not finite.

    Source: Krull et al. 2023: level = 10^(U / 10) / (mean + 1e-5), input ~ Binomial(x, level), target = x - input.
    """
    if not -math.inf < low_db <= high_db < math.inf:
        raise error("low_db, high_db", "two finite levels in rising order", f"{low_db} and {high_db}")
    mean = counts.flatten(1).mean(1) + 1e-5
    highest = 10 * (CAP * mean).log10()
    uniform = torch.rand(len(counts), generator=generator, device=counts.device)
    capped = low_db + uniform * (high_db - low_db) > highest
    top = highest.clamp(min=low_db, max=high_db)
    level = (10 ** ((low_db + uniform * (top - low_db)) / 10) / mean).clamp(max=CAP)
    share = level.reshape(-1, *[1] * (counts.ndim - 1)).expand_as(counts)
    kept = torch.binomial(counts, share.contiguous(), generator=generator)
    return Split(kept, counts - kept, capped)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror each image at random; z is mirrored, but never becomes y or x.

    Args:
        images: (B, C, Y, X): one of the 8 symmetries of the square each, of the 4 of a rectangle if sides differ; or
            (B, C, Z, Y, X): the same in every plane, and the order of the planes reversed or not.
        generator: Of any device.

    Returns:
        The same shape.
    """
    result = images
    axes = [*range(2, images.ndim)] + ([0] if images.shape[-1] == images.shape[-2] else [])  # 0: exchange y and x
    for axis in axes:
        chosen = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
        turned = result.transpose(-1, -2) if axis == 0 else result.flip(axis)
        result = torch.where(chosen.to(images.device).reshape(-1, *[1] * (images.ndim - 1)), turned, result)
    return result


def thinned(
    image: Tensor, share: float | None, level: float, repeats: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Repeated Poisson draws of one image, each divided in input and target: claim G1.

    Args:
        image: (Y, X), expected photons.
        share: A fixed share of the photons becomes the input; if None, the authors' share level / mean(x), which
            depends on the draw.
        level: Photons per pixel that the authors' input should have.
        repeats: Draws.
        generator: Of the draws.

    Returns:
        Input and target, each (repeats, Y, X), counts.
    """
    drawn = torch.poisson(image.expand(repeats, *image.shape), generator=generator)
    mean = drawn.flatten(1).mean(1)[:, None, None]
    shares = torch.full_like(mean, share) if share is not None else (level / (mean + 1e-5)).clamp(max=CAP)
    kept = torch.binomial(drawn, shares.expand_as(drawn).contiguous(), generator=generator)
    return kept, drawn - kept
