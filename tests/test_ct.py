"""Scan geometry, filtered back-projection, its adjoint and the dose model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import iradon

from noisebook import ct
from noisebook.phantoms import Thorax

FAN = ct.Geometry("fan", 60, 84, 0.795 / 84)
PARALLEL = ct.Geometry("parallel", 58, 75, 3.3)
ODD = ct.Geometry("fan", 37, 50, 0.7 / 50)  # no quarter-turn symmetry
GRID = ct.Grid(64, 5.0)


def slow_back_projection(sinogram: torch.Tensor, geometry: ct.Geometry, grid: ct.Grid) -> torch.Tensor:
    """Pixel by pixel and view by view, straight from the formulas."""
    image = torch.zeros(grid.pixels, grid.pixels, dtype=torch.float64)
    axis = grid.axes_mm()[0].tolist()
    for beta, row in zip(geometry.angles_rad().tolist(), sinogram, strict=True):
        for i, y in enumerate(axis):
            for j, x in enumerate(axis):
                across, weight = x * math.cos(beta) + y * math.sin(beta), math.pi / geometry.views
                if geometry.beam == "fan":
                    depth = geometry.source_mm + x * math.sin(beta) - y * math.cos(beta)
                    weight = 2 * math.pi / geometry.views / (across**2 + depth**2)
                    across = math.atan2(across, depth)
                c = across / geometry.pitch + (geometry.channels - 1) / 2
                low = math.floor(c)
                for channel, share in ((low, 1 - (c - low)), (low + 1, c - low)):
                    if 0 <= channel < geometry.channels:
                        image[i, j] += weight * share * row[channel]
    return image


@pytest.mark.parametrize("geometry", [FAN, PARALLEL, ODD], ids=["fan", "parallel", "no symmetry"])
def test_back_projection_equals_the_formula_pixel_by_pixel(geometry: ct.Geometry) -> None:
    """The grouped back-projection equals a plain triple loop, also outside the fan."""
    grid = ct.Grid(14, 30.0)
    sinogram = torch.rand(2, *geometry.sinogram_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fast = ct.back_project(sinogram, geometry, grid)
    for one, image in zip(sinogram, fast, strict=True):
        torch.testing.assert_close(image, slow_back_projection(one, geometry, grid), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("geometry", [FAN, PARALLEL, ODD], ids=["fan", "parallel", "no symmetry"])
@pytest.mark.parametrize("name", ["back_project", "fbp"])
def test_adjoint(name: str, geometry: ct.Geometry) -> None:
    """<A s, x> = <s, A' x> in float64 at 1e-10, for back-projection and for the whole FBP, sinograms not square."""
    generator = torch.Generator().manual_seed(2)
    s = torch.randn(3, *geometry.sinogram_shape, dtype=torch.float64, generator=generator)
    x = torch.randn(3, GRID.pixels, GRID.pixels, dtype=torch.float64, generator=generator)
    forward, adjoint = getattr(ct, name), getattr(ct, name + "_adjoint")
    left, right = (forward(s, geometry, GRID) * x).sum(), (s * adjoint(x, geometry, GRID)).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=0)


@pytest.mark.parametrize("geometry", [ct.Geometry(), ct.Geometry("parallel", 720, 700, 0.6)], ids=["fan", "parallel"])
def test_fbp_recovers_a_water_disc(geometry: ct.Geometry) -> None:
    """A disc of water, 100 mm in radius, comes back at 0 HU inside within 1 HU and at -1000 HU outside within 5 HU."""
    origins, directions = geometry.rays()
    near = (origins * directions).sum(-1, keepdim=True)
    distance = (origins - near * directions).norm(dim=-1)
    sinogram = 2 * (100**2 - distance**2).clamp(min=0).sqrt() * ct.MU_WATER_PER_MM
    grid = ct.Grid(128, 2.0)
    image = ct.mu_to_hu(ct.fbp(sinogram[None].float(), geometry, grid))[0]
    axis = grid.axes_mm()[0]
    radius = torch.hypot(*torch.meshgrid(axis, axis, indexing="ij"))
    assert image[radius < 80].mean().abs() < 1
    assert (image[(radius > 115) & (radius < 125)] + 1000).abs().mean() < 5


def test_parallel_fbp_agrees_with_scikit_image() -> None:
    """Parallel FBP of a thorax agrees with `skimage.transform.iradon` (Hann) within 0.1 % of water's attenuation."""
    n, geometry = 129, ct.Geometry("parallel", 180, 129, 3.0)  # odd: both then centre on pixel 64
    sinogram = Thorax(3).slice_path(-20.0, *geometry.rays()) * ct.MU_WATER_PER_MM
    ours = ct.fbp(sinogram[None], geometry, ct.Grid(n, 3.0))[0].flip(0).numpy()  # scikit-image's y points up
    theirs = iradon(sinogram.numpy().T, np.degrees(geometry.angles_rad().numpy()), n, "hann", circle=True) / 3.0
    yy, xx = np.mgrid[:n, :n] - n // 2
    inside = np.hypot(yy, xx) < 62
    assert np.abs(theirs - ours)[inside].max() < 1e-3 * ct.MU_WATER_PER_MM


def test_float32_is_close_to_float64() -> None:
    """FBP in float32 agrees with float64 to 0.1 HU."""
    sinogram = (Thorax(1).slice_path(-50.0, *FAN.rays()) * ct.MU_WATER_PER_MM)[None]
    double = ct.mu_to_hu(ct.fbp(sinogram, FAN, GRID))
    single = ct.mu_to_hu(ct.fbp(sinogram.float(), FAN, GRID))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=0.1)


