"""The chapter's claims, computed from what was measured.

L. Gondara, ICDMW 2016, doi 10.1109/ICDMW.2016.0041; X.-J. Mao, C. Shen, Y.-B. Yang, NeurIPS 2016, arXiv 1603.09056.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from noisebook.claims import Claim
from noisebook.studies import by_seed

from . import told
from .baselines import PARAMETERS
from .corruptions import CORRUPTIONS, VARIANCE
from .long import METHODS, MIXED, TRAINED
from .training import VARIATIONAL, architecture

Rows = Mapping[str, np.ndarray]
MAO, GONDARA, OURS = "Mao et al. 2016", "Gondara 2016", "ours"
AUTHORS = "the authors' notebooks"
CODERS = {"ae": "autoencoder", "vae": "VAE"}


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
            "an untrained VAE with Glorot's weights costs n ln 2: its loss over that",
            np.asarray(initial) / (64**2 * math.log(2)),
            low=0.99,
            high=1.01,
            published="2839.1",
            source=AUTHORS,
            how=f"{architecture(VARIATIONAL)}; untrained",
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
    study: str = "",
    on: str = told.HELD_OUT,
) -> Claim:
    """A claim on simulated patients."""
    values, data = tuple(float(value) for value in np.atleast_1d(ours)), told.data(on, study)
    return Claim(name, statement, source, values, low, high, unit=unit, published=published, data=data, schedule=how)


def _best(spread: Rows) -> list[Claim]:
    psnr, ssim, mse = (
        {name: of_method(spread, quantity, name) for name in METHODS} for quantity in ("psnr", "ssim", "mse")
    )
    filters = np.max([psnr[name] for name in PARAMETERS], 0)
    best = "on held-out patients the residual autoencoder beats the better of autoencoder and VAE: "
    claim = partial(_claim, source=AUTHORS, study="spread", how=told.nets("spread", "residual", "ae", "vae"))
    return [
        claim(
            "X1a",
            best + "PSNR gained",
            psnr["residual"] - np.maximum(psnr["ae"], psnr["vae"]),
            low=0.0,
            unit="dB",
        ),
        claim(
            "X1b",
            best + "SSIM gained",
            ssim["residual"] - np.maximum(ssim["ae"], ssim["vae"]),
            low=0.0,
        ),
        claim(
            "X1c",
            best + "its squared error over theirs",
            mse["residual"] / np.minimum(mse["ae"], mse["vae"]),
            high=1.0,
        ),
        _claim(
            "X1d",
            "the residual autoencoder beats the best of identity, median, Gaussian and non-local means: PSNR gained",
            psnr["residual"] - filters,
            low=0.0,
            unit="dB",
            study="spread",
            how=told.nets("spread", "residual"),
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
            study="spread",
            how=told.nets("spread", name),
        )
        for letter, name in zip("ab", CODERS, strict=True)
    ]
    return [
        *found,
        _claim(
            "X2c",
            "the residual autoencoder keeps more of the truth above a quarter cycle a pixel than the better of "
            "autoencoder and VAE: difference of the shares",
            kept["residual"] - np.maximum(kept["ae"], kept["vae"]),
            low=0.0,
            study="spread",
            how=told.nets("spread", "residual", "ae", "vae"),
        ),
    ]


def _training_error(spread: Rows) -> list[Claim]:
    known, held = (of_method(spread, quantity, "residual") for quantity in ("train_mse", "mse"))
    claim = partial(_claim, study="spread", how=told.nets("spread", "residual"))
    return [
        claim(
            "X3a",
            "the residual autoencoder reaches a squared error of .0015 on its training images",
            known,
            high=0.0015,
            source=AUTHORS,
            published=".0015 (28.2 dB), 150 epochs",
            on=told.KNOWN,
        ),
        claim(
            "X3b",
            "the residual autoencoder's squared error is at most a tenth larger on held-out patients than on those of "
            "the training: ratio",
            held / known,
            high=1.1,
            on=told.BOTH,
        ),
    ]


def _latent(latent: Rows) -> list[Claim]:
    at = {size: int(np.flatnonzero(np.asarray(latent["latent"]) == size)[0]) for size in (10, 40)}
    final = {size: np.asarray(latent["loss"])[row, :, -1] for size, row in at.items()}
    psnr = {size: np.asarray(latent["psnr"])[row] for size, row in at.items()}
    how = told.nets("latent", "vae", each=tuple({"latent": size} for size in at))
    claim = partial(_claim, study="latent", how=how)
    return [
        claim(
            "X5a",
            "10 or 40 latent numbers make no difference to the training: final loss with 40 over that with 10",
            final[40] / final[10],
            low=0.99,
            high=1.01,
            source=AUTHORS,
            published="2412 / 2405 at epoch 20, 2368 / 2366 at epoch 100",
            on=told.TRAINING,
        ),
        claim(
            "X5b",
            "10 or 40 latent numbers make no difference on held-out patients: PSNR with 40 less that with 10",
            psnr[40] - psnr[10],
            low=-0.5,
            high=0.5,
            unit="dB",
        ),
    ]


def _skips(skips: Rows) -> list[Claim]:
    without, with_them = np.asarray(skips["loss"])
    count = without.shape[1]
    epochs = np.array([epochs_to(b, a[-1]) for a, b in zip(without, with_them, strict=True)])
    psnr = np.asarray(skips["psnr"])
    how = told.nets("skips", "residual", each=({}, {"skips": False}))
    claim = partial(_claim, source=MAO, study="skips", how=how)
    return [
        claim(
            "X6a",
            f"skips speed up convergence: epochs to the training loss that {count} reach without them, as a share of "
            "these",
            epochs / count,
            high=0.5,
            on=told.TRAINING,
        ),
        claim(
            "X6b",
            "skips raise the PSNR on held-out patients: with them less without",
            psnr[1] - psnr[0],
            low=0.0,
            unit="dB",
        ),
    ]


def _transfer(transfer: Rows) -> list[Claim]:
    gain = transfer_matrix(transfer)
    own = np.stack([gain[k, k] for k in range(len(CORRUPTIONS))])
    shares = gain[: len(CORRUPTIONS)] / own
    apart = ~np.eye(len(CORRUPTIONS), dtype=bool)
    level = [CORRUPTIONS.index(name) for name in MIXED]
    one_each = {"corruptions": (f"one of the {len(CORRUPTIONS)} for each net",)}
    claim = partial(_claim, study="transfer", how=told.nets("transfer", "residual", each=(one_each,)))
    levels = {"corruptions": (f"{' and '.join(MIXED)} for one net and one of them for each of three",)}
    return [
        claim(
            "X7a",
            "what a net gains on corruptions it was not trained on is less than what their own nets gain: mean share",
            shares[apart].mean(0),
            high=0.9,
        ),
        claim(
            "X7b",
            "no net spoils a corruption that it was not trained on: smallest PSNR gained over all pairs",
            gain[: len(CORRUPTIONS)][apart].min(0),
            low=0.0,
            unit="dB",
        ),
        claim(
            "X9",
            "one net for all levels of Gaussian noise is as good as three nets for one each, within half a dB: mean "
            "difference",
            (gain[len(CORRUPTIONS), level] - own[level]).mean(0),
            low=-0.5,
            unit="dB",
            source=MAO,
            how=told.nets("transfer", "residual", each=(levels,)),
        ),
    ]


def _wrapped(wrapped: Rows) -> list[Claim]:
    worst = f"at the worst of the levels {', '.join(VARIANCE)}"
    return [
        _claim(
            "X8a",
            "where values stay within 0 to 255 the authors' wrapped image is the clipped one: largest difference "
            f"{worst}",
            np.max(wrapped["elsewhere"]),
            high=0.0,
            unit="grey level",
        ),
        _claim(
            "X8b",
            f"the pixels that wrap carry most of the squared error of the authors' Gaussian noise: share {worst}",
            np.min(wrapped["carried"]),
            low=0.5,
        ),
        _claim(
            "X8c",
            f"wrapping costs PSNR: clipped less wrapped, {worst}",
            np.min(np.asarray(wrapped["clipped"]) - np.asarray(wrapped["wrapped"])),
            low=3.0,
            unit="dB",
            source=AUTHORS,
            published="about 7 dB instead of 18 to 25, 22 % of the pixels",
        ),
    ]


def _images(images: Rows) -> list[Claim]:
    counts = sorted({int(count) for count in images["images"]})
    psnr, epochs = ({count: by_seed(images, name, images=count) for count in counts} for name in ("psnr", "epochs"))
    few = next(count for count in counts if count >= 300)

    def how(*numbers: int) -> str:
        each = tuple({"images": number, "epochs": int(epochs[number][0])} for number in numbers)
        return told.nets("images", "residual", each=each)

    return [
        _claim(
            "X10a",
            f"more training images raise the PSNR on held-out patients: {counts[-1]} against {counts[0]}",
            psnr[counts[-1]] - psnr[counts[0]],
            low=0.0,
            unit="dB",
            study="images",
            how=how(counts[-1], counts[0]),
        ),
        _claim(
            "X10b",
            f"a few hundred training images are enough: {counts[-1]} gain at most half a dB over {few}",
            psnr[counts[-1]] - psnr[few],
            high=0.5,
            unit="dB",
            source=GONDARA,
            study="images",
            how=how(counts[-1], few),
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
                study="detect",
                how=told.nets("detect", name),
            )
            for letter, name in zip("ab", CODERS, strict=True)
        ),
        _claim(
            "X11c",
            "the residual autoencoder hides no disease: d' of an opacity behind it over that in the noisy image",
            share["residual"],
            low=0.9,
            study="detect",
            how=told.nets("detect", "residual"),
        ),
    ]
