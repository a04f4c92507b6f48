"""The training of the photon-predicting U-Net, and the networks that ship with the book.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from noisebook import training, weights
from noisebook._checks import check_one_of, check_range, check_shape, error
from noisebook._parameters import check_opening
from noisebook.networks import Batches, Networks

from .data import FIRST_TRAINING_SEED, Split, augmented, own_counts, split, tissues, toy_prior
from .model import UNet, brightness, check_counts, denoise, of_authors

LOOKED_AT = 8
"""Epochs that tell how bright a training's inputs are; 16,000 crops of the embedded 2-D net."""


@dataclass(frozen=True)
class Config:
    """Network, data and schedule; the defaults are the authors' in 2-D. `SHIPPED` is what this book ships."""

    dim: int = 2  # section 4; 3: the fork
    channels: int = 1  # section 4; 3 for natural faces
    levels: int = 10  # from the authors' code
    depth: int = 6  # section 4; 4 in 3-D
    width: int = 32  # from the authors' code
    merge: str = "add"  # from the authors' code
    z_conv_stage: int | None = None  # from the fork's code
    loss: str = "photon"  # section 3; mse: from the authors' code
    supervised: bool = False  # ours: the target is the truth, for comparison
    low_db: float = -40.0  # section 4
    high_db: float = -5.0  # section 4; 0 or 10 in 3-D
    top_low_db: float = -40.0  # ours: lower end of the narrow range that some batches are drawn from
    top_share: float = 0.0  # ours: the share of those batches
    augment: bool = True  # section 4: 8-fold; in 3-D without exchanging axes
    crop: tuple[int, ...] = (256, 256)  # section 4; 64, 64, 64 in 3-D
    batch: int = 16  # section 4; 8 to 32 in 3-D
    steps: int = 0  # an epoch; 0: as many as images fill
    epochs: int = 2000  # section 4; 20 to 30 in 3-D
    learning_rate: float = 1e-4  # section 4; 5e-4 in 3-D
    clip: float = 0.5  # from the authors' code: norm of the gradient
    patience: int = 10  # from the authors' code: epochs until the rate is halved; here of the training loss
    anneal: bool = False  # ours: the rate falls to zero along half a cosine in place of waiting
    data: str = "cells"  # ours: simulated tissue, or the toy prior's images
    images: int = 64  # ours: simulated images or stacks
    size: tuple[int, ...] = (512, 512)  # ours: their sides
    mean: float = 4.0  # ours: their expected photons per pixel
    seed: int = 0  # ours; the authors set none


_NARROW = Config(depth=4, width=16, low_db=-20.0, high_db=6.0, top_low_db=-2.0, top_share=0.5, learning_rate=3e-3)
SMALL = replace(_NARROW, anneal=True, crop=(64, 64), batch=8, steps=250, epochs=40, images=192, size=(128, 128))
"""The reduced net: 0.68 million parameters, 10,000 steps."""
_SOLID = replace(SMALL, dim=3, depth=3, high_db=2.0, top_low_db=-6.0, batch=4, epochs=20)
_TOY = replace(SMALL, depth=3, low_db=-18.0, high_db=0.0, top_share=0.0, augment=False, batch=64, epochs=80)
SHIPPED = {
    "gap-2d": SMALL,
    "gap-2d-mse": replace(SMALL, loss="mse", supervised=True),
    "gap-2d-wide": replace(SMALL, low_db=-40.0, high_db=-5.0, top_low_db=-20.0),
    "gap-3d": replace(_SOLID, crop=(16, 32, 32), images=24, size=(32, 96, 96)),
    "gap-toy": replace(_TOY, data="toy", crop=(8, 8), images=16_384, size=(8, 8)),
}
"""The networks of the registry."""
_DIM = replace(SHIPPED["gap-2d-wide"], depth=3, width=8, crop=(16, 16), size=(16, 16))
DIMMEST = replace(_DIM, mean=1e-3, steps=2000, epochs=10)
"""A training on the dimmest data, most of whose images hold no photon."""


