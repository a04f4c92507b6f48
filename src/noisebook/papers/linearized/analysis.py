"""What the chapter measures: derivative and adjoint checks, and the shape of the covariance at edges.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from noisebook import ct, datasets, embedded, metrics, weights
from noisebook._checks import check_rank, error
from noisebook.claims import Claim
from noisebook.jacobian import Jacobian, Map, white
from noisebook.studies import Study

from .network import FBPConvNet, load

REACH = 16
"""Half side, in pixels, of the patch on which the covariance's moments are taken."""


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
    """Claim L2: the adjoint dot test |<A v, u> - <v, A'u>| / |<A v, u>| in float64.

    Args:
        model: The network.
        image: (1, 1, Y, X), the point of its Jacobian; best not square.
        seeds: One random pair (v, u) each.

    Returns:
        The relative defect, one a seed, of ``Jacobian``, ``back-projection`` and ``FBP``.
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
    for name, forward, adjoint in (
        ("back-projection", ct.back_project, ct.back_project_adjoint),
        ("FBP", ct.fbp, ct.fbp_adjoint),
    ):
        there, back = (partial(one, geometry=scan, grid=grid) for one in (forward, adjoint))
        found[name] = defects(there, back, sinogram, picture)
    return found


@dataclass(frozen=True)
class Pixels:
    """Chosen pixels of one slice and a direction at each.

    Attributes:
        places: (N, 2) int, (row, column).
        along: (N, 2), unit vectors (row, column): along the edge, or random in flat tissue.
    """

    places: np.ndarray
    along: np.ndarray


def probe_pixel(image: np.ndarray, row: int, column: int, *, margin: int) -> tuple[int, int]:
    """(row, column) if it lies at least ``margin`` pixels from every side of ``image``, (Y, X).

    Raises:
        ValueError: If it does not.
    """
    check_rank("image", image, 2, "(Y, X)")
    if not (margin <= row < image.shape[0] - margin and margin <= column < image.shape[1] - margin):
        raise error("probe", f"a pixel {margin} pixels inside {image.shape}", (row, column), "Choose another.")
    return row, column


def find_pixels(image: np.ndarray, count: int, *, margin: int, seed: int, flat: bool = False) -> Pixels:
    """Choose pixels on straight edges, or in flat tissue as their control.

    An edge pixel has the steepest gradient across its edge, above 15 HU a pixel (Gaussian derivative, 1.5 pixels), and
    a structure tensor (4 pixels) of coherence above 0.9. A flat pixel is soft tissue with less than 3 HU a pixel
    around it.

    Args:
        image: (Y, X), HU, with little noise, such as a label.
        count: How many; they keep 12 pixels apart.
        margin: Pixels kept free on each side.
        seed: Chooses among the candidates.
        flat: Choose flat tissue instead of edges.

    Raises:
        ValueError: If there are fewer than ``count`` such pixels.
    """
    check_rank("image", image, 2, "(Y, X)")
    dy, dx = (ndimage.gaussian_filter(image.astype(np.float64), 1.5, order=o) for o in ((1, 0), (0, 1)))
    steep = np.hypot(dy, dx)
    yy, xy, xx = (ndimage.gaussian_filter(a * b, 4) for a, b in ((dy, dy), (dy, dx), (dx, dx)))
    coherence = np.hypot(yy - xx, 2 * xy) / np.maximum(yy + xx, 1e-9)
    if flat:
        good = (ndimage.maximum_filter(steep, 21) < 3) & (np.abs(image) < 200)
    else:
        good = (steep > 15) & (coherence > 0.9) & (steep >= ndimage.maximum_filter(steep, 5))
    inside = np.zeros_like(good)
    inside[margin : good.shape[0] - margin, margin : good.shape[1] - margin] = True
    good &= inside
    random = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for place in random.permutation(np.argwhere(good)):
        if len(chosen) < count and all(np.hypot(*(place - other)) >= 12 for other in chosen):
            chosen.append(place)
    if len(chosen) < count:
        kind = "flat tissue" if flat else "straight edges"
        raise error("image", f"{count} pixels of {kind} {margin} pixels from its sides", len(chosen), "Ask for fewer.")
    places = np.array(chosen).reshape(-1, 2)
    turn = random.uniform(0, math.pi, count)
    along = np.stack([np.cos(turn), np.sin(turn)], 1)
    if not flat:
        rows, columns = places.T
        along = np.stack([-dx[rows, columns], dy[rows, columns]], 1) / steep[rows, columns][:, None]
    return Pixels(places, along)


def elongations(model: FBPConvNet, image: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Claim L10: elongation of the output covariance along each pixel's direction, for white input noise, (N,).

    Each covariance image is computed on a crop that holds all that its central patch depends on: nothing is cut off.

    Args:
        model: The network.
        image: (Y, X), HU, the point of linearisation.
        pixels: Of `find_pixels` with a margin of at least ``model.halo + REACH``.

    Raises:
        ValueError: If the crop of a pixel would leave the image.
    """
    found = []
    half = model.halo + REACH
    for place, along in zip(pixels.places, pixels.along, strict=True):
        corner = (place - half) // model.stride * model.stride
        end = -(-(place + half + 1) // model.stride) * model.stride
        if (corner < 0).any() or (end > image.shape).any():
            raise error("pixel", f"{half + model.stride} pixels from the sides of {image.shape}", place.tolist())
        crop = torch.from_numpy(image[corner[0] : end[0], corner[1] : end[1]].astype(np.float32))[None, None]
        row, column = (int(i) for i in place - corner)
        covariance = Jacobian(model, crop).covariance_image((row, column), white(1.0))[0, 0]
        patch = covariance[row - REACH : row + REACH + 1, column - REACH : column + REACH + 1]
        found.append(metrics.elongation(patch.numpy(), (float(along[0]), float(along[1]))))
    return np.array(found)


def study_elongation(folder: Path, device: str, *, count: int, seed: int, net: str) -> dict[str, np.ndarray]:
    """Elongations at ``count`` edges and ``count`` flat pixels of the first slice of every test patient.

    Args:
        folder: Keeps each patient's values, so that an interrupted study goes on.
        device: Not used: the crops are small.
        count: Pixels of each kind a patient.
        seed: Chooses the pixels.
        net: Registry id of the network.

    Returns:
        Columns ``patient`` (from 0), ``edge`` (1 or 0), ``row``, ``column``, ``elongation``.
    """
    model, root = load(net), embedded.embedded_ct(embedded.TEST)
    rows = []
    for index, patient in enumerate(datasets.ct_patients(root)):
        kept = folder / f"{index}.npy"
        if not kept.is_file():
            half_written = kept.with_suffix(".partial.npy")
            np.save(half_written, _patient_elongations(model, root, patient, count, seed))
            half_written.replace(kept)
        rows.append(np.column_stack([np.full(2 * count, index), np.load(kept)]))
    columns = np.concatenate(rows).T
    return dict(zip(("patient", "edge", "row", "column", "elongation"), columns, strict=True))


def _patient_elongations(model: FBPConvNet, root: Path, patient: str, count: int, seed: int) -> np.ndarray:
    pair = datasets.ct_pairs(root, patient, label="noise free")
    parts = []
    for edge in (1, 0):
        pixels = _study_pixels(model, pair, count, seed, flat=not edge)
        values = elongations(model, pair.low[0], pixels)
        parts.append(np.column_stack([np.full(count, edge), pixels.places, np.round(values, 5)]))
    return np.concatenate(parts)


def _study_pixels(model: FBPConvNet, pair: datasets.CtPairs, count: int, seed: int, *, flat: bool) -> Pixels:
    """The study's pixels of a patient's first slice: far enough from its sides for every crop to fit."""
    margin = model.halo + REACH + model.stride
    return find_pixels(pair.label[0], count, margin=margin, seed=seed, flat=flat)


def first_elongations(study: Study, rows: int) -> np.ndarray:
    """Compute the study's first ``rows`` elongations again, (rows,): the guard against everything that it rests on."""
    if not 0 <= rows <= study.config["count"]:
        raise error("rows", f"0 to {study.config['count']}", rows)
    if not rows:
        return np.empty(0)
    model, root = load(study.config["net"]), embedded.embedded_ct(embedded.TEST)
    pair = datasets.ct_pairs(root, datasets.ct_patients(root)[0], label="noise free")
    pixels = _study_pixels(model, pair, study.config["count"], study.config["seed"], flat=False)
    return elongations(model, pair.low[0], Pixels(pixels.places[:rows], pixels.along[:rows]))


STUDIES = (
    Study(
        chapter="linearized",
        name="elongation",
        run=study_elongation,
        config={"count": 16, "seed": 0, "net": "linearized-quarter"},
        weights=("linearized-quarter",),
        data=embedded.TEST.id,
    ),
)


def claims(
    derivatives: dict[str, np.ndarray], adjoints: dict[str, np.ndarray], edges: np.ndarray, data: str, schedule: str
) -> list[Claim]:
    """The chapter's claims L1, L2 and L10 from what was measured.

    Args:
        derivatives: Of `derivative_errors`.
        adjoints: Of `adjoint_errors`.
        edges: Mean of the logarithm (base 2) of the elongation at edges, one a patient, of the committed study.
        data: Id of the data.
        schedule: Width and schedule of the net.
    """
    source = "Xu & Noo 2022"
    measured = [
        (f"L1{'ab'[k]}", f"forward mode equals {name} (relative difference, float64)", values, (1e-8, 1e-5)[k])
        for k, (name, values) in enumerate(derivatives.items())
    ]
    measured += [
        (f"L2{'abc'[k]}", f"the adjoint of the {name} is exact (dot test, relative, float64)", values, 1e-10)
        for k, (name, values) in enumerate(adjoints.items())
    ]
    found = [
        Claim(id, statement, source, tuple(values), high=bound, data=data, schedule=schedule)
        for id, statement, values, bound in measured
    ]
    statement = "the covariance is elongated along an edge: log2 of its second moments along over across is positive"
    study = STUDIES[0]
    net = weights.metadata(study.config["net"])
    measured_on = f"{study.data} (simulated), white input noise, central part of one slice a patient, precomputed"
    trained = f"{net.architecture}; {net.schedule}"
    found.append(Claim("L10", statement, source, tuple(edges), low=0.0, data=measured_on, schedule=trained))
    return found
