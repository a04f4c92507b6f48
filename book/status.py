"""What the runs of the chapters cost, and with which versions and devices they were made."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from noisebook import _notebook


class Status:
    """The runs in a folder of results."""

    def __init__(self, results: Path, names: list[str], titles: dict[str, str]) -> None:
        self.results, self.names, self.titles = results, names, titles

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """What each chapter's run wrote down."""
        return {name: _notebook.manifest(self.results, name) for name in self.names}

    def runs(self) -> str:
        """Time, memory, preset, device and commit of each run, as a table."""
        lines = ["| chapter | run time | peak memory | preset | device | commit |", "|:---|---:|---:|:---|:---|:---|"]
        for name, manifest in self.manifests.items():
            seconds, memory = _notebook.cost(self.results / name / _notebook.LOG)
            run = manifest["provenance"]
            cells = (f"[{self.titles[name]}](../notebooks/{name}.ipynb)", f"{seconds:.0f} s", f"{memory:.2f} GB")
            lines.append("| " + " | ".join((*cells, manifest["preset"], run["device"], f"`{run['commit']}`")) + " |")
        return "\n".join(lines)

    def versions(self) -> str:
        """The version of Python, of noisebook and of every package that computes or draws; several if runs differ."""
        found: dict[str, set[str]] = {}
        for run in (manifest["provenance"] for manifest in self.manifests.values()):
            known = {"Python": run["python"], "noisebook": run["version"], **run["packages"]}
            for name, version in known.items():
                found.setdefault(name, set()).add(version)
        lines = [f"| {name} | {', '.join(sorted(versions))} |" for name, versions in found.items()]
        return "\n".join(["| package | version |", "|:---|:---|", *lines])
