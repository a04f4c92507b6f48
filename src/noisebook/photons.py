"""Photon counts: Poisson draws and binomial thinning.

Source: A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607 (thinning);
thinning a Poisson count of mean m with share p gives a Poisson count of mean p m, independent of the remainder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisebook._checks import check_finite, error


def poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson counts of expected ``rate``, any shape, same dtype.

    Raises:
        ValueError: If a rate is negative or not finite.
    """
    check_finite("rate", rate)
    if (rate < 0).any():
        raise error("rate", "values of at least 0", f"a minimum of {float(rate.min())}")
    return torch.poisson(rate, generator=generator)


def thin(counts: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keep each photon of ``counts`` with probability ``share``: a binomial draw of the same shape.

    Raises:
        ValueError: If ``share`` is outside [0, 1], or counts are negative or fractional.
    """
    check_finite("counts", counts)
    if not 0 <= share <= 1:
        raise error("share", "within [0, 1]", share)
    if (counts < 0).any() or (counts != counts.round()).any():
        raise error("counts", "whole numbers of at least 0", "negative or fractional values")
    return torch.binomial(counts, torch.full_like(counts, share), generator=generator)
