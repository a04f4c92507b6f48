"""FBPConvNet: the network, its training step and the embedded nets.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475. The network is FBPConvNet: K. H. Jin, M. T. McCann, E. Froustey, M. Unser,
"Deep convolutional neural network for inverse problems in imaging", IEEE TIP 26(9), 2017, doi 10.1109/TIP.2017.2713099.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import datasets, embedded, training, weights
from noisebook._checks import check_one_of, check_positive, check_rank, check_real, error
from noisebook.inference import tiled

from . import scans


@dataclass(frozen=True)
class Config:
    """Architecture and training schedule: the paper's where it states them. `EMBEDDED` is what this book ships."""

    channels: int = 64  # not stated; from FBPConvNet and the authors' code
    levels: int = 5  # not stated; from the authors' code
    loss: str = "mse"  # the paper: MSE; its last experiment: L1
    label: str = "noise free"  # the paper: noise-free full-view FBP; the authors' code: full dose
    stages: tuple[tuple[int, int], ...] = ((64, 600), (128, 200), (256, 200))  # the paper: (patch, epochs)
    patches: int = 1  # patches a slice and epoch at the first stage; not stated; ours
    batch: int = 16  # at the first stage; not stated; ours
    learning_rate: float = 1e-3  # not stated; ours, falling to a hundredth by a cosine
    exposure: str = ""  # of `scans.EXPOSURES`: the paper's sparse-view scans; none: the archive's low-dose images
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
EMBEDDED = {
    "linearized-quarter": Config(channels=11, stages=((64, 50), (128, 15), (256, 10)), patches=12),
    "linearized-i0": _SCANS,
    "linearized-i0-10": replace(_SCANS, exposure="I0/10"),
    "linearized-i0-100": replace(_SCANS, exposure="I0/100"),
    "linearized-i0-l1": replace(_SCANS, loss="l1"),
    "linearized-i0-seed1": replace(_SCANS, seed=1),
    "linearized-i0-seed2": replace(_SCANS, seed=2),
}
"""The embedded nets by registry id: 11 or 8 base channels in place of 64, and a schedule that two CPU cores manage."""


