"""The door of the chapter's notebook: its parameters are checked before any work.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

from pathlib import Path

from noisebook import datasets, embedded
from noisebook._checks import check_one_of, check_range, error
from noisebook._parameters import check_opening

from .corruptions import CORRUPTIONS
from .training import EMBEDDED


def checked(
    out: str,
    data_root: str,
    recipe: str,
    by: str,
    nets: str,
    corruption: str,
    shown: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "xray", locals())
    check_one_of("nets", nets, ("embedded", "train"))
    check_one_of("recipe", recipe, ("test", "smoke"))
    check_one_of("corruption", corruption, CORRUPTIONS)
    check_range("shown", shown, 0)
    check_one_of("by", by, ("folder", "patient"))
    name = f"{embedded.named_xray(recipe).id} (simulated)"
    if data_root:
        parts = datasets.xray_split(datasets.xray_files(data_root), by)
        if empty := [part for part, files in parts.items() if not files]:
            raise error(f"{data_root}, by={by}", "images in every part", f"none in {', '.join(empty)}")
        name = Path(data_root).resolve().name
    return name, ", ".join(EMBEDDED) if nets == "embedded" else f"{nets}: xray"
