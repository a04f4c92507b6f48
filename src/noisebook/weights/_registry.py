"""The registry: its two tables, their rules, and what is told of them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from noisebook import _paths
from noisebook._checks import check_one_of, error

MAX_FILE_BYTES = 6_000_000
MAX_TOTAL_BYTES = 40_000_000
ARCHIVES = ("zenodo", "tcia", "figshare", "kaggle", "package")
HEADER = """\
# Every file that a result depends on. `embedded` is written by noisebook.weights.register (make weights); edit
# `external` by hand (comments are lost: use `note`). null: not known. `make check` compares this table with the files.
"""


@dataclass(frozen=True)
class Embedded:
    """A network trained here; its file is part of the repository and of the wheel.

    Attributes:
        id: Unique among all files of the registry.
        chapter: The chapter it belongs to.
        file: Path under ``data/weights``, with ``/``.
        size: Bytes.
        sha256: Of the file.
        licence: SPDX identifier.
        architecture: One sentence; names the width.
        config: Arguments of the model class, and whatever else a chapter must know to use the network.
        parameters: Number of trained values (running statistics are not counted).
        precision: ``float16`` or ``float32``: type of the stored values (they are loaded as float32).
        half_precision_change: What storing as float16 changed, measured; required for float16.
        schedule: Loss, optimiser, steps, batch and patch size.
        training_data: What it was trained on.
        seed: Of the training.
    """

    id: str
    chapter: str
    file: str
    size: int
    sha256: str
    licence: str
    architecture: str
    config: dict[str, Any]
    parameters: int
    precision: str
    half_precision_change: str
    schedule: str
    training_data: str
    seed: int


@dataclass(frozen=True)
class External:
    """A file, or a whole collection, that others published. None stands for what is not known or does not apply.

    Attributes:
        id: Unique among all files of the registry.
        kind: ``data`` or ``weights``.
        chapter: The chapter that uses it.
        archive: One of ``ARCHIVES``.
        record: The archive's own number or name of the record; of a package, the name of the package.
        doi: Without a prefix.
        file: Name in the record, or path inside the package; None for a whole collection.
        size: Bytes.
        sha256: Of the file.
        md5: Of the file, as the archive states it.
        licence: SPDX identifier, or a sentence where there is none.
        citation: Authors, title, year.
        preprocessing: Constants needed to use the file, such as mean and scale.
        embedded: Id of the embedded file that stands in for it.
        note: Anything else.
    """

    id: str
    kind: str
    chapter: str
    archive: str
    record: str | None
    doi: str | None
    file: str | None
    size: int | None
    sha256: str | None
    md5: str | None
    licence: str
    citation: str
    preprocessing: dict[str, Any]
    embedded: str | None
    note: str


def embedded(data: Path = _paths.DATA) -> list[Embedded]:
    """The networks trained here.

    Args:
        data: The folder that holds ``registry.yaml`` and ``weights``.

    Returns:
        One entry a network, in the order of the registry.

    Raises:
        ValueError: The registry is missing, no YAML, or an entry has missing, unknown or mistyped fields.
    """
    return [_entry(Embedded, record, data) for record in _tables(data)["embedded"]]


def external(data: Path = _paths.DATA) -> list[External]:
    """The files of others; arguments, order and errors as for ``embedded``."""
    return [_entry(External, record, data) for record in _tables(data)["external"]]


def metadata(id: str, data: Path = _paths.DATA) -> Embedded:
    """The registry's entry of an embedded network.

    Args:
        id: Of the network.
        data: As for ``embedded``.

    Returns:
        The entry.

    Raises:
        ValueError: Unknown id; the nearest one is named.
    """
    entries = {entry.id: entry for entry in embedded(data)}
    check_one_of("weights", id, entries)
    return entries[id]


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
        "training": f"{entry.schedule}. Seed {entry.seed}.",
        "stored as": f"{entry.precision}, {entry.size:,} bytes"
        + (f"; against float32 the output changes by {entry.half_precision_change}" * (entry.precision == "float16")),
        "file": f"`data/weights/{entry.file}`, sha256 `{entry.sha256}`",
        "licence": entry.licence,
    }
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()]
    use = f"Chapter `{entry.chapter}`; load it with `noisebook.weights.load({entry.id!r})`. Not for clinical use."
    return "\n".join([f"### {entry.id}", "", use, "", "| | |", "|---|---|", *lines]) + "\n"


def _tables(data: Path) -> dict[str, list[dict[str, Any]]]:
    path = data / "registry.yaml"
    try:
        tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        got = f"{type(problem).__name__}"
        raise error(str(path), "the registry, in YAML", got, "Restore it: git checkout data/registry.yaml.") from None
    good = isinstance(tables, dict) and set(tables) == {"embedded", "external"}
    if not good or not all(
        isinstance(rows, list) and all(isinstance(r, dict) for r in rows) for rows in tables.values()
    ):
        raise error(str(path), "two lists of entries, embedded and external", type(tables).__name__)
    return {name: list(rows) for name, rows in tables.items()}


Entry = TypeVar("Entry", Embedded, External)


def _entry(kind: type[Entry], record: dict[str, Any], data: Path) -> Entry:
    """A record of the YAML file as a dataclass, with every field present and of its type."""
    name = f"{data / 'registry.yaml'}: {record.get('id', 'entry without id')}"
    wanted = [field.name for field in fields(kind)]
    if set(record) != set(wanted):
        missing, extra = sorted(set(wanted) - set(record)), sorted(set(record) - set(wanted))
        raise error(name, f"the fields {', '.join(wanted)}", f"missing {missing}, unknown {extra}")
    for field, hint in get_type_hints(kind).items():
        types = (dict,) if hint == dict[str, Any] else get_args(hint) or (hint,)
        if not isinstance(record[field], types) or isinstance(record[field], bool):
            allowed = " or ".join("null" if t is NoneType else t.__name__ for t in types)
            raise error(f"{name}, {field}", allowed, repr(record[field]))
    return kind(**record)


def problems_of_embedded(entry: Embedded, data: Path) -> list[str]:
    """What is wrong with an entry by itself and with its file."""
    parts = PurePosixPath(entry.file)
    if parts.is_absolute() or ".." in parts.parts or "\\" in entry.file or parts.suffix != ".safetensors":
        return [f"file {entry.file!r} is no path of a .safetensors file under data/weights"]
    empty = [
        f for f in ("id", "chapter", "licence", "architecture", "schedule", "training_data") if not getattr(entry, f)
    ]
    problems = [f"{field} is empty" for field in empty]
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
