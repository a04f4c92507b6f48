"""The paper's scans, simulated from images, and the pixels and regions that are looked at.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475. As there, an image is projected, Poisson counts are drawn, and every eighth
of 1160 views is reconstructed; the label is the noise-free FBP of all views. The chain F = F1 o F0 is FBP onto a target
of 128 x 128 pixels and the network on that target; it is analysed in the target's central region of 64 x 64 pixels
about a pixel j.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from noisebook import ct, datasets, dicom, photons
from noisebook._checks import check_one_of, check_rank, error
from noisebook.jacobian import Covariance, coloured

SCAN = ct.Geometry("fan", 1160, 672, 1.2858 / 1085.6, 595.0)
"""The paper's full scan."""
EVERY = 8
"""The paper reconstructs every eighth view."""
EXPOSURES = ct.PAPER_EXPOSURES
"""The paper's exposures. Our chests attenuate less than its abdomens, so that the same photons give less noise."""
_HU_PER_MU = 1000 / ct.MU_WATER_PER_MM
TARGET, ROI = 128, 64
CENTRE = (TARGET // 2, TARGET // 2)
"""The pixel j in the target."""
INNER = slice((TARGET - ROI) // 2, (TARGET + ROI) // 2)
"""The rows, and the columns, of the region in the target."""


def grid_of(pair: datasets.CtPairs) -> ct.Grid:
    """The grid of a patient's slices.

    Raises:
        ValueError: If the slices or their pixels are not square.
    """
    height, width = pair.label.shape[1:]
    return square_grid((height, width), pair.spacing_mm[1:])


def square_grid(size: tuple[int, int], pixel_mm: tuple[float, ...]) -> ct.Grid:
    """The grid of slices of (rows, columns) pixels of (y, x) mm.

    Raises:
        ValueError: If the slices or their pixels are not square.
    """
    (height, width), (down, across) = size, pixel_mm
    if height != width or not dicom.same_spacing([down], [across]):
        raise error("slices", "square, of square pixels", f"{height} x {width} pixels of {down:g} x {across:g} mm")
    return ct.Grid(width, across)


def line_integrals(hu: np.ndarray, grid: ct.Grid, geometry: ct.Geometry) -> Tensor:
    """Expected line integrals of slices.

    Args:
        hu: (Z, Y, X), HU; padding below air counts as air.
        grid: Their grid.
        geometry: The scan.

    Returns:
        (Z, V, D), float32.
    """
    return ct.project(ct.hu_to_mu(torch.from_numpy(hu).float().clamp(min=-1000)), geometry, grid)


@dataclass(frozen=True)
class Scan:
    """A sparse-view scan whose expected line integrals are known, and its FBP on a grid: the map F0 of the paper.

    Args:
        expected: (1, V, D), expected line integrals.
        geometry: The views that are kept.
        grid: Where it is reconstructed: the whole image or a part of it.
        dose: The photon statistics.
    """

    expected: Tensor
    geometry: ct.Geometry
    grid: ct.Grid
    dose: ct.Dose

    def fbp(self, sinogram: Tensor) -> Tensor:
        """F0: line integrals (K, V, D) to images (K, 1, Y, X), HU."""
        return ct.mu_to_hu(ct.fbp(sinogram, self.geometry, self.grid))[:, None]

    @property
    def mean(self) -> Tensor:
        """The FBP of the expected line integrals, (1, 1, Y, X), HU: where the network is linearized."""
        return self.fbp(self.expected)

    def measure(self, count: int, generator: torch.Generator) -> Tensor:
        """Independently measured line integrals, (count, V, D)."""
        counts = self.dose.expected_counts(self.expected, self.geometry).expand(count, -1, -1)
        return self.dose.log_transform(photons.poisson(counts, generator), self.geometry, generator)

    def image_noise(self, sinogram: Tensor) -> Tensor:
        """F0 without its offset: (K, V, D) to (K, Y, X), HU per line integral."""
        return ct.fbp(sinogram, self.geometry, self.grid) * _HU_PER_MU

    def image_noise_adjoint(self, image: Tensor) -> Tensor:
        """The adjoint of `image_noise`: (K, Y, X) to (K, V, D)."""
        return ct.fbp_adjoint(image, self.geometry, self.grid) * _HU_PER_MU

    def covariance(self, variance: Tensor) -> Covariance:
        """Covariance of the FBP's noise, F0 diag(variance) F0', HU²; ``variance`` is (1, V, D)."""
        return coloured(self.image_noise, self.image_noise_adjoint, variance)


def scan(hu: np.ndarray, grid: ct.Grid, target: ct.Grid, exposure: str) -> Scan:
    """The paper's sparse-view scan of one slice.

    Args:
        hu: (Y, X), HU.
        grid: Its grid.
        target: Where the scan is reconstructed.
        exposure: A name in `EXPOSURES`.

    Raises:
        ValueError: If the exposure is not known or the slice is not on its grid.
    """
    check_one_of("exposure", exposure, EXPOSURES)
    geometry = SCAN.sparse(EVERY)
    return Scan(line_integrals(hu[None], grid, geometry), geometry, target, EXPOSURES[exposure])


@dataclass(frozen=True)
class Scanned:
    """The scans of one patient to train on.

    Attributes:
        sparse: (N, 145, 672), expected line integrals, float32.
        labels: (N, Y, X), HU, float32.
        grid: Of the labels.
    """

    sparse: Tensor
    labels: Tensor
    grid: ct.Grid


def training_scans(root: Path, patients: Iterable[str], label: str, folder: Path) -> list[Scanned]:
    """Sparse line integrals and labels of every slice of some patients, each on their own grid.

    Args:
        root: The archive, as for `noisebook.datasets.ct_pairs`.
        patients: Those to scan.
        label: The images that are projected: ``noise free`` (simulated data) or ``full``.
        folder: Where the result is kept, a file a patient; made if missing.

    Raises:
        ValueError: If slices or their pixels are not square.
    """
    pairs = [datasets.ct_pairs(root, patient, label=label) for patient in patients]
    grids = [grid_of(pair) for pair in pairs]
    folder.mkdir(parents=True, exist_ok=True)
    chosen = zip(tqdm(pairs, desc="scanning patients", mininterval=1.0), grids, strict=True)
    return [_kept(pair.label, grid, folder) for pair, grid in chosen]


def _kept(hu: np.ndarray, grid: ct.Grid, folder: Path) -> Scanned:
    """The scans of a patient, made once."""
    known = sha256(repr((SCAN, EVERY, grid)).encode() + hu.tobytes())
    kept = folder / f"scans-{known.hexdigest()[:8]}.npz"
    if not kept.is_file():
        half_written = kept.with_suffix(".partial.npz")
        sparse, labels = _scanned(hu, grid)
        np.savez(half_written, sparse=sparse, labels=labels)
        half_written.replace(kept)
    with np.load(kept, allow_pickle=False) as stored:
        return Scanned(torch.from_numpy(stored["sparse"]), torch.from_numpy(stored["labels"]), grid)


def _scanned(hu: np.ndarray, grid: ct.Grid) -> tuple[np.ndarray, np.ndarray]:
    full = line_integrals(hu, grid, SCAN)
    return full[:, ::EVERY].numpy(), ct.mu_to_hu(ct.fbp(full, SCAN, grid)).numpy()


def noisy_inputs(scanned: Iterable[Scanned], exposure: str, seed: int) -> list[Tensor]:
    """One noisy FBP of each sparse scan.

    Args:
        scanned: From `training_scans`.
        exposure: A name in `EXPOSURES`.
        seed: Of the noise.

    Returns:
        For each patient (N, Y, X), HU, float32.
    """
    check_one_of("exposure", exposure, EXPOSURES)
    generator = torch.Generator().manual_seed(seed)
    geometry, dose = SCAN.sparse(EVERY), EXPOSURES[exposure]
    found = []
    for one in scanned:
        scans = [Scan(expected[None], geometry, one.grid, dose) for expected in one.sparse]
        found.append(torch.cat([each.fbp(each.measure(1, generator))[:, 0] for each in scans]))
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
