"""The regularity chapter's measures, theory, deep image prior, comparisons and claims."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from noisebook.claims import Claim
from noisebook.papers import regularity


def squares(size: int = 32, height: float = 0.5) -> torch.Tensor:
    """Two images with one square each."""
    images = torch.zeros(2, 1, size, size)
    images[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = height
    return images


def blurred(images: torch.Tensor, width: int) -> torch.Tensor:
    """A moving average of an odd number of pixels along both axes."""
    kernel = torch.full((1, 1, width, width), 1 / width**2)
    return nn.functional.conv2d(nn.functional.pad(images, [width // 2] * 4, mode="replicate"), kernel)


def test_a_perfect_network_keeps_steps() -> None:
    """The truth itself: a width of 0.8 pixels, the whole step, full contrast; physical widths count image sides."""
    found = regularity.measures.edge_response(squares(), squares())
    assert found.width_px == pytest.approx(0.8)
    assert found.width == pytest.approx(0.8 / 32)
    assert (found.step, found.contrast) == (pytest.approx(1), pytest.approx(1))
    assert found.profile.tolist() == [0] * 4 + [1] * 4
    assert found.edges > 50


@pytest.mark.parametrize("width", [3, 5])
def test_a_moving_average_makes_a_ramp_of_its_length(width: int) -> None:
    """Averaging w pixels turns a step into a ramp of w steps of 1/w: 0.8 w pixels from a tenth to nine tenths."""
    truth = squares(64)
    found = regularity.measures.edge_response(blurred(truth, width), truth)
    assert found.width_px == pytest.approx(0.8 * width, rel=0.01)
    assert found.step == pytest.approx(1 / width, rel=1e-5)


def test_lost_contrast_is_no_width() -> None:
    """A network that answers with a constant has no width, and no contrast."""
    found = regularity.measures.edge_response(torch.full((2, 1, 32, 32), 0.3), squares())
    assert np.isnan(found.width_px)
    assert found.contrast == pytest.approx(0)


def test_slanted_and_crowded_edges_do_not_count() -> None:
    """Edges that are not straight and isolated are refused; none left is an error."""
    slanted = torch.triu(torch.ones(32, 32))[None, None]
    with pytest.raises(ValueError, match="at least one straight, isolated edge"):
        regularity.measures.edge_response(slanted, slanted)
    with pytest.raises(ValueError, match="truth: expected shape"):
        regularity.measures.edge_response(squares(), squares(64))


def test_the_bound_holds_and_a_dirac_keeps_the_jump() -> None:
    """Cauchy and Schwarz bound every modulus; for a narrow kernel the jump stays and the bound is above it."""
    found = regularity.measures.disc_moduli((0.05, 0.01, 0.0003), size=128)
    assert (found.modulus <= found.bound * (1 + 1e-9)).all()
    assert found.modulus[-1, 0] == pytest.approx(1, abs=1e-6)
    assert found.bound[-1, 0] > 1
    assert found.modulus[0, 0] < 0.1
    assert found.norm[0] == pytest.approx(1 / (2 * np.sqrt(np.pi) * 0.05), rel=1e-3)


@pytest.mark.parametrize("settings", [{"sds": (0.0,)}, {"sds": (0.1,), "radius": 0.6}])
def test_wrong_discs_are_refused(settings: dict) -> None:
    """Widths are positive and the disc fits."""
    with pytest.raises(ValueError, match=r"sds|radius"):
        regularity.measures.disc_moduli(**settings)


def test_the_penalty_is_an_integral() -> None:
    """Sums of squares grow as the square of the scaling; a fine sum over s² is the integral."""
    found = regularity.measures.penalties((1, 2, 32), seed=0)
    assert found[1] / 4 == pytest.approx(1, rel=0.05)
    assert found[2] / 32**2 == pytest.approx(1, rel=1e-3)


def test_kernels_may_be_rescaled_behind_a_normalisation_only() -> None:
    """With batch normalisation the output stays; without it changes; the model itself is left alone."""
    images = regularity.data.render(regularity.data.draw(4), 32)
    config = regularity.experiment.Config(width=4, base=32)
    net = regularity.experiment.build(config)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert regularity.measures.rescaling(net, images, 4.0) < 0.05
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    plain = regularity.experiment.build(replace(config, norm=False))
    assert regularity.measures.rescaling(plain, images, 4.0) > 0.05


def test_the_scene_has_its_levels_and_its_field_one_law() -> None:
    """Six grey levels at any size; the fixed input is one field, so a coarse one is the mean of a fine one's pixels."""
    for size in (64, 128):
        assert sorted({round(v, 6) for v in regularity.data.scene(size).flatten().tolist()}) == [
            0,
            0.1,
            0.2,
            0.3,
            0.4,
            1,
        ]
    coarse, fine = regularity.data.field(64, 1), regularity.data.field(128, 1)
    assert torch.corrcoef(torch.stack([coarse.flatten(), nn.functional.avg_pool2d(fine, 2).flatten()]))[0, 1] > 0.9
    with pytest.raises(ValueError, match="a multiple of 64"):
        regularity.data.field(100, 0)


