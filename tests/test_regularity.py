"""The regularity chapter's networks, circles and training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import published
import pytest
import torch
from torch.nn import functional as F

from noisebook import archives, weights
from noisebook.papers import regularity
from noisebook.training import fit

NETWORKS = regularity.experiment.NETWORKS
THEIRS = "regularity-s1-decay-0"
TINY = regularity.experiment.Config(width=2, base=32, images=12, batch=4, epochs=2)


class Plain:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        """Plain backward."""
        loss.backward()


@pytest.mark.parametrize(("scaling", "count"), [(1, 17_268_545), (2, 69_034_337), (3, 155_310_657)])
def test_the_authors_size_has_the_authors_parameters(scaling: int, count: int) -> None:
    """64 channels: the published numbers of parameters."""
    with torch.device("meta"):
        assert sum(p.numel() for p in regularity.model.UNet(scaling).parameters()) == count


@pytest.mark.parametrize(("scaling", "sides"), [(1, (33, 47)), (2, (64, 79)), (3, (97, 80))])
def test_odd_sides_keep_their_size(scaling: int, sides: tuple[int, int]) -> None:
    """Any sides from the smallest on come back with the same shape, for any batch."""
    net = regularity.model.UNet(scaling, 2).eval()
    assert min(sides) >= net.smallest
    for batch in (1, 3):
        assert net(torch.rand(batch, 1, *sides)).shape == (batch, 1, *sides)


def by_name(w: dict[str, torch.Tensor], x: torch.Tensor, s: int) -> torch.Tensor:
    """The authors' forward pass, written out with plain functions and the published names."""

    def cut(name: str, x: torch.Tensor, padding: int, mode: str = "constant") -> torch.Tensor:
        y = F.conv2d(F.pad(x, [padding] * 4, mode=mode), w[f"{name}.weight"], w[f"{name}.bias"]) / s**2
        return y if mode == "reflect" else y[..., : x.shape[2], : x.shape[3]]

    def double(block: str, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv, norm in ((0, 2), (4, 6)):
            y = cut(f"{block}.double_conv.{conv}", y, -(-(3 * s - 1) // 2), "reflect")
            known = [w[f"{block}.double_conv.{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
            y = F.batch_norm(y, *known).relu()
        return y[..., : x.shape[2], : x.shape[3]]

    skips = [double("inc", x)]
    for level in (1, 2, 3, 4):
        skips.append(double(f"down{level}.maxpool_conv.1", F.max_pool2d(skips[-1], 2)))
    y = skips.pop()
    for level in (1, 2, 3, 4):
        skip, y = skips.pop(), F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        high, wide = skip.shape[2] - y.shape[2], skip.shape[3] - y.shape[3]
        y = F.pad(y, [wide // 2, wide - wide // 2, high // 2, high - high // 2])
        y = double(f"up{level}.conv", torch.cat([skip, y], 1))
    return cut("prediction", cut("out.conv", y, -(-(s - 1) // 2)), -(-(3 * s - 1) // 2))


@pytest.mark.parametrize(("scaling", "sides"), [(1, (33, 47)), (2, (64, 79)), (3, (97, 80))])
def test_published_weights_load_and_mean_what_they_mean(scaling: int, sides: tuple[int, int]) -> None:
    """Plain tensors of the published names load strictly, and the output is that of the authors' forward pass."""
    torch.manual_seed(scaling)
    state = published.regularity(scaling, 4)
    state |= {name: torch.rand_like(value) + 0.5 for name, value in state.items() if "running" in name}
    net = weights.into(regularity.model.UNet(scaling, 4), state).eval()
    image = torch.rand(2, 1, *sides)
    torch.testing.assert_close(net(image), by_name(state, image, scaling))


@pytest.mark.parametrize("scaling", [0, 1.5, -1])
def test_a_wrong_scaling_is_refused(scaling: float) -> None:
    """Scalings are whole numbers from 1 on."""
    with pytest.raises(ValueError, match="scaling: expected a whole number from 1 on"):
        regularity.model.UNet(scaling)  # type: ignore[arg-type]


def test_wrong_widths_images_and_weights_are_refused() -> None:
    """Odd widths, too small images, and weights of another scaling are named."""
    with pytest.raises(ValueError, match="width: expected an even number"):
        regularity.model.UNet(1, 3)
    with pytest.raises(ValueError, match="sides from 80 on"):
        regularity.model.UNet(3, 2)(torch.rand(1, 1, 79, 90))
    with pytest.raises(ValueError, match=r"\(4, 2, 6, 6\) for \(4, 2, 3, 3\)"):
        weights.into(regularity.model.UNet(1, 2), regularity.model.UNet(2, 2).state_dict())


def test_circles_are_drawn_as_by_a_loop() -> None:
    """The vectorised drawing equals the definition, pixel by pixel, circle by circle."""
    circles = regularity.data.draw(70, seed=3)[60:]
    size = 20
    found = regularity.data.render(circles, size)
    for image, row in zip(found[:, 0], circles, strict=True):
        for y in range(size):
            for x in range(size):
                value = 0.0
                for cx, cy, r, a in row.tolist():
                    dx, dy = x - int(torch.tensor(cx * size).floor()), y - int(torch.tensor(cy * size).floor())
                    reach = int(torch.tensor(r * size).floor())
                    value += a * (r > 0 and dx * dx + dy * dy <= reach * reach)
                assert float(image[y, x]) == pytest.approx(value, abs=1e-6)


def test_a_negative_radius_draws_nothing() -> None:
    """Only circles of positive radius are drawn."""
    assert not regularity.data.render(torch.tensor([[[0.5, 0.5, -0.3, 1.0]]]), 16).any()


def test_the_draw_has_its_law_and_its_seed() -> None:
    """Normal about 0.5 with sd 0.5: 15.9 % of the radii are negative; one seed, one draw."""
    circles = regularity.data.draw()
    assert float(circles.mean()) == pytest.approx(0.5, abs=0.01)
    assert float((circles[..., 2] < 0).double().mean()) == pytest.approx(0.159, abs=0.006)
    torch.testing.assert_close(circles, regularity.data.draw(), rtol=0, atol=0)
    assert not torch.equal(circles, regularity.data.draw(seed=1))


def test_the_authors_csv_is_read_and_written(tmp_path: Path) -> None:
    """20 columns without a header come back exactly."""
    circles = regularity.data.draw(7)
    regularity.data.write_csv(circles, tmp_path / "c.csv")
    assert len((tmp_path / "c.csv").read_text().splitlines()[0].split(",")) == 20
    torch.testing.assert_close(regularity.data.read_csv(tmp_path / "c.csv"), circles, rtol=0, atol=0)


ROW = ["0.5"] * 20
NUMBERS = ",".join(map(str, range(20)))
BAD_CSV = {
    "missing": (None, "expected a CSV file of circles, got nothing there"),
    "columns": (",".join(ROW[:19]), "line 1: expected 20 numbers a line, .* got 19"),
    "header": ("x,y\n" + ",".join(ROW), "line 1: expected 20 numbers .* got 'x,y'"),
    "nan": (",".join(["nan", *ROW[1:]]), "expected finite values"),
    "huge": (
        ",".join([*ROW[:2], "1e6", *ROW[3:]]),
        r"within 100 image sides, got radius 1e\+06 in circle 1 of image 1",
    ),
    "empty": ("", "an empty file"),
    "pandas' header": (NUMBERS + "\n" + ",".join(ROW), r"line 1: .* got a header: 0,1,2.*to_csv\(path, header=False"),
    "counted from 1": (",".join(f"{k}.0" for k in range(1, 21)), "line 1: .* got a header: 1.0,2"),
    "pandas' index": (",".join(["0", *ROW]), r"line 1: .* got 21\. From pandas: .*index=False"),
    "both": (f",{NUMBERS}\n" + ",".join(["0", *ROW]), "line 1: .* got ',0,1,.*index=False"),
}


@pytest.mark.parametrize("fault", BAD_CSV)
def test_wrong_files_of_circles_are_refused(fault: str, tmp_path: Path) -> None:
    """Wrong numbers of columns, NaN, huge radii and empty files are named, with their line or place."""
    text, message = BAD_CSV[fault]
    if text is not None:
        (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        regularity.data.read_csv(tmp_path / "c.csv")


def test_a_skip_adds_the_input_and_changes_no_name() -> None:
    """The same weights with a global skip give the same output plus the input."""
    plain, skip = (regularity.model.UNet(1, 2, skip=skip).eval() for skip in (False, True))
    weights.into(skip, plain.state_dict())
    image = torch.rand(2, 1, 33, 40)
    torch.testing.assert_close(skip(image), plain(image) + image)


@pytest.mark.parametrize("scaling", [2, 3])
def test_resampled_kernels_are_the_same_functions(scaling: int) -> None:
    """Far from the border, a flat image comes out of the finer network as it does of the coarser one."""
    coarse, fine = regularity.model.UNet(1, 2).eval(), regularity.model.UNet(scaling, 2).eval()
    with torch.no_grad():
        for buffer in (b for name, b in coarse.named_buffers() if name.endswith("running_mean")):
            buffer.normal_()
    weights.into(fine, regularity.model.resampled(coarse.state_dict(), scaling))
    images = [torch.full((1, 1, 64 * s, 64 * s), 0.7) for s in (1, scaling)]
    values = [net(x)[0, 0, len(x[0, 0]) // 2, len(x[0, 0]) // 2] for net, x in zip((coarse, fine), images, strict=True)]
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("changed", [{}, {"skip": True, "schedule": "cosine"}, {"bfloat16": True}], ids=str)
def test_one_step_changes_every_parameter(changed: dict) -> None:
    """No layer is left out of the training."""
    trainee = regularity.experiment.Training(replace(TINY, **changed))
    before = [p.detach().clone() for p in trainee.model.parameters()]
    truth = regularity.data.render(regularity.data.draw(4), 32)
    trainee.step(Plain(), (truth + 0.07 * torch.randn(truth.shape), truth))
    assert all((a != b).any() for a, b in zip(before, trainee.model.parameters(), strict=True))


def test_decay_is_divided_by_the_square_of_the_scaling() -> None:
    """Adam gets reg / s²."""
    trainee = regularity.experiment.Training(replace(TINY, scaling=2, decay=0.1))
    assert trainee.optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.025)


def test_one_batch_can_be_overfitted() -> None:
    """Many steps on one batch bring its error far below where it began."""
    trainee = regularity.experiment.Training(replace(TINY, width=4, learning_rate=1e-2))
    truth = regularity.data.render(regularity.data.draw(4), 32)
    losses = [float(trainee.step(Plain(), (truth, truth))["loss"].detach()) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


RATES = {
    "constant": dict.fromkeys(range(10), 0.1),
    "cosine": {k: 0.05 * (1 + math.cos(math.pi * k / 10)) for k in range(10)},
    "one-cycle": {0: 0.1 / 25, 2: 0.1, 9: 0.1 / 25e4},
}


@pytest.mark.parametrize("schedule", RATES)
def test_rates_follow_their_schedule(schedule: str) -> None:
    """In ten steps: a constant, half a cosine from the peak, or up from a 25th of it in the first three and down."""
    config = replace(TINY, images=40, epochs=1, schedule=schedule, learning_rate=0.1)
    trainee = regularity.experiment.Training(config)
    assert config.steps == 10
    truth = regularity.data.render(regularity.data.draw(4), 32)
    found = []
    for _ in range(config.steps):
        found.append(trainee.optimizer.param_groups[0]["lr"])
        trainee.step(Plain(), (truth, truth))
    assert {k: found[k] for k in RATES[schedule]} == pytest.approx(RATES[schedule])


def test_unknown_schedules_are_refused() -> None:
    """The schedules are named."""
    with pytest.raises(ValueError, match="schedule: expected one of"):
        regularity.experiment.Training(replace(TINY, schedule="linear"))


@pytest.mark.parametrize("schedule", RATES)
def test_four_epochs_equal_two_killed_and_two_resumed(schedule: str, tmp_path: Path) -> None:
    """Training resumes exactly: identical weights; and a finished net is not trained again."""
    config = replace(TINY, epochs=4, schedule=schedule)
    whole = NETWORKS.train(config, tmp_path / "whole", device="cpu").net
    of_epoch = regularity.experiment.batches(config, None, tmp_path)
    half = {"epochs": 2, "folder": tmp_path / "parts", "seed": config.seed, "device": "cpu"}
    fit(regularity.experiment.Training(config), of_epoch, **half)  # type: ignore[arg-type]
    (tmp_path / "parts" / "checkpoint-0003.partial").write_bytes(b"half a file, as kill -9 leaves it")
    resumed = NETWORKS.train(config, tmp_path / "parts", device="cpu").net
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    stamp = (tmp_path / "parts" / "checkpoint-0004.pt").stat().st_mtime_ns
    NETWORKS.train(config, tmp_path / "parts", device="cpu")
    assert (tmp_path / "parts" / "checkpoint-0004.pt").stat().st_mtime_ns == stamp


def test_a_warm_start_begins_with_the_given_weights(tmp_path: Path) -> None:
    """With a learning rate of nearly nothing, the trained kernels are those it started from, not new ones."""
    start = regularity.experiment.build(replace(TINY, seed=5)).state_dict()
    config = replace(TINY, learning_rate=1e-12)
    trainee = regularity.experiment.Training(config, start)
    net = NETWORKS.train(config, tmp_path, trainee=trainee, device="cpu").net
    torch.testing.assert_close(net.inc.double_conv[0].weight, start["inc.double_conv.0.weight"])


def test_batches_hold_every_image_once_with_new_noise() -> None:
    """An epoch is a permutation; a last batch that is too small is left out; noise has sd 0.07."""
    images = torch.arange(10.0)[:, None, None, None].expand(10, 1, 40, 40)
    seen = list(regularity.experiment.shuffled(images, 4, torch.Generator().manual_seed(0)))
    assert len(seen) == 2
    assert len({float(one[0, 0, 0]) for _, truth in seen for one in truth}) == 8
    noise = torch.cat([noisy - truth for noisy, truth in seen])
    assert float(noise.std()) == pytest.approx(0.07, rel=0.05)


def test_too_few_circles_are_refused(tmp_path: Path) -> None:
    """A file with fewer images than the training needs is named."""
    with pytest.raises(ValueError, match="circles: expected at least 12 images, got 3"):
        NETWORKS.train(TINY, tmp_path, regularity.data.draw(3), device="cpu")


def test_every_embedded_net_loads_and_denoises() -> None:
    """Each embedded net is nearer to the truth than zero is, and finite."""
    for name, config in regularity.experiment.SHIPPED.items():
        image, truth = regularity.data.pairs(config.size, 16)
        output = regularity.model.apply(NETWORKS.load(name), image)
        assert (output - truth).norm() < 0.5 * truth.norm(), name


def cached(state: dict[str, torch.Tensor]) -> None:
    """Put a state dict into the cache of fetched files, as the authors' net at s = 1 without decay."""
    path = archives.place("regularity-published-s1-decay-0.0")
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    pin = {"size": path.stat().st_size, "md5": None, "sha256": archives.digest(path, "sha256")}
    (archives.folder() / "checksums.json").write_text(json.dumps({path.relative_to(archives.folder()).as_posix(): pin}))


def test_the_authors_file_becomes_their_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetched file of plain torch loads; before, the command to run is named."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    assert not regularity.experiment.are_published_here()
    with pytest.raises(ValueError, match=r"noisebook weights fetch regularity-published-s1-decay-0\.0"):
        regularity.experiment.published(THEIRS)
    state = published.regularity(1)
    cached(state)
    torch.testing.assert_close(dict(regularity.experiment.published(THEIRS).state_dict()), state, rtol=0, atol=0)


def test_another_network_in_the_authors_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of another width are told by their shapes."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    cached(published.regularity(1, 2))
    with pytest.raises(ValueError, match=r"\(4, 2, 3, 3\) for \(128, 64, 3, 3\)"):
        regularity.experiment.published(THEIRS)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    """An absurd learning rate ends with a clear message, not with NaN weights."""
    with pytest.raises(FloatingPointError, match="lower the learning"):
        NETWORKS.train(replace(TINY, norm=False, learning_rate=1e30, epochs=3), tmp_path, device="cpu")
