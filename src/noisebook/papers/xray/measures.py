"""What the chapter measures: scores, filters, an observer's detectability, and the value of every claim.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.


Non-local means: A. Buades, B. Coll, J.-M. Morel, CVPR 2005, doi 10.1109/CVPR.2005.38. The observer is the channelised
Hotelling observer with Laguerre-Gauss channels (B. D. Gallas, H. H. Barrett, JOSA A 20(9), 2003, doi
10.1364/JOSAA.20.001725). The ideal Hotelling observer would say nothing: its detectability does not change under any
invertible map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from noisebook import _numbers, metrics
from noisebook._checks import check_one_of, check_positive, check_shape, error
from noisebook.studies import by_seed

from .data import CORRUPTIONS, VARIANCE, corrupt, unclipped, unit
from .experiment import VARIATIONAL, build, shuffled, vae_loss
from .model import VAE

Rows = Mapping[str, np.ndarray]
Results = Mapping[str, Any]
Denoiser = Callable[[Tensor], Tensor]
PARAMETERS: dict[str, tuple[float, ...]] = {
    "identity": (0.0,),
    "median": (3.0, 5.0, 7.0, 9.0),
    "Gaussian": (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0),
    "non-local means": (0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3, 0.4),
}
"""What is tried: the window's side (pixels), the standard deviation (pixels), the filtering parameter h (of 1)."""
METHODS = (*PARAMETERS, "ae", "vae", "residual")
"""What is compared, in the order of the studies' column ``method``."""
MIXED = tuple(f"gaussian-{level}" for level in VARIANCE)
"""The levels that one net for all of them is trained on."""
TRAINED = (*((name,) for name in CORRUPTIONS), MIXED)
"""What the nets of the study ``transfer`` are trained on, in the order of its column ``trained``."""
CODERS = {"ae": "autoencoder", "vae": "VAE"}
MODELS = ("ae", "vae", "residual")
SCORES = ("psnr", "ssim", "mse", "high", "kept")


def filtered(name: str, images: Tensor, parameter: float) -> Tensor:
    """Filter images (N, 1, Y, X) in [0, 1], one by one; the same shape.

    Args:
        name: One of `PARAMETERS`.
        images: The noisy images.
        parameter: Of the filter, in the unit of `PARAMETERS`.

    Raises:
        ValueError: If the filter is unknown.
    """
    from scipy import ndimage
    from skimage.restoration import denoise_nl_means

    check_one_of("filter", name, PARAMETERS)
    if name == "identity":
        return images
    found = []
    for image in images[:, 0].numpy():
        if name == "median":
            found.append(ndimage.median_filter(image, int(parameter)))
        elif name == "Gaussian":
            found.append(ndimage.gaussian_filter(image, parameter))
        else:
            found.append(denoise_nl_means(image, patch_size=5, patch_distance=7, h=parameter, fast_mode=True))
    return torch.from_numpy(np.stack(found))[:, None]


def best_parameter(name: str, noisy: Tensor, truth: Tensor) -> float:
    """The parameter of a filter that has the least squared error; to be chosen on validation patients.

    Args:
        name: One of `PARAMETERS`.
        noisy: (N, 1, Y, X) in [0, 1].
        truth: The same shape.
    """
    check_one_of("filter", name, PARAMETERS)
    check_shape("truth", truth, tuple(noisy.shape))
    errors = {value: float((filtered(name, noisy, value) - truth).square().mean()) for value in PARAMETERS[name]}
    return min(errors, key=errors.__getitem__)


def tuned(noisy: Tensor, truth: Tensor) -> dict[str, Denoiser]:
    """Every filter of `PARAMETERS` as a function of noisy images, with the parameter that suits these best.

    Args:
        noisy: (N, 1, Y, X) in [0, 1], of validation patients.
        truth: The same shape.
    """
    return {name: partial(_filter, name, best_parameter(name, noisy, truth)) for name in PARAMETERS}


def _filter(name: str, parameter: float, images: Tensor) -> Tensor:
    return filtered(name, images, parameter)


