"""Denoising and sampling of the gap chapter, on predictors whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from noisebook.papers.gap.data import WEIGHTS, ExactPredictor, toy_prior
from noisebook.papers.gap.model import Samples, UNet, denoise, expected_steps, sample


def generator(seed: int = 0) -> torch.Generator:
    """A fixed seed."""
    return torch.Generator().manual_seed(seed)


class Fixed(nn.Module):
    """Predicts one distribution, whatever it sees, and keeps how many photons the images had that it saw."""

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.shares, self.seen = shares, list[float]()

    def forward(self, counts: Tensor) -> Tensor:
        """(B, C, Y, X) to the same shape."""
        self.seen += counts.flatten(1).sum(1).tolist()
        return self.shares.log().expand_as(counts)


def small(dim: int) -> UNet:
    """A net of two resolutions with random weights."""
    torch.manual_seed(3)
    return UNet(dim=dim, levels=2, depth=2, width=3).eval()


@pytest.mark.parametrize("shape", [(2, 1, 45, 38), (1, 1, 10, 21, 19), (1, 1, 1, 3)])
def test_denoising_in_tiles_is_denoising_at_once(shape: tuple[int, ...]) -> None:
    """Tiles with the network's own halo equal the whole image, in 2-D, in 3-D, and below the pooling grid."""
    net = small(len(shape) - 2)
    counts = torch.poisson(torch.full(shape, 2.0), generator=generator())
    counts[..., 0] += 1
    whole = net(counts).flatten(1).softmax(1).reshape(shape) * counts.flatten(1).sum(1).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    torch.testing.assert_close(denoise(net, counts, tile=8), whole, rtol=1e-4, atol=1e-5)


def test_denoising_keeps_each_images_photons() -> None:
    """Every image keeps its own sum, not that of another in the batch; integers are accepted."""
    counts = torch.poisson(torch.tensor([1.0, 9.0])[:, None, None, None].expand(2, 1, 9, 9), generator=generator())
    found = denoise(small(2), counts.long())
    torch.testing.assert_close(found.sum((1, 2, 3)), counts.sum((1, 2, 3)))


def plain(model: nn.Module, start: Tensor, stop_db: float, beta: float, seed: int) -> tuple[Tensor, Tensor, int]:
    """The sampler for one image, step by step as the paper has it, with the estimate taken after the last photons."""
    random, photons, steps = generator(seed), start.clone(), 0
    while 10 * math.log10(max(float(photons.mean()), 1e-4)) <= stop_db:
        f = model(photons).flatten(1).softmax(1).reshape(photons.shape)
        photons = photons + torch.poisson(f * max(beta * float(photons.sum()), 1.0), generator=random)
        steps += 1
    return photons, model(photons).flatten(1).softmax(1).reshape(photons.shape) * photons.sum(), steps


@pytest.mark.parametrize("empty", [True, False])
def test_one_image_is_sampled_as_by_a_plain_loop(empty: bool) -> None:
    """From nothing and from an image: the same photons, estimate and number of steps, draw for draw."""
    model = ExactPredictor(toy_prior())
    start = torch.zeros(1, 1, 8, 8) if empty else toy_prior().draw(1, 0.3, generator(2))[0]
    found = sample(model, start, stop_db=3, beta=0.2, generator=generator(5))
    photons, estimate, steps = plain(model, start, 3, 0.2, 5)
    torch.testing.assert_close(found.photons, photons, rtol=0, atol=0)
    torch.testing.assert_close(found.estimate, estimate, rtol=1e-5, atol=1e-6)
    assert found.steps.tolist() == [steps]
    assert (found.photons >= start).all()
    assert not found.estimate.requires_grad


def both(count: int, alone: bool) -> Samples:
    """Sampling next to very bright images, or without them."""
    dim = torch.zeros(count, 1, 8, 8)
    model = ExactPredictor(toy_prior())
    bright = torch.zeros(0, 1, 8, 8) if alone else torch.full((count, 1, 8, 8), 50.0)
    return sample(model, torch.cat([dim, bright]), stop_db=0, beta=0.3, generator=generator(8 + alone))


def test_an_image_has_the_same_law_alone_and_beside_bright_ones() -> None:
    """Photons, steps and likeliest toy image of 500 samples: two-sample tests find no difference."""
    alone, beside = both(500, True), both(500, False)
    for name in ("photons", "steps"):
        values = [
            getattr(s, name)[:500].float().flatten(1).sum(1) if name == "photons" else s.steps[:500]
            for s in (alone, beside)
        ]
        assert stats.ks_2samp(*(v.numpy() for v in values)).pvalue > 0.01, name
    kinds = [torch.bincount(toy_prior().posterior(s.photons[:500]).argmax(1), minlength=5) for s in (alone, beside)]
    assert stats.chi2_contingency(torch.stack(kinds).numpy()).pvalue > 0.01


