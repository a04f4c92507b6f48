"""Training of the photon-predicting U-Net, and the embedded nets.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from noisebook import _paths, training, weights
from noisebook._checks import check_one_of, check_shape, error
from noisebook.phantoms import Cells

from .counts import Split, augmented, brightness, check_counts, mse_loss, photon_loss, split
from .network import UNet
from .sample import denoise
from .toy import toy_prior

FIRST_TRAINING_SEED = 1000
"""Tissues for training have seeds from here on; those below are held out."""
LOOKED_AT = 8
"""Epochs that tell how bright a training's inputs are; 16,000 crops of the embedded 2-D net."""
LOSSES = {"photon": photon_loss, "mse": mse_loss}


@dataclass(frozen=True)
class Config:
    """Network, data and schedule; the defaults are the authors' in 2-D. `EMBEDDED` is what this book ships."""

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


SMALL = Config(
    depth=4,
    width=16,
    low_db=-20.0,
    high_db=6.0,
    top_low_db=-2.0,
    top_share=0.5,
    crop=(64, 64),
    batch=8,
    steps=250,
    epochs=40,
    learning_rate=3e-3,
    anneal=True,
    images=192,
    size=(128, 128),
)
"""The reduced net: 0.68 million parameters, 10,000 steps."""
EMBEDDED = {
    "gap-2d": SMALL,
    "gap-2d-mse": replace(SMALL, loss="mse", supervised=True),
    "gap-2d-wide": replace(SMALL, low_db=-40.0, high_db=-5.0, top_low_db=-20.0),
    "gap-3d": replace(
        SMALL,
        dim=3,
        depth=3,
        high_db=2.0,
        top_low_db=-6.0,
        crop=(16, 32, 32),
        batch=4,
        epochs=20,
        images=24,
        size=(32, 96, 96),
    ),
    "gap-toy": replace(
        SMALL,
        depth=3,
        low_db=-18.0,
        high_db=0.0,
        top_share=0.0,
        augment=False,
        crop=(8, 8),
        batch=64,
        epochs=80,
        data="toy",
        images=16_384,
        size=(8, 8),
    ),
}
"""The embedded nets by registry id."""


