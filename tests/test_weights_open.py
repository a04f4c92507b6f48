"""Weights files of others: nothing in them runs, what is damaged is refused, and what is whole loads exactly."""

import argparse
import hashlib
import io
import os
import pickle
import random
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import published
import pytest
import safetensors.torch
import torch
from lightning_fabric.utilities.data import AttributeDict
from torch import Tensor, nn
from zenodo_server import zenodo

from noisebook import archives, weights
from noisebook.papers import regularity


def network(channels: int = 2) -> nn.Module:
    """A convolution with batch normalisation: float weights, running statistics and an integer counter."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels))


def saved(thing: object, **more: Any) -> bytes:
    """What ``torch.save`` writes."""
    stream = io.BytesIO()
    torch.save(thing, stream, **more)
    return stream.getvalue()


def whole(kind: str) -> bytes:
    """A file of the network's weights, ``.pt`` or ``.safetensors``."""
    state = dict(network().state_dict())
    return saved(state) if kind == ".pt" else safetensors.torch.save(state)


def rewritten(content: bytes, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same archive, with right checksums, and another pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith("/data.pkl") else old.read(name))
    return stream.getvalue()


@pytest.mark.parametrize("kind", [".safetensors", ".pt"])
def test_a_state_dict_is_read_exactly(tmp_path: Path, kind: str) -> None:
    """Names, shapes, types and values are those that were stored; ``into`` a network they fit strictly."""
    path = tmp_path / f"net{kind}"
    path.write_bytes(whole(kind))
    like = nn.Module.to(network(), "meta").state_dict()
    read = weights.read(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), like=like)
    torch.testing.assert_close(read.state, dict(network().state_dict()), rtol=0, atol=0)
    assert read.hyper_parameters == {}
    weights.into(network(), read.state)


OPTIMIZER = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize("wrap", ["state_dict", "model_state_dict", "model", "net", "params", "params_ema"])
def test_a_wrapped_state_dict_is_read_exactly(tmp_path: Path, wrap: str) -> None:
    """What training scripts save beside their only state dict is left alone, and its names are as they were."""
    path, state = tmp_path / "net.pth", dict(network().state_dict())
    path.write_bytes(saved({"epoch": 3, wrap: state, "optimizer": OPTIMIZER, "rng": torch.ones(3), "scaler": {}}))
    torch.testing.assert_close(weights.read(path).state, state, rtol=0, atol=0)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module.", "_orig_mod.module.model."]
)
@pytest.mark.parametrize("own", ["", "model."])
def test_prefixes_of_wrappers_are_taken_off_as_far_as_it_takes(tmp_path: Path, prefix: str, own: str) -> None:
    """Names that fit but for prefixes of wrappers are those of the network, whose own may begin like one of them."""
    path, state = tmp_path / "net.pt", {own + name: value for name, value in network().state_dict().items()}
    path.write_bytes(saved({"any name": {prefix + name: value for name, value in state.items()}, "epoch": 3}))
    torch.testing.assert_close(weights.read(path, like=state).state, state, rtol=0, atol=0)
    bare = weights.bare({prefix + name: value for name, value in state.items()})
    torch.testing.assert_close(bare, dict(network().state_dict()), rtol=0, atol=0)


def test_states_of_several_nets_are_told_apart_by_name(tmp_path: Path) -> None:
    """Each state dict comes with its name before the layers', or that comes which fits; two that fit are named."""
    nets = {f"{name}_state_dict": nn.Linear(width, 1).state_dict() for name, width in (("G", 2), ("D", 3))}
    path = tmp_path / "two.pth"
    path.write_bytes(saved(nets | {"adam_state_dict": OPTIMIZER, "epoch": 3}))
    found = weights.read(path)
    assert set(found.state) == {f"{net}.{part}" for net in nets for part in ("weight", "bias")}
    torch.testing.assert_close(found.state["D_state_dict.weight"], nets["D_state_dict"]["weight"])
    torch.testing.assert_close(weights.read(path, like=found.state).state, found.state)
    fitting = weights.read(path, like=nets["D_state_dict"]).state
    torch.testing.assert_close(fitting, dict(nets["D_state_dict"]), rtol=0, atol=0)
    with pytest.raises(ValueError, match="G_state_dict, D_state_dict, none of which fits; the nearest has 7 missing"):
        weights.read(path, like=network().state_dict())
    state = network().state_dict()
    path.write_bytes(saved({"params": state, "params_ema": state}))
    with pytest.raises(ValueError, match="expected one state dict that fits the network, got params and params_ema"):
        weights.read(path, like=state)


