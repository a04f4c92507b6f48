"""A chapter's page: its executed notebook, gated, with the provenance of every figure, and the files that it wrote."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from origins import Origins

from noisebook import _notebook

RUN_FILES = ("run.json", "run.log")  # what the runner writes for itself; they hold the run's clock
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+\.png)\)")
LINKS = re.compile(r'<p class="figure-links">(.*?/figures/([^/"]+)\.(?:csv|npz)".*?)</p>', re.DOTALL)  # the name: 2
WIDTH = 520  # pixels of a picture on the first page


def chapter_files(results: Path, name: str) -> dict[str, bytes]:
    """What the book has of one chapter: path in the stage to bytes. Raises unless its run is whole and the book's."""
    _notebook.book_run(results, name)
    notebook = results / f"{name}.ipynb"
    written = sorted(path for path in (results / name).rglob("*") if path.is_file() and path.name not in RUN_FILES)
    files = {f"_extra/notebooks/{path.relative_to(results)}": path.read_bytes() for path in written}
    content = page(_notebook.read(notebook), name, Origins(results / name))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            files |= {
                f"notebooks/{path}": (results / path).read_bytes() for path in PICTURE.findall(_notebook.text(cell))
            }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return files | {f"notebooks/{name}.ipynb": text.encode()}


def page(notebook: dict[str, Any], chapter: str, origins: Origins) -> dict[str, Any]:
    """The notebook with an anchor for every cell of code, and under every figure its origin and a link to its cell."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["metadata"]["anchor"] = anchor(chapter, cell)
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(data.get("text/html", ""))
            if links := LINKS.search(text):
                below = f'{links[1]} · <a href="#{anchor(chapter, cell)}">code</a>{origins.line(cell, links[2])}'
                data["text/html"] = text.replace(links[0], f'<div class="figure-links">{below}</div>')
    return notebook


def anchor(chapter: str, cell: dict[str, Any]) -> str:
    """The name by which pages link to a cell; the extension ``house`` gives it to the cell."""
    return re.sub(r"[^a-z0-9]+", "-", f"{chapter}-{cell['id']}".lower())


def anchors_of_claims(notebook: dict[str, Any], chapter: str) -> dict[str, str]:
    """Anchor of the cell that measures each claim, by the claim's id without a letter at its end.

    Cells name their claims in their metadata; under the name ``""`` stands the cell that computes the verdicts.
    """
    found = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            for claim in cell["metadata"].get("claims", []):
                found[claim] = anchor(chapter, cell)
            if "claims.write(" in _notebook.text(cell):
                found[""] = anchor(chapter, cell)
    return found


def thumbnail(picture: bytes, part: list[float]) -> bytes:
    """A part of a picture (left, top, right, bottom, as shares), small and in a palette; equal input, equal bytes."""
    from PIL import Image

    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    sides = whole.width, whole.height, whole.width, whole.height
    cut = whole.crop(tuple(round(share * side) for share, side in zip(part, sides, strict=True)))
    small = cut.resize((WIDTH, round(cut.height * WIDTH / cut.width)), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(content, "png")
    return content.getvalue()