def test_the_prior_stops_at_the_noise() -> None:
    """It ends as soon as the residual is sigma; without sigma it goes on to the limit and comes nearer."""
    noisy = regularity.data.scene(64) + 0.1 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    settings = {"sigma": 0.35, "learning_rate": 1e-2, "limit": 80, "progress": False}
    stopped = regularity.experiment.deep_image_prior(
        noisy,
        regularity.experiment.build(regularity.experiment.Config(width=2)),
        regularity.data.field(64, 0),
        **settings,
    )
    assert stopped.residual <= 0.35
    assert stopped.iterations < 79
    settings["sigma"] = 0.0
    late = regularity.experiment.deep_image_prior(
        noisy,
        regularity.experiment.build(regularity.experiment.Config(width=2)),
        regularity.data.field(64, 0),
        **settings,
    )
    assert late.iterations == 79
    assert late.residual < stopped.residual
    with pytest.raises(ValueError, match="sigma: expected a number from 0 on"):
        regularity.experiment.deep_image_prior(noisy, nn.Identity(), noisy, sigma=-1.0)


def test_samples_are_those_of_the_test_part() -> None:
    """Samples count within the last 2,000; cuts are rows of 128; what lies outside is named."""
    circles = regularity.data.draw()
    torch.testing.assert_close(regularity.data.chosen(circles, [5]), circles[8005:8006])
    assert int(regularity.data.cut_at(65) * 128) == 65
    with pytest.raises(ValueError, match="samples: expected numbers from 0 to 1999"):
        regularity.data.chosen(circles, [2000])
    with pytest.raises(ValueError, match="expected 10000 images"):
        regularity.data.chosen(circles[:50], [1])
    with pytest.raises(ValueError, match="cut_rows: expected 0 to 127"):
        regularity.data.chosen(circles, [5], [128])
    with pytest.raises(ValueError, match=r"cut_rows: expected one for each of the 2 samples, got 1\. Set both"):
        regularity.data.chosen(circles, [5, 6], [55])
    with pytest.raises(ValueError, match="samples: expected at least one, got none"):
        regularity.data.chosen(circles, [], [])


def test_noise_is_shared_or_drawn_anew() -> None:
    """Shared noise is the same in columns of one size; new noise is not. Column one is what the first net was given."""
    circles = regularity.data.draw(4)[:2]
    nets, sizes = dict.fromkeys("abc", nn.Identity()), {"a": 32, "b": 32, "c": 64}
    for shared in (True, False):
        rows = regularity.figures.compared(nets, sizes, ["a", "b"], circles, [7, 8], shared=shared, seed=1)
        noisy, truth, first, second = rows[0].images
        assert np.array_equal(noisy, first)
        assert np.array_equal(first, second) is shared
        assert np.std(noisy - truth) == pytest.approx(0.07, rel=0.1)
    named = regularity.figures.by_name([7, 8], ["a", "b", "c", "d"], rows)
    assert list(named) == [f"{n}-{t}" for n in (7, 8) for t in "abcd"]


def test_the_effect_of_new_noise_is_a_ratio() -> None:
    """For f(x) = x and f(x) = x + 1 new noise of sd 0.07 changes by 0.07 sqrt 2 times as much as the other net."""

    class Raise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    found = regularity.measures.redrawn([nn.Identity(), Raise()], torch.zeros(8, 1, 64, 64), [0, 1])
    assert found == pytest.approx([0.07 * 2**0.5] * 2, rel=0.05)


