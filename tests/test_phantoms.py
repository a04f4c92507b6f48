"""The simulated thorax: exact integrals, one anatomy in two projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noisebook import ct
from noisebook.phantoms import Thorax


@pytest.fixture(scope="module")
def thorax() -> Thorax:
    """One patient for all tests."""
    return Thorax(7)


def test_line_integrals_equal_sampling_along_the_rays(thorax: Thorax) -> None:
    """The exact chord lengths agree with a fine Riemann sum through the rendered slice, within its pixel error."""
    geometry, grid = ct.Geometry("parallel", 7, 60, 5.0), ct.Grid(800, 0.5)
    image = thorax.image(-40.0, pixels=grid.pixels, spacing_mm=grid.spacing_mm, oversampling=1).double() / 1000 + 1
    origins, directions = geometry.rays()
    steps = torch.arange(-199.75, 200, 0.5, dtype=torch.float64)
    points = origins[..., None, :] + steps[:, None] * directions[..., None, :]
    index = (points / grid.spacing_mm + (grid.pixels - 1) / 2).round().long().clamp(0, grid.pixels - 1)
    sampled = image[index[..., 1], index[..., 0]].sum(-1) * 0.5
    exact = thorax.slice_path(-40.0, origins, directions)
    assert (exact - sampled).abs().mean() < 0.5  # mm of water, of up to 300: half a step at every edge
    assert abs(float((exact - sampled).mean())) < 0.1
    assert exact.max() > 150


def test_mass_is_the_same_from_every_angle(thorax: Thorax) -> None:
    """The sum of a parallel projection over the detector does not depend on the view angle."""
    geometry = ct.Geometry("parallel", 12, 2000, 0.25)
    mass = thorax.slice_path(-10.0, *geometry.rays()).sum(1) * geometry.pitch
    assert float(mass.std() / mass.mean()) < 1e-3


def test_slices_have_tissue_lung_bone_and_air(thorax: Thorax) -> None:
    """A slice through the heart holds air outside, lung near -850 HU, muscle near 50 HU and bone above 300 HU."""
    image = thorax.image(-20.0, pixels=256, spacing_mm=1.5)
    assert image.shape == (256, 256)
    assert image.dtype == torch.float32
    assert image[0, 0] == -1000
    ranges = ((-900, -780), (20, 110), (300, 2000))
    shares = [float(((image > low) & (image < high)).float().mean()) for low, high in ranges]
    assert shares[0] > 0.05
    assert shares[1] > 0.1
    assert 0.001 < shares[2] < 0.05
    assert image.min() >= -1060


def test_the_seed_is_the_patient() -> None:
    """One seed gives one anatomy; another gives another."""
    same, again, other = (Thorax(seed).image(0.0, pixels=64, spacing_mm=6.0) for seed in (1, 1, 2))
    torch.testing.assert_close(same, again, rtol=0, atol=0)
    assert (same - other).abs().max() > 100


def test_the_radiograph_sees_the_anatomy_of_the_slices(thorax: Thorax) -> None:
    """A nearly parallel radiograph equals the slices' integrals along y, row for row."""
    picture = thorax.radiograph(pixels=33, spacing_mm=10.0, source_mm=1e7)
    x = (torch.arange(33, dtype=torch.float64) - 16) * 10
    for row in (5, 16, 27):
        origins = torch.stack([x, torch.zeros_like(x)], -1)
        directions = torch.tensor([0.0, 1.0], dtype=torch.float64).expand_as(origins)
        expected = thorax.slice_path(-(row - 16) * 10.0, origins, directions)
        torch.testing.assert_close(picture[row], expected, rtol=0, atol=0.05)


def test_integrals_are_never_negative(thorax: Thorax) -> None:
    """No line carries less than nothing: overlapping parts never add up below vacuum along a ray."""
    for z in np.linspace(-120, 120, 5):
        path = thorax.slice_path(float(z), *ct.Geometry("parallel", 20, 300, 1.5).rays())
        assert path.min() > -1e-9


def test_bad_sizes_are_refused(thorax: Thorax) -> None:
    """Zero pixels and mismatched rays raise."""
    with pytest.raises(ValueError, match="pixels: expected a number above zero"):
        thorax.image(0.0, pixels=0)
    with pytest.raises(ValueError, match="directions: expected shape"):
        thorax.slice_path(0.0, torch.zeros(3, 2), torch.zeros(4, 2))


def test_planes_and_lines_that_are_none_are_refused() -> None:
    """A plane that is no number, and directions that are not of unit length, raise."""
    thorax = Thorax(0)
    with pytest.raises(ValueError, match="z_mm: expected a finite number"):
        thorax.image(float("nan"))
    with pytest.raises(ValueError, match="directions: expected unit vectors, got a length of 2"):
        thorax.slice_path(0.0, torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]))
    with pytest.raises(ValueError, match="origins: expected finite values"):
        thorax.slice_path(0.0, torch.full((1, 2), float("inf")), torch.tensor([[1.0, 0.0]]))


def test_opacities_are_added_to_the_same_anatomy() -> None:
    """Without opacities a patient is unchanged; each of them makes lung denser by up to 550 HU."""
    clean, ill = Thorax(3), Thorax(3, opacities=2)
    change = ill.radiograph(pixels=48, spacing_mm=8.0) - clean.radiograph(pixels=48, spacing_mm=8.0)
    assert float(change.min()) > -1e-9
    assert 3 < float(change.max()) < 2 * 0.55 * 80
    assert 0.01 < float((change > 0.1).double().mean()) < 0.5
    torch.testing.assert_close(Thorax(3, opacities=0).image(0.0, pixels=64), clean.image(0.0, pixels=64))
    with pytest.raises(ValueError, match="opacities: expected 0 or more, got -1"):
        Thorax(3, opacities=-1)


@pytest.mark.parametrize("source_mm", [600.0, 1800.0])
def test_the_radiograph_leaves_out_no_ray(source_mm: float) -> None:
    """Following only the rays near a body gives what all rays give, also for a source that is close."""
    thorax = Thorax(4, opacities=1)
    picture = thorax.radiograph(pixels=31, spacing_mm=13.0, source_mm=source_mm)
    axis = (torch.arange(31, dtype=torch.float64) - 15) * 13.0
    source = torch.tensor([0.0, source_mm - 250, 0.0], dtype=torch.float64)
    bodies = dict(enumerate(zip(thorax._to_ball, thorax._centres, [1.0] * len(thorax._centres), strict=True)))
    rays = torch.stack([torch.stack([x, torch.tensor(-250.0), -z]) for z in axis for x in axis]) - source
    rays = rays / rays.norm(dim=-1, keepdim=True)
    expected = thorax._path(bodies, source.expand_as(rays), rays).reshape(31, 31)
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-9)
