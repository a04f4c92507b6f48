"""The chapter's long runs: seeds, weights of the losses, misaligned pairs, and discriminators alone.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from noisebook import simulated
from noisebook.networks import Trained
from noisebook.studies import Study
from noisebook.training import make_fabric

from .data import Scans, Split, check_apart, domains, embedded_split, embedded_test
from .experiment import BASELINE, NETWORKS, SHIFTED, SMALL, Config, Training, Validation, crops, trainee
from .measures import MISALIGNED, PAIRED, UNPAIRED, flat_regions, residuals_hu, rmse_hu, scores, texture
from .model import CRITICS, denoise, normalise

RESIDUALS = ("cycle_quarter", "cycle_full", "identity_full", "identity_quarter")
SPACING_MM = simulated.TEST.grid.spacing_mm
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every net of a study is trained on and measured with.

    Attributes:
        split: Slices to train on; the validation, and one slice of each test patient.
        test: All test slices, beside full dose.
        truth: ``(Z, Y, X)``, HU, of the same slices.
        regions: As `flat_regions` gives them.
    """

    split: Split
    test: Scans
    truth: np.ndarray
    regions: list[tuple[int, int, int]]


def _bench() -> _Bench:
    split, test, truth = embedded_split(), embedded_test(), embedded_test("noise free").full
    check_apart(split.training, {"all test slices": test})
    return _Bench(split, test, truth, flat_regions(truth))


def study_seeds(folder: Path, device: str, *, seeds: list[int], epochs: int, width: int) -> Arrays:
    """Train all three nets from several seeds; the arrays are those of `measure_all`.

    Args:
        folder: Checkpoints are kept two levels up, by configuration, so that studies share nets.
        device: To train on.
        seeds: Of weights, crops and buffers.
        epochs: Of the schedule.
        width: Channels of the generators; the discriminators have twice as many.
    """
    configs = [replace(config, seed=seed) for seed in seeds for config in (SMALL, BASELINE, SHIFTED)]
    return measure_all(folder, device, configs, epochs, width)


def study_lambdas(
    folder: Path, device: str, *, lambdas: list[list[float]], seeds: list[int], epochs: int, width: int
) -> Arrays:
    """Train CycleGANs with several weights of the losses; the arrays are those of `measure_all`.

    Args:
        folder: As for `study_seeds`, and as all below.
        device: To train on.
        lambdas: Pairs: weight of the cycle, weight of the identity.
        seeds: Of weights, crops and buffers.
        epochs: Of the schedule.
        width: Channels of the generators.
    """
    configs = [
        replace(SMALL, lambda_cycle=float(cycle), lambda_identity=float(identity), seed=seed)
        for seed in seeds
        for cycle, identity in lambdas
    ]
    return measure_all(folder, device, configs, epochs, width)


def study_registration(
    folder: Path, device: str, *, shifts: list[int], seeds: list[int], epochs: int, width: int
) -> Arrays:
    """Train the paired baseline on pairs that are more and more misaligned; the arrays are those of `measure_all`.

    Args:
        folder: As for `study_seeds`, and as all below.
        device: To train on.
        shifts: Largest displacements along each axis, pixels; 0 is registered, the slices' side is no relation at all.
        seeds: Of weights and crops.
        epochs: Of the schedule.
        width: Channels of the generators.
    """
    configs = [replace(BASELINE, shift=shift, seed=seed) for seed in seeds for shift in shifts]
    return measure_all(folder, device, configs, epochs, width)


def study_critics(
    folder: Path, device: str, *, seeds: list[int], steps: int, every: int, batch: int, width: int
) -> Arrays:
    """Train discriminators alone to tell real crops of both doses apart, of every kind in `CRITICS`.

    Args:
        folder: Not used: a training takes less than a minute.
        device: To train on.
        seeds: Of weights and crops.
        steps: Of a training.
        every: How many are averaged.
        batch: Crops of each dose.
        width: Channels of the discriminators.

    Returns:
        Of each kind and seed, (N,): ``kind``, ``seed``; and ``loss``, (N, steps / every), sums of two squared terms on
        new crops, means over both discriminators: 1/2 is for who cannot tell.
    """
    given, fabric = embedded_split().training, make_fabric(device)
    found: Arrays = {"kind": np.repeat(np.arange(len(CRITICS)), len(seeds)), "seed": np.tile(seeds, len(CRITICS))}
    losses = []
    for kind, seed in zip(found["kind"], found["seed"], strict=True):
        config = replace(
            SMALL, critics=CRITICS[kind], critic=width, batch=batch, critic_steps=1, crops=steps, seed=int(seed)
        )
        judges = Training(config)
        judges.d_f.to(device), judges.d_q.to(device)
        drawn = crops(*domains(given, config.pairing), config, torch.Generator().manual_seed(config.seed))
        for pair in itertools.islice(drawn, steps):
            quarter, full = (normalise(images.to(device), config.scale_hu) for images in pair)
            losses.append(float(judges.judge(fabric, (quarter, full), (quarter, full))))
    return found | {"loss": np.reshape(losses, (len(found["kind"]), -1, every)).mean(2)}


