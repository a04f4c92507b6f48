"""Weights: nothing is opened before it is verified, and the registry agrees with the files."""

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from torch import nn

from noisebook import _paths, dicom, weights

FIELDS: dict[str, Any] = {
    "chapter": "linearized",
    "file": "net.safetensors",
    "architecture": "One 3 x 3 convolution of 2 channels.",
    "config": {"channels": 2, "levels": [1, 2], "scale": 1e-5},
    "schedule": "MSE, Adam, 10 steps.",
    "training_data": "ct-0",
    "trained_on": {"value": weights.Range("HU", -1100.0, 2000.0)},
    "seed": 1,
}


def network(channels: int = 2, seed: int = 0) -> nn.Module:
    """A convolution with batch normalisation: float weights, running statistics and an integer counter."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with an empty registry."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "registry.yaml").write_text("embedded: []\nexternal: []\n")
    return tmp_path


@pytest.fixture
def net(data: Path) -> Path:
    """A data folder with one registered network, stored as float32."""
    weights.save(network().state_dict(), data / "weights" / "net.safetensors")
    weights.register("net", **FIELDS, data=data)
    return data


def change(data: Path, table: str = "embedded", **fields: object) -> None:
    """Edit the first entry of a table of the registry by hand."""
    tables = yaml.safe_load((data / "registry.yaml").read_text())
    tables[table][0] |= fields
    (data / "registry.yaml").write_text(yaml.safe_dump(tables))


def test_the_committed_registry_has_no_problems() -> None:
    """The registry of this repository agrees with its files, with the example in pydicom and with its own rules."""
    assert weights.check_registry() == []
    assert {"pydicom-head-ct", "tcia-ldct"} <= {entry.id for entry in weights.external()}
    example = {entry.id: entry for entry in weights.external()}["pydicom-head-ct"]
    assert str(dicom.shipped_example()).endswith(str(example.file))


def test_the_committed_registry_is_written_as_register_writes_it(tmp_path: Path) -> None:
    """Registering a network leaves the header and the external table byte for byte, so no edit of ours is lost."""
    before = (_paths.DATA / "registry.yaml").read_text()
    weights.save({"w": torch.zeros(1)}, tmp_path / "weights" / "net.safetensors")
    (tmp_path / "registry.yaml").write_text(before)
    weights.register("zzz", **FIELDS, data=tmp_path)
    after = (tmp_path / "registry.yaml").read_text()
    assert after.endswith(before[before.index("external:") :])
    assert after.startswith(before[: before.index("embedded:")])


def test_saved_weights_load_exactly(net: Path) -> None:
    """float32 weights survive saving, registering and loading bit for bit; integers stay integers."""
    state = weights.load("net", net)
    torch.testing.assert_close(state, dict(network().state_dict()), rtol=0, atol=0)
    assert state["1.num_batches_tracked"].dtype == torch.int64


def test_half_precision_is_loaded_as_float32(data: Path) -> None:
    """float16 files are half the size, load as float32 and differ by at most the rounding of float16."""
    state = network().state_dict()
    whole = weights.save(state, data / "weights" / "whole.safetensors").stat().st_size
    half = weights.save(state, data / "weights" / "net.safetensors", half=True).stat().st_size
    assert half < whole
    entry = weights.register("net", **FIELDS, half_precision_change="0.001 HU rms.", data=data)
    assert entry.precision == "float16"
    loaded = weights.load("net", data)
    assert {v.dtype for v in loaded.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(loaded, dict(state), rtol=2**-11, atol=1e-7)


def test_equal_weights_give_equal_bytes(data: Path) -> None:
    """The order of the tensors and their memory layout do not show in the file; no other file is left behind."""
    state = dict(network().state_dict())
    turned = {
        name: state[name].t().contiguous().t() if state[name].ndim == 2 else state[name] for name in reversed(state)
    }
    one, two = weights.save(state, data / "a.safetensors"), weights.save(turned, data / "b.safetensors")
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in data.iterdir()) == ["a.safetensors", "b.safetensors", "registry.yaml", "weights"]


def test_saving_refuses_what_cannot_be_stored(data: Path) -> None:
    """No tensor, NaN, and values beyond float16 are errors, and no file appears."""
    for state, half, text in (
        ({}, False, "state: expected at least one tensor"),
        ({"w": torch.tensor([float("nan")])}, False, "w: expected finite values"),
        ({"w": torch.tensor([1e6])}, True, "w: expected finite values"),
    ):
        with pytest.raises(ValueError, match=text):
            weights.save(state, data / "x.safetensors", half=half)
    assert not (data / "x.safetensors").exists()


def test_register_measures_the_file(net: Path) -> None:
    """Size, sha256, number of trained values and precision come from the file; the rest is kept."""
    entry = weights.metadata("net", net)
    content = (net / "weights" / "net.safetensors").read_bytes()
    assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert entry.parameters == sum(p.numel() for p in network().parameters())
    assert entry.precision == "float32"
    assert {name: getattr(entry, name) for name in FIELDS} == FIELDS
    assert weights.check_registry(net) == []


def test_registering_is_deterministic_and_replaces(net: Path) -> None:
    """The same entries give the same bytes in any order of registering; an id that exists is replaced, others kept."""
    weights.register("other", **FIELDS, data=net)
    first = (net / "registry.yaml").read_bytes()
    weights.register("net", **FIELDS, data=net)
    assert (net / "registry.yaml").read_bytes() == first
    weights.register("net", **FIELDS | {"seed": 2, "config": {"sizes": (1, 2)}}, data=net)
    assert [(entry.id, entry.seed) for entry in weights.embedded(net)] == [("net", 2), ("other", 1)]
    assert weights.metadata("net", net).config == {"sizes": [1, 2]}


def test_embedding_measures_what_halving_changes(data: Path) -> None:
    """A weight of 1 + 2^-12 is stored as 1: the outcome changes by 0.00024; file, entry and net hold the halved one."""
    one = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(one.weight, 1 + 2**-12)
    described = {name: value for name, value in FIELDS.items() if name != "file"}
    entry = weights.embed("one", one, lambda net: net(torch.ones(3, 1)).detach(), "a unit", data=data, **described)
    assert (entry.file, entry.precision) == ("one.safetensors", "float16")
    assert entry.half_precision_change == "0.00024 a unit"
    assert float(weights.load("one", data)["weight"]) == float(one.weight.detach()) == 1.0


def test_register_refuses_what_the_check_would(data: Path) -> None:
    """A missing file, a foreign file, float16 without its change, an empty field, an odd config: errors, no entry."""
    with pytest.raises(ValueError, match=r"net\.safetensors: expected a weights file, got nothing there"):
        weights.register("net", **FIELDS, data=data)
    path = data / "weights" / "net.safetensors"
    path.write_bytes(b"\x80\x02pickle")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        weights.register("net", **FIELDS, data=data)
    weights.save(network().state_dict(), path, half=True)
    with pytest.raises(ValueError, match="float16 without a measured half_precision_change"):
        weights.register("net", **FIELDS, data=data)
    weights.save(network().state_dict(), path)
    with pytest.raises(ValueError, match="schedule is empty"):
        weights.register("net", **FIELDS | {"schedule": ""}, data=data)
    with pytest.raises(ValueError, match="config: expected plain numbers"):
        weights.register("net", **FIELDS | {"config": {"a": torch.zeros(1)}}, data=data)
    assert weights.embedded(data) == []


def test_files_are_verified_before_they_are_parsed(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, of another size, or of the right size with one other bit never reaches the parser."""
    monkeypatch.setattr("safetensors.torch.load", lambda content: pytest.fail("parsed before verified"))
    path = net / "weights" / "net.safetensors"
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=rf"net\.safetensors: expected {len(content)} bytes, got {len(content) + 1}"):
        weights.load("net", net)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"net\.safetensors: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        weights.load("net", net)
    path.unlink()
    with pytest.raises(ValueError, match=r"net\.safetensors: expected the weights file, got nothing there"):
        weights.load("net", net)


