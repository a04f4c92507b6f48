"""Opening weights files of others: nothing in them runs, and little is believed.

A file of PyTorch is a zip archive of raw tensors and a pickle, and a pickle is a program. So the archive's members are
counted first, the pickle is read without being run, and what it would import is compared with the few names that
tensors need. Then shapes are looked at on the meta device, which allocates nothing, and only then is the file loaded,
with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from noisebook._checks import check_finite, check_one_of, error

MAX_BYTES = 4_000_000_000
MAX_PICKLE_BYTES = 16_000_000
MAX_MEMBERS = 20_000
KINDS = (".safetensors", ".pt", ".pth", ".ckpt")
TENSORS_NEED = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
    r"|torch (Size|device|b?float\d+|u?int\d+|bool)"
)
IMPORTS = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
DAMAGED = "The file is damaged or no weights file: fetch or copy it again."
TRUSTED = "It was not opened. Have who made it save plain tensors: torch.save(model.state_dict(), path)."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        state: Tensors by name, as stored, on the CPU; ``net_state_dict.layer`` of a file with a state dict of each net.
        hyper_parameters: Those of a Lightning checkpoint; empty for other files.
    """

    state: dict[str, Tensor]
    hyper_parameters: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path, *, sha256: str | None = None, like: Mapping[str, Tensor] | None = None) -> Checkpoint:
    """Open a weights file that somebody else made: safetensors, state dicts of PyTorch, or a Lightning checkpoint.

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth`` or ``.ckpt`` as ``torch.save`` has written them since 2020.
        sha256: Of the file, if known; compared before anything is parsed.
        like: The ``state_dict()`` that the file is to fit, such as of a module on the meta device: names, shapes and
            types are compared, of PyTorch's files before any tensor is allocated. None skips that.

    Returns:
        State and hyper-parameters.

    Raises:
        ValueError: The file is missing, too large, of another sha256, damaged, or no weights file; its pickle asks for
            anything but tensors; it does not fit ``like``; or a value is NaN or infinite.
    """
    path = Path(path)
    if not path.is_file():
        raise error(str(path), "a weights file", "a folder" if path.is_dir() else "nothing there", "Check the path.")
    check_one_of(f"{path}: kind of file", path.suffix, KINDS)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise error(str(path), f"at most {MAX_BYTES} bytes", size)
    content = path.read_bytes()
    if sha256 is not None and (got := hashlib.sha256(content).hexdigest()) != sha256:
        raise error(str(path), f"sha256 {sha256}", got, "It is damaged or another file: fetch or copy it again.")
    ours = path.suffix == ".safetensors"
    found = Checkpoint(parse(content, path, DAMAGED)) if ours else _torch(content, path, like)
    if not found.state:
        raise error(str(path), "at least one tensor", "none")
    _check_fits(path, found.state, like)
    for name, value in found.state.items():
        check_finite(f"{path}: {name}", value)
    return found


