"""The training of FBPConvNet, and the networks that ship with the book.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import datasets, simulated, weights
from noisebook._checks import check_one_of, error
from noisebook._parameters import check_opening
from noisebook.networks import Batches, Networks

from . import data
from .model import FBPConvNet, denoise


@dataclass(frozen=True)
class Config:
    """Architecture and training schedule: the paper's where it states them. `SHIPPED` is what this book ships."""

    channels: int = 64  # not stated; from FBPConvNet and the authors' code
    levels: int = 5  # not stated; from the authors' code
    loss: str = "mse"  # the paper: MSE; its last experiment: L1
    label: str = "noise free"  # the paper: noise-free full-view FBP; the authors' code: full dose
    stages: tuple[tuple[int, int], ...] = ((64, 600), (128, 200), (256, 200))  # the paper: (patch, epochs)
    patches: int = 1  # patches a slice and epoch at the first stage; not stated; ours
    batch: int = 16  # at the first stage; not stated; ours
    learning_rate: float = 1e-3  # not stated; ours, falling to a hundredth by a cosine
    exposure: str = ""  # of `data.EXPOSURES`: the paper's sparse-view scans; none: the archive's low-dose images
    seed: int = 0  # ours

    @property
    def epochs(self) -> int:
        """All epochs of all stages."""
        return sum(count for _, count in self.stages)

    def patch(self, epoch: int) -> int:
        """The patch size, in pixels, of an epoch counted from 0."""
        for size, count in self.stages:
            if epoch < count:
                return size
            epoch -= count
        return self.stages[-1][0]


_SCANS = Config(channels=8, stages=((64, 40), (128, 12), (256, 8)), patches=12, exposure="I0")
SHIPPED = {
    "linearized-quarter": Config(channels=11, stages=((64, 50), (128, 15), (256, 10)), patches=12),
    "linearized-i0": _SCANS,
    "linearized-i0-10": replace(_SCANS, exposure="I0/10"),
    "linearized-i0-100": replace(_SCANS, exposure="I0/100"),
    "linearized-i0-l1": replace(_SCANS, loss="l1"),
    "linearized-i0-seed1": replace(_SCANS, seed=1),
    "linearized-i0-seed2": replace(_SCANS, seed=2),
}
"""The networks of the registry: 11 or 8 base channels in place of 64, and a schedule that two CPU cores manage."""


@dataclass(frozen=True)
class Patients:
    """What a network is trained on.

    Attributes:
        root: A CT archive, real or simulated, as for `noisebook.datasets.ct_pairs`.
        patients: Those to train on.
    """

    root: Path
    patients: tuple[str, ...]


def build(config: Config) -> FBPConvNet:
    """A new network, its weights drawn from the configuration's seed; channels last, which CPUs convolve faster."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = FBPConvNet(config.channels, config.levels)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Training:
    """The network, its optimiser and one training step, for `Networks.train`."""

    parts: tuple[str, ...] = ("model", "optimizer", "scheduler")

    def __init__(self, config: Config) -> None:
        check_one_of("loss", config.loss, ("mse", "l1"))
        self.net = build(config)
        self.model: nn.Module = self.net
        self.loss = F.mse_loss if config.loss == "mse" else F.l1_loss
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, config.epochs, eta_min=config.learning_rate / 100
        )

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (input, label), both (B, 1, Y, X) in HU. Logs the loss in units of `FBPConvNet.SCALE_HU`."""
        noisy, label = batch
        scale = FBPConvNet.SCALE_HU
        loss = self.loss(self.model(noisy) / scale, label / scale)
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss}

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate."""
        self.scheduler.step()


def patches(
    noisy: Sequence[Tensor] | Tensor,
    label: Sequence[Tensor] | Tensor,
    config: Config,
    epoch: int,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random patches of one epoch, turned and mirrored, as (input, label) of (B, 1, size, size) in HU.

    Args:
        noisy: All training slices, N of (Y, X), HU; they may differ in size.
        label: Their labels, of the same shapes.
        config: Patch sizes, batch and number of patches; both fall as the patch grows, by the same area.
        epoch: Counted from 0.
        generator: Chooses slices, places and turns.
    """
    size = config.patch(epoch)
    share = (size / config.stages[0][0]) ** 2
    batch = max(1, round(config.batch / share))
    count = max(1, round(config.patches * len(noisy) / share / batch))
    for _ in range(count):
        pairs = torch.stack([_patch(noisy, label, size, generator) for _ in range(batch)], 1)
        yield pairs[0][:, None], pairs[1][:, None]


