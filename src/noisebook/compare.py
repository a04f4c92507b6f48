"""Every network under every tool: each on data of its own domain, measured in the same way.

A subject is a network with one image of its domain, its noise, and that noise's covariance. What is measured has no
unit, or the pixel's, so that rows of a table can be read beside one another. No row says which network is the better
one, for each has another task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import _registry, datasets, embedded, metrics
from noisebook._checks import check_one_of, check_positive, error
from noisebook.claims import Claim
from noisebook.jacobian import Covariance, Jacobian, diagonal, noise_map, white
from noisebook.papers import cyclegan, gap, linearized, regularity, xray

SEEDS = 3
"""Groups of realisations, each with a seed of its own."""
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
    """What was found of one subject. Arrays of ``SEEDS`` numbers are means over the realisations of one seed.

    Attributes:
        psnr: (2, SEEDS), dB, of input and output; the peak is the range of the truth.
        ssim: (2, SEEDS), of input and output, with the same range.
        rmse: (2, SEEDS), in the subject's unit.
        frequency: (R,), cycles a pixel.
        transfer: (SEEDS, R), noise power of the output over that of the input.
        contrast: Share of a faint edge's height that the output keeps, at the mean input.
        edge_px: 10-90 % width of that edge in pixels; NaN where it is lost.
        sd: (Y, X), standard deviation of the output's noise, linear, in the subject's unit.
        sd_ratio: (SEEDS,), median over pixels of linear over measured variance, as the root.
        noise_kept: (SEEDS,), root mean square of the output's measured noise over that of the input's.
        shown: Input, output and truth, (Y, X) each.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    rmse: np.ndarray
    frequency: np.ndarray
    transfer: np.ndarray
    contrast: float
    edge_px: float
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
        net: From (N, 1, Y, X) to the same shape, in units of ``scale_hu``.
        scale_hu: HU.
    """

    def __init__(self, net: nn.Module, scale_hu: float) -> None:
        super().__init__()
        self.net, self.scale_hu = net, scale_hu

    def forward(self, hu: Tensor) -> Tensor:
        """(N, 1, Y, X), HU."""
        return self.scale_hu * self.net(cyclegan.normalise(hu, self.scale_hu))  # type: ignore[no-any-return]


def subjects(seed: int = 0, only: Sequence[str] = ()) -> list[Subject]:
    """Every network of the comparison whose weights are in the registry, with its data.

    Args:
        seed: Of what is drawn once: tissues, and which patient.
        only: Registry ids; all if empty.

    Raises:
        ValueError: If an id is of no network that is compared; the nearest one is named.
    """
    known = [name for name in MAKERS if name in _registry.entries()]
    for name in only:
        check_one_of("networks", name, known)
    return [MAKERS[name](name, seed) for name in known if not only or name in only]


def _edge(seed: int) -> tuple[np.ndarray, int, int]:
    """The noise-free first slice of the first simulated patient, (Y, X) in HU, and row and column of an edge in it."""
    root = embedded.embedded_ct(embedded.TEST)
    image = datasets.ct_pairs(root, datasets.ct_patients(root)[0], label="noise free").label[0]
    row, column = linearized.find_pixels(image, 1, margin=128, seed=seed).places[0]
    return image, int(row), int(column)


def _scanned(name: str, data: str, model: nn.Module, scan: linearized.Scan, truth: Tensor) -> Subject:
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


def _sparse(name: str, seed: int) -> Subject:
    """128 pixels about an edge in a simulated patient, in the sparse-view scan that the network was trained for."""
    image, row, column = _edge(seed)
    scan = linearized.region(image, embedded.TEST.grid, "I0", (0, row, column)).scan
    half = scan.mean.shape[-1] // 2
    truth = torch.from_numpy(image[row - half : row + half, column - half : column + half])[None, None]
    return _scanned(name, "simulated CT, 145 views, full exposure", linearized.load(name), scan, truth)


def _unpaired(name: str, seed: int) -> Subject:
    """The same place at a quarter of the dose, in the scan that the network's training patients had."""
    _, row, column = _edge(seed)
    recipe, net = embedded.TEST, cyclegan.load(name).q2f
    patient = recipe.patients[0]
    clean = recipe.sinogram(patient, recipe.positions_mm(patient)[0])[None]
    target = recipe.grid.part(slice(row - 64, row + 64), slice(column - 64, column + 64))
    scan = linearized.Scan(clean, recipe.geometry, target, recipe.dose(recipe.low_share))
    return _scanned(name, "simulated CT, a quarter of the dose", Hounsfield(net, net.scale_hu), scan, scan.mean)


def _white(name: str, data: str, unit: str, model: nn.Module, truth: Tensor, sd: float) -> Subject:
    def draw(count: int, generator: torch.Generator) -> Tensor:
        return truth + sd * torch.randn((count, *truth.shape[1:]), generator=generator)

    return Subject(name, data, unit, model, truth, truth, draw, white(sd**2))


