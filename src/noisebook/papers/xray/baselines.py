"""What the networks are measured beside: filters whose parameter is chosen on validation patients, and the scores.

Non-local means: A. Buades, B. Coll, J.-M. Morel, CVPR 2005, doi 10.1109/CVPR.2005.38.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from noisebook import metrics
from noisebook._checks import check_one_of, check_shape

from .corruptions import VARIANCE, corrupt, unclipped

PARAMETERS: dict[str, tuple[float, ...]] = {
    "identity": (0.0,),
    "median": (3.0, 5.0, 7.0, 9.0),
    "Gaussian": (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0),
    "non-local means": (0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3, 0.4),
}
"""What is tried: the window's side (pixels), the standard deviation (pixels), the filtering parameter h (of 1)."""
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


def tuned(noisy: Tensor, truth: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
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
