"""Every network under every tool: each on data of its own domain, measured in the same way.

A subject is a network with one image of its domain, its noise, and that noise's covariance; a network is measured on
several. What is measured has no unit, or the pixel's, so that rows can be read beside one another. No row says
which network is the better one, for each has another task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import _numbers, _registry, datasets, embedded, metrics
from noisebook._checks import check_one_of, check_positive, check_range, error
from noisebook._parameters import check_opening
from noisebook.claims import Claim
from noisebook.jacobian import Covariance, Jacobian, diagonal, noise_map, white
from noisebook.papers import cyclegan, gap, linearized, regularity, xray

IMAGES = 3
"""Of its own domain, on which a network is measured."""
LOST = 0.1
"""A faint edge that keeps less of its height has lost its width."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and what it is measured on, in the network's unit.

    Attributes:
        name: The network's registry id.
        data: The image and its noise, in words.
        unit: Of the image.
        model: From (N, 1, Y, X) to the same shape, in evaluation mode; output and input are the same quantity.
        truth: (1, 1, Y, X).
        mean: (1, 1, Y, X), the mean of the noisy inputs: where the network is linearized.
        draw: ``draw(count, generator)`` gives (count, 1, Y, X), noisy inputs.
        covariance: Of the inputs' noise.
        window: (lowest, highest) value shown; the truth's if None.
    """

    name: str
    data: str
    unit: str
    model: nn.Module
    truth: Tensor
    mean: Tensor
    draw: Callable[[int, torch.Generator], Tensor]
    covariance: Covariance
    window: tuple[float, float] | None = None

    @property
    def shown_in(self) -> tuple[float, float]:
        """The window in which its images are shown."""
        return self.window or (float(self.truth.min()), float(self.truth.max()))


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


class Photons(nn.Module):
    """A network that predicts where the next photon lands, as a map from counts to expected photons.

    Args:
        net: From counts (N, 1, Y, X) to logarithms of the next photon's distribution.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, counts: Tensor) -> Tensor:
        """(N, 1, Y, X), as many expected photons as there are counts."""
        return gap.shares(self.net(counts)) * counts.sum((1, 2, 3), keepdim=True)


class Hounsfield(nn.Module):
    """A generator of the CycleGAN chapter, as a map from HU to HU.

    Args:
        net: From (N, 1, Y, X) to the same shape, in units of its ``scale_hu``.
    """

    def __init__(self, net: cyclegan.Generator) -> None:
        super().__init__()
        self.net = net

    def forward(self, hu: Tensor) -> Tensor:
        """(N, 1, Y, X), HU."""
        return self.net.scale_hu * self.net(cyclegan.normalise(hu, self.net.scale_hu))  # type: ignore[no-any-return]


def subjects(seed: int = 0, only: Sequence[str] = ()) -> dict[str, list[Subject]]:
    """Every network of the comparison whose weights are in the registry, with `IMAGES` images of its domain.

    Args:
        seed: Of the images: tissues and circles are drawn by it, patients are counted on from it.
        only: Registry ids; all if empty.

    Raises:
        ValueError: If the seed is negative or so high that an image would not be held out, or an id is that of no
            network that is compared.
    """
    known = _chosen(seed, only)
    numbers = range(IMAGES * seed, IMAGES * (seed + 1))
    return {name: [MAKERS[name](name, k) for k in numbers] for name in known}


def checked(out: str, networks: list[str], realisations: int, probes: int, seed: int) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong.
    """
    check_opening(checked, "compare", locals())
    check_range("realisations", realisations, 4)
    check_range("probes", probes, 1)
    return "three images of each domain (simulated)", ", ".join(_chosen(seed, networks))


def _chosen(seed: int, only: Sequence[str]) -> list[str]:
    """The networks that are compared, in the order of `MAKERS`, or an error as of `subjects`."""
    held_out = min(gap.FIRST_TRAINING_SEED, regularity.data.ROWS - regularity.data.TRAIN)
    check_range("seed", seed, 0, held_out // IMAGES - 1)
    known = [name for name in MAKERS if name in _registry.entries()]
    for name in only:
        check_one_of("networks", name, known)
    return [name for name in known if not only or name in only]


def _edge(number: int) -> tuple[np.ndarray, int, int]:
    """The noise-free first slice of a simulated patient, (Y, X) in HU, and row and column of an edge in it."""
    root = embedded.embedded_ct(embedded.TEST)
    patients = datasets.ct_patients(root)
    image = datasets.ct_pairs(root, patients[number % len(patients)], label="noise free").label[0]
    row, column = linearized.data.find_pixels(image, 1, margin=128, seed=number).places[0]
    return image, int(row), int(column)


def _scanned(name: str, data: str, model: nn.Module, scan: linearized.data.Scan, truth: Tensor) -> Subject:
    return Subject(
        name,
        data,
        "HU",
        model,
        truth,
        scan.mean,
        lambda count, generator: scan.fbp(scan.measure(count, generator)),
        scan.covariance(scan.dose.variance(scan.expected, scan.geometry)),
        window=(-160.0, 240.0),
    )


def _sparse(name: str, number: int) -> Subject:
    """128 pixels about an edge in a simulated patient, in the sparse-view scan that the network was trained for."""
    image, row, column = _edge(number)
    scan = linearized.data.region(image, embedded.TEST.grid, "I0", (0, row, column)).scan
    half = scan.mean.shape[-1] // 2
    truth = torch.from_numpy(image[row - half : row + half, column - half : column + half])[None, None]
    return _scanned(
        name, "simulated CT, 145 views, full exposure", linearized.experiment.NETWORKS.load(name), scan, truth
    )


def _unpaired(name: str, number: int) -> Subject:
    """The same place at a quarter of the dose, in the scan that the network's training patients had."""
    _, row, column = _edge(number)
    recipe = embedded.TEST
    patient = recipe.patients[number % len(recipe.patients)]
    clean = recipe.sinogram(patient, recipe.positions_mm(patient)[0])[None]
    target = recipe.grid.part(slice(row - 64, row + 64), slice(column - 64, column + 64))
    scan = linearized.data.Scan(clean, recipe.geometry, target, recipe.dose(recipe.low_share))
    return _scanned(name, "simulated CT, a quarter of the dose", Hounsfield(cyclegan.load(name).q2f), scan, scan.mean)


