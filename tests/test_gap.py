"""Training of the gap chapter's networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from noisebook import weights
from noisebook.papers import gap
from noisebook.papers.gap.experiment import NETWORKS

TINY = replace(
    gap.experiment.SMALL, levels=4, depth=2, width=4, crop=(16, 16), batch=4, steps=3, epochs=2, images=4, size=(24, 24)
)
TINY_3D = replace(TINY, dim=3, crop=(4, 8, 8), size=(6, 12, 12))


class Plain:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        """Plain backward."""
        loss.backward()


def batch(config: gap.experiment.Config) -> tuple[torch.Tensor, int]:
    """One batch of a configuration's data."""
    images = (
        torch.cat(gap.experiment.simulated(config), 1) if config.supervised else gap.experiment.simulated(config)[0]
    )
    return next(gap.experiment.crops(images, config, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("config", [TINY, TINY_3D, replace(TINY, loss="mse", supervised=True)])
def test_one_step_changes_every_parameter(config: gap.experiment.Config) -> None:
    """No layer is left out of the training, in 2-D, in 3-D and with the truth for a target."""
    trainee = gap.experiment.Training(config)
    before = [p.detach().clone() for p in trainee.model.parameters()]
    logged = trainee.step(Plain(), batch(config))
    last = "conv_final.bias"  # a constant does not change where the next photon lands, so it has no gradient
    changed = {
        name: bool((p != b).any()) for (name, p), b in zip(trainee.model.named_parameters(), before, strict=True)
    }
    assert all(changed[name] for name in changed if name != last), changed
    assert set(logged) == {"loss", "capped"}


def test_one_batch_can_be_overfitted() -> None:
    """Many steps on one batch, always divided alike, bring the loss far below that of a uniform guess."""
    config = replace(TINY, width=8, augment=False, learning_rate=1e-2, mean=20.0, top_share=0.0, low_db=10, high_db=10)
    trainee, one = gap.experiment.Training(config), batch(config)
    losses = [float(trainee.step(Plain(), one)["loss"].detach()) for _ in range(80)]
    assert losses[0] > -0.1
    assert losses[-1] < -0.2


@pytest.mark.parametrize("config", [TINY, TINY_3D, replace(TINY, anneal=False, patience=0)])
def test_a_killed_training_goes_on_exactly(config: gap.experiment.Config, tmp_path: Path) -> None:
    """Killed after two of four epochs and resumed, by either schedule: the very weights; and done is done."""
    settings = {"device": "cpu", "progress": False}
    config = replace(config, epochs=4)
    whole = NETWORKS.train(config, tmp_path / "whole", **settings)  # type: ignore[arg-type]
    parts, simulated = tmp_path / "parts", gap.experiment.crops
    left = iter(range(2 * config.steps))

    def killed(*given: Any) -> Iterator[Any]:
        for one in simulated(*given):
            if next(left, None) is None:
                raise KeyboardInterrupt
            yield one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gap.experiment, "crops", killed)
        with pytest.raises(KeyboardInterrupt):
            NETWORKS.train(config, parts, **settings)  # type: ignore[arg-type]
    (parts / "checkpoint-0003.partial").write_bytes(b"half a file, as kill -9 leaves it")
    assert [path.name for path in sorted(parts.glob("*.pt"))] == ["checkpoint-0001.pt", "checkpoint-0002.pt"]
    resumed = NETWORKS.train(config, parts, **settings)  # type: ignore[arg-type]
    for a, b in zip(whole.net.state_dict().values(), resumed.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    stamp = (parts / "checkpoint-0004.pt").stat().st_mtime_ns
    NETWORKS.train(config, parts, **settings)  # type: ignore[arg-type]
    assert (parts / "checkpoint-0004.pt").stat().st_mtime_ns == stamp


def test_the_rate_falls_to_zero_and_checkpoints_know_it(tmp_path: Path) -> None:
    """Half a cosine over the epochs; a training of another length keeps checkpoints of its own."""
    trainee = gap.experiment.Training(replace(TINY, epochs=4, learning_rate=1.0))
    found = []
    for epoch in range(4):
        found.append(trainee.optimizer.param_groups[0]["lr"])
        trainee.optimizer.step()
        trainee.end_epoch(epoch)
    assert found == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    assert trainee.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    longer = replace(TINY, epochs=9)
    assert NETWORKS.checkpoints(tmp_path, "a", TINY) != NETWORKS.checkpoints(tmp_path, "a", longer)
    waiting, more = (replace(config, anneal=False) for config in (TINY, longer))
    assert NETWORKS.checkpoints(tmp_path, "a", waiting) == NETWORKS.checkpoints(tmp_path, "a", more)


def test_the_dimmest_data_train_without_nan(tmp_path: Path) -> None:
    """A hundred steps on images that mostly hold no photon at all, at a high learning rate: every loss is finite."""
    config = replace(TINY, low_db=-40, high_db=-5, top_low_db=-20, learning_rate=1e-2, steps=100, epochs=1)
    counts = torch.poisson(torch.full((8, 1, 16, 16), 1e-3), generator=torch.Generator().manual_seed(0))
    assert (counts.sum((1, 2, 3)) == 0).any()
    net = NETWORKS.train(config, tmp_path, (counts, None), device="cpu", progress=False).net
    assert all(p.isfinite().all() for p in net.parameters())


def test_batches_hold_every_image_once_a_round() -> None:
    """An epoch goes through permutations; crops lie inside their image; steps have seeds of their own."""
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 10, 9)
    config = replace(TINY, crop=(4, 20), batch=3, steps=4)
    seen = list(gap.experiment.crops(images, config, torch.Generator().manual_seed(0)))
    assert [tuple(crops.shape) for crops, _ in seen] == [(3, 1, 4, 9)] * 4
    assert sorted(crop[0, 0, 0].item() for crops, _ in seen[:2] for crop in crops) == [0, 1, 2, 3, 4, 5]
    assert len({seed for _, seed in seen}) == 4
    assert len(list(gap.experiment.crops(images, replace(config, steps=0), torch.Generator()))) == 2


def test_crops_reach_every_place() -> None:
    """Windows start anywhere along z, y and x."""
    places = torch.arange(4 * 5 * 6.0).reshape(1, 1, 4, 5, 6)
    config = replace(TINY_3D, crop=(3, 4, 5), batch=1, steps=100)
    first = {float(crops.min()) for crops, _ in gap.experiment.crops(places, config, torch.Generator().manual_seed(0))}
    assert len(first) == 8


def test_photons_are_drawn_once_from_held_out_tissues() -> None:
    """The simulated data are the same each time, counts of the truth, and of seeds that tests never use."""
    (counts, truth), (again, _) = gap.experiment.simulated(TINY), gap.experiment.simulated(TINY)
    torch.testing.assert_close(counts, again, rtol=0, atol=0)
    assert float(truth.mean()) == pytest.approx(4, rel=1e-4)
    assert float((counts - truth).mean()) == pytest.approx(0, abs=0.2)
    assert not torch.equal(gap.data.tissues([0], (24, 24), 4.0)[0], truth[0])
    toy, _ = gap.experiment.simulated(replace(gap.experiment.SHIPPED["gap-toy"], images=10))
    assert toy.shape == (10, 1, 8, 8)


@pytest.mark.parametrize("name", gap.experiment.SHIPPED)
def test_every_embedded_configuration_can_be_built(name: str) -> None:
    """Each has data of its rank, crops within them, and a net of at most 6 MB in half precision."""
    config = gap.experiment.SHIPPED[name]
    assert len(config.crop) == len(config.size) == config.dim
    assert all(crop <= side for crop, side in zip(config.crop, config.size, strict=True))
    assert 2 * sum(p.numel() for p in gap.experiment.build(config).parameters()) < 6e6


def test_a_net_is_registered_and_comes_back(tmp_path: Path) -> None:
    """Stored in half precision with its card, a net loads and denoises as before, but for the stated change."""
    (tmp_path / "registry.yaml").write_text("embedded: []\nexternal: []\n")
    for name, config in {"gap-a": TINY, "gap-b": replace(TINY_3D, z_conv_stage=1)}.items():
        net = gap.experiment.build(config).eval()
        NETWORKS.store(name, config, net, tmp_path)
        found = NETWORKS.load(name, data=tmp_path)
        weights.carrying(name, net, tmp_path)  # both know how bright the inputs were
        assert found.trained_on.keys() == {"pixel", "patch", "image"}
        counts = gap.experiment.simulated(config)[0]
        torch.testing.assert_close(gap.model.denoise(found, counts), gap.model.denoise(net, counts))
    assert weights.metadata("gap-a", tmp_path).half_precision_change.endswith("photons RMS, of 4")


def test_wrong_data_and_settings_are_refused(tmp_path: Path) -> None:
    """Fractional counts, ranks, missing truths and unknown names raise before anything is trained."""
    with pytest.raises(ValueError, match="counts: expected photon counts"):
        NETWORKS.train(TINY, tmp_path, (torch.full((1, 1, 8, 8), 0.5), None))
    with pytest.raises(ValueError, match="counts: expected 4 axes"):
        NETWORKS.train(TINY, tmp_path, (torch.ones(1, 1, 4, 8, 8), None))
    with pytest.raises(ValueError, match="crop: expected 3 sides"):
        NETWORKS.train(replace(TINY, dim=3), tmp_path)
    with pytest.raises(ValueError, match="truth: expected an array, since the net is supervised, got none"):
        NETWORKS.train(replace(TINY, supervised=True), tmp_path, (torch.ones(1, 1, 8, 8), None))
    with pytest.raises(ValueError, match="loss: expected one of mse, photon, got 'foton'"):
        NETWORKS.train(replace(TINY, loss="foton"), tmp_path)
    with pytest.raises(ValueError, match="data: expected one of cells, toy"):
        gap.experiment.simulated(replace(TINY, data="cell"))
    with pytest.raises(ValueError, match="size: expected 2 sides"):
        gap.experiment.simulated(replace(TINY, size=(4, 4, 4)))
    with pytest.raises(ValueError, match="network: expected one of"):
        NETWORKS.train_shipped(tmp_path, ["gap-4d"])
