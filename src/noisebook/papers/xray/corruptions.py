"""The corruptions of 8-bit images: salt and pepper, and Gaussian noise, each easy, medium and hard.

After the original notebooks of this chapter's work, which clip nothing: their Gaussian noise leaves 0 to 255 and wraps
around. Here values are rounded and clipped, unless the defect itself is asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisebook._checks import check_one_of, error

SALT_AND_PEPPER = {"easy": 0.03, "medium": 0.10, "hard": 0.25}
"""Draws as a share of the pixels; half of them are salt."""
VARIANCE = {"easy": 0.1, "medium": 0.2, "hard": 0.5}
"""Variance of the normal draws that Gaussian noise multiplies by 0.2 * 255."""
CORRUPTIONS = tuple(
    f"{kind}-{level}" for kind in ("salt-and-pepper", "gaussian") for level in ("easy", "medium", "hard")
)
"""The six corruptions."""


def sigma(level: str) -> float:
    """Standard deviation of Gaussian noise before clipping, in grey levels of 255: 16.1, 22.8 or 36.1."""
    check_one_of("level", level, VARIANCE)
    return 0.2 * 255 * math.sqrt(VARIANCE[level])


def nominal_psnr(name: str, grey: float = 127.5) -> float:
    """The PSNR (dB, range 255) of a corruption of a constant image: 21.3, 16.0 and 12.0 for salt and pepper.

    Nominal: draws that fall on a pixel twice, and clipping, are left out.
    """
    check_one_of("corruption", name, CORRUPTIONS)
    kind, level = name.rsplit("-", 1)
    share = SALT_AND_PEPPER[level]
    error_square = share * ((255 - grey) ** 2 + grey**2) / 2 if kind != "gaussian" else sigma(level) ** 2
    return 10 * math.log10(255**2 / error_square)


def corrupt(images: Tensor, name: str, generator: torch.Generator, *, wrap: bool = False) -> Tensor:
    """Corrupt 8-bit images.

    Args:
        images: (N, 1, Y, X), uint8.
        name: One of `CORRUPTIONS`.
        generator: Of all that is random.
        wrap: As the authors' Gaussian noise: fractions are cut off and values taken modulo 256, not clipped.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: If the images are not uint8, or the corruption is unknown.
    """
    check_one_of("corruption", name, CORRUPTIONS)
    if images.dtype != torch.uint8:
        raise error("images", "uint8, 0 to 255", images.dtype, "Corruptions are defined on 8-bit images.")
    kind, level = name.rsplit("-", 1)
    if kind == "gaussian":
        values = unclipped(images, level, generator)
        return (values.trunc() % 256 if wrap else values.round().clamp(0, 255)).to(torch.uint8)
    return _salt_and_pepper(images, SALT_AND_PEPPER[level], generator)


def unclipped(images: Tensor, level: str, generator: torch.Generator) -> Tensor:
    """8-bit images with Gaussian noise before anything is rounded, clipped or wrapped: the same shape, float32."""
    return images.float() + sigma(level) * torch.randn(images.shape, generator=generator, dtype=torch.float32)


def _salt_and_pepper(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Each image: ceil(amount pixels / 2) draws of salt, then as many of pepper, all with replacement."""
    flat = images.flatten(1).clone()
    draws = math.ceil(amount * flat.shape[1] / 2)
    for value in (255, 0):
        places = torch.randint(flat.shape[1], (len(flat), draws), generator=generator)
        flat.scatter_(1, places, value)
    return flat.reshape(images.shape)


def unit(images: Tensor) -> Tensor:
    """8-bit images as float32 in [0, 1]."""
    return images.float() / 255
