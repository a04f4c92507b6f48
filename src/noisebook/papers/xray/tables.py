"""The chapter's tables of what its studies measured.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noisebook import _numbers

from . import told
from .long import METHODS
from .verdicts import of_method

Rows = Mapping[str, np.ndarray]


def table(spread: Rows, detect: Rows) -> dict[str, list[object]]:
    """The columns of a table of all methods: means over the seeds, with their standard deviations."""
    heads = {"psnr": "PSNR / dB", "ssim": "SSIM", "mse": "squared error × 10³", "kept": "high frequencies kept"}
    columns: dict[str, list[object]] = {"method": list(METHODS)}
    for rows, quantity, head in [*((spread, q, h) for q, h in heads.items()), (detect, "detectability", "d'")]:
        values = [of_method(rows, quantity, name) for name in METHODS]
        values = [1000 * v for v in values] if quantity == "mse" else values
        single = len(values[0]) == 1
        columns[head] = [v.item() if single else _numbers.with_spread(v.mean(), v.std(ddof=1), 1) for v in values]
    return columns


def training_table(spread: Rows) -> dict[str, list[object]]:
    """The columns of a table of the networks: squared errors on images of the training and on held-out ones, means."""
    known, held = ([of_method(spread, name, net) for net in told.MODELS] for name in ("train_mse", "mse"))
    pairs = {"training": known, "held-out": held}
    parts = {f"squared error × 10³, {on}": [1000 * v for v in values] for on, values in pairs.items()}
    parts["ratio"] = [b / a for a, b in zip(known, held, strict=True)]
    columns: dict[str, list[object]] = {"network": list(told.MODELS)}
    return columns | {
        head: [_numbers.with_spread(v.mean(), v.std(ddof=1), 1) for v in at] for head, at in parts.items()
    }
