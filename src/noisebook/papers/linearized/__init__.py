"""Linearized noise and resolution analysis of a CT-denoising U-Net.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from .analysis import (
    STUDIES,
    Pixels,
    adjoint_errors,
    claims,
    derivative_errors,
    elongations,
    find_pixels,
    first_elongations,
    probe_pixel,
    quality,
    study_elongation,
)
from .network import EMBEDDED, Config, FBPConvNet, Training, batches, denoise, load, train, train_embedded

__all__ = [
    "EMBEDDED",
    "STUDIES",
    "Config",
    "FBPConvNet",
    "Pixels",
    "Training",
    "adjoint_errors",
    "batches",
    "claims",
    "denoise",
    "derivative_errors",
    "elongations",
    "find_pixels",
    "first_elongations",
    "load",
    "probe_pixel",
    "quality",
    "study_elongation",
    "train",
    "train_embedded",
]
