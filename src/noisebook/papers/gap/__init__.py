"""Generative accumulation of photons: predict where the next photon lands; denoise, sample and generate with it.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from .baselines import (
    anscombe,
    best_gaussian,
    best_non_local_means,
    expected_anscombe,
    inverse_anscombe,
    level_psnr,
)
from .counts import (
    Split,
    augmented,
    check_counts,
    mse_loss,
    photon_loss,
    pseudo_psnr,
    split,
    thinned,
)
from .long import PLANNED_STUDIES
from .measure import compared, fineness, in_depth, posterior_samples, spectrum, thinning, toy_error
from .network import UNet, from_checkpoint
from .sample import Samples, denoise, expected_steps, sample, shares
from .toy import ExactPredictor, ToyPrior, toy_prior
from .training import (
    EMBEDDED,
    SMALL,
    Config,
    Training,
    batches,
    build,
    checkpoints,
    load,
    register,
    simulated,
    tissues,
    train,
    train_embedded,
)
from .verdicts import claims, gain, per_seed, same_law, telling_levels

__all__ = [
    "EMBEDDED",
    "PLANNED_STUDIES",
    "SMALL",
    "Config",
    "ExactPredictor",
    "Samples",
    "Split",
    "ToyPrior",
    "Training",
    "UNet",
    "anscombe",
    "augmented",
    "batches",
    "best_gaussian",
    "best_non_local_means",
    "build",
    "check_counts",
    "checkpoints",
    "claims",
    "compared",
    "denoise",
    "expected_anscombe",
    "expected_steps",
    "fineness",
    "from_checkpoint",
    "gain",
    "in_depth",
    "inverse_anscombe",
    "level_psnr",
    "load",
    "mse_loss",
    "per_seed",
    "photon_loss",
    "posterior_samples",
    "pseudo_psnr",
    "register",
    "same_law",
    "sample",
    "shares",
    "simulated",
    "spectrum",
    "split",
    "telling_levels",
    "thinned",
    "thinning",
    "tissues",
    "toy_error",
    "toy_prior",
    "train",
    "train_embedded",
]
