"""Covariances of input noise, as maps that are applied and drawn from, never as matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noisebook._checks import check_finite, check_positive, check_rank, error

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Covariance:
    """The covariance S of noise on an image; calling it applies S to vectors (K, C, Y, X).

    Attributes:
        apply: The map v -> S v.
        draw: ``draw(like, count, generator)`` draws noise of covariance S on images of the shape (1, C, Y, X) of
            ``like``, (count, C, Y, X).
    """

    apply: Map
    draw: Callable[[Tensor, int, torch.Generator], Tensor]

    def __call__(self, v: Tensor) -> Tensor:
        """S v for K vectors (K, C, Y, X); the same shape."""
        return self.apply(v)


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def white(variance: float) -> Covariance:
    """White noise: v -> variance v.

    Raises:
        ValueError: If the variance is not positive.
    """
    check_positive("variance", variance)

    def draw(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return _normal((count, *like.shape[1:]), like, generator) * math.sqrt(variance)

    return Covariance(lambda v: v * variance, draw)


def _check_variance(variance: Tensor) -> None:
    check_finite("variance", variance)
    if (variance < 0).any():
        raise error("variance", "values of at least 0", float(variance.min()))


def diagonal(variance: Tensor) -> Covariance:
    """Independent noise: v -> variance v, with one variance a pixel in the shape (1, C, Y, X) of the image.

    Raises:
        ValueError: If a variance is negative or not finite.
    """
    _check_variance(variance)

    def draw(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return variance.sqrt().to(like) * _normal((count, *like.shape[1:]), like, generator)

    return Covariance(lambda v: v * variance, draw)


def coloured(forward: Map, adjoint: Map, variance: Tensor) -> Covariance:
    """Noise that a linear reconstruction makes of independent noise on its data: v -> A diag(variance) A' v.

    Args:
        forward: A, from data (K, V, D) to images (K, Y, X), such as FBP.
        adjoint: A', from images to data: exact, or the covariance is not symmetric.
        variance: (1, V, D), of the data.

    Raises:
        ValueError: If a variance is negative or not finite, or has not three axes.

    Source: Xu & Noo 2022: S = F0 diag F0' with F0 the fan-beam FBP.
    """
    check_rank("variance", variance, 3, "(1, V, D)")
    _check_variance(variance)

    def apply(v: Tensor) -> Tensor:
        return forward(adjoint(v[:, 0]) * variance)[:, None]

    def draw(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
        data = variance.sqrt() * _normal((count, *variance.shape[1:]), variance, generator)
        return forward(data)[:, None].to(like)

    return Covariance(apply, draw)
