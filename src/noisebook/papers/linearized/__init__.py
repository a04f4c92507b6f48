"""Linearized noise and resolution analysis of a CT-denoising U-Net.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from noisebook.papers import Paper

from . import data, experiment, measures, model, studies

PAPER = Paper("linearized", experiment.NETWORKS, measures, studies.STUDIES)
__all__ = ["PAPER", "data", "experiment", "measures", "model", "studies"]
