"""Timing for the benchmarks: two functions in turn in one process, the median of each, and their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def compare(name: str, ours: Callable[[], object], plain: Callable[[], object], rounds: int) -> float:
    """Time ``ours`` and ``plain`` in turn and print both medians in ms; the ratio plain / ours."""
    times: tuple[list[float], list[float]] = ([], [])
    for function in (ours, plain):
        function()
    for _ in range(rounds):
        for function, kept in zip((ours, plain), times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            kept.append(time.perf_counter() - start)
    mine, other = (1000 * statistics.median(kept) for kept in times)
    print(f"{name}: ours {mine:.1f} ms, plain {other:.1f} ms, ratio {other / mine:.2f} (median of {rounds} rounds)")
    return other / mine
