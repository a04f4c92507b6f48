"""Training: exact resume, whole checkpoints, clear stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisebook import training

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Line:
    """The smallest trainee: y = w x, Adam, a scheduler."""

    parts = ("model", "optimizer", "scheduler")

    def __init__(self, rate: float = 0.05) -> None:
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)  # type: ignore[arg-type]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)

    def step(self, fabric: Any, batch: Tensor) -> dict[str, Tensor]:
        """Fit w = 3."""
        loss = (self.model(batch) - 3 * batch).square().mean()
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss}

    def end_epoch(self, epoch: int) -> None:
        """Step the schedule."""
        self.scheduler.step()


def batches(epoch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Twenty random batches."""
    for _ in range(20):
        yield torch.randn(8, 1, generator=generator)


def train(folder: Path, epochs: int, trainee: Line | None = None) -> tuple[Line, training.Log]:
    """Train on the CPU without a bar."""
    trainee = trainee or Line()
    return trainee, training.fit(trainee, batches, epochs=epochs, folder=folder, seed=1, device="cpu", progress=False)


def weight(trainee: Line) -> float:
    """The one weight."""
    return float(next(iter(trainee.model.parameters())).detach())


def test_training_learns(tmp_path: Path) -> None:
    """The weight approaches 3 and the logged loss falls."""
    trainee, log = train(tmp_path, 12)
    assert weight(trainee) == pytest.approx(3, abs=0.2)
    assert log[-1]["loss"] < log[0]["loss"] / 100
    assert json.loads((tmp_path / "log.json").read_text()) == log


def test_four_epochs_equal_two_and_two_resumed(tmp_path: Path) -> None:
    """Training 4 epochs gives the same weight and log, to the bit, as 2, a new process's objects, and 2 more."""
    straight, log = train(tmp_path / "a", 4)
    train(tmp_path / "b", 2)
    resumed, log_b = train(tmp_path / "b", 4)
    assert weight(resumed) == weight(straight)
    assert log_b == log


def test_a_finished_net_is_not_trained_again(tmp_path: Path) -> None:
    """A second call loads the weights and runs no batch."""
    first, _ = train(tmp_path, 2)
    again = Line()

    def none(epoch: int, generator: torch.Generator) -> Iterator[Tensor]:
        raise AssertionError("a batch was asked for")

    training.fit(again, none, epochs=2, folder=tmp_path, seed=1, device="cpu", progress=False)
    assert weight(again) == weight(first)


def test_a_longer_training_is_not_taken_for_a_shorter(tmp_path: Path) -> None:
    """Checkpoints of more epochs than asked for are refused: they hold another net than the one asked for."""
    train(tmp_path, 3)
    with pytest.raises(ValueError, match="checkpoints of at most 2 epochs, got 3"):
        train(tmp_path, 2)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """A truncated newest checkpoint is named in a warning, and training goes on from the one before, exactly."""
    straight, _ = train(tmp_path / "a", 4)
    train(tmp_path / "b", 3)
    newest = tmp_path / "b" / "checkpoint-0003.pt"
    newest.write_bytes(newest.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"checkpoint-0003.pt can't be read"):
        resumed, _ = train(tmp_path / "b", 4)
    assert weight(resumed) == weight(straight)


def test_only_whole_and_newest_checkpoints_stay(tmp_path: Path) -> None:
    """Two checkpoints stay and no partial file."""
    train(tmp_path, 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-0004.pt", "checkpoint-0005.pt", "log.json"]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    """NaN stops training with its name and step, and leaves the last whole epoch."""
    trainee = Line()

    def poisoned(epoch: int, generator: torch.Generator) -> Iterator[Tensor]:
        yield torch.ones(2, 1)
        yield torch.full((2, 1), float("nan") if epoch else 1.0)

    with pytest.raises(FloatingPointError, match=r"epoch 2/3, step 2: loss is nan"):
        training.fit(trainee, poisoned, epochs=3, folder=tmp_path, seed=0, device="cpu", progress=False)
    assert (tmp_path / "checkpoint-0001.pt").is_file()


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    """No epochs, no batches and a checkpoint of another trainee raise."""
    with pytest.raises(ValueError, match="epochs: expected a number above zero"):
        train(tmp_path, 0)
    with pytest.raises(ValueError, match="batches: expected at least one, got none"):
        training.fit(Line(), lambda e, g: [], epochs=1, folder=tmp_path, seed=0, device="cpu", progress=False)
    train(tmp_path, 1)
    other = Line()
    other.model = nn.Linear(2, 1, bias=False)
    with pytest.raises(ValueError, match=r"checkpoint-0001.pt: expected the state of this model"):
        train(tmp_path, 2, other)


def test_epoch_seeds_differ() -> None:
    """No two of many (seed, epoch) share a seed."""
    seeds = {training.epoch_seed(seed, epoch) for seed in range(30) for epoch in range(30)}
    assert len(seeds) == 900


def test_at_least_one_checkpoint_is_kept(tmp_path: Path) -> None:
    """Keeping none would delete what was trained, so it is refused before anything is."""
    with pytest.raises(ValueError, match="keep: expected a number above zero"):
        training.fit(object(), lambda epoch, generator: [], epochs=1, folder=tmp_path, seed=0, keep=0)  # type: ignore[arg-type]