def _circles(name: str, seed: int) -> Subject:
    truth = regularity.pairs(regularity.SMALL.base, seed + 1)[1][-1:]
    return _white(name, "circles, white noise", "grey value", regularity.load(name), truth, regularity.SIGMA)


def _photons(name: str, seed: int) -> Subject:
    truth = gap.drawn(seed, (64, 64), 0.0)[0]
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


def _radiograph(name: str, seed: int) -> Subject:
    root = embedded.embedded_xray(embedded.XRAY_TEST)
    images = xray.radiographs(root, "test", 64)
    if not 0 <= seed < len(images):
        raise error("seed", f"0 to {len(images) - 1}, for it chooses the radiograph", seed)
    truth = xray.unit(images[[seed]])
    net = xray.load(name)
    model = net if name == "xray-residual" else nn.Sequential(net, nn.Sigmoid())  # the others give logits
    return _white(name, "simulated radiograph, white noise", "grey value", model, truth, xray.sigma("medium") / 255)


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


def measure(subject: Subject, *, realisations: int = 16, probes: int = 64, seed: int = 0) -> Measures:
    """Measure a subject with every tool.

    Args:
        subject: What is measured.
        realisations: Of the noise, for each of ``SEEDS`` seeds; at least 4.
        probes: Of the noise map.
        seed: Of realisations and probes.

    Raises:
        ValueError: If there are fewer than 4 realisations, or no probe.
    """
    if realisations < 4:
        raise error("realisations", "at least 4", realisations)
    check_positive("probes", probes)
    inputs = [subject.draw(realisations, torch.Generator().manual_seed(1000 * seed + k)) for k in range(SEEDS)]
    with torch.no_grad():
        outputs = [torch.cat([subject.model(part) for part in group.split(8)]) for group in inputs]
    groups = [[group[:, 0].double().numpy() for group in side] for side in (inputs, outputs)]
    truth = subject.truth[0, 0].double().numpy()
    spectra = [np.stack([noise_spectrum(group)[1] for group in side]) for side in groups]
    operator = Jacobian(subject.model, subject.mean)
    contrast, width = faint_edge(operator)
    sd = noise_map(operator, subject.covariance, method="random", probes=probes, seed=seed).sd.numpy()
    measured = [group.var(0, ddof=1) for group in groups[1]]
    scores = np.array([[_scores(group, truth) for group in side] for side in groups])
    return Measures(
        psnr=scores[..., 0],
        ssim=scores[..., 1],
        rmse=scores[..., 2],
        frequency=noise_spectrum(groups[0][0])[0],
        transfer=spectra[1] / spectra[0],
        contrast=contrast,
        edge_px=width,
        sd=sd,
        sd_ratio=np.array([math.sqrt(float(np.mean(sd**2) / np.mean(variance))) for variance in measured]),
        noise_kept=np.array([_noise(after) / _noise(before) for before, after in zip(*groups, strict=True)]),
        shown={"input": groups[0][0][0], "output": groups[1][0][0], "truth": truth},
    )


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


def responses(found: Mapping[str, Measures]) -> dict[str, list[object]]:
    """What becomes of noise and of a faint edge, one row a network; *lost* where no edge is left."""
    widths = [one.edge_px for one in found.values()]
    return {
        "network": list(found),
        "noise kept": [float(one.noise_kept.mean()) for one in found.values()],
        "linear / measured noise": [float(one.sd_ratio.mean()) for one in found.values()],
        "contrast kept": [one.contrast for one in found.values()],
        "edge / pixels": ["lost" if math.isnan(width) else f"{width:.3g}" for width in widths],
    }


def claims(found: Mapping[str, Measures], subjects: Sequence[Subject]) -> list[Claim]:
    """C1 to C3, one value a seed: what holds for every network at once.

    Args:
        found: By name.
        subjects: What was measured.

    Raises:
        ValueError: If nothing was measured.
    """
    if not found:
        raise error("measures", "at least one network", "none")
    gain = np.min([one.psnr[1] - one.psnr[0] for one in found.values()], axis=0)
    high = np.max([_share_above(one) for one in found.values()], axis=0)
    off = np.max([np.abs(np.log2(one.sd_ratio)) for one in found.values()], axis=0)
    data = "; ".join(dict.fromkeys(subject.data for subject in subjects))
    claim = partial(Claim, source="ours", data=data, schedule=f"{len(found)} embedded networks")
    passed = "every network passes noise of high spatial frequency less than noise of low: largest ratio of the two"
    told = "linearized at the mean input, every network's noise is that measured, within a quarter: largest |log2|"
    return [
        claim("C1", "every network gains PSNR on its own data: smallest gain", ours=tuple(gain), low=0.0, unit="dB"),
        claim("C2", passed, ours=tuple(high), high=1.0),
        claim("C3", told, ours=tuple(off), high=math.log2(1.25)),
    ]


def _share_above(one: Measures) -> np.ndarray:
    """Noise transfer above a quarter cycle a pixel over that below, for each seed."""
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