def test_a_lower_cutoff_lowers_the_noise() -> None:
    """White sinogram noise comes out weaker as the apodising window narrows."""
    noise = torch.randn(1, *FAN.sinogram_shape, generator=torch.Generator().manual_seed(0))
    sd = [float(ct.fbp(noise, FAN, GRID, cutoff=c).std()) for c in (1.0, 0.7, 0.4)]
    assert sd[0] > sd[1] > sd[2]


def test_rays_pass_where_back_projection_looks() -> None:
    """The line of each view and channel has, at its nearest point, that channel's coordinate."""
    for geometry in (FAN, PARALLEL):
        origins, directions = geometry.rays()
        beta, s = geometry.angles_rad()[:, None], geometry.channel_coordinates()[None]
        point = origins + 123.0 * directions
        across = point[..., 0] * torch.cos(beta) + point[..., 1] * torch.sin(beta)
        if geometry.beam == "fan":
            depth = geometry.source_mm + point[..., 0] * torch.sin(beta) - point[..., 1] * torch.cos(beta)
            across = torch.atan2(across, depth)
        torch.testing.assert_close(across, s.expand_as(across), rtol=0, atol=1e-9)
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones_like(across))


def test_hu_and_mu_are_inverse_and_fixed_by_water_and_air() -> None:
    """Water is 0 HU, vacuum -1000 HU, and the two maps undo each other."""
    mu = torch.tensor([0.0, ct.MU_WATER_PER_MM, 0.05])
    torch.testing.assert_close(ct.mu_to_hu(mu)[:2], torch.tensor([-1000.0, 0.0]))
    torch.testing.assert_close(ct.hu_to_mu(ct.mu_to_hu(mu)), mu)


def test_measured_line_integrals_have_the_stated_mean_and_variance() -> None:
    """Poisson counts with electronic noise, log-transformed, match the first-order variance within 3 %."""
    dose, geometry = ct.Dose(4e4, electronic=10.0), replace(FAN, views=400)
    line = torch.full((1, *geometry.sinogram_shape), 2.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    counts = torch.poisson(dose.expected_counts(line, geometry), generator=generator)
    measured = dose.log_transform(counts, geometry, generator)
    assert abs(float((measured - line).mean())) < 1e-3
    ratio = float(((measured - line).square() / dose.variance(line, geometry)).mean())
    assert ratio == pytest.approx(1, abs=0.03)


def test_bow_tie_falls_to_the_edge_share() -> None:
    """The bow-tie gives the full photons in the centre and the stated share at the outermost channels."""
    profile = ct.Dose(1e5, edge_share=0.2).unattenuated(ct.Geometry(channels=673))
    assert profile[336] == pytest.approx(1e5)
    assert profile[0] == pytest.approx(2e4)
    assert (profile - profile.flip(0)).abs().max() < 1e-6


def test_bad_input_is_refused() -> None:
    """Unknown beams, impossible fans, wrong shapes and NaN raise with expected and got."""
    with pytest.raises(ValueError, match="beam: expected one of fan, parallel, got 'cone'"):
        ct.Geometry("cone")
    with pytest.raises(ValueError, match="fan angle: expected below pi rad"):
        ct.Geometry("fan", pitch=1.0)
    with pytest.raises(ValueError, match="views: expected a whole number above zero, got 0"):
        ct.Geometry(views=0)
    with pytest.raises(ValueError, match=r"sinogram: expected shape \('any', 60, 84\), got shape \(1, 84, 60\)"):
        ct.fbp(torch.zeros(1, 84, 60), FAN, GRID)
    bad = torch.zeros(1, 60, 84)
    bad[0, 3, 4] = math.nan
    with pytest.raises(ValueError, match="sinogram: expected finite values, got 1 that are not"):
        ct.fbp(bad, FAN, GRID)
    with pytest.raises(ValueError, match=r"sinogram: expected float32 or float64, got torch\.int64"):
        ct.fbp(torch.zeros(1, 60, 84, dtype=torch.int64), FAN, GRID)
    with pytest.raises(ValueError, match="image: expected finite values"):
        ct.fbp_adjoint(torch.full((1, 64, 64), math.nan), FAN, GRID)
    with pytest.raises(ValueError, match="source_mm: expected more than the 226"):
        ct.fbp(torch.zeros(1, 60, 84), replace(FAN, source_mm=200.0), GRID)
    with pytest.raises(ValueError, match=r"views: expected a whole number above zero, got 10\.5"):
        ct.Geometry(views=10.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pixels: expected a whole number above zero, got -3"):
        ct.Grid(-3)
    with pytest.raises(ValueError, match="photons: expected a number above zero, got nan"):
        ct.Dose(math.nan)
    with pytest.raises(ValueError, match=r"edge_share: expected within \(0, 1\], got -2"):
        ct.Dose(edge_share=-2)
    with pytest.raises(ValueError, match="electronic: expected at least 0, got -1"):
        ct.Dose(electronic=-1)
    with pytest.raises(ValueError, match="image: expected shape"):
        ct.fbp_adjoint(torch.zeros(1, 8, 8), FAN, GRID)
    with pytest.raises(ValueError, match="cutoff: expected a number above zero"):
        ct.fbp(torch.zeros(1, 60, 84), FAN, GRID, cutoff=0)
