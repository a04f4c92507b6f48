"""The chapter's comparisons: what is drawn beside what.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook._checks import check_one_of

from .baselines import scores
from .corruptions import CORRUPTIONS, corrupt, unit
from .long import pairs
from .network import Network, denoise
from .observer import Denoiser
from .training import AE, VARIATIONAL, Config, checkpoints, load, train, training_images

FULL = {"ae": AE, "vae": VARIATIONAL, "residual": Config()}
"""The authors' networks, widths and schedules."""


def family(
    source: str, folder: Path, images: Tensor | None = None, *, device: str = "cpu", seed: int = 0
) -> dict[str, Network]:
    """Autoencoder, VAE and residual autoencoder: those of this book, or the authors' sizes trained here.

    Args:
        source: ``embedded``, or ``train`` for the authors' widths and schedules on ``images`` (hours; a GPU helps).
        folder: For the checkpoints of a training, which goes on from the newest.
        images: (N, 1, size, size), uint8, of training patients; the embedded ones if None. All are used.
        device: Where to train, and where the nets are put.
        seed: Of a training.

    Returns:
        ``ae``, ``vae`` (L = 40) and ``residual``, in evaluation mode.

    Raises:
        ValueError: If the source is unknown.
    """
    check_one_of("nets", source, ("embedded", "train"))
    if source == "embedded":
        wanted = {"ae": "xray-ae", "vae": "xray-vae-40", "residual": "xray-residual"}
        return {model: load(name, device) for model, name in wanted.items()}
    known = training_images() if images is None else images
    data = hashlib.sha256(known.numpy().tobytes()).hexdigest()
    nets: dict[str, Network] = {}
    for model, base in FULL.items():
        config = replace(base, images=len(known), size=known.shape[-1], seed=seed)
        nets[model] = train(config, checkpoints(folder, model, config, data), known, device).to(device)
    return nets


def corrupted(images: Tensor, seed: int) -> dict[str, Tensor]:
    """Every corruption of the same images by name; under ``wrapped`` the easy noise as the authors' code makes it.

    Args:
        images: (N, 1, Y, X), uint8.
        seed: Of all noise.

    Returns:
        Images of the same shape in [0, 1].
    """

    def once(name: str, wrap: bool = False) -> Tensor:
        return unit(corrupt(images, name, torch.Generator().manual_seed(seed), wrap=wrap))

    return {name: once(name) for name in CORRUPTIONS} | {"wrapped": once("gaussian-easy", True)}


def compared(images: Tensor, corruption: str, seed: int, denoisers: Mapping[str, Denoiser]) -> dict[str, Tensor]:
    """The panels of the comparison: noisy images, what each denoiser makes of the same ones, and the truth.

    Args:
        images: (N, 1, Y, X), uint8.
        corruption: One of `CORRUPTIONS`.
        seed: Of the noise.
        denoisers: By title, such as ``dict(methods(...))``.

    Returns:
        ``noisy``, the titles, ``truth``: (N, 1, Y, X) in [0, 1] each.
    """
    noisy, truth = pairs(images, corruption, seed)
    return {"noisy": noisy} | {title: denoiser(noisy) for title, denoiser in denoisers.items()} | {"truth": truth}


def labels(panels: Mapping[str, Tensor]) -> dict[str, str]:
    """Titles with the means of PSNR and SSIM, for panels as `compared` gives them."""
    truth = panels["truth"]
    found = {}
    for title, images in panels.items():
        score = scores(images, truth) if title != "truth" else None
        found[title] = f"{title}: {score['psnr']:.1f} dB, {score['ssim']:.2f}" if score else title
    return found


def everywhere(net: Network, images: Tensor, seed: int) -> dict[str, np.ndarray]:
    """One net applied to every corruption: PSNR before and after, dB, each (6,) by `CORRUPTIONS`."""
    found: dict[str, list[float]] = {"before": [], "after": []}
    for name in CORRUPTIONS:
        noisy, truth = pairs(images, name, seed)
        found["before"].append(scores(noisy, truth)["psnr"])
        found["after"].append(scores(denoise(net, noisy), truth)["psnr"])
    return {name: np.array(values) for name, values in found.items()}


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side in rows of ``columns``, such as samples of one epoch.

    Args:
        images: (N, Y, X), N a multiple of ``columns``.
        columns: Images a row.

    Returns:
        (N / columns * Y, columns * X), the same type.

    Raises:
        ValueError: If the rows would not be whole.
    """
    count, high, wide = images.shape
    check_one_of("columns", str(columns), [str(n) for n in range(1, count + 1) if count % n == 0])
    return images.reshape(count // columns, columns, high, wide).swapaxes(1, 2).reshape(-1, columns * wide)
