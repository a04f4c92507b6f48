"""The paper's scans, simulated from images: sparse-view fan-beam FBP at three exposures, and its noise.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475. As there, an image is projected, Poisson counts are drawn, and every eighth
of 1160 views is reconstructed; the label is the noise-free FBP of all views.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from noisebook import ct, datasets, dicom, photons
from noisebook._checks import check_one_of, error
from noisebook.jacobian import Covariance, coloured

SCAN = ct.Geometry("fan", 1160, 672, 1.2858 / 1085.6, 595.0)
"""The paper's full scan."""
EVERY = 8
"""The paper reconstructs every eighth view."""
EXPOSURES = ct.PAPER_EXPOSURES
"""The paper's exposures. Our chests attenuate less than its abdomens, so that the same photons give less noise."""
_HU_PER_MU = 1000 / ct.MU_WATER_PER_MM


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