def test_a_pickle_does_not_run(net: Path, tmp_path: Path) -> None:
    """A pickle under a name and checksum of the registry is refused and not executed."""
    canary = tmp_path / "canary"
    path = net / "weights" / "net.safetensors"
    torch.save(_Canary(str(canary)), path)
    change(net, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="expected a safetensors file"):
        weights.load("net", net)
    assert not canary.exists()
    torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert canary.exists()


class _Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_unknown_ids_name_the_nearest(net: Path) -> None:
    """load, metadata and model_card refuse an unknown id and name the nearest known one."""
    for call in (weights.load, weights.metadata, weights.model_card):
        with pytest.raises(ValueError, match=r"weights: expected one of net, got 'nett'\. Did you mean 'net'"):
            call("nett", net)


def test_into_loads_strictly(net: Path) -> None:
    """All values of the module become those of the file, and the module itself is returned."""
    module = network(seed=7)
    assert weights.into(module, weights.load("net", net)) is module
    torch.testing.assert_close(dict(module.state_dict()), dict(network().state_dict()), rtol=0, atol=0)


def test_into_names_missing_extra_and_misshaped() -> None:
    """The error names every kind of mismatch with its shapes, and the module is unchanged."""
    state = dict(network(3).state_dict())
    state["extra"] = state.pop("0.bias")
    module = network(2, seed=5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"state: expected the 7 tensors of Sequential") as caught:
        weights.into(module, state)
    for text in (
        "1 missing: 0.bias;",
        "1 left over: extra;",
        "of another shape: 0.weight (3, 1, 3, 3) for (2, 1, 3, 3)",
    ):
        assert text in str(caught.value)
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
    with pytest.raises(
        ValueError, match=r"7 missing: 0\.bias, 0\.weight, 1\.bias, 1\.num_batches_tracked, 1\.running_mean, …"
    ):
        weights.into(module, {})


