"""The residual U-Net that predicts where the next photon lands, in 2-D and 3-D; denoising and sampling with it.

A. Krull, H. Basevi, B. Salmon, A. Zeug, F. Müller, S. Tonks, L. Muppala, A. Leonardis, "Image Denoising and the
Generative Accumulation of Photons", arXiv 2307.06607. The U-Net is that of O. Ronneberger, P. Fischer, T. Brox,
MICCAI 2015, doi 10.1007/978-3-319-24574-4_28.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import weights
from noisebook._checks import check_finite, check_one_of, check_positive, check_rank, error
from noisebook.inference import tiled

AXES = {2: "(B, C, Y, X)", 3: "(B, C, Z, Y, X)"}
FLOOR_DB = -40.0
"""What the pseudo-PSNR of an image without photons is set to."""
MERGES = ("add", "concat")
_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL: dict[int, Any] = {2: F.max_pool2d, 3: F.max_pool3d}
_CACHE_PIXELS = 2**14
_REACH = 1.25
"""How far photons that accumulate by chance may exceed the brightness of the training before they are thinned."""


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
    if not empty and counts.numel() and len(dark := (counts.flatten(1).sum(1) == 0).nonzero()):
        raise error(name, "images with at least one photon", f"image {int(dark[0])} with none")
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


def mirrored(image: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Continue the spatial sides by mirroring, over and over if need be, to multiples of ``stride``.

    Args:
        image: (B, C, Y, X) or (B, C, Z, Y, X); of any size, so also much smaller than the stride.
        stride: One number for each spatial axis.
    """
    for axis, step in enumerate(stride, 2):
        side = image.shape[axis]
        if side % step:
            place = torch.arange(side + -side % step, device=image.device) % (2 * side)
            image = image.index_select(axis, torch.minimum(place, 2 * side - 1 - place))
    return image


def cropped(image: Tensor, sides: Iterable[int]) -> Tensor:
    """The first so many pixels along each of the last axes: what `mirrored` added is taken off again."""
    index: tuple[Any, ...] = (..., *(slice(side) for side in sides))
    return image[index]


