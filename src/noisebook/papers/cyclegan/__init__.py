"""CT denoising without pairs: CycleGAN, beside the same generator trained on pairs.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang, H. J. Koo, D. H. Yang, J. B. Seo, J. C. Ye, "Cycle-consistent
adversarial denoising network for multiphase coronary CT angiography", Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from .network import (
    SCALE_HU,
    Discriminator,
    Generator,
    Nets,
    from_authors,
    map_size,
    normalise,
    parameters,
    receptive_field,
)
from .scans import Domains, Scans, check_apart, check_hu, domains, from_mu, read_archive, read_mu, to_mu

__all__ = [
    "SCALE_HU",
    "Discriminator",
    "Domains",
    "Generator",
    "Nets",
    "Scans",
    "check_apart",
    "check_hu",
    "domains",
    "from_authors",
    "from_mu",
    "map_size",
    "normalise",
    "parameters",
    "read_archive",
    "read_mu",
    "receptive_field",
    "to_mu",
]
