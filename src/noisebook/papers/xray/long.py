"""The chapter's long runs: seeds, corruptions, latent sizes, skips, numbers of images, and what an observer detects.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from noisebook import embedded, training
from noisebook.studies import Study

from .baselines import PARAMETERS, scores, tuned
from .corruptions import CORRUPTIONS, VARIANCE, corrupt, unit
from .network import VAE, Network, denoise, sample
from .observer import Task, opacity_detectability
from .training import (
    AE,
    EMBEDDED,
    SMALL,
    VARIATIONAL,
    Config,
    batches,
    build,
    checkpoints,
    load,
    patient_numbers,
    radiographs,
    train_logged,
    vae_loss,
)

METHODS = (*PARAMETERS, "ae", "vae", "residual")
"""What is compared, in the order of the studies' column ``method``."""
MIXED = tuple(f"gaussian-{level}" for level in VARIANCE)
"""The levels that one net for all of them is trained on."""
TRAINED = (*((name,) for name in CORRUPTIONS), MIXED)
"""What the nets of the study ``transfer`` are trained on, in the order of its column ``trained``."""
EPOCHS = {"residual": SMALL.epochs, "ae": AE.epochs, "vae": VARIATIONAL.epochs}


def held_out(part: str = "test", size: int = 64) -> Tensor:
    """The embedded images of a part, ``train`` for some that the nets know: (N, 1, size, size) uint8."""
    return radiographs(embedded.embedded_xray(progress=False), part, size)


def held_out_patients(part: str = "test") -> np.ndarray:
    """Which patient each image of `held_out` shows: (N,), numbers from 0."""
    return patient_numbers(embedded.embedded_xray(progress=False), part)


def pairs(images: Tensor, corruption: str, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, Y, X), uint8, corrupted and not, each in [0, 1]."""
    return unit(corrupt(images, corruption, torch.Generator().manual_seed(seed))), unit(images)


def _trained(config: Config, folder: Path, device: str) -> tuple[Network, training.Log]:
    """A net and its log; the checkpoints lie in ``nets`` above ``<study>/<circumstances>``: the studies share them.

    They lie apart by number of epochs: a checkpoint of more epochs would be taken for one of fewer.
    """
    name = f"{config.model}-seed{config.seed}-epochs{config.epochs}"
    return train_logged(config, checkpoints(folder.parents[1] / "nets", name, config), device=device)


def methods(
    folder: Path, device: str, seed: int, corruption: str, epochs: dict[str, int], width: float
) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Every one of `METHODS` as a function of noisy images: filters tuned on validation patients, nets of one seed.

    Args:
        folder: As for the studies.
        device: To train on.
        seed: Of the nets, and of the noise that filters are tuned on. Nets that are embedded are not trained again.
        corruption: To be removed.
        epochs: By model: ``residual``, ``ae`` and ``vae``.
        width: Of the residual autoencoder.
    """
    noisy, truth = pairs(held_out("val"), corruption, seed)
    yield from tuned(noisy, truth).items()
    known = {config: name for name, config in EMBEDDED.items()}
    for base in (AE, VARIATIONAL, replace(SMALL, width=width)):
        config = replace(base, seed=seed, corruptions=(corruption,), epochs=epochs[base.model])
        net = load(known[config]) if config in known else _trained(config, folder, device)[0]
        yield base.model, partial(denoise, net)


def study_spread(
    folder: Path, device: str, *, seeds: list[int], corruption: str, epochs: dict[str, int], width: float
) -> dict[str, np.ndarray]:
    """Every method on held-out patients, and on images that the nets were trained on.

    Args:
        folder: Checkpoints are kept two folders above, by configuration, so that an interrupted study goes on.
        device: To train on.
        seeds: Of nets and noise.
        corruption: To be removed.
        epochs: By model.
        width: Of the residual autoencoder.

    Returns:
        One row a method and seed: ``method`` (its place in `METHODS`), ``seed``, ``psnr``, ``ssim``, ``mse``, ``high``
        and ``kept`` as `scores` gives them, and ``train_mse``.
    """
    rows = []
    for seed in seeds:
        tested, known = (pairs(held_out(part), corruption, seed + 1000) for part in ("test", "train"))
        for name, method in methods(folder, device, seed, corruption, epochs, width):
            row = {"method": METHODS.index(name), "seed": seed} | scores(method(tested[0]), tested[1])
            rows.append(row | {"train_mse": float((method(known[0]) - known[1]).square().mean())})
    return _columns(rows)


