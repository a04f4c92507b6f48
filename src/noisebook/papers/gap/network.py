"""The residual U-Net that predicts where the next photon lands, in two and in three dimensions.

A. Krull, H. Basevi, B. Salmon, A. Zeug, F. Müller, S. Tonks, L. Muppala, A. Leonardis, "Image Denoising and the
Generative Accumulation of Photons", arXiv 2307.06607. The U-Net is that of O. Ronneberger, P. Fischer, T. Brox,
MICCAI 2015, doi 10.1007/978-3-319-24574-4_28.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import weights
from noisebook._checks import check_one_of, check_positive, check_rank, error

AXES = {2: "(B, C, Y, X)", 3: "(B, C, Z, Y, X)"}
MERGES = ("add", "concat")
_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL: dict[int, Any] = {2: F.max_pool2d, 3: F.max_pool3d}


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
        self.conv1 = _CONV[dim](inputs, outputs, kernel, padding=padding)
        self.conv2 = _CONV[dim](outputs, outputs, kernel, padding=padding)
        self.conv3 = _CONV[dim](outputs, outputs, kernel, padding=padding)

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
        _check_settings(dim, merge, z_conv_stage, {"channels": channels, "levels": levels, "depth": depth, "w": width})
        self.dim, self.channels, self.levels, self.depth, self.merge = dim, channels, levels, depth, merge
        deep = [z_conv_stage is None or i < z_conv_stage for i in range(depth)]
        widths = [width << i for i in range(depth)]
        inputs = [channels * levels, *widths]
        self.down_convs = nn.ModuleList(_Down(dim, inputs[i], widths[i], deep[i]) for i in range(depth))
        self.up_convs = nn.ModuleList(
            _Up(dim, widths[i + 1], widths[i], deep[i], merge) for i in reversed(range(depth - 1))
        )
        self.conv_final = _CONV[dim](width, channels, 1)
        self._pools = [(2,) * dim if flag else (1, 2, 2) for flag in deep[:-1]]
        self.stride = tuple(_product(pool[axis] for pool in self._pools) for axis in range(dim))
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


def _product(values: Any) -> int:
    total = 1
    for value in values:
        total *= value
    return total


def _check_settings(dim: int, merge: str, z_conv_stage: int | None, sizes: Mapping[str, int]) -> None:
    if dim not in AXES:
        raise error("dim", "2 or 3", dim)
    check_one_of("merge", merge, MERGES)
    for name, value in sizes.items():
        check_positive("width" if name == "w" else name, value)
    if z_conv_stage is not None and (dim == 2 or not 0 <= z_conv_stage <= sizes["depth"]):
        raise error(
            "z_conv_stage", f"in 3-D, a resolution from 0 to {sizes['depth']}", f"{z_conv_stage} with dim {dim}"
        )


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
