"""The door of the chapter's notebook: its parameters are checked before any work.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from noisebook import datasets, embedded
from noisebook._checks import check_one_of, error
from noisebook._parameters import check_opening

from .edges import probe_pixel, probe_place
from .network import EMBEDDED, check_trainable
from .scans import grid_of


def checked(
    out: str,
    data_root: str,
    recipe: str,
    net: str,
    label: str,
    prefix: str,
    probe: list[int],
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Of an archive, the last patient is read.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "linearized", locals())
    check_one_of("net", net, (*EMBEDDED, "train"))
    check_one_of("label", label, ("full", "noise free"))
    chosen = embedded.named(recipe)
    count, shape, name = len(chosen.patients), (chosen.slices, chosen.pixels, chosen.pixels), f"{chosen.id} (simulated)"
    if data_root:
        patients = datasets.ct_patients(data_root, prefix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told where all patients are read
            pair = datasets.ct_pairs(data_root, patients[-1], label=label)
        grid_of(pair)
        count, shape, name = len(patients), pair.low.shape, Path(data_root).resolve().name
    elif prefix:
        raise error("prefix", "none, for simulated patients", repr(prefix), "Set data_root too.")
    probe_pixel(np.broadcast_to(0.0, shape[1:]), *probe_place(probe, shape)[1:], margin=32)
    if net == "train" and count <= (tests := datasets.TEST_PATIENTS):
        remedy = "Take a larger archive, or recipe=train."
        raise error("net=train", f"patients beside the {tests} that test", f"{count} in all", remedy)
    if data_root:
        check_trainable(net, Path(data_root), patients, label)
    return name, net
