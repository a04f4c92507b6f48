"""What the chapter measures: scores under every convention, texture of noise, residuals, and the value of every claim.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748; the range of 400 HU is that of
ldct-benchmark (F. Wagner et al., arXiv 2401.04661). The measures of texture are ours.

The functions at the end, which ``claims.yaml`` names, take the results of the studies by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from noisebook import metrics
from noisebook._checks import check_positive, check_rank, check_shape, error
from noisebook.studies import by_seed

from . import model
from .data import AIR_HU, BODY_HU, WINDOW_HU, check_hu

UNPAIRED, PAIRED, MISALIGNED = 0, 1, 2
"""Kinds of training in the studies: CycleGAN, and supervised on registered and on misaligned pairs."""
Pair = tuple[np.ndarray, np.ndarray]
Rows = Mapping[str, np.ndarray]
Results = Mapping[str, Any]


def own_maximum(image: np.ndarray, reference: np.ndarray) -> Pair:
    """The authors' rule: air and below to 0, the reference's own maximum to 1.

    Raises:
        ValueError: If the reference has nothing above air.
    """
    top = float(reference.max()) - AIR_HU
    if top <= 0:
        raise error("reference", f"something above {AIR_HU:g} HU", f"at most {reference.max():g} HU")
    low, high = ((np.maximum(values, AIR_HU) - AIR_HU) / top for values in (image, reference))
    return low, high


def windowed(image: np.ndarray, reference: np.ndarray) -> Pair:
    """Both clipped to the abdominal window, HU."""
    return np.clip(image, *WINDOW_HU), np.clip(reference, *WINDOW_HU)


def unchanged(image: np.ndarray, reference: np.ndarray) -> Pair:
    """Both as they are, HU."""
    return image, reference


_WIDTH = WINDOW_HU[1] - WINDOW_HU[0]
AUTHORS_RULE = "own maximum, SSIM range 2 (authors)"
PROPER_RULE = "own maximum, SSIM range 1"
WINDOW_RULE = "window -160 to 240 HU, range 400"
CONVENTIONS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Pair], float, float]] = {
    AUTHORS_RULE: (own_maximum, 1.0, 2.0),
    PROPER_RULE: (own_maximum, 1.0, 1.0),
    WINDOW_RULE: (windowed, _WIDTH, _WIDTH),
    "not windowed, range 400 HU": (unchanged, _WIDTH, _WIDTH),
    "not windowed, range 4000 HU": (unchanged, model.SCALE_HU, model.SCALE_HU),
}
"""Ways to score a slice by the names that tables show: what makes of image and reference, (Y, X) in HU, what is
compared; the data range of the PSNR, in its unit; that of the SSIM. The first two differ in the last alone."""
_RULES = list(CONVENTIONS)


def scores(image: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """PSNR and SSIM of slices under every convention.

    Args:
        image: (Z, Y, X), HU.
        reference: The same shape, HU.

    Returns:
        ``psnr`` in dB and ``ssim``, each (conventions, Z), in the order of `CONVENTIONS`.

    Raises:
        ValueError: If shapes differ, or as the metrics do.
    """
    check_rank("image", image, 3, "(Z, Y, X)")
    check_shape("reference", reference, image.shape)
    found = np.empty((2, len(CONVENTIONS), len(image)))
    for k, (prepare, psnr_range, ssim_range) in enumerate(CONVENTIONS.values()):
        for z, pair in enumerate(zip(image, reference, strict=True)):
            ours, theirs = prepare(*pair)
            found[0, k, z] = metrics.psnr(ours, theirs, data_range=psnr_range)
            found[1, k, z] = metrics.ssim(ours, theirs, data_range=ssim_range)
    return {"psnr": found[0], "ssim": found[1]}


def convention_table(
    outputs: Mapping[str, np.ndarray], reference: np.ndarray, patients: Sequence[str] = (), *, seed: int = 0
) -> dict[str, list[object]]:
    """The same images under every convention: columns of mean PSNR and SSIM for each of ``outputs``.

    Args:
        outputs: (Z, Y, X) by name, HU; the first is the input, the identity's output.
        reference: The same shape, HU.
        patients: (Z,) ids, not shown; given, 95 % intervals over patients of what each other one gains on the first
            are added.
        seed: Of the bootstrap.
    """
    groups = np.unique(list(patients), return_inverse=True)[1]
    table: dict[str, list[object]] = {"convention": list(CONVENTIONS)}
    identity: dict[str, np.ndarray] | None = None
    for name, image in outputs.items():
        found = scores(image, reference)
        identity = identity or found
        for key, title, digits in (("psnr", f"{name}: PSNR / dB", 2), ("ssim", f"{name}: SSIM", 4)):
            table[title] = [f"{row.mean():.{digits}f}" for row in found[key]]
            if len(groups) and identity is not found:
                gains = [metrics.bootstrap(row, groups, seed=seed) for row in found[key] - identity[key]]
                table[f"{title}, gain, 95 %"] = [f"{low:+.{digits}f} to {high:+.{digits}f}" for low, high in gains]
    return table


def rmse_hu(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The RMSE of each slice, (Z,), HU, of (Z, Y, X) in HU."""
    check_rank("image", image, 3, "(Z, Y, X)")
    check_shape("reference", reference, image.shape)
    return np.array([metrics.rmse(a, b) for a, b in zip(image, reference, strict=True)])


