"""Training of the CycleGAN chapter: losses, steps, buffer, schedules, resuming, choice of an epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook.papers import cyclegan
from noisebook.training import fit

NETWORKS = cyclegan.experiment.NETWORKS
TINY = cyclegan.experiment.Config(width=2, critic=2, blocks=1, buffer=3, batch=2, epochs=4, schedule="linear")
PAIRED = replace(TINY, pairing="registered")


class Plain:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: Tensor) -> None:
        """Plain backward."""
        loss.backward()


def scans(count: int = 4, seed: int = 0, side: int = 128) -> cyclegan.data.Scans:
    """Discs, one a patient, noisy at both doses."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    clean = np.stack([np.where(np.hypot(y, x - 0.02 * k) < 0.3, 60.0, -80.0) for k in range(count)])
    noisy = [(clean + random.normal(0, sd, clean.shape)).astype(np.float32) for sd in (40, 20)]
    return cyclegan.data.Scans(noisy[0], noisy[1], tuple(f"P{seed}{k}" for k in range(count)))


def pair(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One batch, (quarter, full), HU."""
    data = scans(count, seed)
    return torch.from_numpy(data.quarter)[:, None], torch.from_numpy(data.full)[:, None]


def plain_step(t: cyclegan.experiment.Training, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The alternating step as the papers write it: all terms at once, no buffer, nothing saved."""
    q, f = (cyclegan.model.normalise(images) for images in batch)
    for optimizer in (t.generators, t.critics):
        optimizer.zero_grad()
    fake_f, fake_q = t.g_q2f(q), t.g_f2q(f)
    fooled = ((t.d_f(fake_f) - 1) ** 2).mean(), ((t.d_q(fake_q) - 1) ** 2).mean()
    cycles = F.l1_loss(t.g_f2q(fake_f), q), F.l1_loss(t.g_q2f(fake_q), f)
    same = F.l1_loss(t.g_q2f(f), f), F.l1_loss(t.g_f2q(q), q)
    (sum(fooled) + 10 * sum(cycles) + 5 * sum(same)).backward()  # type: ignore[union-attr]
    t.generators.step()
    t.critics.zero_grad()
    terms = [
        ((d(real) - 1) ** 2).mean() + (d(fake.detach()) ** 2).mean()
        for d, real, fake in ((t.d_f, f, fake_f), (t.d_q, q, fake_q))
    ]
    (sum(terms) / 2).backward()  # type: ignore[union-attr]
    t.critics.step()
    return {
        "adversarial": sum(fooled) / 2,
        "critics": sum(terms) / 2,
        "cycle_hu": 4000 * sum(cycles) / 2,
        "identity_full_hu": 4000 * same[0],
        "identity_quarter_hu": 4000 * same[1],
    }  # type: ignore[dict-item]


def values(t: Any) -> list[Tensor]:
    """All trained values of a trainee, copied."""
    nets = [getattr(t, name) for name in t.parts if isinstance(getattr(t, name), nn.Module)]
    return [p.detach().clone() for net in nets for p in net.parameters()]


def test_the_step_is_the_plain_one() -> None:
    """Losses and weights of two steps are those of one backward over the whole sum, as the papers write it."""
    config = replace(TINY, buffer=0)
    ours, plain = cyclegan.experiment.Training(config), cyclegan.experiment.Training(config)
    for seed in (0, 1):
        found, expected = ours.step(Plain(), pair(seed=seed)), plain_step(plain, pair(seed=seed))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value.detach(), rtol=1e-4, atol=1e-4)
    kernels = [(a, b) for a, b in zip(values(ours), values(plain), strict=True) if a.ndim == 4]
    for a, b in kernels:  # biases before a normalisation have a gradient of rounding errors only
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_adversarial_loss_is_least_squares() -> None:
    """A map of halves is 1/4 away from both answers: the equilibrium."""
    half = torch.full((2, 1, 3, 3), 0.5)
    assert (
        float(cyclegan.experiment.adversarial(half, True))
        == float(cyclegan.experiment.adversarial(half, False))
        == 0.25
    )
    assert float(cyclegan.experiment.adversarial(torch.ones(1), True)) == 0
    assert float(cyclegan.experiment.adversarial(3 * torch.ones(1), False)) == 9


@pytest.mark.parametrize("config", [TINY, PAIRED], ids=["cyclegan", "paired"])
def test_one_step_changes_every_parameter(config: cyclegan.experiment.Config) -> None:
    """No layer of any network is left out."""
    trainee = (cyclegan.experiment.PairedTraining if config.supervised else cyclegan.experiment.Training)(config)
    before = values(trainee)
    trainee.step(Plain(), pair())
    assert len(before) == (12 if config.supervised else 2 * (12 + 5))
    assert all((a != b).any() for a, b in zip(before, values(trainee), strict=True))


