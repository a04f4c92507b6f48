"""The ledger: every claim with what was measured, its verdict, and how it stands to the last release."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from chapter_pages import anchors_of_claims

from noisebook import _notebook, _numbers, claims, release

STATES = ("as released", "new", "drifted")


def row(*cells: str) -> str:
    """A row of a Markdown table; a bar within a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def head(*cells: str) -> list[str]:
    """The first two rows of a Markdown table."""
    return [row(*cells), "|:---" * len(cells) + "|"]


class Ledger:
    """The claims of the book's chapters in a folder of results, beside those of the release.

    A claim of the release that is gone, of a chapter of the book or of one that is gone itself, has drifted.
    """

    def __init__(self, results: Path, names: list[str], titles: dict[str, str], file: Path = release.FILE) -> None:
        self.results, self.names, self.titles = results, names, titles
        self.released = release.read(file)
        self.lost = [name for name in self.released if name not in names]
        self.every = [*self.names, *self.lost]

    @cached_property
    def measured(self) -> dict[str, list[claims.Claim]]:
        """The claims of each chapter of the book."""
        return {name: release.measured(self.results, name) for name in self.names}

    def gone(self, chapter: str) -> dict[str, release.Frozen]:
        """The claims of the release that a chapter has no longer; all of them where the chapter itself is gone."""
        now = {claim.id for claim in self.measured.get(chapter, [])}
        return {id: then for id, then in self.released.get(chapter, {}).items() if id not in now}

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
        """How many claims of some chapters have each verdict, are new and have drifted, as those that are gone have."""
        listed = [(name, claim) for name in chapters for claim in self.measured.get(name, [])]
        states = [self.state(name, claim).split(":")[0] for name, claim in listed]
        states += ["drifted" for name in chapters for _ in self.gone(name)]
        return claims.totals([claim for _, claim in listed]) | {state: states.count(state) for state in STATES[1:]}

    def badge(self) -> str:
        """The totals as a small picture."""
        counts = self.count(self.every)
        return release.badge({name: counts[name] for name in claims.VERDICTS}, counts["drifted"])

    def totals(self) -> str:
        """The totals as a sentence."""
        counts = self.count(self.every)
        said = (
            f"Of {len([c for name in self.names for c in self.measured[name]])} claims in this build "
            f"**{counts['holds']}** hold, **{counts['fails']}** fail, **{counts['undecided']}** are undecided, "
            f"**{counts['not tested']}** could not be tested."
        )
        if counts["drifted"]:
            said += f" **{counts['drifted']}** have drifted since the last release"
            gone = sum(len(self.gone(name)) for name in self.every)
            said += f", **{gone}** of them no longer there." if gone else "."
        return said

    def totals_by_chapter(self) -> str:
        """The totals as a table, and over all."""
        heads = (*claims.VERDICTS, *STATES[1:])
        lines = head("chapter", "claims", *heads)
        for name in self.every:
            counts = self.count([name])
            title = f"{{ref}}`{self.titles.get(name, name)} <claims-{name}>`"
            lines.append(row(title, str(len(self.measured.get(name, []))), *(str(counts[key]) for key in heads)))
        counts = self.count(self.every)
        number = sum(map(len, self.measured.values()))
        return "\n".join([*lines, row("**all**", f"**{number}**", *(f"**{counts[key]}**" for key in heads))])

    def tables(self) -> str:
        """Every claim of every chapter, and what it was measured on and with."""
        parts = []
        for name in self.names:
            parts += [f"(claims-{name})=", f"## [{self.titles[name]}](../notebooks/{name}.ipynb)", ""]
            parts += head("claim", "verdict", "statement", "published", "ours", "supported by")
            parts += [self.line(name, claim) for claim in self.measured[name]]
            parts += [row(*cells, "", "", "") for cells in self.missing(name)]
            parts += [*claims.circumstances(self.measured[name]), ""]
        for name in self.lost:
            parts += [
                f"(claims-{name})=",
                f"## {self.titles.get(name, name)}",
                "",
                "The chapter is no longer there.",
                "",
            ]
            parts += [*head("claim", "verdict", "statement"), *(row(*cells) for cells in self.missing(name)), ""]
        return "\n".join(parts)

    def missing(self, chapter: str) -> list[tuple[str, str, str]]:
        """Id, state and statement of the claims that are gone."""
        state = "[drifted]{.verdict .verdict-drifted} no longer there"
        return [(id, state, then.claim.statement) for id, then in self.gone(chapter).items()]

    def line(self, chapter: str, claim: claims.Claim) -> str:
        """One claim, its id linked to the cell that measured it."""
        places = self.places[chapter]
        place = places.get(claim.id) or places.get(re.sub(r"[a-z]$", "", claim.id)) or places.get("")
        name = f"{{ref}}`{claim.id} <{place}>`" if place else claim.id
        where = f"{claim.statement} *({claim.source})*" if claim.source else claim.statement
        shown = (claims.published(claim), claims.measured(claim), claims.support(claim) if claim.ours else "")
        return row(name, self.verdict(chapter, claim), where, *shown)

    @cached_property
    def places(self) -> dict[str, dict[str, str]]:
        """For each chapter, the anchors of the cells that measure its claims."""
        places = {name: self.results / name for name in self.names}
        notebooks = {name: _notebook.read(at.with_suffix(".ipynb"), _notebook.again(at)) for name, at in places.items()}
        return {name: anchors_of_claims(notebook, name) for name, notebook in notebooks.items()}

    def drift(self) -> str:
        """Every claim now and at the release, by chapter."""
        parts = []
        for name in self.every:
            title = self.titles.get(name, name)
            parts += [f"### {title}", "", *head("claim", "at the release, ± tolerance", "now", "state")]
            for claim in self.measured.get(name, []):
                now = _numbers.number(claim.mean, 4) if claim.ours else "not tested"
                state, _, what = self.state(name, claim).partition(": ")
                told = f"[drifted]{{.verdict .verdict-drifted}} {what}" if what else state
                parts.append(row(claim.id, self.then(name, claim.id), now, told))
            for id, state, _ in self.missing(name):
                parts.append(row(id, self.then(name, id), "", state))
            parts.append("")
        return "\n".join(parts)

    def then(self, chapter: str, id: str) -> str:
        """The value of a claim at the release and its tolerance; empty if it was not measured."""
        kept = self.released.get(chapter, {}).get(id)
        if kept is None or not kept.claim.ours:
            return ""
        return _numbers.with_spread(kept.claim.mean, release.tolerance(kept.claim))
