"""What the chapter measures on its networks; each function gives the numbers of one row of a study.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from noisebook._checks import check_rank, error

from .baselines import best_gaussian, best_non_local_means, level_psnr
from .counts import pseudo_psnr, thinned
from .network import UNet
from .sample import denoise, sample, shares
from .toy import ExactPredictor, ToyPrior, toy_prior
from .training import tissues

BANDS = 8
"""Bands of spatial frequency of a power spectrum, up to half a cycle per pixel."""


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


def averaging(
    model: nn.Module,
    start: Tensor,
    exact: Tensor,
    numbers: Sequence[int],
    *,
    stop_db: float,
    beta: float,
    seed: int,
) -> list[float]:
    """How far the mean of K samples of the posterior is from the posterior mean: claim G5.

    Args:
        model: As for `sample`.
        start: (1, C, Y, X), photons.
        exact: (1, C, Y, X), the next photon's distribution given them.
        numbers: The Ks; each divides the largest.
        stop_db: As for `sample`.
        beta: As for `sample`.
        seed: Of the sampling.

    Returns:
        For each K the RMS difference, in units of a uniform distribution.
    """
    if any(max(numbers) % k for k in numbers):
        raise error("numbers", f"divisors of the largest, {max(numbers)}", tuple(numbers))
    f = posterior_samples(model, start, max(numbers), stop_db=stop_db, beta=beta, seed=seed)
    away = []
    for k in numbers:
        means = f.unflatten(0, (-1, k)).mean(1)
        away.append(float((means - exact).square().mean().sqrt()) * exact[0].numel())
    return away


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
    """`averaging` for the exact predictor of the toy prior, over several images: root mean square over them."""
    prior = toy_prior()
    starts, _ = prior.draw(images, 10 ** (level_db / 10), torch.Generator().manual_seed(seed))
    settings = {"stop_db": 12.0, "beta": beta}
    rows = [
        averaging(
            ExactPredictor(prior), x[None], prior.next_photon(x[None]).float(), numbers, **settings, seed=seed + k
        )
        for k, x in enumerate(starts)
    ]
    return np.sqrt(np.square(rows).mean(0)).tolist()  # type: ignore[no-any-return]


def chances(beta: float, count: int, seed: int) -> dict[str, float]:
    """How far generated toy images are from the prior's chances: claim G8.

    Args:
        beta: Of the sampling.
        count: Images generated.
        seed: Of the sampling.

    Returns:
        ``distance``: half the sum of the absolute differences of the chances; ``noise``: what as many exact draws
        would have on average.
    """
    prior = toy_prior()
    generator = torch.Generator().manual_seed(seed)
    photons = sample(
        ExactPredictor(prior), torch.zeros(count, 1, 8, 8), stop_db=6, beta=beta, generator=generator
    ).photons
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


def drawn(seed: int, shape: tuple[int, ...], level_db: float) -> tuple[Tensor, Tensor]:
    """A held-out tissue and its photons, both (1, 1, Y, X) or (1, 1, Z, Y, X), at a pseudo-PSNR in dB."""
    truth = tissues([seed], shape, 10 ** (level_db / 10))
    return truth, torch.poisson(truth, generator=torch.Generator().manual_seed(seed))


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


def generated(net: UNet, count: int, size: int, stop_db: float, beta: float, seed: int) -> tuple[Tensor, Tensor, float]:
    """Images from nothing, all at once: photons and estimates, each (count, 1, size, size); the mean of the steps."""
    device = _device(net)
    generator = torch.Generator(device).manual_seed(seed)
    found = sample(
        net, torch.zeros(count, 1, size, size, device=device), stop_db=stop_db, beta=beta, generator=generator
    )
    return found.photons, found.estimate, float(found.steps.double().mean())


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
            photons, steps = _summed(net, start, stop_db, beta, generator)
            with torch.no_grad():
                f = shares(net(photons))
        else:
            found = sample(net, start, stop_db=stop_db, beta=beta, generator=generator)
            photons, steps, f = found.photons, found.steps, found.estimate
        contrast = f.flatten(1).std(1) / f.flatten(1).mean(1)
        rows.append([v[::every].double().numpy() for v in (photons.flatten(1).sum(1), steps, contrast)])
    return {name: np.concatenate([row[i] for row in rows])[:count] for i, name in enumerate(names)}


def _summed(
    net: nn.Module, photons: Tensor, stop_db: float, beta: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The authors' sampler, whose number of photons is that of the whole batch: the law to tell ours from."""
    steps = 0
    with torch.no_grad():
        while float(pseudo_psnr(photons.flatten()[None])) <= stop_db:
            rates = shares(net(photons)) * max(beta * float(photons.sum()), 1.0)
            photons = photons + torch.poisson(rates, generator=generator)
            steps += 1
    return photons, torch.full((len(photons),), steps)


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device
