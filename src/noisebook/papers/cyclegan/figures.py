"""The chapter's panels and curves: what is drawn beside what.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch

from noisebook import metrics
from noisebook._checks import error
from noisebook.figures import Line, Panel
from noisebook.studies import by_seed

from .data import WINDOW_HU, Scans, domains
from .experiment import AUTHORS, SMALL, crops
from .measures import PAIRED, UNPAIRED, Rows, against_input
from .model import CRITICS, Discriminator, Generator, Nets, denoise, map_size, parameters, receptive_field

DIFFERENCE_HU = (-60.0, 60.0)
"""The window that differences are shown in."""


def geometry_table() -> dict[str, list[object]]:
    """Sizes of the authors' networks and of the embedded ones, counted on the modules."""
    with torch.device("meta"):
        theirs = Generator(), Discriminator()
        ours = Generator(SMALL.width, SMALL.blocks), Discriminator(SMALL.critic, norm=False)
    columns: dict[str, list[object]] = {"": ["parameters of a generator"]}
    columns[""] += ["pixels a side that an output of it sees, norms left out", "parameters of a discriminator"]
    columns[""] += ["pixels a side that a judgement sees", "judgements of a crop of 128 x 128 pixels"]
    for title, (g, d) in {"the authors'": theirs, "embedded": ours}.items():
        sizes = f"{parameters(g):,}", f"{receptive_field(g)}", f"{parameters(d):,}", f"{receptive_field(d)}"
        columns[title] = [*sizes, f"{map_size(d, 128)} x {map_size(d, 128)}"]
    return columns


def unpaired_panels(scans: Scans, count: int, seed: int) -> list[Panel]:
    """What a training sees: crops at quarter dose and, below, at full dose, of other places and, if known, patients."""
    pairing = "patients" if len(set(scans.patients)) > 1 else "shuffled"
    config = replace(AUTHORS, batch=count, crops=count)
    drawn = next(crops(*domains(scans, pairing), config, torch.Generator().manual_seed(seed)))
    return [
        Panel(image[0].numpy(), f"{title}, crop {k}", WINDOW_HU)
        for title, images in zip(("quarter dose", "full dose"), drawn, strict=True)
        for k, image in enumerate(images, 1)
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


def _over_seeds(x: np.ndarray, values: np.ndarray, title: str) -> Line:
    """Mean and standard deviation of (seeds, X)."""
    return Line(x, values.mean(0), title, values.std(0, ddof=1))


def losses(rows: Rows) -> list[Line]:
    """The adversarial terms of the CycleGANs by epoch, mean and standard deviation over seeds, and their balance."""
    epochs = np.arange(1, np.shape(rows["adversarial"])[1] + 1)
    titles = {"adversarial": ("generators", 0.25), "critics": ("discriminators, sum", 0.5)}
    lines = []
    for quantity, (title, balance) in titles.items():
        values = by_seed(rows, quantity, kind=UNPAIRED)
        even = Line(epochs, np.full(len(epochs), balance), f"balance, {balance:g}")
        lines += [_over_seeds(epochs, values, title), even]
    return lines


def critics_alone(rows: Rows, every: int) -> list[Line]:
    """Losses of discriminators alone by step, mean and standard deviation over seeds; ``every`` step is a point."""
    values = {name: by_seed(rows, "loss", kind=CRITICS.index(name)) for name in CRITICS}
    steps = every * np.arange(1, values["authors"].shape[1] + 1)
    titles = {"authors": "the authors'", "windowed": "of the embedded nets"}
    return [_over_seeds(steps, values[name], title) for name, title in titles.items()]


def spectra(rows: Rows) -> list[Line]:
    """Noise power spectra: of quarter and full dose, and of the nets', mean and standard deviation over seeds."""
    frequency = np.asarray(rows["frequency"])
    doses = {"input": "quarter", "full": "full"}
    lines = [Line(frequency, rows[f"{name}_power"], f"{title} dose") for name, title in doses.items()]
    for kind, title in ((UNPAIRED, "CycleGAN"), (PAIRED, "registered pairs")):
        lines.append(_over_seeds(frequency, by_seed(rows, "power", kind=kind), title))
    return lines


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
    return lines, {name: list(column) for name, column in zip(names, zip(*cells, strict=True), strict=True)}


def misaligned(rows: Rows) -> dict[str, np.ndarray]:
    """RMSE against the truth over the input's of the supervised nets, by the pairs' misalignment, pixels."""
    ratios, shifts = against_input(rows), np.asarray(rows["shift"])
    return {f"{shift} px": ratios[shifts == shift] for shift in np.unique(shifts)}


def around(nets: Nets, quarter: np.ndarray, full: np.ndarray) -> list[Panel]:
    """What one slice of each dose, (Y, X) in HU, loses there and back, and what generators change of their targets.

    Raises:
        ValueError: If there is no way back.
    """
    if nets.f2q is None:
        raise error("nets", "both generators", "a supervised net")
    panels = []
    for title, image, *path in (
        ("quarter dose, there and back", quarter, nets.q2f, nets.f2q),
        ("full dose, back and there", full, nets.f2q, nets.q2f),
        ("full dose, denoised", full, nets.q2f),
        ("quarter dose, made noisier", quarter, nets.f2q),
    ):
        change = reduce(lambda out, net: denoise(net, out), path, image[None])[0] - image
        panels.append(Panel(change, f"{title}\nmean {np.abs(change).mean():.1f} HU", DIFFERENCE_HU, signed=True))
    return panels


def columns(lines: Sequence[Line], x: str) -> dict[str, np.ndarray]:
    """The numbers of lines over one axis."""
    return {x: lines[0].x} | {line.label: line.y for line in lines}
