"""What the chapter's claims were measured on and with, in words, from the studies' configurations.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from noisebook import embedded
from noisebook.claims import against
from noisebook.studies import named, precomputed

from .long import STUDIES
from .nets import AUTHORS, SMALL, architecture, schedule
from .training import Config

TEST = f"{embedded.TEST.id} (simulated), test patients"
TRAINING = f"{embedded.TRAIN.id} (simulated), training patients"
WATCHED = f"{TEST}, and validation patients of {embedded.TRAIN.id} (simulated)"


def data(where: str, *studies: str) -> str:
    """The patients of a claim, and the studies that measured it."""
    return f"{where}, {precomputed(*studies)}"


def config(study: str) -> dict[str, Any]:
    """The configuration of a study."""
    return named(STUDIES, study).config


def nets(*configs: Config, study: str = "seeds", last: bool = False) -> str:
    """The networks of a study that a claim compares.

    Args:
        configs: Theirs; number of epochs and width are the study's.
        study: Its name.
        last: Whether they are those of the last epoch, not those that the validation chose.
    """
    known = config(study)
    sized = [replace(one, epochs=known["epochs"], width=known["width"]) for one in configs]
    chosen = (
        f"the last of {known['epochs']} epochs"
        if last
        else f"the best of {known['epochs']} epochs on validation patients"
    )
    return against(*(f"{architecture(one)}; {schedule(one)}; {chosen}" for one in sized))


def weighted(lambdas: Sequence[tuple[float, float]]) -> str:
    """CycleGANs with several weights of the losses: cycle, identity."""
    configs = (replace(SMALL, lambda_cycle=cycle, lambda_identity=identity) for cycle, identity in lambdas)
    return nets(*configs, study="lambdas")


def critics(kind: str) -> str:
    """The discriminators that were trained alone, of a kind of `CRITICS`."""
    known = config("critics")
    seen = {
        "authors": "with instance normalisation, shown whole crops",
        "windowed": "without instance normalisation, shown soft tissue alone",
    }
    return (
        f"discriminators alone, {known['width']} channels (the authors: {AUTHORS.critic}), {seen[kind]}; least squares "
        f"on real crops; Adam, {SMALL.learning_rate:g}; {known['steps']:,} steps of {known['batch']} crops of "
        f"{SMALL.patch} x {SMALL.patch} of each dose, the last {known['every']} measured"
    )
