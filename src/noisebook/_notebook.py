"""A notebook file: what is in it, and whether it is an executed one that is whole.

``gate`` trusts the mark of completion that ``chapters.run`` writes and the notebook's own content, never papermill's
metadata alone: a dead kernel, a timeout and ``sys.exit(0)`` leave every cell "completed" there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisebook._checks import error

Notebook = Mapping[str, Any]
MARK = "run.json"
LOG = "run.log"
BAR = re.compile(r"\r *\r|\r[^\r\n]*?\[\d+:\d\d[^\]\r\n]*\]")  # of progress: wiped out, or with [time, rate] at its end


def read(notebook: Path) -> dict[str, Any]:
    """A notebook file as its JSON."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return content


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
    """Outputs whose standard error has no progress bars: what is drawn over on a screen, with the time that it took."""
    kept = []
    for output in outputs:
        if output.get("name") != "stderr":
            kept.append(output)
        elif (said := BAR.sub("", "".join(output["text"]))).strip():
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
    found = re.match(r"seconds: ([0-9.]+)\npeak memory: ([0-9.]+) GB\n", log.read_text(encoding="utf-8"))
    if not found:
        raise error(f"log {log}", "seconds and peak memory", "something else", f"Run: noisebook run {log.parent.name}")
    return float(found[1]), float(found[2])


def gate(notebook: Path) -> None:
    """Raise unless an executed notebook is whole and is the one that ``run`` marked as complete.

    Args:
        notebook: the executed notebook; its mark and log lie in the folder of the same name beside it.

    Raises:
        ValueError: it holds a failed or unexecuted cell, has no mark, or was changed after the mark was written.
    """
    notebook = Path(notebook)
    remedy = f"Run again: noisebook run {notebook.stem}"
    content = read(notebook)
    mark, log = (notebook.with_suffix("") / name for name in (MARK, LOG))
    wrong = problems(content)
    if not wrong and not mark.is_file():
        wrong = ["no mark of completion: it was not made by noisebook run, or that did not end"]
    if not wrong:
        marked = json.loads(mark.read_text(encoding="utf-8"))
        executed = hashlib.sha256(notebook.read_bytes()).hexdigest()
        if marked["notebook"] != fingerprint(content) or executed not in log.read_text(encoding="utf-8"):
            wrong = ["another content than the run that was marked complete"]
    if wrong:
        raise error(f"notebook {notebook.name}", "a complete run", "; ".join(wrong), remedy)


def _injected(cell: Notebook) -> bool:
    return "injected-parameters" in cell["metadata"].get("tags", [])
