"""What the chapter's notebook shows: its nets, the slices it measures, and pictures and curves of studies.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from noisebook import datasets, embedded, metrics, weights
from noisebook._checks import check_one_of, error
from noisebook.figures import Line, Panel
from noisebook.studies import by_seed

from .crops import batches
from .long import PAIRED, UNPAIRED
from .nets import (
    AUTHORS,
    EMBEDDED,
    SHIFTED,
    VALIDATION,
    checkpoints,
    embedded_scans,
    embedded_test,
    load,
    train,
    watched_scans,
)
from .network import Discriminator, Generator, Nets, from_authors, map_size, parameters, receptive_field
from .quality import rmse_hu
from .scans import Scans, check_apart, check_one_size, check_size, domains, holds_mu, read_archive, read_mu
from .training import CRITICS, Config
from .verdicts import Rows, against_input
from .watch import WINDOW_HU, denoise

UNPAIRED_NET, PAIRED_NET, ASIDE_NET = EMBEDDED
"""The registry ids of the three nets."""
DIFFERENCE_HU = (-60.0, 60.0)
"""The window that differences are shown in."""


@dataclass(frozen=True)
class Family:
    """The nets of the chapter.

    Attributes:
        nets: By registry id.
        architecture: Of the CycleGAN, in words.
        schedule: Of its training, in words.
    """

    nets: Mapping[str, Nets]
    architecture: str
    schedule: str


def published(name: str, seed: int = 0) -> Config:
    """An embedded net's configuration at the authors' size and schedule: all patients, both doses."""
    check_one_of("name", name, EMBEDDED)
    if name == UNPAIRED_NET:
        return replace(AUTHORS, seed=seed)
    shift = SHIFTED.shift if name == ASIDE_NET else 0
    return replace(AUTHORS, pairing="registered", shift=shift, seed=seed)


def measured_scans(
    data_root: str = "", recipe: str = "test", prefix: str = "", unit: str = "1/mm"
) -> tuple[Scans, np.ndarray | None]:
    """The slices to measure, and their truth, (Z, Y, X) in HU, which only simulated ones have.

    Args:
        data_root: A CT archive, of which the last five patients test; or the folder of the authors' files of mu; empty
            for simulated patients.
        recipe: Of these, by its name in `noisebook.embedded.RECIPES`.
        prefix: Only patients of the archive whose id starts so.
        unit: Of mu.

    Raises:
        ValueError: As `read_archive` and `read_mu` do.
    """
    if not data_root:
        chosen = embedded.named(recipe)
        return embedded_test(recipe=chosen), embedded_test("noise free", chosen).full
    if holds_mu(data_root):
        return read_mu(data_root, "test", unit=unit), None
    patients = datasets.ct_patients(data_root, prefix)
    return read_archive(data_root, patients[-datasets.TEST_PATIENTS :]), None


def training_scans(data_root: str = "", prefix: str = "", unit: str = "1/mm") -> tuple[Scans, dict[str, Scans]]:
    """The slices to train on, and those to score after each epoch; arguments and errors as for `measured_scans`.

    Files of mu know no patients: nothing can be held out of them, and the last epoch is taken, as the authors do.
    """
    if not data_root:
        training, validation = embedded_scans()
        return training, watched_scans(validation, embedded_test())
    if holds_mu(data_root):
        training = read_mu(data_root, "train", unit=unit)
        check_apart(training, {"test": read_mu(data_root, "test", unit=unit)})
        return training, {}
    patients = datasets.ct_patients(data_root, prefix)[: -datasets.TEST_PATIENTS]
    held = read_archive(data_root, patients[-VALIDATION:])
    first = held.of(held.patients.index(patient) for patient in patients[-VALIDATION:])
    return read_archive(data_root, patients[:-VALIDATION]), {"validation": first}


def check_trainable(nets: str, data_root: str = "", prefix: str = "") -> None:
    """Raise before anything is trained, from headers alone, if the authors' training cannot run on a CT archive.

    Args:
        nets: Only ``train`` trains.
        data_root: As for `training_scans`; simulated patients and files of mu need no check.
        prefix: As for `training_scans`.

    Raises:
        ValueError: If there are too few patients, or those to train on differ in image size, or it is one that the
            networks do not take.
    """
    if nets != "train" or not data_root or holds_mu(data_root):
        return
    patients = datasets.ct_patients(data_root, prefix)
    least = datasets.TEST_PATIENTS + VALIDATION + 1
    if len(patients) < least:
        raise error("nets=train", f"at least {least} patients, of which the last ten are not trained on", len(patients))
    sizes = [size for size, _ in datasets.ct_grids(data_root, patients[: -datasets.TEST_PATIENTS])]
    check_one_size("nets=train", sizes)
    check_size("nets=train", sizes[0])


def family(
    source: str,
    folder: Path,
    device: str = "cpu",
    seed: int = 0,
    checkpoint: str = "",
    data: tuple[str, ...] = (),
) -> Family:
    """The three nets of the chapter.

    Args:
        source: ``embedded``: the small ones of this book; ``train``: the authors' size, trained here.
        folder: For the checkpoints of a training.
        device: Where to train, and where the nets are put.
        seed: Of a training.
        checkpoint: A file of the authors to take as the CycleGAN; none if empty.
        data: What a training learns from: the arguments of `training_scans`.

    Raises:
        ValueError: If the source is unknown, a file of weights is not the registered one, or `from_authors` refuses the
            checkpoint, or it holds one generator only.
    """
    check_one_of("nets", source, ("embedded", "train"))
    if source == "embedded":
        nets = {name: load(name, device) for name in EMBEDDED}
        card = weights.metadata(UNPAIRED_NET)
        words = card.architecture, card.schedule
    else:
        scans, watched = training_scans(*data)
        check_apart(scans, watched)
        nets = {}
        for name in EMBEDDED:
            config = published(name, seed)
            place = checkpoints(folder, config, " ".join(data))
            nets[name] = train(config, domains(scans, config.pairing), place, watched, device).nets.to(device)
        words = "generators of the authors' size", "the authors' schedule, trained in this run"
    if checkpoint:
        nets[UNPAIRED_NET] = of_authors(checkpoint).to(device)
        words = "generators of a checkpoint", "not known"
    return Family(nets, *words)


def of_authors(checkpoint: str) -> Nets:
    """Both generators of a file of the authors.

    Raises:
        ValueError: If `from_authors` refuses it, or it holds one generator only.
    """
    nets = from_authors(checkpoint)
    if nets.f2q is None:
        raise error(checkpoint, "both generators", "G_Q2F_state_dict only")
    return nets


def geometry_table() -> dict[str, list[object]]:
    """Sizes of the authors' networks and of the embedded ones, counted on the modules."""
    small = EMBEDDED[UNPAIRED_NET]
    with torch.device("meta"):
        pairs = (
            (Generator(), Discriminator()),
            (Generator(small.width, small.blocks), Discriminator(small.critic, norm=False)),
        )
    rows = {
        "parameters of a generator": [f"{parameters(g):,}" for g, _ in pairs],
        "pixels a side that an output of it sees, norms left out": [f"{receptive_field(g)}" for g, _ in pairs],
        "parameters of a discriminator": [f"{parameters(d):,}" for _, d in pairs],
        "pixels a side that a judgement sees": [f"{receptive_field(d)}" for _, d in pairs],
        "judgements of a crop of 128 x 128 pixels": [f"{map_size(d, 128)} x {map_size(d, 128)}" for _, d in pairs],
    }
    columns: dict[str, list[object]] = {"": list(rows)}
    for k, title in enumerate(("the authors'", "embedded")):
        columns[title] = [row[k] for row in rows.values()]
    return columns


