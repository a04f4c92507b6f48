"""``data/registry.yaml`` as a table, read without torch: the command line and the task graph need it at once.

``archives`` fetches what the table lists, ``weights`` verifies and opens it; here it is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from noisebook import _paths
from noisebook._checks import check_one_of, error

ARCHIVES = ("zenodo", "tcia", "figshare", "kaggle", "package")
QUANTITIES = {
    "value": "pixel values",
    "spacing": "pixel sizes",
    "pixel": "brightest pixel",
    "patch": "brightest mean over 3 pixels a side",
    "image": "mean of the image",
}
"""What of an input has a range, by its name in ``trained_on``."""


@dataclass(frozen=True)
class Range:
    """The least and the greatest that a network has seen of a quantity in training.

    Attributes:
        unit: Such as ``HU``.
        low: The least.
        high: The greatest.
    """

    unit: str
    low: float
    high: float

    def __str__(self) -> str:
        ends = f"{self.low:.4g} to {self.high:.4g}" if self.low < self.high else f"{self.low:.4g}"
        return f"{ends} {self.unit}"


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
        trained_on: The ranges of its inputs in training, by names in `QUANTITIES`.
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
    trained_on: dict[str, Range]
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


def entries(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every entry of the registry by its id, whatever group it stands in; empty where there is no registry.

    Args:
        file: the table; none means the package's own.
    """
    import yaml

    file = file or _paths.DATA / "registry.yaml"
    table = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return dict(_walk(table, ""))


def of_chapter(chapter: str, file: Path | None = None) -> dict[str, dict[str, Any]]:
    """The entries of one chapter by their ids."""
    return {name: entry for name, entry in entries(file).items() if entry.get("chapter") == chapter}


def _walk(part: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries below one part of the table: mappings that name their chapter, by ``id`` or else by their key."""
    if isinstance(part, dict) and "chapter" in part:
        yield str(part.get("id", key)), part
    elif isinstance(part, dict):
        for name, below in part.items():
            yield from _walk(below, str(name))
    elif isinstance(part, list):
        for below in part:
            yield from _walk(below, key)


def _tables(data: Path) -> dict[str, list[dict[str, Any]]]:
    import yaml

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
        types = (dict,) if get_origin(hint) is dict else get_args(hint) or (hint,)
        if not isinstance(record[field], types) or isinstance(record[field], bool):
            allowed = " or ".join("null" if t is NoneType else t.__name__ for t in types)
            raise error(f"{name}, {field}", allowed, repr(record[field]))
    if kind is Embedded:
        ranges = {what: _range(f"{name}, {what}", stored) for what, stored in record["trained_on"].items()}
        record = record | {"trained_on": ranges}
    return kind(**record)


def _range(name: str, stored: Any) -> Range:
    """A range of the YAML file."""
    try:
        return Range(str(stored["unit"]), float(stored["low"]), float(stored["high"]))
    except (KeyError, TypeError, ValueError):
        raise error(name, "a range: unit, low and high", repr(stored)) from None
