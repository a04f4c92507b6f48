"""Where things lie: notebooks, presets and data, in a clone or in an installed wheel, and the cache; and how to write.

In a clone ``src/noisebook/notebooks`` and ``src/noisebook/data`` are links to the top-level folders; the
wheel carries the same two folders as package data. Everything is therefore found beside this file.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
NOTEBOOKS = PACKAGE / "notebooks"
PRESETS = NOTEBOOKS / "presets"
DATA = PACKAGE / "data"


def clone() -> Path | None:
    """The root of the clone that this package is run from, or None when it was installed as a wheel."""
    root = PACKAGE.parents[1]
    return root if (root / "Snakefile").is_file() else None


CACHE_REMEDY = "Make room, or choose another folder: NOISEBOOK_CACHE names it."
"""What to do where the cache cannot be read or written."""


def cache() -> Path:
    """The cache folder: ``NOISEBOOK_CACHE`` if set, else the platform's place for caches. Not created here.

    Raises:
        ValueError: It is the home of an unknown user, or leads in a circle.
    """
    return absolute("NOISEBOOK_CACHE", os.environ.get("NOISEBOOK_CACHE") or platformdirs.user_cache_dir("noisebook"))


def absolute(name: str, place: str | Path) -> Path:
    """A place as an absolute path, its ``~`` and its links followed.

    Raises:
        ValueError: ``name`` names the home of an unknown user, or leads in a circle.
    """
    try:
        return Path(place).expanduser().resolve()
    except (RuntimeError, OSError) as problem:
        raise ValueError(f"{name}: expected a folder or file, got {place} ({problem}).") from None


def folders_below(root: str | Path) -> list[Path]:
    """A folder and all folders below it, sorted, each once.

    Links to folders are followed after what is no link, but never to a folder that ``root`` itself lies in.
    """
    found: dict[Path, Path] = {}
    links: list[Path] = []
    folders = [Path(root)]
    top = folders[0].resolve()
    while folders or links:
        folder = (folders or links).pop()
        real = folder.resolve()
        if real in found or real in top.parents:
            continue
        found[real] = folder
        for path in folder.iterdir():
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
    return sorted(found.values())


def files_below(root: str | Path) -> list[Path]:
    """The files at and below a folder, sorted, by `folders_below`."""
    return sorted(path for folder in folders_below(root) for path in folder.iterdir() if path.is_file())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name in its folder, then rename it: who is killed leaves the old file or the new."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with work.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
