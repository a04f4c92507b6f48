"""Does a denoiser hide disease? Detectability of a simulated opacity before and after a denoiser.

The observer is the channelised Hotelling observer with Laguerre-Gauss channels (B. D. Gallas, H. H. Barrett, JOSA A
20(9), 2003, doi 10.1364/JOSAA.20.001725). The ideal Hotelling observer would say nothing: its detectability does not
change under any invertible map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noisebook import metrics
from noisebook._checks import check_positive, error

from .corruptions import corrupt, unit

Denoiser = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is to be detected, and by whom; lengths in pixels of 64 x 64 images.

    Attributes:
        radius: Of the opacity, a sphere in projection.
        contrast: At its middle, grey levels of 255.
        places: Its middle, (row, column) as shares of the sides: one in each lung.
        side: Of the patch that the observer sees, odd.
        channels: Laguerre-Gauss channels.
        width: Of the channels.
        draws: Of the noise, for each image, place and class.
    """

    radius: float = 4.0
    contrast: float = 16.0
    places: tuple[tuple[float, float], ...] = ((0.45, 0.28), (0.36, 0.67))
    side: int = 21
    channels: int = 8
    width: float = 6.0
    draws: int = 4


def opacity(size: int, task: Task, place: tuple[float, float]) -> Tensor:
    """The opacity alone: the chords of a sphere, (size, size) float32, grey levels of 255.

    Args:
        size: Pixels a side.
        task: Radius and contrast, scaled from 64 pixels to ``size``.
        place: (row, column), shares of the sides; the middle is a pixel's.
    """
    check_positive("radius", task.radius)
    row, column = middle(size, place)
    axis = torch.arange(size, dtype=torch.float32)
    square = ((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (task.radius * size / 64) ** 2
    return task.contrast * (1 - square).clamp(min=0).sqrt()


def middle(size: int, place: tuple[float, float]) -> tuple[int, int]:
    """The pixel (row, column) of a place given by shares of the sides."""
    return int(place[0] * size), int(place[1] * size)


def opacity_detectability(
    denoiser: Denoiser,
    images: Tensor,
    corruption: str,
    seed: int,
    task: Task = Task(),
    patients: np.ndarray | None = None,
) -> float:
    """The observer's d' for the opacity in denoised images.

    Every image serves in both classes, with other noise, so that d' is that of a known signal in the noise and in the
    variation from patient to patient. All patches of a patient are one group of `noisebook.metrics.detectability`:
    they share an anatomy, which cancels in the difference of the classes' means.

    Args:
        denoiser: (N, 1, Y, X) in [0, 1] to the same shape; the identity tells what there was to detect.
        images: (N, 1, Y, X), uint8, of held-out patients.
        corruption: One of `CORRUPTIONS`, or empty for none.
        seed: Of the noise.
        task: Opacity and observer.
        patients: (N,), a label for each image; none: each image is of another patient.

    Returns:
        d', below zero where there is no more than noise.

    Raises:
        ValueError: If a patch does not lie inside the image, and as `noisebook.metrics.detectability` raises.
    """
    generator, size, half = torch.Generator().manual_seed(seed), images.shape[-1], task.side // 2
    channels = metrics.laguerre_gauss(task.side, task.width * size / 64, task.channels)
    seen: list[list[Tensor]] = [[], []]
    for place in task.places:
        row, column = middle(size, place)
        if not half <= min(row, column) <= max(row, column) < size - half:
            raise error("place", f"{half} pixels from the border of {size} x {size} or more", (row, column))
        window = (slice(row - half, row + half + 1), slice(column - half, column + half + 1))
        for present, patches in enumerate(seen):
            shown = (images + present * opacity(size, task, place)).round().clamp(0, 255).to(torch.uint8)
            for _ in range(task.draws if corruption else 1):
                noisy = corrupt(shown, corruption, generator) if corruption else shown
                patches.append(denoiser(unit(noisy))[:, 0, *window])
    absent, present_patches = (torch.cat(patches).numpy() for patches in seen)
    groups = np.arange(len(images)) if patients is None else patients
    return metrics.detectability(absent, present_patches, channels, np.tile(groups, len(seen[0])))


def opacity_response(
    denoiser: Denoiser, image: Tensor, corruption: str, seed: int, task: Task = Task(), draws: int = 16
) -> Tensor:
    """What a denoiser makes of the opacity: the mean difference of its images with and without it, by the same noise.

    Args:
        denoiser: As for `opacity_detectability`; the identity passes the opacity, but for clipping.
        image: (1, 1, Y, X), uint8.
        corruption: One of `CORRUPTIONS`.
        seed: Of the noise.
        task: Its opacity, at its first place.
        draws: Of the noise.

    Returns:
        (Y, X), grey levels of 255.
    """
    with_it = (image + opacity(image.shape[-1], task, task.places[0])).round().clamp(0, 255).to(torch.uint8)
    absent, present = (
        denoiser(unit(corrupt(shown.repeat(draws, 1, 1, 1), corruption, torch.Generator().manual_seed(seed))))
        for shown in (image, with_it)
    )
    return 255 * (present - absent).mean((0, 1))