def test_generation_from_the_exact_predictor_has_the_priors_chances() -> None:
    """With small steps the five toy images come up as often as their weights say."""
    prior = toy_prior()
    found = sample(ExactPredictor(prior), torch.zeros(2000, 1, 8, 8), stop_db=6, beta=0.05, generator=generator(1))
    hits = torch.bincount(prior.posterior(found.photons).argmax(1), minlength=5)
    assert stats.chisquare(hits.numpy(), 2000 * np.array(WEIGHTS)).pvalue > 0.01


def test_every_image_ends_above_the_stop_and_costs_no_more() -> None:
    """Images end just above the stop; one that is above it already is not touched; the network sees no image twice."""
    start = torch.cat([torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 9.0)])
    model = Fixed(torch.full((1, 1, 4, 4), 1 / 16))
    found = sample(model, start, stop_db=3, beta=0.1, generator=generator())
    assert (found.photons.mean((1, 2, 3)) > 10**0.3).all()
    torch.testing.assert_close(found.photons[1], start[1], rtol=0, atol=0)
    torch.testing.assert_close(found.estimate[1], torch.full((1, 4, 4), 9.0))
    assert found.steps[1] == 0
    assert len(model.seen) == len(set(model.seen)) < int(found.steps.sum()) + 2


def test_images_that_begin_alike_share_the_first_look() -> None:
    """The network sees the start of many samples of one image once, and then each sample after each new photon."""
    model = Fixed(torch.full((1, 1, 4, 4), 1 / 16))
    sample(model, torch.ones(5, 1, 4, 4), stop_db=1, generator=generator())
    assert model.seen.count(16.0) == 1


def test_frames_are_kept_when_their_level_is_reached() -> None:
    """A frame holds the photons of the first step at or above its level, and the estimate given those."""
    model = ExactPredictor(toy_prior())
    found = sample(model, torch.zeros(3, 1, 8, 8), stop_db=5, generator=generator(), frames_db=(-18, -5, 5))
    assert found.frames.shape == (3, 2, 3, 1, 8, 8)
    totals = found.frames[:, 0].flatten(2).sum(2)
    assert (totals[0] == 2).any() or (totals[0] == 1).any()
    assert (10 * (totals / 64).log10() >= torch.tensor([-18.1, -5, 5])[:, None]).all()
    assert (totals.diff(dim=0) > 0).all()
    expected = toy_prior().next_photon(found.frames[1, 0]) * totals[1].double()[:, None, None, None]
    torch.testing.assert_close(found.frames[1, 1].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_number_of_steps_follows_the_formula() -> None:
    """1 / beta + ln(beta N) / ln(1 + beta) within a tenth, for two betas."""
    model = Fixed(torch.full((1, 1, 16, 16), 1 / 256))
    for beta in (0.05, 0.1):
        found = sample(model, torch.zeros(64, 1, 16, 16), stop_db=5, beta=beta, generator=generator())
        assert float(found.steps.float().mean()) == pytest.approx(expected_steps(256 * 10**0.5, beta), rel=0.1)
    assert expected_steps(20_724, 0.05) == pytest.approx(20 + math.log(1036.2) / math.log(1.05))
    with pytest.raises(ValueError, match="beta times photons: expected at least 1"):
        expected_steps(3, 0.1)


def test_bfloat16_samples_too() -> None:
    """In bfloat16 the result is float32, finite, and of whole photons."""
    found = sample(small(2), torch.zeros(2, 1, 8, 8), stop_db=0, generator=generator(), dtype=torch.bfloat16)
    assert found.estimate.dtype == torch.float32
    assert (found.photons == found.photons.round()).all()


def test_bad_starts_rates_and_settings_are_refused() -> None:
    """Fractional photons, steps of nothing, levels that are none and NaN rates raise."""
    model, start = Fixed(torch.full((1, 1, 4, 4), 1 / 16)), torch.zeros(1, 1, 4, 4)
    settings = {"stop_db": 0.0, "generator": generator()}
    with pytest.raises(ValueError, match="start: expected photon counts: whole numbers from 0 on, got 16 fractional"):
        sample(model, start + 0.5, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta: expected a number above zero"):
        sample(model, start, beta=0, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stop_db, frames_db: expected finite levels"):
        sample(model, start, frames_db=(3,), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stop_db, frames_db: expected finite levels"):
        sample(model, start, stop_db=math.nan, generator=generator())
    with pytest.raises(ValueError, match="rates: expected finite values, got 16 that are not"):
        sample(Fixed(torch.full((1, 1, 4, 4), math.nan)), start, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images with at least one photon, got image 0 with none"):
        denoise(small(2), start)
    with pytest.raises(ValueError, match="tile: expected a number above zero"):
        denoise(small(2), start + 1, tile=0)


def test_volumes_are_sampled_too() -> None:
    """From nothing in 3-D: whole photons, an estimate of the same sum, and frames of five axes."""
    found = sample(small(3), torch.zeros(2, 1, 3, 6, 5), stop_db=-3, generator=generator(), frames_db=(-10,))
    assert found.frames.shape == (1, 2, 2, 1, 3, 6, 5)
    assert (found.photons == found.photons.round()).all()
    torch.testing.assert_close(found.estimate.sum((1, 2, 3, 4)), found.photons.sum((1, 2, 3, 4)))
