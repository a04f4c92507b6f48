"""Every network of the book, each with images of its own domain, their noise, and that noise's covariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import _registry, datasets, simulated
from noisebook._checks import check_one_of, check_range
from noisebook._parameters import check_opening
from noisebook.jacobian import Covariance, diagonal, white
from noisebook.papers import cyclegan, gap, linearized, regularity, xray

IMAGES = 3
"""Of its own domain, on which a network is measured."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and what it is measured on, in the network's unit.

    Attributes:
        name: The network's registry id.
        data: The image and its noise, in words.
        unit: Of the image.
        model: From (N, 1, Y, X) to the same shape, in evaluation mode; output and input are the same quantity.
        truth: (1, 1, Y, X).
        mean: (1, 1, Y, X), the mean of the noisy inputs: where the network is linearized.
        draw: ``draw(count, generator)`` gives (count, 1, Y, X), noisy inputs.
        covariance: Of the inputs' noise.
        window: (lowest, highest) value shown; the truth's if None.
    """

    name: str
    data: str
    unit: str
    model: nn.Module
    truth: Tensor
    mean: Tensor
    draw: Callable[[int, torch.Generator], Tensor]
    covariance: Covariance
    window: tuple[float, float] | None = None

    @property
    def shown_in(self) -> tuple[float, float]:
        """The window in which its images are shown."""
        return self.window or (float(self.truth.min()), float(self.truth.max()))


class Photons(nn.Module):
    """A network that predicts where the next photon lands, as a map from counts to expected photons.

    Args:
        net: From counts (N, 1, Y, X) to logarithms of the next photon's distribution.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, counts: Tensor) -> Tensor:
        """(N, 1, Y, X), as many expected photons as there are counts."""
        return gap.model.shares(self.net(counts)) * counts.sum((1, 2, 3), keepdim=True)


class Hounsfield(nn.Module):
    """A generator of the CycleGAN chapter, as a map from HU to HU.

    Args:
        net: From (N, 1, Y, X) to the same shape, in units of its ``scale_hu``.
    """

    def __init__(self, net: cyclegan.model.Generator) -> None:
        super().__init__()
        self.net = net

    def forward(self, hu: Tensor) -> Tensor:
        """(N, 1, Y, X), HU."""
        return self.net.scale_hu * self.net(cyclegan.model.normalise(hu, self.net.scale_hu))  # type: ignore[no-any-return]


def subjects(seed: int = 0, only: Sequence[str] = ()) -> dict[str, list[Subject]]:
    """Every network of the comparison whose weights are in the registry, with `IMAGES` images of its domain.

    Args:
        seed: Of the images: tissues and circles are drawn by it, patients are counted on from it.
        only: Registry ids; all if empty.

    Raises:
        ValueError: If the seed is negative or so high that an image would not be held out, or an id is that of no
            network that is compared.
    """
    known = _chosen(seed, only)
    numbers = range(IMAGES * seed, IMAGES * (seed + 1))
    return {name: [MAKERS[name](name, k) for k in numbers] for name in known}


