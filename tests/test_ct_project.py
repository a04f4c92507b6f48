"""Projection of voxel images, target reconstructions and sparse views."""

from __future__ import annotations

import math

import pytest
import torch

from noisebook import ct
from noisebook.phantoms import Thorax

FAN = ct.Geometry("fan", 20, 19, 0.8 / 19)
ODD_FAN = ct.Geometry("fan", 22, 19, 0.8 / 19)
PARALLEL = ct.Geometry("parallel", 18, 25, 9.0)
CENTRED, TARGET = ct.Grid(12, 15.0), ct.Grid(12, 9.0, (31.0, -17.0))
SCANS = [(geometry, grid) for geometry in (FAN, ODD_FAN, PARALLEL) for grid in (CENTRED, TARGET)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_projection(image: torch.Tensor, geometry: ct.Geometry, grid: ct.Grid) -> torch.Tensor:
    """Joseph's method ray by ray: march along the nearer axis, interpolate between two pixels across it."""
    columns, rows = (axis.tolist() for axis in grid.axes_mm())
    starts, headings = geometry.rays()
    out = torch.zeros(geometry.sinogram_shape, dtype=torch.float64)

    def value(row: int, column: int) -> float:
        inside = 0 <= row < grid.pixels and 0 <= column < grid.pixels
        return float(image[row, column]) if inside else 0.0

    for v in range(geometry.views):
        for d in range(geometry.channels):
            (x0, y0), (dx, dy) = starts[v, d].tolist(), headings[v, d].tolist()
            total = 0.0
            for step in range(grid.pixels):
                if abs(dy) > abs(dx):
                    place = (x0 + (rows[step] - y0) * dx / dy - columns[0]) / grid.spacing_mm
                    low = math.floor(place)
                    total += (1 - place + low) * value(step, low) + (place - low) * value(step, low + 1)
                else:
                    place = (y0 + (columns[step] - x0) * dy / dx - rows[0]) / grid.spacing_mm
                    low = math.floor(place)
                    total += (1 - place + low) * value(low, step) + (place - low) * value(low + 1, step)
            out[v, d] = total * grid.spacing_mm / max(abs(dx), abs(dy))
    return out


@pytest.mark.parametrize(("geometry", "grid"), SCANS)
def test_projection_equals_josephs_method_ray_by_ray(geometry: ct.Geometry, grid: ct.Grid) -> None:
    """Every line integral is that of the plain loop, on centred and shifted grids, by quarter turns or without."""
    image = random(1, 12, 12)
    torch.testing.assert_close(ct.project(image, geometry, grid)[0], slow_projection(image[0], geometry, grid))


@pytest.mark.parametrize(("geometry", "grid"), SCANS)
@pytest.mark.parametrize("name", ["project", "back_project", "fbp"])
def test_adjoints_are_exact(name: str, geometry: ct.Geometry, grid: ct.Grid) -> None:
    """<A x, y> = <x, A' y> at 1e-10 for batches of two, on centred and shifted grids."""
    image, sinogram = random(2, 12, 12, seed=1), random(2, *geometry.sinogram_shape, seed=2)
    forward, adjoint = getattr(ct, name), getattr(ct, f"{name}_adjoint")
    if name == "project":
        left, right = (
            (forward(image, geometry, grid) * sinogram).sum(),
            (image * adjoint(sinogram, geometry, grid)).sum(),
        )
    else:
        left, right = (
            (forward(sinogram, geometry, grid) * image).sum(),
            (sinogram * adjoint(image, geometry, grid)).sum(),
        )
    torch.testing.assert_close(left, right, rtol=1e-10, atol=0)


def test_mass_is_the_same_in_every_view() -> None:
    """Parallel projections of an image inside the detector have one sum: the image's mass by the channel's pitch."""
    grid = ct.Grid(24, 4.0)
    geometry = ct.Geometry("parallel", 30, 121, 1.0)
    y, x = torch.meshgrid(*reversed(grid.axes_mm()), indexing="ij")
    blob = torch.exp(-((x - 9) ** 2 + (y + 5) ** 2) / 2 / 12**2)[None]
    mass = ct.project(blob, geometry, grid)[0].sum(1)
    torch.testing.assert_close(mass, torch.full_like(mass, float(blob.sum()) * 16), rtol=2e-3, atol=0)


def test_projection_of_a_phantom_is_its_exact_line_integral() -> None:
    """A chest drawn on half-millimetre subpixels projects to the exact chords within 0.5 % in the root mean square."""
    geometry, grid = ct.Geometry(views=12), ct.Grid()
    chest = Thorax(5)
    image = ct.hu_to_mu(chest.image(-60.0))[None]
    exact = chest.slice_path(-60.0, *(ray.float() for ray in geometry.rays())) * ct.MU_WATER_PER_MM
    error = ct.project(image, geometry, grid)[0] - exact
    assert float(error.square().mean().sqrt() / exact.square().mean().sqrt()) < 5e-3


def test_a_part_is_reconstructed_as_the_whole_is() -> None:
    """FBP onto a part of the grid is that part of the FBP; the part alone projects as in an image of zeros."""
    rows, columns = slice(2, 7), slice(5, 10)
    part = CENTRED.part(rows, columns)
    sinogram = random(1, *FAN.sinogram_shape)
    torch.testing.assert_close(ct.fbp(sinogram, FAN, part), ct.fbp(sinogram, FAN, CENTRED)[:, rows, columns])
    image = torch.zeros(1, 12, 12, dtype=torch.float64)
    image[:, rows, columns] = random(1, 5, 5)
    torch.testing.assert_close(ct.project(image[:, rows, columns], FAN, part), ct.project(image, FAN, CENTRED))


def test_a_batch_is_its_members() -> None:
    """Projecting three images at once equals projecting each."""
    images = random(3, 12, 12)
    together = ct.project(images, FAN, CENTRED)
    torch.testing.assert_close(together, torch.cat([ct.project(one[None], FAN, CENTRED) for one in images]))


def test_single_precision_is_close_to_double() -> None:
    """Projection keeps its dtype, and float32 agrees with float64 to 1e-5 of the largest value."""
    image = random(1, 12, 12)
    single = ct.project(image.float(), FAN, CENTRED)
    double = ct.project(image, FAN, CENTRED)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5 * float(double.abs().max()))


