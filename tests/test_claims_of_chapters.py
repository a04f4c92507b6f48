"""The claims of all chapters, computed from the committed studies: each says what it was measured on and with."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from noisebook import studies
from noisebook.claims import Claim
from noisebook.papers import compare, cyclegan, gap, linearized, regularity, xray

CHAPTERS = ("linearized", "regularity", "cyclegan", "gap", "xray", "compare")
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
EXACT = re.compile(r"L2[bcd]|R[45][abc]|C9[abcd]")
"""Claims that rest on no image: adjoints, kernels, sizes of networks."""


def read(listed: tuple[studies.Study, ...]) -> dict[str, studies.Arrays]:
    """The committed results of studies, by name."""
    return {study.name: studies.read(study) for study in listed}


def measures() -> compare.measures.Measures:
    """Some measures of a network."""
    ones, images = np.ones(compare.data.IMAGES), np.ones((2, compare.data.IMAGES))
    spectrum = np.ones((compare.data.IMAGES, 4))
    known = {"psnr": images, "ssim": images, "rmse": images, "frequency": np.array([0.1, 0.2, 0.3, 0.4])}
    return compare.measures.Measures(
        **known, transfer=spectrum, contrast=ones, edge_px=ones, sd=ones, sd_ratio=ones, noise_kept=ones, shown={}
    )


@cache
def claims() -> dict[str, list[Claim]]:
    """Every claim of every chapter; what a run computes is made up."""
    exact = {"double backward": np.full(3, 1e-16), "finite differences": np.full(3, 1e-9)}
    adjoints = dict.fromkeys(("Jacobian", "projection", "back-projection", "FBP"), np.full(3, 1e-16))
    wrapped = dict.fromkeys(("clipped", "wrapped", "carried", "elsewhere"), np.ones(3))
    moduli = regularity.measures.disc_moduli((0.05, 0.0003), size=64)
    listed = compare.data.subjects(only=["regularity-s1-decay-0.001", "xray-ae"])
    return {
        "linearized": linearized.PAPER.claims({"derivatives": exact, "adjoints": adjoints}),
        "regularity": regularity.PAPER.claims({"moduli": moduli, "redraw": np.full(2, 0.7)}),
        "cyclegan": cyclegan.PAPER.claims(),
        "gap": gap.PAPER.claims(),
        "xray": xray.PAPER.claims({"initial": np.full(5, 2839.0), "wrapped": wrapped}),
        "compare": compare.PAPER.claims(compare.measures.claimed({name: measures() for name in listed}, listed)),
    }


def test_no_id_is_used_twice() -> None:
    """A claim is known by its id alone, whichever chapter it is of."""
    ids = Counter(claim.id for listed in claims().values() for claim in listed)
    assert [name for name, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_simulated_data_are_called_so(chapter: str) -> None:
    """Every claim that was measured on images says that these are simulated, for none of the book's are not."""
    measured = [
        claim
        for claim in claims()[chapter]
        if not claim.needs and claim.kind == "claim" and not EXACT.fullmatch(claim.id)
    ]
    assert [claim.id for claim in measured if "simulated" not in claim.data] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_statements_stand_alone(chapter: str) -> None:
    """No statement goes on from the one before it: each is cited by itself."""
    begun = re.compile(r"(and|but|nor|it|its|without it)\b")
    assert [claim.id for claim in claims()[chapter] if begun.match(claim.statement)] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_claim_leads_to_a_cell(chapter: str) -> None:
    """Each claim, or its number without a letter, stands in the metadata of one cell, and no cell names another."""
    cells = json.loads((NOTEBOOKS / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    named = Counter(name for cell in cells for name in cell["metadata"].get("claims", []))
    assert max(named.values()) == 1
    ids = {claim.id for claim in claims()[chapter]}
    assert {name for name in ids if name not in named and re.sub(r"[a-z]$", "", name) not in named} == set()
    assert {name for name in named if name not in ids and name not in {re.sub(r"[a-z]$", "", i) for i in ids}} == set()