def test_weights_of_zero_leave_terms_out() -> None:
    """Without cycle and identity only the adversarial terms are there."""
    trainee = cyclegan.experiment.Training(replace(TINY, lambda_cycle=0, lambda_identity=0))
    assert set(trainee.step(Plain(), pair())) == {"adversarial", "critics"}


def test_the_generators_step_leaves_no_gradient_in_the_critics() -> None:
    """Critics are judged by their own loss only, and can be trained again afterwards."""
    trainee = cyclegan.experiment.Training(TINY)
    seen: list[bool] = []

    class Spy(Plain):
        @staticmethod
        def backward(loss: Tensor) -> None:
            loss.backward()
            seen.append(any(p.grad is not None and bool(p.grad.any()) for p in trainee.d_f.parameters()))

    trainee.step(Spy(), pair())
    assert seen == [False] * 4 + [True] * 2
    assert all(p.requires_grad for p in trainee.d_f.parameters())


def test_both_kinds_start_as_the_same_generator() -> None:
    """One seed gives the same denoiser, supervised or not; another seed another one."""
    first, second = cyclegan.experiment.Training(TINY), cyclegan.experiment.PairedTraining(PAIRED)
    for a, b in zip(first.g_q2f.parameters(), second.g_q2f.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = cyclegan.experiment.PairedTraining(replace(PAIRED, seed=1))
    assert any((a != b).any() for a, b in zip(first.g_q2f.parameters(), other.g_q2f.parameters(), strict=True))


def test_one_batch_can_be_overfitted() -> None:
    """Many steps of the paired training on one batch bring its loss far below the identity's."""
    trainee = cyclegan.experiment.PairedTraining(
        replace(PAIRED, width=8, learning_rate=5e-3, last=2e-4, scale_hu=400.0)
    )
    quarter, full = pair(1)
    losses = [float(trainee.step(Plain(), (quarter[..., :24, :24], full[..., :24, :24]))["l1_hu"]) for _ in range(200)]
    assert losses[0] == pytest.approx(float((quarter - full)[..., :24, :24].abs().mean()), rel=0.05)
    assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_gives_nearly_the_same_losses() -> None:
    """Generators in bfloat16 change every loss by at most one per cent; weights and images stay float32."""
    exact, fast = (cyclegan.experiment.Training(replace(TINY, width=4, precision=p)) for p in ("float32", "bfloat16"))
    expected, found = exact.step(Plain(), pair()), fast.step(Plain(), pair())
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=0.01, atol=0)
    assert all(value.dtype == torch.float32 for value in values(fast))


def test_the_buffer_gives_back_half_of_the_past() -> None:
    """Until it is full images pass; then half of them are older ones, each from the last few dozen."""
    buffer = cyclegan.experiment.ImageBuffer(50, 0)
    numbers = [float(buffer.exchange(torch.full((1, 1, 1, 1), float(k)))) for k in range(2050)]
    assert numbers[:50] == [float(k) for k in range(50)]
    older = [k for k in range(50, 2050) if numbers[k] != k]
    assert len(older) == pytest.approx(1000, abs=80)
    assert len({numbers[k] for k in older}) == len(older)
    assert np.mean([k - numbers[k] for k in older]) == pytest.approx(100, rel=0.2)


def test_no_buffer_changes_nothing() -> None:
    """Of size 0, every image comes back."""
    images = torch.rand(3, 1, 2, 2)
    torch.testing.assert_close(cyclegan.experiment.ImageBuffer(0, 0).exchange(images), images, rtol=0, atol=0)


def test_the_buffer_goes_on_exactly() -> None:
    """From its state, images and choices go on as if never stopped; a state that does not fit is refused."""
    straight, first = cyclegan.experiment.ImageBuffer(4, 7), cyclegan.experiment.ImageBuffer(4, 7)
    images = torch.rand(20, 1, 2, 2)
    expected = straight.exchange(images)
    head = first.exchange(images[:9])
    resumed = cyclegan.experiment.ImageBuffer(4, 0)
    resumed.load_state_dict(first.state_dict())
    torch.testing.assert_close(torch.cat([head, resumed.exchange(images[9:])]), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="buffer: expected at most 2 images, got 4"):
        cyclegan.experiment.ImageBuffer(2, 0).load_state_dict(first.state_dict())


def rates(config: cyclegan.experiment.Config, epochs: int) -> list[tuple[float, float]]:
    """The learning rates of generators and critics, over the initial one, epoch by epoch."""
    trainee, found = cyclegan.experiment.Training(config), []
    for epoch in range(epochs):
        now = [o.param_groups[0]["lr"] / config.learning_rate for o in (trainee.generators, trainee.critics)]
        found.append((now[0], now[1]))
        trainee.generators.step()
        trainee.critics.step()
        trainee.end_epoch(epoch)
    return found


