"""What the chapter's claims were measured on and with, in words, from the studies' configurations.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noisebook import embedded
from noisebook.claims import against
from noisebook.studies import named, precomputed

from .long import STUDIES
from .training import AE, SMALL, VARIATIONAL, architecture, schedule

HELD_OUT = f"{embedded.XRAY_TEST.id}, held-out patients"
KNOWN = f"{embedded.XRAY_TEST.id}, patients of the training"
BOTH = f"{HELD_OUT} and patients of the training"
TRAINING = f"{embedded.XRAY_TRAIN.id}, training images"
MODELS = {"ae": AE, "vae": VARIATIONAL, "residual": SMALL}


def data(where: str, study: str = "") -> str:
    """The images of a claim, of which a study measured it, or the run itself."""
    return f"simulated chest radiographs, 64 x 64 ({where}), {precomputed(study) if study else 'computed in the run'}"


def config(study: str) -> dict[str, Any]:
    """The configuration of a study."""
    return named(STUDIES, study).config


def nets(study: str, *models: str, each: tuple[dict[str, Any], ...] = ({},)) -> str:
    """The networks of a study that a claim compares, as its configuration has them.

    Args:
        study: Its name.
        models: Of `MODELS`.
        each: What differs between nets of one model: fields of their configurations.
    """
    known, words = config(study), []
    for model in models:
        names = ("width", "images") if model == "residual" else ("images",)
        changed: dict[str, Any] = {name: known[name] for name in names if name in known}
        if "epochs" in known:
            changed["epochs"] = known["epochs"][model] if isinstance(known["epochs"], dict) else known["epochs"]
        if "corruption" in known:
            changed["corruptions"] = (known["corruption"],)
        for differing in each:
            one = replace(MODELS[model], **(changed | differing))
            words.append(f"{architecture(one)}; {schedule(one)}")
    return against(*words)