def _white(name: str, data: str, unit: str, model: nn.Module, truth: Tensor, sd: float) -> Subject:
    def draw(count: int, generator: torch.Generator) -> Tensor:
        return truth + sd * torch.randn((count, *truth.shape[1:]), generator=generator)

    return Subject(name, data, unit, model, truth, truth, draw, white(sd**2))


def _circles(name: str, number: int) -> Subject:
    truth = regularity.data.pairs(regularity.experiment.SMALL.base, number + 1)[1][-1:]
    net, sd = regularity.experiment.NETWORKS.load(name), regularity.data.SIGMA
    return _white(name, "simulated circles, white noise", "grey value", net, truth, sd)


def _photons(name: str, number: int) -> Subject:
    truth = gap.drawn(number, (64, 64), 0.0)[0]
    return Subject(
        name,
        "simulated tissue, one photon per pixel",
        "photons",
        Photons(gap.load(name)),
        truth,
        truth,
        lambda count, generator: torch.poisson(truth.expand(count, -1, -1, -1), generator=generator),
        diagonal(truth),
    )


def _radiograph(name: str, number: int) -> Subject:
    root = embedded.embedded_xray(embedded.XRAY_TEST)
    images = xray.data.radiographs(root, "test", 64)
    truth = xray.data.unit(images[[embedded.XRAY_TEST.views * number % len(images)]])  # another patient's
    net = xray.experiment.NETWORKS.load(name)
    model = net if name == "xray-residual" else nn.Sequential(net, nn.Sigmoid())  # the others give logits
    return _white(
        name, "simulated radiograph, white noise", "grey value", model, truth, xray.data.sigma("medium") / 255
    )


MAKERS: dict[str, Callable[[str, int], Subject]] = {
    "linearized-i0": _sparse,
    "regularity-s1-decay-0.001": _circles,
    "cyclegan-small": _unpaired,
    "gap-2d": _photons,
    "xray-ae": _radiograph,
    "xray-vae-40": _radiograph,
    "xray-residual": _radiograph,
}
"""The networks that are compared, by registry id, and what makes each with its data. A network joins by its line here;
one that is not in the registry is left out."""


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


def claims(found: Mapping[str, Measures], subjects: Mapping[str, Sequence[Subject]]) -> list[Claim]:
    """N1 to N3, of the network that is furthest from what is claimed of all, one value an image.

    Args:
        found: By name.
        subjects: What was measured.

    Raises:
        ValueError: If nothing was measured.
    """
    if not found:
        raise error("measures", "at least one network", "none")
    quantities = {
        "loss": {name: one.psnr[0] - one.psnr[1] for name, one in found.items()},
        "high": {name: _share_above(one) for name, one in found.items()},
        "off": {name: np.abs(np.log2(one.sd_ratio)) for name, one in found.items()},
    }
    worst = {what: max(values, key=lambda name: float(values[name].mean())) for what, values in quantities.items()}
    ours = {what: tuple(float(v) for v in quantities[what][name]) for what, name in worst.items()}
    data = "; ".join(dict.fromkeys(f"{IMAGES} × {images[0].data}" for images in subjects.values()))
    claim = partial(Claim, source="ours", data=data, schedule=f"embedded networks {', '.join(found)}")
    on = {what: f"on each image of {name}" for what, name in worst.items()}
    gains = f"every network gains PSNR on its own data: gain {on['loss']}, which gains least"
    passed = "every network passes noise of high spatial frequency less than noise of low: ratio of the two"
    told = "linearized at the mean input, every network's noise is that measured, within a quarter: |log2|"
    return [
        claim("N1", gains, ours=tuple(-value for value in ours["loss"]), low=0.0, unit="dB"),
        claim("N2", f"{passed} {on['high']}, where it is largest", ours=ours["high"], high=1.0),
        claim("N3", f"{told} {on['off']}, where it is largest", ours=ours["off"], high=math.log2(1.25)),
    ]


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