def _patch(
    noisy: Sequence[Tensor] | Tensor, label: Sequence[Tensor] | Tensor, size: int, generator: torch.Generator
) -> Tensor:
    """One random patch of both, (2, size, size), under one of the eight symmetries of the square."""

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    index = draw(len(noisy))
    top, left = (draw(side - size + 1) for side in noisy[index].shape)
    pair = torch.stack([images[index][top : top + size, left : left + size] for images in (noisy, label)])
    pair = torch.rot90(pair, draw(4), (1, 2))
    return pair.flip(2) if draw(2) else pair


def batches(config: Config, given: Patients | None, folder: Path) -> Batches:
    """Batches of each epoch, of given patients or of the embedded ones; simulated scans are kept beside ``folder``."""
    images = cache(lambda: training_images(config, given or embedded_patients(), folder.parent))  # when first needed

    def of_epoch(epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        return patches(*images(), config, epoch, generator)

    return of_epoch


def embedded_patients() -> Patients:
    """The simulated training patients."""
    root = simulated.embedded_ct(simulated.TRAIN)
    return Patients(root, tuple(datasets.ct_patients(root)))


def training_images(config: Config, given: Patients, folder: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and labels, N of (Y, X), HU: the archive's low-dose images, or scans simulated from its labels."""
    if config.exposure:
        scanned = data.training_scans(given.root, given.patients, config.label, folder)
        low = data.noisy_inputs(scanned, config.exposure, config.seed)
        return [image for some in low for image in some], [image for some in scanned for image in some.labels]
    pairs = [datasets.ct_pairs(given.root, patient, label=config.label) for patient in given.patients]
    both = [[torch.from_numpy(one) for p in pairs for one in getattr(p, name)] for name in ("low", "label")]
    return both[0], both[1]


def check_trainable(net: str, root: Path, patients: Iterable[str], label: str) -> None:
    """Raise before anything is trained, from headers alone, if the paper's training cannot run on an archive.

    Patients may differ in size and pixel size: each is scanned on a grid of its own.

    Args:
        net: Only ``train`` trains.
        root: The archive.
        patients: All its patients; those that test are not trained on.
        label: As in `Config`.

    Raises:
        ValueError: If there is no patient to train on, or one whose slices are not square or smaller than a patch.
    """
    if net != "train":
        return
    training_patients, side = datasets.split(patients)[0], max(size for size, _ in Config.stages)
    if not training_patients:
        raise error("net=train", "at least two patients, of which one tests", "one")
    for size, pixel_mm in datasets.ct_grids(root, training_patients, label=label):
        if data.square_grid(size, pixel_mm).pixels < side:
            got = f"{size[0]} x {size[1]} of a patient to train on"
            raise error("net=train", f"slices from {side} x {side} pixels on, the largest patch", got)


def describe(config: Config) -> dict[str, str]:
    """A configuration in words."""
    stages = ", ".join(f"{count} epochs of {size} x {size}" for size, count in config.stages)
    return {
        "architecture": f"FBPConvNet, {config.levels} levels, {config.channels} base channels (the paper: 64)",
        "loss": f"{config.loss.upper()} against {config.label} images",
        "optimiser": f"Adam, learning rate {config.learning_rate:g} falling by a cosine",
        "patches": f"patches: {stages}",
    }


def training_data(config: Config) -> str:
    """The embedded training data in words, with the scan that is simulated from them."""
    recipe = simulated.TRAIN
    seen = f"sparse-view scans at exposure {config.exposure}" if config.exposure else f"{recipe.low_share:.0%} dose"
    return f"{recipe.id}: {len(recipe.patients)} simulated patients, {recipe.slices} slices each, {seen}"


def outcome(net: nn.Module, config: Config) -> Tensor:
    """What a network makes of the slices of one training patient, (Z, Y, X), HU."""
    given = embedded_patients()
    first = Patients(given.root, given.patients[:1])
    noisy = torch.stack(training_images(config, first, Path("build/training"))[0])
    return torch.from_numpy(denoise(cast(FBPConvNet, net), noisy.numpy()))


def trained_on(config: Config) -> dict[str, weights.Range]:
    """The range of the embedded training inputs, and the side of their pixels."""
    noisy, _ = training_images(config, embedded_patients(), Path("build/training"))
    side = simulated.TRAIN.grid.spacing_mm
    return {"value": weights.span("HU", noisy), "spacing": weights.Range("mm", side, side)}


NETWORKS = Networks(
    chapter="linearized",
    shipped=SHIPPED,
    build=build,
    trainee=Training,
    batches=batches,
    describe=describe,
    data=training_data,
    trained_on=trained_on,
    outcome=outcome,
    unit="HU RMS over the slices of a patient",
    course=lambda config: (config, data.EXPOSURES.get(config.exposure)),
)
"""The networks of the chapter."""


def exposure_networks(
    net: str, label: str, given: Patients, folder: Path, device: str = "auto"
) -> dict[str, FBPConvNet]:
    """A network for each of the paper's exposures: the embedded ones, or the paper's size trained here.

    Args:
        net: ``train`` trains them; anything else loads the embedded ones.
        label: The images that are scanned for training, as in `Config`.
        given: Those to train on.
        folder: For checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    names = {"I0": "linearized-i0", "I0/10": "linearized-i0-10", "I0/100": "linearized-i0-100"}
    if net != "train":
        return {exposure: NETWORKS.load(name) for exposure, name in names.items()}
    configs = {exposure: Config(label=label, exposure=exposure) for exposure in names}
    return {
        exposure: NETWORKS.train(
            config, NETWORKS.checkpoints(folder, names[exposure], config), given, device=device
        ).net
        for exposure, config in configs.items()
    }


def checked(
    out: str,
    data_root: str,
    recipe: str,
    net: str,
    label: str,
    prefix: str,
    probe: list[int],
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Of an archive, the last patient is read, and the headers of all others that test or, if it trains, are trained on.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "linearized", locals())
    check_one_of("net", net, (*SHIPPED, "train"))
    check_one_of("label", label, ("full", "noise free"))
    chosen = simulated.named(recipe)
    count, shape, name = len(chosen.patients), (chosen.slices, chosen.pixels, chosen.pixels), f"{chosen.id} (simulated)"
    if data_root:
        patients = datasets.ct_patients(data_root, prefix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told where all patients are read
            pair = datasets.ct_pairs(data_root, patients[-1], label=label)
        data.grid_of(pair)
        for grid in datasets.ct_grids(data_root, patients[-datasets.TEST_PATIENTS : -1], label=label):
            data.square_grid(*grid)
        count, shape, name = len(patients), pair.low.shape, Path(data_root).resolve().name
    elif prefix:
        raise error("prefix", "none, for simulated patients", repr(prefix), "Set data_root too.")
    data.probe_pixel(np.broadcast_to(0.0, shape[1:]), *data.probe_place(probe, shape)[1:], margin=32)
    if net == "train" and count <= (tests := datasets.TEST_PATIENTS):
        remedy = "Take a larger archive, or recipe=train."
        raise error("net=train", f"patients beside the {tests} that test", f"{count} in all", remedy)
    if data_root:
        check_trainable(net, Path(data_root), patients, label)
    return name, net