def unpaired_panels(scans: Scans, count: int, seed: int) -> list[Panel]:
    """What a training sees: crops at quarter dose and, below, at full dose, of other places and, if known, patients."""
    pairing = "patients" if len(set(scans.patients)) > 1 else "shuffled"
    config = replace(AUTHORS, batch=count, crops=count)
    data = domains(scans, pairing)
    drawn = next(iter(batches(data, config, torch.Generator().manual_seed(seed))))
    return [
        Panel(image[0].numpy(), f"{title}, crop {k}", WINDOW_HU)
        for title, crops in zip(("quarter dose", "full dose"), drawn, strict=True)
        for k, image in enumerate(crops, 1)
    ]


def beside(images: Mapping[str, np.ndarray], spacing_mm: float = 0.0) -> list[Panel]:
    """Images in one window and, below, their differences from the last one, with its RMSE in HU; (Y, X) each."""
    *_, (name, reference) = images.items()
    above = [Panel(image, title, WINDOW_HU, spacing_mm=spacing_mm) for title, image in images.items()]
    below = []
    for image in list(images.values())[:-1]:
        title = f"minus {name}\nRMSE {metrics.rmse(image, reference):.1f} HU"
        below.append(Panel(image - reference, title, DIFFERENCE_HU, signed=True))
    return above + below


def losses(rows: Rows) -> list[Line]:
    """The adversarial terms of the CycleGANs by epoch, mean and standard deviation over seeds, and their balance."""
    epochs = np.arange(1, np.shape(rows["adversarial"])[1] + 1)
    titles = {"adversarial": ("generators", 0.25), "critics": ("discriminators, sum", 0.5)}
    lines = []
    for quantity, (title, balance) in titles.items():
        values = by_seed(rows, quantity, kind=UNPAIRED)
        lines.append(Line(epochs, values.mean(0), title, values.std(0, ddof=1)))
        lines.append(Line(epochs, np.full(len(epochs), balance), f"balance, {balance:g}"))
    return lines


