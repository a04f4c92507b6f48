"""The chapter's tables and claims, computed from what was measured.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from noisebook import _numbers, embedded
from noisebook.claims import Claim
from noisebook.studies import by_seed

from .baselines import PARAMETERS
from .corruptions import CORRUPTIONS, VARIANCE
from .long import METHODS, MIXED, STUDIES, TRAINED
from .training import AE, SMALL, VARIATIONAL, Config, describe, schedule

Rows = Mapping[str, np.ndarray]
MAO, GONDARA, OURS = "Mao et al. 2016", "Gondara 2016", "ours"
AUTHORS = "the authors' notebooks"
CODERS = {"ae": "autoencoder", "vae": "VAE"}
MODELS = {"ae": AE, "vae": VARIATIONAL, "residual": SMALL}


def of_method(rows: Rows, quantity: str, name: str) -> np.ndarray:
    """A quantity of one of `METHODS`, one value a seed."""
    return by_seed(rows, quantity, method=METHODS.index(name))


def table(spread: Rows, detect: Rows) -> dict[str, list[object]]:
    """The columns of a table of all methods: means over the seeds, with their standard deviations."""
    heads = {"psnr": "PSNR / dB", "ssim": "SSIM", "mse": "squared error × 10³", "kept": "high frequencies kept"}
    columns: dict[str, list[object]] = {"method": list(METHODS)}
    for rows, quantity, head in [*((spread, q, h) for q, h in heads.items()), (detect, "detectability", "d'")]:
        values = [of_method(rows, quantity, name) for name in METHODS]
        values = [1000 * v for v in values] if quantity == "mse" else values
        single = len(values[0]) == 1
        columns[head] = [v.item() if single else _numbers.with_spread(v.mean(), v.std(ddof=1), 1) for v in values]
    return columns


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


def claims(
    spread: Rows,
    transfer: Rows,
    latent: Rows,
    skips: Rows,
    images: Rows,
    detect: Rows,
    initial: np.ndarray,
    wrapped: Rows,
) -> list[Claim]:
    """Every claim of the chapter, X1 to X11.

    Args:
        spread: The study ``spread``.
        transfer: The study ``transfer``.
        latent: The study ``latent``.
        skips: The study ``skips``.
        images: The study ``images``.
        detect: The study ``detect``.
        initial: As `initial_losses` gives it for 64 x 64.
        wrapped: As `wrapping` gives it.
    """
    return [
        *_best(spread),
        *_smooth(spread),
        *_training_error(spread),
        _claim(
            "X4",
            "an untrained VAE with Glorot's weights costs n ln 2: its loss over that, 64 x 64 (torch's own weights: "
            "1 to 17 % off)",
            np.asarray(initial) / (64**2 * math.log(2)),
            low=0.99,
            high=1.01,
            published="2839.1",
            source=AUTHORS,
        ),
        *_latent(latent),
        *_skips(skips),
        *_transfer(transfer),
        *_wrapped(wrapped),
        *_images(images),
        *_detect(detect),
    ]


def _claim(
    name: str,
    statement: str,
    ours: np.ndarray | float,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    unit: str = "",
    source: str = OURS,
    published: str = "",
    how: str = "",
) -> Claim:
    """A claim on held-out simulated patients."""
    values = tuple(float(value) for value in np.atleast_1d(ours))
    data = f"simulated chest radiographs ({embedded.XRAY_TEST.id}), 64 x 64, held-out patients"
    return Claim(name, statement, source, values, low, high, unit=unit, published=published, data=data, schedule=how)


def _study(name: str) -> dict[str, Any]:
    return next(study.config for study in STUDIES if study.name == name)


def _how(*models: str, study: str) -> str:
    """The nets of a study, in words, as its configuration has them."""
    known, words = _study(study), []
    for model in models:
        changed: dict[str, Any] = {
            name: known[name] for name in ("width", "images") if name in known and model == "residual"
        }
        epochs = known["epochs"]
        changed["epochs"] = epochs[model] if isinstance(epochs, dict) else epochs
        config: Config = replace(MODELS[model], **changed, corruptions=(known.get("corruption", "each in turn"),))
        words.append(f"{model}: {describe(config)}; {schedule(config)}")
    return f"{'. '.join(words)} (precomputed study {study})"


def _best(spread: Rows) -> list[Claim]:
    how = _how("ae", "vae", "residual", study="spread")
    psnr, ssim, mse = (
        {name: of_method(spread, quantity, name) for name in METHODS} for quantity in ("psnr", "ssim", "mse")
    )
    filters = np.max([psnr[name] for name in PARAMETERS], 0)
    best = "on held-out patients the residual autoencoder beats the better of autoencoder and VAE: "
    return [
        _claim(
            "X1a",
            best + "PSNR gained",
            psnr["residual"] - np.maximum(psnr["ae"], psnr["vae"]),
            low=0.0,
            unit="dB",
            source=AUTHORS,
            how=how,
        ),
        _claim(
            "X1b",
            best + "SSIM gained",
            ssim["residual"] - np.maximum(ssim["ae"], ssim["vae"]),
            low=0.0,
            source=AUTHORS,
            how=how,
        ),
        _claim(
            "X1c",
            best + "its squared error over theirs",
            mse["residual"] / np.minimum(mse["ae"], mse["vae"]),
            high=1.0,
            source=AUTHORS,
            how=how,
        ),
        _claim(
            "X1d",
            "and it beats the best of identity, median, Gaussian and non-local means: PSNR gained",
            psnr["residual"] - filters,
            low=0.0,
            unit="dB",
            how=how,
        ),
    ]


def _smooth(spread: Rows) -> list[Claim]:
    kept = {name: of_method(spread, "kept", name) for name in (*CODERS, "residual")}
    found = [
        _claim(
            f"X2{letter}",
            f"the {CODERS[name]} over-smooths: the share that it keeps of the truth above a quarter cycle a pixel",
            kept[name],
            high=0.5,
            source=AUTHORS,
            how=_how(name, study="spread"),
        )
        for letter, name in zip("ab", CODERS, strict=True)
    ]
    return [
        *found,
        _claim(
            "X2c",
            "the residual autoencoder keeps more of it than the better of both: difference",
            kept["residual"] - np.maximum(kept["ae"], kept["vae"]),
            low=0.0,
            how=_how("residual", study="spread"),
        ),
    ]


def _training_error(spread: Rows) -> list[Claim]:
    known, held = (of_method(spread, quantity, "residual") for quantity in ("train_mse", "mse"))
    how = _how("residual", study="spread")
    return [
        _claim(
            "X3a",
            "the residual autoencoder reaches a squared error of .0015 on its training images",
            known,
            high=0.0015,
            source=AUTHORS,
            published=".0015 (28.2 dB), 150 epochs",
            how=how,
        ),
        _claim(
            "X3b", "on held-out patients its error is at most a tenth larger: ratio", held / known, high=1.1, how=how
        ),
    ]


def _latent(latent: Rows) -> list[Claim]:
    at = {size: int(np.flatnonzero(np.asarray(latent["latent"]) == size)[0]) for size in (10, 40)}
    final = {size: np.asarray(latent["loss"])[row, :, -1] for size, row in at.items()}
    psnr = {size: np.asarray(latent["psnr"])[row] for size, row in at.items()}
    how = _how("vae", study="latent")
    return [
        _claim(
            "X5a",
            "10 or 40 latent numbers make no difference: final loss with 40 over that with 10",
            final[40] / final[10],
            low=0.99,
            high=1.01,
            source=AUTHORS,
            published="2412 / 2405 at epoch 20, 2368 / 2366 at epoch 100",
            how=how,
        ),
        _claim(
            "X5b",
            "nor on held-out patients: PSNR with 40 less that with 10",
            psnr[40] - psnr[10],
            low=-0.5,
            high=0.5,
            unit="dB",
            how=how,
        ),
    ]


def _skips(skips: Rows) -> list[Claim]:
    without, with_them = np.asarray(skips["loss"])
    count = without.shape[1]
    epochs = np.array([epochs_to(b, a[-1]) for a, b in zip(without, with_them, strict=True)])
    psnr = np.asarray(skips["psnr"])
    how = _how("residual", study="skips")
    return [
        _claim(
            "X6a",
            f"skips speed up convergence: epochs to the loss that {count} reach without them, as a share of these",
            epochs / count,
            high=0.5,
            source=MAO,
            how=how,
        ),
        _claim(
            "X6b",
            "and raise the PSNR on held-out patients",
            psnr[1] - psnr[0],
            low=0.0,
            unit="dB",
            source=MAO,
            how=how,
        ),
    ]


def _transfer(transfer: Rows) -> list[Claim]:
    gain = transfer_matrix(transfer)
    own = np.stack([gain[k, k] for k in range(len(CORRUPTIONS))])
    shares = gain[: len(CORRUPTIONS)] / own
    apart = ~np.eye(len(CORRUPTIONS), dtype=bool)
    level = [CORRUPTIONS.index(name) for name in MIXED]
    how = _how("residual", study="transfer")
    return [
        _claim(
            "X7a",
            "what a net gains on corruptions it was not trained on is less than what their own nets gain: mean share",
            shares[apart].mean(0),
            high=0.9,
            how=how,
        ),
        _claim("X7b", "and more than nothing: mean share", shares[apart].mean(0), low=0.0, how=how),
        _claim(
            "X9",
            "one net for all levels of Gaussian noise is as good as three nets for one each, within half a dB: mean "
            "difference",
            (gain[len(CORRUPTIONS), level] - own[level]).mean(0),
            low=-0.5,
            unit="dB",
            source=MAO,
            how=how,
        ),
    ]


def _wrapped(wrapped: Rows) -> list[Claim]:
    levels = f"at {', '.join(VARIANCE)} level"
    return [
        _claim(
            "X8a",
            f"wrapping around changes nothing, exactly, where values stay within 0 to 255: largest difference {levels}",
            wrapped["elsewhere"],
            high=0.0,
            unit="grey levels",
        ),
        _claim(
            "X8b",
            f"the pixels that wrap carry most of the squared error of the authors' Gaussian noise: share {levels}",
            wrapped["carried"],
            low=0.5,
        ),
        _claim(
            "X8c",
            f"wrapping costs PSNR: clipped less wrapped, {levels}",
            np.asarray(wrapped["clipped"]) - np.asarray(wrapped["wrapped"]),
            low=3.0,
            unit="dB",
            source=AUTHORS,
            published="about 7 dB instead of 18 to 25, 22 % of the pixels",
        ),
    ]


def _images(images: Rows) -> list[Claim]:
    counts = sorted({int(count) for count in images["images"]})
    psnr = {count: by_seed(images, "psnr", images=count) for count in counts}
    few = next(count for count in counts if count >= 300)
    width, steps = _study("images")["width"], _study("images")["steps"]
    how = f"residual: {width:g} of the authors' width; {steps} steps for each number (precomputed study images)"
    return [
        _claim(
            "X10a",
            f"more training images raise the PSNR on held-out patients: {counts[-1]} against {counts[0]}",
            psnr[counts[-1]] - psnr[counts[0]],
            low=0.0,
            unit="dB",
            how=how,
        ),
        _claim(
            "X10b",
            f"but a few hundred do: {counts[-1]} gain at most half a dB over {few}",
            psnr[counts[-1]] - psnr[few],
            high=0.5,
            unit="dB",
            source=GONDARA,
            how=how,
        ),
    ]


def _detect(detect: Rows) -> list[Claim]:
    plain = of_method(detect, "detectability", "identity")
    share = {name: of_method(detect, "detectability", name) / plain for name in (*CODERS, "residual")}
    return [
        *(
            _claim(
                f"X11{letter}",
                f"the {CODERS[name]} hides disease: d' of an opacity behind it over that in the noisy image",
                share[name],
                high=0.9,
                how=_how(name, study="detect"),
            )
            for letter, name in zip("ab", CODERS, strict=True)
        ),
        _claim(
            "X11c",
            "the residual autoencoder does not: at least nine tenths of d' are left",
            share["residual"],
            low=0.9,
            how=_how("residual", study="detect"),
        ),
    ]