def published(config: Config) -> Config:
    """A shipped configuration at the authors' size and schedule; of the toy prior, as it is."""
    if config.data == "toy":
        return config
    full = replace(config, width=32, top_share=0.0, steps=0, anneal=False, images=64)
    if config.dim == 3:
        crop, size = (64, 64, 64), (64, 128, 128)
        return replace(full, depth=4, batch=8, epochs=30, learning_rate=5e-4, crop=crop, size=size)
    return replace(full, depth=6, batch=16, epochs=2000, learning_rate=1e-4, crop=(256, 256), size=(512, 512))


def photon_loss(log_rates: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of where the target's photons lie, less that of a uniform guess, averaged over the images.

    For one image -mean(r t) / mean(t) + log mean exp(r): 0 for a uniform prediction, negative for a better one, and
    least for r = log E[s / sum s | x] + constant. An image without a photon in its target adds 0. A photon counts the
    same however few there are beside it, so gradients are bounded: at most 2 / B in sum for an image.

    Args:
        log_rates: r, (B, ...): the network's output.
        target: t, the same shape, counts or rates; its scale does not matter.

    Returns:
        A scalar, nats per photon.
    """
    check_shape("target", target, tuple(log_rates.shape))
    r, t = log_rates.flatten(1).float(), target.flatten(1).float()
    total = t.sum(1)
    share = t / total.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    each = r.logsumexp(1) - math.log(r.shape[1]) - (r * share).sum(1)
    return torch.where(total > 0, each, torch.zeros_like(each)).mean()


def mse_loss(log_rates: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of prediction and target, both divided by their means, averaged over the images.

    Targets of less than a photon a pixel are weighted by their mean: of so few photons, t / mean(t) has a variance of
    1 / mean(t), and one photon in an image would outweigh all others.

    Args:
        log_rates: r, (B, ...): the network's output.
        target: t, the same shape, counts or rates.

    Returns:
        A scalar.
    """
    check_shape("target", target, tuple(log_rates.shape))
    r, t = log_rates.flatten(1).float(), target.flatten(1).float()
    mean = t.mean(1, keepdim=True)
    predicted = r.softmax(1) * r.shape[1]
    wanted = t / mean.clamp(min=torch.finfo(torch.float32).tiny)
    return ((predicted - wanted).square().mean(1) * mean[:, 0].clamp(max=1)).mean()


LOSSES = {"photon": photon_loss, "mse": mse_loss}


def build(config: Config) -> UNet:
    """A new net, its weights drawn from the configuration's seed; channels last, which CPUs convolve faster."""
    names = ("dim", "channels", "levels", "depth", "width", "merge", "z_conv_stage")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = UNet(**{name: getattr(config, name) for name in names})
    layout = torch.channels_last if net.dim == 2 else torch.channels_last_3d
    return net.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def simulated(config: Config) -> tuple[Tensor, Tensor]:
    """The configuration's simulated data: counts and truth, each (N, 1, ...).

    Photons are drawn once, as a real data set has them: the training never sees two draws of one truth.

    Raises:
        ValueError: If the data's name is unknown, or their rank is not that of ``dim``.
    """
    check_one_of("data", config.data, ("cells", "toy"))
    if len(config.size) != config.dim:
        raise error("size", f"{config.dim} sides", config.size)
    generator = torch.Generator().manual_seed(config.seed)
    if config.data == "toy":
        prior = toy_prior()
        counts, which = prior.draw(config.images, config.mean, generator)
        return counts, prior.images[which] * prior.images[0].numel() * config.mean
    truth = tissues(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + config.images), config.size, config.mean)
    return torch.poisson(truth, generator=generator), truth


