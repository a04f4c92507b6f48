"""Small notebooks for the tests of the runner, and a package folder to put them in."""

import json
import zlib
from pathlib import Path

import pytest

from noisebook import _paths

PARAMETERS = """out = "."
seed: int = 0  # of everything
scan_path: str | None = None
rate = 0.5
sizes: list[int] = [1, 2]"""
WRITE = """import json, pathlib
folder = pathlib.Path(out) / "tiny"
(folder / "figures").mkdir(parents=True, exist_ok=True)
(folder / "claims.json").write_text(json.dumps({"seed": seed, "rate": rate}))
print(seed, rate)"""


STAMP = """from noisebook import provenance
stamp = provenance.stamp(3, "cpu", "tiny data", "none", {})
provenance.write_results(stamp, {}, pathlib.Path(out) / "tiny" / "results.json")"""
PARTS = ("{}.ipynb", "{}/run.json", "{}/run.log", "{}/claims.json")  # what is read of a run
DAMAGES = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "list": lambda content: b"[]",
    "object": lambda content: b"{}",
    "kind": lambda content: (
        content.replace(b": {", b': 5, "x": {').replace(b": [", b': 5, "y": [').replace(b"ds: ", b"= ")
    ),
    "NaN": lambda content: b'{"a": NaN, ' + content[1:],
    "infinite": lambda content: b'{"a": 1e999, ' + content[1:],
    "bytes": lambda content: b"\xff\xfe" + content,
}


def damage(file: Path, kind: str) -> None:
    """Spoil a file in one of the ways of ``DAMAGES``."""
    content = DAMAGES[kind](file.read_bytes())
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def cell(source: str, kind: str = "code", tags: tuple[str, ...] = (), alt: str = "") -> dict:
    """One cell; ``kind`` is code or markdown, ``alt`` the alt text of the figure that it makes."""
    metadata = {"tags": list(tags)} if tags else {}
    if alt:
        metadata |= {"mystnb": {"image": {"alt": alt}}, "made_of": {"figure": []}}
    made = {"cell_type": kind, "id": f"c{zlib.crc32(source.encode())}", "metadata": metadata, "source": source}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(*cells: dict) -> dict:
    """A notebook of format 4.5."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def tiny(*code: str) -> dict:
    """A notebook with a title, the parameters cell, and ``code``, one cell each."""
    cells = [cell("# A tiny chapter", "markdown"), cell(PARAMETERS, tags=("parameters",))]
    return notebook(*cells, *(cell(source) for source in code))


def install(monkeypatch: pytest.MonkeyPatch, root: Path, content: dict | None = None) -> Path:
    """Make ``root`` the place of notebooks and data, with the chapter ``tiny``; its notebook is returned."""
    notebooks = root / "notebooks"
    (notebooks / "presets").mkdir(parents=True)
    (root / "data" / "weights").mkdir(parents=True)
    monkeypatch.setattr(_paths, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(_paths, "PRESETS", notebooks / "presets")
    monkeypatch.setattr(_paths, "DATA", root / "data")
    path = notebooks / "tiny.ipynb"
    path.write_text(json.dumps(content or tiny(WRITE)))
    for name, text in {"book": "{}  # the defaults\n", "smoke": "rate: 0.25\n", "paper": "seed: 7\n"}.items():
        (notebooks / "presets" / f"tiny-{name}.yaml").write_text(text)
    return path
