"""What the build of a wheel adds: the commit that it is built from, which the stamps of its runs then name."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"]  # as in provenance.commit


class Commit(BuildHookInterface):
    """Puts ``commit.txt`` into the wheel, if it is built in a clone that git can read."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build; an editable installation asks git itself."""
        if version == "editable" or not (Path(self.root) / ".git").exists():
            return
        try:
            found = subprocess.run(COMMIT, cwd=self.root, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "commit.txt"
        file.write_text(found.stdout, encoding="utf-8")
        build_data["force_include"][str(file)] = "noisebook/commit.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after a build."""
        if hasattr(self, "folder"):
            self.folder.cleanup()
