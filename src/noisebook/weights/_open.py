"""Opening weights files of others: nothing in them runs, and little is believed.

A file of PyTorch is a zip archive of raw tensors and a pickle, and a pickle is a program. So the archive's members are
counted first, the pickle is read without being run, and what it would import is compared with the few names that
tensors need, and with some harmless ones for which values of ours stand in. Then shapes are looked at on the meta
device, which allocates nothing, and only then is the file loaded, with ``weights_only=True``.
"""

from __future__ import annotations

import encodings
import encodings.aliases
import hashlib
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from noisebook._checks import check_finite, check_one_of, error

MAX_BYTES = 4_000_000_000
MAX_PICKLE_BYTES = 16_000_000
MAX_MEMBERS = 20_000
KINDS = (".safetensors", ".pt", ".pth", ".ckpt")
TENSORS_NEED = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor_v2|parameter)|torch\.\w+Storage"
    r"|torch\.(Size|device|b?float\d+|u?int\d+|bool)|_codecs\.encode"
)
CODECS = ("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "uu_codec", "zlib_codec", "idna", "punycode")
"""Those of Python that make bytes longer, or take long over text: bytes, such as numpy's, need latin1 only."""
WRAPPINGS = ("", "state_dict", "model_state_dict", "model", "net", "params", "params_ema")
"""Names of an only state dict that say nothing; another name is put before those of the tensors."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, Lightning modules and torch.compile put before the names of the network that they wrap."""
DAMAGED = "The file is damaged or no weights file: fetch or copy it again."
TRUSTED = "It was not opened. Have who made it save plain tensors: torch.save(model.state_dict(), path)."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        state: Tensors by name, as stored, on the CPU; ``G_state_dict.layer`` if a file has several state dicts, or
            one whose name may mean something.
        hyper_parameters: Those of a Lightning checkpoint, numbers of numpy as Python's; empty for other files.
    """

    state: dict[str, Tensor]
    hyper_parameters: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path, *, sha256: str | None = None, like: Mapping[str, Tensor] | None = None) -> Checkpoint:
    """Open a weights file that somebody else made: safetensors, state dicts of PyTorch, or a training's checkpoint.

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth`` or ``.ckpt`` as ``torch.save`` has written them since 2020.
        sha256: Of the file, if known; compared before anything is parsed.
        like: The ``state_dict()`` that the file is to fit, such as of a module on the meta device: names, shapes and
            types are compared, of PyTorch's files before any tensor is allocated. Of several state dicts that one is
            taken which fits, and prefixes as `bare` takes off are taken off as far as it takes. None skips that.

    Returns:
        State and hyper-parameters.

    Raises:
        ValueError: The file is missing, too large, of another sha256, damaged, or no weights file; its pickle asks for
            anything but tensors; none or several of its state dicts fit ``like``; or a value is NaN or infinite.
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
    if path.suffix == ".safetensors":
        found = Checkpoint(_chosen({"": parse(content, path, DAMAGED)}, like, path))
    else:
        found = _torch(content, path, like)
    if not found.state:
        raise error(str(path), "at least one tensor", "none")
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


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes, of all names alike, that wrappers leave: `module.`, `model.`, `_orig_mod.`.

    Args:
        state: Tensors by name.
    """
    return list(_versions(state))[-1]


def _versions(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A state dict as it is, and without one prefix more each time."""
    yield (state := dict(state))
    while state and (shared := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)]):
        yield (state := {name.removeprefix(shared[0]): value for name, value in state.items()})


def _chosen(
    states: Mapping[str, dict[str, Tensor]], like: Mapping[str, Tensor] | None, path: Path
) -> dict[str, Tensor]:
    """Of the state dicts of a file by name the only one, or that which fits, or all of them under their names."""
    joined = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
    first, *more = states
    if like is None:
        return joined if more or first not in WRAPPINGS else states[first]
    versions = [(name, version) for name, state in states.items() for version in _versions(state)]
    versions += [("all", joined)] if more else []
    fits = {name: version for name, version in versions if not mismatches(version, like, types=True)}
    if len(fits) == 1:
        return next(iter(fits.values()))
    if fits:
        remedy = "Save the one that you mean: torch.save(state_dict, path)."
        raise error(str(path), "one state dict that fits the network", " and ".join(fits), remedy)
    nearest = max((version for _, version in versions), key=lambda version: len(version.keys() & like.keys()))
    got = mismatches(nearest, like, types=True)
    got = f"{', '.join(states)}, none of which fits; the nearest has {got}" if more else got
    raise error(str(path), f"the {len(like)} tensors of the network", got, "It belongs to another network.")


def _some(names: list[str]) -> str:
    return ", ".join(name[:200] for name in names[:5]) + (", …" if len(names) > 5 else "")