def told_apart(rows: Rows, every: int) -> list[Line]:
    """Losses of discriminators alone by step, mean and standard deviation over seeds; ``every`` step is a point."""
    titles = {"authors": "the authors'", "windowed": "of the embedded nets"}
    lines = []
    for kind, name in enumerate(CRITICS):
        values = by_seed(rows, "loss", kind=kind)
        steps = every * np.arange(1, values.shape[1] + 1)
        lines.append(Line(steps, values.mean(0), titles[name], values.std(0, ddof=1)))
    return lines


def spectra(rows: Rows) -> list[Line]:
    """Noise power spectra: of quarter and full dose, and of the nets', mean and standard deviation over seeds."""
    frequency = np.asarray(rows["frequency"])
    lines = [Line(frequency, rows[f"{name}_power"], f"{title} dose") for name, title in _DOSES.items()]
    for kind, title in ((UNPAIRED, "CycleGAN"), (PAIRED, "registered pairs")):
        power = by_seed(rows, "power", kind=kind)
        lines.append(Line(frequency, power.mean(0), title, power.std(0, ddof=1)))
    return lines


_DOSES = {"input": "quarter", "full": "full"}


def choices(rows: Rows) -> tuple[list[Line], dict[str, list[object]]]:
    """RMSE against full dose by epoch of every CycleGAN, on validation and test patients; and both choices of an epoch.

    Returns:
        Two lines a seed, and a table: seed; epoch and test RMSE by the validation, and by the test patients.
    """
    seeds, chosen = (by_seed(rows, name, kind=UNPAIRED) for name in ("seed", "epoch"))
    curves = {name: by_seed(rows, name, kind=UNPAIRED) for name in ("test", "validation")}
    epochs = np.arange(1, curves["test"].shape[1] + 1)
    lines = [
        Line(epochs, curve, f"{name}, seed {seed}", like="" if name == "test" else f"test, seed {seed}")
        for name, of_seeds in curves.items()
        for seed, curve in zip(seeds, of_seeds, strict=True)
    ]
    best = curves["test"].argmin(1)
    names = ("seed", "epoch by validation", "its test RMSE / HU", "epoch by test", "its test RMSE / HU, optimistic")
    cells = [
        (int(seed), int(ours) + 1, f"{curve[ours]:.2f}", int(theirs) + 1, f"{curve[theirs]:.2f}")
        for seed, ours, theirs, curve in zip(seeds, chosen, best, curves["test"], strict=True)
    ]
    return lines, {name: [row[k] for row in cells] for k, name in enumerate(names)}


def aside(rows: Rows) -> dict[str, np.ndarray]:
    """RMSE against the truth over the input's of the supervised nets, by how far aside their pairs were, pixels."""
    ratios, shifts = against_input(rows), np.asarray(rows["shift"])
    return {f"{shift} px": ratios[shifts == shift] for shift in np.unique(shifts)}


def around(nets: Nets, quarter: np.ndarray, full: np.ndarray) -> list[Panel]:
    """What one slice of each dose, (Y, X) in HU, loses there and back, and what generators change of their targets.

    Raises:
        ValueError: If there is no way back.
    """
    if nets.f2q is None:
        raise error("nets", "both generators", "a supervised net")
    ways: dict[str, tuple[np.ndarray, tuple[nn.Module, ...]]] = {
        "quarter dose, there and back": (quarter, (nets.q2f, nets.f2q)),
        "full dose, back and there": (full, (nets.f2q, nets.q2f)),
        "full dose, denoised": (full, (nets.q2f,)),
        "quarter dose, made noisier": (quarter, (nets.f2q,)),
    }
    panels = []
    for title, (image, path) in ways.items():
        out = image[None]
        for net in path:
            out = denoise(net, out)
        change = out[0] - image
        panels.append(Panel(change, f"{title}\nmean {np.abs(change).mean():.1f} HU", DIFFERENCE_HU, signed=True))
    return panels


def check_rows(rows: Rows, outputs: Mapping[int, np.ndarray], truth: np.ndarray, *, rtol: float = 0.02) -> None:
    """Raise unless the embedded nets, of seed 0, do what the study found: they are stored in half precision.

    Args:
        rows: The study ``seeds``.
        outputs: (Z, Y, X), HU, by kind of net.
        truth: The same shape.
        rtol: How far apart the RMSE may be, of the study's.

    Raises:
        ValueError: A net is further off.
    """
    for kind, image in outputs.items():
        (expected,) = by_seed(rows, "rmse_truth", kind=kind, seed=0).mean(1)
        found = float(rmse_hu(image, truth).mean())
        if abs(found / expected - 1) > rtol:
            raise error(f"RMSE of kind {kind}", f"{expected:.3f} HU, as precomputed", f"{found:.3f} HU", "make studies")


def columns(lines: Sequence[Line], x: str) -> dict[str, np.ndarray]:
    """The numbers of lines over one axis."""
    return {x: lines[0].x} | {line.label: line.y for line in lines}
