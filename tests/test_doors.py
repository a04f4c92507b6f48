"""The doors of the library: wrong rank, dtype, channels and pixels are errors of ours, whatever the door."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from noisebook import metrics
from noisebook.inference import tiled
from noisebook.jacobian import Jacobian
from noisebook.papers import linearized

NET = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)).eval()
MODEL_DOORS: dict[str, Callable[[torch.Tensor], object]] = {
    "Jacobian": lambda image: Jacobian(NET, image),
    "Jacobian on crops": lambda image: Jacobian(NET, image, halo=4, stride=4).row((3, 3)),
    "tiled": lambda image: tiled(NET, image, tile=8, halo=4, stride=4),
}
IMAGES = {
    "array": (np.zeros((1, 1, 8, 8), np.float32), r"image: expected a torch\.Tensor, got ndarray"),
    "dtype": (torch.zeros(1, 1, 8, 8, dtype=torch.int16), r"image: expected floating numbers, got torch\.int16"),
    "rank": (torch.zeros(1, 8, 8), r"image: expected .*\(B?1?, C, Y, X\).*, got .*shape \(1, 8, 8\)"),
    "NaN": (torch.full((1, 1, 8, 8), math.nan), "image: expected finite values, got 64 that are not"),
}


@pytest.mark.parametrize("door", MODEL_DOORS)
@pytest.mark.parametrize("kind", IMAGES)
def test_images_that_are_none_are_refused(door: str, kind: str) -> None:
    """Arrays, integers, a missing axis and NaN are refused wherever a model meets an image."""
    image, text = IMAGES[kind]
    with pytest.raises(ValueError, match=text):
        MODEL_DOORS[door](image)


@pytest.mark.parametrize("door", ["Jacobian", "tiled"])
def test_channels_that_the_model_does_not_take_are_refused(door: str) -> None:
    """Three channels for a model of one: the error has the image's shape, and what torch says."""
    text = r"image: expected rank, channels and dtype that the model takes, got shape \(1, 3, .*Torch says: .*1 channel"
    with pytest.raises(ValueError, match=text):
        MODEL_DOORS[door](torch.zeros(1, 3, 8, 8))


def test_a_dtype_that_the_model_does_not_take_is_refused() -> None:
    """Double precision for a model of single precision is refused in tiles; the Jacobian converts its copy."""
    with pytest.raises(ValueError, match=r"dtype that the model takes, got shape .* of torch\.float64"):
        MODEL_DOORS["tiled"](torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    assert Jacobian(NET, torch.zeros(1, 1, 8, 8, dtype=torch.float64)).output.dtype == torch.float64


def test_a_lack_of_memory_is_not_called_a_wrong_image() -> None:
    """What torch raises for want of memory comes through as it is."""

    class Hungry(nn.Module):
        """Asks for more memory than there is."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Fail."""
            return image + torch.zeros(10**15)

    with pytest.raises(RuntimeError, match="memory"):
        tiled(Hungry(), torch.zeros(1, 1, 8, 8), tile=8, halo=0)


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (np.zeros((1, 1, 8, 8)), r"expected a torch\.Tensor, got ndarray"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.complex64), r"expected floating numbers, got torch\.complex64"),
        (torch.zeros(1, 1, 8, 9), "expected shape"),
    ],
)
def test_vectors_that_are_none_are_refused(vector: object, text: str) -> None:
    """Both products of a Jacobian refuse arrays, complex numbers and other shapes."""
    operator = Jacobian(NET, torch.zeros(1, 1, 8, 8))
    for product in (lambda v: operator @ v, lambda v: operator.T @ v):
        with pytest.raises(ValueError, match=text):
            product(vector)


@pytest.mark.parametrize("pixel", [(8, 0), (0, 8), (-1, 0), (1,), (1, 2, 3), (math.nan, 0), (0, math.inf), (0.5, 0)])
@pytest.mark.parametrize("halo", [None, 4])
def test_pixels_outside_are_refused(pixel: tuple[int, int], halo: int | None) -> None:
    """Every question about one pixel refuses what is no pixel of the image, with and without crops."""
    operator = Jacobian(NET, torch.zeros(1, 1, 8, 8), halo=halo, stride=4)
    questions = (operator.row, operator.local_response, operator.impulse, lambda p: operator.variance(p, lambda v: v))
    for question in (*questions, lambda p: operator.covariance_image(p, lambda v: v)):
        with pytest.raises(ValueError, match=r"pixel \(row, column\): expected (two whole numbers|within 0\.\.7)"):
            question(pixel)


@pytest.mark.parametrize(
    "image", [np.full((16, 16), "a"), np.ones((16, 16), complex), [[1.0, 2.0]], torch.zeros(16, 16)]
)
def test_metrics_and_the_chapters_network_want_real_arrays(image: object) -> None:
    """Text, complex numbers, lists and tensors are refused by every metric and by the chapter's denoising."""
    good = np.ones((16, 16))
    doors = (
        lambda: metrics.rmse(image, good),
        lambda: metrics.psnr(good, image, data_range=1.0),
        lambda: metrics.ssim(image, good, data_range=1.0),
        lambda: metrics.elongation(image, (1, 0)),
        lambda: linearized.model.denoise(linearized.model.FBPConvNet(channels=1, levels=2), image),
    )
    for door in doors:
        with pytest.raises(ValueError, match="expected a numpy array of real numbers, got"):
            door()


def test_ranks_are_checked_where_they_matter() -> None:
    """SSIM and elongation take images, the chapter's denoising takes slices (Z, Y, X)."""
    with pytest.raises(ValueError, match=r"image: expected 2 axes \(Y, X\), got 3"):
        metrics.ssim(np.zeros((1, 16, 16)), np.zeros((1, 16, 16)), data_range=1.0)
    with pytest.raises(ValueError, match=r"covariance: expected 2 axes \(Y, X\), got 3"):
        metrics.elongation(np.zeros((1, 15, 15)), (1, 0))
    with pytest.raises(ValueError, match=r"hu: expected 3 axes \(Z, Y, X\), got 2"):
        linearized.model.denoise(linearized.model.FBPConvNet(channels=1, levels=2), np.zeros((16, 16)))
