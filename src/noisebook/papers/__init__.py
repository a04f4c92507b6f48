"""The papers: each a folder of the same shape, described by one `Paper`.

``papers/<name>/`` holds ``__init__`` (its `Paper`), ``model``, ``data``, ``experiment`` (configuration, loss, step,
schedules), ``studies`` (what takes hours), ``measures`` (arrays in, numbers out), ``figures`` and ``claims.yaml``; a
file that is not needed is not there.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from noisebook import _paths, claims
from noisebook._checks import check_one_of
from noisebook.networks import Networks
from noisebook.studies import Study, named, read


@dataclass(frozen=True)
class Paper:
    """One work that the book reproduces.

    Attributes:
        name: Of its folder, its notebook and its chapter.
        networks: Its networks; None if it has none of its own.
        measures: Its module ``measures``, which holds the functions that ``claims.yaml`` names.
        studies: Its long runs.
    """

    name: str
    networks: Networks | None
    measures: ModuleType
    studies: tuple[Study, ...] = ()

    def study(self, name: str) -> Study:
        """The study of a name.

        Raises:
            ValueError: There is none; the nearest one is named.
        """
        check_one_of(f"study of {self.name}", name, [study.name for study in self.studies])
        return named(self.studies, name)

    def claims(self, measured: Mapping[str, Any] | None = None) -> list[claims.Claim]:
        """Every claim of the paper's ``claims.yaml``, measured.

        Args:
            measured: What the run has measured itself, by the names that ``measures`` asks for; arrays of studies are
                read from their committed results, unless they are given.

        Raises:
            ValueError: As `noisebook.claims.measure`, or a study has no committed result.
        """
        file = Path(str(self.measures.__file__)).with_name("claims.yaml")
        found = Results(self, measured or {})
        words = self.networks.words if self.networks else lambda *ids: ", ".join(ids)
        return claims.measure(file, self.measures, found, lambda name: self.study(name).config, words)


class Results(Mapping[str, Any]):
    """What a paper's claims are measured from, by name: given values, and results of studies, read when asked for."""

    def __init__(self, paper: Paper, given: Mapping[str, Any]) -> None:
        self._paper, self._known = paper, dict(given)

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = read(self._paper.study(name))
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._known, *(study.name for study in self._paper.studies)]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def names() -> list[str]:
    """The papers, sorted: every folder beside this file."""
    return sorted(file.parent.name for file in (_paths.PACKAGE / "papers").glob("*/__init__.py"))


def find(name: str) -> Paper:
    """The paper of a name.

    Raises:
        ValueError: There is none; the nearest one is named.
    """
    check_one_of("chapter", name, names())
    paper: Paper = importlib.import_module(f"noisebook.papers.{name}").PAPER
    return paper
