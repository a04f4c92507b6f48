"""The training of the autoencoders, and the networks that ship with the book.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import datasets, simulated, weights
from noisebook._checks import check_one_of, check_range, check_shape, error
from noisebook._parameters import check_opening
from noisebook.networks import Batches, Networks

from .data import CORRUPTIONS, corrupt, radiographs, training_images, unit
from .model import VAE, Autoencoder, Network, ResidualAutoencoder, denoise

MODELS = ("ae", "vae", "residual")


@dataclass(frozen=True)
class Config:
    """Network, data and schedule; the defaults are the authors' residual autoencoder. See also `AE`, `VARIATIONAL`."""

    model: str = "residual"  # ae, vae or residual; from the authors' code
    size: int = 64  # pixels a side, 64 or 128; from the authors' code
    latent: int = 150  # L of ae and vae: 10, 20, 40, 50, 150; from the authors' code
    width: float = 1.0  # factor on the channels; ours
    skips: bool = True  # of the residual autoencoder; Mao et al. 2016
    corruptions: tuple[str, ...] = ("gaussian-medium",)  # one is drawn for each image; from the authors' code
    images: int = 1344  # from the authors' code; ours are those of the training patients alone
    batch: int = 16  # not stated
    epochs: int = 150  # from the authors' code
    learning_rate: float = 1e-3  # Adam, MSE; not stated: Keras' default
    seed: int = 0  # ours; the authors set none


AE = Config(model="ae", batch=32, epochs=100, learning_rate=1e-4)
"""The authors' autoencoder: RMSprop at 1e-4, binary cross-entropy, 100 epochs; the batch is not stated."""
VARIATIONAL = replace(AE, model="vae", latent=40)
"""The authors' variational autoencoder."""
SMALL = Config(width=0.25, epochs=40)
"""The reduced residual autoencoder: a quarter of the width, 3,360 steps in place of 12,600."""
SHIPPED = {
    "xray-residual": SMALL,
    "xray-ae": AE,
    "xray-vae-40": VARIATIONAL,
}
"""The networks of the registry; the autoencoders have the authors' width and schedule. Some half an hour in all on
one core, where a step takes 0.2 s (residual), 0.15 s (autoencoder) or 0.13 s (VAE)."""
EIGHTH = replace(SMALL, width=0.125, epochs=12)
"""What is trained in numbers: an eighth of the authors' width."""
STEPS = 1008
"""Of each training of the study ``images``, rounded to whole epochs."""


