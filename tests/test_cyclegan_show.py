"""What the CycleGAN chapter's notebook shows: slices and nets by where they come from, pictures, curves, checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cyclegan_training import NETWORKS, PAIRED, TINY, scans
from test_cyclegan_verdicts import published, study

from noisebook import datasets, dicom, simulated
from noisebook.papers import cyclegan


def write_mu(root: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """The authors' folders, two slices each."""
    for seed, part in enumerate(parts):
        data = scans(2, seed)
        for dose, hu in (("quarter_dose", data.quarter), ("full_dose", data.full)):
            (root / part / dose).mkdir(parents=True)
            for k, image in enumerate(hu):
                np.save(root / part / dose / f"{k}.npy", ((image.astype(float) / 1000 + 1) * 0.0192).astype(np.float32))
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
    """The test part, without a truth; the training part is what is learnt from, and nothing is scored."""
    write_mu(tmp_path)
    test, truth = cyclegan.data.measured_scans(str(tmp_path))
    np.testing.assert_allclose(test.quarter, scans(2, 1).quarter, atol=1e-2)
    assert truth is None
    given = cyclegan.data.training_split(str(tmp_path))
    np.testing.assert_allclose(given.training.full, scans(2, 0).full, atol=1e-2)
    assert given.scored == {}


def test_files_of_mu_must_not_test_what_they_train(tmp_path: Path) -> None:
    """The same slice in both parts is refused."""
    write_mu(tmp_path)
    same = np.load(tmp_path / "train" / "full_dose" / "0.npy")
    np.save(tmp_path / "test" / "full_dose" / "1.npy", same)
    with pytest.raises(ValueError, match="test: expected slices that are not trained on, got 1 in both"):
        cyclegan.data.training_split(str(tmp_path))


def test_the_last_patients_of_an_archive_are_measured(tmp_path: Path) -> None:
    """Five test, five before them validate with a slice each, the rest train; a prefix chooses."""
    write_archive(tmp_path, 11)
    test, truth = cyclegan.data.measured_scans(str(tmp_path), prefix="L")
    assert (sorted(set(test.patients)), truth) == ([f"L{k:03d}" for k in range(6, 11)], None)
    given = cyclegan.data.training_split(str(tmp_path), "L")
    assert set(given.training.patients) == {"L000"}
    assert given.scored["validation"].patients == tuple(f"L{k:03d}" for k in range(1, 6))
    with pytest.raises(ValueError, match=r"a folder a patient named N…"):
        cyclegan.data.measured_scans(str(tmp_path), prefix="N")


def test_simulated_slices_have_a_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a recipe, at both doses and without noise."""
    asked = []

    def given(label: str = "full", recipe: simulated.CtRecipe = simulated.TEST) -> cyclegan.data.Scans:
        asked.append((label, recipe))
        return scans(2)

    monkeypatch.setattr(cyclegan.data, "embedded_test", given)
    _, truth = cyclegan.data.measured_scans(recipe="smoke")
    assert truth is not None
    assert asked == [("full", simulated.SMOKE), ("noise free", simulated.SMOKE)]
    with pytest.raises(ValueError, match="recipe: expected one of"):
        cyclegan.data.measured_scans(recipe="tiny")


def test_all_three_networks_are_trained_on_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the authors' sizes, here tiny; the second time they are only read."""
    authors = {"cyclegan-small": TINY, "cyclegan-paired": PAIRED, "cyclegan-shifted": replace(PAIRED, shift=8)}
    for name, config in authors.items():
        monkeypatch.setitem(NETWORKS.authors, name, replace(config, epochs=1))
    given = cyclegan.data.training_split(str(write_mu(tmp_path / "data")))
    found = NETWORKS.chosen("train", tuple(authors), tmp_path / "w", given, identity="mine", device="cpu")
    assert [nets.f2q is None for nets in found.values()] == [False, True, True]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*.pt")}
    assert len(stamps) == 3
    NETWORKS.chosen("train", tuple(authors), tmp_path / "w", given, identity="mine", device="cpu")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*.pt")} == stamps
    with pytest.raises(ValueError, match="networks: expected one of embedded, train"):
        NETWORKS.chosen("published", tuple(authors), tmp_path)


def test_a_checkpoint_takes_the_place_of_the_cyclegan(tmp_path: Path) -> None:
    """With both generators; one alone is refused."""
    place = tmp_path / "authors.pth"
    states = {f"{name}_state_dict": cyclegan.model.Generator(3).state_dict() for name in ("G_Q2F", "G_F2Q")}
    torch.save(states, place)
    kernel = cyclegan.model.from_authors(place, both=True).q2f.state_dict()["first_layer.1.weight"]
    torch.testing.assert_close(kernel, states["G_Q2F_state_dict"]["first_layer.1.weight"])
    torch.save({"G_Q2F_state_dict": states["G_Q2F_state_dict"]}, place)
    with pytest.raises(ValueError, match=r"authors\.pth: expected G_F2Q_state_dict, got G_Q2F_state_dict\."):
        cyclegan.model.from_authors(place, both=True)


def test_published_configurations_are_the_authors() -> None:
    """The CycleGAN is the authors' own; the paired baselines have its size, one of them on misaligned pairs."""
    configs = list(NETWORKS.authors.values())
    assert configs[0] == cyclegan.experiment.AUTHORS
    assert [config.shift for config in configs] == [0, 0, 8]
    assert [config.supervised for config in configs] == [False, True, True]
    assert list(NETWORKS.authors) == list(cyclegan.experiment.SHIPPED)


