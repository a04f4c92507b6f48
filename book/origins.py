"""Where each figure comes from: what its cell names in the metadata ``origins``, looked up, in one line of HTML.

A cell names for each figure that it keeps what the figure was made of: ids of networks in ``data/registry.yaml``,
``study NAME`` for a precomputed result of the chapter, and ``data WORDS`` where its data are not those of the run.
"""

from __future__ import annotations

import html
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from noisebook import _notebook, _registry, studies
from noisebook._checks import check_one_of, error

ELSEWHERE = {"train": "trained in that run", "published": "the authors' own"}


class Origins:
    """The provenance of one chapter's figures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def stamp(self) -> dict[str, Any]:
        """The provenance of the run."""
        file = self.folder / "results.json"
        stamp: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("provenance", {})
        if not {"commit", "seed", "device", "data", "weights"} <= stamp.keys():
            raise error(f"data of {self.folder.name}", f"its provenance in {file}", "none", "Run: make book")
        return stamp

    @cached_property
    def drawn(self) -> str:
        """Code and preset of the run."""
        preset = json.loads((self.folder / _notebook.MARK).read_text(encoding="utf-8"))["preset"]
        return f"commit <code>{html.escape(self.stamp['commit'])}</code>; preset {html.escape(preset)}"

    def line(self, cell: dict[str, Any], figure: str) -> str:
        """Where a figure of a cell comes from, to be unfolded; raises if the cell does not say it."""
        known = cell["metadata"].get("origins", {})
        if figure not in known:
            where = f"cell {cell['id']} of {self.folder.name}"
            raise error(where, f"origins of the figure {figure} in its metadata", sorted(known), "See CONTRIBUTING.md.")
        precomputed = [self.study(name.removeprefix("study ")) for name in known[figure] if name.startswith("study ")]
        data = [html.escape(name.removeprefix("data ")) for name in known[figure] if name.startswith("data ")]
        networks = [self.network(name) for name in known[figure] if not name.startswith(("study ", "data "))]
        said = [self.drawn, *precomputed]
        if networks or not precomputed:
            said += [f"seed {self.stamp['seed']}; {html.escape(self.stamp['device'])}"]
            said += [f"data: {', '.join(data) or html.escape(self.stamp['data'])}"]
            said += [f"weights: {', '.join(networks) or 'none'}"]
        elif data:
            said += [f"data: {', '.join(data)}"]
        return f"<details><summary>provenance</summary>{'; '.join(said)}</details>"

    def study(self, name: str) -> str:
        """A precomputed result: its seeds, data, networks and hash."""
        record = studies.load(self.folder.name, name)[1]
        seeds = [f"{key} {value}" for key, value in record["config"].items() if key.startswith("seed")]
        said = [f"precomputed study <code>{name}</code>, sha256 <code>{record['sha256'][:12]}</code>", *seeds]
        said += [f"simulated data {record['data']}"] if record["data"] else []
        used = [f"{id} (sha256 <code>{sha256[:12]}</code>)" for id, sha256 in record["weights"].items()]
        said += [f"weights {', '.join(used)}"] if used else []
        return " · ".join(said)

    def network(self, id: str) -> str:
        """A network with its hash; or whose it was, where the run did not take the registry's."""
        source = self.stamp["weights"].split(":")[0]
        if source in ELSEWHERE:
            return f"{id} ({ELSEWHERE[source]})"
        check_one_of("weights", id, self.entries)
        return f"{id} (sha256 <code>{(self.entries[id]['sha256'] or 'unknown')[:12]}</code>)"

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The registry."""
        return _registry.entries()
