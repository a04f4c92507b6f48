"""The Jacobian as a linear operator, against dense and finite-difference references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from noisebook.jacobian import Jacobian, diagonal, white
from noisebook.papers.linearized.model import FBPConvNet


def user_net() -> nn.Module:
    """What a user brings: in-place ReLU, parameters that require gradients, batch normalisation in eval mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Upsample(scale_factor=2), nn.Conv2d(5, 1, 3, padding=1)).eval()


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def operator() -> Jacobian:
    """A Jacobian on an image that is not square."""
    return Jacobian(user_net(), random(1, 1, 6, 8))


def dense(operator: Jacobian) -> torch.Tensor:
    """The slow reference: the whole matrix by `torch.autograd.functional.jacobian`."""
    full = torch.autograd.functional.jacobian(lambda x: operator._model(x), operator.image)
    assert isinstance(full, torch.Tensor)
    return full.reshape(operator.shape)


def test_products_equal_the_dense_matrix(operator: Jacobian) -> None:
    """J @ v, J.T @ u and double backward equal products with the dense Jacobian."""
    matrix = dense(operator)
    v, u = random(3, 1, 6, 8), random(2, 1, 6, 8, seed=2)
    torch.testing.assert_close((operator @ v).flatten(1), v.flatten(1) @ matrix.T)
    torch.testing.assert_close((operator.T @ u).flatten(1), u.flatten(1) @ matrix)
    torch.testing.assert_close(operator.double_backward(v[:1]).flatten(1), v[:1].flatten(1) @ matrix.T)


def test_adjoint_of_a_u_net() -> None:
    """<J v, u> = <v, J' u> at 1e-10 for FBPConvNet with random weights on a 32 x 48 image."""
    torch.manual_seed(3)
    net = FBPConvNet(3, 3).eval()
    nn.init.normal_(net.last.weight)
    operator = Jacobian(net, 100 * random(1, 1, 32, 48))
    v, u = random(1, 1, 32, 48, seed=4), random(1, 1, 32, 48, seed=5)
    torch.testing.assert_close(((operator @ v) * u).sum(), (v * (operator.T @ u)).sum(), rtol=1e-10, atol=0)


def test_product_is_the_derivative(operator: Jacobian) -> None:
    """J v equals a central difference of the network to 1e-6."""
    v = random(1, 1, 6, 8, seed=6)
    torch.testing.assert_close(operator @ v, operator.finite_difference(v, 1e-7), rtol=0, atol=1e-6)


def test_covariance_image_is_a_column_of_j_s_jt(operator: Jacobian) -> None:
    """For white and diagonal noise the covariance image is a column of J S J', and its value there a variance."""
    matrix, variance = dense(operator), random(1, 1, 6, 8).square()
    column = 2 * 8 + 5
    expected = (matrix @ torch.diag(variance.flatten()) @ matrix.T)[:, column].reshape(6, 8)
    image = operator.covariance_image((2, 5), diagonal(variance))[0, 0]
    torch.testing.assert_close(image, expected)
    assert image[2, 5] > 0
    torch.testing.assert_close(
        operator.covariance_image((2, 5), white(4.0))[0, 0], 4 * (matrix @ matrix.T)[:, column].reshape(6, 8)
    )


def test_local_response_is_a_column_of_j(operator: Jacobian) -> None:
    """The local impulse response of a pixel is its column of J."""
    torch.testing.assert_close(operator.local_response((1, 3)).flatten(), dense(operator)[:, 11])


def test_the_users_module_is_left_alone() -> None:
    """The module keeps its in-place ReLU, its gradients' flags and its dtype."""
    net = user_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    Jacobian(net, random(1, 1, 4, 4)) @ random(1, 1, 4, 4)
    assert net[2].inplace
    assert all(p.requires_grad and p.dtype == torch.float32 and p.grad is None for p in net.parameters())
    torch.testing.assert_close(dict(net.state_dict()), before)


def test_evaluations_are_counted(operator: Jacobian) -> None:
    """One forward pass at the start, 1 a row, 3 a column, 6 for a double backward."""
    assert operator.evaluations == 1
    operator.covariance_image((0, 0), white(1.0))
    assert operator.evaluations == 5
    operator.double_backward(random(1, 1, 6, 8))
    assert operator.evaluations == 11