def test_sizes_are_counted_on_the_modules() -> None:
    """The authors' column is that of claim C9."""
    table = cyclegan.figures.geometry_table()
    assert table["the authors'"][0] == "1,958,497"
    assert table["the authors'"][2:] == ["2,761,728", "70", "8 x 8"]
    assert len(table["embedded"]) == 5


def test_unpaired_crops_are_of_other_patients() -> None:
    """Two rows of as many crops; unknown patients are shuffled."""
    panels = cyclegan.figures.unpaired_panels(scans(4), 3, 0)
    assert [panel.title for panel in panels] == [f"{d} dose, crop {k}" for d in ("quarter", "full") for k in (1, 2, 3)]
    assert all(panel.image.shape == (128, 128) for panel in panels)
    data = scans(2)
    assert len(cyclegan.figures.unpaired_panels(cyclegan.data.Scans(data.quarter, data.full), 1, 0)) == 2


def test_differences_stand_below_their_images() -> None:
    """From the last image, with their RMSE in the title."""
    image = np.zeros((4, 4), np.float32)
    panels = cyclegan.figures.beside({"a": image + 3, "b": image - 4, "truth": image})
    assert [panel.title.replace("\n", " ") for panel in panels] == [
        *("a", "b", "truth"),
        *("minus truth RMSE 3.0 HU", "minus truth RMSE 4.0 HU"),
    ]
    assert [panel.signed for panel in panels] == [False] * 3 + [True] * 2


def test_curves_are_means_over_seeds() -> None:
    """Losses stand beside their balance, spectra beside both doses, discriminators alone by step, all with bars."""
    lines = cyclegan.figures.losses(study())
    assert [line.label for line in lines] == ["generators", "balance, 0.25", "discriminators, sum", "balance, 0.5"]
    assert lines[0].y == pytest.approx([0.26] * 4)
    found = cyclegan.figures.columns(cyclegan.figures.spectra(study()), "frequency")
    assert list(found) == ["frequency", "quarter dose", "full dose", "CycleGAN", "registered pairs"]
    assert [float(values[0]) for values in list(found.values())[1:]] == pytest.approx([4, 1, 1.1, 0.3])
    alone = cyclegan.figures.critics_alone(published()["critics"], 50)
    assert [line.x.tolist() for line in alone] == [[50, 100]] * 2
    assert [float(line.y[-1]) for line in alone] == [0.53, 0.3]
    rows, gan = study(), study()["kind"] == cyclegan.measures.UNPAIRED
    for name, drawn in {"adversarial": cyclegan.figures.losses, "power": cyclegan.figures.spectra}.items():
        rows[name][gan] += np.array([-1.0, 0.0, 1.0])[:, None]
        of_seeds = next(line for line in drawn(rows) if line.spread is not None)
        assert of_seeds.spread == pytest.approx(np.ones_like(of_seeds.y))
    critics = {"seed": np.array([0, 1, 0, 1]), "kind": np.repeat([0, 1], 2), "loss": np.array([[0.1, 0.5, 0.3, 0.3]]).T}
    assert cyclegan.figures.critics_alone(critics, 50)[0].spread == pytest.approx([0.4 / 2**0.5])


def test_both_choices_of_an_epoch_stand_side_by_side() -> None:
    """The validation's epoch and its test score, and the test set's own, which is never worse."""
    lines, table = cyclegan.figures.choices(study())
    assert len(lines) == 6
    assert table["epoch by validation"] == [4] * 3
    assert table["epoch by test"] == [3] * 3
    assert table["its test RMSE / HU"] == ["21.00"] * 3
    assert table["its test RMSE / HU, optimistic"] == ["20.00"] * 3


def test_displacements_have_names() -> None:
    """One group a displacement, in its order."""
    groups = cyclegan.figures.misaligned(published()["registration"])
    assert {name: values.tolist() for name, values in groups.items()} == {
        "0 px": pytest.approx([0.5]),
        "4 px": pytest.approx([1.0]),
        "512 px": pytest.approx([2.0]),
    }


def test_ways_there_and_back_are_shown() -> None:
    """Generators that add nothing lose nothing; a supervised net has no way back."""
    net, hu = cyclegan.model.Generator(2, 1, last=0.0).eval(), scans(1).quarter[0]
    panels = cyclegan.figures.around(cyclegan.model.Nets(net, net), hu, hu)
    assert len(panels) == 4
    assert all(np.abs(panel.image).max() < 1e-3 for panel in panels)
    with pytest.raises(ValueError, match="nets: expected both generators, got a supervised net"):
        cyclegan.figures.around(cyclegan.model.Nets(net), hu, hu)


def test_networks_are_compared_with_the_study() -> None:
    """What they make now, and the study's RMSE for seed 0."""
    rows = study() | {"seed": np.repeat([0, 1, 2], 3)}
    truth = np.zeros((10, 8, 8), np.float32)
    now, stored = cyclegan.measures.rows_again(rows, {cyclegan.measures.UNPAIRED: truth + 14.1}, truth)
    assert (now, stored) == (pytest.approx([14.1]), pytest.approx([14]))
