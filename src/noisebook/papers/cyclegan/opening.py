"""The door of the chapter's notebook: its parameters are checked before any work.

J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang, H. J. Koo, D. H. Yang, J. B. Seo, J. C. Ye, "Cycle-consistent
adversarial denoising network for multiphase coronary CT angiography", Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from noisebook import datasets, embedded
from noisebook._checks import check_one_of, check_range, error
from noisebook._parameters import check_opening

from .nets import EMBEDDED
from .scans import check_mu, holds_mu, read_archive
from .show import check_trainable, of_authors


def checked(
    out: str,
    data_root: str,
    prefix: str,
    recipe: str,
    nets: str,
    checkpoint_path: str,
    shown: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Of an archive, the last patient is read; of files of mu, the first.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "cyclegan", locals())
    check_one_of("nets", nets, ("embedded", "train"))
    check_one_of("recipe", recipe, ("test", "smoke"))
    check_range("shown", shown, 0)
    if checkpoint_path:
        of_authors(checkpoint_path)
    if data_root and holds_mu(data_root):
        for part in ("test", "train") if nets == "train" else ("test",):
            check_mu(data_root, part)
    elif data_root:
        patients = datasets.ct_patients(data_root, prefix)
        check_trainable(nets, data_root, prefix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told where all patients are read
            read_archive(data_root, patients[-1:])
    elif prefix:
        raise error("prefix", "none, for simulated patients", repr(prefix), "Set data_root too.")
    name = Path(data_root).resolve().name if data_root else f"{embedded.named(recipe).id} (simulated)"
    return name, ", ".join(EMBEDDED) if nets == "embedded" else f"{nets}: cyclegan"
