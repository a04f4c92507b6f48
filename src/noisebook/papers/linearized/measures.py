"""What the chapter measures: linearized analysis and Monte Carlo of the whole chain, and the value of every claim.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.

The functions at the end, which ``claims.yaml`` names, take the results of the studies by name.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import _numbers, ct, datasets, metrics
from noisebook._checks import check_positive
from noisebook.jacobian import Jacobian, Map, white
from noisebook.training import epoch_seed

from .data import CENTRE, INNER, ROI, Pixels, Region
from .model import FBPConvNet

Arrays = Mapping[str, np.ndarray]
Results = Mapping[str, Any]
LATTICE = 4
"""The exact linear standard deviation is computed at every fourth pixel of the region, each way."""
BLOCK, CHUNK = 250, 50
"""Realisations whose sums are kept together, and realisations evaluated at once."""
STEP_HU = 1.0
"""The paper's epsilon: what a pixel is raised by for the Monte Carlo local impulse response."""
REACH = 16
"""Half side, in pixels, of the patch on which the covariance's moments are taken."""
REFERENCE, SUBSETS = 10_000, (250, 500, 1000, 2000)
"""Realisations of the reference at I0, and of the estimates that are compared with it."""
_J = ROI // 2

PAPER = {
    "CRC, Monte Carlo": (0.0867, 0.0660, 0.0981, 0.0794),
    "CRC, linear": (0.0953, 0.0657, 0.119, 0.0736),
    "sd / HU, Monte Carlo": (2.67, 1.84, 3.26, 2.21),
    "sd / HU, linear": (2.97, 1.81, 3.61, 2.28),
}
"""The paper's four regions at I0."""
PAPER_SWEEP = {
    "sd": {"I0": (1.84, 1.81), "I0/10": (2.9, 4.92), "I0/100": (4.1, 12.8)},
    "CRC": {"I0": (0.066, 0.0657), "I0/10": (0.0288, 0.0534), "I0/100": (0.00435, 0.0362)},
}
"""The paper's (Monte Carlo, linear) values at its three exposures."""
PAPER_PSNR_GAIN = {500: 7.62, 1000: 4.39, 2000: 0.97}
"""dB by which the paper's linear covariance image is nearer to MC-10000 than MC-N is."""
SWEEP = {"I0": "i0", "I0/10": "i0-10", "I0/100": "i0-100"}
"""The study of each exposure."""


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


