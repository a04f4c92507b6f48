"""Radiographs, and the corruptions of 8-bit images: salt and pepper, and Gaussian noise, each at three levels.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.


The original notebooks clip nothing: their Gaussian noise leaves 0 to 255 and wraps around. Here values are rounded and
clipped, unless the defect itself is asked for.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook import datasets, simulated
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


def radiographs(
    root: str | Path, part: str, size: int, *, by: str = "folder", label: str = "", limit: int | None = None
) -> Tensor:
    """The images of one part of an archive, (N, 1, size, size) uint8.

    Args:
        root: As for `noisebook.datasets.xray_files`.
        part: ``train``, ``val`` or ``test``.
        size: Pixels a side.
        by: As for `noisebook.datasets.xray_split`; the real archive needs ``patient``.
        label: Only this class, ``NORMAL`` or ``PNEUMONIA``; both if empty.
        limit: Only so many: evenly spread over the sorted files, so that both classes keep their shares.

    Raises:
        ValueError: As these raise; an unknown part or class, or one that holds no image.
    """
    return torch.from_numpy(datasets.xray_images(_files(root, part, by, label, limit), size))


def patient_numbers(
    root: str | Path, part: str, *, by: str = "folder", label: str = "", limit: int | None = None
) -> np.ndarray:
    """Whose images `radiographs` gives for the same arguments: (N,), numbers from 0 that tell patients apart."""
    numbers: np.ndarray = np.unique([f.patient for f in _files(root, part, by, label, limit)], return_inverse=True)[1]
    return numbers


def _files(root: str | Path, part: str, by: str, label: str, limit: int | None) -> list[datasets.XrayFile]:
    check_one_of("part", part, datasets.XRAY_PARTS)
    check_one_of("label", label, ("", *datasets.XRAY_CLASSES))
    files = [f for f in datasets.xray_split(datasets.xray_files(root), by)[part] if label in ("", f.label)]
    if not files:
        raise error(f"{root}: {part}", "radiographs", "none", "Take another part or recipe.")
    count = len(files) if limit is None else min(limit, len(files))
    return [files[k * len(files) // count] for k in range(count)]


def training_images(size: int = 64) -> Tensor:
    """The 1,344 embedded training images, simulated at the first call (minutes), (1344, 1, size, size) uint8."""
    return radiographs(simulated.embedded_xray(simulated.XRAY_TRAIN), "train", size)


def held_out(part: str = "test", size: int = 64) -> Tensor:
    """The embedded images of a part, ``train`` for some that the nets know: (N, 1, size, size) uint8."""
    return radiographs(simulated.embedded_xray(progress=False), part, size)


def held_out_patients(part: str = "test") -> np.ndarray:
    """Which patient each image of `held_out` shows: (N,), numbers from 0."""
    return patient_numbers(simulated.embedded_xray(progress=False), part)


def pairs(images: Tensor, corruption: str, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, Y, X), uint8, corrupted and not, each in [0, 1]."""
    return unit(corrupt(images, corruption, torch.Generator().manual_seed(seed))), unit(images)
