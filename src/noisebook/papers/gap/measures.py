"""What the chapter measures: reference filters, the numbers of every study's rows, and the value of every claim.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.

The filters are the best Gaussian, and Anscombe's transform with non-local means: F. Anscombe, Biometrika 35, 1948, doi
10.1093/biomet/35.3-4.246; M. Mäkitalo, A. Foi, "Optimal inversion of the Anscombe transformation in low-count Poisson
image denoising", IEEE TIP 20(1), 2011, doi 10.1109/TIP.2010.2056693; A. Buades, B. Coll, J.-M. Morel, "A non-local
algorithm for image denoising", CVPR 2005, doi 10.1109/CVPR.2005.38. Their free numbers are chosen WITH the truth,
separately for each image: no user of these filters could do better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from scipy.special import gammaln
from skimage.restoration import denoise_nl_means
from torch import Tensor, nn

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error
from noisebook.metrics import psnr
from noisebook.studies import by_seed

from .data import ExactPredictor, ToyPrior, drawn, thinned, tissues, toy_prior
from .model import UNet, denoise, pseudo_psnr, sample, shares

Rows = Mapping[str, np.ndarray]
Results = Mapping[str, Any]
WIDTHS_PX = tuple(0.5 * 1.15**k for k in range(30))
"""Standard deviations of the Gaussian that are tried, 0.5 to 29 pixels."""
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.3, 3.0)
"""Filter strengths h of the non-local means that are tried, in standard deviations of the stabilised noise."""
BANDS = 8
"""Bands of spatial frequency of a power spectrum, up to half a cycle per pixel."""
LAWS = ("alone", "beside", "summed")
"""How images of the study ``law`` were made: one at a time, among others, and by the authors' sampler."""
_TABLE_END = 100.0
_MARGIN_DB = 1.0
"""Levels at which the best Gaussian filter is not so far above a flat image say nothing about a method."""


