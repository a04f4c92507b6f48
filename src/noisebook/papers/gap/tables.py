"""The chapter's tables of what its studies measured.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noisebook import _numbers
from noisebook.studies import by_seed

from .verdicts import DIMMEST, same_law

Rows = Mapping[str, np.ndarray]
Columns = dict[str, list[object]]


def toy_table(toy: Rows) -> Columns:
    """How far the net is from the exact answer by level: means over the seeds, standard deviations."""
    rows = {name.removeprefix("net_"): values for name, values in toy.items() if name.startswith("net_")}
    heads = {"largest": "largest error", "rms": "RMS error", "excess": "excess loss / (nats per photon)"}
    return _by(rows, "level_db", "level / dB", heads)


def chance_table(toy: Rows) -> Columns:
    """Distance of generated toy images from the prior's chances by beta: means over the seeds, standard deviations."""
    rows = {name.removeprefix("beta_"): values for name, values in toy.items() if name.startswith("beta_")}
    rows["beyond"] = rows["distance"] - rows["noise"]
    heads = {"distance": "distance of chances", "noise": "of as many exact draws", "beyond": "beyond that"}
    return _by(rows, "beta", "beta", heads)


def step_table(generation: Rows) -> Columns:
    """Steps of generated images and those of the formula by beta: means over the seeds, standard deviations."""
    names = ("beta", "seed", "steps", "expected_steps")
    rows = {name: np.asarray(generation[name]) for name in names}
    rows["ratio"] = rows["steps"] / rows["expected_steps"]
    heads = {"steps": "steps", "expected_steps": "by the formula", "ratio": "steps / formula"}
    return _by(rows, "beta", "beta", heads)


def law_table(law: Rows) -> Columns:
    """Corrected p-values of the two-sample tests, one column a seed."""
    compared = {"ours, alone and in a batch": "beside", "ours alone, the authors' in a batch": "summed"}
    values = [same_law(law, "alone", other) for other in compared.values()]
    columns: Columns = {"samplers": list(compared)}
    for k, seed in enumerate(np.unique(law["seed"])):
        columns[f"p, seed {int(seed)}"] = [_numbers.number(float(found[k])) for found in values]
    return columns


def dimmest_table(dimmest: Rows) -> Columns:
    """What the training on the dimmest data ended with."""
    return {
        "photons per pixel": [f"{DIMMEST['mean']:g}"] * len(dimmest["finite"]),
        "steps": [int(steps) for steps in dimmest["steps"]],
        "finite weights / %": [f"{100 * share:g}" for share in dimmest["finite"]],
    }


def _by(rows: Rows, circumstance: str, title: str, heads: Mapping[str, str]) -> Columns:
    cases = np.unique(rows[circumstance])[::-1]
    columns: Columns = {title: [_numbers.number(float(case)) for case in cases]}
    for name, head in heads.items():
        values = [by_seed(rows, name, **{circumstance: case}) for case in cases]
        columns[head] = [_with_spread(one) for one in values]
    return columns


def _with_spread(values: np.ndarray) -> str:
    """Mean and standard deviation; the number alone where all are one."""
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return _numbers.number(float(values[0]))
    return _numbers.with_spread(float(values.mean()), float(values.std(ddof=1)), 1)