class Training:
    """The network, its optimiser and one training step, for `Networks.train`.

    Args:
        config: What to train, and how.
    """

    parts: tuple[str, ...] = ("model", "optimizer", "scheduler")

    def __init__(self, config: Config) -> None:
        check_one_of("loss", config.loss, LOSSES)
        self.config = config
        self.net = build(config)
        self.model: nn.Module = self.net
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        rates = torch.optim.lr_scheduler
        self.scheduler: Any = rates.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=config.patience)
        if config.anneal:
            self.scheduler = rates.CosineAnnealingLR(self.optimizer, config.epochs)
        self._losses: list[float] = []

    def step(self, fabric: Any, batch: tuple[Tensor, int]) -> dict[str, Tensor]:
        """One step on (counts, seed of the step), counts (B, C, ...), of a supervised net with C channels of truth.

        Logs the loss, and the share of draws that the authors' rule would have capped.
        """
        c = self.config
        images, parts = divided(batch, c)
        target = images[:, c.channels :] if c.supervised else parts.target
        loss = LOSSES[c.loss](self.model(parts.input), target)
        self.optimizer.zero_grad()
        fabric.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), c.clip)
        self.optimizer.step()
        self._losses.append(float(loss.detach()))
        return {"loss": loss, "capped": parts.capped.float().mean()}

    def end_epoch(self, epoch: int) -> None:
        """Step the schedule: by the epoch, or by its mean loss."""
        if self.config.anneal:
            self.scheduler.step()
        else:
            self.scheduler.step(sum(self._losses) / len(self._losses))
        self._losses.clear()


def divided(batch: tuple[Tensor, int], config: Config) -> tuple[Tensor, Split]:
    """A batch turned and mirrored, and its photons divided at random, as the seed that comes with it says."""
    images, seed = batch
    generator = torch.Generator(images.device).manual_seed(seed)
    images = augmented(images, generator) if config.augment else images
    narrow = float(torch.rand((), generator=generator, device=images.device)) < config.top_share
    low_db = config.top_low_db if narrow else config.low_db
    return images, split(images[:, : config.channels], low_db, config.high_db, generator)


