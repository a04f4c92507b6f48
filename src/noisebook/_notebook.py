"""A notebook file: what is in it, and whether it is an executed one that is whole, with what its run wrote.

``manifest`` trusts what ``chapters.run`` wrote after the last cell and the notebook's own content, never papermill's
metadata alone: a dead kernel, a timeout and ``sys.exit(0)`` leave every cell "completed" there. What is read of a run
is checked at the door: a file that is missing, cut short or of another shape ends in one line that names it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisebook._checks import error, read_json

Notebook = Mapping[str, Any]
MANIFEST = "run.json"
LOG = "run.log"
BAR = re.compile(r"\r *\r|\r[^\r\n]*?\[\d+:\d\d[^\]\r\n]*\]")  # of progress: wiped out, or with [time, rate] at its end
PLACE = re.compile(r"^.*?:\d+: (?=\w*Warning: )", re.MULTILINE)  # a file of the kernel, named by its process
_LOGGED = re.compile(r"seconds: (\d+\.\d)\npeak memory: (\d+\.\d\d) GB\n")
_FIELDS = {"notebook": str, "parameters": dict, "preset": str, "provenance": dict, "figures": dict, "claims": dict}
_STAMPED = dict.fromkeys(("commit", "version", "python", "device", "data", "weights"), str)


def check_fields(file: Path, what: str, content: Notebook, kinds: Mapping[str, type], remedy: str) -> None:
    """Raise unless an object that was read from ``file`` has these fields, each of its kind."""
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if wrong:
        is_there = f"one whose {wrong[0]} is {content.get(wrong[0])!r:.80}"
        raise error(str(file), what, is_there if wrong[0] in content else f"one without {wrong[0]}", remedy)


def read(notebook: Path, remedy: str = "") -> dict[str, Any]:
    """A notebook file as its JSON; ``remedy`` says what to do where it is none."""
    content = read_json(notebook, "a notebook", remedy)
    try:
        fingerprint(content)
        problems(content)
    except (AttributeError, KeyError, TypeError) as wrong:
        raise error(str(notebook), "a notebook", f"{type(wrong).__name__}: {wrong}", remedy) from None
    return content


def again(folder: Path) -> str:
    """The remedy where what a run left in a folder cannot be used."""
    return f"Remove {folder} and run: make book"


def manifest(results: Path, chapter: str) -> dict[str, Any]:
    """What the run of a chapter in a folder of results wrote down of itself, if the run was whole.

    Returns:
        ``notebook``, the fingerprint of its source; ``preset``, ``parameters``; ``provenance``: commit, versions, seed,
        device, data and weights; ``figures``: for each its ``cell`` and what it was ``made_of``; ``claims``: the cell
        that measured each.

    Raises:
        ValueError: There is none, it is damaged, or the executed notebook beside it is not whole or of another source.
    """
    notebook, folder = results / f"{chapter}.ipynb", results / chapter
    remedy, what = again(folder) if folder.is_dir() else "Run: make book", "the manifest of a whole run"
    executed = read(notebook, remedy)
    if wrong := problems(executed):
        raise error(str(notebook), "a complete run", " ".join("; ".join(wrong).split()), remedy)
    found = read_json(folder / MANIFEST, what, remedy)
    check_fields(folder / MANIFEST, what, found, _FIELDS, remedy)
    check_fields(folder / MANIFEST, what, found["provenance"], {**_STAMPED, "seed": int, "packages": dict}, remedy)
    if found["notebook"] != fingerprint(executed):
        raise error(str(notebook), "what its run left", "another content", remedy)
    return found


def of_book(results: Path, chapter: str) -> dict[str, Any]:
    """The `manifest` of a run that may enter the book: one with the preset ``book``.

    Raises:
        ValueError: see ``manifest``; or the preset is another one.
    """
    found = manifest(results, chapter)
    if found["preset"] != "book":
        raise error(f"results of {chapter}", "a run with the preset book", found["preset"], again(results / chapter))
    return found


def described(executed: Notebook) -> dict[str, Any]:
    """What a notebook says of its figures and claims in the metadata of its cells, for the manifest."""
    figures: dict[str, Any] = {}
    claims: dict[str, str] = {}
    for cell in executed["cells"]:
        metadata = cell["metadata"]
        figures |= {name: {"cell": cell["id"], "made_of": of} for name, of in metadata.get("made_of", {}).items()}
        claims |= dict.fromkeys(metadata.get("claims", []), cell["id"])
        if cell["cell_type"] == "code" and "claims.write(" in text(cell):
            claims[""] = cell["id"]
    return {"figures": figures, "claims": claims}


def text(cell: Notebook) -> str:
    """The source of a cell, whether it is stored as one string or as lines."""
    return "".join(cell["source"])


def tidy(executed: dict[str, Any], chosen: dict[str, object]) -> dict[str, Any]:
    """An executed notebook without clock values, progress bars, machine paths and random ids: equal runs, one file."""
    failed = executed["metadata"].get("papermill", {}).get("exception")
    executed["metadata"]["papermill"] = {"exception": failed, "parameters": chosen}
    executed["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in executed["cells"]:
        cell["metadata"].pop("execution", None)
        if not cell["metadata"].get("papermill", {}).get("exception"):
            cell["metadata"].pop("papermill", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = _without_bars(cell["outputs"])
        if _injected(cell):
            cell["id"] = "injected-parameters"
    return executed


def _without_bars(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs whose standard error has no progress bars, which a screen draws over, and no places of warnings."""
    kept = []
    for output in outputs:
        if output.get("name") != "stderr":
            kept.append(output)
        elif (said := PLACE.sub("", BAR.sub("", "".join(output["text"])))).strip():
            kept.append(output | {"text": said})
    return kept


def problems(notebook: Notebook) -> list[str]:
    """Why an executed notebook is not whole: failed or unexecuted cells; empty when it is."""
    found = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code" or not text(cell).strip():
            continue
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        if errors or cell["metadata"].get("papermill", {}).get("exception"):
            reason = f"{errors[0]['ename']}: {errors[0]['evalue']}" if errors else "see its papermill metadata"
            found.append(f"cell {number} failed ({reason})")
        elif not isinstance(cell.get("execution_count"), int):
            found.append(f"cell {number} was not executed")
    if notebook["metadata"].get("papermill", {}).get("exception"):
        found.append("papermill recorded an exception")
    return found


def fingerprint(notebook: Notebook) -> str:
    """The sha256 of a notebook's cells, without outputs and injected parameters: equal before and after execution."""
    cells = [[cell["cell_type"], text(cell)] for cell in notebook["cells"] if not _injected(cell)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def cost(log: Path) -> tuple[float, float]:
    """Wall time in seconds and peak memory in GB of the run that wrote a log.

    Raises:
        ValueError: the run did not end, or no run wrote it.
    """
    what, remedy = "the log of a run that ended", again(log.parent)
    try:
        text = log.read_text(encoding="utf-8")
    except OSError as wrong:
        raise error(str(log), what, (wrong.strerror or type(wrong).__name__).lower(), remedy) from None
    except UnicodeDecodeError as wrong:
        raise error(str(log), what, f"what cannot be read ({wrong})", remedy) from None
    if not (found := _LOGGED.fullmatch(text)):
        raise error(str(log), what, repr(text[:80]), remedy)
    return float(found[1]), float(found[2])


def _injected(cell: Notebook) -> bool:
    return "injected-parameters" in cell["metadata"].get("tags", [])
