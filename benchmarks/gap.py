"""Sampling in batches against one image at a time, and the memory of 3-D inference: ``python benchmarks/gap.py``.

Everything runs in this process, in turn. The plain reference is written out here: the paper's loop for one image. The
embedded nets are used where the registry has them, else untrained ones of the same size, on which the time of a step
does not depend; the law is compared in either case.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import torch
from common import compare
from scipy import stats

from noisebook import weights
from noisebook.papers import gap

STOP_DB, BETA, SIZE = -10.0, 0.1, 64


def net(name: str) -> gap.model.UNet:
    """An embedded net, or an untrained one of its size."""
    known = name in {entry.id for entry in weights.embedded()}
    print(f"{name}: {'embedded' if known else 'untrained'}")
    made = gap.experiment
    return made.NETWORKS.load(name) if known else made.build(made.SHIPPED[name]).eval()


def one(model: torch.nn.Module, generator: torch.Generator) -> tuple[torch.Tensor, int]:
    """The plain loop for one image, as the paper has it: photons and steps."""
    photons, steps = torch.zeros(1, 1, SIZE, SIZE), 0
    with torch.no_grad():
        while 10 * math.log10(max(float(photons.mean()), 1e-4)) <= STOP_DB:
            f = model(photons).flatten(1).softmax(1).reshape(photons.shape)
            photons = photons + torch.poisson(f * max(BETA * float(photons.sum()), 1.0), generator=generator)
            steps += 1
        model(photons).flatten(1).softmax(1)  # the estimate after the last photons, which ours returns too
    return photons, steps


def sampling(images: int, rounds: int) -> None:
    """Speed and law of sampling, in float32 and bfloat16."""
    fast = net("gap-2d-wide")
    plain = gap.model.UNet(depth=fast.depth, width=fast.conv_final.in_channels)
    plain.load_state_dict({name: value.contiguous() for name, value in fast.state_dict().items()})
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(images, 1, SIZE, SIZE)

    def ours(dtype: torch.dtype) -> gap.model.Samples:
        return gap.model.sample(fast, start, stop_db=STOP_DB, beta=BETA, generator=generator, dtype=dtype)

    def loop() -> list[tuple[torch.Tensor, int]]:
        return [one(plain, generator) for _ in range(images)]

    reference = loop()
    for dtype in (torch.float32, torch.bfloat16):
        found = ours(dtype)
        pairs = {
            "photons": (found.photons.sum((1, 2, 3)), torch.stack([p.sum() for p, _ in reference])),
            "steps": (found.steps, torch.tensor([steps for _, steps in reference])),
        }
        tests = {name: stats.ks_2samp(*(v.numpy() for v in pair)).pvalue for name, pair in pairs.items()}
        compare(
            f"{images} images of {SIZE}² from nothing to {STOP_DB:g} dB, {dtype}", lambda d=dtype: ours(d), loop, rounds
        )
        print("  law: p-values " + ", ".join(f"{name} {p:.2f}" for name, p in tests.items()))
        if dtype != torch.float32:
            change_of_law(fast, found.photons, dtype)


def change_of_law(model: gap.model.UNet, photons: torch.Tensor, dtype: torch.dtype) -> None:
    """How far the next photon's distribution is from that of float32: half the sum of the differences."""
    with torch.no_grad():
        exact = gap.model.shares(model(photons))
        with torch.autocast("cpu", dtype):
            other = gap.model.shares(model(photons))
    distance = (exact - other).abs().flatten(1).sum(1) / 2
    print(f"  change of law: total variation {float(distance.mean()):.2g} a step (largest {float(distance.max()):.2g})")


def volume(shape: tuple[int, int, int], tile: int, width: int) -> None:
    """Time and peak memory of 3-D inference."""
    torch.manual_seed(0)
    solid = gap.model.UNet(dim=3, depth=4, width=width).eval()
    counts = torch.poisson(torch.full((1, 1, *shape), 0.5), generator=torch.Generator().manual_seed(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    gap.model.denoise(solid, counts, tile=tile)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sides = " x ".join(map(str, shape))
    print(f"3-D, {width} base channels, {sides}, tiles of {tile} with the whole reach {solid.reach}: {seconds:.0f} s, "
          f"peak memory of the process {peak:.2f} GiB (before: {before:.2f})")  # fmt: skip


def main() -> None:
    """Check the law, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--volume", type=int, nargs=3, default=(64, 256, 256))
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--only", choices=("sampling", "volume"))
    arguments = parser.parse_args()
    if arguments.only != "volume":
        sampling(arguments.images, arguments.rounds)
    if arguments.only != "sampling":
        volume(tuple(arguments.volume), arguments.tile, arguments.width)


if __name__ == "__main__":
    main()