def test_sparse_views_are_every_so_manieth() -> None:
    """Every fifth view of twenty has the angles of the four, and a step that does not divide them is refused."""
    sparse = FAN.sparse(5)
    torch.testing.assert_close(sparse.angles_rad(), FAN.angles_rad()[::5])
    image = random(1, 12, 12)
    torch.testing.assert_close(ct.project(image, sparse, CENTRED), ct.project(image, FAN, CENTRED)[:, ::5])
    with pytest.raises(ValueError, match="every: expected a divisor of the 20 views, got 3"):
        FAN.sparse(3)


def test_the_papers_exposures() -> None:
    """2e7 photons at the centre and 4e6 at the edge, a tenth and a hundredth of both, no electronic noise."""
    edges = {name: dose.unattenuated(ct.Geometry()) for name, dose in ct.PAPER_EXPOSURES.items()}
    assert list(edges) == ["I0", "I0/10", "I0/100"]
    for counts, share in zip(edges.values(), (1, 0.1, 0.01), strict=True):
        assert float(counts.max()) == pytest.approx(2e7 * share, rel=1e-4)
        assert float(counts.min()) == pytest.approx(4e6 * share, rel=1e-4)
    assert all(dose.electronic == 0 for dose in ct.PAPER_EXPOSURES.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["project", "project_adjoint", "back_project", "back_project_adjoint", "fbp"])
def test_cuda_agrees_with_the_cpu(name: str) -> None:
    """Every map gives on CUDA what it gives on the CPU."""
    takes_image = name in ("project", "back_project_adjoint")
    data = random(2, 12, 12) if takes_image else random(2, *FAN.sinogram_shape)
    there = getattr(ct, name)(data.cuda(), FAN, TARGET)
    torch.testing.assert_close(there.cpu(), getattr(ct, name)(data, FAN, TARGET))


def test_bad_grids_and_images_are_refused() -> None:
    """Parts outside or not square, centres that are no numbers, sources inside the image, NaN and integers raise."""
    for rows, columns in ((slice(0, 13), slice(0, 13)), (slice(0, 3), slice(0, 4)), (slice(3, 3), slice(3, 3))):
        with pytest.raises(ValueError, match="part: expected a square of an image of 12 x 12"):
            CENTRED.part(rows, columns)
    with pytest.raises(ValueError, match="centre_mm: expected two finite numbers"):
        ct.Grid(12, 1.0, (math.nan, 0.0))
    with pytest.raises(ValueError, match="source_mm: expected more than"):
        ct.project(random(1, 12, 12), FAN, ct.Grid(12, 9.0, (500.0, 300.0)))
    with pytest.raises(ValueError, match="image: expected finite values"):
        ct.project(torch.full((1, 12, 12), math.nan), FAN, CENTRED)
    with pytest.raises(ValueError, match=r"sinogram: expected float32 or float64, got torch\.int64"):
        ct.project_adjoint(torch.zeros(1, *FAN.sinogram_shape, dtype=torch.int64), FAN, CENTRED)
