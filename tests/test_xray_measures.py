"""The xray chapter's filters, scores and observer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from test_xray import generator
from torch import Tensor

from noisebook.papers import xray


def scene(count: int = 4, size: int = 64) -> Tensor:
    """Smooth 8-bit images that differ."""
    axis = torch.linspace(0, 1, size)
    phase = torch.arange(count)[:, None, None] / count
    return (110 + 60 * torch.sin(6 * axis + phase) * torch.cos(5 * axis[:, None] - phase)).to(torch.uint8)[:, None]


def test_filters_are_those_of_their_libraries() -> None:
    """The identity changes nothing; median and Gaussian are scipy's, image by image; constants pass all of them."""
    images = torch.rand(2, 1, 20, 24)
    assert xray.measures.filtered("identity", images, 0) is images
    for k in range(2):
        image = images[k, 0].numpy()
        np.testing.assert_array_equal(
            xray.measures.filtered("median", images, 3)[k, 0], ndimage.median_filter(image, 3)
        )
        np.testing.assert_array_equal(
            xray.measures.filtered("Gaussian", images, 1)[k, 0], ndimage.gaussian_filter(image, 1)
        )
    for name, values in xray.measures.PARAMETERS.items():
        constant = torch.full((1, 1, 16, 16), 0.25)
        torch.testing.assert_close(xray.measures.filtered(name, constant, values[-1]), constant)
    with pytest.raises(ValueError, match=r"filter: expected one of .*Did you mean 'median'"):
        xray.measures.filtered("medain", images, 3)


@pytest.mark.parametrize("name", ["median", "Gaussian", "non-local means"])
def test_the_best_parameter_is_found(name: str) -> None:
    """No other parameter has a smaller error, and noise is removed; a clean image wants the gentlest filter."""
    truth = xray.data.unit(scene())
    noisy = xray.data.unit(xray.data.corrupt(scene(), "gaussian-medium", generator()))
    best = xray.measures.best_parameter(name, noisy, truth)
    errors = [
        float((xray.measures.filtered(name, noisy, v) - truth).square().mean()) for v in xray.measures.PARAMETERS[name]
    ]
    assert (
        errors[xray.measures.PARAMETERS[name].index(best)] == min(errors) < 0.3 * float((noisy - truth).square().mean())
    )
    assert xray.measures.best_parameter(name, truth, truth) == xray.measures.PARAMETERS[name][0]
    with pytest.raises(ValueError, match="truth: expected shape"):
        xray.measures.best_parameter(name, noisy, truth[:1])


def test_every_filter_is_tuned() -> None:
    """Each is the filter with its own best parameter, ready for other images."""
    truth = xray.data.unit(scene(2, 32))
    noisy = xray.data.unit(xray.data.corrupt(scene(2, 32), "gaussian-medium", generator()))
    found = xray.measures.tuned(noisy, truth)
    assert tuple(found) == tuple(xray.measures.PARAMETERS)
    for name, denoiser in found.items():
        expected = xray.measures.filtered(name, truth, xray.measures.best_parameter(name, noisy, truth))
        torch.testing.assert_close(denoiser(truth), expected)


def test_scores_of_known_images() -> None:
    """An offset of a tenth has 20 dB and keeps all high frequencies; doubled contrast has four times their power."""
    truth = xray.data.unit(xray.data.corrupt(scene(), "gaussian-easy", generator()))
    found = xray.measures.scores(truth + 0.1, truth)
    assert found["psnr"] == pytest.approx(20, abs=1e-4)
    assert found["mse"] == pytest.approx(0.01, rel=1e-4)
    assert found["high"] == pytest.approx(1, rel=1e-4)
    assert found["ssim"] < 1
    twice = xray.measures.scores(2 * truth, truth)
    assert (twice["high"], twice["kept"]) == (pytest.approx(4, rel=1e-4), pytest.approx(2, rel=1e-4))
    assert xray.measures.scores(xray.measures.filtered("Gaussian", truth, 2.0), truth)["high"] < 0.01
    assert tuple(found) == xray.measures.SCORES
    with pytest.raises(ValueError, match="truth: expected shape"):
        xray.measures.scores(truth, truth[:1])


def test_wrapping_happens_where_values_leave_the_range() -> None:
    """On black, half of the pixels wrap to white and carry nearly all of the error; elsewhere only fractions go."""
    found = xray.measures.wrapping(torch.zeros(4, 1, 64, 64, dtype=torch.uint8), 0)
    np.testing.assert_allclose(found["share"], [0.475, 0.483, 0.489], atol=0.02)  # above -1 nothing wraps: trunc
    assert (found["carried"] > 0.97).all()
    assert (found["elsewhere"] == 1).all()  # cut off, where clipped images are rounded
    assert (found["clipped"] - found["wrapped"] > 10).all()
    grey = xray.measures.wrapping(torch.full((4, 1, 64, 64), 128, dtype=torch.uint8), 0)
    assert grey["share"][0] == 0
    assert grey["clipped"][0] == pytest.approx(grey["wrapped"][0], abs=0.1)


