"""Linearized noise and resolution analysis of a CT-denoising U-Net.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from .checks import adjoint_errors, derivative_errors, quality
from .edges import Pixels, elongations, find_pixels, first_elongations, probe_pixel, probe_place, study_elongation
from .long import STUDIES, first_again, study_montecarlo
from .montecarlo import (
    Linear,
    Moments,
    Recovery,
    Region,
    block_sums,
    covariance_psnr,
    linear,
    median_ratio,
    moments,
    realise,
    recovery,
    region,
    regions,
)
from .network import (
    EMBEDDED,
    Config,
    FBPConvNet,
    Training,
    batches,
    check_trainable,
    denoise,
    exposure_nets,
    load,
    train,
    train_embedded,
)
from .opening import checked
from .scans import EVERY, EXPOSURES, SCAN, Scan, grid_of, line_integrals, noisy_inputs, scan, training_scans
from .verdicts import beside_the_paper, claims, cost_table, covariance_rows, paper_ratios, ratios, study_of

__all__ = [
    "EMBEDDED",
    "EVERY",
    "EXPOSURES",
    "SCAN",
    "STUDIES",
    "Config",
    "FBPConvNet",
    "Linear",
    "Moments",
    "Pixels",
    "Recovery",
    "Region",
    "Scan",
    "Training",
    "adjoint_errors",
    "batches",
    "beside_the_paper",
    "block_sums",
    "check_trainable",
    "checked",
    "claims",
    "cost_table",
    "covariance_psnr",
    "covariance_rows",
    "denoise",
    "derivative_errors",
    "elongations",
    "exposure_nets",
    "find_pixels",
    "first_again",
    "first_elongations",
    "grid_of",
    "line_integrals",
    "linear",
    "load",
    "median_ratio",
    "moments",
    "noisy_inputs",
    "paper_ratios",
    "probe_pixel",
    "probe_place",
    "quality",
    "ratios",
    "realise",
    "recovery",
    "region",
    "regions",
    "scan",
    "study_elongation",
    "study_montecarlo",
    "study_of",
    "train",
    "train_embedded",
    "training_scans",
]