def scores(images: Tensor, truth: Tensor) -> dict[str, float]:
    """Quality of images (N, 1, Y, X) in [0, 1] against the truth, means over the images.

    Returns:
        ``psnr`` in dB and ``ssim``, both at a data range of 1; ``mse``; above a quarter cycle a pixel, ``high``: the
        power as a share of the truth's, noise and artefacts included, and ``kept``: how much of the truth itself is
        there. Below 1 is over-smooth.
    """
    check_shape("truth", truth, tuple(images.shape))
    found, wanted = images[:, 0].numpy(), truth[:, 0].numpy()
    pairs = list(zip(found, wanted, strict=True))
    share = metrics.high_frequency_power(found).sum() / metrics.high_frequency_power(wanted).sum()
    return {
        "psnr": float(np.mean([metrics.psnr(a, b, data_range=1.0) for a, b in pairs])),
        "ssim": float(np.mean([metrics.ssim(a, b, data_range=1.0) for a, b in pairs])),
        "mse": float(np.mean([metrics.rmse(a, b) ** 2 for a, b in pairs])),
        "high": float(share),
        "kept": metrics.high_frequency_kept(found, wanted),
    }


def wrapping(images: Tensor, seed: int) -> dict[str, np.ndarray]:
    """What wrapping modulo 256 does to Gaussian noise, for each level.

    Args:
        images: (N, 1, Y, X), uint8.
        seed: Of the noise.

    Returns:
        Three values each: ``share`` of the pixels whose noisy value leaves 0 to 255; ``clipped`` and ``wrapped``, the
        PSNR in dB over all images; ``carried``, the share of the wrapped images' squared error that lies in those
        pixels; ``elsewhere``, the largest difference of wrapped and clipped image in the others (grey levels).
    """
    rows = []
    for level in VARIANCE:
        generators = (torch.Generator().manual_seed(seed) for _ in range(3))
        values = unclipped(images, level, next(generators)).trunc()
        name = f"gaussian-{level}"
        clipped, wrapped = (
            corrupt(images, name, generator, wrap=wrap).double()
            for generator, wrap in zip(generators, (False, True), strict=True)
        )
        away = (values < 0) | (values > 255)
        psnr = [10 * math.log10(255**2 / float((image - images).square().mean())) for image in (clipped, wrapped)]
        square = (wrapped - images).square()
        elsewhere = (wrapped - clipped).abs()[~away].max()
        rows.append([away.double().mean(), *psnr, square[away].sum() / square.sum(), elsewhere])
    names = ("share", "clipped", "wrapped", "carried", "elsewhere")
    return dict(zip(names, np.array(rows, np.float64).T, strict=True))


@dataclass(frozen=True)
class Task:
    """What is to be detected, and by whom; lengths in pixels of 64 x 64 images.

    Attributes:
        radius: Of the opacity, a sphere in projection.
        contrast: At its middle, grey levels of 255.
        places: Its middle, (row, column) as shares of the sides: one in each lung.
        side: Of the patch that the observer sees, odd.
        channels: Laguerre-Gauss channels.
        width: Of the channels.
        draws: Of the noise, for each image, place and class.
    """

    radius: float = 4.0
    contrast: float = 16.0
    places: tuple[tuple[float, float], ...] = ((0.45, 0.28), (0.36, 0.67))
    side: int = 21
    channels: int = 8
    width: float = 6.0
    draws: int = 4


