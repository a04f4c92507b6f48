"""Random crops of both doses: drawn apart, or as pairs, on one place or beside it.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from noisebook._checks import error

from .scans import Domains
from .training import Config


def batches(domains: Domains, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of crops with flips, (quarter dose, full dose), both (looks B, 1, patch, patch) in HU.

    Each domain is gone through in a random order of its own, the smaller one as often as it takes. Registered slices
    are drawn together, cropped at one place, up to ``config.shift`` apart, and flipped together.

    Args:
        domains: All training slices.
        config: Patch, batch, looks, crops and shift.
        generator: Chooses order, places and flips.

    Raises:
        ValueError: If slices are smaller than the patch.
    """
    side = min(domains.quarter.shape[1], domains.full.shape[1])
    if side < config.patch:
        raise error("domains", f"slices of at least {config.patch} pixels a side", side)
    steps = max(1, config.crops * max(len(domains.quarter), len(domains.full)) // config.batch)
    size = config.batch * config.looks
    order = _order(len(domains.quarter), steps * size, generator)
    other = order if domains.registered else _order(len(domains.full), steps * size, generator)
    for k in range(0, steps * size, size):
        pairs = [
            _crops(domains, int(a), int(b), config, generator)
            for a, b in zip(order[k : k + size], other[k : k + size], strict=True)
        ]
        yield torch.stack([a for a, _ in pairs])[:, None], torch.stack([b for _, b in pairs])[:, None]


def _order(length: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` numbers below ``length``: permutations, one after the other."""
    return torch.cat([torch.randperm(length, generator=generator) for _ in range(-(-count // length))])[:count]


def _crops(domains: Domains, a: int, b: int, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One crop of each dose."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def flips() -> list[int]:
        return [axis for axis in (0, 1) if draw(0, 1)]

    first, second = domains.quarter[a], domains.full[b]
    room, other = first.shape[0] - config.patch, second.shape[0] - config.patch
    place, turned = [draw(0, room), draw(0, room)], flips()
    if domains.registered:
        moved = [min(max(at + draw(-config.shift, config.shift), 0), room) for at in place]
        return _cut(first, place, turned, config.patch), _cut(second, moved, turned, config.patch)
    there, also = [draw(0, other), draw(0, other)], flips()
    return _cut(first, place, turned, config.patch), _cut(second, there, also, config.patch)


def _cut(image: Tensor, place: list[int], turned: list[int], side: int) -> Tensor:
    return image[place[0] : place[0] + side, place[1] : place[1] + side].flip(turned)
