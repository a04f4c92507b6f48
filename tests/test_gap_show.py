"""What the gap chapter's notebook shows, on untrained nets and made-up numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noisebook import weights
from noisebook.networks import Networks, Trained
from noisebook.papers import gap
from noisebook.papers.gap.experiment import chosen

TINY = replace(gap.experiment.SMALL, levels=3, depth=2, width=2)


def net(dim: int = 2) -> gap.model.UNet:
    """An untrained tiny net."""
    return gap.experiment.build(replace(TINY, dim=dim)).eval()


def test_the_authors_sizes() -> None:
    """At full size the nets have the authors' parameters, ranges of levels stay, and the toy net is as it is."""
    full = {name: gap.experiment.published(config) for name, config in gap.experiment.SHIPPED.items()}
    sizes = {2: 43_679_361, 3: 7_958_273}
    for name, config in full.items():
        if name == "gap-toy":
            assert config == gap.experiment.SHIPPED[name]
            continue
        with torch.device("meta"):
            built = gap.model.UNet(config.dim, depth=config.depth, width=config.width)
        assert sum(p.numel() for p in built.parameters()) == sizes[config.dim]
        assert (config.low_db, config.loss) == (gap.experiment.SHIPPED[name].low_db, gap.experiment.SHIPPED[name].loss)


def test_the_networks_are_loaded_or_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded nets come as their card has them; training is at full size; a checkpoint takes the 2-D net's place."""
    found, words = chosen("embedded", tmp_path, "cpu", 0, "")
    card = weights.metadata("gap-2d")
    assert list(found) == list(gap.experiment.SHIPPED)
    assert "; ".join(words.values()) == f"{card.architecture}; {card.schedule}"
    trained: list[gap.experiment.Config] = []

    def train(_: object, config: gap.experiment.Config, *given: object, **more: object) -> Trained:
        trained.append(config)
        return Trained(net(config.dim), [], None)

    monkeypatch.setattr(Networks, "train", train)
    assert "32 base channels" in chosen("train", tmp_path, "cpu", 5, "")[1]["architecture"]
    assert [config.seed for config in trained] == [5] * 5
    assert trained[0].width == 32
    torch.save({"state_dict": net().state_dict()}, tmp_path / "theirs.ckpt")
    assert chosen("embedded", tmp_path, "cpu", 0, str(tmp_path / "theirs.ckpt"))[1]["training"] == "not known"
    torch.save({"state_dict": net(3).state_dict()}, tmp_path / "deep.ckpt")
    with pytest.raises(ValueError, match="a net for grey images, got 3 dimensions and 1 channels"):
        chosen("embedded", tmp_path, "cpu", 0, str(tmp_path / "deep.ckpt"))
    with pytest.raises(ValueError, match="networks: expected one of embedded, train, got 'mine'"):
        chosen("mine", tmp_path, "cpu", 0, "")


def test_toy_panels_show_the_photons_and_the_exact_answer() -> None:
    """More photons hold the fewer; the exact mean has mean 1; the difference is what the two before it differ by."""
    panels = gap.figures.toy_panels(net(), (3, 12), 0)
    assert [panel.title for panel in panels[:2]] == ["3 photons", "exact, 3 photons"]
    few, many = panels[0].image, panels[4].image
    assert (few.sum(), many.sum()) == (3, 12)
    assert (many >= few).all()
    for row in (panels[:4], panels[4:]):
        assert row[1].image.mean() == pytest.approx(1)
        np.testing.assert_allclose(row[3].image, row[2].image - row[1].image)