def test_an_opacity_is_a_sphere() -> None:
    """Its height is the contrast, its sum that of the chords (two thirds of pi r² times it), and it keeps its place."""
    task = xray.measures.Task(radius=10, contrast=6)
    found = xray.measures.opacity(128, task, (0.5, 0.25))
    assert (float(found.max()), float(found[64, 32])) == (6, 6)
    assert float(found.sum()) == pytest.approx(6 * 2 / 3 * math.pi * 20**2, rel=0.01)
    assert not found[64, 52:].any()
    with pytest.raises(ValueError, match="radius: expected a number above zero"):
        xray.measures.opacity(64, replace(task, radius=0), (0.5, 0.5))


TASK = xray.measures.Task(contrast=20, places=((0.5, 0.5), (0.4, 0.3)), draws=30)


def test_the_observer_sees_the_opacity_as_the_theory_says() -> None:
    """On equal grey images with Gaussian noise d' comes near that of the ideal: the signal's norm over the sd."""
    images = torch.full((20, 1, 64, 64), 128, dtype=torch.uint8)
    norm = float(xray.measures.opacity(64, TASK, (0.5, 0.5)).norm())
    found = xray.measures.opacity_detectability(lambda x: x, images, "gaussian-hard", 0, TASK)
    assert 0.93 * norm / xray.data.sigma("hard") < found < 1.03 * norm / xray.data.sigma("hard")


def test_what_a_denoiser_hides_is_not_detected() -> None:
    """An opacity that is not there, and a denoiser that answers with one image, leave no d'; a gain changes nothing."""
    images = scene(12)
    plain = xray.measures.opacity_detectability(lambda x: x, images, "gaussian-medium", 0, replace(TASK, draws=8))
    gain = xray.measures.opacity_detectability(
        lambda x: 0.5 * x + 0.1, images, "gaussian-medium", 0, replace(TASK, draws=8)
    )
    assert gain == pytest.approx(plain, rel=1e-4)

    def hide(noisy: Tensor) -> Tensor:
        middle = noisy.clone()
        middle[..., 20:44, 10:54] = xray.data.unit(xray.data.corrupt(scene(1), "gaussian-medium", generator()))[
            ..., 20:44, 10:54
        ]
        return middle + 0.01 * torch.randn(noisy.shape, generator=generator(1))

    hidden = xray.measures.opacity_detectability(hide, images, "gaussian-medium", 0, replace(TASK, draws=8))
    none = xray.measures.opacity_detectability(
        lambda x: x, images, "gaussian-medium", 0, replace(TASK, contrast=0, draws=8)
    )
    assert abs(hidden) < 0.15 * plain > abs(none)
    with pytest.raises(ValueError, match="place: expected 10 pixels from the border of 64 x 64"):
        xray.measures.opacity_detectability(lambda x: x, images, "", 0, replace(TASK, places=((0.1, 0.5),)))


def test_two_images_of_a_patient_are_no_two_patients() -> None:
    """Every image twice is as much as once if it is told whose they are, and more if not; nobody told: all differ."""
    images = xray.data.corrupt(scene(16), "gaussian-easy", generator())
    once = xray.measures.opacity_detectability(lambda x: x, images, "", 0, TASK)
    assert xray.measures.opacity_detectability(lambda x: x, images, "", 0, TASK, np.arange(16)) == once
    twice = torch.cat([images, images])
    told = xray.measures.opacity_detectability(lambda x: x, twice, "", 0, TASK, np.tile(np.arange(16), 2))
    assert told == pytest.approx(once, rel=1e-6)
    assert xray.measures.opacity_detectability(lambda x: x, twice, "", 0, TASK) > 1.05 * once
    with pytest.raises(ValueError, match="groups: expected shape"):
        xray.measures.opacity_detectability(lambda x: x, images, "", 0, TASK, np.arange(15))


def test_the_response_is_what_passes_of_the_opacity() -> None:
    """The identity passes the opacity, half of it is half, a constant passes none, and the noise is gone."""
    images = torch.full((1, 1, 64, 64), 128, dtype=torch.uint8)
    expected = xray.measures.opacity(64, TASK, TASK.places[0])
    passed = xray.measures.opacity_response(lambda x: x, images, "gaussian-easy", 0, TASK)
    torch.testing.assert_close(passed, expected, atol=0.6, rtol=0)  # grey levels are rounded
    half = xray.measures.opacity_response(lambda x: x / 2, images, "gaussian-easy", 0, TASK)
    torch.testing.assert_close(half, passed / 2)
    none = xray.measures.opacity_response(lambda x: 0 * x, images, "gaussian-easy", 0, TASK)
    assert none.abs().max() == 0