def checked(out: str, networks: list[str], realisations: int, probes: int, seed: int) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong.
    """
    check_opening(checked, "compare", locals())
    check_range("realisations", realisations, 4)
    check_range("probes", probes, 1)
    return "three images of each domain (simulated)", ", ".join(_chosen(seed, networks))


def _chosen(seed: int, only: Sequence[str]) -> list[str]:
    """The networks that are compared, in the order of `MAKERS`, or an error as of `subjects`."""
    held_out = min(gap.data.FIRST_TRAINING_SEED, regularity.data.ROWS - regularity.data.TRAIN)
    check_range("seed", seed, 0, held_out // IMAGES - 1)
    known = [name for name in MAKERS if name in _registry.entries()]
    for name in only:
        check_one_of("networks", name, known)
    return [name for name in known if not only or name in only]


def _edge(number: int) -> tuple[np.ndarray, int, int]:
    """The noise-free first slice of a simulated patient, (Y, X) in HU, and row and column of an edge in it."""
    root = simulated.embedded_ct(simulated.TEST)
    patients = datasets.ct_patients(root)
    image = datasets.ct_pairs(root, patients[number % len(patients)], label="noise free").label[0]
    row, column = linearized.data.find_pixels(image, 1, margin=128, seed=number).places[0]
    return image, int(row), int(column)


def _scanned(name: str, data: str, model: nn.Module, scan: linearized.data.Scan, truth: Tensor) -> Subject:
    return Subject(
        name,
        data,
        "HU",
        model,
        truth,
        scan.mean,
        lambda count, generator: scan.fbp(scan.measure(count, generator)),
        scan.covariance(scan.dose.variance(scan.expected, scan.geometry)),
        window=(-160.0, 240.0),
    )


def _sparse(name: str, number: int) -> Subject:
    """128 pixels about an edge in a simulated patient, in the sparse-view scan that the network was trained for."""
    image, row, column = _edge(number)
    scan = linearized.data.region(image, simulated.TEST.grid, "I0", (0, row, column)).scan
    half = scan.mean.shape[-1] // 2
    truth = torch.from_numpy(image[row - half : row + half, column - half : column + half])[None, None]
    return _scanned(
        name, "simulated CT, 145 views, full exposure", linearized.experiment.NETWORKS.load(name), scan, truth
    )


def _unpaired(name: str, number: int) -> Subject:
    """The same place at a quarter of the dose, in the scan that the network's training patients had."""
    _, row, column = _edge(number)
    recipe = simulated.TEST
    patient = recipe.patients[number % len(recipe.patients)]
    clean = recipe.sinogram(patient, recipe.positions_mm(patient)[0])[None]
    target = recipe.grid.part(slice(row - 64, row + 64), slice(column - 64, column + 64))
    scan = linearized.data.Scan(clean, recipe.geometry, target, recipe.dose(recipe.low_share))
    return _scanned(
        name,
        "simulated CT, a quarter of the dose",
        Hounsfield(cyclegan.experiment.NETWORKS.load(name).q2f),
        scan,
        scan.mean,
    )


def _white(name: str, data: str, unit: str, model: nn.Module, truth: Tensor, sd: float) -> Subject:
    def draw(count: int, generator: torch.Generator) -> Tensor:
        return truth + sd * torch.randn((count, *truth.shape[1:]), generator=generator)

    return Subject(name, data, unit, model, truth, truth, draw, white(sd**2))


def _circles(name: str, number: int) -> Subject:
    truth = regularity.data.pairs(regularity.experiment.SMALL.base, number + 1)[1][-1:]
    net, sd = regularity.experiment.NETWORKS.load(name), regularity.data.SIGMA
    return _white(name, "simulated circles, white noise", "grey value", net, truth, sd)


def _photons(name: str, number: int) -> Subject:
    truth = gap.data.drawn(number, (64, 64), 0.0)[0]
    return Subject(
        name,
        "simulated tissue, one photon per pixel",
        "photons",
        Photons(gap.experiment.NETWORKS.load(name)),
        truth,
        truth,
        lambda count, generator: torch.poisson(truth.expand(count, -1, -1, -1), generator=generator),
        diagonal(truth),
    )


def _radiograph(name: str, number: int) -> Subject:
    root = simulated.embedded_xray(simulated.XRAY_TEST)
    images = xray.data.radiographs(root, "test", 64)
    truth = xray.data.unit(images[[simulated.XRAY_TEST.views * number % len(images)]])  # another patient's
    net = xray.experiment.NETWORKS.load(name)
    model = net if name == "xray-residual" else nn.Sequential(net, nn.Sigmoid())  # the others give logits
    return _white(
        name, "simulated radiograph, white noise", "grey value", model, truth, xray.data.sigma("medium") / 255
    )


MAKERS: dict[str, Callable[[str, int], Subject]] = {
    "linearized-i0": _sparse,
    "regularity-s1-decay-0.001": _circles,
    "cyclegan-small": _unpaired,
    "gap-2d": _photons,
    "xray-ae": _radiograph,
    "xray-vae-40": _radiograph,
    "xray-residual": _radiograph,
}
"""The networks that are compared, by registry id, and what makes each with its data. A network joins by its line here;
one that is not in the registry is left out."""
