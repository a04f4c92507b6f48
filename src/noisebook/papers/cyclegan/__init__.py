"""CT denoising without pairs: CycleGAN, beside the same generator trained on pairs.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang, H. J. Koo, D. H. Yang, J. B. Seo, J. C. Ye, "Cycle-consistent
adversarial denoising network for multiphase coronary CT angiography", Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from noisebook.papers import Paper

from . import data, experiment, figures, measures, model, studies

PAPER = Paper("cyclegan", experiment.NETWORKS, measures, studies.STUDIES)
__all__ = ["PAPER", "data", "experiment", "figures", "measures", "model", "studies"]
