"""A notebook file: what is in it, and whether it is an executed one that is whole, with what its run wrote.

``gate`` trusts the mark of completion that ``chapters.run`` writes and the notebook's own content, never papermill's
metadata alone: a dead kernel, a timeout and ``sys.exit(0)`` leave every cell "completed" there. What is read of a run
is checked at the door: a file that is missing, cut short or of another shape ends in one line that names it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisebook._checks import error

Notebook = Mapping[str, Any]
MARK = "run.json"
LOG = "run.log"
BAR = re.compile(r"\r *\r|\r[^\r\n]*?\[\d+:\d\d[^\]\r\n]*\]")  # of progress: wiped out, or with [time, rate] at its end
PLACE = re.compile(r"^.*?:\d+: (?=\w*Warning: )", re.MULTILINE)  # a file of the kernel, named by its process
SEALED = ("claims.json", "results.json")
_LOGGED = re.compile(r"seconds: (\d+\.\d)\npeak memory: (\d+\.\d\d) GB\nexecuted notebook: sha256 ([0-9a-f]{64})\n")
_MARKED = {"notebook": str, "parameters": dict, "preset": str, "sealed": dict}
_STAMPED = dict.fromkeys(("commit", "version", "python", "device", "data", "weights"), str)


def load(file: Path, what: str, remedy: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        file: the file.
        what: what it should be, for the message.
        remedy: what to do where it is not.

    Raises:
        ValueError: it is missing, no UTF-8, no JSON, no object, or holds a number that is not finite.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
    except OSError as wrong:
        raise error(str(file), what, (wrong.strerror or type(wrong).__name__).lower(), remedy) from None
    except (ValueError, RecursionError) as wrong:
        raise error(str(file), what, f"what cannot be read ({wrong})", remedy) from None
    if not isinstance(content, dict):
        raise error(str(file), what, f"a {type(content).__name__}", remedy)
    return content


def check_fields(file: Path, what: str, content: Notebook, kinds: Mapping[str, type], remedy: str) -> None:
    """Raise unless an object that was read from ``file`` has these fields, each of its kind."""
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if wrong:
        is_there = f"one whose {wrong[0]} is {content.get(wrong[0])!r:.80}"
        raise error(str(file), what, is_there if wrong[0] in content else f"one without {wrong[0]}", remedy)


def read(notebook: Path, remedy: str = "") -> dict[str, Any]:
    """A notebook file as its JSON; ``remedy`` says what to do where it is none."""
    content = load(notebook, "a notebook", remedy)
    try:
        fingerprint(content)
        problems(content)
    except (AttributeError, KeyError, TypeError) as wrong:
        raise error(str(notebook), "a notebook", f"{type(wrong).__name__}: {wrong}", remedy) from None
    return content


def again(folder: Path) -> str:
    """The remedy where what a run left in a folder cannot be used."""
    return f"Remove {folder} and run: make book"


def mark(folder: Path) -> dict[str, Any]:
    """The mark of completion in a folder of results."""
    what = "the mark of a whole run"
    content = load(folder / MARK, what, again(folder))
    check_fields(folder / MARK, what, content, _MARKED, again(folder))
    return content


def stamp(folder: Path) -> dict[str, Any]:
    """The provenance of the run that wrote a folder of results."""
    file, what = folder / "results.json", "results with their provenance"
    content = load(file, what, again(folder))
    check_fields(file, what, content, {"provenance": dict}, again(folder))
    found: dict[str, Any] = content["provenance"]
    check_fields(file, what, found, {**_STAMPED, "seed": int, "packages": dict}, again(folder))
    return found


def seals(folder: Path) -> dict[str, str]:
    """The sha256 of the files in a folder of results that hold what was measured, by name."""
    return {name: _sha256(folder / name) for name in SEALED if (folder / name).is_file()}


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
    seconds, memory, _ = _logged(log)
    return float(seconds), float(memory)


def gate(notebook: Path) -> None:
    """Raise unless an executed notebook is whole, and it and what was measured are those that its run left.

    Args:
        notebook: the executed notebook; its mark and log lie in the folder of the same name beside it.

    Raises:
        ValueError: it holds a failed or unexecuted cell, has no mark, or it, its claims or its results were changed
            after the mark was written.
    """
    notebook = Path(notebook)
    folder = notebook.with_suffix("")
    remedy = again(folder) if folder.is_dir() else "Run: make book"
    content = read(notebook, remedy)
    if wrong := problems(content):
        raise error(str(notebook), "a complete run", " ".join("; ".join(wrong).split()), remedy)
    if not (folder / MARK).is_file():
        raise error(
            str(folder / MARK), "the mark of a whole run", "none: no noisebook run made it, or it failed", remedy
        )
    marked, executed = mark(folder), _logged(folder / LOG)[2]
    if marked["notebook"] != fingerprint(content) or executed != _sha256(notebook):
        raise error(str(notebook), "what its run left", "another content", remedy)
    now = seals(folder)
    for name in SEALED:
        if now.get(name) != marked["sealed"].get(name):
            raise error(
                str(folder / name), "what its run left", "another content" if name in now else "no file", remedy
            )


def book_run(results: Path, chapter: str) -> dict[str, Any]:
    """The provenance of a chapter's run in a folder of results, which must pass the gate and have the preset ``book``.

    Raises:
        ValueError: see ``gate``; or the preset is another one.
    """
    folder = results / chapter
    gate(results / f"{chapter}.ipynb")
    if (preset := mark(folder)["preset"]) != "book":
        raise error(f"results of {chapter}", "a run with the preset book", preset, again(folder))
    return stamp(folder)


def _logged(log: Path) -> tuple[str, str, str]:
    """Seconds, peak memory and the executed notebook's sha256, as a log has them."""
    what, remedy = "the log of a run that ended", again(log.parent)
    try:
        text = log.read_text(encoding="utf-8")
    except OSError as wrong:
        raise error(str(log), what, (wrong.strerror or type(wrong).__name__).lower(), remedy) from None
    except UnicodeDecodeError as wrong:
        raise error(str(log), what, f"what cannot be read ({wrong})", remedy) from None
    if not (found := _LOGGED.fullmatch(text)):
        raise error(str(log), what, repr(text[:80]), remedy)
    return found[1], found[2], found[3]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _finite(text: str) -> float:
    """A number of a JSON file; NaN and infinity, which JSON does not have, are refused."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text}")
    return value


def _injected(cell: Notebook) -> bool:
    return "injected-parameters" in cell["metadata"].get("tags", [])
