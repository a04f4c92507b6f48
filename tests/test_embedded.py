"""The embedded CT data: physical, deterministic, atomic, read by the real archive's loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisebook import datasets, dicom, simulated

TINY = replace(simulated.SMOKE, patients=(3, 4), slices=2, pixels=48, views=60, channels=64, photons=4e6)
KNOWN = (-663.40, 443.70)  # HU


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    return tmp_path


def test_the_archives_loader_reads_it(cache: Path) -> None:
    """Patients, pairs of both labels, spacing and positions come back through `datasets` as the recipe says."""
    root = simulated.embedded_ct(TINY, progress=False)
    assert datasets.ct_patients(root) == ["SIM003", "SIM004"]
    for label in ("full", "noise free"):
        pair = datasets.ct_pairs(root, "SIM003", label=label)
        assert pair.low.shape == pair.label.shape == (2, 48, 48)
        assert pair.spacing_mm == pytest.approx((35.0, 8.0, 8.0))
        np.testing.assert_allclose(pair.positions_mm, TINY.positions_mm(3))


def test_noise_of_the_doses_is_as_physics_says() -> None:
    """Quarter dose has twice the noise of full dose, and shares noise with it: a correlation of one half."""
    scans = [simulated.simulate(TINY, patient, -60.0) for patient in range(4)]
    full, low = (np.concatenate([(s[k] - s[2])[18:30, 18:30].ravel() for s in scans]) for k in (0, 1))
    assert low.std() / full.std() == pytest.approx(2, rel=0.15)
    assert np.corrcoef(full, low)[0, 1] == pytest.approx(0.5, abs=0.12)


def test_the_same_recipe_gives_the_same_files(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made twice, every file has the same bytes; made again in one place, nothing is written."""
    first = simulated.embedded_ct(TINY, progress=False)
    times = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    assert simulated.embedded_ct(TINY, progress=False) == first
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == times
    monkeypatch.setenv("NOISEBOOK_CACHE", str(cache / "other"))
    second = simulated.embedded_ct(TINY, progress=False)
    files = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
    assert len(files) == 2 * 3 * 2 + 1
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_recipe_means_these_pixels() -> None:
    """The mean and spread of one slice are the known ones: when they change, `simulated.VERSION` must rise."""
    image = simulated.simulate(replace(TINY, photons=1e9), 3, -60.0)[2]
    assert simulated.VERSION == 2
    assert float(image.mean()) == pytest.approx(KNOWN[0], abs=0.05)
    assert float(image.std()) == pytest.approx(KNOWN[1], abs=0.05)


def test_an_interrupted_simulation_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in the second patient leaves no folder, finished or partial, and the next call completes."""
    write, calls = dicom.write_series, []

    def failing(*arguments: object, **settings: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return write(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(dicom, "write_series", failing)
    with pytest.raises(KeyboardInterrupt):
        simulated.embedded_ct(TINY, progress=False)
    assert list((cache / "data").iterdir()) == []
    made = simulated.embedded_ct(TINY, progress=False)
    assert datasets.ct_patients(made) == ["SIM003", "SIM004"]
    times = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        simulated.embedded_ct(TINY, progress=False, again=True)
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*")} == times
    simulated.embedded_ct(TINY, progress=False, again=True)
    assert list((cache / "data").iterdir()) == [made]
    assert all(file.stat().st_mtime_ns > time for file, time in times.items())


def test_recipes_have_ids_of_their_own_and_bad_ones_are_refused() -> None:
    """Every recipe's id differs; training and test patients do not overlap; impossible numbers raise."""
    assert len({recipe.id for recipe in (*simulated.RECIPES.values(), TINY)}) == 4
    assert not set(simulated.TRAIN.patients) & set(simulated.TEST.patients)
    assert len(simulated.TRAIN.patients) == 45
    assert simulated.named("smoke") is simulated.SMOKE
    with pytest.raises(
        ValueError, match=r"recipe: expected one of smoke, test, train, got 'tset'\. Did you mean 'test'"
    ):
        simulated.named("tset")
    assert simulated.named_xray("smoke") is simulated.XRAY_SMOKE
    with pytest.raises(ValueError, match=r"recipe: expected one of .*, got 'smok'\. Did you mean 'smoke'"):
        simulated.named_xray("smok")
    with pytest.raises(ValueError, match="pixels: expected a number above zero, got 0"):
        replace(TINY, pixels=0)