class _Block(nn.Sequential):
    """Twice: convolution 3x3, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for first in (inputs, outputs):
            layers += [
                nn.Conv2d(first, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class FBPConvNet(nn.Module):
    """A U-Net with a global residual: image + U-Net(image), (B, 1, Y, X) in HU.

    Args:
        channels: Width of the first level; it doubles at each level.
        levels: Number of resolutions, five in the paper.

    Source: Jin et al. 2017; zero padding, max-pooling 2x2, transposed convolution 2x2, final convolution 1x1.
    """

    SCALE_HU = 200.0
    """Images are divided by this before the U-Net and its output is multiplied by it (ours)."""

    def __init__(self, channels: int = 64, levels: int = 5) -> None:
        check_positive("channels", channels)
        check_positive("levels", levels)
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_Block(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    @property
    def stride(self) -> int:
        """The pooling grid in pixels: image sides, and corners of crops, must be multiples of it."""
        return 1 << (len(self.down) - 1)

    @property
    def halo(self) -> int:
        """Pixels around an output pixel's stride-aligned block beyond which nothing influences it."""
        s = self.stride
        reach = -(-2 * (s - 1) // s) * s  # of the convolutions on the way up, and again down, on the coarsest grid
        return 2 * reach + 2 * s

    def forward(self, image: Tensor) -> Tensor:
        """Denoise (B, 1, Y, X), HU; both sides must be multiples of `stride`."""
        check_rank("image", image, 4, "(B, 1, Y, X)")
        if image.shape[1] != 1 or image.shape[2] % self.stride or image.shape[3] % self.stride:
            raise error("image", f"(B, 1, Y, X) with Y and X multiples of {self.stride}", tuple(image.shape), "Pad it.")
        x = image / self.SCALE_HU
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for skip, up, merge in zip(reversed(skips[:-1]), self.up, self.merge, strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return image + self.SCALE_HU * cast(Tensor, self.last(x))


def _fast(net: FBPConvNet) -> FBPConvNet:
    """The net with its weights laid out channels last, in which CPUs convolve twice as fast."""
    return cast(FBPConvNet, net.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


class Training:
    """The network, its optimiser and one training step, for `noisebook.training.fit`."""

    parts: tuple[str, ...] = ("model", "optimizer", "scheduler")

    def __init__(self, config: Config) -> None:
        check_one_of("loss", config.loss, ("mse", "l1"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = FBPConvNet(config.channels, config.levels)
        self.model: nn.Module = _fast(net)
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


def batches(
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


def train(config: Config, root: Path, patients: Iterable[str], folder: Path, device: str = "auto") -> FBPConvNet:
    """Train a net on patients of a CT archive, real or simulated; goes on from the newest checkpoint.

    Args:
        config: Width, loss, label, exposure and schedule.
        root: The archive, as for `noisebook.datasets.ct_pairs`.
        patients: Those to train on.
        folder: For checkpoints and the log; beside it lie the scans, which nets of several exposures share.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The net on the CPU, in evaluation mode.
    """
    trainee, chosen = Training(config), list(patients)
    images = cache(lambda: _training_images(config, root, chosen, folder.parent))  # a finished net needs none

    def of_epoch(epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(*images(), config, epoch, generator)

    training.fit(trainee, of_epoch, epochs=config.epochs, folder=folder, seed=config.seed, device=device)
    net = FBPConvNet(config.channels, config.levels)
    return weights.into(net, {name: value.cpu() for name, value in trainee.model.state_dict().items()}).eval()


def _training_images(
    config: Config, root: Path, patients: list[str], folder: Path
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and labels, N of (Y, X), HU: the archive's low-dose images, or scans simulated from its labels."""
    if config.exposure:
        scanned = scans.training_scans(root, patients, config.label, folder)
        low = scans.noisy_inputs(scanned, config.exposure, config.seed)
        return [image for some in low for image in some], [image for some in scanned for image in some.labels]
    pairs = [datasets.ct_pairs(root, patient, label=config.label) for patient in patients]
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
        if scans.square_grid(size, pixel_mm).pixels < side:
            got = f"{size[0]} x {size[1]} of a patient to train on"
            raise error("net=train", f"slices from {side} x {side} pixels on, the largest patch", got)


def train_embedded(folder: Path, names: Iterable[str] | None = None, device: str = "auto") -> None:
    """Train the embedded nets on the simulated training patients and enter them into the registry.

    Args:
        folder: For checkpoints, in a subfolder named by net, configuration and data; goes on from the newest.
        names: Registry ids; all of `EMBEDDED` if None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: If a name is not in `EMBEDDED`.
    """
    chosen = list(EMBEDDED if names is None else names)
    for name in chosen:
        check_one_of("name", name, EMBEDDED)
    root = embedded.embedded_ct(embedded.TRAIN)
    patients = datasets.ct_patients(root)
    for name in chosen:
        config = EMBEDDED[name]
        net = train(config, root, patients, checkpoints(folder, name, config), device)
        _register(name, config, net, torch.stack(_training_images(config, root, patients, folder)[0]).numpy())


def checkpoints(folder: Path, name: str, config: Config) -> Path:
    """Where the checkpoints of an embedded net lie: those of another configuration or of other data lie elsewhere."""
    dose = scans.EXPOSURES.get(config.exposure)
    known = hashlib.sha256(f"{embedded.TRAIN.id} {config} {dose}".encode()).hexdigest()
    return folder / f"{name}-{known[:8]}"


def _register(name: str, config: Config, net: FBPConvNet, inputs: np.ndarray) -> None:
    """Store it in half precision, described for its model card, with the range of its training inputs, (N, Y, X) HU."""
    stages = ", ".join(f"{count} epochs of {size} x {size}" for size, count in config.stages)
    recipe = embedded.TRAIN
    examples, spacing = inputs[: recipe.slices], recipe.grid.spacing_mm
    weights.embed(
        name,
        net,
        lambda net: torch.from_numpy(denoise(net, examples)),
        f"HU RMS over {len(examples)} slices",
        chapter="linearized",
        architecture=f"FBPConvNet, {config.levels} levels, {config.channels} base channels (the paper: 64)",
        config={k: v for k, v in asdict(config).items() if k in ("channels", "levels", "loss", "label", "exposure")},
        schedule=f"{config.loss.upper()} against {config.label} images; Adam, learning rate {config.learning_rate:g} "
        f"falling by a cosine; patches: {stages}",
        training_data=f"{recipe.id}: {len(recipe.patients)} simulated patients, {recipe.slices} slices each, "
        + (f"sparse-view scans at exposure {config.exposure}" if config.exposure else f"{recipe.low_share:.0%} dose"),
        trained_on={"value": weights.span("HU", [inputs]), "spacing": weights.Range("mm", spacing, spacing)},
        seed=config.seed,
    )


def load(name: str = "linearized-quarter", device: str = "cpu") -> FBPConvNet:
    """An embedded net, verified, in evaluation mode.

    Raises:
        ValueError: If the name is not in the registry, or the file is not the registered one.
    """
    config = weights.metadata(name).config
    return _fast(weights.restored(name, FBPConvNet(config["channels"], config["levels"]))).to(device)


def denoise(model: FBPConvNet, hu: np.ndarray, spacing_mm: float | None = None) -> np.ndarray:
    """Denoise slices (Z, Y, X) in HU of any size, one by one, in tiles; the same shape, float32.

    An embedded net warns of HU or pixels outside of what it was trained on; the output is then cut to the input's
    range.

    Args:
        model: The net.
        hu: The slices.
        spacing_mm: Side of the pixels, if known.
    """
    check_real("hu", hu)
    check_rank("hu", hu, 3, "(Z, Y, X)")
    device = next(model.parameters()).device
    stride, tile = model.stride, max(512 // model.stride, 1) * model.stride
    outputs = [
        tiled(model, torch.from_numpy(s).float()[None, None].to(device), tile=tile, halo=model.halo, stride=stride)
        for s in hu
    ]
    found: np.ndarray = torch.cat(outputs)[:, 0].cpu().numpy()
    outside = weights.warn_outside(model, value=hu, spacing=spacing_mm)
    return found.clip(hu.min(), hu.max()) if outside else found


def exposure_nets(
    net: str, label: str, root: Path, patients: Iterable[str], folder: Path, device: str = "auto"
) -> dict[str, FBPConvNet]:
    """A net for each of the paper's exposures: the embedded ones, or the paper's size trained here.

    Args:
        net: ``train`` trains them on all but the test patients; anything else loads the embedded ones.
        label: The images that are scanned for training, as in `Config`.
        root: The archive.
        patients: All its patients.
        folder: For checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    names = {"I0": "linearized-i0", "I0/10": "linearized-i0-10", "I0/100": "linearized-i0-100"}
    if net != "train":
        return {exposure: load(name) for exposure, name in names.items()}
    chosen = datasets.split(patients)[0]
    configs = {exposure: Config(label=label, exposure=exposure) for exposure in names}
    return {
        exposure: train(config, root, chosen, checkpoints(folder, names[exposure], config), device)
        for exposure, config in configs.items()
    }
