"""What the CycleGAN chapter's notebook shows: slices and nets by where they come from, pictures, curves, checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cyclegan_training import TINY, scans
from test_cyclegan_verdicts import published, study

from noisebook import datasets, dicom, embedded
from noisebook.papers import cyclegan
from noisebook.papers.cyclegan import show


def write_mu(root: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """The authors' folders, two slices each."""
    for seed, part in enumerate(parts):
        data = scans(2, seed)
        for dose, hu in (("quarter_dose", data.quarter), ("full_dose", data.full)):
            (root / part / dose).mkdir(parents=True)
            for k, image in enumerate(hu):
                np.save(root / part / dose / f"{k}.npy", cyclegan.to_mu(image))
    return root


def write_archive(root: Path, count: int) -> Path:
    """Patients in the layout of the TCIA collection, two slices a dose."""
    for k in range(count):
        data = scans(2, k)
        for dose, hu in (("Low", data.quarter), ("Full", data.full)):
            place = root / datasets.ARCHIVE / f"L{k:03d}" / "study" / f"1-{dose} Dose Images-1"
            title = f"{dose} Dose Images"
            dicom.write_series(place, hu.round(), (3, 1, 1), [0, 3], patient=f"L{k:03d}", description=title)
    return root


def test_files_of_mu_are_measured(tmp_path: Path) -> None:
    """The test part, without a truth; the training part is what is learnt from, and nothing is watched."""
    write_mu(tmp_path)
    test, truth = cyclegan.measured_scans(str(tmp_path))
    np.testing.assert_allclose(test.quarter, scans(2, 1).quarter, atol=1e-2)
    assert truth is None
    training, watched = cyclegan.training_scans(str(tmp_path))
    np.testing.assert_allclose(training.full, scans(2, 0).full, atol=1e-2)
    assert watched == {}


def test_files_of_mu_must_not_test_what_they_train(tmp_path: Path) -> None:
    """The same slice in both parts is refused."""
    write_mu(tmp_path)
    same = np.load(tmp_path / "train" / "full_dose" / "0.npy")
    np.save(tmp_path / "test" / "full_dose" / "1.npy", same)
    with pytest.raises(ValueError, match="test: expected slices that are not trained on, got 1 in both"):
        cyclegan.training_scans(str(tmp_path))


def test_the_last_patients_of_an_archive_are_measured(tmp_path: Path) -> None:
    """Five test, five before them validate with a slice each, the rest train; a prefix chooses."""
    write_archive(tmp_path, 11)
    test, truth = cyclegan.measured_scans(str(tmp_path), prefix="L")
    assert (sorted(set(test.patients)), truth) == ([f"L{k:03d}" for k in range(6, 11)], None)
    training, watched = cyclegan.training_scans(str(tmp_path), "L")
    assert set(training.patients) == {"L000"}
    assert watched["validation"].patients == tuple(f"L{k:03d}" for k in range(1, 6))
    with pytest.raises(ValueError, match=r"a folder a patient named N…"):
        cyclegan.measured_scans(str(tmp_path), prefix="N")


def test_simulated_slices_have_a_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a recipe, at both doses and without noise."""
    asked = []

    def given(label: str = "full", recipe: embedded.CtRecipe = embedded.TEST) -> cyclegan.Scans:
        asked.append((label, recipe))
        return scans(2)

    monkeypatch.setattr(show, "embedded_test", given)
    _, truth = cyclegan.measured_scans(recipe="smoke")
    assert truth is not None
    assert asked == [("full", embedded.SMOKE), ("noise free", embedded.SMOKE)]
    with pytest.raises(ValueError, match="recipe: expected one of"):
        cyclegan.measured_scans(recipe="tiny")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny nets in place of the authors'."""
    monkeypatch.setattr(show, "AUTHORS", replace(TINY, epochs=1, crops=1))


@pytest.mark.usefixtures("small")
def test_all_three_nets_are_trained_on_own_data(tmp_path: Path) -> None:
    """At the authors' sizes, here tiny; the second time they are only read."""
    write_mu(tmp_path / "data")
    data = (str(tmp_path / "data"),)
    found = cyclegan.family("train", tmp_path / "w", "cpu", data=data)
    assert list(found.nets) == list(cyclegan.EMBEDDED)
    assert [nets.f2q is None for nets in found.nets.values()] == [False, True, True]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*.pt")}
    assert len(stamps) == 3
    cyclegan.family("train", tmp_path / "w", "cpu", data=data)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*.pt")} == stamps


@pytest.mark.usefixtures("small")
def test_a_checkpoint_takes_the_place_of_the_cyclegan(tmp_path: Path) -> None:
    """With both generators; one alone is refused, as are unknown sources."""
    write_mu(tmp_path / "data")
    data, place = (str(tmp_path / "data"),), tmp_path / "authors.pth"
    states = {f"{name}_state_dict": cyclegan.Generator(3).state_dict() for name in ("G_Q2F", "G_F2Q")}
    torch.save(states, place)
    found = cyclegan.family("train", tmp_path / "w", "cpu", checkpoint=str(place), data=data)
    kernel = found.nets["cyclegan-small"].q2f.state_dict()["first_layer.1.weight"]
    torch.testing.assert_close(kernel, states["G_Q2F_state_dict"]["first_layer.1.weight"])
    torch.save({"G_Q2F_state_dict": states["G_Q2F_state_dict"]}, place)
    with pytest.raises(ValueError, match="expected both generators, got G_Q2F_state_dict only"):
        cyclegan.family("train", tmp_path / "w", "cpu", checkpoint=str(place), data=data)
    with pytest.raises(ValueError, match="nets: expected one of embedded, train"):
        cyclegan.family("download", tmp_path)