def test_the_authors_rate_falls_in_steps() -> None:
    """The generators' rate is multiplied by 0.95 every five epochs, the critics' stays."""
    found = rates(replace(TINY, schedule="step"), 11)
    assert [a for a, _ in found] == pytest.approx([1.0] * 5 + [0.95] * 5 + [0.95**2])
    assert [b for _, b in found] == [1.0] * 11


def test_zhus_rate_stays_and_falls_to_zero() -> None:
    """Half of the epochs constant, then linearly, for both."""
    found = rates(replace(TINY, epochs=8), 8)
    assert [a for a, _ in found] == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [b for _, b in found] == [a for a, _ in found]


def test_the_presets_are_the_published_ones() -> None:
    """65 epochs without a buffer; 200 with 50 images; the embedded nets share width, blocks and epochs."""
    assert (
        cyclegan.experiment.AUTHORS.epochs,
        cyclegan.experiment.AUTHORS.schedule,
        cyclegan.experiment.AUTHORS.buffer,
    ) == (65, "step", 0)
    assert (cyclegan.experiment.ZHU.epochs, cyclegan.experiment.ZHU.schedule, cyclegan.experiment.ZHU.buffer) == (
        200,
        "linear",
        50,
    )
    small = cyclegan.experiment.SHIPPED.values()
    assert len({(c.width, c.blocks, c.epochs, c.scale_hu, c.learning_rate) for c in small}) == 1
    assert [(c.supervised, c.shift > 0) for c in small] == [(False, False), (True, False), (True, True)]


def split(count: int = 4) -> cyclegan.data.Split:
    """Some to train on, one that validates and one that is scored too."""
    return cyclegan.data.Split(scans(count), {"validation": scans(1, 9), "test": scans(1, 8)})


def trained(config: cyclegan.experiment.Config, folder: Path, epochs: int) -> Any:
    """A trainee after some epochs of a configuration's schedule."""
    trainee = cyclegan.experiment.trainee(config, cyclegan.experiment.Validation({"validation": scans(1, 9)}))
    batches = cyclegan.experiment.batches(config, split(), folder)
    fit(trainee, batches, epochs=epochs, folder=folder, seed=3, device="cpu", progress=False)
    return trainee


@pytest.mark.parametrize("config", [TINY, replace(TINY, schedule="step"), PAIRED], ids=["linear", "step", "paired"])
def test_four_epochs_equal_two_and_two_resumed(config: cyclegan.experiment.Config, tmp_path: Path) -> None:
    """Weights, buffers with their random state, learning rates, scores and the chosen weights are equal to the bit."""
    straight = trained(config, tmp_path / "a", 4)
    trained(config, tmp_path / "b", 2)
    resumed = trained(config, tmp_path / "b", 4)
    for name in straight.parts:
        states = [getattr(t, name).state_dict() for t in (straight, resumed)]
        torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    if not config.supervised:
        assert len(resumed.past_full.images) == 3


def test_the_epoch_is_chosen_by_the_validation_alone() -> None:
    """The best validation score keeps its weights, whatever comes later and whatever other slices say."""
    data = scans(1)
    validation = cyclegan.experiment.Validation({"validation": data, "test": scans(1, 1)})
    for epoch, offset in enumerate((0.03, 0.01, 0.02, 0.01)):
        net = cyclegan.model.Generator(2, 1, last=0)
        nn.init.constant_(net.last_layer[1].bias, offset)
        validation.score(epoch, q2f=net)
    assert validation.epoch == 1
    assert float(validation.best["q2f.last_layer.1.bias"]) == pytest.approx(0.01)
    offset_hu = 4000 * np.tanh([0.03, 0.01, 0.02, 0.01])
    expected = np.hypot(offset_hu, np.std(data.quarter - data.full))
    assert [row[0] for row in validation.scores] == pytest.approx(expected, rel=0.05)
    assert {len(row) for row in validation.scores} == {2}


def test_without_slices_the_last_epoch_stays() -> None:
    """Nothing to choose by: the newest weights."""
    validation = cyclegan.experiment.Validation({})
    for epoch in range(3):
        validation.score(epoch, q2f=cyclegan.model.Generator(2, 1))
    assert validation.epoch == 2


