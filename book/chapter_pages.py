"""A chapter's page: its executed notebook, with the provenance of every figure, and the files that it wrote.

A cell names in its metadata ``made_of`` for each figure that it keeps: ids of networks in the registry, ``study
NAME`` for a precomputed result of the chapter, and ``data WORDS`` where its data are not those of the run.
"""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

from noisebook import _notebook, _registry, studies
from noisebook._checks import check_one_of, error
from noisebook.figures import RECORD, links

RUN_FILES = ("run.json", "run.log")  # what the runner writes for itself; they hold the run's clock
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+\.png)\)")
WIDTH = 520  # pixels of a picture on the first page
ELSEWHERE = {"train": "trained in that run", "published": "the authors' own"}


def chapter_files(results: Path, name: str) -> dict[str, bytes]:
    """What the book has of one chapter: path in the stage to bytes. Raises unless its run is whole and the book's."""
    manifest = _notebook.of_book(results, name)
    written = sorted(path for path in (results / name).rglob("*") if path.is_file() and path.name not in RUN_FILES)
    files = {f"_extra/notebooks/{path.relative_to(results)}": path.read_bytes() for path in written}
    content = page(_notebook.read(results / f"{name}.ipynb"), name, manifest)
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            files |= {
                f"notebooks/{path}": (results / path).read_bytes() for path in PICTURE.findall(_notebook.text(cell))
            }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return files | {f"notebooks/{name}.ipynb": text.encode()}


def page(notebook: dict[str, Any], chapter: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The notebook with an anchor for every cell of code, and under every figure what it was made of."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["metadata"]["anchor"] = anchor(chapter, cell["id"])
        for output in cell["outputs"]:
            if record := output.get("data", {}).pop(RECORD, None):
                shown = "".join(output["data"]["text/html"]).rpartition('<p class="figure-links">')[0]
                code = f'<a href="#{anchor(chapter, cell["id"])}">code</a>'
                below = f"{links(record)} · {code}{provenance(manifest, chapter, record['name'])}"
                output["data"]["text/html"] = f'{shown}<div class="figure-links">{below}</div>'
    return notebook


def provenance(manifest: dict[str, Any], chapter: str, figure: str) -> str:
    """Where a figure comes from, as HTML to be unfolded; raises if the notebook does not say it."""
    known = manifest["figures"]
    if figure not in known:
        remedy = "See CONTRIBUTING.md."
        raise error(f"notebook of {chapter}", f"made_of of the figure {figure} in its cell", sorted(known), remedy)
    names, run = known[figure]["made_of"], manifest["provenance"]
    precomputed = [_study(chapter, name.removeprefix("study ")) for name in names if name.startswith("study ")]
    data = [html.escape(name.removeprefix("data ")) for name in names if name.startswith("data ")]
    networks = [_network(name, run) for name in names if not name.startswith(("study ", "data "))]
    said = [f"commit <code>{html.escape(run['commit'])}</code>; preset {html.escape(manifest['preset'])}", *precomputed]
    if networks or not precomputed:
        said += [f"seed {run['seed']}; {html.escape(run['device'])}"]
        said += [f"data: {', '.join(data) or html.escape(run['data'])}"]
        said += [f"weights: {', '.join(networks) or 'none'}"]
    elif data:
        said += [f"data: {', '.join(data)}"]
    return f"<details><summary>provenance</summary>{'; '.join(said)}</details>"


def _study(chapter: str, name: str) -> str:
    """A precomputed result: its seeds, data, networks and hash."""
    record = studies.load(chapter, name)[1]
    seeds = [f"{key} {value}" for key, value in record["config"].items() if key.startswith("seed")]
    said = [f"precomputed study <code>{name}</code>, sha256 <code>{record['sha256'][:12]}</code>", *seeds]
    said += [f"simulated data {record['data']}"] if record["data"] else []
    used = [f"{id} (sha256 <code>{sha256[:12]}</code>)" for id, sha256 in record["weights"].items()]
    return " · ".join(said + ([f"weights {', '.join(used)}"] if used else []))


def _network(id: str, run: dict[str, Any]) -> str:
    """A network with its hash; or whose it was, where the run did not take the registry's."""
    source = run["weights"].split(":")[0]
    if source in ELSEWHERE:
        return f"{id} ({ELSEWHERE[source]})"
    entries = _registry.entries()
    check_one_of("weights", id, entries)
    return f"{id} (sha256 <code>{(entries[id]['sha256'] or 'unknown')[:12]}</code>)"


def anchor(chapter: str, cell: str) -> str:
    """The name by which pages link to a cell of this id; the book's Sphinx extension gives it to the cell."""
    return re.sub(r"[^a-z0-9]+", "-", f"{chapter}-{cell}".lower())


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