def parse(content: bytes, path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: It is none.
    """
    try:
        return dict(safetensors.torch.load(content))
    except Exception as problem:  # whatever a damaged header makes the parser raise
        raise error(str(path), "a safetensors file", f"{type(problem).__name__} while parsing", remedy) from None


def mismatches(state: Mapping[str, Tensor], like: Mapping[str, Tensor], *, types: bool) -> str:
    """Where names, shapes and, if asked for, types of tensors are not those of ``like``; empty if nowhere."""
    both = sorted(like.keys() & state.keys())
    pairs = {name: (state[name], like[name]) for name in both}
    shapes = {name: (tuple(mine.shape), tuple(other.shape)) for name, (mine, other) in pairs.items()}
    kinds = {name: (mine.dtype, other.dtype) for name, (mine, other) in pairs.items() if types}
    faults = {
        "missing": sorted(like.keys() - state.keys()),
        "left over": sorted(state.keys() - like.keys()),
        "of another shape": [f"{name} {mine} for {other}" for name, (mine, other) in shapes.items() if mine != other],
        "of another type": [f"{name} {mine} for {other}" for name, (mine, other) in kinds.items() if mine != other],
    }
    return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names)


def _check_fits(path: Path, state: Mapping[str, Tensor], like: Mapping[str, Tensor] | None) -> None:
    if like is not None and (found := mismatches(state, like, types=True)):
        raise error(str(path), f"the {len(like)} tensors of the network", found, "It belongs to another network.")


def _some(names: list[str]) -> str:
    return ", ".join(name[:200] for name in names[:5]) + (", …" if len(names) > 5 else "")


def _torch(content: bytes, path: Path, like: Mapping[str, Tensor] | None) -> Checkpoint:
    """A file of ``torch.save``: members, pickle, shapes, and only then tensors."""
    _check_pickle(_pickle(content, path), path)
    outline = _load(content, path, "meta")
    for name, value in outline.state.items():
        if value.layout != torch.strided or value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise error(f"{path}: {name}", "a tensor that is stored value by value", tuple(value.shape), DAMAGED)
    if (total := sum(value.numel() * value.itemsize for value in outline.state.values())) > 4 * len(content):
        raise error(str(path), f"tensors that fit into {len(content)} bytes", f"{total} bytes", DAMAGED)
    _check_fits(path, outline.state, like)
    return _load(content, path, "cpu")


def _pickle(content: bytes, path: Path) -> bytes:
    """The pickle of a file of PyTorch, after a look at the archive: not compressed, no more than it can hold, whole."""
    if content[:4] != b"PK\x03\x04":
        kind = "a bare pickle, a program that opening would run" if content[:1] == b"\x80" else "something else"
        raise error(str(path), "a zip archive, as torch.save writes it", kind, TRUSTED)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > len(content):
                got = f"{len(members)} members of {sum(member.file_size for member in members)} bytes"
                raise error(str(path), "an archive that holds no more than its own size", got, DAMAGED)
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise error(str(path), "members that are not compressed", "compressed ones", TRUSTED)
            if (broken := archive.testzip()) is not None:
                raise error(f"{path}: {broken}", "the checksum that the archive states", "another", DAMAGED)
            pickles = [member for member in members if re.fullmatch(r"[^/]+/data\.pkl", member.filename)]
            if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
                got = f"{len(pickles)} in {len(members)} members"
                raise error(str(path), f"one data.pkl of at most {MAX_PICKLE_BYTES} bytes", got, TRUSTED)
            return archive.read(pickles[0])
    except Exception as problem:  # whatever a damaged archive makes the reader raise
        raise _told(problem, path, "a whole zip archive") from None


def _check_pickle(program: bytes, path: Path) -> None:
    """Raise if a pickle would import anything that tensors do not need; it is read, not run."""
    words = ["", ""]
    protocol: object = None
    try:
        for operation, argument, _ in pickletools.genops(program):
            protocol = argument if operation.name == "PROTO" else protocol
            if "UNICODE" in operation.name:
                words = [words[1], str(argument)]
            imported = argument if operation.name == "GLOBAL" else None
            if operation.name in IMPORTS:
                imported = argument or " ".join(words) if operation.name in ("INST", "STACK_GLOBAL") else operation.name
            if imported is not None and not (operation.name == "GLOBAL" and TENSORS_NEED.fullmatch(str(imported))):
                got = f"a pickle that asks to run {str(imported).replace(' ', '.')[:200]}"
                raise error(str(path), "tensors and plain values only", got, TRUSTED)
        if protocol != 2:
            raise error(str(path), "a pickle of protocol 2, as torch.save writes it", protocol, TRUSTED)
    except Exception as problem:  # whatever a damaged pickle makes the reader raise
        raise _told(problem, path, "a whole pickle") from None


def _told(problem: Exception, path: Path, expected: str) -> Exception:
    """An error of ours as it is, and one of a reader's as one of ours."""
    if isinstance(problem, ValueError) and str(problem).startswith(str(path)):
        return problem
    return error(str(path), expected, f"{type(problem).__name__}: {str(problem)[:200]}", DAMAGED)


def _load(content: bytes, path: Path, device: str) -> Checkpoint:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch to itself, about its own storages
            found = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as problem:  # whatever a damaged file makes the loader raise
        got = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise error(str(path), "tensors that weights_only=True can load", got, TRUSTED) from None
    lightning = isinstance(found, dict) and isinstance(found.get("state_dict"), dict)
    state, more = (found["state_dict"], found.get("hyper_parameters", {})) if lightning else (_joined(found), {})
    if not _tensors(state):
        remedy = "A state dict, or a Lightning checkpoint, is what can be read."
        raise error(str(path), "tensors by name", f"a {type(state).__name__} of other things", remedy)
    if not isinstance(more, dict):
        raise error(f"{path}: hyper_parameters", "a mapping", type(more).__name__)
    return Checkpoint({name: value.detach() for name, value in state.items()}, dict(more))


def _tensors(state: object) -> bool:
    """Whether it is a state dict."""
    return isinstance(state, dict) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items())


def _joined(found: Any) -> Any:
    """The state dicts of several nets, ``net_state_dict`` each, as one; those of optimisers are left out."""
    if not isinstance(found, dict) or _tensors(found):
        return found
    parts = {name: state for name, state in found.items() if str(name).endswith("_state_dict") and _tensors(state)}
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()} or found
