"""Monte Carlo of the whole chain, photons to output, and the linearized analysis of the same chain.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475. The chain F = F1 o F0 is FBP onto a target of 128 x 128 pixels and the
network on that target; it is analysed in the target's central region of 64 x 64 pixels about a pixel j.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import ct, datasets, metrics
from noisebook._checks import check_positive, error
from noisebook.jacobian import Jacobian
from noisebook.training import epoch_seed

from .edges import find_pixels
from .scans import EVERY, SCAN, Scan, grid_of, scan

TARGET, ROI = 128, 64
CENTRE = (TARGET // 2, TARGET // 2)
"""The pixel j in the target."""
INNER = slice((TARGET - ROI) // 2, (TARGET + ROI) // 2)
"""The rows, and the columns, of the region in the target."""
LATTICE = 4
"""The exact linear standard deviation is computed at every so-manieth pixel of the region, each way."""
BLOCK, CHUNK = 250, 50
"""Realisations whose sums are kept together, and realisations evaluated at once."""
STEP_HU = 1.0
"""The paper's epsilon: what a pixel is raised by for the Monte Carlo local impulse response."""


@dataclass(frozen=True)
class Region:
    """A region of interest: its scan onto the target, and the line integrals of its pixel j.

    Attributes:
        scan: The scan; its grid is the target.
        point: (1, V, D), line integrals of one pixel j raised by one HU.
        place: (patient counted from 0, row, column) of j in the slice.
        kind: ``edge`` or ``flat``.
    """

    scan: Scan
    point: Tensor
    place: tuple[int, int, int]
    kind: str


def regions(root: Path, exposure: str, count: int = 4) -> list[Region]:
    """One region in the first slice of each of the first test patients: on edges and in flat tissue in turn.

    Args:
        root: The archive with noise-free labels.
        exposure: Of `EXPOSURES`.
        count: How many patients.

    Raises:
        ValueError: If there are fewer patients, or one offers no such pixel.
    """
    patients = datasets.ct_patients(root)[:count]
    if len(patients) < count:
        raise error("patients", f"at least {count}", len(patients), "The embedded test patients are five.")
    found = []
    for index, patient in enumerate(patients):
        pair = datasets.ct_pairs(root, patient, label="noise free")
        kind, image = ("edge", "flat")[index % 2], pair.label[0]
        row, column = (int(i) for i in find_pixels(image, 1, margin=TARGET, seed=index, flat=kind == "flat").places[0])
        found.append(region(image, grid_of(pair), exposure, (index, row, column), kind))
    return found


def region(image: np.ndarray, grid: ct.Grid, exposure: str, place: tuple[int, int, int], kind: str = "") -> Region:
    """The region about one pixel of a noise-free slice.

    Args:
        image: (Y, X), HU.
        grid: Its grid.
        exposure: Of `EXPOSURES`.
        place: (patient, row, column).
        kind: A word for what is there.

    Raises:
        ValueError: If the target would leave the image.
    """
    half = TARGET // 2
    _, row, column = place
    target = grid.part(slice(row - half, row + half), slice(column - half, column + half))
    pixel = grid.part(slice(row, row + 1), slice(column, column + 1))
    one_hu = torch.full((1, 1, 1), ct.MU_WATER_PER_MM / 1000)
    point = ct.project(one_hu, SCAN.sparse(EVERY), pixel)
    return Region(scan(image, grid, target, exposure), point, place, kind)