def level_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB of an image brought to the truth's total; the peak is the truth's largest value.

    Args:
        image: Any shape, in any unit.
        truth: The same shape.

    Raises:
        ValueError: If shapes differ, a value is not finite, or a sum is not positive.
    """
    check_shape("image", image, truth.shape)
    check_finite("image", image)
    for name, array in (("sum of the image", image), ("sum of the truth", truth)):
        check_positive(name, float(array.sum(dtype=np.float64)))
    scaled = image * (truth.sum(dtype=np.float64) / image.sum(dtype=np.float64))
    return psnr(scaled, truth, data_range=float(truth.max()))


def best_gaussian(counts: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """The Gaussian filter whose width, out of `WIDTHS_PX`, is nearest to the truth.

    Args:
        counts: (Y, X) or (Z, Y, X).
        truth: The same shape; any scale.

    Returns:
        The filtered image, and its width in pixels.
    """
    check_shape("counts", counts, truth.shape)
    filtered = [gaussian_filter(counts.astype(np.float64), width, mode="reflect") for width in WIDTHS_PX]
    best = int(np.argmax([level_psnr(image, truth) for image in filtered]))
    return filtered[best], WIDTHS_PX[best]


def anscombe(counts: np.ndarray) -> np.ndarray:
    """2 sqrt(x + 3/8), any shape: counts become values of variance about 1.

    Raises:
        ValueError: If a count is negative or not finite.
    """
    check_finite("counts", counts)
    if counts.size and counts.min() < 0:
        raise error("counts", "values from 0 on", f"a minimum of {counts.min():g}")
    return np.asarray(2 * np.sqrt(counts.astype(np.float64) + 0.375))


def expected_anscombe(rates: np.ndarray) -> np.ndarray:
    """E[2 sqrt(x + 3/8)] for x ~ Poisson(rate), (N,), summed directly until nothing is left.

    Args:
        rates: (N,), from 0 on; memory grows with N times the largest.
    """
    check_rank("rates", rates, 1, "(N,)")
    largest = float(rates.max(initial=0.0))
    k = np.arange(int(largest + 12 * np.sqrt(largest) + 30))
    safe = np.maximum(rates, 1e-300)[:, None]
    return np.asarray(np.exp(k * np.log(safe) - rates[:, None] - gammaln(k + 1)) @ anscombe(k))


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    rates = np.concatenate([[0.0], np.geomspace(1e-6, _TABLE_END, 4000)])
    return expected_anscombe(rates), rates


def inverse_anscombe(values: np.ndarray) -> np.ndarray:
    """The exact unbiased inverse: the rate whose expected transform is the value; 0 below that of rate 0.

    Up to a rate of 100 from a table of `expected_anscombe`, above it by its expansion, (D / 2)^2 - 1/8.

    Args:
        values: D, any shape: denoised values of `anscombe`.
    """
    check_finite("values", values)
    expected, rates = _table()
    below = np.interp(values, expected, rates)
    return np.asarray(np.where(values <= expected[-1], below, values**2 / 4 - 0.125))


def best_non_local_means(
    counts: np.ndarray, truth: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> tuple[np.ndarray, float]:
    """Anscombe, non-local means of the best strength, and the exact unbiased inverse.

    Args:
        counts: (Y, X).
        truth: (Y, X); any scale.
        strengths: Tried, in standard deviations of the stabilised noise; patches of 5 x 5 in windows of 19 x 19.

    Returns:
        The denoised image, expected photons, and its strength.
    """
    check_shape("counts", counts, truth.shape)
    check_rank("counts", counts, 2, "(Y, X)")
    stable = anscombe(counts)
    settings = {"patch_size": 5, "patch_distance": 9, "sigma": 1.0, "fast_mode": True}
    images = [inverse_anscombe(denoise_nl_means(stable, h=strength, **settings)) for strength in strengths]
    scores = [level_psnr(image, truth) if image.sum() > 0 else -np.inf for image in images]
    best = int(np.argmax(scores))
    return images[best], strengths[best]


def thinning(mean: float, level: float, side: int, repeats: int, seed: int) -> dict[str, float]:
    """Input and target at a fixed share and at the authors': claim G1.

    Args:
        mean: Expected photons per pixel of a tissue.
        level: Of them, in the input.
        side: Pixels.
        repeats: Draws.
        seed: Of tissue and draws.

    Returns:
        For ``fixed`` and ``drawn`` shares: ``_correlation`` of the totals, ``_ratio`` of variance to mean of the
        input's total, and ``_places``: the correlation of a pixel's share of the input with its share of the target,
        averaged over the pixels.
    """
    image = tissues([seed], (side, side), mean)[0, 0]
    found = {}
    for name, share in (("fixed", level / mean), ("drawn", None)):
        generator = torch.Generator().manual_seed(seed)
        parts = [part.flatten(1).double() for part in thinned(image, share, level, repeats, generator)]
        sums = [part.sum(1) for part in parts]
        found[f"{name}_correlation"] = float(torch.corrcoef(torch.stack(sums))[0, 1])
        found[f"{name}_ratio"] = float(sums[0].var() / sums[0].mean())
        places = [part / total[:, None] for part, total in zip(parts, sums, strict=True)]
        places = [(p - p.mean(0)) / p.std(0).clamp(min=1e-12) for p in places]
        found[f"{name}_places"] = float((places[0] * places[1]).mean())
    return found


def toy_error(net: nn.Module, prior: ToyPrior, level_db: float, count: int, seed: int) -> dict[str, float]:
    """A net against the enumerated posterior: claim G2.

    Args:
        net: From counts to log rates.
        prior: What it was trained on.
        level_db: Pseudo-PSNR of the photons.
        count: Test images.
        seed: Of the test images.

    Returns:
        ``largest`` and ``rms`` error of the next photon's distribution, in units of a uniform one; ``excess``: what the
        net loses in nats per photon against the exact prediction.
    """
    counts, _ = prior.draw(count, 10 ** (level_db / 10), torch.Generator().manual_seed(seed))
    exact = prior.next_photon(counts)
    with torch.no_grad():
        found = shares(net(counts)).double()
    away = (found - exact).abs() * exact[0].numel()
    excess = (exact * (exact / found).log()).flatten(1).sum(1).mean()
    return {"largest": float(away.max()), "rms": float(away.square().mean().sqrt()), "excess": float(excess)}


def errors_of_means(samples: Tensor, exact: Tensor, numbers: Sequence[int]) -> list[float]:
    """How far the means of K samples of the posterior are from the posterior mean, RMS, for each K: claim G5.

    Args:
        samples: (N, C, Y, X).
        exact: (1, C, Y, X).
        numbers: The Ks; each divides N.
    """
    if any(len(samples) % k for k in numbers):
        raise error("numbers", f"divisors of the number of samples, {len(samples)}", tuple(numbers))
    away = [samples.unflatten(0, (-1, k)).mean(1) - exact for k in numbers]
    return [float(difference.square().mean().sqrt()) for difference in away]


def posterior_samples(
    model: nn.Module, start: Tensor, count: int, *, stop_db: float, beta: float, seed: int, batch: int = 64
) -> Tensor:
    """Samples of the posterior given photons, each as a distribution of sum 1: (count, C, Y, X)."""
    generator = torch.Generator(start.device).manual_seed(seed)
    found = []
    for first in range(0, count, batch):
        many = start.expand(min(batch, count - first), *start.shape[1:])
        estimate = sample(model, many, stop_db=stop_db, beta=beta, generator=generator).estimate
        found.append(estimate / estimate.flatten(1).sum(1)[:, None, None, None])
    return torch.cat(found)


def toy_averaging(numbers: Sequence[int], images: int, level_db: float, beta: float, seed: int) -> list[float]:
    """`errors_of_means` for the exact predictor of the toy prior, of a uniform image: RMS over several images."""
    prior, rows = toy_prior(), []
    starts, _ = prior.draw(images, 10 ** (level_db / 10), torch.Generator().manual_seed(seed))
    for k, x in enumerate(starts[:, None]):
        f = posterior_samples(ExactPredictor(prior), x, max(numbers), stop_db=12.0, beta=beta, seed=seed + k)
        rows.append([x.numel() * away for away in errors_of_means(f, prior.next_photon(x).float(), numbers)])
    return np.sqrt(np.square(rows).mean(0)).tolist()  # type: ignore[no-any-return]


def probabilities(beta: float, count: int, seed: int) -> dict[str, float]:
    """How far generated toy images are from the prior's probabilities: claim G8.

    Args:
        beta: Of the sampling.
        count: Images generated.
        seed: Of the sampling.

    Returns:
        ``distance``: half the sum of the absolute differences of the probabilities; ``noise``: what as many exact draws
        would have on average.
    """
    prior, generator = toy_prior(), torch.Generator().manual_seed(seed)
    start = torch.zeros(count, 1, 8, 8)
    photons = sample(ExactPredictor(prior), start, stop_db=6, beta=beta, generator=generator).photons
    w = prior.weights.double()
    distance = (prior.posterior(photons).mean(0) - w).abs().sum() / 2
    noise = (w * (1 - w) / count * 2 / torch.pi).sqrt().sum() / 2  # mean of |normal| is sd sqrt(2 / pi)
    return {"distance": float(distance), "noise": float(noise)}


def methods(nets: Mapping[str, UNet], seed: int, size: int, level_db: float) -> dict[str, np.ndarray]:
    """What every method makes of one held-out tissue: (size, size) each, all of mean 1.

    Args:
        nets: By name.
        seed: Of tissue and photons.
        size: Pixels a side.
        level_db: Pseudo-PSNR of the photons.

    Returns:
        ``flat``, ``noisy``, ``gaussian``, ``non_local``, each net's, and ``truth``.
    """
    truth, counts = drawn(seed, (size, size), level_db)
    x, s = counts[0, 0].numpy(), truth[0, 0].numpy()
    images = {"flat": np.ones_like(s), "noisy": x}
    images |= {"gaussian": best_gaussian(x, s)[0], "non_local": best_non_local_means(x, s)[0]}
    images |= {name: denoise(net, counts.to(_device(net)))[0, 0].cpu().numpy() for name, net in nets.items()}
    return {name: image / image.mean() for name, image in (images | {"truth": s}).items()}


def compared(nets: Mapping[str, UNet], seed: int, size: int, level_db: float) -> dict[str, float]:
    """PSNR in dB of all `methods` but the truth: claims G3 and G4."""
    return _scores(methods(nets, seed, size, level_db))


def stacks(solid: UNet, flat: UNet, seed: int, shape: tuple[int, int, int], level_db: float) -> dict[str, np.ndarray]:
    """A held-out stack, denoised as a volume and plane by plane: (Z, Y, X) each, all of mean 1.

    Args:
        solid: The 3-D net.
        flat: The 2-D net.
        seed: Of tissue and photons.
        shape: (Z, Y, X).
        level_db: Pseudo-PSNR of the photons.

    Returns:
        ``noisy``, ``gaussian``, a 3-D filter of the best width, ``flat``, ``solid`` and ``truth``.
    """
    truth, counts = drawn(seed, shape, level_db)
    s, x = truth[0, 0].numpy(), counts[0, 0].numpy()
    counts = counts.to(_device(solid))
    planes, volume = denoise(flat, counts[0, 0][:, None])[:, 0], denoise(solid, counts)[0, 0]
    images = {"noisy": x, "gaussian": best_gaussian(x, s)[0], "flat": planes.cpu().numpy()}
    images |= {"solid": volume.cpu().numpy(), "truth": s}
    return {name: image / image.mean() for name, image in images.items()}


def in_depth(solid: UNet, flat: UNet, seed: int, shape: tuple[int, int, int], level_db: float) -> dict[str, float]:
    """PSNR in dB of all `stacks` but the truth: claim G11."""
    return _scores(stacks(solid, flat, seed, shape, level_db))


def _scores(images: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: level_psnr(image, images["truth"]) for name, image in images.items() if name != "truth"}


def spectrum(images: Tensor) -> np.ndarray:
    """Mean power of images of mean 1 in bands of spatial frequency, (8,), from low to high; without the mean itself.

    Args:
        images: (B, C, Y, X), of positive sums.

    Raises:
        ValueError: If the rank is another, or a side so short that the lowest band is empty.
    """
    check_rank("images", images, 4, "(B, C, Y, X)")
    if min(images.shape[2:]) <= 2 * BANDS:
        raise error("images", f"sides above {2 * BANDS}", tuple(images.shape))
    scaled = images.double() / images.double().mean((1, 2, 3), keepdim=True) - 1
    power = torch.fft.fft2(scaled).abs().square().mean((0, 1)) / scaled[0, 0].numel()
    y, x = (torch.fft.fftfreq(side, dtype=torch.float64) for side in images.shape[2:])
    band = (torch.hypot(y[:, None], x) * 2 * BANDS).long()
    band[0, 0] = BANDS
    return np.array([float(power[band == k].mean()) for k in range(BANDS)])


def fineness(images: Tensor) -> np.ndarray:
    """How fine an image's structure is: mean absolute step between neighbours over the standard deviation, (B,)."""
    steps = images.diff(dim=-1).abs().flatten(1).mean(1) + images.diff(dim=-2).abs().flatten(1).mean(1)
    return np.asarray((steps / images.flatten(1).std(1).clamp(min=1e-12)).cpu().double().numpy())