def build(config: Config) -> UNet:
    """A new net of a configuration, its weights drawn from the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        settings = ("dim", "channels", "levels", "depth", "width", "merge", "z_conv_stage")
        return _fast(UNet(**{name: getattr(config, name) for name in settings}))


def _fast(net: UNet) -> UNet:
    """The net with its weights laid out channels last, in which CPUs convolve faster."""
    layout = torch.channels_last if net.dim == 2 else torch.channels_last_3d
    return cast(UNet, net.to(memory_format=layout))  # type: ignore[call-overload]


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


def tissues(seeds: Iterable[int], size: tuple[int, ...], mean: float) -> Tensor:
    """Planes or stacks of simulated tissue, one a seed: (N, 1, ...), expected photons."""
    planes = [Cells(k).image(size, mean) if len(size) == 2 else Cells(k).volume(size, mean) for k in seeds]  # type: ignore[arg-type]
    return torch.stack(planes)[:, None]


class Training:
    """The network, its optimiser and one training step, for `noisebook.training.fit`.

    Args:
        config: What to train, and how.
    """

    parts: tuple[str, ...] = ("model", "optimizer", "scheduler")

    def __init__(self, config: Config) -> None:
        check_one_of("loss", config.loss, LOSSES)
        self.config = config
        self.model: nn.Module = build(config)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        rates = torch.optim.lr_scheduler
        self.scheduler: Any = (
            rates.CosineAnnealingLR(self.optimizer, config.epochs)
            if config.anneal
            else rates.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=config.patience)
        )
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


def trained_on(config: Config, counts: Tensor | None = None) -> dict[str, weights.Range]:
    """The `brightness` of a configuration's training inputs: those of the first `LOOKED_AT` epochs, drawn once more.

    Args:
        config: Data, levels, crops and epochs.
        counts: (N, C, ...); simulated ones of the configuration if None.
    """
    images = simulated(config)[0] if counts is None else counts
    found = []
    for epoch in range(min(config.epochs, LOOKED_AT)):
        generator = torch.Generator().manual_seed(training.epoch_seed(config.seed, epoch))
        found += [brightness(divided(batch, config)[1].input) for batch in batches(images, config, generator)]
    return {name: weights.span("photons per pixel", (one[name] for one in found)) for name in found[0]}


def batches(images: Tensor, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
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
        crops = []
        for image in images[chosen]:
            for axis, (side, have) in enumerate(zip(sides, images.shape[2:], strict=True), 1):
                image = image.narrow(axis, int(torch.randint(have - side + 1, (), generator=generator)), side)
            crops.append(image)
        yield torch.stack(crops), int(torch.randint(2**62, (), generator=generator))


def train(
    config: Config,
    folder: Path,
    counts: Tensor | None = None,
    truth: Tensor | None = None,
    device: str = "auto",
    progress: bool = True,
) -> UNet:
    """Train a net; goes on from the newest checkpoint, and a finished net is not trained again.

    Args:
        config: Network, data and schedule.
        folder: For checkpoints and the log.
        counts: (N, C, ...), photon counts; simulated ones of the configuration if None. Keep whole stacks aside for
            testing: neighbouring planes of one stack are no independent test. Whether they are counts at all, without
            gain and offset, tells `noisebook.datasets.count_report`.
        truth: (N, C, ...), for a supervised net, with ``counts``.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: Show a progress bar.

    Returns:
        The net on the CPU, in evaluation mode.

    Raises:
        ValueError: As `check_counts`; if a supervised net has no truth, or a setting is not a possible one.
        FloatingPointError: If the loss is not finite.
    """
    if len(config.crop) != config.dim:
        raise error("crop", f"{config.dim} sides", config.crop)
    trainee = Training(config)
    if counts is None:
        counts, truth = simulated(config)
    check_counts("counts", counts, config.dim, empty=True)
    images = counts.float()
    if config.supervised:
        if truth is None:
            raise error("truth", "an array, since the net is supervised", "none")
        check_shape("truth", truth, tuple(counts.shape))
        images = torch.cat([images, truth.float()], 1)

    def of_epoch(_: int, generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
        return batches(images, config, generator)

    settings: dict[str, Any] = {"epochs": config.epochs, "folder": folder, "seed": config.seed}
    training.fit(trainee, of_epoch, **settings, device=device, progress=progress)
    state = {name: value.cpu() for name, value in trainee.model.state_dict().items()}
    return weights.into(build(config), state).eval()


def checkpoints(folder: Path, name: str, config: Config) -> Path:
    """Where a net's checkpoints lie: more epochs go on from fewer, unless the rate's way depends on their number."""
    known = hashlib.sha256(f"{config if config.anneal else replace(config, epochs=1)}".encode()).hexdigest()
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
        register(name, config, train(config, checkpoints(folder, name, config), device=device))


def register(name: str, config: Config, net: UNet, data: Path = _paths.DATA) -> None:
    """Store a net in half precision, measure what that changes, and describe it for its model card.

    Args:
        name: Registry id.
        config: What it was trained with.
        net: In evaluation mode, on the CPU; its weights become the stored ones.
        data: The folder of the registry.
    """
    if config.data == "toy":
        truth = toy_prior().images * (config.mean * toy_prior().images[0].numel())
    else:
        truth = tissues((0, 1), config.crop, config.mean)
    counts = torch.poisson(truth, generator=torch.Generator().manual_seed(0))
    kept = asdict(config)
    keys = ("dim", "channels", "levels", "depth", "width", "merge", "z_conv_stage", "low_db", "high_db", "mean")
    narrow = f", {config.top_share:.0%} of the batches from {config.top_low_db:g}" if config.top_share else ""
    sides = " x ".join(map(str, config.crop))
    weights.embed(
        name,
        net,
        lambda net: denoise(net, counts),
        f"photons RMS, of {config.mean:g}",
        chapter="gap",
        architecture=f"{config.dim}-D residual U-Net, {config.depth} resolutions, {config.width} base channels (the "
        f"authors: {6 if config.dim == 2 else 4} and 32)",
        config={key: kept[key] for key in keys if kept[key] is not None},
        schedule=f"{'supervised ' * config.supervised}{config.loss} loss; input at {config.low_db:g} to "
        f"{config.high_db:g} dB{narrow}; Adam, learning rate {config.learning_rate:g}, falling "
        f"to zero along a cosine; {config.epochs} epochs of {config.steps} steps of {config.batch} crops of "
        f"{sides}",
        training_data=f"{config.images} simulated {'toy images' if config.data == 'toy' else 'tissues'} of "
        f"{config.mean:g} expected photons a pixel, photons drawn once",
        trained_on=trained_on(config),
        seed=config.seed,
        data=data,
    )


def load(name: str, device: str = "cpu", data: Path = _paths.DATA) -> UNet:
    """An embedded net, verified, in evaluation mode.

    Args:
        name: Registry id, one of `EMBEDDED`.
        device: Where to put it.
        data: The folder of the registry.

    Raises:
        ValueError: If the name is not in the registry, or the file is not the registered one.
    """
    config = weights.metadata(name, data).config
    settings = {key: config[key] for key in ("dim", "channels", "levels", "depth", "width", "merge")}
    net = UNet(**settings, z_conv_stage=config.get("z_conv_stage"))
    return _fast(weights.restored(name, net, data)).to(device)
