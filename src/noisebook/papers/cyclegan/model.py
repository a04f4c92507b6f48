"""Generators and discriminators, the authors' checkpoints, and whole slices through a generator.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, doi 10.1109/ICCV.2017.244; for CT: E. Kang et al., Medical Physics 46(2), 2019, arXiv 1806.09748.
The architecture is that of a course project on the AAPM data, whose checkpoints `from_authors` reads. Instance
normalisation takes its statistics from the whole image (D. Ulyanov et al., arXiv 1607.08022), so crops and slices are
treated differently.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import weights
from noisebook._checks import check_positive, check_rank, error
from noisebook.inference import tiled

from .data import AIR_HU, check_hu

SCALE_HU = 4000.0
"""The authors' networks see HU, not below `AIR_HU`, over this."""
INIT = 0.02
"""Standard deviation of new weights."""
SLOPE = 0.2
"""Of the leaky ReLUs."""
EPS = 1e-5
"""What instance normalisation adds to variances."""
CRITICS = ("authors", "windowed")
"""What judges: the authors' discriminators, or ones without normalisation that see soft tissue alone."""
NETS = ("G_Q2F", "G_F2Q", "D_F", "D_Q")
"""The four networks by the authors' names: Q is quarter dose, F full dose."""


class _ChannelsLastNorm(torch.autograd.Function):
    """Instance normalisation of images whose channels lie last: PyTorch's backward takes ten times as long there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, channels, high, wide = x.shape
        y, mean, scale = torch.native_group_norm(x, None, None, batch, channels, high * wide, channels, EPS)
        ctx.save_for_backward(x, mean, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, *kept = ctx.saved_tensors
        mean, scale = (value[..., None, None] for value in kept)
        # scale (grad - mean(grad) - y mean(grad y)) with y = scale (x - mean), sorted by x and grad
        total, along = (part.sum((2, 3), keepdim=True, dtype=mean.dtype) for part in (grad, grad * x))
        pixels = x.shape[2] * x.shape[3]
        of_x = scale**3 * (mean * total - along) / pixels
        constant = -scale * total / pixels - mean * of_x
        rows = [
            value.to(x.dtype).expand(-1, -1, 1, x.shape[3]).contiguous(memory_format=torch.channels_last)
            for value in (constant, of_x, scale)
        ]  # rows of equal values: one long loop takes less time than many short ones over the channels
        return torch.addcmul(rows[0], x, rows[1]).addcmul_(grad, rows[2])


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1, without trained values.

    As group normalisation with a group a channel: the same numbers as `torch.nn.InstanceNorm2d`, faster on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, (B, C, Y, X)."""
        if x.requires_grad and not x.is_contiguous():
            return _ChannelsLastNorm.apply(x)  # type: ignore[no-any-return]
        return F.group_norm(x, x.shape[1], eps=EPS)


class Reflect(nn.Module):
    """Reflecting padding that stays in the precision it is given: autocast would widen it to float32."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) with ``reach`` more pixels at each side."""
        with torch.autocast(x.device.type, enabled=False):
            return F.pad(x, [self.reach] * 4, mode="reflect")


def _norm_relu() -> list[nn.Module]:
    return [InstanceNorm(), nn.ReLU(inplace=True)]


def _twice(name: str, kind: type[nn.Conv2d | nn.ConvTranspose2d], channels: Sequence[int]) -> nn.Sequential:
    """Under a name, twice: a kernel of 3 x 3, instance normalisation, ReLU; (B, channels, Y, X), whose size stays."""
    layers = [(kind(a, b, 3, padding=1, bias=False), *_norm_relu()) for a, b in pairwise(channels)]
    return nn.Sequential(OrderedDict({name: nn.Sequential(*chain(*layers))}))


