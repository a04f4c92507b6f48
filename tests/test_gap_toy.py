"""The solvable prior and the baselines of the gap chapter, against plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter

from noisebook.papers.gap.data import ExactPredictor, ToyPrior, toy_prior
from noisebook.papers.gap.measures import (
    WIDTHS_PX,
    anscombe,
    best_gaussian,
    best_non_local_means,
    expected_anscombe,
    inverse_anscombe,
    level_psnr,
)
from noisebook.phantoms import Cells


def test_the_posterior_is_bayes_rule() -> None:
    """For a few photons, p(k | x) equals weight times the product of pixel chances, normalised, written as a loop."""
    prior = toy_prior()
    counts, _ = prior.draw(4, 0.1, torch.Generator().manual_seed(0))
    for x, found in zip(counts, prior.posterior(counts), strict=True):
        plain = []
        for image, weight in zip(prior.images, prior.weights, strict=True):
            chance = float(weight)
            for place in x.nonzero():
                chance *= float(image[tuple(place)]) ** int(x[tuple(place)])
            plain.append(chance)
        expected = torch.tensor(plain, dtype=torch.float64) / sum(plain)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_the_next_photon_follows_the_exact_law() -> None:
    """Of drawn pairs, given one photon at a pixel, the next photons' places are distributed as `next_photon` says."""
    prior, generator = toy_prior(), torch.Generator().manual_seed(1)
    images = prior.images[torch.multinomial(prior.weights, 200_000, replacement=True, generator=generator)].flatten(1)
    first = torch.multinomial(images, 1, generator=generator)[:, 0]
    second = torch.multinomial(images, 1, generator=generator)[:, 0]
    hits = torch.bincount(second[first == 10], minlength=64).double()
    seen = torch.zeros(1, 1, 8, 8)
    seen.view(-1)[10] = 1
    expected = prior.next_photon(seen).flatten()
    expected *= hits.sum() / expected.sum()
    assert stats.chisquare(hits.numpy(), expected.numpy()).pvalue > 0.01


def test_without_photons_the_posterior_is_the_prior_and_with_many_the_truth() -> None:
    """No photon leaves the weights; 300 photons decide; the stand-in for a network says the same."""
    prior = toy_prior()
    torch.testing.assert_close(prior.posterior(torch.zeros(1, 1, 8, 8))[0], prior.weights.double())
    counts, which = prior.draw(50, 5.0, torch.Generator().manual_seed(2))
    torch.testing.assert_close(prior.posterior(counts).argmax(1), which)
    torch.testing.assert_close(
        ExactPredictor(prior)(counts).flatten(1).softmax(1).reshape(counts.shape).double(), prior.next_photon(counts),
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip


def test_draws_have_the_mean_and_the_chances() -> None:
    """Mean photons per pixel and the shares of the images are the asked ones."""
    counts, which = toy_prior().draw(20_000, 0.5, torch.Generator().manual_seed(3))
    assert float(counts.mean()) == pytest.approx(0.5, rel=0.01)
    torch.testing.assert_close(torch.bincount(which) / 20_000, toy_prior().weights, rtol=0, atol=0.015)


def test_priors_that_are_none_are_refused() -> None:
    """Zero pixels, sums other than 1 and counts of another shape raise."""
    prior = toy_prior()
    with pytest.raises(ValueError, match="images: expected positive values of sum 1"):
        ToyPrior(prior.images * 2, prior.weights)
    with pytest.raises(ValueError, match="weights: expected positive values of sum 1"):
        ToyPrior(prior.images[:2], torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="counts: expected shape"):
        prior.posterior(torch.zeros(1, 1, 8, 7))


def test_the_expected_transform_is_a_plain_sum() -> None:
    """E[2 sqrt(x + 3/8)] equals the sum over k of chance times value, from rate 0 to 300."""
    rates = np.array([0.0, 0.01, 0.7, 5.0, 40.0, 300.0])
    plain = [sum(2 * math.sqrt(k + 0.375) * stats.poisson.pmf(k, rate) for k in range(700)) for rate in rates]
    np.testing.assert_allclose(expected_anscombe(rates), plain, rtol=1e-9)


def test_the_inverse_is_exact_and_unbiased() -> None:
    """The inverse of the directly summed expectation is the rate, in the table and beyond it; below rate 0 it is 0."""
    rates = np.array([0.0, 1e-3, 0.02, 0.3, 1.7, 9.0, 60.0, 99.0, 101.0, 400.0])
    np.testing.assert_allclose(inverse_anscombe(expected_anscombe(rates)), rates, rtol=2e-4, atol=1e-6)
    assert inverse_anscombe(np.array([0.5]))[0] == 0
    algebraic = anscombe(np.array([0.3]))  # the plain inverse would be biased: it gives back the transform's argument
    assert abs(float(inverse_anscombe(algebraic)[0]) - 0.3) > 0.05


def test_the_best_gaussian_is_the_best_of_all_widths() -> None:
    """No other width of the list scores higher, and the filter beats the noise by far."""
    truth = Cells(0).image(64, 4.0).numpy()
    counts = np.random.default_rng(0).poisson(truth).astype(np.float32)
    image, width = best_gaussian(counts, truth)
    scores = [level_psnr(gaussian_filter(counts.astype(float), w), truth) for w in WIDTHS_PX]
    assert width == WIDTHS_PX[int(np.argmax(scores))]
    assert level_psnr(image, truth) == pytest.approx(max(scores))
    assert level_psnr(image, truth) > level_psnr(counts, truth) + 3


def test_non_local_means_denoises_and_the_best_strength_is_taken() -> None:
    """It beats the noise by far; with one strength to choose from it is not better than with all."""
    truth = Cells(0).image(48, 4.0).numpy()
    counts = np.random.default_rng(0).poisson(truth).astype(np.float32)
    image, strength = best_non_local_means(counts, truth, (0.4, 1.0))
    other, _ = best_non_local_means(counts, truth, (0.4,) if strength == 1.0 else (1.0,))
    assert level_psnr(image, truth) >= level_psnr(other, truth)
    assert level_psnr(image, truth) > level_psnr(counts, truth) + 4


def test_levels_are_compared_at_one_total() -> None:
    """A scaled truth is perfect; shapes, sums of nothing and negative counts are refused."""
    truth = Cells(0).image(16, 2.0).numpy()
    assert level_psnr(7 * truth, truth) > 100
    with pytest.raises(ValueError, match="image: expected shape"):
        level_psnr(truth[:4], truth)
    with pytest.raises(ValueError, match="sum of the image: expected a number above zero"):
        level_psnr(0 * truth, truth)
    with pytest.raises(ValueError, match=r"counts: expected values from 0 on, got a minimum of -1"):
        anscombe(np.array([-1.0]))
