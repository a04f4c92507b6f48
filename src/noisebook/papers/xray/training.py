"""Training of the autoencoders, and the embedded nets.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import datasets, embedded, training, weights
from noisebook._checks import check_one_of, check_shape, error

from .corruptions import corrupt, unit
from .network import VAE, Autoencoder, Network, ResidualAutoencoder, denoise

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
EMBEDDED = {
    "xray-residual": SMALL,
    "xray-ae": AE,
    "xray-vae-40": VARIATIONAL,
}
"""The embedded nets by registry id; the autoencoders have the authors' width and schedule. Some half an hour in all on
one core, where a step takes 0.2 s (residual), 0.15 s (autoencoder) or 0.13 s (VAE)."""


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
    """The network, its optimiser and one training step, for `noisebook.training.fit`.

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


def batches(images: Tensor, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
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
    return radiographs(embedded.embedded_xray(embedded.XRAY_TRAIN), "train", size)


def train(config: Config, folder: Path, images: Tensor | None = None, device: str = "auto") -> Network:
    """Train a net; goes on from the newest checkpoint, and a finished net is not trained again.

    Args:
        config: Network, data and schedule.
        folder: For checkpoints and the log.
        images: (N, 1, size, size), uint8; those of `training_images` if None. ``config.images`` of them are used,
            evenly spread.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The net on the CPU, in evaluation mode.

    Raises:
        ValueError: If there are fewer images than ``config.images``, or they have another size.
        FloatingPointError: If the loss is not finite.
    """
    return train_logged(config, folder, images, device)[0]


def train_logged(
    config: Config, folder: Path, images: Tensor | None = None, device: str = "auto"
) -> tuple[Network, training.Log]:
    """As `train`, with the means of each epoch that `Training.step` logs."""

    @cache
    def chosen() -> Tensor:  # a finished net needs none
        known = training_images(config.size) if images is None else images
        check_shape("images", known, (None, 1, config.size, config.size))
        if len(known) < config.images:
            raise error("images", f"at least {config.images}", len(known))
        return known[torch.arange(config.images) * len(known) // config.images]

    def of_epoch(_: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return batches(chosen(), config, generator)

    trainee = Training(config)
    log = training.fit(trainee, of_epoch, epochs=config.epochs, folder=folder, seed=config.seed, device=device)
    return trainee.net.cpu().eval(), log


def checkpoints(folder: Path, name: str, config: Config, data: str = "") -> Path:
    """Where the checkpoints of a net lie: more epochs go on from fewer, other configurations and data lie elsewhere."""
    known = hashlib.sha256(f"{replace(config, epochs=1)} {data or embedded.XRAY_TRAIN.id}".encode()).hexdigest()
    return folder / f"{name}-{known[:8]}"


def train_embedded(folder: Path, names: Iterable[str] | None = None, device: str = "auto") -> None:
    """Train the embedded nets and enter them into the registry.

    Args:
        folder: For checkpoints, in a subfolder named by net and configuration; goes on from the newest.
        names: Registry ids; all of `EMBEDDED` if None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: If a name is not in `EMBEDDED`.
    """
    chosen = list(EMBEDDED if names is None else names)
    for name in chosen:
        check_one_of("name", name, EMBEDDED)
    for name in chosen:
        config = EMBEDDED[name]
        _register(name, config, train(config, checkpoints(folder, name, config), device=device))


_ARCHITECTURES = {"ae": "autoencoder", "vae": "variational autoencoder", "residual": "residual autoencoder"}


def _register(name: str, config: Config, net: Network) -> None:
    """Store it in half precision, described for its model card."""
    fields = ("model", "size", "latent", "width", "skips", "corruptions")
    clean = radiographs(embedded.embedded_xray(), "test", config.size, limit=16)
    examples = unit(corrupt(clean, config.corruptions[0], torch.Generator().manual_seed(0)))
    seen = batches(training_images(config.size), config, torch.Generator().manual_seed(config.seed))
    weights.embed(
        name,
        net,
        lambda net: denoise(net, examples),
        "RMS in images from 0 to 1",
        chapter="xray",
        architecture=architecture(config),
        config={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items() if k in fields},
        schedule=schedule(config),
        training_data=f"{embedded.XRAY_TRAIN.id}: 336 simulated patients, 4 views each",
        trained_on={"value": weights.span("grey value", (noisy for noisy, _, _ in seen))},
        seed=config.seed,
    )


def architecture(config: Config) -> str:
    """The network, in words."""
    return f"{_ARCHITECTURES[config.model]}, {describe(config)}"


def describe(config: Config) -> str:
    """Width, bottleneck and skips, in words."""
    width = "the authors' width" if config.width == 1 else f"{config.width:g} of the authors' width"
    if config.model == "residual":
        return width + ("" if config.skips else ", without skips")
    return f"{width}, {config.latent} latent numbers"


def schedule(config: Config) -> str:
    """Loss, optimiser, epochs, images, batch and corruptions, in words."""
    losses = {
        "residual": "MSE; Adam",
        "ae": "binary cross-entropy; RMSprop",
        "vae": "binary cross-entropy summed over pixels + KL; RMSprop",
    }
    return (
        f"{losses[config.model]}, learning rate {config.learning_rate:g}; {config.epochs} epochs of {config.images} "
        f"images of {config.size} x {config.size} in batches of {config.batch}, corrupted anew each epoch: "
        f"{', '.join(config.corruptions)} (the authors: {150 if config.model == 'residual' else 100} epochs)"
    )


def load(name: str, device: str = "cpu") -> Network:
    """An embedded net, verified, in evaluation mode.

    Raises:
        ValueError: If the name is not in the registry, or the file is not the registered one.
    """
    stored = weights.metadata(name).config
    net = build(Config(**(stored | {"corruptions": tuple(stored["corruptions"])})))
    return weights.restored(name, net).to(device)
