"""How good slices are: under every convention side by side, with intervals, and in the texture of their noise.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748; the range of 400 HU is that of
ldct-benchmark (F. Wagner et al., arXiv 2401.04661). The measures of texture are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from noisebook import metrics
from noisebook._checks import check_rank, check_shape, error

from .network import AIR_HU, SCALE_HU, normalise
from .scans import BODY_HU, check_hu
from .watch import WINDOW_HU

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Convention:
    """A way to score a slice.

    Attributes:
        prepare: (image, reference), (Y, X) in HU, as they are compared.
        psnr_range: Data range of the PSNR, in the unit of what is compared.
        ssim_range: Data range of the SSIM.
    """

    prepare: Callable[[np.ndarray, np.ndarray], Pair]
    psnr_range: float
    ssim_range: float


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
CONVENTIONS = {
    AUTHORS_RULE: Convention(own_maximum, 1.0, 2.0),
    PROPER_RULE: Convention(own_maximum, 1.0, 1.0),
    WINDOW_RULE: Convention(windowed, _WIDTH, _WIDTH),
    "not windowed, range 400 HU": Convention(unchanged, _WIDTH, _WIDTH),
    "not windowed, range 4000 HU": Convention(unchanged, SCALE_HU, SCALE_HU),
}
"""Every convention by the name that tables show. The first two differ in the range of the SSIM alone."""


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
    for k, rule in enumerate(CONVENTIONS.values()):
        for z, pair in enumerate(zip(image, reference, strict=True)):
            ours, theirs = rule.prepare(*pair)
            found[0, k, z] = metrics.psnr(ours, theirs, data_range=rule.psnr_range)
            found[1, k, z] = metrics.ssim(ours, theirs, data_range=rule.ssim_range)
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
        patients: (Z,) ids; they are not shown.
        seed: Of the bootstrap.

    Returns:
        Columns: image, reference, RMSE, its interval, the change against the input in per cent, its interval.
    """
    groups = np.unique(list(patients), return_inverse=True)[1]
    names = ("image", "against", "RMSE / HU", "95 %", "change / %", "95 % of change")
    table: dict[str, list[object]] = {name: [] for name in names}
    for against, reference in references.items():
        identity = rmse_hu(next(iter(outputs.values())), reference)
        for name, image in outputs.items():
            found = rmse_hu(image, reference)
            change = 100 * (found / identity - 1)
            intervals = [metrics.bootstrap(values, groups, seed=seed) for values in (found, change)]
            shown = [f"{low:.2f} to {high:.2f}" for low, high in intervals]
            cells = (name, against, f"{found.mean():.2f}", shown[0], f"{change.mean():+.1f}", shown[1])
            for column, cell in zip(names, cells, strict=True):
                table[column].append(cell)
    return table


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
    sums: dict[str, list[float]] = {}
    scale = float(q2f.scale_hu)  # type: ignore[arg-type]
    ways = {"quarter": (q2f, f2q, quarter), "full": (f2q, q2f, full)}
    for name, (there, back, slices) in ways.items():
        check_hu(name, slices)
        for image in torch.from_numpy(slices):
            start = normalise(image[None, None].to(next(q2f.parameters()).device), scale)
            with torch.no_grad():
                found = {f"cycle_{name}": back(there(start)), f"identity_{name}": back(start)}
            for key, value in found.items():
                sums.setdefault(key, []).append(scale * float((value - start).abs().mean()))
    return {key: float(np.mean(values)) for key, values in sums.items()}
