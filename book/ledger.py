"""The ledger: every claim with its bounds, what was measured, and its verdict."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from chapter_pages import anchor

from noisebook import _notebook, claims

BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="claims: {text}">
<title>claims: {text}</title>
<g font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="#fff">
<rect width="{width}" height="20" rx="3" fill="#3b4650"/>
<path d="M52 0h{inner}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{inner}z" fill="#14507d"/>
<text x="7" y="14" textLength="38">claims</text><text x="59" y="14" textLength="{length}">{text}</text>
</g></svg>
"""


def row(*cells: str) -> str:
    """A row of a Markdown table; a bar within a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def head(*cells: str) -> list[str]:
    """The first two rows of a Markdown table."""
    return [row(*cells), "|:---" * len(cells) + "|"]


class Ledger:
    """The claims of the book's chapters in a folder of results."""

    def __init__(self, results: Path, names: list[str], titles: dict[str, str]) -> None:
        self.results, self.names, self.titles = results, names, titles

    @cached_property
    def measured(self) -> dict[str, list[claims.Claim]]:
        """The claims of each chapter of the book."""
        remedies = {name: _notebook.again(self.results / name) for name in self.names}
        return {name: claims.read(self.results / name / "claims.json", remedies[name]) for name in self.names}

    def verdict(self, claim: claims.Claim) -> str:
        """The verdict as a coloured word."""
        word = claim.verdict.split(" (")[0]
        return f"[{word}]{{.verdict .verdict-{word.replace(' ', '-')}}}{claim.verdict[len(word) :]}"

    def count(self, chapters: list[str]) -> dict[str, int]:
        """How many claims of some chapters have each verdict."""
        return claims.totals([claim for name in chapters for claim in self.measured[name]])

    def badge(self) -> str:
        """The totals as a small SVG picture."""
        text = " · ".join(f"{count} {name}" for name, count in self.count(self.names).items())
        length = round(6.1 * len(text))
        return BADGE.format(width=length + 66, inner=length + 11, length=length, text=text)

    def totals(self) -> str:
        """The totals as a sentence."""
        counts = self.count(self.names)
        return (
            f"Of {sum(counts.values())} claims in this build **{counts['holds']}** hold, **{counts['fails']}** fail, "
            f"**{counts['undecided']}** are undecided, **{counts['not tested']}** could not be tested."
        )

    def totals_by_chapter(self) -> str:
        """The totals as a table, and over all."""
        lines = head("chapter", "claims", *claims.VERDICTS)
        for name in self.names:
            numbers = self.count([name]).values()
            lines.append(row(f"{{ref}}`{self.titles[name]} <claims-{name}>`", *map(str, (sum(numbers), *numbers))))
        numbers = self.count(self.names).values()
        return "\n".join([*lines, row("**all**", *(f"**{number}**" for number in (sum(numbers), *numbers)))])

    def tables(self) -> str:
        """Every claim of every chapter, and what it was measured on and with."""
        parts = []
        for name in self.names:
            parts += [f"(claims-{name})=", f"## [{self.titles[name]}](../notebooks/{name}.ipynb)", ""]
            parts += head("claim", "verdict", "statement", "published", "ours", "supported by")
            parts += [self.line(name, claim) for claim in self.measured[name]]
            parts += [*claims.conditions(self.measured[name]), ""]
        return "\n".join(parts)

    def line(self, chapter: str, claim: claims.Claim) -> str:
        """One claim, its id linked to the cell that measured it."""
        cells = self.cells[chapter]
        cell = cells.get(claim.id) or cells.get(re.sub(r"[a-z]$", "", claim.id)) or cells.get("")
        name = f"{{ref}}`{claim.id} <{anchor(chapter, cell)}>`" if cell else claim.id
        where = f"{claim.statement} *({claim.source})*" if claim.source else claim.statement
        where += f" Revised: {claim.revised}." if claim.revised else ""
        shown = (claims.published(claim), claims.measured(claim), claims.support(claim) if claim.ours else "")
        return row(name, self.verdict(claim), where, *shown)

    @cached_property
    def cells(self) -> dict[str, dict[str, str]]:
        """For each chapter, the cells that measure its claims; under ``""`` the one that computes the verdicts."""
        return {name: _notebook.manifest(self.results, name)["claims"] for name in self.names}
