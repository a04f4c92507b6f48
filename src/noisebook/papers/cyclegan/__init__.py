"""CT denoising without pairs: CycleGAN, beside the same generator trained on pairs.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang, H. J. Koo, D. H. Yang, J. B. Seo, J. C. Ye, "Cycle-consistent
adversarial denoising network for multiphase coronary CT angiography", Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from .crops import batches
from .nets import (
    AUTHORS,
    EMBEDDED,
    SHIFTED,
    SMALL,
    TWIN,
    VALIDATION,
    ZHU,
    Trained,
    embedded_scans,
    embedded_test,
    load,
    register,
    train,
    train_embedded,
)
from .network import (
    SCALE_HU,
    Discriminator,
    Generator,
    InstanceNorm,
    Nets,
    Reflect,
    from_authors,
    map_size,
    normalise,
    parameters,
    receptive_field,
)
from .scans import Domains, Scans, check_apart, check_hu, domains, from_mu, read_archive, read_mu, to_mu
from .training import Config, ImageBuffer, PairedTraining, Training, adversarial
from .watch import Watch, denoise, tiling

__all__ = [
    "AUTHORS",
    "EMBEDDED",
    "SCALE_HU",
    "SHIFTED",
    "SMALL",
    "TWIN",
    "VALIDATION",
    "ZHU",
    "Config",
    "Discriminator",
    "Domains",
    "Generator",
    "ImageBuffer",
    "InstanceNorm",
    "Nets",
    "PairedTraining",
    "Reflect",
    "Scans",
    "Trained",
    "Training",
    "Watch",
    "adversarial",
    "batches",
    "check_apart",
    "check_hu",
    "denoise",
    "domains",
    "embedded_scans",
    "embedded_test",
    "from_authors",
    "from_mu",
    "load",
    "map_size",
    "normalise",
    "parameters",
    "read_archive",
    "read_mu",
    "receptive_field",
    "register",
    "tiling",
    "to_mu",
    "train",
    "train_embedded",
]
