"""The results of the last release: what every claim was measured to be, and what has moved since.

A value may move within its tolerance: two of its standard errors, or one per cent, or a thousandth of a bound of the
claim, whichever is most. Whole numbers, which were counted, may not move at all; nor may a verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from noisebook import __version__, _notebook, _numbers, _paths, claims, provenance
from noisebook._checks import error

FILE = _paths.DATA / "release.json"
RULE = "whole numbers: none; else the largest of 2 standard errors, 1 % of the mean, and a thousandth of a bound"
_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="claims: {text}">
<title>claims: {text}</title>
<g font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="#fff">
<rect width="{width}" height="20" rx="3" fill="#3b4650"/>
<path d="M52 0h{inner}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{inner}z" fill="{colour}"/>
<text x="7" y="14" textLength="38">claims</text><text x="59" y="14" textLength="{length}">{text}</text>
</g></svg>
"""


@dataclass(frozen=True)
class Frozen:
    """What a claim was measured to be.

    Attributes:
        mean: Of the measured values; None if it was not tested.
        tolerance: How far the mean may move; None if it was not tested.
        verdict: ``holds``, ``fails``, ``undecided`` or ``not tested``.
    """

    mean: float | None
    tolerance: float | None
    verdict: str


Release = Mapping[str, Mapping[str, Frozen]]
"""By chapter and id."""


def tolerance(claim: claims.Claim) -> float:
    """How far the mean of a claim may move until it has drifted; see the module.

    Args:
        claim: One that was measured.
    """
    if all(value.is_integer() for value in claim.ours):
        return 0.0
    bounds = [abs(bound) for bound in (claim.low, claim.high) if math.isfinite(bound) and bound]
    return max(2 * claim.standard_error, abs(claim.mean) / 100, min(bounds, default=0.0) / 1000)


def frozen(claim: claims.Claim) -> Frozen:
    """What is kept of a claim."""
    if not claim.ours:
        return Frozen(None, None, _short(claim))
    return Frozen(claim.mean, tolerance(claim), _short(claim))


def drift(claim: claims.Claim, then: Frozen | None) -> str:
    """How a claim stands to the release.

    Args:
        claim: As it is now.
        then: As it was; None if the release does not know it.

    Returns:
        ``new`` if it was not measured then; ``as released``; or what has moved, beginning with ``drifted``.
    """
    if then is None or (then.mean is None and claim.ours):
        return "new"
    if then.mean is not None and then.tolerance is not None:
        if not claim.ours:
            return f"drifted: was measured, {_numbers.number(then.mean, 4)}"
        if not abs(claim.mean - then.mean) <= then.tolerance:
            return f"drifted: was {_numbers.with_spread(then.mean, then.tolerance)}"
    return "as released" if _short(claim) == then.verdict else f"drifted: was {then.verdict}"


def drifted(results: Path, file: Path = FILE) -> list[str]:
    """Every claim of the chapters in a folder of results that has drifted, or is no longer there; one line each.

    Args:
        results: The folder that chapters were run into.
        file: The release; where there is none, nothing can have drifted.
    """
    found = []
    for chapter, then in read(file).items():
        if not (results / chapter / "claims.json").is_file():
            continue
        now = {claim.id: claim for claim in claims.read(results / chapter / "claims.json")}
        found += [f"{chapter} {id}: drifted: no longer there" for id in then if id not in now]
        states = {id: drift(claim, then.get(id)) for id, claim in now.items()}
        found += [f"{chapter} {id}: {state}" for id, state in states.items() if state.startswith("drifted")]
    return found


def read(file: Path = FILE) -> Release:
    """The release; empty where there is none yet.

    Raises:
        ValueError: The file is no release.
    """
    if not file.is_file():
        return {}
    try:
        chapters = json.loads(file.read_text(encoding="utf-8"))["chapters"]
        return {name: {id: Frozen(**fields) for id, fields in kept.items()} for name, kept in chapters.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as wrong:
        raise error(str(file), "a release", f"{type(wrong).__name__}: {wrong}", "Run: noisebook freeze") from None


def freeze(results: Path, chapters: Sequence[str], file: Path = FILE, badge_file: Path | None = None) -> dict[str, int]:
    """Write the release: the claims of every chapter, each from a whole run with the book's preset.

    Args:
        results: The folder that the chapters were run into.
        chapters: Those that belong to the release.
        file: What is written.
        badge_file: A picture of the totals, written if given.

    Returns:
        The totals, as `claims.totals`.

    Raises:
        ValueError: A chapter was not run, its run is not whole, or it was run with another preset.
    """
    kept, every = {}, []
    for chapter in chapters:
        mark = results / chapter / _notebook.MARK
        if not mark.is_file():
            raise error(f"results of {chapter}", f"a whole run in {results}", "none", "Run: make book")
        _notebook.gate(results / f"{chapter}.ipynb")
        preset = json.loads(mark.read_text(encoding="utf-8"))["preset"]
        if preset != "book":
            raise error(f"results of {chapter}", "a run with the preset book", preset, "Run: make book")
        measured = claims.read(results / chapter / "claims.json")
        kept[chapter] = {claim.id: asdict(frozen(claim)) for claim in measured}
        every += measured
    content = {"version": __version__, "commit": provenance.commit(), "tolerance": RULE, "chapters": kept}
    _paths.write_whole(file, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    if badge_file:
        _paths.write_whole(badge_file, badge(claims.totals(every)).encode())
    return claims.totals(every)


def badge(totals: Mapping[str, int], drifted: int = 0) -> str:
    """The totals as a small SVG picture; red if a claim has drifted.

    Args:
        totals: As `claims.totals`.
        drifted: How many claims have.
    """
    text = " · ".join(f"{count} {name}" for name, count in totals.items())
    text, colour = (f"{drifted} drifted · {text}", "#a61b1b") if drifted else (text, "#14507d")
    length = round(6.1 * len(text))
    return _BADGE.format(width=length + 66, inner=length + 11, length=length, text=text, colour=colour)


def _short(claim: claims.Claim) -> str:
    return claim.verdict.split(" (")[0]