def test_volumes_work() -> None:
    """A 3-D network has a Jacobian too."""
    net = nn.Conv3d(1, 1, 3, padding=1, bias=False)
    v = random(1, 1, 4, 5, 6)
    torch.testing.assert_close(Jacobian(net, v) @ v, net.double()(v).detach())


def test_weight_norm_works() -> None:
    """A module that keeps computed weights, which cannot be deep-copied, has a Jacobian, and keeps its weights."""
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = nn.utils.weight_norm(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    v = torch.randn(1, 1, 5, 5)
    torch.testing.assert_close(Jacobian(net, torch.zeros(1, 1, 5, 5)) @ v, net(v).detach())


def test_gradients_switched_off_outside_do_not_matter() -> None:
    """Under no_grad and inference_mode the products are those of outside."""
    net, point, v = user_net(), random(1, 1, 4, 4), random(1, 1, 4, 4, seed=2)
    expected = Jacobian(net, point) @ v, Jacobian(net, point).T @ v
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            operator = Jacobian(net, point)
            found = operator @ v, operator.T @ v
        torch.testing.assert_close(found, expected)


class Pair(nn.Module):
    """Returns two images."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, twice."""
        return x, x


class Total(nn.Module):
    """Returns one number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return x.sum()


def test_modules_and_images_that_do_not_fit_are_refused() -> None:
    """Integer images, several or scalar outputs, random activations and running instance statistics raise."""
    point = random(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"image: expected floating numbers, got torch.int64"):
        Jacobian(user_net(), torch.zeros(1, 1, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"output of the model: expected one tensor.*got tuple"):
        Jacobian(Pair(), point)
    with pytest.raises(ValueError, match=r"output of the model: .* got shape \(\)"):
        Jacobian(Total(), point)
    with pytest.raises(ValueError, match="RReLU itself in training mode"):
        Jacobian(nn.RReLU(), point)
    with pytest.raises(ValueError, match="InstanceNorm2d itself in training mode"):
        Jacobian(nn.InstanceNorm2d(1, track_running_stats=True), point)
    operator = Jacobian(user_net(), point)
    with pytest.raises(ValueError, match="v: expected finite values"):
        operator @ torch.full((1, 1, 4, 4), math.nan)
    with pytest.raises(ValueError, match="u: expected finite values"):
        operator.T @ torch.full((1, 1, 4, 4), math.inf)
    with pytest.raises(ValueError, match=r"pixel \(row, column\): expected two whole numbers, got \(1.5, 2\)"):
        operator.local_response((1.5, 2))  # type: ignore[arg-type]


def test_bad_input_is_refused(operator: Jacobian) -> None:
    """Training mode, several images, NaN, wrong shapes, colour images for a pixel, and pixels outside raise."""
    with pytest.raises(ValueError, match=r"model: .* BatchNorm2d 1 in training mode\. Call model\.eval\(\) first"):
        Jacobian(user_net().train(), random(1, 1, 4, 4))
    with pytest.raises(ValueError, match="Dropout itself in training mode"):
        Jacobian(nn.Dropout(), random(1, 1, 4, 4))
    with pytest.raises(ValueError, match="image: expected one image"):
        Jacobian(user_net(), random(2, 1, 4, 4))
    with pytest.raises(ValueError, match="image: expected finite values"):
        Jacobian(user_net(), torch.full((1, 1, 4, 4), math.nan))
    with pytest.raises(ValueError, match="v: expected shape"):
        operator @ random(1, 1, 8, 6)
    with pytest.raises(ValueError, match="u: expected shape"):
        operator.T @ random(1, 6, 8)
    with pytest.raises(ValueError, match=r"pixel \(row, column\): expected within 0..5 and 0..7, got \(6, 0\)"):
        operator.local_response((6, 0))
    with pytest.raises(ValueError, match=r"image for a pixel: .*got shape \(1, 3, 4, 4\)"):
        Jacobian(nn.Conv2d(3, 3, 1), random(1, 3, 4, 4)).local_response((0, 0))
    with pytest.raises(ValueError, match="variance: expected a number above zero"):
        white(0.0)
    with pytest.raises(ValueError, match="variance: expected values of at least 0"):
        diagonal(torch.tensor([-1.0]))