def study_transfer(
    folder: Path, device: str, *, seeds: list[int], epochs: int, width: float, images: int
) -> dict[str, np.ndarray]:
    """Residual autoencoders trained on each corruption, and on all levels of Gaussian noise, tested on each.

    Args:
        folder: As for `study_spread`.
        device: To train on.
        seeds: Of nets and noise.
        epochs: Of each training.
        width: Of the nets.
        images: For training.

    Returns:
        One row a net and corruption: ``trained`` (its place in `TRAINED`), ``tested`` (in `CORRUPTIONS`), ``seed``,
        ``psnr``, and ``before``, the PSNR of the corrupted images.
    """
    rows = []
    for seed in seeds:
        for trained, corruptions in enumerate(TRAINED):
            config = replace(SMALL, corruptions=corruptions, seed=seed, epochs=epochs, width=width, images=images)
            net = _trained(config, folder, device)[0]
            for tested, name in enumerate(CORRUPTIONS):
                noisy, truth = pairs(held_out(), name, seed + 1000)
                row = {"trained": trained, "tested": tested, "seed": seed}
                psnr = {"psnr": scores(denoise(net, noisy), truth)["psnr"], "before": scores(noisy, truth)["psnr"]}
                rows.append(row | psnr)
    return _columns(rows)


def study_latent(
    folder: Path,
    device: str,
    *,
    latents: list[int],
    seeds: list[int],
    corruption: str,
    epochs: int,
    images: int,
    shown: list[int],
    vectors: int,
    sampled: int,
) -> dict[str, np.ndarray]:
    """VAEs of several latent sizes: their losses epoch by epoch, and samples of one of them through its training.

    Args:
        folder: As for `study_spread`.
        device: To train on.
        latents: L.
        seeds: Of nets and noise.
        corruption: To be removed.
        epochs: Of each training.
        images: For training.
        shown: Epochs after which samples are kept, ascending.
        vectors: Fixed latent vectors that samples are made of.
        sampled: The L of the net that they are made with, of the first seed; it is trained once more for them.

    Returns:
        ``latent`` (L,) and ``seed`` (S,); ``loss`` (L, S, epochs), means of an epoch in nats an image; ``psnr`` (L, S)
        on held-out patients; ``shown`` (K,) and ``samples`` (K, vectors, Y, X), uint8.
    """
    loss, psnr = np.zeros((len(latents), len(seeds), epochs), np.float32), np.zeros((len(latents), len(seeds)))
    for i, latent in enumerate(latents):
        for j, seed in enumerate(seeds):
            config = replace(VARIATIONAL, latent=latent, seed=seed, corruptions=(corruption,), images=images)
            net, log = _trained(replace(config, epochs=epochs), folder, device)
            noisy, truth = pairs(held_out(), corruption, seed + 1000)
            loss[i, j], psnr[i, j] = [row["loss"] for row in log], scores(denoise(net, noisy), truth)["psnr"]
    config = replace(VARIATIONAL, latent=sampled, seed=seeds[0], corruptions=(corruption,), images=images)
    samples = [_samples(replace(config, epochs=epoch), folder, device, vectors) for epoch in shown]
    kept = {"shown": np.array(shown), "samples": np.stack(samples)}
    return {"latent": np.array(latents), "seed": np.array(seeds), "loss": loss, "psnr": psnr} | kept


def _samples(config: Config, folder: Path, device: str, vectors: int) -> np.ndarray:
    """What the VAE makes of fixed latent vectors after ``config.epochs``: (vectors, Y, X) uint8, kept in ``folder``.

    It is asked for by rising epochs, and its checkpoints serve nothing else, so that none is ahead of what is asked.
    """
    kept = folder / f"samples-{config.epochs:04d}.npy"
    if not kept.is_file():
        net = train_logged(config, checkpoints(folder, "shown", config), device=device)[0]
        drawn = torch.randn(vectors, config.latent, generator=torch.Generator().manual_seed(0))
        images = (255 * sample(cast(VAE, net), drawn)[:, 0]).round().to(torch.uint8).numpy()
        np.save(kept.with_suffix(".partial.npy"), images)
        kept.with_suffix(".partial.npy").replace(kept)
    found: np.ndarray = np.load(kept)
    return found


def study_skips(
    folder: Path, device: str, *, seeds: list[int], corruption: str, epochs: int, width: float, images: int
) -> dict[str, np.ndarray]:
    """Residual autoencoders with and without skips.

    Args:
        folder: As for `study_spread`.
        device: To train on.
        seeds: Of nets and noise.
        corruption: To be removed.
        epochs: Of each training.
        width: Of the nets.
        images: For training.

    Returns:
        ``seed`` (S,); ``loss`` (2, S, epochs), mean squared errors of the epochs without and with skips; ``psnr``
        (2, S) on held-out patients.
    """
    loss, psnr = np.zeros((2, len(seeds), epochs)), np.zeros((2, len(seeds)))
    for skips in (0, 1):
        for j, seed in enumerate(seeds):
            config = replace(SMALL, corruptions=(corruption,), seed=seed, epochs=epochs, width=width, images=images)
            net, log = _trained(replace(config, skips=bool(skips)), folder, device)
            noisy, truth = pairs(held_out(), corruption, seed + 1000)
            loss[skips, j], psnr[skips, j] = [row["loss"] for row in log], scores(denoise(net, noisy), truth)["psnr"]
    return {"seed": np.array(seeds), "loss": loss, "psnr": psnr}


