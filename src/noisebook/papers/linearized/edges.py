"""Pixels on edges and in flat tissue, and the shape of the covariance there.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from noisebook import datasets, embedded, metrics
from noisebook._checks import check_rank, error
from noisebook.jacobian import Jacobian, white
from noisebook.studies import Study

from .network import FBPConvNet, load

REACH = 16
"""Half side, in pixels, of the patch on which the covariance's moments are taken."""


@dataclass(frozen=True)
class Pixels:
    """Chosen pixels of one slice and a direction at each.

    Attributes:
        places: (N, 2) int, (row, column).
        along: (N, 2), unit vectors (row, column): along the edge, or random in flat tissue.
    """

    places: np.ndarray
    along: np.ndarray


def probe_place(probe: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(slice, row, column) of a probe, if it lies inside slices of ``shape``, (Z, Y, X).

    Raises:
        ValueError: If it is not three whole numbers, or lies outside.
    """
    if len(probe) != 3 or not all(isinstance(place, int) for place in probe):
        raise error("probe", "three whole numbers: slice, row, column", list(probe))
    if not all(0 <= place < size for place, size in zip(probe, shape, strict=True)):
        raise error("probe", f"slice, row and column within {tuple(shape)}", list(probe))
    return probe[0], probe[1], probe[2]


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