@dataclass(frozen=True)
class Linear:
    """The linearized analysis of one region; lengths of images in pixels, values in HU.

    Attributes:
        covariance: (64, 64), covariance with j, HU².
        sd: (16, 16), standard deviation at every fourth pixel, HU.
        response: (64, 64), the linear local impulse response of j, HU per HU.
        evaluations: Network evaluations that the covariance image took.
    """

    covariance: np.ndarray
    sd: np.ndarray
    response: np.ndarray
    evaluations: float

    @property
    def contrast_recovery(self) -> float:
        """The response at j itself."""
        return float(self.response[ROI // 2, ROI // 2])

    @property
    def centre_sd(self) -> float:
        """Standard deviation at j, HU."""
        return math.sqrt(float(self.covariance[ROI // 2, ROI // 2]))


def linear(model: nn.Module, region: Region, *, measured: Tensor | None = None, lattice: bool = True) -> Linear:
    """Covariance image, standard deviations and local impulse response of a region from the Jacobian.

    Args:
        model: The network.
        region: The region.
        measured: (1, V, D): linearize at this one noisy scan and take the variance from it ("plug-in"); None: at the
            expected line integrals.
        lattice: Compute the standard deviations too; else they are empty.

    Source: Xu & Noo 2022: cov = G F0 S F0' G' delta; response = G F0 (A delta).
    """
    point = region.scan.expected if measured is None else measured
    variance = region.scan.dose.variance(point, region.scan.geometry)
    operator = Jacobian(model, region.scan.fbp(point))
    covariance = operator.covariance_image(CENTRE, region.scan.covariance(variance))
    used = operator.evaluations
    response = operator @ region.scan.image_noise(region.point)[:, None]
    places = range(INNER.start, INNER.stop, LATTICE) if lattice else ()
    rows = [torch.cat([operator.impulse((row, column)) for column in places]) for row in places]
    found = [_sd(region, operator.T @ row, variance) for row in rows]
    inner = (0, 0, INNER, INNER)
    return Linear(covariance[inner].numpy(), np.array(found), response[inner].numpy(), used)


def _sd(region: Region, rows: Tensor, variance: Tensor) -> np.ndarray:
    """Standard deviations a' F0 diag(variance) F0' a for rows a of the Jacobian, (K, 1, Y, X) to (K,)."""
    return (region.scan.image_noise_adjoint(rows[:, 0]).square() * variance).sum((1, 2)).sqrt().numpy()


def realise(model: nn.Module, region: Region, count: int, generator: torch.Generator) -> Tensor:
    """Independent realisations of the output in the region, (count, 64, 64), HU: photons, FBP, network."""
    with torch.no_grad():
        output: Tensor = model(region.scan.fbp(region.scan.measure(count, generator)))
    return output[:, 0, INNER, INNER]


def block_sums(model: nn.Module, region: Region, block: int, seed: int) -> np.ndarray:
    """Sums over one block of realisations, (3, 64, 64) float64: of d, of d² and of d times d at j.

    d is the output less the output for the mean input: sums of small numbers keep their digits.
    """
    with torch.no_grad():
        origin = model(region.scan.mean)[0, 0, INNER, INNER]
    generator = torch.Generator().manual_seed(epoch_seed(seed, block))
    sums = np.zeros((3, ROI, ROI))
    for _ in range(BLOCK // CHUNK):
        d = (realise(model, region, CHUNK, generator) - origin).double()
        sums += torch.stack([d.sum(0), d.square().sum(0), (d * d[:, ROI // 2, ROI // 2, None, None]).sum(0)]).numpy()
    return sums


@dataclass(frozen=True)
class Moments:
    """What Monte Carlo estimates, with 1 / (N - 1).

    Attributes:
        mean: (64, 64), mean difference from the output for the mean input, HU.
        sd: (64, 64), HU.
        covariance: (64, 64), with j, HU².
    """

    mean: np.ndarray
    sd: np.ndarray
    covariance: np.ndarray


def moments(sums: np.ndarray) -> Moments:
    """The estimates from the sums of some blocks, (blocks, 3, 64, 64).

    Raises:
        ValueError: If there is no block.
    """
    check_positive("blocks", len(sums))
    count = len(sums) * BLOCK
    total, squares, products = sums.sum(0)
    mean = total / count
    variance = (squares - count * mean**2) / (count - 1)
    covariance = (products - count * mean * mean[ROI // 2, ROI // 2]) / (count - 1)
    return Moments(mean, np.sqrt(variance.clip(min=0)), covariance)


def covariance_psnr(covariance: np.ndarray, reference: np.ndarray) -> float:
    """PSNR of a covariance image in dB; the peak is the largest value of the reference."""
    return metrics.psnr(covariance, reference, data_range=float(reference.max()))


def median_ratio(linear_sd: np.ndarray, sums: np.ndarray) -> tuple[float, float]:
    """Median over the lattice of the linear over the Monte Carlo standard deviation, and its standard error.

    The error is the delete-one-block jackknife's: it is that of the realisations, not of the choice of region.
    """

    def median(kept: np.ndarray) -> float:
        return float(np.median(linear_sd / moments(kept).sd[::LATTICE, ::LATTICE]))

    n = len(sums)
    left_out = np.array([median(np.delete(sums, k, 0)) for k in range(n)])
    return median(sums), math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))


@dataclass(frozen=True)
class Recovery:
    """Monte Carlo of the local impulse response.

    Attributes:
        response: (64, 64), with common random numbers, HU per HU.
        contrast_recovery: Its value at j.
        standard_error: Of that value.
        advantage: Variance of one difference at j with independent noise over that with common random numbers: so many
            times more realisations does independent noise need.
    """

    response: np.ndarray
    contrast_recovery: float
    standard_error: float
    advantage: float


def recovery(model: nn.Module, region: Region, count: int, seed: int) -> Recovery:
    """(mean(theta + delta) - mean(theta)) / epsilon with common random numbers, in float64.

    Counts are drawn as z = m + sqrt(m) g with the same standard normal g on both sides, so that they move with their
    mean m; whole Poisson counts would move in steps.

    Args:
        model: The network.
        region: The region.
        count: Pairs.
        seed: Of g.

    Source: Xu & Noo 2022: epsilon is 1 HU. In float32 rounding alone gives errors of 1e-3.
    """
    net, setting = copy.deepcopy(model).double(), region.scan
    generator = torch.Generator().manual_seed(seed)
    means = [
        setting.dose.expected_counts(setting.expected.double() + k * STEP_HU * region.point.double(), setting.geometry)
        for k in (0, 1)
    ]
    ends: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for _ in range(-(-count // CHUNK)):
            normal = torch.randn((CHUNK, *means[0].shape[1:]), generator=generator, dtype=torch.float64)
            for mean, kept in zip(means, ends, strict=True):
                measured = setting.dose.log_transform(mean + mean.sqrt() * normal, setting.geometry, generator)
                kept.append(net(setting.fbp(measured))[:, 0, INNER, INNER])
    before, after = (torch.cat(kept) / STEP_HU for kept in ends)
    paired = after - before
    at_j = paired[:, ROI // 2, ROI // 2]
    apart = (after - before.roll(1, 0))[:, ROI // 2, ROI // 2]
    error_of_mean = float(at_j.std() / math.sqrt(len(at_j)))
    return Recovery(paired.mean(0).numpy(), float(at_j.mean()), error_of_mean, float(apart.var() / at_j.var()))
