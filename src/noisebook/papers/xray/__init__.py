"""Autoencoder, VAE and residual autoencoder on chest radiographs: what does a bottleneck remove besides noise?

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
"""

from noisebook.papers import Paper

from . import data, experiment, figures, measures, model, studies

PAPER = Paper("xray", experiment.NETWORKS, measures, studies.STUDIES)
__all__ = ["PAPER", "data", "experiment", "figures", "measures", "model", "studies"]