def test_what_a_file_holds_in_place_of_a_state_dict_is_told(tmp_path: Path) -> None:
    """Names and types of what was found stand in the error."""
    path = tmp_path / "none.pth"
    path.write_bytes(saved({"adam_state_dict": OPTIMIZER, "epoch": 3}))
    with pytest.raises(ValueError, match=r"tensors by name, got a dict with adam_state_dict \(dict\), epoch \(int\)"):
        weights.read(path)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, *bases: type) -> type:
    """A class of a package that is not installed, for torch.save to find by its name."""
    module, _, title = name.rpartition(".")
    made = type(title, bases, {"__module__": module})
    for k in range(module.count(".") + 1):
        part = ".".join(module.split(".")[: k + 1])
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    setattr(sys.modules[module], title, made)
    return made


FOREIGN = {
    "lightning.pytorch.utilities.parsing.AttributeDict": dict,
    "lightning.fabric.utilities.data.AttributeDict": dict,
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": object,
    "lightning.pytorch.callbacks.early_stopping.EarlyStopping": object,
}


@pytest.mark.parametrize("name", [*FOREIGN, "installed"])
def test_harmless_things_of_other_packages_are_opened(tmp_path: Path, name: str) -> None:
    """Numbers of numpy, dicts with attributes and classes as keys become Python's; what was imported is forgotten."""
    path, state, kind = tmp_path / "net.ckpt", dict(network().state_dict()), AttributeDict
    rate = {"a": np.float32(0.5), "b": np.int64(-3), "c": np.bool_(True), "d": np.str_("é"), "e": np.float64(1e300)}
    with pytest.MonkeyPatch.context() as only_while_it_is_written:
        if name != "installed":
            kind = stand_in(only_while_it_is_written, name, FOREIGN[name])
        more = kind(rate) if issubclass(kind, dict) else rate
        callbacks = {kind: {"best": np.float64(1)}}
        args = argparse.Namespace(width=3)
        path.write_bytes(saved({"state_dict": state, "hyper_parameters": more, "callbacks": callbacks, "args": args}))
    before = set(torch.serialization.get_safe_globals())
    read = weights.read(path, like=state)
    assert set(torch.serialization.get_safe_globals()) == before
    assert read.hyper_parameters == {"a": 0.5, "b": -3, "c": True, "d": "é", "e": 1e300}
    assert [type(value) for value in read.hyper_parameters.values()] == [float, int, bool, str, float]
    torch.testing.assert_close(read.state, state, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["my_project.callbacks.Mine", "numpy.ndarray", "lightning.pytorch.trainer.Trainer"])
def test_other_things_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """A class of somebody's own is named, wherever it stands."""
    path = tmp_path / "net.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        kind = np.ndarray if name == "numpy.ndarray" else stand_in(patch, name)
        path.write_bytes(saved({"state_dict": network().state_dict(), "callbacks": {kind: 1}, "epoch": np.int64(3)}))
    with pytest.raises(ValueError, match=rf"net\.ckpt: expected .* asks to run {name}\. It was not opened"):
        weights.read(path)


def test_a_lightning_checkpoint_gives_state_and_hyper_parameters(tmp_path: Path) -> None:
    """Of a Lightning checkpoint the state dict and the hyper-parameters are read, and the rest is left."""
    more = {"channels": 2, "rate": 1e-3, "levels": [1, 2]}
    state = network().state_dict()
    optimizer = torch.optim.Adam(network().parameters()).state_dict()
    checkpoint = {"epoch": 3, "state_dict": state, "hyper_parameters": more, "optimizer_states": [optimizer]}
    (tmp_path / "net.ckpt").write_bytes(saved(checkpoint))
    read = weights.read(tmp_path / "net.ckpt")
    assert read.hyper_parameters == more
    torch.testing.assert_close(read.state, dict(state), rtol=0, atol=0)


class _Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


def canaries(folder: Path) -> dict[str, bytes]:
    """Files that run code when they are unpickled, by name."""
    canary, state = _Canary(folder), network().state_dict()
    plain = whole(".pt")
    return {
        "bare.pt": pickle.dumps(canary, 2),
        "zip.pt": saved(canary),
        "beside.pt": saved({**state, "extra": canary}),
        "lightning.ckpt": saved({"state_dict": state, "hyper_parameters": {"a": canary}}),
        "four.pth": saved(canary, pickle_protocol=4),
        "inside.pt": rewritten(plain, lambda program: pickle.dumps(canary, 2)),
        "old.ckpt": saved(canary, _use_new_zipfile_serialization=False),
    }


