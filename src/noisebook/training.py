"""Training with exact resume: epochs, checkpoints, log and progress; the only door to Lightning Fabric.

A paper's file holds the step; this file holds the loop. Everything random in an epoch comes from a generator seeded by
(seed, epoch), so training for four epochs gives the same numbers as training for two, being killed, and going on.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from noisebook import _paths
from noisebook._checks import check_device, check_positive, error

Log = list[dict[str, float]]


class Trainee(Protocol):
    """What `fit` trains. ``parts`` names the attributes that have a ``state_dict``: modules, optimisers, schedulers."""

    parts: tuple[str, ...]

    def step(self, fabric: Any, batch: Any) -> dict[str, Tensor]:
        """One step on one batch: forward, ``fabric.backward``, optimiser. Returns scalars to log."""

    def end_epoch(self, epoch: int) -> None:
        """Called after each epoch, for schedulers."""


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of one epoch: 63 bits of a hash, so that neighbouring seeds and epochs are unrelated."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8], "big") >> 1


def make_fabric(device: str = "auto") -> Any:
    """A Lightning Fabric on ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``; ``fabric run`` has its own say.

    Raises:
        ValueError: the device is none of these, or is not there.
    """
    check_device(device, ("auto", "cpu", "cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric
    return Fabric() if "LT_CLI_USED" in os.environ else Fabric(accelerator=device, devices=1)


def fit(
    trainee: Trainee,
    batches: Callable[[int, torch.Generator], Iterable[Any]],
    *,
    epochs: int,
    folder: Path,
    seed: int,
    device: str = "auto",
    keep: int = 2,
    progress: bool = True,
) -> Log:
    """Train ``trainee`` for ``epochs``, going on from the newest checkpoint in ``folder``.

    Args:
        trainee: Modules, optimisers and the step. They are trained in place.
        batches: ``batches(epoch, generator)`` gives the batches of one epoch; all its randomness is the generator's.
        epochs: The total. A folder that already holds that many trains nothing.
        folder: Where ``checkpoint-NNNN.pt`` and ``log.json`` are kept; made if missing. Each checkpoint is written
            under another name, flushed to disk and renamed, so a killed run leaves only whole ones.
        seed: Seeds the batches.
        device: ``auto``, ``cpu`` or ``cuda``.
        keep: How many of the newest checkpoints stay.
        progress: Show a progress bar.

    Returns:
        The means of what the step returned, one dictionary an epoch.

    Raises:
        ValueError: If ``epochs`` or ``keep`` is not positive, or the checkpoint is of another trainee or a longer
            training.
        FloatingPointError: If a logged value is not finite; the last whole epoch stays on disk.
    """
    check_positive("epochs", epochs)
    check_positive("keep", keep)
    folder.mkdir(parents=True, exist_ok=True)
    done, log = _resume(trainee, folder)
    if done > epochs:
        raise error(f"{folder}", f"checkpoints of at most {epochs} epochs", done, "Ask for more, or use a new folder.")
    if done == epochs:
        return log
    fabric = make_fabric(device)
    fabric.launch()
    _set_up(fabric, trainee)
    for epoch in range(done, epochs):
        generator = torch.Generator().manual_seed(epoch_seed(seed + fabric.global_rank, epoch))
        log.append(_epoch(fabric, trainee, batches(epoch, generator), f"epoch {epoch + 1}/{epochs}", progress))
        trainee.end_epoch(epoch)
        if fabric.is_global_zero:
            _save(trainee, folder, epoch + 1, log, keep)
        fabric.barrier()
    return log


def _set_up(fabric: Any, trainee: Trainee) -> None:
    modules = {name: getattr(trainee, name) for name in trainee.parts if isinstance(getattr(trainee, name), nn.Module)}
    for name, module in modules.items():
        module.train()
        setattr(trainee, name, fabric.setup_module(module))
    for name in trainee.parts:
        part = getattr(trainee, name)
        if isinstance(part, torch.optim.Optimizer):
            _move(part, fabric.device)
            setattr(trainee, name, fabric.setup_optimizers(part))


def _move(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                state[key] = value.to(device)


def _epoch(fabric: Any, trainee: Trainee, batches: Iterable[Any], name: str, progress: bool) -> dict[str, float]:
    from tqdm import tqdm

    sums: dict[str, float] = {}
    count = 0
    for batch in tqdm(batches, desc=name, disable=not progress, leave=False, mininterval=1.0):
        moved = fabric.to_device(batch)
        for key, value in trainee.step(fabric, moved).items():
            number = float(value.detach())
            if number - number != 0:
                raise FloatingPointError(
                    f"{name}, step {count + 1}: {key} is {number}. The last whole epoch is kept; lower the learning "
                    "rate or clip gradients and run again."
                )
            sums[key] = sums.get(key, 0.0) + number
        count += 1
    if not count:
        raise error(f"{name}, batches", "at least one", "none")
    return {key: value / count for key, value in sums.items()}


def _save(trainee: Trainee, folder: Path, epoch: int, log: Log, keep: int) -> None:
    states = {name: getattr(trainee, name).state_dict() for name in trainee.parts}
    final = folder / f"checkpoint-{epoch:04d}.pt"
    partial = final.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save({"epoch": epoch, "log": log, "states": states}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    _paths.write_whole(folder / "log.json", (json.dumps(log, indent=1) + "\n").encode())
    partial.replace(final)
    for old in sorted(folder.glob("checkpoint-*.pt"))[:-keep]:
        old.unlink()


def _resume(trainee: Trainee, folder: Path) -> tuple[int, Log]:
    """Load the newest whole checkpoint into ``trainee``; a damaged one is passed over with a warning."""
    for path in sorted(folder.glob("checkpoint-*.pt"), reverse=True):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as broken:
            warnings.warn(f"{path} can't be read ({type(broken).__name__}); going on from the one before", stacklevel=3)
            continue
        if set(saved["states"]) != set(trainee.parts):
            raise error(
                f"{path}", f"states of {', '.join(trainee.parts)}", ", ".join(saved["states"]), "Use a new folder."
            )
        for name, state in saved["states"].items():
            try:
                getattr(trainee, name).load_state_dict(state)
            except (RuntimeError, ValueError) as other:
                raise error(f"{path}", f"the state of this {name}", other, "Use a new folder.") from None
        return int(saved["epoch"]), saved["log"]
    return 0, []
