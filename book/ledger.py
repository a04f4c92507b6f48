"""The ledger: every claim with what was measured, its verdict, and how it stands to the last release."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from chapter_pages import anchors_of_claims

from noisebook import _notebook, _numbers, claims, release
from noisebook._checks import error

STATES = ("as released", "new", "drifted")


def row(*cells: str) -> str:
    """A row of a Markdown table; a bar within a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def head(*cells: str) -> list[str]:
    """The first two rows of a Markdown table."""
    return [row(*cells), "|:---" * len(cells) + "|"]


class Ledger:
    """The claims of the chapters in a folder of results, beside those of the release."""

    def __init__(self, results: Path, names: list[str], titles: dict[str, str], file: Path = release.FILE) -> None:
        self.results, self.names, self.titles = results, names, titles
        self.released = release.read(file)

    @cached_property
    def measured(self) -> dict[str, list[claims.Claim]]:
        """The claims of each chapter of the book."""
        found = {}
        for name in self.names:
            path = self.results / name / "claims.json"
            if not path.is_file():
                raise error(f"claims of {name}", f"a file {path}", "none", f"Run: noisebook run {name}")
            found[name] = claims.read(path)
        return found

    def state(self, chapter: str, claim: claims.Claim) -> str:
        """``new``, ``as released`` or what has drifted."""
        return release.drift(claim, self.released.get(chapter, {}).get(claim.id))

    def verdict(self, chapter: str, claim: claims.Claim) -> str:
        """The verdict as a coloured word; in red ``drifted`` where the result is no longer the released one."""
        word = claim.verdict.split(" (")[0]
        state = self.state(chapter, claim)
        if state.startswith("drifted"):
            return f"[drifted]{{.verdict .verdict-drifted}} {state.partition(': ')[2]}; now {word}"
        return f"[{word}]{{.verdict .verdict-{word.replace(' ', '-')}}}{claim.verdict[len(word) :]}"

    def count(self, chapters: list[str]) -> dict[str, int]:
        """How many claims of some chapters have each verdict, are new and have drifted."""
        listed = [(name, claim) for name in chapters for claim in self.measured[name]]
        states = [self.state(name, claim).split(":")[0] for name, claim in listed]
        return claims.totals([claim for _, claim in listed]) | {state: states.count(state) for state in STATES[1:]}

    def badge(self) -> str:
        """The totals as a small picture."""
        counts = self.count(self.names)
        return release.badge({name: counts[name] for name in claims.VERDICTS}, counts["drifted"])

    def totals(self) -> str:
        """The totals as a sentence."""
        counts = self.count(self.names)
        said = (
            f"Of {len([c for name in self.names for c in self.measured[name]])} claims in this build "
            f"**{counts['holds']}** hold, **{counts['fails']}** fail, **{counts['undecided']}** are undecided, "
            f"**{counts['not tested']}** could not be tested."
        )
        return said + (f" **{counts['drifted']}** have drifted since the last release." if counts["drifted"] else "")

    def totals_by_chapter(self) -> str:
        """The totals as a table, and over all."""
        heads = (*claims.VERDICTS, *STATES[1:])
        lines = head("chapter", "claims", *heads)
        for name in self.names:
            counts = self.count([name])
            title = f"{{ref}}`{self.titles[name]} <claims-{name}>`"
            lines.append(row(title, str(len(self.measured[name])), *(str(counts[key]) for key in heads)))
        counts = self.count(self.names)
        number = sum(map(len, self.measured.values()))
        return "\n".join([*lines, row("**all**", f"**{number}**", *(f"**{counts[key]}**" for key in heads))])

    def tables(self) -> str:
        """Every claim of every chapter, and what it was measured on and with."""
        parts = []
        for name in self.names:
            parts += [f"(claims-{name})=", f"## [{self.titles[name]}](../notebooks/{name}.ipynb)", ""]
            parts += head("claim", "verdict", "statement", "published", "ours", "supported by")
            parts += [self.line(name, claim) for claim in self.measured[name]]
            gone = self.released.get(name, {}).keys() - {claim.id for claim in self.measured[name]}
            parts += [
                row(i, "[drifted]{.verdict .verdict-drifted} no longer there", "", "", "", "") for i in sorted(gone)
            ]
            parts += [*claims.circumstances(self.measured[name]), ""]
        return "\n".join(parts)

    def line(self, chapter: str, claim: claims.Claim) -> str:
        """One claim, its id linked to the cell that measured it."""
        places = self.places[chapter]
        place = places.get(claim.id) or places.get(re.sub(r"[a-z]$", "", claim.id)) or places.get("")
        name = f"{{ref}}`{claim.id} <{place}>`" if place else claim.id
        where = f"{claim.statement} *({claim.source})*" if claim.source else claim.statement
        shown = (claim.published, claims.measured(claim), claims.support(claim) if claim.ours else "")
        return row(name, self.verdict(chapter, claim), where, *shown)

    @cached_property
    def places(self) -> dict[str, dict[str, str]]:
        """For each chapter, the anchors of the cells that measure its claims."""
        notebooks = {name: _notebook.read(self.results / f"{name}.ipynb") for name in self.names}
        return {name: anchors_of_claims(notebook, name) for name, notebook in notebooks.items()}

    def drift(self) -> str:
        """Every claim now and at the release, by chapter."""
        parts = []
        for name in self.names:
            parts += [f"### {self.titles[name]}", "", *head("claim", "at the release, ± tolerance", "now", "state")]
            for claim in self.measured[name]:
                then = self.released.get(name, {}).get(claim.id)
                was = "" if then is None or then.mean is None else _numbers.with_spread(then.mean, then.tolerance)
                now = _numbers.number(claim.mean, 4) if claim.ours else "not tested"
                state = self.state(name, claim)
                red = "[{}]{{.verdict .verdict-drifted}}" if state.startswith("drifted") else "{}"
                parts.append(row(claim.id, was, now, red.format(state.split(": ")[0])))
            parts.append("")
        return "\n".join(parts)
