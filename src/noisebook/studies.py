"""Studies: what takes longer than a notebook may, run once, kept as a small committed result with its inputs.

A result lies in ``data/studies/<chapter>/`` as ``<name>.csv`` (columns of equal length) or ``<name>.npz``, and beside
it ``<name>.json``: the configuration with its seeds, the study's version, the device, and the hash of every weight
used. A result whose record no longer matches its study is stale; the tests refuse it. Raise a study's version when a
change of the code would change its result; the notebook, which recomputes one cheap row, tells you if you forget.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisebook import _paths, _registry
from noisebook._checks import error

LIMIT_BYTES = 1_000_000
ROOT = _paths.DATA / "studies"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Study:
    """One long run of a chapter.

    Attributes:
        chapter: its chapter.
        name: its name within the chapter, also the name of its files.
        run: ``run(folder, device, **config)`` gives the arrays of the result. It keeps checkpoints in ``folder`` and
            goes on from them; all randomness comes from the seeds in ``config``.
        config: keyword arguments of ``run``, JSON values only; the seeds are among them.
        weights: ids in the registry of the weights that it uses.
        data: identity of the data that it uses.
        version: raised when the code would give another result.
    """

    chapter: str
    name: str
    run: Callable[..., Arrays]
    config: dict[str, Any]
    weights: tuple[str, ...] = field(default=())
    data: str = ""
    version: int = 1


def make(study: Study, folder: Path, device: str = "cpu", root: Path = ROOT, registry: Path | None = None) -> Path:
    """Run a study and keep its result and inputs; the path of the result.

    Args:
        study: what to run.
        folder: for its checkpoints, in a subfolder named by its inputs; made if missing.
        device: handed to the study and recorded.
        root: the folder of all results.
        registry: the table of weights; none means the package's own.

    Raises:
        ValueError: the configuration is no JSON, or the result is empty or above 1 MB.
    """
    expected = inputs(study, registry)
    known = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()
    folder = folder / known[:12]  # checkpoints made of other inputs do not count
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(values) for name, values in study.run(folder, device, **study.config).items()}
    result = write(arrays, root / study.chapter / study.name)
    record = expected | {"device": device, "result": result.name, "sha256": _sha256(result)}
    record["arrays"] = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()}
    _paths.write_whole(_record_file(study, root), (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return result


def load(chapter: str, name: str, root: Path = ROOT) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a committed result, and the record of its inputs.

    Raises:
        ValueError: there is no such result, or its file is not the one that was recorded.
    """
    file = root / chapter / f"{name}.json"
    if not file.is_file():
        raise error(f"study {chapter}/{name}", f"a record {file.name}", "none", "Run: make studies")
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    result = file.with_name(record["result"])
    if not result.is_file() or _sha256(result) != record["sha256"]:
        raise error(f"study {chapter}/{name}", "the recorded result", f"another {result.name}", "Run: make studies")
    return _read(result, record["arrays"]), record


def named(studies: Iterable[Study], name: str) -> Study:
    """The study of a name, among those of a chapter."""
    return next(study for study in studies if study.name == name)


def precomputed(*names: str) -> str:
    """What a claim says of the studies that its values are read from."""
    return f"precomputed {'study' if len(names) == 1 else 'studies'} {', '.join(names)}"


def read(study: Study, root: Path = ROOT) -> Arrays:
    """The arrays of a study's committed result; see ``load``."""
    return load(study.chapter, study.name, root)[0]


def stale(study: Study, root: Path = ROOT, registry: Path | None = None) -> list[str]:
    """Why the committed result of a study no longer counts; empty when it does."""
    try:
        _, record = load(study.chapter, study.name, root)
    except ValueError as missing:
        return [str(missing)]
    expected = inputs(study, registry)
    return [
        f"{study.chapter}/{study.name}: {part} has changed" for part in expected if record.get(part) != expected[part]
    ]


def inputs(study: Study, registry: Path | None = None) -> dict[str, Any]:
    """What a result depends on: configuration, data, version, and the hash of every weight.

    Raises:
        ValueError: the configuration does not survive JSON, or a weight is not in the registry.
    """
    try:
        config = json.loads(json.dumps(study.config, allow_nan=False))
    except (TypeError, ValueError) as reason:
        raise error(f"config of {study.chapter}/{study.name}", "JSON values", study.config, str(reason)) from None
    known = _registry.entries(registry) if study.weights else {}
    for name in study.weights:
        if name not in known:
            raise error(f"weights of {study.chapter}/{study.name}", "an id in data/registry.yaml", repr(name))
    weights = {name: known[name]["sha256"] for name in study.weights}
    return {"config": config, "data": study.data, "version": study.version, "weights": weights}


def write(arrays: Arrays, stem: Path) -> Path:
    """Write arrays as ``stem.csv`` if they are number columns of equal length, else as ``stem.npz``.

    Equal arrays give equal bytes.

    Raises:
        ValueError: there are no arrays, or the file would exceed 1 MB; nothing is left behind.
    """
    if not arrays:
        raise error("result of a study", "at least one array", "none")
    stem.parent.mkdir(parents=True, exist_ok=True)
    shapes = {a.shape for a in arrays.values()}
    numbers = all(a.ndim == 1 and a.dtype.kind in "iuf" for a in arrays.values())
    text = len(shapes) == 1 and numbers and all(name.isidentifier() for name in arrays)
    part = stem.with_name(f"{stem.name}.part")
    with part.open("wb") as file:
        if text:
            rows = zip(*(a.tolist() for a in arrays.values()), strict=True)
            lines = [",".join(arrays), *(",".join(repr(value) for value in row) for row in rows)]
            file.write(("\n".join(lines) + "\n").encode())
        else:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    if (size := part.stat().st_size) > LIMIT_BYTES:
        part.unlink()
        raise error(f"result {stem.name}", f"at most {LIMIT_BYTES} bytes", size, "Keep fewer rows or digits.")
    suffix, other = (".csv", ".npz") if text else (".npz", ".csv")
    result = part.replace(stem.with_name(stem.name + suffix))
    stem.with_name(stem.name + other).unlink(missing_ok=True)
    return result


def _read(result: Path, arrays: dict[str, Any]) -> Arrays:
    if result.suffix == ".npz":
        with np.load(result, allow_pickle=False) as stored:
            return {name: stored[name] for name in arrays}
    header, *rows = result.read_text(encoding="utf-8").splitlines()
    columns = list(zip(*(row.split(",") for row in rows), strict=True)) or [()] * len(arrays)
    found = {}
    for name, column in zip(header.split(","), columns, strict=True):
        kind = np.dtype(arrays[name]["dtype"])
        found[name] = np.array([(int if kind.kind in "iu" else float)(value) for value in column], kind)
    return found


def _record_file(study: Study, root: Path) -> Path:
    return root / study.chapter / f"{study.name}.json"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def by_seed(rows: Mapping[str, np.ndarray], quantity: str, **where: float) -> np.ndarray:
    """A quantity of the rows that have given values in other columns, one value a seed, in the order of the seeds.

    Args:
        rows: The result of a study with one row a seed and circumstance: ``seed``, ``quantity`` and more, (N,) each.
        quantity: A column.
        where: Values of other columns that are asked for.
    """
    chosen = np.ones(len(rows["seed"]), bool)
    for name, value in where.items():
        chosen &= np.asarray(rows[name]) == value
    order = np.argsort(np.asarray(rows["seed"])[chosen], kind="stable")
    values: np.ndarray = np.asarray(rows[quantity])[chosen][order]
    return values
