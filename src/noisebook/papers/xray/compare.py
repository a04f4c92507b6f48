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
from torch import Tensor, nn

from noisebook._checks import check_one_of
from noisebook.studies import by_seed

from .baselines import scores
from .corruptions import CORRUPTIONS, corrupt, unclipped, unit
from .long import held_out, held_out_patients, pairs
from .network import SIZES, VAE, Autoencoder, Network, ResidualAutoencoder, denoise, keras_parameters, sample
from .observer import Denoiser, opacity_detectability
from .training import AE, VARIATIONAL, Config, checkpoints, load, train, training_images
from .verdicts import Rows, of_method

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


def parameter_table() -> dict[str, list[object]]:
    """The columns of a table of parameters at the authors' sizes, as counted here and as Keras counts them."""
    nets: dict[str, nn.Module] = {"residual autoencoder": ResidualAutoencoder()}
    for size in SIZES:
        coder = Autoencoder(size)
        nets |= {f"autoencoder {size}², encoder": coder.encoder, f"autoencoder {size}², decoder": coder.decoder}
    ours = [sum(p.numel() for p in net.parameters()) for net in nets.values()]
    keras = [keras_parameters(net) for net in nets.values()]
    return {
        "network": list(nets),
        "parameters": [f"{count:,}" for count in ours],
        "in Keras": [f"{count:,}" for count in keras],
        "running means and variances": [b - a for a, b in zip(ours, keras, strict=True)],
    }


def as_published(images: Tensor, coder: Denoiser, seed: int) -> dict[str, Tensor]:
    """What the original notebooks make of Gaussian noise and of an autoencoder's output, beside what they should.

    Args:
        images: (N, 1, Y, X), uint8.
        coder: An autoencoder as a denoiser: its images are sigmoids of logits.
        seed: Of the noise, which is the easy one.

    Returns:
        (N, 1, Y, X) each: ``clipped`` and ``wrapped`` in [0, 1]; ``where it wraps``, 1 where the noisy value
        leaves 0 to 255; ``autoencoder`` in [0, 1], and ``its logits``.
    """
    values = unclipped(images, "easy", torch.Generator().manual_seed(seed)).trunc()
    both = corrupted(images, seed)
    image = coder(both["gaussian-easy"])
    found = {"clipped": both["gaussian-easy"], "wrapped": both["wrapped"]}
    found["where it wraps"] = ((values < 0) | (values > 255)).float()
    return found | {"autoencoder": image, "its logits": torch.logit(image)}


def rows_again(spread: Rows, transfer: Rows, detect: Rows) -> tuple[list[float], list[float]]:
    """One cheap row of each study that has one, computed again, and as it is stored.

    Args:
        spread: The study; again: the PSNR of the embedded residual autoencoder.
        transfer: The study; again: the PSNR of images with hard Gaussian noise.
        detect: The study; again: the detectability in noisy images.
    """
    images = held_out()
    noisy, truth = pairs(images, "gaussian-medium", 1000)
    found = [scores(denoise(load("xray-residual"), noisy), truth)["psnr"]]
    found.append(scores(*pairs(images, "gaussian-hard", 1000))["psnr"])
    patients = held_out_patients()
    found.append(opacity_detectability(lambda shown: shown, images, "gaussian-medium", 1000, patients=patients))
    before = by_seed(transfer, "before", trained=0, tested=CORRUPTIONS.index("gaussian-hard"))
    stored = [of_method(spread, "psnr", "residual")[0], before[0], of_method(detect, "detectability", "identity")[0]]
    return found, [float(value) for value in stored]


def drawn(net: VAE, noisy: Tensor, vectors: int) -> dict[str, Tensor]:
    """What a VAE's decoder makes of the latent vectors that the study ``latent`` has, and of the same ones moved.

    Args:
        net: The network.
        noisy: (N, 1, size, size) in [0, 1]: images whose codes are wanted, at least two.
        vectors: How many.

    Returns:
        (vectors, 1, size, size) each: ``prior``, of standard normal vectors; ``codes``, of these with the means and
        standard deviations that the encoder's codes of the images have.
    """
    normal = torch.randn(vectors, net.latent, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes = net.posterior(noisy)[0]
    return {"prior": sample(net, normal), "codes": sample(net, codes.mean(0) + codes.std(0) * normal)}