def rows() -> dict[str, np.ndarray]:
    """A study of three seeds in which everything goes as claimed."""
    found = []
    for seed in (0, 1, 2):
        wobble = 1 + 0.01 * seed
        for kind, scaling, decay, width, step, contrast in (
            (0, 1, 0.0, 1.0, 0.9, 1.0),
            (0, 1, 1e-3, 1.5, 0.8, 1.0),
            (0, 1, 1e-2, 2.0, 0.6, 1.0),
            (0, 1, 1e-1, 3.0, 0.3, 0.9),
            (0, 2, 1e-3, 2.5, 0.5, 1.0),
            (0, 3, 1e-3, 4.0, 0.3, 1.0),
            (0, 2, 0.0, 1.2, 0.8, 1.0),
            (0, 3, 0.0, 1.4, 0.8, 1.0),
            (1, 1, 1e-3, 1.5, 0.8, 1.0),
            (1, 1, 1e-2, 2.0, 0.6, 1.0),
            (1, 1, 1e-1, 2.8, 0.3, 0.9),
            (2, 1, 0.0, np.nan, 0.0, 1.0),
            (2, 1, 1e-1, 4.0, 0.2, 0.5),
        ):
            found.append(
                (
                    kind,
                    scaling,
                    decay,
                    seed,
                    width * wobble,
                    width * wobble / 32 / scaling,
                    step * wobble,
                    contrast,
                    0.1,
                )
            )
    names = ("kind", "scaling", "decay", "seed", "width_px", "width", "step", "contrast", "rmse")
    return {name: np.array(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}


PRIOR = {
    "size": np.array([64, 256, 64, 256]),
    "width": np.array([0.03, 0.025, 0.031, 0.027]),
    "late_width": np.array([0.02, 0.021]),
}


def claims(rows: dict[str, np.ndarray], redraw: list[float]) -> dict[str, Claim]:
    """The claims of made-up studies by id."""
    moduli = regularity.measures.disc_moduli((0.05, 0.0003), size=64)
    given = {"edges": rows, "prior": PRIOR, "moduli": moduli, "redraw": np.array(redraw)}
    return {claim.id: claim for claim in regularity.PAPER.claims(given)}


def test_verdicts_follow_the_numbers() -> None:
    """Where everything goes as claimed all claims hold; where widths fall R2 does not hold; lost edges decide none."""
    assert {claim.verdict for claim in claims(rows(), [2.0, 2.1, 2.2]).values()} == {"holds"}
    worse = rows()
    worse["width"] = 0.1 / worse["width"]
    bad = claims(worse, [0.5, 0.6])
    assert "holds" not in {bad[name].verdict for name in ("R2a", "R2b", "R2c", "R9")}
    lost = rows()
    lost["width_px"] = np.where(lost["scaling"] == 3, np.nan, lost["width_px"])
    assert claims(lost, [2.0])["R3c"].verdict.startswith("not tested (needs nets whose edges keep")


def test_claims_name_what_they_were_measured_on() -> None:
    """Each claim on networks has those that it compares, and says simulated."""
    found = claims(rows(), [2.0, 2.1, 2.2])
    how = {name: claim.schedule for name, claim in found.items()}
    assert {name for name, text in how.items() if not text} == {"R4a", "R4b", "R4c", "R5a", "R5b"}
    assert all(("simulated" in claim.data) == bool(claim.schedule) for claim in found.values())
    assert {name for name, claim in found.items() if claim.kind == "check"} == {
        "R4a",
        "R4b",
        "R4c",
        "R5a",
        "R5b",
        "R6a",
    }
    assert how["R1a"].startswith("U-Net, scaling 2, 8 base channels (the authors: 64) against U-Net, scaling 1, ")
    assert how["R1b"].startswith("U-Net, scaling 3, 8 base channels (the authors: 64) against U-Net, scaling 2, ")
    assert "weight decay 0.001/1² against weight decay 0/1²" in how["R2a"]
    assert "weight decay 0.01/1² against weight decay 0.001/1²" in how["R2b"]
    plain = {name for name, text in how.items() if "without batch normalisation against U-Net" in text}
    assert plain == {"R6b", "R6c"}
    assert how["R6a"].endswith("untrained")
    assert "start from the weights of the next lower decay" in found["R7"].statement
    assert "deep image prior: MSE; Adam, learning rate 0.003; weight decay 0.001/4² against" in how["R8a"]
    assert "weight decay 0/1² against weight decay 0.001/1²" in how["R9"]
    assert found["R9"].data == "simulated circles, computed in the run, one value a draw"


def test_small_tables_hold_what_their_claims_test() -> None:
    """Kernels four times as large change untrained nets by little, and penalties over s² are about the integral."""
    scales = list(regularity.measures.scale_table().values())
    assert scales[0] == [0, 1, 2]
    assert scales[1] == regularity.measures.rescaled().tolist()
    assert max(scales[1]) < 0.05
    penalties = regularity.measures.penalty_table()
    assert penalties["s"] == [1, 2, 3]
    assert str(penalties["over s²"][2]).startswith(("0.99", "1.0"))


def test_the_table_tells_what_is_lost() -> None:
    """A row a training, mean and spread over the seeds; widths that are undefined are counted."""
    table = regularity.measures.table(rows())
    assert len(table["s"]) == 13
    assert table["width / px"][0] == "1.01\u00a0±\u00a00.01"
    assert table["width / px"][-2] == "none (3 lost)"


def test_values_come_by_seed() -> None:
    """Selections are ordered by seed, and a chain's first decay is the fresh net."""
    study = {name: values[::-1] for name, values in rows().items()}
    np.testing.assert_allclose(regularity.measures.by_seed(study, "width_px", scaling=1, decay=0.1), [3.0, 3.03, 3.06])
    study["width_px"][-1] = np.nan
    at = {"above": {"scaling": 1, "decay": 0.1}, "below": {"scaling": 1, "decay": 0.0}}
    found = regularity.measures.log_ratio({"edges": study}, "width_px", **at)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [np.log2(3)] * 2)


