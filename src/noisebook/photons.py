"""Photon counts: Poisson draws and binomial thinning.

Source: A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607 (thinning);
thinning a Poisson count of mean m with share p gives a Poisson count of mean p m, independent of the remainder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisebook._checks import check_finite, error


def _check_floating(name: str, array: Tensor) -> None:
    if not array.is_floating_point():
        raise error(name, "floating numbers", array.dtype, "Convert it: .float().")
    check_finite(name, array)


def poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson counts of expected ``rate``, any shape, same dtype.

    Raises:
        ValueError: If a rate is negative, not finite or not a floating number.
    """
    _check_floating("rate", rate)
    if (rate < 0).any():
        raise error("rate", "values of at least 0", f"a minimum of {float(rate.min())}")
    return torch.poisson(rate, generator=generator)


def thin(counts: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keep each photon of ``counts`` with probability ``share``: a binomial draw of the same shape.

    Raises:
        ValueError: If ``share`` is outside [0, 1], or counts are negative, fractional or not floating numbers.
    """
    _check_floating("counts", counts)
    if not 0 <= share <= 1:
        raise error("share", "within [0, 1]", share)
    if (counts < 0).any() or (counts != counts.round()).any():
        raise error("counts", "whole numbers of at least 0", "negative or fractional values")
    return torch.binomial(counts, torch.full_like(counts, share), generator=generator)
