"""The deposit: everything that a record needs, the same bytes every time, and fetched again from there."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner
from zenodo_server import RECORD, zenodo

from noisebook import _paths, archives, cli, weights

ROOT = Path(__file__).parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_deposit_is_whole_and_deterministic(tmp_path: Path) -> None:
    """It holds every network, its card, licences, metadata and right checksums; a second one has the same bytes."""
    files = weights.deposit(tmp_path / "a", ROOT)
    found = contents(tmp_path / "a")
    assert sorted(found) == [path.name for path in files]
    texts = {".zenodo.json", "LICENSE", "LICENSE-text.md", "README.md", "SHA256SUMS", "model-cards.md"}
    assert set(found) == texts | {"registry-external.yaml"} | {entry.file for entry in weights.embedded()}
    sums = dict(line.split("  ")[::-1] for line in found["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name != "SHA256SUMS"}
    for entry in weights.embedded():
        assert sums[entry.file] == entry.sha256
        assert weights.model_card(entry.id).encode() in found["model-cards.md"]
    about = json.loads(found[".zenodo.json"])
    assert {"title", "upload_type", "license", "creators", "description", "version"} <= set(about)
    assert about["license"] == "cc-by-4.0"
    (tmp_path / "a" / "old.txt").write_bytes(b"of an earlier deposit")
    weights.deposit(tmp_path / "a", ROOT)
    weights.deposit(tmp_path / "b", ROOT)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_no_deposit_is_left_alone(tmp_path: Path) -> None:
    """A folder of other things, a file, a registry that lies, and a clone without licences are refused."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_bytes(b"x")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(ValueError, match="expected an empty folder or an earlier deposit, got something else"):
            weights.deposit(out, ROOT)
    with pytest.raises(ValueError, match="expected the licences and CITATION"):
        weights.deposit(tmp_path / "new", tmp_path)
    shutil.copytree(_paths.DATA / "weights", tmp_path / "data" / "weights")
    (tmp_path / "data" / "registry.yaml").write_bytes((_paths.DATA / "registry.yaml").read_bytes())
    next((tmp_path / "data" / "weights").glob("*.safetensors")).write_bytes(b"other")
    with pytest.raises(ValueError, match=r"expected a registry that agrees with its files, got .*another size or"):
        weights.deposit(tmp_path / "new", ROOT, tmp_path / "data")
    assert not (tmp_path / "new").exists()


def test_the_command_writes_it_in_a_clone_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``noisebook weights deposit`` names the files; without a clone it says what it needs."""
    shown = CliRunner().invoke(cli.app, ["weights", "deposit", "--out", str(tmp_path / "out")])
    assert shown.exit_code == 0
    assert str(tmp_path / "out" / "SHA256SUMS") in shown.output
    monkeypatch.setattr(_paths, "clone", lambda: None)
    refused = CliRunner().invoke(cli.app, ["weights", "deposit"])
    assert (refused.exit_code, "needs a clone" in refused.output) == (2, True)


def test_deposited_networks_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of the record in the deposit's rows, ``fetch`` brings a network that loads alike."""
    weights.deposit(tmp_path / "out", ROOT)
    rows = yaml.safe_load((tmp_path / "out" / "registry-external.yaml").read_text())
    tables = yaml.safe_load((_paths.DATA / "registry.yaml").read_text())
    tables["external"] = [row | {"record": RECORD} for row in rows]
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(tables))
    row = rows[0]
    with zenodo(tmp_path) as server:
        server.files = contents(tmp_path / "out")
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        for name, value in server.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        archives.fetch(row["id"], data=tmp_path)
    fetched = weights.load(row["id"], tmp_path)
    torch.testing.assert_close(fetched, weights.load(row["embedded"]), rtol=0, atol=0)