def test_planned_nets_start_from_nets_planned_before() -> None:
    """No name twice; what a net starts from comes first and is as wide; four decays have five seeds, three have one."""
    nets = regularity.studies.plan()
    assert len({net.name for net in nets}) == len(nets)
    for k, net in enumerate(nets):
        assert net.start is None or (net.start in nets[:k] and net.start.config.width == net.config.width)
    seeds = Counter(c.decay for kind, c, _ in nets if kind == "new" and (c.width, c.skip) == (16, False))
    assert seeds == dict.fromkeys(regularity.experiment.DECAYS, 5) | dict.fromkeys((0.5, 0.75, 1.25), 1)


def test_checkpoints_are_those_of_the_trainings_under_way() -> None:
    """The folder of a planned net is named by its configuration and the noise as it was when the trainings began."""
    net = regularity.studies.plan()[0]
    assert (
        regularity.experiment.NETWORKS.checkpoints(Path("nets"), net.name, net.config, "0.07")
        == Path("nets") / "new-s1-width16-decay0-seed0-df722c58"
    )


def test_bounds_of_the_nets_in_training_are_written_down() -> None:
    """Every claim or check has an id of its own and at least one bound."""
    file = Path(regularity.__file__).with_name("claims-next.yaml")
    read = yaml.safe_load(file.read_text(encoding="utf-8"))["claims"]
    assert len({claim["id"] for claim in read}) == len(read)
    assert [c["id"] for c in read if not ({"low", "high"} & c.keys() and c["kind"] in ("claim", "check"))] == []


def test_a_study_of_the_prior_goes_on_from_what_it_kept(tmp_path: Path) -> None:
    """A second run reads the fits; a spoilt one in its place is seen."""
    settings = {"sizes": [64], "seeds": [0], "width": 2, "decay": 0.0, "sigma": 0.5, "limit": 3}
    first = regularity.studies.study_prior(tmp_path, "cpu", **settings)
    kept = tmp_path / "64-0.pt"
    image, iterations, residual = torch.load(kept, weights_only=True)
    torch.save((image, iterations + 40, residual), kept)
    second = regularity.studies.study_prior(tmp_path, "cpu", **settings)
    assert second["iterations"][0] == first["iterations"][0] + 40
    assert set(first) >= {"width", "late_width", "image_64", "late_image_64"}
