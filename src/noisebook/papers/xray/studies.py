"""The chapter's long runs: seeds, corruptions, latent sizes, skips, numbers of images, and what an observer detects.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056;
D. P. Kingma, M. Welling, ICLR 2014, arXiv 1312.6114.
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

from noisebook import simulated
from noisebook.networks import Trained
from noisebook.studies import Study, by_seed

from .data import CORRUPTIONS, held_out, held_out_patients, pairs
from .experiment import AE, EIGHTH, NETWORKS, SHIPPED, SMALL, STEPS, VARIATIONAL, Config
from .measures import (
    METHODS,
    TRAINED,
    Rows,
    Task,
    of_method,
    opacity_detectability,
    scores,
    tuned,
)
from .model import VAE, denoise, sample

EPOCHS = {"residual": SMALL.epochs, "ae": AE.epochs, "vae": VARIATIONAL.epochs}


def _trained(config: Config, folder: Path, device: str) -> Trained:
    """A net and its log; the checkpoints lie in ``nets`` above ``<study>/<version>``: the studies share them.

    They lie apart by number of epochs: a checkpoint of more epochs would be taken for one of fewer.
    """
    name = f"{config.model}-seed{config.seed}-epochs{config.epochs}"
    return NETWORKS.train(config, NETWORKS.checkpoints(folder.parents[1] / "nets", name, config), device=device)


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
    known = {config: name for name, config in SHIPPED.items()}
    for base in (AE, VARIATIONAL, replace(SMALL, width=width)):
        config = replace(base, seed=seed, corruptions=(corruption,), epochs=epochs[base.model])
        net = NETWORKS.load(known[config]) if config in known else _trained(config, folder, device).net
        yield base.model, partial(denoise, net)


def study_spread(
    folder: Path, device: str, *, seeds: list[int], corruption: str, epochs: dict[str, int], width: float
) -> dict[str, np.ndarray]:
    """Every method on held-out patients, and on images that the nets were trained on.

    Args:
        folder: Checkpoints are kept two folders above, by configuration, so that an interrupted study resumes.
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
            net = _trained(config, folder, device).net
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
            done = _trained(replace(config, epochs=epochs), folder, device)
            noisy, truth = pairs(held_out(), corruption, seed + 1000)
            loss[i, j] = [row["loss"] for row in done.log]
            psnr[i, j] = scores(denoise(done.net, noisy), truth)["psnr"]
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
        net = NETWORKS.train(config, NETWORKS.checkpoints(folder, "shown", config), device=device).net
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
            done = _trained(replace(config, skips=bool(skips)), folder, device)
            noisy, truth = pairs(held_out(), corruption, seed + 1000)
            loss[skips, j] = [row["loss"] for row in done.log]
            psnr[skips, j] = scores(denoise(done.net, noisy), truth)["psnr"]
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
            found = scores(denoise(_trained(config, folder, device).net, noisy), truth)
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


def rows_again(spread: Rows, transfer: Rows, detect: Rows) -> tuple[list[float], list[float]]:
    """One cheap row of each study that has one, computed again, and as it is stored.

    Args:
        spread: The study; again: the PSNR of the embedded residual autoencoder.
        transfer: The study; again: the PSNR of images with hard Gaussian noise.
        detect: The study; again: the detectability in noisy images.
    """
    images = held_out()
    noisy, truth = pairs(images, "gaussian-medium", 1000)
    found = [scores(denoise(NETWORKS.load("xray-residual"), noisy), truth)["psnr"]]
    found.append(scores(*pairs(images, "gaussian-hard", 1000))["psnr"])
    patients = held_out_patients()
    found.append(opacity_detectability(lambda shown: shown, images, "gaussian-medium", 1000, patients=patients))
    before = by_seed(transfer, "before", trained=0, tested=CORRUPTIONS.index("gaussian-hard"))
    stored = [of_method(spread, "psnr", "residual")[0], before[0], of_method(detect, "detectability", "identity")[0]]
    return found, [float(value) for value in stored]


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


_SEEDS, _MEDIUM = [0, 1, 2], "gaussian-medium"
_MANY = {"seeds": _SEEDS, "width": EIGHTH.width}  # many nets: an eighth of the authors' width
_RESIDUAL = {**_MANY, "epochs": EIGHTH.epochs, "images": SMALL.images}
_ALL = {"seeds": _SEEDS, "corruption": _MEDIUM, "epochs": EPOCHS, "width": SMALL.width}
_NETS = ("xray-residual", "xray-ae", "xray-vae-40")
_DATA = f"{simulated.XRAY_TRAIN.id}, {simulated.XRAY_TEST.id}"
_VAES = {"corruption": "gaussian-easy", "epochs": 20, "images": VARIATIONAL.images}
_SAMPLED = {"shown": [1, 2, 3, 5, 7, 10, 14, 20], "vectors": 8, "sampled": 40}
_IMAGES = {"counts": [50, 200, 400, 1300], "corruption": _MEDIUM, "steps": STEPS, **_MANY}

STUDIES = (
    Study("xray", "spread", study_spread, _ALL, _NETS, _DATA),
    Study("xray", "transfer", study_transfer, _RESIDUAL, (), _DATA),
    Study("xray", "latent", study_latent, {"latents": [10, 40], "seeds": _SEEDS, **_VAES, **_SAMPLED}, (), _DATA),
    Study("xray", "skips", study_skips, {"corruption": _MEDIUM, **_RESIDUAL}, (), _DATA),
    Study("xray", "images", study_images, _IMAGES, (), _DATA),
    Study("xray", "detect", study_detect, {**_ALL, "contrast": 16.0, "draws": 4}, _NETS, _DATA),
)
"""Every long run of the chapter."""
