"""Image quality: PSNR, SSIM, RMSE; covariance shape; edges and smoothness; spectra; observers; intervals.

PSNR and SSIM are scikit-image's (Z. Wang et al., IEEE TIP 13(4), 2004, doi 10.1109/TIP.2003.819861, for SSIM). The data
range is always the caller's to state: with another range the same images score decibels apart.
"""

from ._observer import detectability, laguerre_gauss
from ._scores import SSIM_WINDOW, bootstrap, psnr, rmse, ssim
from ._shapes import edge_width, elongation, largest_step, modulus_of_continuity, total_variation
from ._spectra import (
    high_frequency_kept,
    high_frequency_power,
    mean_frequency,
    noise_power_spectrum,
    radial_spectrum,
    spectrum_kept,
)

__all__ = [
    "SSIM_WINDOW",
    "bootstrap",
    "detectability",
    "edge_width",
    "elongation",
    "high_frequency_kept",
    "high_frequency_power",
    "laguerre_gauss",
    "largest_step",
    "mean_frequency",
    "modulus_of_continuity",
    "noise_power_spectrum",
    "psnr",
    "radial_spectrum",
    "rmse",
    "spectrum_kept",
    "ssim",
    "total_variation",
]
