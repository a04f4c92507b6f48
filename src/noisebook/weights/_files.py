"""Weights files: save, verify, load, put into a module, and enter into the registry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
import yaml
from torch import Tensor

from noisebook import _paths, archives
from noisebook._checks import check_finite, error
from noisebook._registry import Embedded, Range, embedded, external, metadata

from ._open import mismatches, parse, read
from ._registry import HEADER, problems_of_embedded

WRITE = "Write it with noisebook.weights.save."
Module = TypeVar("Module", bound=torch.nn.Module)


def load(id: str, data: Path = _paths.DATA) -> dict[str, Tensor]:
    """Load a network's weights, verified before they are parsed: one that ships with the book, or a fetched one.

    Args:
        id: Of the network, as ``noisebook weights list`` shows it.
        data: As for ``embedded``.

    Returns:
        Tensors by name, floating ones as float32, on the CPU.

    Raises:
        ValueError: Unknown id; file missing, not fetched, of another size or sha256, or no weights file; see ``read``.
    """
    if id in archives.fetchable(data):
        path, sha256 = archives.verified(id, data)
        return _as_float32(read(path, sha256=sha256).state)
    entry = metadata(id, data)
    path = data / "weights" / entry.file
    remedy = "Restore it: git checkout data/weights, or install the wheel again."
    if not path.is_file():
        raise error(str(path), "the weights file", "nothing there", remedy)
    if path.stat().st_size != entry.size:
        raise error(str(path), f"{entry.size} bytes", path.stat().st_size, remedy)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise error(str(path), f"sha256 {entry.sha256}", digest, remedy)
    return _as_float32(parse(content, path, WRITE))


def into(module: Module, state: Mapping[str, Tensor]) -> Module:
    """Put weights into a module, strictly.

    Args:
        module: Changed in place.
        state: Tensors by the names of ``module.state_dict()``.

    Returns:
        ``module``.

    Raises:
        ValueError: Names missing or left over, or tensors of another shape; they are named and the module is unchanged.
    """
    wanted = module.state_dict()
    if found := mismatches(state, wanted, types=False):
        remedy = "The weights belong to another architecture or width: see noisebook.weights.metadata(id).config."
        raise error("state", f"the {len(wanted)} tensors of {type(module).__name__}", found, remedy)
    module.load_state_dict(dict(state), strict=True)
    return module


def save(state: Mapping[str, Tensor], path: str | Path, *, half: bool = False) -> Path:
    """Write weights as safetensors: under another name first, then renamed. Equal weights give equal bytes.

    Args:
        state: Tensors by name.
        path: The file; its folder is made if missing.
        half: Store floating tensors as float16 instead of float32.

    Returns:
        The path.

    Raises:
        ValueError: No tensor, NaN or infinity, or a value beyond the range of float16.
    """
    if not state:
        raise error("state", "at least one tensor", "none")
    kind = torch.float16 if half else torch.float32
    stored = {}
    for name in sorted(state):
        value = state[name].detach().cpu()
        stored[name] = (value.to(kind) if value.is_floating_point() else value).contiguous().clone()
        check_finite(name, stored[name])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _paths.write_whole(path, safetensors.torch.save(stored))
    return path


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is left of weights after ``save`` with ``half``: floating tensors rounded to float16, as float32.

    Args:
        state: Tensors by name.
    """
    return _as_float32({name: value.half() if value.is_floating_point() else value for name, value in state.items()})


def register(
    id: str,
    *,
    chapter: str,
    file: str,
    architecture: str,
    config: dict[str, Any],
    schedule: str,
    training_data: str,
    trained_on: Mapping[str, Range],
    seed: int,
    licence: str = "CC-BY-4.0",
    half_precision_change: str = "",
    data: Path = _paths.DATA,
) -> Embedded:
    """Enter a weights file that ``save`` wrote into the registry, or replace its entry; sorted by id.

    Size, sha256, number of parameters and precision are read from the file. The table is written the same for the same
    entries, and nothing else in it changes.

    Args:
        id: Of the network.
        chapter: See ``Embedded``, as for all below.
        file: Path under ``data/weights``.
        architecture: See ``Embedded``.
        config: Plain numbers, strings, booleans, and lists of them.
        schedule: See ``Embedded``.
        training_data: See ``Embedded``.
        trained_on: See ``Embedded``; `span` makes a range from values.
        seed: See ``Embedded``.
        licence: See ``Embedded``.
        half_precision_change: See ``Embedded``.
        data: As for ``embedded``.

    Returns:
        The entry.

    Raises:
        ValueError: The file is missing or no safetensors file, or the entry would not pass ``check_registry``.
    """
    path = data / "weights" / file
    if not path.is_file():
        raise error(str(path), "a weights file", "nothing there", "Write it with noisebook.weights.save.")
    try:
        config = yaml.safe_load(yaml.safe_dump(config))
    except yaml.YAMLError:
        raise error("config", "plain numbers, strings, booleans and lists of them", repr(config)) from None
    content = path.read_bytes()
    values = {name: value for name, value in parse(content, path, WRITE).items() if value.is_floating_point()}
    entry = Embedded(
        id=id,
        chapter=chapter,
        file=file,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence=licence,
        architecture=architecture,
        config=config,
        parameters=sum(v.numel() for name, v in values.items() if not name.endswith(("running_mean", "running_var"))),
        precision=" ".join(sorted({str(v.dtype).removeprefix("torch.") for v in values.values()})),
        half_precision_change=half_precision_change,
        schedule=schedule,
        training_data=training_data,
        trained_on=dict(trained_on),
        seed=seed,
    )
    problems = problems_of_embedded(entry, data)
    if problems:
        raise error(id, "an entry that passes check_registry", "; ".join(problems))
    entries = sorted([*(other for other in embedded(data) if other.id != id), entry], key=lambda e: e.id)
    tables = {"embedded": [asdict(e) for e in entries], "external": [asdict(e) for e in external(data)]}
    text = HEADER + yaml.safe_dump(tables, sort_keys=False, allow_unicode=True, width=110)
    _paths.write_whole(data / "registry.yaml", text.encode())
    return entry


def embed(
    id: str, net: Module, outcome: Callable[[Module], Tensor], unit: str, *, data: Path = _paths.DATA, **described: Any
) -> Embedded:
    """Store a trained network in half precision as ``<id>.safetensors``, and ``register`` it with what that changes.

    Args:
        id: Of the network.
        net: Its weights become the stored ones.
        outcome: What the network makes of some examples, any shape; halving is judged by it.
        unit: Of its root mean square change, with what it is taken over.
        data: As for ``register``.
        described: As for ``register``: chapter, architecture, config, schedule, training_data, trained_on, seed.

    Returns:
        The entry.

    Raises:
        ValueError: As ``save`` and ``register`` raise.
    """
    file = f"{id}.safetensors"
    save(net.state_dict(), data / "weights" / file, half=True)
    full = outcome(net)
    change = float((outcome(into(net, halved(net.state_dict()))) - full).square().mean().sqrt())
    return register(id, file=file, half_precision_change=f"{change:.2g} {unit}", data=data, **described)


def _as_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
