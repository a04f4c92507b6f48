"""The chapter's panels: what is drawn beside what.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .data import CORRUPTIONS, corrupt, pairs, unclipped, unit
from .measures import Denoiser, scores
from .model import SIZES, VAE, Autoencoder, ResidualAutoencoder, keras_parameters, sample


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
