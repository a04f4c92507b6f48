"""The deep image prior, stopped by discrepancy, at several resolutions of one scene.

D. Ulyanov, A. Vedaldi, V. Lempitsky, "Deep image prior", CVPR 2018, doi 10.1109/CVPR.2018.00984: an untrained network
is fitted to one noisy image. A. Habring, M. Holler (arXiv 2204.10588) show that its images are continuous; their code
for this experiment is not public, and this one is ours and small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from noisebook._checks import check_finite, check_positive, check_shape, error

BASE = 64
"""Pixels a side at scaling 1."""


@dataclass(frozen=True)
class Fit:
    """What the prior made of an image.

    Attributes:
        image: (1, 1, Y, X).
        iterations: Steps of the optimiser.
        residual: Root mean square of image - noisy image.
    """

    image: Tensor
    iterations: int
    residual: float


def scene(size: int) -> Tensor:
    """A piecewise constant scene with levels 0, 0.1, 0.2, 0.3, 0.4 and 1, (1, 1, size, size)."""
    check_positive("size", size)
    axis = (torch.arange(size) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    image = torch.zeros(size, size)
    for level, (top, bottom, left, right) in (
        (0.1, (0.06, 0.94, 0.06, 0.94)),
        (0.2, (0.10, 0.40, 0.56, 0.90)),
        (1.0, (0.14, 0.46, 0.12, 0.48)),
        (0.4, (0.54, 0.90, 0.52, 0.88)),
    ):
        image[(y >= top) & (y < bottom) & (x >= left) & (x < right)] = level
    image[(y - 0.72) ** 2 + (x - 0.28) ** 2 <= 0.15**2] = 0.3
    return image[None, None]


def field(size: int, seed: int) -> Tensor:
    """The network's fixed input, (1, 1, size, size): one random field, sampled at any multiple of 64 pixels."""
    if size < BASE or size % BASE:
        raise error("size", f"a multiple of {BASE}", size)
    coarse = torch.randn(1, 1, BASE, BASE, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def deep_image_prior(
    noisy: Tensor,
    net: nn.Module,
    start: Tensor,
    *,
    sigma: float,
    decay: float = 0.0,
    learning_rate: float = 1e-3,
    limit: int = 3000,
    progress: bool = True,
) -> Fit:
    """Fit a network to one image until the residual is the noise.

    Args:
        noisy: (1, 1, Y, X).
        net: Untrained, from an image to an image; it is trained in place.
        start: (1, 1, Y, X), its fixed input, as from `field`.
        sigma: Standard deviation of the noise; 0 fits for ``limit`` steps.
        decay: Adam's weight decay.
        learning_rate: Adam's.
        limit: Steps after which it ends in any case.
        progress: Show a progress bar.

    Raises:
        ValueError: If shapes differ, an image is not finite, or ``sigma`` is negative.
    """
    check_shape("start", start, tuple(noisy.shape))
    check_finite("noisy", noisy)
    check_positive("limit", limit)
    if not sigma >= 0:
        raise error("sigma", "a number from 0 on", sigma)
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate, weight_decay=decay)
    net.train()
    for step in tqdm(range(1, limit + 1), desc="deep image prior", disable=not progress, leave=False, mininterval=1.0):
        output = net(start)
        loss = F.mse_loss(output, noisy)
        if step == limit or float(loss.detach()) <= sigma**2:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Fit(output.detach(), step - 1, float(loss.detach()) ** 0.5)