def _torch(content: bytes, path: Path, like: Mapping[str, Tensor] | None) -> Checkpoint:
    """A file of ``torch.save``: members, pickle, shapes, and only then tensors."""
    known = _stand_ins(_pickle(content, path), path)
    outline = _load(content, path, "meta", known, like)
    for name, value in outline.state.items():
        if value.layout != torch.strided or value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise error(f"{path}: {name}", "a tensor that is stored value by value", tuple(value.shape), DAMAGED)
    if (total := sum(value.numel() * value.itemsize for value in outline.state.values())) > 4 * len(content):
        raise error(str(path), f"tensors that fit into {len(content)} bytes", f"{total} bytes", DAMAGED)
    return _load(content, path, "cpu", known, like)


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


class _Ignored:
    """Stands for what a file names and nobody here needs."""


class _Kind:
    """Stands for numpy's type of a number."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _number(kind: _Kind, content: bytes) -> Any:
    """One of numpy's numbers, or a text, as Python's."""
    dtype = f"{kind.order}{kind.name}"
    if not re.fullmatch(r"[<>|=][biufcUS]\d{1,5}", dtype):
        raise ValueError(f"a value of numpy's type {dtype[:20]}")
    return np.frombuffer(content, dtype)[0].item()


STAND_INS: dict[str, Any] = {
    r"numpy\.(_core|core)\.multiarray\.scalar": _number,
    r"numpy\.dtype": _Kind,
    r"(pytorch_lightning|lightning(_fabric|\.fabric|\.pytorch))\.utilities\.(data|parsing)\.AttributeDict": dict,
    r"(pytorch_lightning|lightning\.pytorch)\.callbacks\.[\w.]+|argparse\.Namespace": _Ignored,
}
"""Our values for names that are found in checkpoints: they are never imported."""


def _stand_ins(program: bytes, path: Path) -> list[tuple[Any, str]]:
    """Our values for the names in a pickle; raise if it asks for others. It is read, not run."""
    asked, texts, protocol = set(), set(), None
    try:
        for operation, argument, _ in pickletools.genops(program):
            if operation.name == "GLOBAL":
                asked.add(str(argument).replace(" ", "."))
            elif operation.name == "PROTO":
                protocol = argument
            elif isinstance(argument, str):
                texts.add(argument)
    except Exception as problem:  # whatever a damaged pickle makes the reader raise
        raise error(str(path), "a whole pickle", f"{type(problem).__name__}: {str(problem)[:200]}", DAMAGED) from None
    known = [(ours, name) for name in asked for pattern, ours in STAND_INS.items() if re.fullmatch(pattern, name)]
    strange = sorted(name for name in asked - {name for _, name in known} if not TENSORS_NEED.fullmatch(name))
    strange += [f"encode as {text}" for text in texts if "_codecs.encode" in asked and _codec(text) in CODECS]
    if strange:
        raise error(str(path), "tensors and plain values only", f"a pickle that asks to run {_some(strange)}", TRUSTED)
    if protocol != 2:
        raise error(str(path), "a pickle of protocol 2, as torch.save writes it", protocol, TRUSTED)
    return known


def _codec(name: str) -> str:
    """The codec that Python means by a name."""
    name = encodings.normalize_encoding(name).lower().replace(".", "_")
    return encodings.aliases.aliases.get(name, name)


def _told(problem: Exception, path: Path, expected: str) -> Exception:
    """An error of ours as it is, and one of a reader's as one of ours."""
    if isinstance(problem, ValueError) and str(problem).startswith(str(path)):
        return problem
    return error(str(path), expected, f"{type(problem).__name__}: {str(problem)[:200]}", DAMAGED)


def _load(
    content: bytes, path: Path, device: str, known: list[tuple[Any, str]], like: Mapping[str, Tensor] | None
) -> Checkpoint:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*known]):
            warnings.simplefilter("ignore")  # of torch to itself, about its own storages
            found = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as problem:  # whatever a damaged file makes the loader raise
        # torch begins with the advice to set weights_only to False
        reason = str(problem).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        got = f"{type(problem).__name__}: {reason[:200]}"
        raise error(str(path), "tensors that weights_only=True can load", got, TRUSTED) from None
    inside = {"": found} if _tensors(found) else dict(found) if isinstance(found, dict) else {}
    more = inside.pop("hyper_parameters", {})
    states = {str(name): value for name, value in inside.items() if _tensors(value) and (value or value is found)}
    if not states:
        contents = [f"{name} ({type(value).__name__})" for name, value in inside.items()]
        got = f"a {type(found).__name__}" + (f" with {_some(contents)}" if contents else "")
        raise error(str(path), "tensors by name", got, "A state dict, alone or in a dict, is what can be read.")
    if not isinstance(more, dict):
        raise error(f"{path}: hyper_parameters", "a mapping", type(more).__name__)
    state = _chosen(states, like, path)
    return Checkpoint({name: value.detach() for name, value in state.items()}, dict(more))


def _tensors(state: object) -> bool:
    """Whether it is a state dict."""
    return isinstance(state, dict) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items())
