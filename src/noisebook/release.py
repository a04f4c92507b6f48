"""The results of the last release: what every claim was and was measured to be, and what has changed since.

A mean, and its standard error, may move by the largest of 1 % of the mean, a quarter of the standard error, and a
thousandth of a bound of the claim: a run with the same seeds gives the same numbers on one machine, and nearly so on
another. Whole numbers, which were counted, may not move at all; nor may a verdict, a statement, a bound, or the number
of values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisebook import __version__, _notebook, _numbers, _paths, claims
from noisebook._checks import error

FILE = _paths.DATA / "release.json"
RULE = (
    "whole numbers: none; else the largest of 1 % of the mean, a quarter of the standard error, a thousandth of a bound"
)
REMEDY = "Run: noisebook freeze"
_WHAT = "a release with claims"
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
    """What is kept of a claim.

    Attributes:
        claim: Its id, statement, measured values and bounds; nothing else of it.
        verdict: ``holds``, ``fails``, ``undecided`` or ``not tested``.
    """

    claim: claims.Claim
    verdict: str

    def record(self) -> dict[str, Any]:
        """As JSON, without the id; a bound that is none is None."""
        low, high = (bound if math.isfinite(bound) else None for bound in (self.claim.low, self.claim.high))
        kept = {"statement": self.claim.statement, "ours": list(self.claim.ours), "low": low, "high": high}
        return kept | {"verdict": self.verdict}


Release = Mapping[str, Mapping[str, Frozen]]
"""By chapter and id."""


def tolerance(claim: claims.Claim) -> float:
    """How far the mean of a claim, and its standard error, may move until it has drifted; see the module.

    Args:
        claim: One that was measured.
    """
    if all(value.is_integer() for value in claim.ours):
        return 0.0
    bounds = [abs(bound) for bound in (claim.low, claim.high) if math.isfinite(bound) and bound]
    return max(abs(claim.mean) / 100, claim.standard_error / 4, min(bounds, default=0.0) / 1000)


def frozen(claim: claims.Claim) -> Frozen:
    """What is kept of a claim."""
    return _kept(claim.id, claim.statement, claim.ours, claim.low, claim.high, claim.verdict.split(" (")[0])


def drift(claim: claims.Claim, then: Frozen | None) -> str:
    """How a claim stands to the release.

    Args:
        claim: As it is now.
        then: As it was; None if the release does not know it.

    Returns:
        ``new`` if it was not measured then; ``as released``; or what has changed, beginning with ``drifted``.
    """
    if then is None or (claim.ours and not then.claim.ours):
        return "new"
    was = "; ".join(_changes(claim, then))
    return f"drifted: {was}" if was else "as released"


def _changes(claim: claims.Claim, then: Frozen) -> Iterator[str]:
    """What is no longer as it was."""
    old = then.claim
    if old.ours and not claim.ours:
        yield f"was measured, {_numbers.number(old.mean, 4)}"
        return
    if old.ours and not abs(claim.mean - old.mean) <= tolerance(old):
        yield f"was {_numbers.with_spread(old.mean, tolerance(old))}"
    if len(claim.ours) != len(old.ours):
        yield f"was measured with n = {len(old.ours)}"
    elif old.ours and not abs(claim.standard_error - old.standard_error) <= tolerance(old):
        yield f"was spread by a standard error of {_numbers.number(old.standard_error)}"
    if not all(math.isclose(a, b, rel_tol=1e-12) for a, b in ((claim.low, old.low), (claim.high, old.high))):
        yield f"was supported by {claims.support(old)}"
    if claim.statement != old.statement:
        yield f"was stated as “{old.statement}”"
    if frozen(claim).verdict != then.verdict:
        yield f"was {then.verdict}"


def drifted(results: Path, file: Path = FILE, chapters: Collection[str] | None = None) -> list[str]:
    """Every claim that has drifted or is no longer there, and every chapter that is not; one line each.

    Args:
        results: The folder that chapters were run into.
        file: The release.
        chapters: The chapters of the release that ought to be there; all if none are named.
    """
    found = []
    for chapter, then in read(file).items():
        if chapters is not None and chapter not in chapters:
            continue
        if not (results / chapter / "claims.json").is_file():
            found.append(f"{chapter}: drifted: no longer there")
            continue
        now = {claim.id: claim for claim in measured(results, chapter)}
        found += [f"{chapter} {id}: drifted: no longer there" for id in then if id not in now]
        states = {id: drift(claim, then.get(id)) for id, claim in now.items()}
        found += [f"{chapter} {id}: {state}" for id, state in states.items() if state.startswith("drifted")]
    return found


def measured(results: Path, chapter: str) -> list[claims.Claim]:
    """The claims that a chapter's run wrote into a folder of results.

    Raises:
        ValueError: There are none, or they are damaged.
    """
    file, what, remedy = results / chapter / "claims.json", "the claims of a run", _notebook.again(results / chapter)
    _notebook.load(file, what, remedy if file.is_file() else "Run: make book")
    try:
        found = claims.read(file)
    except (ValueError, TypeError, AttributeError, OverflowError) as wrong:
        raise error(str(file), what, str(wrong).removeprefix(f"{file}: ").rstrip("."), remedy) from None
    for claim in found:
        texts = {name: str for name, value in asdict(claim).items() if name not in ("ours", "low", "high")}
        _notebook.check_fields(file, what, asdict(claim), texts, remedy)
    return found


def read(file: Path = FILE) -> Release:
    """The release.

    Raises:
        ValueError: There is none, it has no claims, or it is damaged.
    """
    content = _notebook.load(file, _WHAT, REMEDY)
    try:
        found = {
            chapter: {id: _kept(id, **record) for id, record in kept["claims"].items()}
            for chapter, kept in content["chapters"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as wrong:
        raise error(str(file), _WHAT, f"{type(wrong).__name__}: {wrong}".rstrip("."), REMEDY) from None
    if not any(found.values()):
        raise error(str(file), _WHAT, "none", REMEDY)
    return found


def _kept(
    id: str, statement: str, ours: Sequence[float], low: float | None, high: float | None, verdict: str
) -> Frozen:
    """What is kept of a claim, of its parts, which are checked."""
    values = [*ours, *(bound for bound in (low, high) if bound is not None)]
    if not isinstance(statement, str) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise error(f"claim {id}", "a statement, and numbers or null", f"{statement!r}, {values}")
    if verdict not in claims.VERDICTS or (verdict == "not tested") != (not ours):
        raise error(f"claim {id}", f"one of {', '.join(claims.VERDICTS)}, as the values allow", repr(verdict))
    bounds = (-math.inf if low is None else low, math.inf if high is None else high)
    claim = claims.Claim(id, statement, "", tuple(ours), *bounds, needs="" if ours else "what was missing")
    return Frozen(claim, verdict)


def freeze(results: Path, chapters: Sequence[str], file: Path = FILE, badge_file: Path | None = None) -> dict[str, int]:
    """Write the release: the claims of every chapter, each from a whole run of its notebook with the book's preset.

    Args:
        results: The folder that the chapters were run into.
        chapters: Those that belong to the release.
        file: What is written.
        badge_file: A picture of the totals, written if given.

    Returns:
        The totals, as `claims.totals`.

    Raises:
        ValueError: A chapter was not run, its run is not whole or has another preset, or what it left was changed
            since, or its notebook.
    """
    kept, every = {}, []
    for chapter in chapters:
        stamp = _notebook.book_run(results, chapter)
        source = _notebook.fingerprint(_notebook.read(_paths.NOTEBOOKS / f"{chapter}.ipynb"))
        if source != _notebook.mark(results / chapter)["notebook"]:
            raise error(f"results of {chapter}", "a run of its present notebook", "one of another", "Run: make book")
        found = measured(results, chapter)
        kept[chapter] = {"commit": stamp["commit"], "claims": {claim.id: frozen(claim).record() for claim in found}}
        every += found
    content = {"version": __version__, "tolerance": RULE, "chapters": kept}
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