def opacity(size: int, task: Task, place: tuple[float, float]) -> Tensor:
    """The opacity alone: the chords of a sphere, (size, size) float32, grey levels of 255.

    Args:
        size: Pixels a side.
        task: Radius and contrast, scaled from 64 pixels to ``size``.
        place: (row, column), shares of the sides; the middle is a pixel's.
    """
    check_positive("radius", task.radius)
    row, column = middle(size, place)
    axis = torch.arange(size, dtype=torch.float32)
    square = ((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (task.radius * size / 64) ** 2
    return task.contrast * (1 - square).clamp(min=0).sqrt()


def middle(size: int, place: tuple[float, float]) -> tuple[int, int]:
    """The pixel (row, column) of a place given by shares of the sides."""
    return int(place[0] * size), int(place[1] * size)


def opacity_detectability(
    denoiser: Denoiser,
    images: Tensor,
    corruption: str,
    seed: int,
    task: Task = Task(),
    patients: np.ndarray | None = None,
) -> float:
    """The observer's d' for the opacity in denoised images.

    Every image serves in both classes, with other noise, so that d' is that of a known signal in the noise and in the
    variation from patient to patient. All patches of a patient are one group of `noisebook.metrics.detectability`:
    they share an anatomy, which cancels in the difference of the classes' means.

    Args:
        denoiser: (N, 1, Y, X) in [0, 1] to the same shape; the identity tells what there was to detect.
        images: (N, 1, Y, X), uint8, of held-out patients.
        corruption: One of `CORRUPTIONS`, or empty for none.
        seed: Of the noise.
        task: Opacity and observer.
        patients: (N,), a label for each image; none: each image is of another patient.

    Returns:
        d', below zero where there is no more than noise.

    Raises:
        ValueError: If a patch does not lie inside the image, and as `noisebook.metrics.detectability` raises.
    """
    generator, size, half = torch.Generator().manual_seed(seed), images.shape[-1], task.side // 2
    channels = metrics.laguerre_gauss(task.side, task.width * size / 64, task.channels)
    seen: list[list[Tensor]] = [[], []]
    for place in task.places:
        row, column = middle(size, place)
        if not half <= min(row, column) <= max(row, column) < size - half:
            raise error("place", f"{half} pixels from the border of {size} x {size} or more", (row, column))
        window = (slice(row - half, row + half + 1), slice(column - half, column + half + 1))
        for present, patches in enumerate(seen):
            shown = (images + present * opacity(size, task, place)).round().clamp(0, 255).to(torch.uint8)
            for _ in range(task.draws if corruption else 1):
                noisy = corrupt(shown, corruption, generator) if corruption else shown
                patches.append(denoiser(unit(noisy))[:, 0, *window])
    absent, present_patches = (torch.cat(patches).numpy() for patches in seen)
    groups = np.arange(len(images)) if patients is None else patients
    return metrics.detectability(absent, present_patches, channels, np.tile(groups, len(seen[0])))


def opacity_response(
    denoiser: Denoiser, image: Tensor, corruption: str, seed: int, task: Task = Task(), draws: int = 16
) -> Tensor:
    """What a denoiser makes of the opacity: the mean difference of its images with and without it, by the same noise.

    Args:
        denoiser: As for `opacity_detectability`; the identity passes the opacity, but for clipping.
        image: (1, 1, Y, X), uint8.
        corruption: One of `CORRUPTIONS`.
        seed: Of the noise.
        task: Its opacity, at its first place.
        draws: Of the noise.

    Returns:
        (Y, X), grey levels of 255.
    """
    with_it = (image + opacity(image.shape[-1], task, task.places[0])).round().clamp(0, 255).to(torch.uint8)
    absent, present = (
        denoiser(unit(corrupt(shown.repeat(draws, 1, 1, 1), corruption, torch.Generator().manual_seed(seed))))
        for shown in (image, with_it)
    )
    return 255 * (present - absent).mean((0, 1))


def initial_losses(images: Tensor, seeds: int = 5, latent: int = VARIATIONAL.latent) -> np.ndarray:
    """The loss of untrained VAEs on one batch, nats an image, one value a seed; an indifferent net has n ln 2.

    Args:
        images: (N, 1, size, size), uint8; one batch of 32, or all if fewer.
        seeds: How many nets.
        latent: L.
    """
    found = []
    for seed in range(seeds):
        config = replace(VARIATIONAL, size=images.shape[-1], latent=latent, seed=seed, corruptions=("gaussian-easy",))
        net, generator = build(config), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            entropy, divergence = vae_loss(cast(VAE, net), *next(shuffled(images, config, generator)))
        found.append(float(entropy + divergence))
    return np.array(found)


# --------------------------------------------------------------------------------------------------- tables


def of_method(rows: Rows, quantity: str, name: str) -> np.ndarray:
    """A quantity of one of `METHODS`, one value a seed."""
    return by_seed(rows, quantity, method=METHODS.index(name))


def transfer_matrix(transfer: Rows) -> np.ndarray:
    """PSNR after denoising less that before, dB: (7, 6, seeds), by `TRAINED` and `CORRUPTIONS`."""
    gains = {**transfer, "gain": np.asarray(transfer["psnr"]) - np.asarray(transfer["before"])}
    cells = [
        [by_seed(gains, "gain", trained=i, tested=j) for j in range(len(CORRUPTIONS))] for i in range(len(TRAINED))
    ]
    return np.array(cells)


def epochs_to(losses: np.ndarray, target: float) -> int:
    """The first epoch, from 1, whose loss is at most ``target``; one more than there are if none is."""
    reached = np.flatnonzero(np.asarray(losses) <= target)
    return int(reached[0]) + 1 if len(reached) else len(losses) + 1


def method_table(spread: Rows, detect: Rows) -> dict[str, list[object]]:
    """The columns of a table of all methods: means over the seeds, with their standard deviations."""
    heads = {"psnr": "PSNR / dB", "ssim": "SSIM", "mse": "squared error × 10³", "kept": "high frequencies kept"}
    columns: dict[str, list[object]] = {"method": list(METHODS)}
    for rows, quantity, head in [*((spread, q, h) for q, h in heads.items()), (detect, "detectability", "d'")]:
        values = [of_method(rows, quantity, name) for name in METHODS]
        values = [1000 * v for v in values] if quantity == "mse" else values
        single = len(values[0]) == 1
        columns[head] = [v.item() if single else _numbers.with_spread(v.mean(), v.std(ddof=1), 1) for v in values]
    return columns


def training_table(spread: Rows) -> dict[str, list[object]]:
    """The columns of a table of the networks: squared errors on images of the training and on held-out ones, means."""
    known, held = ([of_method(spread, name, net) for net in MODELS] for name in ("train_mse", "mse"))
    pairs = {"training": known, "held-out": held}
    parts = {f"squared error × 10³, {on}": [1000 * v for v in values] for on, values in pairs.items()}
    parts["ratio"] = [b / a for a, b in zip(known, held, strict=True)]
    columns: dict[str, list[object]] = {"network": [CODERS.get(net, net) for net in MODELS]}
    return columns | {head: [_numbers.with_spread(v.mean(), v.std(ddof=1)) for v in at] for head, at in parts.items()}


# ----------------------------------------------------------------------------------------- values of the claims


def psnr_over_coders(found: Results) -> np.ndarray:
    """PSNR of the residual autoencoder less that of the better of the others, dB."""
    return _over_coders(found, "psnr")


def ssim_over_coders(found: Results) -> np.ndarray:
    """SSIM of the residual autoencoder less that of the better of the others."""
    return _over_coders(found, "ssim")


def kept_over_coders(found: Results) -> np.ndarray:
    """Fraction of the truth's high frequencies that the residual autoencoder keeps, less the better of the others'."""
    return _over_coders(found, "kept")


def _over_coders(found: Results, quantity: str) -> np.ndarray:
    values = {name: of_method(found["spread"], quantity, name) for name in MODELS}
    return np.asarray(values["residual"] - np.maximum(values["ae"], values["vae"]))


def error_over_coders(found: Results) -> np.ndarray:
    """Squared error of the residual autoencoder over the smaller one of the others."""
    values = {name: of_method(found["spread"], "mse", name) for name in MODELS}
    return np.asarray(values["residual"] / np.minimum(values["ae"], values["vae"]))


def psnr_over_filters(found: Results) -> np.ndarray:
    """PSNR of the residual autoencoder less that of the best filter, dB."""
    best = np.max([of_method(found["spread"], "psnr", name) for name in PARAMETERS], 0)
    return np.asarray(of_method(found["spread"], "psnr", "residual") - best)


def high_frequencies_kept(found: Results, model: str) -> np.ndarray:
    """Fraction of the truth above a quarter cycle a pixel that a network keeps."""
    return of_method(found["spread"], "kept", model)


def training_error(found: Results) -> np.ndarray:
    """Squared error of the residual autoencoder on images of its training."""
    return of_method(found["spread"], "train_mse", "residual")


def generalisation(found: Results) -> np.ndarray:
    """Squared error of the residual autoencoder on held-out patients over that on those of its training."""
    known, held = (of_method(found["spread"], quantity, "residual") for quantity in ("train_mse", "mse"))
    return np.asarray(held / known)


def untrained_loss(found: Results) -> np.ndarray:
    """Loss of an untrained VAE over n ln 2, as the run measured it by `initial_losses`."""
    return np.asarray(np.asarray(found["initial"]) / (64**2 * math.log(2)))


def _latent_rows(found: Results) -> tuple[int, int]:
    """The rows of the study for 10 and for 40 latent numbers."""
    sizes = np.asarray(found["latent"]["latent"])
    few, many = (int(np.flatnonzero(sizes == size)[0]) for size in (10, 40))
    return few, many


def latent_loss(found: Results) -> np.ndarray:
    """Final training loss with 40 latent numbers over that with 10."""
    few, many = _latent_rows(found)
    final = np.asarray(found["latent"]["loss"])[:, :, -1]
    return np.asarray(final[many] / final[few])


def latent_psnr(found: Results) -> np.ndarray:
    """PSNR on held-out patients with 40 latent numbers less that with 10, dB."""
    few, many = _latent_rows(found)
    psnr = np.asarray(found["latent"]["psnr"])
    return np.asarray(psnr[many] - psnr[few])


def convergence(found: Results) -> np.ndarray:
    """Epochs with skips to the final loss without them, as a fraction of the epochs without."""
    without, with_them = np.asarray(found["skips"]["loss"])
    epochs = [epochs_to(b, a[-1]) for a, b in zip(without, with_them, strict=True)]
    return np.asarray(np.array(epochs) / without.shape[1])


def skips_psnr(found: Results) -> np.ndarray:
    """PSNR on held-out patients with skips less that without, dB."""
    psnr = np.asarray(found["skips"]["psnr"])
    return np.asarray(psnr[1] - psnr[0])


def _gains(found: Results) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`transfer_matrix`, its diagonal, and where a net meets a corruption that it was not trained on."""
    gain = transfer_matrix(found["transfer"])
    return gain, np.stack([gain[k, k] for k in range(len(CORRUPTIONS))]), ~np.eye(len(CORRUPTIONS), dtype=bool)


def transferred(found: Results) -> np.ndarray:
    """Mean gain on corruptions that a net was not trained on, as a fraction of their own nets' gains."""
    gain, own, apart = _gains(found)
    shares = gain[: len(CORRUPTIONS)] / own
    return np.asarray(shares[apart].mean(0))


def worst_transfer(found: Results) -> np.ndarray:
    """Smallest PSNR gained on a corruption that a net was not trained on, dB."""
    gain, _, apart = _gains(found)
    return np.asarray(gain[: len(CORRUPTIONS)][apart].min(0))


def all_levels(found: Results) -> np.ndarray:
    """PSNR of one net for all levels of Gaussian noise less that of a net for each, mean over the levels, dB."""
    gain, own, _ = _gains(found)
    level = [CORRUPTIONS.index(name) for name in MIXED]
    return np.asarray((gain[len(CORRUPTIONS), level] - own[level]).mean(0))


def differs_elsewhere(found: Results) -> float:
    """Largest difference of wrapped and clipped images where values stay within 0 to 255, grey levels."""
    return float(np.max(found["wrapped"]["elsewhere"]))


def error_carried(found: Results) -> float:
    """Fraction of the squared error that lies in pixels that wrap, at the level where it is least."""
    return float(np.min(found["wrapped"]["carried"]))


def wrapping_cost(found: Results) -> float:
    """PSNR of clipped less that of wrapped images, at the level where it is least, dB."""
    wrapped = found["wrapped"]
    return float(np.min(np.asarray(wrapped["clipped"]) - np.asarray(wrapped["wrapped"])))


def more_images(found: Results, many: int, few: int) -> np.ndarray:
    """PSNR on held-out patients after training on many images less that after few, dB."""
    psnr = {count: by_seed(found["images"], "psnr", images=count) for count in (many, few)}
    return np.asarray(psnr[many] - psnr[few])


def detectability_kept(found: Results, model: str) -> np.ndarray:
    """D' of an opacity behind a network over that in the noisy image."""
    rows = found["detect"]
    return np.asarray(of_method(rows, "detectability", model) / of_method(rows, "detectability", "identity"))
