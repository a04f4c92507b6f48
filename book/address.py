"""The repository's public address: read from pyproject.toml, and written into the notebooks' cell for Colab.

Binder, Colab and the theme each make addresses of their own from it, and the theme knows GitHub and GitLab alone.

    python book/address.py
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from noisebook import _notebook
from noisebook._checks import error
from noisebook._console import refusals

ROOT = Path(__file__).resolve().parents[1]
KNOWN = re.compile(r"https://(github|gitlab)\.com/[\w.-]+/[\w.-]+")
LINE = re.compile(r'^address = "[^"\n]*"', re.MULTILINE)


def repository(root: Path) -> str:
    """The repository's public address, ``[tool.noisebook] repository`` in pyproject.toml; empty while it has none.

    A slash or ``.git`` at its end is left out: with these no button would lead anywhere.

    Raises:
        ValueError: It is no repository at GitHub or GitLab.
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    given = str(settings.get("tool", {}).get("noisebook", {}).get("repository", ""))
    address = given.strip().rstrip("/").removesuffix(".git")
    if address and not KNOWN.fullmatch(address):
        remedy = "Mend pyproject.toml; an empty address gives a book without buttons."
        raise error("repository", "https://github.com/OWNER/NAME, or the same at gitlab.com", repr(given), remedy)
    return address


def installed_from(root: Path) -> str:
    """What the notebooks' cell for Colab has pip install: the repository by git, or nothing while it has no address."""
    address = repository(root)
    return address and f"git+{address}"


def write(root: Path) -> list[Path]:
    """Write the address into every notebook; those that changed."""
    line, changed = f'address = "{installed_from(root)}"', []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        content = _notebook.read(path)
        (cell,) = (cell for cell in content["cells"] if cell["id"] == "colab")
        source = LINE.sub(lambda _: line, _notebook.text(cell))
        if source != _notebook.text(cell):
            cell["source"] = source.splitlines(keepends=True)
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    with refusals():
        print(*write(ROOT) or ["The notebooks have this address already."], sep="\n")