def law(
    net: nn.Module, count: int, batch: int, size: int, stop_db: float, beta: float, seed: int, summed: bool = False
) -> dict[str, np.ndarray]:
    """Numbers of ``count`` generated images, made ``batch`` at once: claim G9.

    Args:
        net: As for `sample`.
        count: Images; their number is rounded up to whole batches and cut.
        batch: At once. Above 1, every second image of a batch starts half way, and is not counted.
        size: Pixels a side.
        stop_db: As for `sample`.
        beta: As for `sample`.
        seed: Of the sampling.
        summed: Count photons over the whole batch, and stop by its mean, as the authors' code does; all images of a
            batch start from nothing, and are counted.

    Returns:
        ``photons``, ``steps`` and ``contrast`` (standard deviation over mean of the estimate), each (count,).
    """
    generator = torch.Generator().manual_seed(seed)
    names, rows = ("photons", "steps", "contrast"), []
    every = 1 if summed or batch == 1 else 2
    for _ in range(-(-count * every // batch)):
        start = torch.zeros(batch, 1, size, size)
        if every == 2:
            start[1::2] = torch.poisson(torch.full_like(start[1::2], 10 ** (stop_db / 10) / 2), generator=generator)
        if summed:
            photons, steps, f = _summed(net, start, stop_db, beta, generator)
        else:
            found = sample(net, start, stop_db=stop_db, beta=beta, generator=generator)
            photons, steps, f = found.photons, found.steps, found.estimate
        contrast = f.flatten(1).std(1) / f.flatten(1).mean(1)
        rows.append([v[::every].double().numpy() for v in (photons.flatten(1).sum(1), steps, contrast)])
    return {name: np.concatenate([row[i] for row in rows])[:count] for i, name in enumerate(names)}


def _summed(
    net: nn.Module, photons: Tensor, stop_db: float, beta: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The authors' sampler, which counts the photons of the whole batch: photons, steps and the next one's law."""
    steps = 0
    with torch.no_grad():
        while float(pseudo_psnr(photons.flatten()[None])) <= stop_db:
            rates = shares(net(photons)) * max(beta * float(photons.sum()), 1.0)
            photons = photons + torch.poisson(rates, generator=generator)
            steps += 1
        return photons, torch.full((len(photons),), steps), shares(net(photons))


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


# ----------------------------------------------------------------------------------------- values of the claims


def part(rows: Rows, kind: str) -> dict[str, np.ndarray]:
    """The columns of the study ``toy`` whose names begin with ``net``, ``mean`` or ``beta``, without that."""
    return {name.removeprefix(f"{kind}_"): np.asarray(v) for name, v in rows.items() if name.startswith(f"{kind}_")}


def each_seed(rows: Rows, quantity: str, **where: float) -> np.ndarray:
    """All values that each seed has of a quantity, (seeds, values), seeds rising; see `noisebook.studies.by_seed`."""
    return by_seed(rows, quantity, **where).reshape(len(np.unique(rows["seed"])), -1)


def telling_levels(rows: Rows) -> np.ndarray:
    """The levels at which the best Gaussian filter beats a flat image by 1 dB on average over the tissues, rising."""
    levels = np.asarray(rows["level_db"])
    gain = np.asarray(rows["gaussian"]) - np.asarray(rows["flat"])
    return np.array([level for level in np.unique(levels) if gain[levels == level].mean() >= _MARGIN_DB])


def gains(rows: Rows, method: str, other: str) -> dict[float, np.ndarray]:
    """PSNR of one method less that of another, dB, tissue by tissue, for each of `telling_levels`."""
    both = {"seed": rows["seed"], "level": rows["level_db"], "gain": np.asarray(rows[method]) - np.asarray(rows[other])}
    return {float(level): by_seed(both, "gain", level=level) for level in telling_levels(rows)}


def same_law(rows: Rows, one: str, other: str) -> np.ndarray:
    """Whether two samplers of the study ``law`` have one law: the least p-value a seed, corrected for three tests.

    Two-sample Kolmogorov-Smirnov tests of photons, steps and contrast; the p-value times three, at most 1.
    """
    found = []
    seeds, kinds = np.asarray(rows["seed"]), np.asarray(rows["law"])
    for seed in np.unique(seeds):
        pair = [(seeds == seed) & (kinds == LAWS.index(name)) for name in (one, other)]
        values = [np.asarray(rows[quantity]) for quantity in ("photons", "steps", "contrast")]
        tests = [stats.ks_2samp(*(value[chosen] for chosen in pair)) for value in values]
        found.append(min(1.0, 3 * min(float(test.pvalue) for test in tests)))
    return np.array(found)


def column(found: Results, study: str, quantity: str) -> np.ndarray:
    """A quantity of a study as it stands there, one value a seed."""
    return np.asarray(found[study][quantity])


def place_correlation(found: Results) -> np.ndarray:
    """Correlation of the places of input and target, at a fixed fraction and at the authors'."""
    return np.stack([by_seed(found["thinning"], f"{name}_places") for name in ("fixed", "drawn")])


def worst_toy_error(found: Results, quantity: str) -> np.ndarray:
    """A quantity of `toy_error` at the level where it is largest."""
    return np.asarray(each_seed(part(found["toy"], "net"), quantity).max(1))


def averaging_slope(found: Results) -> np.ndarray:
    """Slope of the logarithm of the mean's error against that of the number of samples."""
    rows = part(found["toy"], "mean")
    numbers = np.unique(rows["number"])
    errors = np.stack([by_seed(rows, "error", number=k) for k in numbers])
    return np.asarray(np.polyfit(np.log(numbers), np.log(errors), 1)[0])


def beyond_noise(found: Results, beta: float) -> np.ndarray:
    """Distance of generated images from the prior's probabilities, less that of as many exact draws."""
    rows = part(found["toy"], "beta")
    return np.asarray(by_seed(rows, "distance", beta=beta) - by_seed(rows, "noise", beta=beta))


def farther(found: Results, large: float, small: float) -> np.ndarray:
    """`beyond_noise` at a large beta less that at a small one."""
    return np.asarray(beyond_noise(found, large) - beyond_noise(found, small))


def gain_over_truth(found: Results) -> np.ndarray:
    """PSNR of the net less that of the net that was trained on the truth, mean over the levels that tell, dB."""
    values = list(gains(found["levels"], "gap", "mse").values())
    return np.asarray(np.mean(values, axis=0)) if values else np.zeros(0)


def worst_gain(found: Results, over: str) -> np.ndarray:
    """PSNR of the net less that of a filter, at the level that tells where it is least on average, dB."""
    values = gains(found["levels"], "gap", over).values()
    return min(values, key=lambda gain: float(gain.mean()), default=np.zeros(0))


def gain_at(found: Results, over: str, level: float) -> np.ndarray:
    """PSNR of the net less that of a filter, dB; none if the level does not tell."""
    return gains(found["levels"], "gap", over).get(level, np.zeros(0))


def nearer(found: Results, many: float, few: float) -> np.ndarray:
    """Log2 of the error of the mean of many samples over that of a few, errors averaged over the levels."""
    errors = [each_seed(found["diversity"], "error", number=number).mean(1) for number in (many, few)]
    return np.asarray(np.log2(errors[0] / errors[1]))


def spread_step(found: Results) -> np.ndarray:
    """Largest change of the log2 of the samples' spread between neighbouring levels."""
    rows = found["diversity"]
    spread = [each_seed(rows, "spread", level_db=level).min(1) for level in np.unique(rows["level_db"])]
    return np.asarray(np.diff(np.log2(np.array(spread)), axis=0).max(0))


def steps_over_formula(found: Results) -> np.ndarray:
    """Steps of the generation over `expected_steps`, by seed and beta."""
    rows = found["generation"]
    return each_seed({"seed": rows["seed"], "ratio": rows["steps"] / rows["expected_steps"]}, "ratio")


def spectrum_difference(found: Results) -> np.ndarray:
    """Largest |log2| of the ratio of the powers of generated and real images over the bands."""
    rows = found["generation"]
    return np.asarray(np.abs(np.log2(rows["power"] / rows["real_power"])).max(1))


def small_cells_difference(found: Results) -> np.ndarray:
    """Fraction of generated tissues that have small cells, less that of real ones."""
    return np.asarray(found["generation"]["small"] - found["generation"]["real_small"])


def same_law_beside(found: Results) -> float:
    """Least p-value of `same_law` alone and in a batch, corrected for the number of seeds."""
    p = same_law(found["law"], "alone", "beside")
    return min(1.0, float(p.min()) * len(p))


def authors_law(found: Results) -> float:
    """Largest p-value of `same_law` of our sampler and the authors'."""
    return float(same_law(found["law"], "alone", "summed").max())


def depth_gain(found: Results, level: float) -> np.ndarray:
    """PSNR of the 3-D net less that of the 2-D net plane by plane, dB."""
    solid, flat = (by_seed(found["depth"], name, level_db=level) for name in ("solid", "flat"))
    return np.asarray(solid - flat)
