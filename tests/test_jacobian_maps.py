"""Crops, variances and noise maps of the Jacobian against the dense matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from noisebook import ct
from noisebook.jacobian import Jacobian, coloured, diagonal, noise_map, white
from noisebook.papers.linearized.model import FBPConvNet


def net(levels: int = 2) -> FBPConvNet:
    """A random U-Net of one channel."""
    torch.manual_seed(1)
    model = FBPConvNet(2, levels).eval()
    nn.init.normal_(model.last.weight)
    return model.double()


def image(side: int, seed: int = 0) -> torch.Tensor:
    """White noise of 100, (1, 1, side, side) float64."""
    return 100 * torch.randn(1, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(operator: Jacobian) -> torch.Tensor:
    """J as a matrix, one reverse product a row."""
    rows, columns = operator.output.shape[2:]
    return torch.cat([operator.T @ operator.impulse((r, c)) for r in range(rows) for c in range(columns)]).flatten(1)


@pytest.fixture(scope="module")
def small() -> tuple[Jacobian, torch.Tensor]:
    """The operator of a net on 16 x 16 pixels, and its matrix."""
    operator = Jacobian(net(), image(16))
    return operator, dense(operator)


@pytest.mark.parametrize("pixel", [(0, 0), (21, 22), (22, 21), (23, 39), (20, 20), (47, 47)])
def test_crops_are_exact(pixel: tuple[int, int]) -> None:
    """Response, variance and covariance from crops equal those of the whole image, at every phase and side."""
    model, point = net(3), image(48)
    whole, cropped = Jacobian(model, point), Jacobian(model, point, halo=model.halo, stride=model.stride)
    roi = (slice(max(0, pixel[0] - 5), min(48, pixel[0] + 3)), slice(max(0, pixel[1] - 5), min(48, pixel[1] + 3)))
    shade = diagonal(1 + torch.rand(point.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    covariance = whole.covariance_image(pixel, shade)
    torch.testing.assert_close(cropped.covariance_image(pixel, shade, roi), covariance[(..., *roi)])
    torch.testing.assert_close(cropped.covariance_image(pixel, shade), covariance)
    torch.testing.assert_close(cropped.row(pixel), whole.T @ whole.impulse(pixel))
    torch.testing.assert_close(cropped.local_response(pixel), whole.local_response(pixel))
    assert cropped.variance(pixel, shade) == pytest.approx(float(covariance[(0, 0, *pixel)]), rel=1e-9)


def test_a_region_apart_from_the_pixel_has_its_own_crop() -> None:
    """The covariance of a pixel with a region elsewhere is the whole image's there, for noise that spans the image."""
    model, point = net(2), image(64)
    far = (slice(50, 60), slice(40, 64))
    spanning = coloured(lambda d: d + d.mean((1, 2), True), lambda v: v + v.mean((1, 2), True), torch.ones(1, 64, 64))
    cropped = Jacobian(model, point, halo=model.halo, stride=model.stride)
    expected = Jacobian(model, point).covariance_image((3, 5), spanning)[(..., *far)]
    torch.testing.assert_close(cropped.covariance_image((3, 5), spanning, far), expected)
    assert float(expected.abs().max()) > 0


def test_a_crop_costs_its_share_of_the_image() -> None:
    """Evaluations on a crop of a quarter of the area count a quarter."""
    model = net(2)
    operator = Jacobian(model, image(40), halo=model.halo, stride=model.stride)
    assert operator.evaluations == 0
    operator.variance((20, 20), white(1.0))
    assert operator.evaluations == pytest.approx(2 * ((2 + 2 * model.halo) / 40) ** 2)


def test_many_products_equal_few(small: tuple[Jacobian, torch.Tensor]) -> None:
    """Products replayed from a kept linearization equal forward mode and the matrix, and cost 1 each."""
    operator = Jacobian(net(), image(16))
    vectors = torch.randn(20, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = vectors.flatten(1) @ small[1].T
    torch.testing.assert_close((operator @ vectors[:3]).flatten(1), expected[:3])
    assert operator.evaluations == 1 + 3 * 3
    torch.testing.assert_close((operator @ vectors).flatten(1), expected)
    assert operator.evaluations == 10 + 1 + 20
    operator @ vectors[:1]
    assert operator.evaluations == 32


class Untraceable(nn.Module):
    """A linear map whose code branches on values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the image, or three times."""
        return x * 2 if bool(x.sum() > 0) else x * 3


def test_a_model_that_cannot_be_traced_still_works() -> None:
    """Where no linearization can be traced, many products fall back to forward mode."""
    vectors = torch.ones(17, 1, 2, 2)
    torch.testing.assert_close(Jacobian(Untraceable(), torch.ones(1, 1, 2, 2)) @ vectors, 2 * vectors)


class Shared(nn.Module):
    """One convolution used twice, whose first result is used scaled and unscaled, and a result changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.again = nn.Conv2d(1, 1, 3, padding=1), nn.ConvTranspose2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_var.fill_(4.0)  # type: ignore[union-attr, operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A sum of all of these."""
        first = self.once(x)
        copy = x.clone()
        copy[..., 0, :] = 0
        return self.norm(first) + first + self.norm(self.once(x)) + self.norm(self.again(x)).relu() + x.mul(2) + copy


@pytest.mark.parametrize("model", [Shared(), nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())])
def test_simplified_linearizations_are_the_same_map(model: nn.Module) -> None:
    """Scales moved into weights and copies dropped change no product, whatever shares them or writes in place."""
    operator = Jacobian(model.double().eval(), torch.rand(1, 1, 6, 5, dtype=torch.float64))
    operator.linearize()
    vectors = torch.eye(30, dtype=torch.float64).reshape(30, 1, 6, 5)
    dense = torch.autograd.functional.jacobian(model, operator.image).reshape(-1, 30)
    torch.testing.assert_close((operator @ vectors).flatten(1).T, dense)
    torch.testing.assert_close((operator @ vectors).flatten(1).T, dense)


