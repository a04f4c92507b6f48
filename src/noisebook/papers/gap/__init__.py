"""Generative accumulation of photons: predict where the next photon lands; denoise, sample and generate with it.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""

from noisebook.papers import Paper

from . import data, experiment, figures, measures, model, studies

PAPER = Paper("gap", experiment.NETWORKS, measures, studies.STUDIES)
__all__ = ["PAPER", "data", "experiment", "figures", "measures", "model", "studies"]
