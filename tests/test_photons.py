"""Poisson draws and binomial thinning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from noisebook import photons


def generator() -> torch.Generator:
    """A fixed seed."""
    return torch.Generator().manual_seed(3)


def test_poisson_mean_and_variance_equal_the_rate() -> None:
    """Counts of rate 9 have mean and variance 9 within 2 %."""
    counts = photons.poisson(torch.full((200_000,), 9.0), generator())
    assert float(counts.mean()) == pytest.approx(9, rel=0.02)
    assert float(counts.var()) == pytest.approx(9, rel=0.02)


def test_thinning_a_poisson_count_gives_two_independent_poisson_counts() -> None:
    """The kept quarter has mean and variance 2, and is uncorrelated with the rest."""
    counts = photons.poisson(torch.full((200_000,), 8.0), generator())
    kept = photons.thin(counts, 0.25, generator())
    rest = counts - kept
    assert float(kept.mean()) == pytest.approx(2, rel=0.02)
    assert float(kept.var()) == pytest.approx(2, rel=0.03)
    assert abs(float(torch.corrcoef(torch.stack([kept, rest]))[0, 1])) < 0.01
    assert kept.min() >= 0
    assert rest.min() >= 0


def test_thinning_by_nothing_and_all_is_exact() -> None:
    """Share 1 keeps every photon and share 0 none."""
    counts = torch.arange(5.0)
    torch.testing.assert_close(photons.thin(counts, 1.0, generator()), counts)
    torch.testing.assert_close(photons.thin(counts, 0.0, generator()), torch.zeros(5))


def test_bad_counts_are_refused() -> None:
    """Negative rates, fractional counts and shares above one raise."""
    with pytest.raises(ValueError, match="rate: expected values of at least 0"):
        photons.poisson(torch.tensor([-1.0]), generator())
    with pytest.raises(ValueError, match="counts: expected whole numbers"):
        photons.thin(torch.tensor([0.5]), 0.5, generator())
    with pytest.raises(ValueError, match=r"share: expected within \[0, 1\], got 1.5"):
        photons.thin(torch.tensor([1.0]), 1.5, generator())


def test_whole_number_tensors_are_refused() -> None:
    """Integer tensors, which torch's samplers do not take, are refused with the remedy."""
    counts = torch.ones(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"rate: expected floating numbers, got torch\.int64"):
        photons.poisson(counts, torch.Generator())
    with pytest.raises(ValueError, match=r"counts: expected floating numbers, got torch\.int64"):
        photons.thin(counts, 0.5, torch.Generator())


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="rates are computed by MKL")
def test_draws_are_the_same_on_every_processor() -> None:
    """100,000 seeded counts behind an attenuating object are those of MKL's common path."""
    code = (
        "from hashlib import sha256\nimport torch\nfrom noisebook import photons\n"
        "rates = 2e5 * (-torch.linspace(0, 8, 100_000)).exp()\n"
        "counts = photons.poisson(rates, torch.Generator().manual_seed(0))\n"
        "print(sha256(counts.numpy().tobytes()).hexdigest())"
    )
    ours = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env=ours | given, capture_output=True, text=True, check=True
        ).stdout
        for given in ({}, {"MKL_CBWR": "COMPATIBLE"})
    ]
    assert found[0] == found[1]