def crops(images: Tensor, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
    """One epoch of (crops, seed of the step), from images in random order, again and again if there are many steps.

    Args:
        images: (N, C, ...); where one is smaller than the crop, its whole side is taken.
        config: For ``crop``, ``batch`` and ``steps``.
        generator: On the CPU.
    """
    sides = [min(want, have) for want, have in zip(config.crop, images.shape[2:], strict=True)]
    steps = config.steps or -(-len(images) // config.batch)
    rounds = -(-steps * config.batch // len(images))
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(rounds)])
    for chosen in order[: steps * config.batch].split(config.batch):
        parts = []
        for image in images[chosen]:
            for axis, (side, have) in enumerate(zip(sides, images.shape[2:], strict=True), 1):
                image = image.narrow(axis, int(torch.randint(have - side + 1, (), generator=generator)), side)
            parts.append(image)
        yield torch.stack(parts), int(torch.randint(2**62, (), generator=generator))


def batches(config: Config, given: tuple[Tensor, Tensor | None] | None, folder: Path) -> Batches:
    """Batches of each epoch, of given counts (and, for a supervised net, their truth), or of simulated ones.

    Args:
        config: Data, crops and batches.
        given: Both (N, C, ...). Keep whole stacks aside for testing: neighbouring planes of one stack are no
            independent test. Whether they are counts at all, without gain and offset, tells
            `noisebook.datasets.count_report`. Simulated ones of the configuration if None.
        folder: Not used.

    Raises:
        ValueError: As `check_counts`; a supervised net has no truth, or the crop has not a side for each axis.
    """
    if len(config.crop) != config.dim:
        raise error("crop", f"{config.dim} sides", config.crop)
    counts, truth = given or simulated(config)
    check_counts("counts", counts, config.dim, empty=True)
    images = counts.float()
    if config.supervised:
        if truth is None:
            raise error("truth", "an array, since the net is supervised", "none")
        check_shape("truth", truth, tuple(counts.shape))
        images = torch.cat([images, truth.float()], 1)
    return lambda _, generator: crops(images, config, generator)


def describe(config: Config) -> dict[str, str]:
    """A configuration in words."""
    narrow = f", {config.top_share:.0%} of the batches from {config.top_low_db:g}" if config.top_share else ""
    fall = "falling to zero along a cosine" if config.anneal else f"halved after {config.patience} epochs without gain"
    steps = config.steps or -(-config.images // config.batch)
    return {
        "architecture": f"{config.dim}-D residual U-Net, {config.depth} resolutions, {config.width} base channels (the "
        f"authors: {6 if config.dim == 2 else 4} and 32)",
        "loss": f"{'supervised ' * config.supervised}{config.loss} loss",
        "levels": f"input at {config.low_db:g} to {config.high_db:g} dB{narrow}",
        "optimiser": f"Adam, learning rate {config.learning_rate:g}, {fall}",
        "epochs": f"{config.epochs} epochs of {steps} steps of {config.batch} crops of "
        f"{' x '.join(map(str, config.crop))}",
    }


def training_data(config: Config) -> str:
    """The simulated training data in words."""
    kind = "toy images" if config.data == "toy" else "tissues"
    return f"{config.images} simulated {kind} of {config.mean:g} expected photons a pixel, photons drawn once"


def outcome(net: nn.Module, config: Config) -> Tensor:
    """What a net makes of photons of two held-out tissues, or of the toy images: expected photons, (N, 1, ...)."""
    if config.data == "toy":
        truth = toy_prior().images * (config.mean * toy_prior().images[0].numel())
    else:
        truth = tissues((0, 1), config.crop, config.mean)
    return denoise(cast(UNet, net), torch.poisson(truth, generator=torch.Generator().manual_seed(0)))


def trained_on(config: Config) -> dict[str, weights.Range]:
    """The `brightness` of a configuration's training inputs: those of the first `LOOKED_AT` epochs, drawn once more."""
    images, found = simulated(config)[0], []
    for epoch in range(min(config.epochs, LOOKED_AT)):
        generator = torch.Generator().manual_seed(training.epoch_seed(config.seed, epoch))
        found += [brightness(divided(batch, config)[1].input) for batch in crops(images, config, generator)]
    return {name: weights.span("photons per pixel", (one[name] for one in found)) for name in found[0]}


NETWORKS = Networks(
    chapter="gap",
    shipped=SHIPPED,
    build=build,
    trainee=Training,
    batches=batches,
    describe=describe,
    data=training_data,
    trained_on=trained_on,
    outcome=outcome,
    unit="photons RMS, of 4",
    authors={id: published(config) for id, config in SHIPPED.items()},
    others={"gap-dimmest": DIMMEST},
    course=lambda config: config if config.anneal else replace(config, epochs=1),
)
"""The networks of the chapter."""


def chosen(
    source: str, folder: Path, device: str, seed: int, checkpoint: str
) -> tuple[dict[str, UNet], dict[str, str]]:
    """The five nets of the chapter by id, and the 2-D one in words; see `Networks.chosen`.

    Args:
        source: ``embedded`` or ``train``.
        folder: For the checkpoints of a training.
        device: Where to train, and where the nets are put.
        seed: Of a training.
        checkpoint: A ``.ckpt`` of the authors to take as the 2-D net; none if empty.

    Raises:
        ValueError: As `Networks.chosen` and `of_authors` raise.
    """
    nets = NETWORKS.chosen(source, list(SHIPPED), folder, device=device, seed=seed)
    words = describe((SHIPPED if source == "embedded" else NETWORKS.authors)["gap-2d"])
    if checkpoint:
        nets["gap-2d"] = net = of_authors(checkpoint).to(device)
        size = f"2-D residual U-Net, {net.depth} resolutions, of a checkpoint"
        words = {"architecture": size, "training": "not known"}
    return nets, words


def checked(
    out: str,
    counts_path: str,
    counts_name: str,
    checkpoint_path: str,
    nets: str,
    size: int,
    samples: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "gap", locals())
    used = NETWORKS.check_source("nets", nets)
    check_range("size", size, 16, 1024)
    check_range("samples", samples, 2)
    check_range("seed", seed, 0, FIRST_TRAINING_SEED - 1)  # what is measured is held out
    if counts_name and not counts_path:
        raise error("counts_name", "none without counts_path", repr(counts_name), "Set counts_path too.")
    if counts_path:
        own_counts(counts_path, counts_name)
    if checkpoint_path:
        of_authors(checkpoint_path)
    return f"simulated tissue {seed}", used