def test_captions_tell_the_psnr() -> None:
    """Each image has its PSNR, the truth the level; of a stack a plane and a cut along z are shown."""
    truth = np.random.default_rng(0).uniform(1, 2, (6, 8, 8))
    made = {3.0: {"noisy": np.roll(truth, 1), "truth": truth}}
    shown, captions = gap.figures.captioned(made, {"noisy": "seen", "truth": "truth"})
    score = gap.measures.level_psnr(made[3.0]["noisy"], truth)
    assert captions == [f"seen\n{score:.1f} dB", "truth\nlevel 3 dB", "seen\nalong z", "truth\nalong z"]
    np.testing.assert_array_equal(shown["truth 3"], truth[3])
    np.testing.assert_array_equal(shown["truth 3 along z"], truth[:, 4])
    flat, captions = gap.figures.captioned({0.0: {"truth": truth[0]}}, {"truth": "truth"})
    assert captions == ["truth\nlevel 0 dB"]
    np.testing.assert_array_equal(flat["truth 0"], truth[0])


def test_samples_come_with_mean_and_spread() -> None:
    """A row a level: noisy, two samples, and mean and spread of all; of two samples these follow from them."""
    panels = gap.figures.sample_panels(net(), (3.0,), 2, 16, 0, 4.0)
    noisy, one, other, mean, spread = (panel.image for panel in panels)
    np.testing.assert_allclose(mean, (one + other) / 2, rtol=1e-5)
    np.testing.assert_allclose(spread, np.abs(one - other) / 2, atol=1e-5)
    assert noisy.mean() == pytest.approx(1)
    assert [panel.window for panel in panels[-2:]] == [(0, 4), (0, 1)]


def test_photons_accumulate() -> None:
    """From level to level no photon is lost, labels tell their number, and the expectation has mean 1."""
    made = gap.figures.accumulated(net(), (-20, -10, -5), 16, 0)
    photons = [panels[0].image for panels in made.values()]
    assert list(made) == [f"{image.sum():.0f} photons" for image in photons]
    assert all((after >= before).all() for before, after in itertools.pairwise(photons))
    assert photons[-1].mean() >= 10**-0.5
    assert all(panels[1].image.mean() == pytest.approx(1) for panels in made.values())


def test_curves_are_means_over_seeds() -> None:
    """Mean and standard deviation of a sample at each place, of the rows asked for; a single value has no spread."""
    rows = {"x": np.array([0, 0, 1, 2, 2, 0]), "y": np.array([1.0, 3, 7, 5, 5, 9]), "k": np.array([1, 1, 1, 1, 1, 2])}
    rows["seed"] = np.arange(6)
    (line,) = gap.figures.curves(rows, {"y": "name"}, "x", k=1)
    assert (line.x.tolist(), line.y.tolist(), line.label) == ([0, 1, 2], [2, 7, 5], "name")
    assert line.spread is not None
    assert line.spread.tolist() == [2**0.5, 0, 0]


def test_counts_of_a_user_are_denoised(tmp_path: Path) -> None:
    """An image and a stack keep shape and photons; what is no counts, or has other axes, is refused."""
    nets = {"gap-2d": net(), "gap-3d": net(3)}
    counts = np.random.default_rng(0).poisson(2.0, (6, 140, 20))
    for name, array in {"plane": counts[0], "stack": counts[:, :20]}.items():
        np.save(tmp_path / f"{name}.npy", array)
        found = gap.figures.own(tmp_path / f"{name}.npy", nets)
        np.testing.assert_array_equal(found["counts"], array)
        assert found["estimate"].shape == array.shape
        assert found["estimate"].sum() == pytest.approx(array.sum(), rel=1e-4)
        assert ("sample" in found) == (name == "plane")
    found = gap.figures.own(tmp_path / "plane.npy", nets)
    assert found["sample"].shape == (128, 20)
    assert found["sample"].sum() == pytest.approx(counts[0, :128].sum(), rel=1e-4)
    np.save(tmp_path / "bad.npy", counts * 0.3)
    with pytest.raises(ValueError, match="expected photon counts, got no photon counts: "):
        gap.figures.own(tmp_path / "bad.npy", nets)
    np.save(tmp_path / "four.npy", counts.reshape(2, 3, 140, 20))
    with pytest.raises(ValueError, match=r"an image \(Y, X\) or a stack \(Z, Y, X\), got shape"):
        gap.figures.own(tmp_path / "four.npy", nets)