def study_images(
    folder: Path, device: str, *, counts: list[int], seeds: list[int], corruption: str, steps: int, width: float
) -> dict[str, np.ndarray]:
    """Residual autoencoders trained on few and on many images, with (nearly) as many steps.

    Args:
        folder: As for `study_spread`.
        device: To train on.
        counts: Numbers of training images.
        seeds: Of nets and noise.
        corruption: To be removed.
        steps: Of each training, rounded to whole epochs.
        width: Of the nets.

    Returns:
        One row a net: ``images``, ``seed``, ``epochs``; ``psnr`` and ``ssim`` on held-out patients.
    """
    rows = []
    for count in counts:
        epochs = max(1, round(steps / max(1, count // SMALL.batch)))
        for seed in seeds:
            config = replace(SMALL, corruptions=(corruption,), seed=seed, epochs=epochs, width=width, images=count)
            noisy, truth = pairs(held_out(), corruption, seed + 1000)
            found = scores(denoise(_trained(config, folder, device)[0], noisy), truth)
            rows.append({"images": count, "seed": seed, "epochs": epochs, "psnr": found["psnr"], "ssim": found["ssim"]})
    return _columns(rows)


def study_detect(
    folder: Path,
    device: str,
    *,
    seeds: list[int],
    corruption: str,
    epochs: dict[str, int],
    width: float,
    contrast: float,
    draws: int,
) -> dict[str, np.ndarray]:
    """Detectability of an opacity behind every method.

    Args:
        folder: As for `study_spread`; the nets are the same.
        device: To train on.
        seeds: Of nets and noise.
        corruption: To be removed.
        epochs: By model.
        width: Of the residual autoencoder.
        contrast: Of the opacity, grey levels.
        draws: Of the noise, for each image, place and class.

    Returns:
        One row a method and seed: ``method`` (its place in `METHODS`, -1 for the images without noise), ``seed`` and
        ``detectability``, d', with the patients as groups.
    """
    images, patients, task = held_out(), held_out_patients(), Task(contrast=contrast, draws=draws)
    rows = []
    for seed in seeds:
        clean = opacity_detectability(lambda noisy: noisy, images, "", seed, task, patients)
        rows.append({"method": -1, "seed": seed, "detectability": clean})
        for name, method in methods(folder, device, seed, corruption, epochs, width):
            found = opacity_detectability(method, images, corruption, seed + 1000, task, patients)
            rows.append({"method": METHODS.index(name), "seed": seed, "detectability": found})
    return _columns(rows)


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
            entropy, divergence = vae_loss(cast(VAE, net), *next(batches(images, config, generator)))
        found.append(float(entropy + divergence))
    return np.array(found)


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


_SEEDS, _MEDIUM = [0, 1, 2], "gaussian-medium"
_MANY = {"seeds": _SEEDS, "width": 0.125}  # many nets: an eighth of the authors' width
_RESIDUAL = {**_MANY, "epochs": 12, "images": SMALL.images}
_ALL = {"seeds": _SEEDS, "corruption": _MEDIUM, "epochs": EPOCHS, "width": SMALL.width}
_NETS = ("xray-residual", "xray-ae", "xray-vae-40")
_DATA = f"{embedded.XRAY_TRAIN.id}, {embedded.XRAY_TEST.id}"
_VAES = {"corruption": "gaussian-easy", "epochs": 20, "images": VARIATIONAL.images}
_SAMPLED = {"shown": [1, 2, 3, 5, 7, 10, 14, 20], "vectors": 8, "sampled": 40}
_IMAGES = {"counts": [50, 200, 400, 1300], "corruption": _MEDIUM, "steps": 1008, **_MANY}

STUDIES = (
    Study("xray", "spread", study_spread, _ALL, _NETS, _DATA),
    Study("xray", "transfer", study_transfer, _RESIDUAL, (), _DATA),
    Study("xray", "latent", study_latent, {"latents": [10, 40], "seeds": _SEEDS, **_VAES, **_SAMPLED}, (), _DATA),
    Study("xray", "skips", study_skips, {"corruption": _MEDIUM, **_RESIDUAL}, (), _DATA),
    Study("xray", "images", study_images, _IMAGES, (), _DATA),
    Study("xray", "detect", study_detect, {**_ALL, "contrast": 16.0, "draws": 4}, _NETS, _DATA),
)
"""Every long run of the chapter."""
