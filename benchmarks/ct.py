"""FBP and projection against scikit-image, fan beam against the phantom: ``python benchmarks/ct.py [--pixels N]``.

All run in this process, in turn; that they agree is checked first.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import compare
from scipy import ndimage
from skimage.transform import iradon, radon

from noisebook import ct
from noisebook.phantoms import Thorax


def main() -> None:
    """Check equality, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=513, help="odd, so that both centre on the same pixel")
    parser.add_argument("--views", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    n, spacing = arguments.pixels, 384 / arguments.pixels
    geometry, grid = ct.Geometry("parallel", arguments.views, n, spacing), ct.Grid(n, spacing)
    sinogram = (Thorax(0).slice_path(-60.0, *geometry.rays()) * ct.MU_WATER_PER_MM).float()[None]
    angles, columns = np.degrees(geometry.angles_rad().numpy()), sinogram[0].numpy().T
    image = ct.fbp(sinogram, geometry, grid)
    reference = iradon(columns, angles, n, "hann") / spacing
    y, x = np.mgrid[:n, :n] - n // 2
    inside = np.hypot(y, x) < n // 2 - 2
    difference = np.abs(image[0].flip(0).numpy() - reference)[inside].max() / ct.MU_WATER_PER_MM * 1000
    print(f"largest difference from iradon: {difference:.3f} HU")
    if difference > 2:
        raise SystemExit("they do not agree")
    name = f"FBP, {n}² from {arguments.views} parallel views"
    compare(
        name, lambda: ct.fbp(sinogram, geometry, grid), lambda: iradon(columns, angles, n, "hann"), arguments.rounds
    )
    compare(
        "adjoint (plain: one FBP)",
        lambda: ct.fbp_adjoint(image, geometry, grid),
        lambda: ct.fbp(sinogram, geometry, grid),
        arguments.rounds,
    )
    project(n, arguments.views, arguments.rounds)
    fan_beam()


def project(n: int, views: int, rounds: int) -> None:
    """Joseph's projection against scikit-image's rotations."""
    spacing = 384 / n
    geometry, grid = ct.Geometry("parallel", views, n, spacing), ct.Grid(n, spacing)
    image = torch.from_numpy(disc(n, spacing) * ct.MU_WATER_PER_MM).float()[None]
    angles = np.degrees(geometry.angles_rad().numpy())
    plain = image[0].flip(0).numpy()
    difference = ct.project(image, geometry, grid)[0].numpy() - radon(plain, angles, circle=True).T * spacing
    share = float(np.sqrt((difference**2).mean()) / ct.project(image, geometry, grid).square().mean().sqrt())
    print(f"projection of a disc differs from radon's by {share:.2%} (root mean square)")
    if share > 0.01:
        raise SystemExit("they do not agree")
    name = f"projection, {n}² to {views} parallel views"
    compare(name, lambda: ct.project(image, geometry, grid), lambda: radon(plain, angles, circle=True), rounds)


def disc(n: int, spacing: float) -> np.ndarray:
    """A disc of one, 120 mm in radius, 20 mm off the centre, (n, n)."""
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    return (np.hypot(axis[:, None] - 20, axis) < 120).astype(np.float64)


def fan_beam() -> None:
    """The paper's full scan of the chest phantom from exact line integrals, against its drawn slice."""
    geometry, grid = ct.Geometry(views=1160), ct.Grid()
    chest = Thorax(50)
    lines = chest.slice_path(-60.0, *(ray.float() for ray in geometry.rays())) * ct.MU_WATER_PER_MM
    error = (ct.mu_to_hu(ct.fbp(lines[None], geometry, grid))[0] - chest.image(-60.0, oversampling=3)).numpy()
    flat = chest.image(-60.0, oversampling=3).numpy()
    uniform = (ndimage.maximum_filter(flat, 15) - ndimage.minimum_filter(flat, 15) < 1) & (flat > -200)
    print(
        f"fan beam, 1160 views, against the phantom: {error[uniform].mean():+.2f} HU, standard deviation "
        f"{error[uniform].std():.2f} HU, in {uniform.sum()} pixels of soft tissue uniform for 7 pixels around"
    )


if __name__ == "__main__":
    main()