def of_count(images: int) -> Config:
    """A training on so many images, with nearly `STEPS` steps."""
    return replace(EIGHTH, images=images, epochs=max(1, round(STEPS / max(1, images // SMALL.batch))))


OTHERS = {
    "residual-own": replace(EIGHTH, corruptions=()),
    "residual-skips": EIGHTH,
    "residual-plain": replace(EIGHTH, skips=False),
    "vae-10": replace(VARIATIONAL, latent=10, corruptions=("gaussian-easy",), epochs=20),
    "vae-40": replace(VARIATIONAL, latent=40, corruptions=("gaussian-easy",), epochs=20),
    "vae-untrained": replace(VARIATIONAL, epochs=0),
} | {f"residual-{count}": of_count(count) for count in (50, 400, 1300)}
"""Networks that studies train, by the names that claims give them; ``own``: one for each corruption."""


def build(config: Config) -> Network:
    """A new net of a configuration, its weights drawn from the configuration's seed.

    Raises:
        ValueError: If the model is unknown, or the network refuses its size, width or latent numbers.
    """
    check_one_of("model", config.model, MODELS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.model == "residual":
            return ResidualAutoencoder(config.width, config.skips)
        return (VAE if config.model == "vae" else Autoencoder)(config.size, config.latent, config.width)


def vae_loss(net: VAE, noisy: Tensor, truth: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts of the negative evidence bound, means over the batch, in nats an image.

    Args:
        net: The network.
        noisy: (B, 1, Y, X) in [0, 1], its input.
        truth: The same shape: what it should make of it.
        draw: (B, L), from the standard normal law.

    Returns:
        The cross-entropy summed over pixels (n ln 2 for an indifferent decoder) and the Kullback-Leibler divergence.
    """
    mean, log_variance = net.posterior(noisy)
    logits = net.decoder(mean + (log_variance / 2).exp() * draw)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(truth)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / (2 * len(truth))
    return entropy, divergence


class _Bound(nn.Module):
    """The loss of a VAE as a module of its own: what training wraps is called, never another method of it."""

    def __init__(self, net: VAE) -> None:
        super().__init__()
        self.net = net

    def forward(self, noisy: Tensor, truth: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """As `vae_loss`."""
        return vae_loss(self.net, noisy, truth, draw)


class Training:
    """The network, its optimiser and one training step, for `Networks.train`.

    Args:
        config: What to train, and how.

    Attributes:
        net: The network.
    """

    parts: tuple[str, ...] = ("model", "optimizer")

    def __init__(self, config: Config) -> None:
        self.net, rate = build(config), config.learning_rate
        self.model: nn.Module = _Bound(self.net) if isinstance(self.net, VAE) else self.net
        self.optimizer: torch.optim.Optimizer
        if config.model == "residual":  # Keras' defaults, which differ from torch's: epsilon 1e-7, and rho 0.9
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate, eps=1e-7)
        else:
            self.optimizer = torch.optim.RMSprop(self.model.parameters(), lr=rate, alpha=0.9, eps=1e-7)

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (noisy, truth, draw): two (B, 1, Y, X) in [0, 1] and (B, L) normal numbers, which the VAE uses.

        Logs the loss: the squared error, the cross-entropy a pixel, or for the VAE both parts of its sum, in nats.
        """
        noisy, truth, draw = batch
        if isinstance(self.net, VAE):
            entropy, divergence = self.model(noisy, truth, draw)
            logged = {"loss": entropy + divergence, "entropy": entropy, "divergence": divergence}
        elif isinstance(self.net, Autoencoder):
            logged = {"loss": F.binary_cross_entropy_with_logits(self.model(noisy), truth)}
        else:
            logged = {"loss": F.mse_loss(self.model(noisy), truth)}
        self.optimizer.zero_grad()
        fabric.backward(logged["loss"])
        self.optimizer.step()
        return logged

    def end_epoch(self, epoch: int) -> None:
        """Nothing: the learning rate is constant."""


def shuffled(images: Tensor, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch of (noisy, truth, draw), as `Training.step` takes them, in random order, corrupted anew each time.

    Args:
        images: (N, 1, Y, X), uint8. A last batch that would be smaller is left out.
        config: Its corruptions, batch and latent numbers count.
        generator: Of all that is random.
    """
    order = torch.randperm(len(images), generator=generator)
    for chosen in order.split(config.batch):
        if len(chosen) == config.batch or len(order) < config.batch:
            truth, noisy = images[chosen], images[chosen].clone()
            which = torch.randint(len(config.corruptions), (len(chosen),), generator=generator)
            for number, name in enumerate(config.corruptions):
                noisy[which == number] = corrupt(truth[which == number], name, generator)
            yield unit(noisy), unit(truth), torch.randn(len(chosen), config.latent, generator=generator)


def batches(config: Config, images: Tensor | None, folder: Path) -> Batches:
    """Batches of each epoch, of ``config.images`` evenly spread ones of (N, 1, Y, X) uint8, or of the embedded ones.

    Raises:
        ValueError: When first asked for, if there are fewer images, or they have another size.
    """

    @cache
    def chosen() -> Tensor:  # a finished network needs none
        known = training_images(config.size) if images is None else images
        check_shape("images", known, (None, 1, config.size, config.size))
        if len(known) < config.images:
            raise error("images", f"at least {config.images}", len(known))
        return known[torch.arange(config.images) * len(known) // config.images]

    return lambda _, generator: shuffled(chosen(), config, generator)


_ARCHITECTURES = {"ae": "autoencoder", "vae": "variational autoencoder", "residual": "residual autoencoder"}
_LOSSES = {
    "residual": "MSE; Adam",
    "ae": "binary cross-entropy; RMSprop",
    "vae": "binary cross-entropy summed over pixels + KL; RMSprop",
}


def describe(config: Config) -> dict[str, str]:
    """A configuration in words."""
    width = "the authors' width" if config.width == 1 else f"{config.width:g} of the authors' width"
    residual = config.model == "residual"
    bottleneck = "" if residual and config.skips else "without skips" if residual else f"{config.latent} latent numbers"
    words = {"architecture": ", ".join(filter(None, (_ARCHITECTURES[config.model], width, bottleneck)))}
    if not config.epochs:
        return words | {"loss": "untrained"}
    return words | {
        "loss": f"{_LOSSES[config.model]}, learning rate {config.learning_rate:g}",
        "epochs": f"{config.epochs} epochs of {config.images} images of {config.size} x {config.size} in batches of "
        f"{config.batch}, corrupted anew each epoch{': ' * bool(config.corruptions)}{', '.join(config.corruptions)} "
        f"(the authors: {150 if residual else 100} epochs)",
    }


def outcome(net: nn.Module, config: Config) -> Tensor:
    """What a network makes of 16 held-out radiographs, (16, 1, Y, X) in [0, 1]."""
    clean = radiographs(simulated.embedded_xray(), "test", config.size, limit=16)
    return denoise(net, unit(corrupt(clean, config.corruptions[0], torch.Generator().manual_seed(0))))  # type: ignore[arg-type]


def trained_on(config: Config) -> dict[str, weights.Range]:
    """The range of the inputs of the first epoch on the embedded images."""
    seen = shuffled(training_images(config.size), config, torch.Generator().manual_seed(config.seed))
    return {"value": weights.span("grey value", (noisy for noisy, _, _ in seen))}


NETWORKS = Networks(
    chapter="xray",
    shipped=SHIPPED,
    build=build,
    trainee=Training,
    batches=batches,
    describe=describe,
    data=lambda config: f"{simulated.XRAY_TRAIN.id}: 336 simulated patients, 4 views each",
    trained_on=trained_on,
    outcome=outcome,
    unit="RMS in images from 0 to 1",
    authors={"xray-ae": AE, "xray-vae-40": VARIATIONAL, "xray-residual": Config()},
    others=OTHERS,
    course=lambda config: replace(config, epochs=1),
)
"""The networks of the chapter."""


def checked(
    out: str,
    data_root: str,
    recipe: str,
    by: str,
    nets: str,
    corruption: str,
    shown: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "xray", locals())
    used = NETWORKS.check_source("nets", nets)
    check_one_of("recipe", recipe, ("test", "smoke"))
    check_one_of("corruption", corruption, CORRUPTIONS)
    check_range("shown", shown, 0)
    check_one_of("by", by, ("folder", "patient"))
    name = f"{simulated.named_xray(recipe).id} (simulated)"
    if data_root:
        datasets.check_xray(files := datasets.xray_files(data_root))
        parts = datasets.xray_split(files, by)
        if empty := [part for part, files in parts.items() if not files]:
            raise error(f"{data_root}, by={by}", "images in every part", f"none in {', '.join(empty)}")
        name = Path(data_root).resolve().name
    return name, used