EXTERNAL = dict.fromkeys(("record", "file", "size", "sha256", "md5", "embedded")) | {
    "id": "tcia",
    "kind": "data",
    "chapter": "linearized",
    "archive": "tcia",
    "doi": "10.7937/9NPB-2637",
    "licence": "see archive",
    "citation": "McCollough 2020",
    "preprocessing": {},
    "note": "",
}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "image"}, "tcia: kind is 'image', not data or weights"),
        ({"archive": "ftp"}, "tcia: archive is 'ftp', not one of zenodo"),
        ({"doi": None}, "tcia: neither record nor doi"),
        ({"doi": "https://doi.org/10.1/2"}, "tcia: doi does not start with 10."),
        ({"sha256": "ABC"}, "tcia: sha256 is not 64 hexadecimal digits"),
        ({"md5": "12"}, "tcia: md5 is not 32 hexadecimal digits"),
        ({"archive": "zenodo", "record": "10.5281/zenodo.1"}, "tcia: record is no number of Zenodo"),
        ({"file": "../evil"}, r"tcia: file '\.\./evil' is no plain name"),
        ({"licence": ""}, "tcia: licence or citation is empty"),
        ({"embedded": "nothing"}, "tcia: embedded 'nothing' is not in the registry"),
        ({"archive": "package", "record": "no_such"}, "tcia: None of the installed no_such is missing"),
        ({"archive": "package", "record": "numpy", "file": "x"}, "tcia: x of the installed numpy is missing"),
        ({"id": "net"}, "net: the id is given twice"),
        ({"size": "big"}, "size: expected int or null, got 'big'"),
        ({"preprocessing": None}, "preprocessing: expected dict, got None"),
        ({"url": "x"}, r"missing \[\], unknown \['url'\]"),
    ],
)
def test_each_fault_of_an_external_entry_is_told(net: Path, fields: dict[str, Any], text: str) -> None:
    """An external entry that breaks one rule gives a problem that names the entry and the rule; unbroken, none."""
    tables = yaml.safe_load((net / "registry.yaml").read_text())
    tables["external"] = [EXTERNAL]
    (net / "registry.yaml").write_text(yaml.safe_dump(tables))
    assert weights.check_registry(net) == []
    change(net, "external", **fields)
    assert any(re.search(text, problem) for problem in weights.check_registry(net))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"file": "../net.safetensors"}, "net: file '../net.safetensors' is no path of a .safetensors file"),
        ({"file": "/net.safetensors"}, "is no path of a .safetensors file"),
        ({"file": "net.pt"}, "is no path of a .safetensors file"),
        ({"file": "gone.safetensors"}, "net: data/weights/gone.safetensors is missing"),
        ({"sha256": "0" * 64}, "net: data/weights/net.safetensors has another size or sha256"),
        ({"size": 50_000_000}, "net: 50000000 bytes, more than 6000000"),
        ({"size": 50_000_000}, "data/weights: 50000000 bytes, more than 40000000"),
        ({"licence": ""}, "net: licence is empty"),
        ({"precision": "int8"}, "net: precision is 'int8'"),
        ({"precision": "float16"}, "net: stored as float16 without a measured half_precision_change"),
        ({"seed": True}, "seed: expected int, got True"),
    ],
)
def test_each_fault_of_an_embedded_entry_is_told(net: Path, fields: dict[str, Any], text: str) -> None:
    """An embedded entry that breaks one rule gives a problem that names the entry and the rule."""
    change(net, **fields)
    assert any(text in problem for problem in weights.check_registry(net))


