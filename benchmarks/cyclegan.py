"""One CycleGAN training step against a plain implementation: ``python benchmarks/cyclegan.py``.

Plain is the step as the papers write it, in this file, with PyTorch's own instance normalisation and padding: every
generator's output at once, one backward over the sum of all terms with the discriminators frozen, then both
discriminators. Ours runs backward term by term, so that one graph
at a time is in memory, with channels last, and, asked to, convolves in bfloat16. Everything runs in this process, in
turn; that the losses agree is checked first. Peak memory is that of tensors alive during one step, beyond those before
it. At the authors' size a step takes a minute on a core: see ``--width``, ``--batch`` and ``--only``.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from noisebook.papers import cyclegan

Batch = tuple[Tensor, Tensor]
PRECISIONS = {"float32": 1e-4, "bfloat16": 0.01}
"""By how much losses may differ from plain, relatively."""


class Backward:
    """Stands in for Fabric: backward and nothing else."""

    @staticmethod
    def backward(loss: Tensor) -> None:
        """Plain backward."""
        loss.backward()


def plain_step(t: cyclegan.experiment.Training, batch: Batch) -> dict[str, Tensor]:
    """One alternating step, written out."""
    q, f = (cyclegan.model.normalise(images) for images in batch)
    for critic in (t.d_f, t.d_q):
        critic.requires_grad_(False)
    fake_f, fake_q = t.g_q2f(q), t.g_f2q(f)
    fooled = (t.d_f(fake_f) - 1).square().mean() + (t.d_q(fake_q) - 1).square().mean()
    cycle = F.l1_loss(t.g_f2q(fake_f), q) + F.l1_loss(t.g_q2f(fake_q), f)
    same_f, same_q = F.l1_loss(t.g_q2f(f), f), F.l1_loss(t.g_f2q(q), q)
    t.generators.zero_grad()
    (fooled + 10 * cycle + 5 * (same_f + same_q)).backward()
    t.generators.step()
    for critic in (t.d_f, t.d_q):
        critic.requires_grad_(True)
    t.critics.zero_grad()
    judged = [
        (critic(real) - 1).square().mean() + critic(fake.detach()).square().mean()
        for critic, real, fake in ((t.d_f, f, fake_f), (t.d_q, q, fake_q))
    ]
    ((judged[0] + judged[1]) / 2).backward()
    t.critics.step()
    scale = cyclegan.model.SCALE_HU
    return {
        "adversarial": fooled.detach() / 2,
        "critics": ((judged[0] + judged[1]) / 2).detach(),
        "cycle_hu": scale * cycle.detach() / 2,
        "identity_full_hu": scale * same_f.detach(),
        "identity_quarter_hu": scale * same_q.detach(),
    }


class PlainNorm(nn.Module):
    """PyTorch's instance normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.instance_norm(x)


def plainly(net: nn.Module) -> None:
    """Put PyTorch's layers and layout in place of ours; the weights stay."""
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, cyclegan.model.InstanceNorm):
                setattr(parent, name, PlainNorm())
            elif isinstance(child, cyclegan.model.Reflect):
                setattr(parent, name, nn.ReflectionPad2d(child.reach))


class Peak(TorchDispatchMode):
    """Counts the bytes of tensors that operations make and that are still alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the storages that it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known or not storage.nbytes():
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def measured(name: str, step: Callable[[], dict[str, Tensor]], rounds: int) -> tuple[dict[str, Tensor], float]:
    """The losses of the first of some steps, and the median of their seconds; prints them, and the first's peak memory.

    The peak is the allocator's on CUDA, else counted, which costs little beside the step.
    """
    cuda, seconds, found, most = torch.cuda.is_available(), [], [], 0
    for k in range(rounds):
        before = torch.cuda.memory_allocated() if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with nullcontext(Peak()) if cuda or k else Peak() as counted:
            found.append(step())
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        most = max(most, torch.cuda.max_memory_allocated() - before if cuda else counted.most)
    print(f"{name}: {statistics.median(seconds):.2f} s a step, at most {most / 1e6:.0f} MB", flush=True)
    return found[0], statistics.median(seconds)


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative difference of losses."""
    return max(float((found[name] / value - 1).abs()) for name, value in expected.items())


def native_bfloat16() -> bool:
    """Whether this machine computes in bfloat16 rather than emulate it."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()


def main() -> None:
    """Check equality, then memory, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=32, help="of the generators; the discriminators have twice it")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=PRECISIONS, help="one precision; both, where the processor has bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    config = replace(cyclegan.experiment.AUTHORS, width=arguments.width, critic=2 * arguments.width)
    random = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 1, config.patch, config.patch)
    quarter, full = (40 + 30 * torch.randn(shape, generator=random).to(arguments.device) for _ in range(2))

    def trainee(precision: str) -> cyclegan.experiment.Training:
        made = cyclegan.experiment.Training(replace(config, precision=precision, batch=arguments.batch))
        for net in (made.g_q2f, made.g_f2q, made.d_f, made.d_q):
            net.to(arguments.device)
        return made

    plain = trainee("float32")
    for net in (plain.g_q2f, plain.g_f2q, plain.d_f, plain.d_q):
        plainly(net)

    def plainest() -> dict[str, Tensor]:
        return plain_step(plain, (quarter, full))

    print(f"one step at width {arguments.width}, batch {arguments.batch}, {config.patch} x {config.patch} pixels")
    expected, slow = measured("plain, float32", partial(plain_step, plain, (quarter, full)), arguments.rounds)
    known = list(PRECISIONS)[: 2 if native_bfloat16() else 1]
    for precision in [arguments.only] if arguments.only else known:
        ours = trainee(precision)
        losses, fast = measured(f"ours, {precision}", partial(ours.step, Backward(), (quarter, full)), arguments.rounds)
        apart = differences(losses, expected)
        print(f"    {slow / fast:.2f} times as fast as plain; losses of the first step differ by {apart:.1e}")
        if apart > PRECISIONS[precision]:
            raise SystemExit("they do not agree")


if __name__ == "__main__":
    main()