def test_coloured_covariance_is_that_of_fbp() -> None:
    """F diag F' of a small FBP equals the dense product, and draws have it."""
    geometry, grid = ct.Geometry("fan", 12, 14, 0.05), ct.Grid(6, 10.0)
    matrix = ct.fbp(torch.eye(12 * 14, dtype=torch.float64).reshape(-1, 12, 14), geometry, grid).flatten(1).T
    variance = torch.rand(1, 12, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = coloured(lambda y: ct.fbp(y, geometry, grid), lambda x: ct.fbp_adjoint(x, geometry, grid), variance)
    expected = matrix @ torch.diag(variance.flatten()) @ matrix.T
    applied = covariance(torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)).flatten(1)
    torch.testing.assert_close(applied, expected)
    drawn = covariance.draw(torch.zeros(1, 1, 6, 6).double(), 4000, torch.Generator().manual_seed(1)).flatten(1)
    torch.testing.assert_close(drawn.T @ drawn / 4000, expected, rtol=0, atol=0.1 * float(expected.diag().max()))


def test_draws_have_their_covariance() -> None:
    """White and diagonal noise is drawn with the variance that it applies."""
    like = torch.zeros(1, 1, 3, 4)
    shade = torch.arange(12.0).reshape(1, 1, 3, 4)
    for covariance, expected in ((white(4.0), torch.full((1, 3, 4), 4.0)), (diagonal(shade), shade[0])):
        drawn = covariance.draw(like, 4000, torch.Generator().manual_seed(2))
        torch.testing.assert_close(drawn.square().mean(0), expected, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("coloured_noise", [False, True])
def test_noise_maps_are_the_roots_of_the_diagonal(small: tuple[Jacobian, torch.Tensor], coloured_noise: bool) -> None:
    """Exact maps equal sqrt(diag(J S J')); random and structured ones lie within about their stated errors."""
    operator, matrix = small
    if coloured_noise:
        blur = nn.functional.avg_pool2d
        noise = coloured(lambda d: blur(d, 3, 1, 1), lambda v: blur(v, 3, 1, 1), torch.ones(1, 16, 16).double())
    else:
        noise = white(2.0)
    covariance = noise(torch.eye(256, dtype=torch.float64).reshape(256, 1, 16, 16)).flatten(1)
    expected = (matrix @ covariance @ matrix.T).diag().sqrt().reshape(16, 16)
    exact = noise_map(operator, noise, method="exact")
    torch.testing.assert_close(exact.sd, expected)
    assert exact.standard_error == 0
    for method, options in (("random", {"probes": 400}), ("structured", {"period": 8})):
        found = noise_map(operator, noise, method=method, **options)
        error = float((found.sd / expected - 1).square().mean().sqrt())
        assert error < 2 * found.standard_error
        assert found.standard_error < 0.5
    assert noise_map(operator, noise, method="random", probes=400).standard_error == pytest.approx(1 / math.sqrt(800))


def test_structured_probes_are_exact_where_covariance_is_short() -> None:
    """For a network that mixes nothing every probe gives the variance itself, with no error."""
    found = noise_map(Jacobian(nn.Conv2d(1, 1, 1), image(20)), white(9.0), period=4)
    weight = Jacobian(nn.Conv2d(1, 1, 1), image(20))
    assert found.standard_error < 1e-6
    assert float(found.sd.std()) < 1e-6
    assert found.evaluations == 1 + 2 * (16 + 8)
    assert weight.evaluations == 1


def test_bad_questions_are_refused(small: tuple[Jacobian, torch.Tensor]) -> None:
    """Unknown methods, no probes, regions outside, halos off the grid and colour images raise."""
    operator = small[0]
    with pytest.raises(ValueError, match="method: expected one of exact, random, structured, got 'exakt'"):
        noise_map(operator, white(1.0), method="exakt")
    with pytest.raises(ValueError, match="probes: expected a number above zero"):
        noise_map(operator, white(1.0), method="random", probes=0)
    with pytest.raises(ValueError, match=r"image of a noise map: expected \(1, 1, Y, X\)"):
        noise_map(Jacobian(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), white(1.0))
    with pytest.raises(ValueError, match=r"roi: expected slices within \(16, 16\)"):
        operator.covariance_image((1, 1), white(1.0), (slice(0, 17), slice(0, 4)))
    with pytest.raises(ValueError, match="halo: expected a multiple of the stride 4"):
        Jacobian(net(3), image(16), halo=6, stride=4)
    with pytest.raises(ValueError, match="variance: expected 3 axes"):
        coloured(lambda d: d, lambda v: v, torch.ones(4, 4))
    with pytest.raises(ValueError, match="variance: expected values of at least 0"):
        coloured(lambda d: d, lambda v: v, -torch.ones(1, 4, 4))
