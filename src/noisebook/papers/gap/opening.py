"""The door of the chapter's notebook: its parameters are checked before any work.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from __future__ import annotations

from noisebook._checks import check_one_of, check_range, error
from noisebook._parameters import check_opening

from .show import of_authors, own_counts
from .training import EMBEDDED, FIRST_TRAINING_SEED


def checked(
    out: str,
    counts_path: str,
    counts_name: str,
    checkpoint_path: str,
    nets: str,
    size: int,
    samples: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "gap", locals())
    check_one_of("nets", nets, ("embedded", "train"))
    check_range("size", size, 16, 1024)
    check_range("samples", samples, 2)
    check_range("seed", seed, 0, FIRST_TRAINING_SEED - 1)  # what is measured is held out
    if counts_name and not counts_path:
        raise error("counts_name", "none without counts_path", repr(counts_name), "Set counts_path too.")
    if counts_path:
        own_counts(counts_path, counts_name)
    if checkpoint_path:
        of_authors(checkpoint_path)
    return f"simulated tissue {seed}", ", ".join(EMBEDDED) if nets == "embedded" else f"{nets}: gap"