def test_published_configurations_are_the_authors() -> None:
    """The CycleGAN is the authors' own; the twins have its size and are registered, one of them aside."""
    names = list(cyclegan.EMBEDDED)
    assert cyclegan.published(names[0], 3) == replace(cyclegan.AUTHORS, seed=3)
    assert [cyclegan.published(name).shift for name in names] == [0, 0, 8]
    assert [cyclegan.published(name).supervised for name in names] == [False, True, True]


def test_sizes_are_counted_on_the_modules() -> None:
    """The authors' column is that of claim C9."""
    table = cyclegan.geometry_table()
    assert table["the authors'"][0] == "1,958,497"
    assert table["the authors'"][2:] == ["2,761,728", "70", "8 x 8"]
    assert len(table["embedded"]) == 5


def test_unpaired_crops_are_of_other_patients() -> None:
    """Two rows of as many crops; unknown patients are shuffled."""
    panels = cyclegan.unpaired_panels(scans(4), 3, 0)
    assert [panel.title for panel in panels] == [f"{d} dose, crop {k}" for d in ("quarter", "full") for k in (1, 2, 3)]
    assert all(panel.image.shape == (128, 128) for panel in panels)
    data = scans(2)
    assert len(cyclegan.unpaired_panels(cyclegan.Scans(data.quarter, data.full), 1, 0)) == 2


def test_differences_stand_below_their_images() -> None:
    """From the last image, with their RMSE in the title."""
    image = np.zeros((4, 4), np.float32)
    panels = cyclegan.beside({"a": image + 3, "b": image - 4, "truth": image})
    assert [panel.title.replace("\n", " ") for panel in panels] == [
        *("a", "b", "truth"),
        *("minus truth RMSE 3.0 HU", "minus truth RMSE 4.0 HU"),
    ]
    assert [panel.signed for panel in panels] == [False] * 3 + [True] * 2


def test_curves_are_means_over_seeds() -> None:
    """Losses stand beside their balance, spectra beside both doses, discriminators alone by step, all with bars."""
    lines = cyclegan.losses(study())
    assert [line.label for line in lines] == ["generators", "balance, 0.25", "discriminators, sum", "balance, 0.5"]
    assert lines[0].y == pytest.approx([0.26] * 4)
    found = cyclegan.columns(cyclegan.spectra(study()), "frequency")
    assert list(found) == ["frequency", "quarter dose", "full dose", "CycleGAN", "registered pairs"]
    assert [float(values[0]) for values in list(found.values())[1:]] == pytest.approx([4, 1, 1.1, 0.3])
    alone = cyclegan.told_apart(published()["critics"], 50)
    assert [line.x.tolist() for line in alone] == [[50, 100]] * 2
    assert [float(line.y[-1]) for line in alone] == [0.53, 0.3]
    rows, gan = study(), study()["kind"] == cyclegan.UNPAIRED
    for name, drawn in {"adversarial": cyclegan.losses, "power": cyclegan.spectra}.items():
        rows[name][gan] += np.array([-1.0, 0.0, 1.0])[:, None]
        of_seeds = next(line for line in drawn(rows) if line.spread is not None)
        assert of_seeds.spread == pytest.approx(np.ones_like(of_seeds.y))
    critics = {"seed": np.array([0, 1, 0, 1]), "kind": np.repeat([0, 1], 2), "loss": np.array([[0.1, 0.5, 0.3, 0.3]]).T}
    assert cyclegan.told_apart(critics, 50)[0].spread == pytest.approx([0.4 / 2**0.5])


def test_both_choices_of_an_epoch_stand_side_by_side() -> None:
    """The validation's epoch and its test score, and the test set's own, which is never worse."""
    lines, table = cyclegan.choices(study())
    assert len(lines) == 6
    assert table["epoch by validation"] == [4] * 3
    assert table["epoch by test"] == [3] * 3
    assert table["its test RMSE / HU"] == ["21.00"] * 3
    assert table["its test RMSE / HU, optimistic"] == ["20.00"] * 3


def test_displacements_have_names() -> None:
    """One group a displacement, in its order."""
    groups = cyclegan.aside(published()["registration"])
    assert {name: values.tolist() for name, values in groups.items()} == {
        "0 px": pytest.approx([0.5]),
        "4 px": pytest.approx([1.0]),
        "512 px": pytest.approx([2.0]),
    }


def test_ways_there_and_back_are_shown() -> None:
    """Generators that add nothing lose nothing; a supervised net has no way back."""
    net, hu = cyclegan.Generator(2, 1, last=0.0).eval(), scans(1).quarter[0]
    panels = cyclegan.around(cyclegan.Nets(net, net), hu, hu)
    assert len(panels) == 4
    assert all(np.abs(panel.image).max() < 1e-3 for panel in panels)
    with pytest.raises(ValueError, match="nets: expected both generators, got a supervised net"):
        cyclegan.around(cyclegan.Nets(net), hu, hu)


def test_a_net_that_is_not_the_studys_is_told() -> None:
    """Within two per cent of the RMSE of seed 0 it passes, beyond it does not."""
    rows = study() | {"seed": np.repeat([0, 1, 2], 3)}
    truth = np.zeros((10, 8, 8), np.float32)
    cyclegan.check_rows(rows, {cyclegan.UNPAIRED: truth + 14.1}, truth)
    with pytest.raises(ValueError, match=r"RMSE of kind 0: expected 14.000 HU, as precomputed, got 15.000 HU"):
        cyclegan.check_rows(rows, {cyclegan.UNPAIRED: truth + 15}, truth)
