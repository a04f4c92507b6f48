"""A seeded plant-like tissue: bright walls between cells, dim cells, bright grains in some; flat or along z as well.

It is simulated, and like no specimen in particular. The cells are the Voronoi cells of random points in three
dimensions: a plane through them is an image, planes one after another a stack, so that what lies above and below a
pixel tells something about it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from noisebook._checks import check_positive, error

SIZES_PX = {"large": 22.0, "small": 12.0}
"""Side of the cube that a cell fills on average, in pixels within a plane, for the two kinds of tissue."""
STRETCH = 3.0
"""Cells are so many times as long along z as in a plane, as those of stems and roots are."""
_WALL_PX = 1.2


class Cells:
    """A seeded random tissue (simulated) of one of two kinds, large cells or small ones.

    Args:
        seed: Chooses the tissue; the same seed gives the same one on every machine.
        kind: ``large`` or ``small``; drawn from the seed with equal chances if None.

    Attributes:
        kind: ``large`` or ``small``.

    Raises:
        ValueError: If the kind is another.
    """

    def __init__(self, seed: int, kind: str | None = None) -> None:
        self._seed = seed
        drawn = ("large", "small")[int(np.random.default_rng([seed, 0xCE115]).integers(2))]
        self.kind = drawn if kind is None else kind
        if self.kind not in SIZES_PX:
            raise error("kind", "one of large, small", repr(kind))

    def image(self, pixels: int | tuple[int, int], mean: float) -> Tensor:
        """A plane of the tissue: (Y, X) float32, expected photons.

        Args:
            pixels: Side, or (Y, X).
            mean: Expected photons per pixel, on average over the plane.

        Raises:
            ValueError: If a side or the mean is not a finite number above zero.
        """
        high, wide = (pixels, pixels) if isinstance(pixels, int) else pixels
        return self.volume((1, high, wide), mean)[0]

    def volume(self, shape: tuple[int, int, int], mean: float) -> Tensor:
        """A stack of planes, one pixel apart: (Z, Y, X) float32, expected photons.

        Args:
            shape: (Z, Y, X). But for its scale, the first plane of a stack is the `image` of the same height
                and width.
            mean: Expected photons per pixel, on average over the stack.

        Raises:
            ValueError: If a side or the mean is not a finite number above zero.
        """
        for name, side in zip("ZYX", shape, strict=True):
            check_positive(f"shape, {name}", side)
        check_positive("mean", mean)
        if not math.isfinite(mean):
            raise error("mean", "a finite number", mean)
        tree, lumen, grains = self._tissue(shape)
        planes = [self._plane(tree, lumen, grains, z, shape[1:]) for z in range(shape[0])]
        structure = np.stack(planes)
        return torch.from_numpy((structure * (mean / structure.mean())).astype(np.float32))

    def _tissue(self, shape: tuple[int, int, int]) -> tuple[cKDTree, np.ndarray, cKDTree]:
        """Centres, the brightness of each cell, and bright grains, with z in units of the stretched pixel.

        They are drawn slab by slab, so that a higher stack goes on where a lower one ends.
        """
        size = SIZES_PX[self.kind]
        margin = 3 * size
        centres, lumen, grains = [], [], []
        for slab in range(-1, int(shape[0] / STRETCH // margin) + 2):
            random = np.random.default_rng([self._seed, slab + 1, 0x715])
            low = np.array([slab * margin, -margin, -margin])
            extent = np.array([margin, shape[1] + 2 * margin, shape[2] + 2 * margin])
            count = random.poisson(extent.prod() / size**3)
            centres.append(low + extent * random.uniform(size=(count, 3)))
            lumen.append(random.uniform(0.05, 0.35, count) ** 1.5)
            grained = random.uniform(size=(count, 4)) < 0.35
            offset = random.normal(size=(count, 4, 3)) * size * 0.18
            grains.append((centres[-1][:, None] + offset)[grained])
        return cKDTree(np.concatenate(centres)), np.concatenate(lumen), cKDTree(np.concatenate(grains))

    def _plane(self, tree: cKDTree, lumen: np.ndarray, grains: cKDTree, z: int, sides: tuple[int, int]) -> np.ndarray:
        """Brightness of one plane, (Y, X): 1 on a wall."""
        y, x = np.meshgrid(*(np.arange(side, dtype=float) for side in sides), indexing="ij")
        points = np.stack([np.full_like(y, z / STRETCH), y, x], -1).reshape(-1, 3)
        (first, second), (one, other) = (found.T for found in tree.query(points, k=2))
        between = np.linalg.norm(tree.data[one] - tree.data[other], axis=1)
        to_wall = (second**2 - first**2) / (2 * between)  # distance to the plane half way between the two centres
        wall = np.exp(-((to_wall / _WALL_PX) ** 2))
        near, _ = grains.query(points, distance_upper_bound=6.0)
        grain = 0.8 * np.exp(-((np.minimum(near, 6.0) / 1.6) ** 2))
        return np.asarray(np.maximum(np.maximum(wall, grain), lumen[one]).reshape(sides))
