"""What the runs of the chapters cost, and with which versions and devices they were made."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from noisebook import _notebook


class Status:
    """The runs in a folder of results."""

    def __init__(self, results: Path, names: list[str], titles: dict[str, str]) -> None:
        self.results, self.names, self.titles = results, names, titles

    @cached_property
    def stamps(self) -> dict[str, dict[str, Any]]:
        """The provenance of each chapter's run."""
        files = {name: self.results / name / "results.json" for name in self.names}
        return {name: json.loads(file.read_text(encoding="utf-8"))["provenance"] for name, file in files.items()}

    def runs(self) -> str:
        """Time, memory, preset, device and commit of each run, as a table."""
        lines = ["| chapter | run time | peak memory | preset | device | commit |", "|:---|---:|---:|:---|:---|:---|"]
        for name, stamp in self.stamps.items():
            seconds, memory = _notebook.cost(self.results / name / _notebook.LOG)
            preset = json.loads((self.results / name / _notebook.MARK).read_text(encoding="utf-8"))["preset"]
            cells = (f"[{self.titles[name]}](../notebooks/{name}.ipynb)", f"{seconds:.0f} s", f"{memory:.2f} GB")
            lines.append("| " + " | ".join((*cells, preset, stamp["device"], f"`{stamp['commit']}`")) + " |")
        return "\n".join(lines)

    def versions(self) -> str:
        """The version of Python, of noisebook and of every package that computes or draws; several if runs differ."""
        found: dict[str, set[str]] = {}
        for stamp in self.stamps.values():
            for name, version in {
                "Python": stamp["python"],
                "noisebook": stamp["version"],
                **stamp["packages"],
            }.items():
                found.setdefault(name, set()).add(version)
        lines = [f"| {name} | {', '.join(sorted(versions))} |" for name, versions in found.items()]
        return "\n".join(["| package | version |", "|:---|:---|", *lines])
