"""Photon counts of the gap chapter: checks, losses, division into input and target, augmentation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noisebook.papers.gap.data import augmented, split, thinned
from noisebook.papers.gap.experiment import mse_loss, photon_loss
from noisebook.papers.gap.model import check_counts, pseudo_psnr


def generator(seed: int = 0) -> torch.Generator:
    """A fixed seed."""
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=generator(7))


def plain_loss(r: Tensor, t: Tensor) -> Tensor:
    """The published loss, image by image, with targets of mean 1: -mean(r t) + log(mean exp r) mean(t)."""
    each = []
    for one, target in zip(r, t, strict=True):
        scaled = target / target.mean()
        each.append(-(one * scaled).mean() + one.exp().mean().log() * scaled.mean())
    return torch.stack(each).mean()


def test_the_photon_loss_is_the_published_one() -> None:
    """On moderate images the safe form equals the formula as it is printed."""
    r, t = images(3, 1, 5, 6), torch.poisson(torch.full((3, 1, 5, 6), 2.0), generator=generator())
    torch.testing.assert_close(photon_loss(r, t), plain_loss(r, t), rtol=1e-5, atol=1e-6)


def test_a_uniform_prediction_has_no_loss() -> None:
    """Both losses count from the uniform guess: 0 whatever the constant, for the mean squared error its variance."""
    t = torch.poisson(torch.full((2, 1, 4, 4), 3.0), generator=generator())
    assert float(photon_loss(torch.full_like(t, 5.0), t)) == pytest.approx(0, abs=1e-6)
    scaled = t / t.mean((1, 2, 3), keepdim=True)
    assert float(mse_loss(torch.zeros_like(t), t)) == pytest.approx(float((scaled - 1).square().mean()), rel=1e-5)


def test_the_truth_has_the_least_loss() -> None:
    """Cross entropy and mean squared error are least at the logarithm of the target itself, gradient zero."""
    t = images(2, 1, 4, 4).exp()
    for loss in (photon_loss, mse_loss):
        r = t.log().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(r, t), r)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)
        assert loss(t.log() + 0.3 * images(2, 1, 4, 4), t) > loss(t.log(), t)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_dim_and_bright_images_give_finite_losses_and_gradients(scale: float, spread: float) -> None:
    """From no photon to very many, with outputs far beyond what exp can hold, nothing is NaN or infinite."""
    t = torch.zeros(2, 1, 8, 8)
    t[0, 0, 3, 4] = scale
    for loss in (photon_loss, mse_loss):
        r = (spread * images(2, 1, 8, 8)).requires_grad_()
        value = loss(r, t)
        (gradient,) = torch.autograd.grad(value, r)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert float(gradient.abs().sum()) < 10


def test_pseudo_psnr_is_ten_times_the_logarithm_of_the_mean() -> None:
    """Mean 10 is 10 dB, and no photon is -40 dB, image by image."""
    counts = torch.stack([torch.full((1, 2, 5), 10.0), torch.zeros(1, 2, 5), torch.eye(2, 5)[None]])
    torch.testing.assert_close(pseudo_psnr(counts), torch.tensor([10.0, -40.0, 10 * math.log10(0.2)]))


def test_no_photon_is_lost_or_made() -> None:
    """Input and target are whole numbers from 0 on that add up to the counts."""
    counts = torch.poisson(torch.full((6, 1, 9, 9), 4.0), generator=generator())
    parts = split(counts, -20, 6, generator())
    torch.testing.assert_close(parts.input + parts.target, counts, rtol=0, atol=0)
    for part in (parts.input, parts.target):
        assert part.min() >= 0
        assert (part == part.round()).all()


def test_levels_are_uniform_up_to_where_the_cap_begins() -> None:
    """Levels of bright images fill the range evenly; those of dim ones fill it up to 0.99 of their photons.

    How often the authors' cap would have acted is what it should be: from 0 dB on, a third of -10 to 5 dB.
    """
    shape = (2000, 1, 16, 16)
    bright = split(torch.full(shape, 100.0), -10, 5, generator())
    levels = pseudo_psnr(bright.input)
    shares = torch.histc(levels.clamp(-10, 5), 5, -10, 5) / 2000
    assert not bright.capped.any()
    assert float((shares - 0.2).abs().max()) < 0.03
    dim = split(torch.ones(shape), -10, 5, generator())
    assert float(dim.capped.float().mean()) == pytest.approx(1 / 3, abs=0.03)
    shares = torch.histc(pseudo_psnr(dim.input), 5, -10, 10 * math.log10(0.99)) / 2000
    assert float((shares - 0.2).abs().max()) < 0.04


def test_a_fixed_share_gives_independent_totals_and_the_authors_does_not() -> None:
    """Poisson parts at a fixed share; with level / mean(x) the input's total varies less and balances the target's."""
    image = torch.full((8, 8), 4.0)
    fixed, drawn = (
        torch.stack([part.flatten(1).sum(1) for part in thinned(image, share, 2.0, 4000, generator())], 1)
        for share in (0.5, None)
    )
    correlation = [float(torch.corrcoef(t.T)[0, 1]) for t in (fixed, drawn)]
    ratio = [float(t[:, 0].var() / t[:, 0].mean()) for t in (fixed, drawn)]
    assert abs(correlation[0]) < 0.05
    assert ratio[0] == pytest.approx(1, abs=0.08)
    assert correlation[1] < -0.3
    assert ratio[1] == pytest.approx(0.5, abs=0.05)


def test_all_eight_symmetries_are_drawn_and_nothing_else() -> None:
    """A square image becomes each of its eight versions, about equally often."""
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    versions = [f(image.rot90(k, (2, 3))) for k in range(4) for f in (lambda x: x, lambda x: x.flip(2))]
    drawn = augmented(image.expand(4000, 1, 3, 3), generator())
    hits = torch.stack([(drawn == version).flatten(1).all(1) for version in versions])
    assert hits.sum(0).eq(1).all()
    assert float((hits.float().mean(1) - 1 / 8).abs().max()) < 0.02


def test_a_stack_keeps_its_z_axis() -> None:
    """Planes are reversed or not, and within them turned: 16 versions, none exchanges z."""
    stack = torch.arange(2 * 9.0).reshape(1, 1, 2, 3, 3)
    drawn = augmented(stack.expand(1000, *stack.shape[1:]), generator())
    assert drawn.shape[1:] == stack.shape[1:]
    planes = drawn[:, 0].flatten(2).sort(-1).values
    assert set(planes[:, 0, 0].tolist()) == {0.0, 9.0}
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == 16


def test_rectangles_are_only_mirrored() -> None:
    """Where sides differ, y and x are not exchanged: four versions."""
    drawn = augmented(torch.arange(6.0).reshape(1, 1, 2, 3).expand(300, 1, 2, 3), generator())
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == 4


def test_whole_floats_and_integers_are_counts() -> None:
    """2.0 is a count, and so is 2."""
    check_counts("counts", torch.full((1, 1, 2, 2), 2.0), 2)
    check_counts("counts", torch.full((1, 1, 2, 2), 2), 2)
    check_counts("counts", torch.zeros(1, 1, 2, 2), 2, empty=True)


def test_what_are_no_counts_is_refused_with_its_place() -> None:
    """Negative, fractional, missing and saturated values, empty images and wrong ranks are named."""
    good = torch.full((2, 1, 3, 4), 2.0)

    def at(value: float) -> Tensor:
        bad = good.clone()
        bad[1, 0, 2, 3] = value
        return bad

    with pytest.raises(ValueError, match=r"1 negative values, the first -1 at index \(1, 0, 2, 3\)"):
        check_counts("counts", at(-1), 2)
    with pytest.raises(ValueError, match=r"1 fractional values, the first 0.5 at index \(1, 0, 2, 3\)"):
        check_counts("counts", at(0.5), 2)
    with pytest.raises(ValueError, match=r"finite values, got 1 that are not, the first at index \(1, 0, 2, 3\)"):
        check_counts("counts", at(math.nan), 2)
    with pytest.raises(ValueError, match="images with at least one photon, got image 0 with none"):
        check_counts("counts", torch.zeros(1, 1, 2, 2), 2)
    with pytest.raises(ValueError, match="a detector that is not saturated, got 4% of the pixels at 255 or above"):
        check_counts("counts", at(255.0), 2, full=255)
    with pytest.raises(ValueError, match=r"5 axes \(B, C, Z, Y, X\), got 4 .* counts\[None, None\]"):
        check_counts("counts", good, 3)


def test_empty_ranges_and_unequal_targets_are_refused() -> None:
    """Levels must rise, and a target has the prediction's shape."""
    with pytest.raises(ValueError, match="two finite levels in rising order"):
        split(torch.ones(1, 1, 2, 2), 3, 1, generator())
    with pytest.raises(ValueError, match="target: expected shape"):
        photon_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="target: expected shape"):
        mse_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