class _Residual(nn.Module):
    """x plus two reflecting convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        halves = [(Reflect(1), nn.Conv2d(channels, channels, 3), InstanceNorm()) for _ in range(2)]
        self.res_block = nn.Sequential(*halves[0], nn.ReLU(inplace=True), *halves[1])

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.res_block(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """From one dose to the other, (B, 1, Y, X) to the same shape, both normalised as by `normalise`.

    Args:
        width: Channels of the first layer; the authors': 32.
        blocks: Residual blocks; the authors': 6.
        last: Standard deviation of the new weights of the last layer; the authors': that of all, 0.02. Small values
            start near the identity.
        scale_hu: What one stands for in its input and output, HU; the authors': 4000.

    Raises:
        ValueError: If ``width``, ``blocks`` or ``scale_hu`` is not positive.

    Source: the output is x + tanh(…), and nothing is down-sampled: unlike Zhu's generators.
    """

    def __init__(self, width: int = 32, blocks: int = 6, last: float = INIT, scale_hu: float = SCALE_HU) -> None:
        for name, value in (("width", width), ("blocks", blocks), ("scale_hu", scale_hu)):
            check_positive(name, value)
        super().__init__()
        self.scale_hu = scale_hu
        self.first_layer = nn.Sequential(Reflect(3), nn.Conv2d(1, width, 7), *_norm_relu())
        self.conv_block = _twice("conv", nn.Conv2d, (width, 2 * width, 4 * width))
        self.res_layers = nn.ModuleList(_Residual(4 * width) for _ in range(blocks))
        self.deconv_block = _twice("deconv", nn.ConvTranspose2d, (4 * width, 2 * width, width))
        self.last_layer = nn.Sequential(Reflect(3), nn.Conv2d(width, 1, 7), nn.Tanh())
        _initialise(self)
        nn.init.normal_(cast(Tensor, self.last_layer[1].weight), 0, last)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, Y, X), any sides above 3."""
        check_rank("image", image, 4, "(B, 1, Y, X)")
        if image.shape[1] != 1:
            raise error("image", "(B, 1, Y, X)", tuple(image.shape))
        x = self.conv_block(self.first_layer(image))
        for block in self.res_layers:
            x = block(x)
        return image + self.last_layer(self.deconv_block(x))  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """A map of how real each 70 x 70 patch looks, (B, 1, Y, X) to (B, 1, Y', X'); 128 pixels a side give 8.

    Args:
        width: Channels of the first layer; the authors': 64.
        norm: Instance normalisation, as the authors have it. It hides how strong noise is. Without it the weights start
            with variances that keep those of the images, K. He et al., arXiv 1502.01852, and the last ones smaller.

    Raises:
        ValueError: If ``width`` is not positive.

    Source: the PatchGAN of Zhu et al., here without padding and without bias.
    """

    def __init__(self, width: int = 64, norm: bool = True) -> None:
        check_positive("width", width)
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, bias=False), nn.LeakyReLU(SLOPE, inplace=True)]
        for inputs, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
            layers += [nn.Conv2d(inputs, 2 * inputs, 4, stride, bias=False), InstanceNorm() if norm else nn.Identity()]
            layers += [nn.LeakyReLU(SLOPE, inplace=True)]
        last = nn.Conv2d(8 * width, 1, 4, bias=False)
        self.discriminator = nn.Sequential(*layers, last)
        _initialise(self)
        if not norm:
            for weight in self.parameters():
                nn.init.kaiming_normal_(weight, SLOPE)
            last.weight.data.mul_(0.1)

    def forward(self, image: Tensor) -> Tensor:
        """Judge (B, 1, Y, X)."""
        return self.discriminator(image)  # type: ignore[no-any-return]


def _initialise(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, INIT)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


_Judge = Discriminator | None


class Nets(nn.Module):
    """The networks of a training or a checkpoint; what is there is in the state dict, under these names.

    Args:
        q2f: From quarter to full dose: the denoiser.
        f2q: From full to quarter dose; None for supervised networks.
        d_f: Judges full-dose images; None where it was not kept.
        d_q: Judges quarter-dose images; None where it was not kept.
    """

    def __init__(self, q2f: Generator, f2q: Generator | None = None, d_f: _Judge = None, d_q: _Judge = None) -> None:
        super().__init__()
        self.q2f, self.f2q, self.d_f, self.d_q = q2f, f2q, d_f, d_q