def measure_all(folder: Path, device: str, configs: Sequence[Config], epochs: int, width: int) -> Arrays:
    """Train and measure nets on the simulated patients.

    Args:
        folder: As for `study_seeds`.
        device: To train on.
        configs: N.
        epochs: E, of the schedule.
        width: Channels of the generators; the discriminators have twice as many.

    Returns:
        Of each net, (N,): ``kind``, ``seed``, ``shift``, ``lambda_cycle``, ``lambda_identity``; ``epoch``, the chosen
        one; ``mean_frequency`` of its noise, 1/mm; ``cycle_quarter`` and so on of `residuals_hu` (NaN for supervised
        nets). ``rmse_truth`` and ``rmse_full``, HU, (N, Z); ``psnr``, dB, and ``ssim`` of `scores`, against full dose,
        (N, conventions, Z); ``power``, its noise power spectrum, HU² mm², (N, R). By epoch, (N, E): ``validation``
        and ``test``, RMSE against full dose in HU; ``adversarial`` and ``critics`` (NaN for supervised nets).
        Of the quarter dose, the same with the prefix ``input_``; of the full dose ``full_power``,
        ``full_mean_frequency`` and ``full_rmse_truth``; ``frequency``, 1/mm, (R,); ``patient``, numbers from 0, (Z,).
    """
    bench, rows = _bench(), []
    for one in configs:
        config, validation = replace(one, epochs=epochs, width=width, critic=2 * width), Validation(bench.split.scored)
        place = NETWORKS.checkpoints(folder.parents[1] / "nets", config.pairing, config)
        trained = NETWORKS.train(config, place, bench.split, trainee=trainee(config, validation), device=device)
        rows.append(_row(bench, config, trained))
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    test = bench.test
    found |= {f"input_{name}": values for name, values in measure(bench, test.quarter).items()}
    full = measure(bench, test.full, against_full=False)
    found |= {f"full_{name}": full[name] for name in ("power", "mean_frequency", "rmse_truth")}
    found["frequency"] = texture(test.full, bench.truth, bench.regions, spacing_mm=SPACING_MM)[0]
    found["patient"] = np.unique(list(test.patients), return_inverse=True)[1]
    return found


def _row(bench: _Bench, config: Config, trained: Trained) -> Arrays:
    test, nets, validation = bench.test, trained.net, trained.trainee.validation
    found = {"kind": np.array((MISALIGNED if config.shift else PAIRED) if config.supervised else UNPAIRED)}
    found |= {name: np.array(getattr(config, name)) for name in ("seed", "shift", "lambda_cycle", "lambda_identity")}
    found |= measure(bench, denoise(nets.q2f, test.quarter)) | {"epoch": np.array(validation.epoch)}
    found |= dict(zip(validation.slices, np.array(validation.scores).T, strict=True))
    for name in ("adversarial", "critics"):
        found[name] = np.array([row.get(name, np.nan) for row in trained.log])
    left = residuals_hu(nets.q2f, nets.f2q, test.quarter, test.full) if nets.f2q else dict.fromkeys(RESIDUALS, np.nan)
    return found | {name: np.array(left[name]) for name in RESIDUALS}


def measure(bench: _Bench, image: np.ndarray, *, against_full: bool = True) -> Arrays:
    """The numbers of one output (Z, Y, X), HU, of the test slices; ``against_full``: also those against full dose."""
    _, power, centre = texture(image, bench.truth, bench.regions, spacing_mm=SPACING_MM)
    found = {"rmse_truth": rmse_hu(image, bench.truth), "power": power, "mean_frequency": np.array(centre)}
    if against_full:
        found |= {"rmse_full": rmse_hu(image, bench.test.full)} | scores(image, bench.test.full)
    return found


_DATA = f"{simulated.TRAIN.id} {simulated.TEST.id}"
_SIZE = {"epochs": SMALL.epochs, "width": SMALL.width}
_LAMBDAS = [[0, 0], [10, 0], [10, 5], [100, 50]]
_CRITICS = {"steps": 1200, "every": 100, "batch": 4, "width": SMALL.critic}
_SHIFTS, _SEEDS = [0, 2, 4, 8, 512], [0, 1, 2]

STUDIES = (
    Study("cyclegan", "seeds", study_seeds, {"seeds": _SEEDS, **_SIZE}, (), _DATA),
    Study("cyclegan", "lambdas", study_lambdas, {"lambdas": _LAMBDAS, "seeds": [0], **_SIZE}, (), _DATA),
    Study("cyclegan", "registration", study_registration, {"shifts": _SHIFTS, "seeds": _SEEDS, **_SIZE}, (), _DATA),
    Study("cyclegan", "critics", study_critics, {"seeds": _SEEDS, **_CRITICS}, (), simulated.TRAIN.id),
)
"""Every long run of the chapter; the nets of seed 0 are the embedded ones, unless shifts or weights are others."""
