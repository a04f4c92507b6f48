"""What the comparison measures: every tool on one network, and the values of the claims on all of them.

What is measured has no unit, or the pixel's, so that rows can be read beside one another. No row says which network is
the better one, for each has another task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from noisebook import _numbers, metrics
from noisebook._checks import check_positive, check_range, error
from noisebook.jacobian import Jacobian, noise_map

from .data import IMAGES, Subject

LOST = 0.1
"""A faint edge that keeps less of its height has lost its width."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What was found of one network. Arrays have one value an image (I of them), a mean over realisations of its noise.

    Attributes:
        psnr: (2, I), dB, of input and output; the peak is the range of the truth.
        ssim: (2, I), of input and output, with the same range.
        rmse: (2, I), in the subject's unit.
        frequency: (R,), cycles a pixel.
        transfer: (I, R), noise power of the output over that of the input.
        contrast: (I,), share of a faint edge's height that the output keeps, at the mean input.
        edge_px: (I,), 10-90 % width of that edge in pixels; NaN where it is lost.
        sd: (Y, X), standard deviation of the output's noise at the first image, linear, in the subject's unit.
        sd_ratio: (I,), root of the mean linear variance of all pixels over their mean measured variance.
        noise_kept: (I,), root mean square of the output's measured noise over that of the input's.
        shown: Input, output and truth of the first image, (Y, X) each.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    rmse: np.ndarray
    frequency: np.ndarray
    transfer: np.ndarray
    contrast: np.ndarray
    edge_px: np.ndarray
    sd: np.ndarray
    sd_ratio: np.ndarray
    noise_kept: np.ndarray
    shown: Mapping[str, np.ndarray]


def measure(images: Sequence[Subject], *, realisations: int = 16, probes: int = 64, seed: int = 0) -> Measures:
    """Measure a network with every tool.

    Args:
        images: The subjects of one network, of one size.
        realisations: Of the noise, for each image; at least 4.
        probes: Of each noise map.
        seed: Of realisations and probes.

    Raises:
        ValueError: If there is no image, fewer than 4 realisations, or no probe.
    """
    if not images:
        raise error("images", "at least one", "none")
    check_range("realisations", realisations, 4)
    check_positive("probes", probes)
    found = [_measure(one, realisations, probes, 1000 * seed + k) for k, one in enumerate(images)]
    together: dict[str, Any] = {name: np.stack([one[name] for one in found], -1) for name in ("psnr", "ssim", "rmse")}
    alone: dict[str, Any] = {
        n: np.stack([one[n] for one in found]) for n in ("transfer", "contrast", "edge_px", "sd_ratio", "noise_kept")
    }
    first: dict[str, Any] = {name: found[0][name] for name in ("frequency", "sd", "shown")}
    return Measures(**together, **alone, **first)


def _measure(subject: Subject, realisations: int, probes: int, seed: int) -> dict[str, Any]:
    """What `Measures` holds, of one image."""
    generator = torch.Generator().manual_seed(seed)  # in parts: a scan takes much memory while it is drawn
    inputs = torch.cat([subject.draw(len(part), generator) for part in torch.arange(realisations).split(16)])
    with torch.no_grad():
        outputs = torch.cat([subject.model(part) for part in inputs.split(8)])
    noisy, clean, truth = (images[:, 0].double().numpy() for images in (inputs, outputs, subject.truth))
    (frequency, before), (_, after) = noise_spectrum(noisy), noise_spectrum(clean)
    operator = Jacobian(subject.model, subject.mean)
    contrast, width = faint_edge(operator)
    sd = noise_map(operator, subject.covariance, method="random", probes=probes, seed=seed).sd.numpy()
    scores = dict(
        zip(("psnr", "ssim", "rmse"), np.transpose([_scores(one, truth[0]) for one in (noisy, clean)]), strict=True)
    )
    return scores | {
        "frequency": frequency,
        "transfer": after / before,
        "contrast": contrast,
        "edge_px": width,
        "sd": sd,
        "sd_ratio": math.sqrt(float(np.mean(sd**2) / np.mean(clean.var(0, ddof=1)))),
        "noise_kept": _noise(clean) / _noise(noisy),
        "shown": {"input": noisy[0], "output": clean[0], "truth": truth[0]},
    }


