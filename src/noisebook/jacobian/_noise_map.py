"""The standard deviation of every output pixel, exactly or from probes with a stated error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noisebook._checks import check_one_of, check_positive, check_shape, error

from ._covariance import Covariance
from ._operator import MANY, Jacobian

METHODS = ("exact", "random", "structured")
CHUNK = 8
"""Probes that the input covariance is applied to at once: an FBP shares its indices among them."""
Pixel = tuple[int, int]


@dataclass(frozen=True)
class NoiseMap:
    """The noise of an output image.

    Attributes:
        sd: (Y, X), standard deviation in the output's unit.
        standard_error: Of ``sd``, relative, root mean square over the pixels; 0 for the exact map.
        evaluations: Network evaluations used, as `Jacobian` counts them.
        method: ``exact``, ``random`` or ``structured``.
    """

    sd: Tensor
    standard_error: float
    evaluations: float
    method: str


def noise_map(
    operator: Jacobian,
    input_covariance: Covariance,
    *,
    method: str = "structured",
    probes: int = 556,
    period: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> NoiseMap:
    """Standard deviation of every pixel of the output, sqrt(diag(J S J')).

    ``exact`` takes one reverse pass a pixel. ``random`` sends ``probes`` draws of the noise through J: 556 give 3 %.
    ``structured`` probes J S J' with impulses of random sign on a lattice: z (J S J' z) at an impulse is the variance
    there, plus covariances with the other impulses, which are small where covariance is short and cancel on average.
    Its error is measured: a few probes are drawn twice. White noise suits it; the noise of FBP is correlated along
    every ray, across the whole image, and random probes cost less for the same error.

    Args:
        operator: J, of a network from one channel to one channel of the same size.
        input_covariance: S.
        method: ``exact``, ``random`` or ``structured``.
        probes: Number of random probes.
        period: Distance of the impulses of a structured probe, in pixels; it takes ``period`` squared probes.
        seed: Of the probes.
        progress: Show a progress bar.

    Raises:
        ValueError: If the method is unknown, a number is not positive, or images are not (1, 1, Y, X).

    Source: Xu & Noo 2022 (one pixel); probing of a matrix's diagonal: C. Bekas, E. Kokiopoulou, Y. Saad, Appl. Numer.
        Math. 57, 2007, doi 10.1016/j.apnum.2007.01.003.
    """
    check_one_of("method", method, METHODS)
    check_positive("probes", probes)
    check_positive("period", period)
    if operator.image.ndim != 4 or operator.image.shape[1] != 1:
        raise error("image of a noise map", "(1, 1, Y, X)", tuple(operator.image.shape))
    if operator._halo is None:  # else the crops are checked
        check_shape("output of the model for a noise map", operator.output, tuple(operator.image.shape))
    before = operator.evaluations
    if {"exact": 0, "random": probes, "structured": period**2}[method] >= MANY:
        operator.linearize()
    generator = torch.Generator().manual_seed(seed)
    if method == "exact":
        variance, share = _exact(operator, input_covariance, progress), 0.0
    elif method == "random":
        variance, share = _random(operator, input_covariance, probes, generator, progress), 1 / math.sqrt(2 * probes)
    else:
        variance, share = _structured(operator, input_covariance, period, generator, progress)
    return NoiseMap(variance.sqrt(), share, operator.evaluations - before, method)


def _chunks(items: Sequence[Pixel], text: str, progress: bool) -> Iterator[Sequence[Pixel]]:
    from tqdm import tqdm

    with tqdm(total=len(items), desc=f"noise map, {text}", disable=not progress, mininterval=1.0) as bar:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            yield chunk
            bar.update(len(chunk))


def _exact(operator: Jacobian, covariance: Covariance, progress: bool) -> Tensor:
    height, width = operator.image.shape[2:]
    places = [(row, column) for row in range(height) for column in range(width)]
    values = [operator.variance(p, covariance) for chunk in _chunks(places, "pixels", progress) for p in chunk]
    return operator.image.new_tensor(values).reshape(height, width)


def _random(
    operator: Jacobian, covariance: Covariance, probes: int, generator: torch.Generator, progress: bool
) -> Tensor:
    total = operator.image.new_zeros(operator.image.shape[2:])
    for chunk in _chunks([(0, 0)] * probes, "random probes", progress):
        noise = covariance.draw(operator.image, len(chunk), generator)
        total += (operator @ noise)[:, 0].square().sum(0)
    return total / probes


def _structured(
    operator: Jacobian, covariance: Covariance, period: int, generator: torch.Generator, progress: bool
) -> tuple[Tensor, float]:
    offsets = [(row, column) for row in range(period) for column in range(period)]
    variance = _probed(operator, covariance, offsets, period, generator, progress)
    chosen = torch.randperm(len(offsets), generator=generator)[:CHUNK].tolist()
    repeated = [offsets[k] for k in chosen]
    again = _probed(operator, covariance, repeated, period, generator, progress)
    floor = 0.01 * float(variance.median())  # a dim pixel's estimate can fall below zero
    both = [torch.cat([v[r::period, c::period].flatten() for r, c in repeated]) for v in (variance, again)]
    apart = (both[0] - both[1]) / ((both[0] + both[1]) / 2).clamp(min=floor)
    return variance.clamp(min=floor), float(apart.square().mean().sqrt()) / (2 * math.sqrt(2))


def _probed(
    operator: Jacobian,
    covariance: Covariance,
    offsets: Sequence[Pixel],
    period: int,
    generator: torch.Generator,
    progress: bool,
) -> Tensor:
    """An estimate of the variance, (Y, X), at the pixels that lie whole periods from an offset."""
    image = operator.image
    signs = torch.randint(0, 2, image.shape, generator=generator).to(image) * 2 - 1
    found = torch.zeros_like(image[0, 0])
    for chunk in _chunks(offsets, f"impulses {period} pixels apart", progress):
        probes = image.new_zeros(len(chunk), *image.shape[1:])
        for probe, (row, column) in zip(probes, chunk, strict=True):
            probe[0, row::period, column::period] = signs[0, 0, row::period, column::period]
        found += (probes * (operator @ covariance(operator.T @ probes)))[:, 0].sum(0)
    return found
