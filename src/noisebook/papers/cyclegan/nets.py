"""Trained nets of the CycleGAN chapter: training them, the embedded ones, loading.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import _paths, datasets, embedded, training, weights
from noisebook._checks import check_one_of, error

from .crops import batches
from .network import INIT, Nets
from .scans import Domains, Scans, check_apart, domains, read_archive
from .training import Config, PairedTraining, Training, generator
from .watch import Watch, denoise

AUTHORS = Config()
"""The course project: 65 epochs, the generators' learning rate falls in steps, no image buffer."""
ZHU = Config(epochs=200, schedule="linear", buffer=50, batch=1)
"""Zhu et al.: 100 epochs at a constant rate and 100 falling linearly to zero, a buffer of 50 images, batches of one."""
VALIDATION = 5
"""The last so many training patients choose the epoch and are not trained on."""
_SMALL = replace(ZHU, width=8, blocks=2, last=INIT / 100, scale_hu=100.0, learning_rate=4e-4, epochs=16, crops=2)
_SMALL = replace(_SMALL, critic=16, precision="bfloat16")
SMALL = replace(_SMALL, pairing="patients", critics="windowed", looks=4)
"""The reduced CycleGAN: a quarter of both widths, two of six blocks, and patients of whom one dose only is seen.

It starts near the identity and changes an image by at most 100 HU, so that it learns in fewer steps. Its discriminators
see the abdominal window without instance normalisation, which hides how strong noise is, four times as many crops.
"""
TWIN = replace(_SMALL, pairing="registered", every=2, batch=2)
"""The same generator trained by L1 on registered pairs: of as many slices of each dose."""
SHIFTED = replace(TWIN, shift=8)
"""The same on pairs of which one is up to 8 pixels, 6 mm, aside along both axes."""
EMBEDDED = {"cyclegan-small": SMALL, "cyclegan-paired": TWIN, "cyclegan-shifted": SHIFTED}
"""The embedded nets by registry id."""
KEPT = ("width", "blocks", "scale_hu", "pairing", "shift")
GAME = ("lambda_cycle", "lambda_identity", "critics", "looks")
"""What the registry keeps of a configuration, and besides of one that is not supervised."""


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        nets: The generators of the chosen epoch, on the CPU, in evaluation mode.
        epoch: The chosen one, counted from 0: the best on the validation slices, or the last.
        scores: RMSE of the denoiser against the full dose, HU, (epochs,), by the names of the watched slices.
        losses: What the steps logged, (epochs,), by name.
    """

    nets: Nets
    epoch: int
    scores: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]


def train(
    config: Config,
    data: Domains,
    folder: Path,
    watched: Mapping[str, Scans] | None = None,
    device: str = "auto",
    samples: bool = True,
) -> Trained:
    """Train nets; goes on from the newest checkpoint, and a finished training is only read.

    Args:
        config: What to train, and how.
        data: The training slices, as `domains` gives them for ``config.pairing``.
        folder: For checkpoints, the log and sample images.
        watched: Slices to score after each epoch, by name; the first is the validation and chooses the epoch. Whether
            they are apart from the training is for the caller to check, with `check_apart`.
        device: ``auto``, ``cpu`` or ``cuda``.
        samples: Keep a picture an epoch in ``folder``.

    Raises:
        FloatingPointError: If a loss is not finite.
        ValueError: If the data are registered and the configuration is not, or the reverse; or slices are too small.
    """
    if data.registered != config.supervised:
        wanted = "registered pairs" if config.supervised else "doses apart"
        raise error("data", f"{wanted}, for pairing {config.pairing!r}", "the other kind", "Take cyclegan.domains.")
    watch = Watch(watched or {}, folder / "samples" if samples else None)
    trainee: Training | PairedTraining = (PairedTraining if config.supervised else Training)(config, watch)

    def of_epoch(_: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(data, config, random)

    log = training.fit(trainee, of_epoch, epochs=config.epochs, folder=folder, seed=config.seed, device=device)
    nets = _nets(config, watch.best)
    scores = np.array(watch.scores).reshape(len(watch.scores), len(watch.slices))
    return Trained(
        nets,
        watch.epoch,
        {name: scores[:, k] for k, name in enumerate(watch.slices)},
        {name: np.array([row[name] for row in log]) for name in log[0]},
    )


def _nets(config: Config, states: Mapping[str, Mapping[str, Tensor]]) -> Nets:
    """The generators of a configuration with their weights, by the names ``q2f`` and, if there is one, ``f2q``."""
    found = {name: weights.into(generator(config), state).eval() for name, state in states.items()}
    return Nets(found["q2f"], found.get("f2q"))


def embedded_scans() -> tuple[Scans, Scans]:
    """The simulated training patients: (those to train on, one slice of each validation patient).

    The training patients are the first 40, each with 4 slices; both doses of each are there.
    """
    root = embedded.embedded_ct(embedded.TRAIN)
    patients = datasets.ct_patients(root)
    last = read_archive(root, patients[-VALIDATION:])
    chosen = last.of(last.patients.index(patient) for patient in patients[-VALIDATION:])
    return read_archive(root, patients[:-VALIDATION]), chosen


def embedded_test(label: str = "full", recipe: embedded.CtRecipe = embedded.TEST) -> Scans:
    """The simulated test patients at quarter dose, beside full dose or (``noise free``) the truth."""
    root = embedded.embedded_ct(recipe)
    return read_archive(root, datasets.ct_patients(root), label=label)


def watched_scans(validation: Scans, test: Scans) -> dict[str, Scans]:
    """What trainings on the simulated patients are scored on: the validation, which chooses, and a slice a patient."""
    first = sorted(test.patients.index(patient) for patient in set(test.patients))
    return {"validation": validation, "test": test.of(first)}


def checkpoints(folder: Path, config: Config, data: str = "") -> Path:
    """Where the checkpoints of a net lie: those of another configuration or of other data lie elsewhere."""
    known = hashlib.sha256(f"{data or embedded.TRAIN.id} {config}".encode()).hexdigest()
    return folder / f"{config.pairing}-{known[:8]}"


def train_embedded(folder: Path, names: Iterable[str] | None = None, device: str = "auto") -> None:
    """Train the embedded nets on the simulated training patients and enter them into the registry.

    Args:
        folder: For checkpoints, in a subfolder named by configuration and data; goes on from the newest.
        names: Registry ids; all of `EMBEDDED` if None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: If a name is not in `EMBEDDED`.
    """
    chosen = list(EMBEDDED if names is None else names)
    for name in chosen:
        check_one_of("name", name, EMBEDDED)
    scans, validation = embedded_scans()
    watched = watched_scans(validation, embedded_test())
    check_apart(scans, watched)
    for name in chosen:
        config = EMBEDDED[name]
        data = domains(scans, config.pairing, config.every)
        trained = train(config, data, checkpoints(folder, config), watched, device)
        register(name, config, trained, validation.quarter, data)


def register(
    name: str, config: Config, trained: Trained, examples: np.ndarray, seen: Domains, data: Path = _paths.DATA
) -> None:
    """Store the generators in half precision, measure what that changes, and describe them for their model card.

    Args:
        name: Registry id.
        config: What was trained.
        trained: The training; its weights become the stored ones.
        examples: (Z, Y, X), HU, quarter dose: what the change is measured on.
        seen: The training slices; either generator was shown both doses.
        data: The folder of registry and weights.
    """
    nets = {"q2f": trained.nets.q2f, "f2q": trained.nets.f2q}
    both = nn.ModuleDict({way: net for way, net in nets.items() if net is not None})
    known = KEPT if config.supervised else KEPT + GAME
    recipe = embedded.TRAIN
    slices = (len(recipe.patients) - VALIDATION) // 2 * recipe.slices
    weights.embed(
        name,
        both,
        lambda _: torch.from_numpy(denoise(trained.nets.q2f, examples)),
        f"HU RMS over {len(examples)} slices",
        chapter="cyclegan",
        architecture=architecture(config),
        config={key: value for key, value in asdict(config).items() if key in known},
        schedule=schedule(config) + f"; epoch {trained.epoch + 1} of {config.epochs}, chosen on {VALIDATION} patients",
        training_data=f"{recipe.id}: {slices} quarter-dose and {slices} full-dose slices of simulated patients, "
        + ("paired" if config.supervised else "no patient at both doses"),
        trained_on={
            "value": weights.span("HU", [seen.quarter, seen.full]),
            "spacing": weights.Range("mm", recipe.grid.spacing_mm, recipe.grid.spacing_mm),
        },
        seed=config.seed,
        data=data,
    )


def architecture(config: Config) -> str:
    """Number, width and blocks of the generators of a configuration, in words."""
    return (
        f"{'one generator' if config.supervised else 'two generators'}, {config.width} channels (the authors: "
        f"{AUTHORS.width}), {config.blocks} residual blocks (the authors: {AUTHORS.blocks})"
    )


def schedule(config: Config) -> str:
    """Loss, optimiser, crops and batches of a configuration, in words."""
    if config.supervised:
        loss = "L1 on registered pairs" if not config.shift else f"L1 on pairs up to {config.shift} pixels aside"
    else:
        loss = f"LSGAN + {config.lambda_cycle:g} cycle + {config.lambda_identity:g} identity"
    looks = f", {config.looks} looks of the discriminators" if config.looks > 1 else ""
    looks += ", which are not normalised and see soft tissue alone" if config.critics == "windowed" else ""
    return (
        f"{loss}; Adam, {config.learning_rate:g}, {config.schedule} decay; {config.crops} crops of {config.patch} x "
        f"{config.patch} a slice and epoch, batches of {config.batch}{looks}"
    )


def load(name: str = "cyclegan-small", device: str = "cpu", data: Path = _paths.DATA) -> Nets:
    """Embedded generators, verified, in evaluation mode.

    Raises:
        ValueError: If the name is not in the registry, or the file is not the registered one.
    """
    kept = weights.metadata(name, data).config
    config = Config(**{key: kept[key] for key in ("width", "blocks", "scale_hu")})
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.load(name, data).items():
        way, rest = key.split(".", 1)
        states.setdefault(way, {})[rest] = value
    nets = _nets(config, states)
    for net in (nets.q2f, nets.f2q):
        if net is not None:
            weights.carrying(name, net, data)
    return nets.to(device)