def rmse_table(
    outputs: Mapping[str, np.ndarray],
    references: Mapping[str, np.ndarray],
    patients: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, list[object]]:
    """RMSE in HU of every output against every reference, with 95 % intervals over patients, and beside the identity.

    Args:
        outputs: (Z, Y, X) by name, HU; the first is the input, the identity's output.
        references: The same shape, HU, by name, such as full dose and noise-free truth.
        patients: (Z,) ids; they are not shown. Unknown, each slice counts as a patient of its own.
        seed: Of the bootstrap.

    Returns:
        Columns: image, reference, RMSE, its interval, the change against the input in per cent, its interval.
    """
    groups = np.unique(list(patients), return_inverse=True)[1] if len(patients) else None
    names = ("image", "against", "RMSE / HU", "95 %", "change / %", "95 % of change")
    rows = []
    for against, reference in references.items():
        identity = rmse_hu(next(iter(outputs.values())), reference)
        for name, image in outputs.items():
            found = rmse_hu(image, reference)
            change = 100 * (found / identity - 1)
            intervals = [metrics.bootstrap(values, groups, seed=seed) for values in (found, change)]
            first, second = (f"{low:.2f} to {high:.2f}" for low, high in intervals)
            rows.append((name, against, f"{found.mean():.2f}", first, f"{change.mean():+.1f}", second))
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def flat_regions(truth: np.ndarray, side: int = 32, most_hu: float = 20.0) -> list[tuple[int, int, int]]:
    """Regions of a grid that hold one soft tissue: where noise can be told from structure.

    Args:
        truth: (Z, Y, X), HU, free of noise.
        side: Of a region, pixels.
        most_hu: Largest range of the truth in a region.

    Returns:
        (slice, first row, first column) of each, half a side apart.

    Raises:
        ValueError: If there is none.
    """
    check_rank("truth", truth, 3, "(Z, Y, X)")
    found = [
        (z, y, x)
        for z, image in enumerate(truth)
        for y in range(0, image.shape[0] - side + 1, max(1, side // 2))
        for x in range(0, image.shape[1] - side + 1, max(1, side // 2))
        if (part := image[y : y + side, x : x + side]).min() > BODY_HU and np.ptp(part) <= most_hu
    ]
    if not found:
        raise error("truth", f"flat regions of {side} pixels a side", "none", "Take smaller regions or a larger range.")
    return found


def texture(
    image: np.ndarray,
    truth: np.ndarray,
    regions: Sequence[tuple[int, int, int]],
    *,
    side: int = 32,
    spacing_mm: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The radial noise power spectrum of what differs from the truth in regions, and its mean frequency.

    Args:
        image: (Z, Y, X), HU.
        truth: The same shape, HU.
        regions: As `flat_regions` gives them.
        side: Theirs, pixels.
        spacing_mm: Pixel size.

    Returns:
        Frequencies, 1/mm, (side // 2,); the spectrum, HU² mm², (side // 2,); the mean frequency, 1/mm.

    Raises:
        ValueError: If shapes differ, or there is no region.
    """
    check_shape("truth", truth, image.shape)
    noise = image.astype(np.float64) - truth
    if not regions:
        raise error("regions", "at least one", "none")
    parts = np.stack([noise[z, y : y + side, x : x + side] for z, y, x in regions])
    nps = metrics.noise_power_spectrum(parts, spacing_mm=spacing_mm)
    frequency, power = metrics.radial_spectrum(nps, spacing_mm=spacing_mm)
    return frequency, power, metrics.mean_frequency(frequency, power)


def residuals_hu(q2f: nn.Module, f2q: nn.Module, quarter: np.ndarray, full: np.ndarray) -> dict[str, float]:
    """What the cycle and identity losses are left at on whole slices, mean magnitudes in HU.

    Args:
        q2f: The denoiser, a `Generator`.
        f2q: The generator back, of the same scale.
        quarter: (Z, Y, X), HU.
        full: (Z, Y, X), HU.

    Returns:
        ``cycle_quarter``: quarter dose there and back; ``cycle_full``; ``identity_full``: full dose denoised, and
        ``identity_quarter``: quarter dose made noisier, against themselves.
    """
    scale, device = float(q2f.scale_hu), next(q2f.parameters()).device  # type: ignore[arg-type]
    found: dict[str, float] = {}
    for name, (there, back, slices) in {"quarter": (q2f, f2q, quarter), "full": (f2q, q2f, full)}.items():
        check_hu(name, slices)
        starts = [model.normalise(image[None, None].to(device), scale) for image in torch.from_numpy(slices)]
        with torch.no_grad():
            for key, ends in (("cycle", [back(there(x)) for x in starts]), ("identity", [back(x) for x in starts])):
                left = [scale * float((end - x).abs().mean()) for end, x in zip(ends, starts, strict=True)]
                found[f"{key}_{name}"] = float(np.mean(left))
    return found


def tiling(net: nn.Module, hu: np.ndarray, tiles: Sequence[int], *, halo: int = 32) -> dict[str, np.ndarray]:
    """What tiles change: the statistics of instance normalisation are then those of each tile.

    Args:
        net: A `Generator`.
        hu: (Z, Y, X), as for `denoise`.
        tiles: Sides of tiles, pixels; those of the slices and above change nothing.
        halo: As for `denoise`; beyond the 22 pixels that the convolutions reach, what remains is the statistics.

    Returns:
        ``tile``; ``rms_hu`` and ``max_hu``, of the difference from whole slices.

    Raises:
        ValueError: As `denoise` does, or a tile is not positive.
    """
    for tile in tiles:
        check_positive("tile", tile)
    whole = model.denoise(net, hu)
    changes = [model.denoise(net, hu, tile=tile, halo=halo) - whole for tile in tiles]
    return {
        "tile": np.array(tiles),
        "rms_hu": np.array([np.sqrt(np.mean(change.astype(np.float64) ** 2)) for change in changes]),
        "max_hu": np.array([float(np.abs(change).max()) for change in changes]),
    }


def rows_again(rows: Rows, outputs: Mapping[int, np.ndarray], truth: np.ndarray) -> tuple[list[float], list[float]]:
    """RMSE against the truth, HU, of what the embedded networks make now, and of what the study has for seed 0.

    Args:
        rows: The study ``seeds``.
        outputs: (Z, Y, X), HU, by kind of training.
        truth: The same shape.
    """
    stored = [float(by_seed(rows, "rmse_truth", kind=kind, seed=0).mean()) for kind in outputs]
    return [float(rmse_hu(image, truth).mean()) for image in outputs.values()], stored


def against_input(rows: Rows, quantity: str = "rmse_truth") -> np.ndarray:
    """RMSE of every net over that of the input, (N,): ratios of means over the test slices."""
    return np.asarray(np.asarray(rows[quantity]).mean(1) / np.asarray(rows[f"input_{quantity}"]).mean())


def network_table(rows: Rows) -> dict[str, list[object]]:
    """The columns of a table of all nets of a study, beside the input, which is the identity's output."""
    kinds = {UNPAIRED: "CycleGAN", PAIRED: "registered pairs", MISALIGNED: "misaligned pairs"}
    names = ("net", "seed", "cycle", "identity", "shift / px", "epoch", "RMSE to truth / HU", "over the input's")
    cells: list[tuple[object, ...]] = [("input", *[""] * 5, f"{np.mean(rows['input_rmse_truth']):.2f}", "1.000")]
    ratios = against_input(rows)
    for k, kind in enumerate(rows["kind"]):
        weights = [f"{rows[name][k]:g}" if kind == UNPAIRED else "" for name in ("lambda_cycle", "lambda_identity")]
        shift = "" if kind == UNPAIRED else int(rows["shift"][k])
        numbers = (int(rows["epoch"][k]) + 1, f"{rows['rmse_truth'][k].mean():.2f}", f"{ratios[k]:.3f}")
        cells.append((kinds[int(kind)], int(rows["seed"][k]), *weights, shift, *numbers))
    return {name: list(column) for name, column in zip(names, zip(*cells, strict=True), strict=True)}


def sweep(seeds: Rows, lambdas: Rows) -> dict[str, np.ndarray]:
    """`against_input` of every CycleGAN of two studies, each counted once, by its losses' weights: cycle, identity."""
    groups: dict[str, dict[int, float]] = {}
    for rows in (seeds, lambdas):
        for k, ratio in enumerate(against_input(rows)):
            if rows["kind"][k] == UNPAIRED:
                name = f"{rows['lambda_cycle'][k]:g}, {rows['lambda_identity'][k]:g}"
                groups.setdefault(name, {}).setdefault(int(rows["seed"][k]), float(ratio))
    return {name: np.array(list(values.values())) for name, values in groups.items()}


def _of_kind(found: Results, quantity: str, kind: int) -> np.ndarray:
    """A quantity of the study ``seeds``, one row a seed."""
    return by_seed(found["seeds"], quantity, kind=kind)


def _rmse(found: Results, kind: int) -> np.ndarray:
    """RMSE against the truth, mean over the test slices, HU, one value a seed."""
    return np.asarray(_of_kind(found, "rmse_truth", kind).mean(1))


def rmse_lowered(found: Results) -> np.ndarray:
    """By what fraction the CycleGAN lowers the input's RMSE against the truth."""
    return np.asarray(1 - _rmse(found, UNPAIRED) / found["seeds"]["input_rmse_truth"].mean())


def gain(found: Results, score: str) -> np.ndarray:
    """What the CycleGAN gains on the input by the authors' rule: ``psnr``, dB, or ``ssim``."""
    rule = _RULES.index(AUTHORS_RULE)
    before = found["seeds"][f"input_{score}"][rule].mean()
    return np.asarray(_of_kind(found, score, UNPAIRED)[:, rule].mean(1) - before)


def largest_change(found: Results) -> np.ndarray:
    """Upper end of the 95 % interval over patients of the relative change of the RMSE against full dose."""
    rows = found["seeds"]
    changes = _of_kind(found, "rmse_full", UNPAIRED) / rows["input_rmse_full"] - 1
    return np.array([metrics.bootstrap(change, rows["patient"], seed=0)[1] for change in changes])


def not_beating(found: Results) -> float:
    """How many CycleGANs do not have a lower RMSE against the truth than the input, over seeds and weights."""
    return float(sum((ratios >= 1).sum() for ratios in sweep(found["seeds"], found["lambdas"]).values()))


def unpaired_less_paired(found: Results) -> np.ndarray:
    """RMSE against the truth of the CycleGAN less that of the paired baseline, HU."""
    return np.asarray(_rmse(found, UNPAIRED) - _rmse(found, PAIRED))


def unrelated_over_input(found: Results) -> np.ndarray:
    """RMSE against the truth after training on pairs that are furthest misaligned, over that of the input."""
    rows = found["registration"]
    return np.asarray(against_input(rows)[np.asarray(rows["shift"]) == np.max(rows["shift"])])


def misaligned_ratio(found: Results, to: str) -> np.ndarray:
    """RMSE against the truth after training on misaligned pairs, over that of the ``input`` or ``registered`` pairs."""
    rmse = found["seeds"]["input_rmse_truth"].mean() if to == "input" else _rmse(found, PAIRED)
    return np.asarray(_rmse(found, MISALIGNED) / rmse)


def final_loss(found: Results, of: str) -> np.ndarray:
    """A term of the CycleGAN's game at the last epoch: ``adversarial`` or ``critics``."""
    return np.asarray(_of_kind(found, of, UNPAIRED)[:, -1])


def rules_apart(found: Results, score: str, rule: str, other: str) -> np.ndarray:
    """Mean score of the CycleGAN by one of `CONVENTIONS` less that by another: ``psnr``, dB, or ``ssim``."""
    values = _of_kind(found, score, UNPAIRED).mean(2)
    return np.asarray(values[:, _RULES.index(rule)] - values[:, _RULES.index(other)])


def optimism(found: Results) -> np.ndarray:
    """By what fraction the test RMSE of the epoch chosen on validation exceeds the best, (seeds, kinds)."""
    shares = []
    for kind in (UNPAIRED, PAIRED, MISALIGNED):
        chosen, test = (_of_kind(found, name, kind) for name in ("epoch", "test"))
        shares.append(test[np.arange(len(chosen)), chosen] / test.min(1) - 1)
    return np.stack(shares, 1)


def size(found: Results, of: str) -> int:
    """A size of the authors' networks: parameters of generator or discriminator, its receptive field or map."""
    with torch.device("meta"):
        generator, critic = model.Generator(), model.Discriminator()
    sizes = [model.parameters(generator), model.parameters(critic)]
    sizes += [model.receptive_field(critic), model.map_size(critic, 128)]
    return sizes[("generator", "discriminator", "receptive field", "map").index(of)]


def residual(found: Results, of: Sequence[str]) -> np.ndarray:
    """What cycle or identity is left at, HU: the mean of some of the residuals of `residuals_hu`."""
    return np.asarray(sum(_of_kind(found, name, UNPAIRED) for name in of) / len(of))


def coarseness(found: Results, kind: int = PAIRED) -> np.ndarray:
    """Log2 of the noise's mean frequency over that of full dose."""
    return np.asarray(np.log2(_of_kind(found, "mean_frequency", kind) / found["seeds"]["full_mean_frequency"]))


def nearer_in_texture(found: Results) -> np.ndarray:
    """How much nearer to full dose the CycleGAN's mean frequency of noise is than the paired baseline's, |log2|."""
    return np.asarray(np.abs(coarseness(found)) - np.abs(coarseness(found, UNPAIRED)))


def noise_power(found: Results, kind: int) -> np.ndarray:
    """Log2 of the noise's power over that of full dose."""
    rows = found["seeds"]
    circumference = np.asarray(rows["frequency"])
    ratio = (_of_kind(found, "power", kind) @ circumference) / (rows["full_power"] @ circumference)
    return np.asarray(np.log2(ratio))


def critics_alone(found: Results, critics: str) -> np.ndarray:
    """Final sum of the two squared terms of discriminators alone, of one of `CRITICS`."""
    return np.asarray(by_seed(found["critics"], "loss", kind=model.CRITICS.index(critics))[:, -1])