def elongations(model: FBPConvNet, image: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Claim L10: elongation of the output covariance along each pixel's direction, for white input noise, (N,).

    Args:
        model: The network.
        image: (Y, X), HU, the point of linearization.
        pixels: Of `find_pixels` with a margin of at least `REACH`.

    Raises:
        ValueError: If the patch about a pixel would leave the image.
    """
    point = torch.from_numpy(image.astype(np.float32))[None, None]
    operator = Jacobian(model, point, halo=model.halo, stride=model.stride)
    found = []
    for (row, column), along in zip(pixels.places.tolist(), pixels.along.tolist(), strict=True):
        patch = slice(row - REACH, row + REACH + 1), slice(column - REACH, column + REACH + 1)
        covariance = operator.covariance_image((row, column), white(1.0), patch)[0, 0]
        found.append(metrics.elongation(covariance.numpy(), tuple(along)))
    return np.array(found)


def quality(
    pairs: Sequence[datasets.CtPairs], outputs: Sequence[np.ndarray], *, data_range: float
) -> dict[str, list[float]]:
    """RMSE, PSNR and SSIM of inputs and outputs against the labels, each a mean over the slices of a patient.

    Args:
        pairs: One a patient.
        outputs: The network's output for each, (Z, Y, X), HU.
        data_range: The peak for PSNR and SSIM, HU.

    Returns:
        One value a patient under headings such as ``PSNR / dB, input``.
    """
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "RMSE / HU": metrics.rmse,
        "PSNR / dB": partial(metrics.psnr, data_range=data_range),
        "SSIM": partial(metrics.ssim, data_range=data_range),
    }
    found = {}
    for name, measure in measures.items():
        for kind, images in (("input", [pair.low for pair in pairs]), ("output", outputs)):
            found[f"{name}, {kind}"] = [
                float(np.mean([measure(one, label) for one, label in zip(image, pair.label, strict=True)]))
                for image, pair in zip(images, pairs, strict=True)
            ]
    return found


def _relative(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm())


def derivative_errors(model: nn.Module, image: Tensor, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Claim L1: how far double backward and finite differences are from forward mode, in float64.

    Args:
        model: The network.
        image: (1, 1, Y, X), the point.
        seeds: One random direction each.

    Returns:
        Relative differences in the 2-norm, one a seed: ``double backward`` and ``finite differences``.
    """
    operator = Jacobian(model, image.double())
    differences: dict[str, list[float]] = {"double backward": [], "finite differences": []}
    for seed in seeds:
        v = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        forward = operator @ v
        differences["double backward"].append(_relative(operator.double_backward(v), forward))
        differences["finite differences"].append(_relative(operator.finite_difference(v, 1e-6), forward))
    return {name: np.array(values) for name, values in differences.items()}


def adjoint_errors(model: nn.Module, image: Tensor, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Claim L2: the adjoint dot test ``|<A v, u> - <v, A'u>| / |<A v, u>|`` in float64.

    Args:
        model: The network.
        image: (1, 1, Y, X), the point of its Jacobian; best not square.
        seeds: One random pair (v, u) each.

    Returns:
        The relative defect, one a seed, of ``Jacobian``, ``projection``, ``back-projection`` and ``FBP``.
    """
    operator = Jacobian(model, image.double())
    scan, grid = ct.Geometry(views=72, channels=84, pitch=0.795 / 84), ct.Grid(64, 6.0)
    sinogram, picture = (1, *scan.sinogram_shape), (1, grid.pixels, grid.pixels)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def defects(forward: Map, adjoint: Map, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
        found = []
        for generator in generators:
            v = torch.randn(before, dtype=torch.float64, generator=generator)
            u = torch.randn(after, dtype=torch.float64, generator=generator)
            left, right = (forward(v) * u).sum(), (v * adjoint(u)).sum()
            found.append(float((left - right).abs() / left.abs()))
        return np.array(found)

    found = {"Jacobian": defects(lambda v: operator @ v, lambda u: operator.T @ u, image.shape, operator.output.shape)}
    there, back = (partial(one, geometry=scan, grid=grid) for one in (ct.project, ct.project_adjoint))
    found["projection"] = defects(there, back, picture, sinogram)
    for name, forward, adjoint in (
        ("back-projection", ct.back_project, ct.back_project_adjoint),
        ("FBP", ct.fbp, ct.fbp_adjoint),
    ):
        there, back = (partial(one, geometry=scan, grid=grid) for one in (forward, adjoint))
        found[name] = defects(there, back, sinogram, picture)
    return found


# --------------------------------------------------------------------------------------------------- tables


def at_pixel(found: Arrays) -> dict[str, np.ndarray]:
    """The paper's table from one study: contrast recovery and standard deviation at j, one value a region."""
    return {
        "CRC, Monte Carlo": found["recovery"],
        "CRC, linear": found["linear_response"][:, _J, _J],
        "CRC, plug-in": found["plug_recovery"].mean(1),
        "sd / HU, Monte Carlo": found["mc_sd"][:, _J, _J],
        "sd / HU, linear": np.sqrt(found["linear_covariance"][:, _J, _J]),
        "sd / HU, plug-in": found["plug_sd"].mean(1),
    }


def beside_the_paper(found: Arrays) -> dict[str, list[object]]:
    """The columns of a table: a row for each of our four regions and of the paper's four, which are other places."""
    ours = at_pixel(found)
    places = range(1, 1 + len(found["recovery"]))
    names: list[object] = [*(f"ours {k}" for k in places), *(f"paper {k}" for k in (1, 2, 3, 4))]
    columns: dict[str, list[object]] = {"region": names}
    for name, values in ours.items():
        columns[name] = [*map(float, values), *PAPER.get(name, ("",) * 4)]
    return columns


def ratios(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Linear over Monte Carlo at each exposure, one value a region: ``sd`` (median over the region) and ``CRC``."""
    found = {}
    for exposure, name in SWEEP.items():
        table = at_pixel(results[name])
        found[exposure] = {
            "sd": np.asarray(results[name]["ratio"]),
            "CRC": table["CRC, linear"] / table["CRC, Monte Carlo"],
        }
    return found


def paper_ratios(quantity: str) -> np.ndarray:
    """The paper's linear over Monte Carlo at its three exposures, ``sd`` or ``CRC``."""
    return np.array([linear / carlo for carlo, linear in PAPER_SWEEP[quantity].values()])


def equivalent_realisations(found: Arrays) -> np.ndarray:
    """Realisations that Monte Carlo needs at least for the linear covariance image's accuracy, one number a region.

    The accuracy of Monte Carlo grows by 10 dB per tenfold; it is taken from the PSNR at the largest subset. Both PSNRs
    hold the reference's own noise: what is above the largest subset is too low.
    """
    largest = SUBSETS[found["psnr"].shape[1] - 1]
    return np.asarray(largest * 10 ** ((found["linear_psnr"] - found["psnr"][:, -1]) / 10))


def cost_table(results: Results) -> dict[str, list[object]]:
    """The columns of a table, a row a region and net: accuracy of the linear covariance image, and what it costs."""
    columns: dict[str, list[object]] = {}
    for name, trained in (("i0", "MSE"), ("i0-l1", "L1")):
        found, thousand = results[name], SUBSETS.index(1000)
        for k, worth in enumerate(equivalent_realisations(found)):
            row = {
                "net": trained,
                "region": k + 1,
                "median sd ratio": _numbers.with_spread(found["ratio"][k], found["ratio_error"][k], 1),
                "PSNR / dB, linear": float(found["linear_psnr"][k]),
                "PSNR / dB, 1000 scans": float(found["psnr"][k, thousand]),
                "scans of equal accuracy, at least": round(worth),
                "network evaluations": int(found["evaluations"][k]),
            }
            for column, cell in row.items():
                columns.setdefault(column, []).append(cell)
    return columns


def covariance_rows(found: Arrays, half: int) -> dict[str, list[np.ndarray]]:
    """Covariance images about j, ``half`` pixels to each side: linear, Monte Carlo and their difference, by region."""
    near = (slice(None), *(slice(_J - half, _J + half + 1),) * 2)
    linear, carlo = found["linear_covariance"][near], found["mc_covariance"][near]
    return {"linear": list(linear), "Monte Carlo": list(carlo), "linear − Monte Carlo": list(linear - carlo)}


# ----------------------------------------------------------------------------------------- values of the claims


def derivative_error(found: Results, of: str) -> np.ndarray:
    """L1: of `derivative_errors`, one value a direction."""
    return np.asarray(found["derivatives"][of])


def adjoint_error(found: Results, of: str) -> np.ndarray:
    """L2: of `adjoint_errors`, one value a direction."""
    return np.asarray(found["adjoints"][of])


def sd_ratio(found: Results, study: str) -> np.ndarray:
    """Median over a region of the linear over the Monte Carlo standard deviation, one value a region."""
    return np.asarray(found[study]["ratio"])


def sd_ratio_of_trainings(found: Results, studies: Sequence[str]) -> np.ndarray:
    """The mean over the regions of `sd_ratio`, one value a training."""
    return np.array([np.mean(found[study]["ratio"]) for study in studies])


def at_pixel_ratio(found: Results, above: str, below: str) -> np.ndarray:
    """The ratio of two columns of `at_pixel` at I0, one value a region."""
    table = at_pixel(found["i0"])
    return np.asarray(table[above] / table[below])


def psnr_gain(found: Results, study: str, realisations: int) -> np.ndarray:
    """PSNR of the linear covariance image less that of so many realisations, dB, one value a region."""
    rows = found[study]
    return np.asarray(rows["linear_psnr"] - rows["psnr"][:, SUBSETS.index(realisations)])


def doubling_gain(found: Results) -> np.ndarray:
    """Decibels that Monte Carlo gains when realisations double, the reference's own noise taken off."""
    own = 10 * np.log10(1 + np.array(SUBSETS) / REFERENCE)
    psnr = found["i0"]["psnr"] + own
    return np.asarray(psnr[:, [SUBSETS.index(250), SUBSETS.index(1000)]] @ [-0.5, 0.5])


def cost_ratio(found: Results) -> np.ndarray:
    """log2 of the evaluations of Monte Carlo of equal accuracy over those of the linear image, one value a region."""
    rows = found["i0"]
    return np.asarray(np.log2(equivalent_realisations(rows) / rows["evaluations"]))


def advantage(found: Results) -> np.ndarray:
    """log10 of the realisations that independent noise needs over those of common random numbers, one a region."""
    return np.asarray(np.log10(found["i0"]["advantage"]))


def rise(found: Results, quantity: str, above: str, below: str) -> np.ndarray:
    """log2 of linear over Monte Carlo at the lower exposure ``below`` over that at ``above``, one value a region."""
    table = ratios(found)
    return np.asarray(np.log2(table[below][quantity] / table[above][quantity]))


def edge_elongation(found: Results) -> np.ndarray:
    """Mean log2 elongation of the covariance at the edges of each patient."""
    rows = found["elongation"]
    edge = rows["edge"] == 1
    return np.array(
        [np.log2(rows["elongation"][edge & (rows["patient"] == p)]).mean() for p in np.unique(rows["patient"])]
    )