def test_files_that_are_not_registered_are_told(net: Path) -> None:
    """A file in data/weights without an entry is a problem; a hidden file is not."""
    (net / "weights" / "old.safetensors").write_bytes(b"")
    (net / "weights" / ".gitkeep").write_bytes(b"")
    assert weights.check_registry(net) == ["data/weights/old.safetensors: not in the registry"]


def test_a_registry_that_is_none_is_told(data: Path) -> None:
    """A missing file, bad YAML and another structure are errors that name the file, and problems of the check."""
    path = data / "registry.yaml"
    for content, text in (
        (None, r"registry\.yaml: expected the registry, in YAML, got FileNotFoundError"),
        ("a: [", r"registry\.yaml: expected the registry, in YAML, got ParserError"),
        ("[]", "expected two lists of entries, embedded and external, got list"),
        ("embedded: 1\nexternal: []", "expected two lists of entries"),
        ("embedded: [1]\nexternal: []", "expected two lists of entries"),
    ):
        path.unlink(missing_ok=True) if content is None else path.write_text(content)
        for read in (weights.embedded, weights.external):
            with pytest.raises(ValueError, match=text):
                read(data)
        assert len(weights.check_registry(data)) == 1


def test_the_model_card_tells_everything(net: Path) -> None:
    """The card holds architecture, configuration, training, size, checksum, licence and how to load it."""
    card = weights.model_card("net", net)
    entry = weights.metadata("net", net)
    assert card.startswith("### net\n")
    for text in (
        entry.architecture,
        "channels = 2",
        entry.schedule,
        "Seed 1",
        entry.training_data,
        entry.sha256,
        "CC-BY",
    ):
        assert text in card
    assert "weights.load('net')" in card


def test_halved_weights_are_those_of_a_half_precision_file(tmp_path: Path) -> None:
    """What ``halved`` gives is what comes back from a file stored as float16; whole numbers stay as they are."""
    state = network().state_dict()
    stored = safetensors.torch.load_file(weights.save(state, tmp_path / "a.safetensors", half=True))
    found = weights.halved(state)
    assert found.keys() == stored.keys()
    for name, value in found.items():
        assert value.dtype == state[name].dtype
        torch.testing.assert_close(value, stored[name].to(value.dtype), rtol=0, atol=0)
    assert float(found["0.weight"].flatten()[0]) != float(state["0.weight"].flatten()[0])