@pytest.mark.parametrize("name", list(canaries(Path())))
def test_a_pickle_that_would_run_does_not(tmp_path: Path, name: str) -> None:
    """A pickle that makes a folder is refused in every wrapping, named in the error, and makes none."""
    canary, path = tmp_path / "canary", tmp_path / name
    content = canaries(canary)[name]
    path.write_bytes(content)
    asked = "a bare pickle, a program" if name in ("bare.pt", "old.ckpt") else r"asks to run (posix|nt)\.mkdir"
    asked = "a pickle of protocol 2, as torch.save writes it, got 4" if name == "four.pth" else asked
    with pytest.raises(ValueError, match=rf"{name}: expected .*{asked}.* It was not opened"):
        weights.read(path)
    assert not canary.exists()
    if name == "bare.pt":
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"", r"kind of file: expected one of \.ckpt, \.pt, \.pth, \.safetensors, got '\.npz'"),
        ("a.pt", b"", "expected a zip archive, as torch.save writes it, got something else"),
        ("a.pt", whole(".pt")[:1500], "expected a whole zip archive"),
        ("a.safetensors", whole(".pt"), "expected a safetensors file, got SafetensorError while parsing"),
        ("a.safetensors", safetensors.torch.save({}), "expected at least one tensor, got none"),
        ("a.pt", saved({}), "expected at least one tensor, got none"),
        ("a.pt", saved([1, 2]), "expected tensors by name, got a list"),
        ("a.pt", saved({"a": 1}), r"expected tensors by name, got a dict with a \(int\)"),
        ("a.pt", saved(bytearray(9)), "asks to run __builtin__.bytearray"),
        ("a.pt", saved({"a": np.float64(1), "b": "Hex"}), "asks to run encode as Hex"),
        ("a.pt", saved({"a": np.datetime64(1, "s")}), "got ValueError: a value of numpy's type <M8"),
        ("a.ckpt", saved({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": 3}), "expected a mapping, got int"),
        ("a.pt", saved({"a": torch.zeros(1).expand(10**9)}), r"a: expected a tensor that is stored value by value"),
        ("a.pt", saved({"a": torch.eye(3).to_sparse()}), "asks to run torch._utils._rebuild_sparse_tensor"),
        ("a.pt", rewritten(whole(".pt"), lambda p: p, zipfile.ZIP_DEFLATED), "members that are not compressed"),
        ("a.pt", rewritten(whole(".pt"), lambda p: p[:-40]), "expected a whole pickle"),
        ("a.pt", rewritten(whole(".pt"), lambda p: b"\x80\2(S'x'\nios\nmkdir\n."), "Unsupported operand"),
        (
            "a.pt",
            rewritten(whole(".pt"), lambda p: b"\x80\2\x8c\2os\x8c\5mkdir\x93\x8c\1x\x85R."),
            "Unsupported operand",
        ),
        ("a.pt", rewritten(whole(".pt"), lambda p: p.replace(b"K\x12t", b"J\0\0\0\x7ft", 1)), "a: weights_only|record"),
        ("a.pt", saved({"a": torch.tensor([1.0, float("nan")])}), ": a: expected finite values, got 1 that"),
        ("a.safetensors", safetensors.torch.save({"a": torch.tensor(float("inf"))}), "a: expected finite values"),
    ],
)
def test_what_is_no_weights_file_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Each way of being none gives an error that names the file, what was expected and what was found."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}.*({message})"):
        weights.read(tmp_path / name)


def test_missing_files_and_wrong_checksums_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, a folder, too large a file and another sha256 are refused before anything is parsed."""
    monkeypatch.setattr("zipfile.ZipFile", lambda *a: pytest.fail("parsed before verified"))
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "net.pt").write_bytes(whole(".pt"))
    for name, more, message in (
        ("no.pt", {}, r"no\.pt: expected a weights file, got nothing there"),
        ("folder.pt", {}, r"folder\.pt: expected a weights file, got a folder"),
        ("net.pt", {"sha256": "0" * 64}, r"net\.pt: expected sha256 0{64}, got \w{64}\. It is damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.read(tmp_path / name, **more)
    monkeypatch.setattr("noisebook.weights._open.MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"net\.pt: expected at most 100 bytes, got \d+"):
        weights.read(tmp_path / "net.pt")


def test_shapes_are_compared_before_tensors_are_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for another network is refused, its shapes named, while it has been loaded on the meta device only."""
    path, devices, load = tmp_path / "net.pt", [], torch.load
    path.write_bytes(saved({**network(3).state_dict(), "more": torch.zeros(1)}))
    monkeypatch.setattr(torch, "load", lambda *a, **k: devices.append(k["map_location"]) or load(*a, **k))
    with pytest.raises(ValueError, match=r"1 left over: more; 6 of another shape: 0\.bias \(3,\) for \(2,\)"):
        weights.read(path, like=network().state_dict())
    assert devices == ["meta"]
    path.write_bytes(saved(network().double().state_dict()))
    with pytest.raises(ValueError, match=r"6 of another type: 0\.bias torch\.float64 for torch\.float32"):
        weights.read(path, like=network().state_dict())


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, replaced, cut out, doubled, or cut off, at random places; never the same as before."""
    while True:
        data = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place, length = chance.randrange(max(1, len(data))), chance.choice((1, 2, 4, 64))
            match chance.randrange(5):
                case 0:
                    data[place : place + 1] = bytes([data[place] ^ 1 << chance.randrange(8)] if data else b"")
                case 1:
                    data[place : place + length] = chance.randbytes(length)
                case 2:
                    del data[place : place + length]
                case 3:
                    data[place:place] = data[place : place + length]
                case 4:
                    del data[max(place, 1) :]
        if bytes(data) != content:
            return bytes(data)


def peak_bytes(reset: bool = False) -> int:
    """The largest resident memory since the last reset, where the system tells it; else 0."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return 0


