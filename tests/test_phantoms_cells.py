"""The simulated tissue: seeded, of a given mean, with structure along z."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noisebook.phantoms import Cells


def test_the_mean_is_the_callers() -> None:
    """Expected photons per pixel average to the given mean, never below zero, in planes and in stacks."""
    image, stack = Cells(3).image((40, 56), 4.0), Cells(3).volume((6, 40, 56), 0.02)
    assert (image.shape, stack.shape) == ((40, 56), (6, 40, 56))
    assert (image.dtype, stack.dtype) == (torch.float32, torch.float32)
    assert float(image.mean()) == pytest.approx(4, rel=1e-5)
    assert float(stack.mean()) == pytest.approx(0.02, rel=1e-5)
    assert min(float(image.min()), float(stack.min())) > 0


def test_the_seed_is_the_tissue() -> None:
    """One seed gives one tissue; another gives another."""
    same, again, other = (Cells(seed, "large").image(48, 1.0) for seed in (1, 1, 2))
    torch.testing.assert_close(same, again, rtol=0, atol=0)
    assert (same - other).abs().max() > 0.5


def test_an_image_is_the_first_plane_of_a_stack() -> None:
    """The plane and the stack are of one tissue, but for the scale."""
    image, plane = Cells(4).image(40, 1.0), Cells(4).volume((9, 40, 40), 1.0)[0]
    torch.testing.assert_close(image, plane / plane.mean(), rtol=1e-5, atol=1e-6)


def test_neighbouring_planes_resemble_each_other() -> None:
    """Planes next to each other are alike, planes far apart are not: there is structure along z."""
    stack = Cells(5, "small").volume((64, 64, 64), 1.0).flatten(1)
    near, far = (float(torch.corrcoef(stack[[0, k]])[0, 1]) for k in (1, 60))
    assert near > 0.8
    assert abs(far) < 0.3


def test_the_kinds_differ_in_the_size_of_their_cells() -> None:
    """Small cells have more walls; both kinds are drawn."""
    large, small = (Cells(1, kind).image(96, 1.0) for kind in ("large", "small"))
    edges = [
        float(np.abs(np.diff(image.numpy(), axis=0)).mean()) for image in (large / large.max(), small / small.max())
    ]
    assert edges[1] > 1.3 * edges[0]
    assert {Cells(seed).kind for seed in range(20)} == {"large", "small"}


def test_bad_tissues_are_refused() -> None:
    """Unknown kinds, no pixels and means that are no number raise."""
    with pytest.raises(ValueError, match="kind: expected one of large, small, got 'huge'"):
        Cells(0, "huge")
    with pytest.raises(ValueError, match="shape, Y: expected a number above zero"):
        Cells(0).image((0, 4), 1.0)
    with pytest.raises(ValueError, match="mean: expected a finite number"):
        Cells(0).image(4, math.inf)
    with pytest.raises(ValueError, match="mean: expected a number above zero"):
        Cells(0).image(4, -1.0)