def noise_spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in cycles a pixel and power of the noise in images (N, Y, X): of what differs from their mean."""
    noise = (images - images.mean(0)) * math.sqrt(len(images) / (len(images) - 1))
    return metrics.radial_spectrum(metrics.noise_power_spectrum(noise, spacing_mm=1.0), spacing_mm=1.0)


def faint_edge(operator: Jacobian) -> tuple[float, float]:
    """What a faint vertical edge through the middle becomes: the share of its height that is kept, and its width.

    The edge is a step of height one from the left half to the right, sent through the Jacobian; its profile is the mean
    over the rows of the middle half.

    Returns:
        Contrast kept, and the 10-90 % width in pixels: 0.8 for a step; NaN where less than `LOST` is kept, or where
        what is left has no plateaus.
    """
    rows, columns = operator.image.shape[2:]
    step = torch.zeros_like(operator.image)
    step[..., columns // 2 :] = 1
    response = (operator @ step)[0, 0].numpy()
    reach = min(24, 3 * columns // 8)  # the image's own border is no part of the edge
    profile = response[rows // 4 : rows - rows // 4, columns // 2 - reach : columns // 2 + reach].mean(0)
    quarter = len(profile) // 4
    contrast = float(profile[-quarter:].mean() - profile[:quarter].mean())
    if contrast < LOST:
        return contrast, math.nan
    try:
        return contrast, metrics.edge_width(profile)
    except ValueError:
        return contrast, math.nan


def scores(found: Mapping[str, Measures]) -> dict[str, list[str]]:
    """PSNR, SSIM and RMSE of input and output, means over all realisations, one row a network."""
    columns: dict[str, list[str]] = {"network": list(found)}
    heads = {"psnr": ("PSNR / dB", "{:.1f}"), "ssim": ("SSIM", "{:.3f}"), "rmse": ("RMSE", "{:#.3g}")}
    for name, (head, form) in heads.items():
        pairs = [getattr(one, name).mean(1) for one in found.values()]
        columns[f"{head}, in → out"] = [f"{form} → {form}".format(before, after) for before, after in pairs]
    return columns


def responses(found: Mapping[str, Measures]) -> dict[str, list[str]]:
    """What becomes of noise and of a faint edge, mean and standard deviation over the images, one row a network."""
    heads = {"noise kept": "noise_kept", "linear / measured noise": "sd_ratio"}
    heads |= {"contrast kept": "contrast", "edge / pixels": "edge_px"}
    columns = {head: [_told(getattr(one, name)) for one in found.values()] for head, name in heads.items()}
    return {"network": list(found), **columns}


def _told(values: np.ndarray) -> str:
    """Mean and standard deviation of what is finite; *lost* where nothing is."""
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        return _numbers.number(float(kept[0])) if len(kept) else "lost"
    return _numbers.with_spread(float(kept.mean()), float(kept.std(ddof=1)))


def claimed(found: Mapping[str, Measures], subjects: Mapping[str, Sequence[Subject]]) -> dict[str, Any]:
    """What the claims are measured from: of the networks, which is furthest from what is claimed of all; and on what.

    Args:
        found: By name.
        subjects: What was measured.

    Raises:
        ValueError: If nothing was measured.
    """
    if not found:
        raise error("measures", "at least one network", "none")
    quantities = {
        "gain": {name: one.psnr[1] - one.psnr[0] for name, one in found.items()},
        "high": {name: _share_above(one) for name, one in found.items()},
        "deviation": {name: np.abs(np.log2(one.sd_ratio)) for name, one in found.items()},
    }
    means = {what: {name: float(v.mean()) for name, v in values.items()} for what, values in quantities.items()}
    worst = {what: (min if what == "gain" else max)(mean, key=mean.__getitem__) for what, mean in means.items()}
    values = {what: quantities[what][name] for what, name in worst.items()}
    domains = dict.fromkeys(f"{IMAGES} × {images[0].data}" for images in subjects.values())
    return {"worst": worst, "values": values, "domains": "; ".join(domains), "networks": ", ".join(found)}


def furthest(found: Mapping[str, Any], quantity: str) -> np.ndarray:
    """A quantity of the network that is furthest from what is claimed of all, one value an image.

    Args:
        found: As from `claimed`.
        quantity: ``gain``: PSNR gained, dB; ``high``: noise transfer above a quarter cycle a pixel over that below;
            ``deviation``: |log2| of linear over measured noise.
    """
    return np.asarray(found["values"][quantity])


def _share_above(one: Measures) -> np.ndarray:
    """Noise transfer above a quarter cycle a pixel over that below, for each image."""
    above = one.frequency > 0.25
    ratio: np.ndarray = one.transfer[:, above].mean(1) / one.transfer[:, ~above].mean(1)
    return ratio


def _scores(images: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Mean PSNR, SSIM and RMSE of images (N, Y, X); the peak is the range of the truth."""
    peak = float(np.ptp(truth))
    rows = [
        (metrics.psnr(i, truth, data_range=peak), metrics.ssim(i, truth, data_range=peak), metrics.rmse(i, truth))
        for i in images
    ]
    psnr, ssim, rmse = np.mean(rows, axis=0)
    return float(psnr), float(ssim), float(rmse)


def _noise(images: np.ndarray) -> float:
    """Root mean square of the noise in images (N, Y, X)."""
    return math.sqrt(float(images.var(0, ddof=1).mean()))