def from_authors(checkpoint: str | Path | Mapping[str, Any], both: bool = False) -> Nets:
    """The networks of one of the authors' checkpoints, any width, in evaluation mode.

    Args:
        checkpoint: A file, which `noisebook.weights.read` opens without running anything in it; or what was in it:
            state dictionaries under ``G_Q2F_state_dict`` (needed), ``G_F2Q_state_dict``, ``D_F_state_dict`` and
            ``D_Q_state_dict``. What else is in it (epoch, optimisers) is left alone.
        both: Whether the way back is needed too.

    Raises:
        ValueError: If `noisebook.weights.read` refuses the file; a generator that is needed is not there, or a state is
            not that of our architecture.
    """
    name = "checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)
    if not isinstance(checkpoint, Mapping):
        state, checkpoint = weights.read(checkpoint).state, {}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            checkpoint.setdefault(part, {})[rest] = value
    states = {net: checkpoint.get(f"{net}_state_dict") for net in NETS}
    for net in NETS[: 1 + both]:
        if not isinstance(states[net], Mapping):
            raise error(name, f"{net}_state_dict", ", ".join(sorted(map(str, checkpoint))) or "nothing")
    return Nets(*(None if state is None else _net(net, state) for net, state in states.items()))  # type: ignore[arg-type]


def _net(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """One network with the weights of ``state``, which also tells its width."""
    state = weights.bare(state)
    first = "first_layer.1.weight" if name[0] == "G" else "discriminator.0.weight"
    if first not in state:
        raise error(f"{name}_state_dict", first, ", ".join(sorted(state)[:5]) or "nothing")
    width = len(state[first])
    if name[0] == "D":
        return weights.into(Discriminator(width), state).eval()
    blocks = {key.split(".")[1] for key in state if key.startswith("res_layers.")}
    return weights.into(Generator(width, max(1, len(blocks))), state).eval()


def normalise(hu: Tensor, scale_hu: float = SCALE_HU) -> Tensor:
    """HU, any shape, to what the networks see: water to 0, air and below, at the authors' scale, to -0.25."""
    return hu.clamp(min=AIR_HU) / scale_hu


def denoise(
    net: nn.Module, hu: np.ndarray, *, tile: int = 0, halo: int = 0, spacing_mm: float | None = None
) -> np.ndarray:
    """Put slices through a generator, one by one.

    An embedded one warns of HU or pixels outside of what it was trained on; the output is then cut to the input's
    range.

    Args:
        net: A `Generator`, wherever it lies.
        hu: (Z, Y, X) float32, HU, square slices from 128 pixels a side on.
        tile: Side of the tiles in pixels; 0 takes each slice whole, as its instance normalisation is meant.
        halo: Pixels around each tile that it also sees.
        spacing_mm: Side of the pixels, if known.

    Returns:
        The same shape, float32, HU; not clipped, as the authors leave it.

    Raises:
        ValueError: As `check_hu` and `noisebook.inference.tiled` do.
    """
    check_hu("hu", hu)
    scale = float(net.scale_hu)  # type: ignore[arg-type]
    device = next(net.parameters()).device
    outputs = []
    for image in torch.from_numpy(hu):
        seen = normalise(image[None, None].to(device), scale)
        outputs.append(scale * tiled(net, seen, tile=tile or len(image), halo=halo))
    found: np.ndarray = torch.cat(outputs)[:, 0].cpu().numpy()
    outside = weights.warn_outside(net, value=hu.clip(min=AIR_HU), spacing=spacing_mm)
    return found.clip(min(AIR_HU, hu.min()), hu.max()) if outside else found


def parameters(net: nn.Module) -> int:
    """How many trained values a network has."""
    return sum(value.numel() for value in net.parameters())


def receptive_field(net: nn.Module) -> int:
    """Side of the square of input pixels that one output sees through a chain of convolutions (norms left out)."""
    reach, jump = 1, 1
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            reach += (layer.kernel_size[0] - 1) * jump
            jump *= layer.stride[0]
    return reach


def map_size(net: Discriminator, side: int) -> int:
    """Pixels a side of a discriminator's map for an image of ``side`` x ``side``."""
    with torch.device("meta"):
        copy = Discriminator(cast(nn.Conv2d, net.discriminator[0]).out_channels)
        return int(copy(torch.empty(1, 1, side, side)).shape[-1])
