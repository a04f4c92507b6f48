"""``data/registry.yaml`` as a table, read without torch: the command line and the task graph need it at once.

``weights`` verifies and opens what the table lists; here it is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noisebook import _paths


def entries(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every entry of the registry by its id, whatever group it stands in; empty where there is no registry.

    Args:
        file: the table; none means the package's own.
    """
    import yaml

    file = file or _paths.DATA / "registry.yaml"
    table = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return dict(_walk(table, ""))


def of_chapter(chapter: str, file: Path | None = None) -> dict[str, dict[str, Any]]:
    """The entries of one chapter by their ids."""
    return {name: entry for name, entry in entries(file).items() if entry.get("chapter") == chapter}


def _walk(part: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries below one part of the table: mappings that name their chapter, by ``id`` or else by their key."""
    if isinstance(part, dict) and "chapter" in part:
        yield str(part.get("id", key)), part
    elif isinstance(part, dict):
        for name, below in part.items():
            yield from _walk(below, str(name))
    elif isinstance(part, list):
        for below in part:
            yield from _walk(below, key)