def told_or_read(path: Path, like: dict[str, Tensor]) -> str | dict[str, object]:
    """Our error, or names with shapes and types; anything else is raised."""
    try:
        read = weights.read(path, like=like)
    except ValueError as refused:
        return str(refused)
    return {name: (value.shape, value.dtype) for name, value in read.state.items()}


@pytest.mark.parametrize("kind", [".pt", ".safetensors", "pickle of .pt"])
def test_a_thousand_mutations(tmp_path: Path, kind: str) -> None:
    """With the known sha256 each is refused; without, our error or the same names, shapes, types; quick, small."""
    suffix, chance = kind.removeprefix("pickle of "), random.Random(kind)
    content, like = whole(suffix), network().state_dict()
    if suffix != kind:  # with numbers and dicts of others
        content = saved({"model": dict(like), "hyper_parameters": AttributeDict(rate=np.float64(0.5), n=np.int32(1))})
    path, sha256 = tmp_path / f"net{suffix}", hashlib.sha256(content).hexdigest()
    before, passed, told, slowest = peak_bytes(reset=True), 0, 0, 0.0
    for _ in range(1000):
        one = rewritten(content, lambda p: mutated(p, chance)) if suffix != kind else mutated(content, chance)
        path.write_bytes(one)
        with pytest.raises(ValueError, match=f"expected sha256 {sha256}"):
            weights.read(path, sha256=sha256, like=like)
        start = time.process_time()
        outcome = told_or_read(path, like)
        passed += outcome == {name: (value.shape, value.dtype) for name, value in like.items()}
        if isinstance(outcome, str):
            told += 1
            assert str(path) in outcome
            assert ": expected " in outcome
        slowest = max(slowest, time.process_time() - start)
    assert passed + told == 1000
    assert told > 100
    assert slowest < 2
    assert peak_bytes() - before < 200e6


SIX = sorted(id for id, entry in archives.fetchable().items() if entry.record == "7784039")
DECAYS = [(1, "0.0"), (1, "0.001"), (1, "0.01"), (1, "0.1"), (2, "0.00025"), (3, "0.00011111111111111112")]


def test_the_six_published_files_are_fetched_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The six files of the record, written by plain torch in a small width, are fetched and become the networks."""
    registry = archives.fetchable()
    states = [published.regularity(scaling, 4) for scaling, _ in DECAYS]
    narrow = {id: replace(config, width=4) for id, config in regularity.experiment.AUTHORS.items()}
    monkeypatch.setattr(regularity.experiment, "AUTHORS", narrow)
    assert [str(registry[id].file) for id in SIX] == [
        f"size_orig_128_scaling_{scaling}_weight_decay_{decay}_n_epochs_40.pt" for scaling, decay in DECAYS
    ]
    with zenodo(tmp_path) as server:
        server.files = {str(registry[id].file): saved(state) for id, state in zip(SIX, states, strict=True)}
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        for name, value in server.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=rf"expected the weights file, got nothing.*weights fetch {SIX[0]}"):
            weights.load(SIX[0])
        for id in SIX:
            archives.fetch(id)
    for id, ours, state in zip(SIX, narrow, states, strict=True):
        torch.testing.assert_close(weights.load(id), state, rtol=0, atol=0)
        net = regularity.experiment.published(ours)
        torch.testing.assert_close(dict(net.state_dict()), state, rtol=0, atol=0)
    archives.place(SIX[0]).write_bytes(saved(states[1]))
    with pytest.raises(ValueError, match=r"expected sha256 \w+, got \w+\. Run: noisebook weights fetch"):
        weights.load(SIX[0])