def test_training_gives_nets_scores_losses_and_samples(tmp_path: Path) -> None:
    """Everything has a row an epoch, a picture too, and a finished training is only read."""
    config, given = replace(TINY, pairing="patients", epochs=2), split()
    found = NETWORKS.train(config, tmp_path, given, device="cpu", progress=False)
    scores = np.array(found.trainee.validation.scores)
    chosen = found.trainee.validation.epoch
    assert scores.shape == (2, 2)
    assert chosen == int(np.argmin(scores[:, 0]))
    assert all(set(row) >= {"adversarial", "critics", "cycle_hu"} for row in found.log)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["sample-0001.png", "sample-0002.png"]
    output = cyclegan.model.denoise(found.net.q2f, given.scored["test"].quarter)
    rms = float(np.sqrt(np.mean((output.astype(float) - given.scored["test"].full) ** 2)))
    assert rms == pytest.approx(scores[chosen, 1], rel=1e-5)
    again = NETWORKS.train(config, tmp_path, given, device="cpu")
    torch.testing.assert_close(again.net.state_dict(), found.net.state_dict(), rtol=0, atol=0)
    assert {name.split(".")[0] for name in found.net.state_dict()} == {"q2f", "f2q"}
    assert again.net.f2q is not None


@pytest.mark.parametrize("config", [TINY, PAIRED], ids=["cyclegan", "paired"])
def test_a_loss_that_is_not_finite_stops_the_training(config: cyclegan.experiment.Config, tmp_path: Path) -> None:
    """An absurd learning rate ends with the name of the loss and the remedy."""
    wild = replace(config, learning_rate=1e38)
    with pytest.raises(FloatingPointError, match=r"(critics|_hu|adversarial) is (nan|inf).*lower the learning"):
        NETWORKS.train(wild, tmp_path, split(), device="cpu", progress=False)


def ramp(count: int) -> Tensor:
    """Slices whose pixels hold their own number, row and column."""
    n, y, x = torch.meshgrid(torch.arange(count), torch.arange(160), torch.arange(160), indexing="ij")
    return (100000 * n + 200 * y + x).float()


@pytest.mark.parametrize("shift", [0, 5])
def test_registered_crops_are_at_most_so_far_apart(shift: int) -> None:
    """The same slice and flips; places differ by up to the shift along each axis, and do differ."""
    data = (ramp(3), ramp(3))
    apart = set()
    for a, b in cyclegan.experiment.crops(
        *data, replace(PAIRED, shift=shift, crops=40), torch.Generator().manual_seed(0)
    ):
        assert a.shape == b.shape == (2, 1, 128, 128)
        for difference in (b - a).unique().tolist():
            rows = round(difference / 200)
            apart.add((rows, round(difference - 200 * rows)))
    assert {abs(d) for pair in apart for d in pair} == set(range(shift + 1))


def test_domains_are_drawn_apart() -> None:
    """Every slice of both is seen as often, up to one; the two orders and places have nothing in common."""
    data = (ramp(6), ramp(4))
    seen = list(cyclegan.experiment.crops(*data, replace(TINY, crops=10), torch.Generator().manual_seed(0)))
    assert len(seen) == 30
    numbers = [[int(image.min() // 100000) for images in dose for image in images] for dose in zip(*seen, strict=True)]
    assert [numbers[0].count(k) for k in range(6)] == [10] * 6
    assert [numbers[1].count(k) for k in range(4)] == [15] * 4
    same = [bool((a == b).all()) for a, b in seen]
    assert not any(same)


def test_crops_are_those_of_the_generator() -> None:
    """One seed, one epoch; flips occur along both axes."""
    data = (ramp(3), ramp(3))
    first, again, other = (
        next(iter(cyclegan.experiment.crops(*data, TINY, torch.Generator().manual_seed(s)))) for s in (0, 0, 1)
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])
    steps = {
        (float(image[0, 1, 0] - image[0, 0, 0]), float(image[0, 0, 1] - image[0, 0, 0]))
        for a, _ in cyclegan.experiment.crops(*data, replace(TINY, crops=20), torch.Generator().manual_seed(0))
        for image in a
    }
    assert steps == {(200 * down, along) for down in (-1.0, 1.0) for along in (-1.0, 1.0)}


def test_settings_that_cannot_be_are_refused() -> None:
    """Unknown words, numbers out of range, shifts of unpaired data, and patches larger than slices."""
    for change, message in (
        ({"pairing": "random"}, "pairing: expected one of"),
        ({"schedule": "cosine"}, "schedule: expected one of"),
        ({"precision": "half"}, "precision: expected one of"),
        ({"batch": 0}, "batch: expected a number above zero"),
        ({"buffer": -1}, "buffer: expected a number from zero on"),
        ({"shift": 3}, "shift: expected 0 unless pairing is registered, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(TINY, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="domains: expected slices of at least 256 pixels a side, got 160"):
        next(cyclegan.experiment.crops(ramp(1), ramp(1), replace(TINY, patch=256), torch.Generator()))
