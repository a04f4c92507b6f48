"""The rules of the registry, and what is told of its networks."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from math import inf
from pathlib import Path, PurePosixPath

from noisebook import _paths
from noisebook._registry import ARCHIVES, QUANTITIES, Embedded, External, embedded, external, metadata

MAX_FILE_BYTES = 6_000_000
MAX_TOTAL_BYTES = 40_000_000
HEADER = """\
# Every file that a result depends on. `embedded` is written by noisebook.weights.register (make weights); edit
# `external` by hand (comments are lost: use `note`). null: not known. `make check` compares this table with the files.
"""


def check_registry(data: Path = _paths.DATA) -> list[str]:
    """Compare the registry with its own rules and with the files in ``data/weights`` and in installed packages.

    Args:
        data: As for ``embedded``.

    Returns:
        One sentence a problem; empty if all is well.
    """
    try:
        ours, others = embedded(data), external(data)
    except ValueError as problem:
        return [str(problem)]
    ids = [entry.id for entry in ours] + [entry.id for entry in others]
    problems = [f"{id}: the id is given twice" for id in sorted({id for id in ids if ids.count(id) > 1})]
    for entry in ours:
        problems += [f"{entry.id}: {text}" for text in problems_of_embedded(entry, data)]
    for other in others:
        problems += [f"{other.id}: {text}" for text in _problems_of_external(other, {entry.id for entry in ours})]
    total = sum(entry.size for entry in ours)
    if total > MAX_TOTAL_BYTES:
        problems.append(f"data/weights: {total} bytes, more than {MAX_TOTAL_BYTES}")
    known = {entry.file for entry in ours}
    files = [p.relative_to(data / "weights").as_posix() for p in (data / "weights").rglob("*") if p.is_file()]
    return problems + [
        f"data/weights/{f}: not in the registry" for f in sorted(files) if f not in known and f[0] != "."
    ]


def model_card(id: str, data: Path = _paths.DATA) -> str:
    """The model card of an embedded network.

    Args:
        id: Of the network.
        data: As for ``embedded``.

    Returns:
        Markdown, starting at heading level 3.

    Raises:
        ValueError: Unknown id.
    """
    entry = metadata(id, data)
    rows = {
        "architecture": entry.architecture,
        "configuration": ", ".join(f"{name} = {value}" for name, value in entry.config.items()),
        "trained values": f"{entry.parameters:,}",
        "training data": entry.training_data,
        "inputs in training": "; ".join(f"{QUANTITIES[name]} {found}" for name, found in entry.trained_on.items()),
        "training": f"{entry.schedule}. Seed {entry.seed}.",
        "stored as": f"{entry.precision}, {entry.size:,} bytes"
        + (f"; against float32 the output changes by {entry.half_precision_change}" * (entry.precision == "float16")),
        "file": f"`data/weights/{entry.file}`, sha256 `{entry.sha256}`",
        "licence": entry.licence,
    }
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()]
    use = f"Chapter `{entry.chapter}`; load it with `noisebook.weights.load({entry.id!r})`. Not for clinical use."
    return "\n".join([f"### {entry.id}", "", use, "", "| | |", "|---|---|", *lines]) + "\n"


def problems_of_embedded(entry: Embedded, data: Path) -> list[str]:
    """What is wrong with an entry by itself and with its file."""
    parts = PurePosixPath(entry.file)
    if parts.is_absolute() or ".." in parts.parts or "\\" in entry.file or parts.suffix != ".safetensors":
        return [f"file {entry.file!r} is no path of a .safetensors file under data/weights"]
    empty = [
        f for f in ("id", "chapter", "licence", "architecture", "schedule", "training_data") if not getattr(entry, f)
    ]
    problems = [f"{field} is empty" for field in empty]
    fine = {n for n, r in entry.trained_on.items() if n in QUANTITIES and r.unit and -inf < r.low <= r.high < inf}
    if not fine or entry.trained_on.keys() - fine:
        odd = ", ".join(sorted(entry.trained_on.keys() - fine)) or "none at all"
        problems.append(f"trained_on: odd ranges, {odd}")
    if entry.precision not in ("float16", "float32"):
        problems.append(f"precision is {entry.precision!r}, not float16 or float32")
    if entry.precision == "float16" and not entry.half_precision_change:
        problems.append("stored as float16 without a measured half_precision_change")
    if entry.size > MAX_FILE_BYTES:
        problems.append(f"{entry.size} bytes, more than {MAX_FILE_BYTES}")
    path = data / "weights" / entry.file
    found = path.read_bytes() if path.is_file() else None
    if found is None:
        problems.append(f"data/weights/{entry.file} is missing")
    elif len(found) != entry.size or hashlib.sha256(found).hexdigest() != entry.sha256:
        problems.append(f"data/weights/{entry.file} has another size or sha256")
    return problems


def _problems_of_external(entry: External, ours: set[str]) -> list[str]:
    faults = {
        f"kind is {entry.kind!r}, not data or weights": entry.kind not in ("data", "weights"),
        f"archive is {entry.archive!r}, not one of {', '.join(ARCHIVES)}": entry.archive not in ARCHIVES,
        "record is no number of Zenodo": entry.archive == "zenodo" and not (entry.record or "").isdecimal(),
        f"file {entry.file!r} is no plain name": entry.archive != "package"
        and bool(set(entry.file or "") & set("/\\")),
        "neither record nor doi": not (entry.record or entry.doi),
        "doi does not start with 10.": bool(entry.doi) and not re.match(r"10\.\d{4,}/", entry.doi or ""),
        "sha256 is not 64 hexadecimal digits": not re.fullmatch("[0-9a-f]{64}", entry.sha256 or "0" * 64),
        "md5 is not 32 hexadecimal digits": not re.fullmatch("[0-9a-f]{32}", entry.md5 or "0" * 32),
        "licence or citation is empty": not (entry.licence and entry.citation),
        f"embedded {entry.embedded!r} is not in the registry": entry.embedded is not None
        and entry.embedded not in ours,
    }
    problems = [text for text, wrong in faults.items() if wrong]
    if entry.archive == "package":
        spec = importlib.util.find_spec(entry.record or "")
        path = Path(spec.origin or "").parent / (entry.file or "") if spec else Path()
        content = path.read_bytes() if path.is_file() else b""
        if (len(content), hashlib.sha256(content).hexdigest()) != (entry.size, entry.sha256):
            problems.append(f"{entry.file} of the installed {entry.record} is missing or has another size or sha256")
    return problems