class _Block(nn.Module):
    """Three convolutions with a short cut past the last two; ``kernel`` is 3, but 1 along z where depth is left out."""

    def __init__(self, dim: int, inputs: int, outputs: int, deep: bool) -> None:
        super().__init__()
        kernel = (3,) * dim if deep else (1, 3, 3)
        padding = tuple(k // 2 for k in kernel)
        widths = (inputs, outputs, outputs)
        self.conv1, self.conv2, self.conv3 = (_CONV[dim](n, outputs, kernel, padding=padding) for n in widths)

    def residual(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (B, C', ...)."""
        y = self.conv1(x)
        return F.relu_(self.conv3(F.relu_(self.conv2(y))).add_(y))  # in place: a third of the maps of a large volume


class _Down(_Block):
    def forward(self, x: Tensor) -> Tensor:
        """The same sides; pooling is the network's."""
        return self.residual(x)


class _Up(_Block):
    def __init__(self, dim: int, inputs: int, outputs: int, deep: bool, merge: str) -> None:
        super().__init__(dim, outputs if merge == "add" else 2 * outputs, outputs, deep)
        step = (2,) * dim if deep else (1, 2, 2)
        self.merge = merge
        self.upconv = _UP[dim](inputs, outputs, step, stride=step)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Twice the sides of ``x``, merged with ``skip``."""
        x = self.upconv(x)
        return self.residual(x + skip if self.merge == "add" else torch.cat([x, skip], 1))


class UNet(nn.Module):
    """From photon counts to the logarithm of the next photon's distribution, up to a constant.

    Args:
        dim: 2 for images (B, C, Y, X), 3 for volumes (B, C, Z, Y, X).
        channels: C, such as 1, or 3 for colours.
        levels: The counts enter as sin(x 10^-k), k = 0 … levels - 1: small and large counts alike are well scaled.
        depth: Resolutions; the authors' 6 in 2-D and 4 in 3-D.
        width: Channels of the first resolution, doubled at each further one; the authors' 32.
        merge: How a skip connection joins: ``add`` or ``concat``.
        z_conv_stage: 3-D only. From this resolution on, nothing mixes planes any more: kernels of (1, 3, 3), and
            pooling of (1, 2, 2). ``depth`` if None.

    Attributes:
        stride: Of the pooling grid, one number for each spatial axis.
        reach: Pixels on each side that a pixel of the output can depend on, rounded up to the grid; one for each axis.

    Raises:
        ValueError: If a setting is not a possible one.

    Source: Krull et al. 2023 and its 3-D fork: their code, described in our own words; written anew.
    """

    def __init__(
        self,
        dim: int = 2,
        channels: int = 1,
        levels: int = 10,
        depth: int = 6,
        width: int = 32,
        merge: str = "add",
        z_conv_stage: int | None = None,
    ) -> None:
        super().__init__()
        if dim not in AXES:
            raise error("dim", "2 or 3", dim)
        check_one_of("merge", merge, MERGES)
        for name, value in {"channels": channels, "levels": levels, "depth": depth, "width": width}.items():
            check_positive(name, value)
        if z_conv_stage is not None and (dim == 2 or not 0 <= z_conv_stage <= depth):
            got = f"{z_conv_stage} with dim {dim}"
            raise error("z_conv_stage", f"in 3-D, a resolution from 0 to {depth}", got)
        self.dim, self.channels, self.levels, self.depth, self.merge = dim, channels, levels, depth, merge
        deep = [z_conv_stage is None or i < z_conv_stage for i in range(depth)]
        widths = [width << i for i in range(depth)]
        inputs = [channels * levels, *widths]
        self.down_convs = nn.ModuleList(_Down(dim, inputs[i], widths[i], deep[i]) for i in range(depth))
        ups = reversed(range(depth - 1))
        self.up_convs = nn.ModuleList(_Up(dim, widths[i + 1], widths[i], deep[i], merge) for i in ups)
        self.conv_final = _CONV[dim](width, channels, 1)
        self._pools = [(2,) * dim if flag else (1, 2, 2) for flag in deep[:-1]]
        self.stride = tuple(math.prod(pool[axis] for pool in self._pools) for axis in range(dim))
        self.reach = tuple(self._reach(axis, deep) for axis in range(dim))

    def _reach(self, axis: int, deep: list[bool]) -> int:
        """How far left the first pixel of a cell of the grid depends on others: down to the coarsest and up again."""
        spread = [3 * (self.dim == 2 or axis > 0 or flag) for flag in deep]
        first = 0
        for pool, by in zip(self._pools, spread, strict=False):
            first = (first - by) // pool[axis]
        first -= spread[-1]
        for pool, by in zip(reversed(self._pools), reversed(spread[:-1]), strict=True):
            first = first * pool[axis] - by
        return -(first // self.stride[axis]) * self.stride[axis]

    def forward(self, counts: Tensor) -> Tensor:
        """(B, C, ...) to (B, C, ...): any sides; they are mirrored to the grid and cropped back."""
        check_rank("counts", counts, self.dim + 2, AXES[self.dim])
        if counts.shape[1] != self.channels:
            raise error("counts", f"{self.channels} channels", f"{counts.shape[1]} in shape {tuple(counts.shape)}")
        x = mirrored(counts, self.stride)
        x = torch.cat([torch.sin(x * 10.0**-k) for k in range(self.levels)], 1)
        skips = []
        for i, down in enumerate(self.down_convs):
            x = down(x)
            if i < self.depth - 1:
                skips.append(x)
                x = _POOL[self.dim](x, self._pools[i])
        for up in self.up_convs:
            x = up(skips.pop(), x)
        return cropped(self.conv_final(x), counts.shape[2:])


def from_checkpoint(path: str | Path, *, sha256: str | None = None) -> UNet:
    """The net of one of the authors' checkpoints, in 2-D or 3-D, in evaluation mode.

    Args:
        path: A Lightning ``.ckpt`` file, the weights under ``state_dict``, settings under ``hyper_parameters``; it is
            opened by `noisebook.weights.read`, without running anything in it. The architecture is read off the
            weights' shapes.
        sha256: Of the file, if known.

    Returns:
        The net, on the CPU.

    Raises:
        ValueError: If `noisebook.weights.read` refuses the file; there are no such weights, a tensor is missing, left
            over or of another shape, or a setting contradicts the shapes.
    """
    checkpoint = weights.read(path, sha256=sha256)
    state = weights.bare(checkpoint.state)
    for name in ("down_convs.0.conv1", "up_convs.0.upconv", "up_convs.0.conv1", "conv_final"):
        if f"{name}.weight" not in state:
            got = f"no {name}.weight, but {', '.join(sorted(state)[:4])}"
            remedy = "Nets whose way up is an interpolation (up_mode 'upsample') are not supported."
            raise error(str(path), "a U-Net of this chapter", got, remedy)
    settings = _architecture(state)
    given = checkpoint.hyper_parameters
    for ours, theirs in {"channels": "channels", "levels": "levels", "depth": "depth", "width": "start_filts"}.items():
        if theirs in given and given[theirs] != settings[ours]:
            raise error(f"hyper_parameters, {theirs}", f"{settings[ours]} as the weights have it", given[theirs])
    return weights.into(UNet(**settings), state).eval()


def _architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of `UNet` that a state has, from its shapes."""
    first, final, up = (state[f"{name}.weight"] for name in ("down_convs.0.conv1", "conv_final", "up_convs.0.conv1"))
    dim, channels = first.ndim - 2, final.shape[0]
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("down_convs."))
    kernels = [state[f"down_convs.{i}.conv1.weight"].shape[2] for i in range(depth)] if dim == 3 else []
    return {
        "dim": dim,
        "channels": channels,
        "levels": first.shape[1] // channels,
        "depth": depth,
        "width": first.shape[0],
        "merge": "add" if up.shape[1] == up.shape[0] else "concat",
        "z_conv_stage": kernels.index(1) if 1 in kernels else None,
    }


def of_authors(checkpoint: str) -> UNet:
    """The 2-D net of a file of the authors.

    Raises:
        ValueError: If `from_checkpoint` refuses it, or it is not for grey images.
    """
    net = from_checkpoint(checkpoint)
    if (net.dim, net.channels) != (2, 1):
        raise error(checkpoint, "a net for grey images", f"{net.dim} dimensions and {net.channels} channels")
    return net


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
        answers = (expected(_thinned(x[bright], share[bright], generator)) for _ in range(thinnings))
        found[bright] = sum(answers) / thinnings
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
