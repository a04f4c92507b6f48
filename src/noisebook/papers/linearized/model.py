"""FBPConvNet, and how it denoises slices of any size.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475. The network is FBPConvNet: K. H. Jin, M. T. McCann, E. Froustey, M. Unser,
"Deep convolutional neural network for inverse problems in imaging", IEEE TIP 26(9), 2017, doi 10.1109/TIP.2017.2713099.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import weights
from noisebook._checks import check_positive, check_rank, check_real, error
from noisebook.inference import tiled


class _Block(nn.Sequential):
    """Twice: convolution 3x3, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for first in (inputs, outputs):
            layers += [
                nn.Conv2d(first, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class FBPConvNet(nn.Module):
    """A U-Net with a global residual: image + U-Net(image), (B, 1, Y, X) in HU.

    Args:
        channels: Width of the first level; it doubles at each level.
        levels: Number of resolutions, five in the paper.

    Source: Jin et al. 2017; zero padding, max-pooling 2x2, transposed convolution 2x2, final convolution 1x1.
    """

    SCALE_HU = 200.0
    """Images are divided by this before the U-Net and its output is multiplied by it (ours)."""

    def __init__(self, channels: int = 64, levels: int = 5) -> None:
        check_positive("channels", channels)
        check_positive("levels", levels)
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_Block(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    @property
    def stride(self) -> int:
        """The pooling grid in pixels: image sides, and corners of crops, must be multiples of it."""
        return 1 << (len(self.down) - 1)

    @property
    def halo(self) -> int:
        """Pixels around an output pixel's stride-aligned block beyond which nothing influences it."""
        s = self.stride
        reach = -(-2 * (s - 1) // s) * s  # of the convolutions on the way up, and again down, on the coarsest grid
        return 2 * reach + 2 * s

    def forward(self, image: Tensor) -> Tensor:
        """Denoise (B, 1, Y, X), HU; both sides must be multiples of `stride`."""
        check_rank("image", image, 4, "(B, 1, Y, X)")
        if image.shape[1] != 1 or image.shape[2] % self.stride or image.shape[3] % self.stride:
            raise error("image", f"(B, 1, Y, X) with Y and X multiples of {self.stride}", tuple(image.shape), "Pad it.")
        x = image / self.SCALE_HU
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for skip, up, merge in zip(reversed(skips[:-1]), self.up, self.merge, strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return image + self.SCALE_HU * cast(Tensor, self.last(x))


def denoise(model: FBPConvNet, hu: np.ndarray, spacing_mm: float | None = None) -> np.ndarray:
    """Denoise slices (Z, Y, X) in HU of any size, one by one, in tiles; the same shape, float32.

    A network of the registry warns of HU or pixels outside of what it was trained on; the output is then cut to the
    input's range.

    Args:
        model: The network.
        hu: The slices.
        spacing_mm: Side of the pixels, if known.
    """
    check_real("hu", hu)
    check_rank("hu", hu, 3, "(Z, Y, X)")
    device = next(model.parameters()).device
    stride, tile = model.stride, max(512 // model.stride, 1) * model.stride
    outputs = [
        tiled(model, torch.from_numpy(s).float()[None, None].to(device), tile=tile, halo=model.halo, stride=stride)
        for s in hu
    ]
    found: np.ndarray = torch.cat(outputs)[:, 0].cpu().numpy()
    outside = weights.warn_outside(model, value=hu, spacing=spacing_mm)
    return found.clip(hu.min(), hu.max()) if outside else found
