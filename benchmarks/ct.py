"""FBP against scikit-image's `iradon`, its adjoint against FBP: ``python benchmarks/ct.py [--pixels N] [--views N]``.

Both run in this process, in turn; that they agree is checked first.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import compare
from skimage.transform import iradon

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


if __name__ == "__main__":
    main()
