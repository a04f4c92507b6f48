"""Studies: a committed result counts only while its configuration, weights and version are the ones that made it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisebook import papers, studies
from noisebook.studies import Study

COMMITTED = sorted(studies.ROOT.glob("*/*.json"))


def spread(folder: Path, device: str, *, seeds: list[int], scale: float) -> dict[str, np.ndarray]:
    """One random number a seed."""
    (folder / "checkpoint").write_text(device)
    values = [np.random.default_rng(seed).normal(scale=scale) for seed in seeds]
    return {"seed": np.array(seeds), "value": np.array(values)}


def images(folder: Path, device: str, *, size: int) -> dict[str, np.ndarray]:
    """A ramp, and a number without axes."""
    return {"image": np.arange(size * size, dtype=np.float32).reshape(size, size), "one": np.float64(1)}


def known() -> dict[str, Study]:
    """The studies that the papers define, by chapter and name."""
    found = [study for name in papers.names() for study in papers.find(name).studies]
    return {f"{study.chapter}/{study.name}": study for study in found}


@pytest.fixture
def registry(tmp_path):
    """A registry with the weights ``net``."""
    file = tmp_path / "registry.yaml"
    file.write_text(json.dumps({"net": {"chapter": "tiny", "sha256": "aa"}}))
    return file


@pytest.fixture
def study():
    """A study of three seeds that uses the weights ``net``."""
    return Study("tiny", "spread", spread, {"seeds": [1, 2, 3], "scale": 2.0}, ("net",))


def test_no_committed_study_is_stale():
    """Every study that a paper defines has a committed result, made by the present version, config and weights."""
    assert [reason for study in known().values() for reason in studies.stale(study)] == []


def test_every_committed_result_belongs_to_a_study():
    """No result outlives the study that made it."""
    assert {f"{file.parent.name}/{file.stem}" for file in COMMITTED} <= set(known())


def test_checkpoints_of_other_inputs_do_not_count(study, registry, tmp_path):
    """Another configuration, other data and other weights each get a folder of their own to keep checkpoints in."""
    studies.make(study, tmp_path / "work", "cpu", tmp_path, registry)
    studies.make(study, tmp_path / "work", "cpu", tmp_path, registry)
    assert len(list((tmp_path / "work").iterdir())) == 1
    studies.make(replace(study, config={**study.config, "seeds": [9]}), tmp_path / "work", "cpu", tmp_path, registry)
    studies.make(replace(study, data="other"), tmp_path / "work", "cpu", tmp_path, registry)
    assert len(list((tmp_path / "work").iterdir())) == 3
    assert studies.stale(study, tmp_path, registry) == ["tiny/spread: data has changed"]


def test_a_result_comes_back_as_it_was_made(study, registry, tmp_path):
    """Number columns become a CSV that is read back bit for bit, with the record of its inputs."""
    result = studies.make(study, tmp_path / "work", "cpu", tmp_path, registry)
    arrays, record = studies.load("tiny", "spread", tmp_path)
    expected = spread(tmp_path, "cpu", **study.config)
    assert result == tmp_path / "tiny" / "spread.csv"
    assert [kept.read_text() for kept in (tmp_path / "work").glob("*/checkpoint")] == ["cpu"]
    for name, values in expected.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)
    assert (record["config"], record["device"], record["weights"]) == (study.config, "cpu", {"net": "aa"})
    assert studies.stale(study, tmp_path, registry) == []


def test_images_are_kept_as_npz(tmp_path):
    """Arrays that are no columns become an npz, whose bytes are equal each time."""
    study = Study("tiny", "images", images, {"size": 5})
    first = studies.make(study, tmp_path / "work", root=tmp_path / "a").read_bytes()
    assert studies.make(study, tmp_path / "work", root=tmp_path / "b").read_bytes() == first
    arrays = studies.read(study, tmp_path / "a")
    np.testing.assert_array_equal(arrays["image"], images(tmp_path, "cpu", size=5)["image"])
    assert arrays["one"].shape == ()


def test_every_change_of_inputs_makes_a_result_stale(study, registry, tmp_path):
    """Another configuration, version or weight, and a missing or changed result, are each named."""
    studies.make(study, tmp_path / "work", "cpu", tmp_path, registry)
    other_config = Study("tiny", "spread", spread, {"seeds": [1, 2], "scale": 2.0}, ("net",))
    assert studies.stale(other_config, tmp_path, registry) == ["tiny/spread: config has changed"]
    assert studies.stale(replace(study, version=2), tmp_path, registry) == ["tiny/spread: version has changed"]
    registry.write_text(json.dumps({"net": {"chapter": "tiny", "sha256": "bb"}}))
    assert studies.stale(study, tmp_path, registry) == ["tiny/spread: weights has changed"]
    (tmp_path / "tiny" / "spread.csv").write_text("seed,value\n1,1.0\n")
    assert "expected the recorded result" in studies.stale(study, tmp_path, registry)[0]
    assert "expected a record" in studies.stale(Study("tiny", "none", spread, {}), tmp_path, registry)[0]


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ({"seeds": {1, 2}}, (), "config of tiny/x: expected JSON values"),
        ({"scale": float("nan")}, (), "config of tiny/x: expected JSON values"),
        ({}, ("nett",), "weights of tiny/x: expected an id in data/registry.yaml, got 'nett'"),
    ],
)
def test_inputs_must_be_recordable(registry, config, weights, message):
    """What JSON cannot hold, and a weight that the registry does not know, are refused before anything runs."""
    with pytest.raises(ValueError, match=message):
        studies.inputs(Study("tiny", "x", spread, config, weights), registry)


def test_a_result_has_a_limit(tmp_path):
    """A result above 1 MB is refused and leaves nothing; so is an empty one."""
    noise = np.random.default_rng(0).normal(size=(500, 500))
    with pytest.raises(ValueError, match="result big: expected at most 1000000 bytes"):
        studies.write({"noise": noise}, tmp_path / "big")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="expected at least one array"):
        studies.write({}, tmp_path / "none")


def test_a_missing_result_says_what_to_run(tmp_path):
    """A result that is not there is an error with the command that makes it."""
    with pytest.raises(ValueError, match=r"study tiny/none: expected a record none.json, got none. Run: make studies"):
        studies.load("tiny", "none", tmp_path)


def test_a_study_is_found_by_its_name(study):
    """Among the studies of a chapter the one of that name is given."""
    other = replace(study, name="other")
    assert studies.named((other, study), study.name) is study
