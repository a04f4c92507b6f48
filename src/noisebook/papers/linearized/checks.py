"""Image quality, and that derivatives and adjoints are what they claim to be.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import ct, datasets, metrics
from noisebook.jacobian import Jacobian, Map


def quality(
    pairs: Sequence[datasets.CtPairs], outputs: Sequence[np.ndarray], *, data_range: float
) -> dict[str, list[float]]:
    """RMSE, PSNR and SSIM of inputs and outputs against the labels, each a mean over the slices of a patient.

    Args:
        pairs: One a patient.
        outputs: The network's output for each, (Z, Y, X), HU.
        data_range: The peak for PSNR and SSIM, HU.

    Returns:
        One value a patient under headings such as ``PSNR / dB, input``.
    """
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "RMSE / HU": metrics.rmse,
        "PSNR / dB": partial(metrics.psnr, data_range=data_range),
        "SSIM": partial(metrics.ssim, data_range=data_range),
    }
    found = {}
    for name, measure in measures.items():
        for kind, images in (("input", [pair.low for pair in pairs]), ("output", outputs)):
            found[f"{name}, {kind}"] = [
                float(np.mean([measure(one, label) for one, label in zip(image, pair.label, strict=True)]))
                for image, pair in zip(images, pairs, strict=True)
            ]
    return found


def _relative(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm())


def derivative_errors(model: nn.Module, image: Tensor, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Claim L1: how far double backward and finite differences are from forward mode, in float64.

    Args:
        model: The network.
        image: (1, 1, Y, X), the point.
        seeds: One random direction each.

    Returns:
        Relative differences in the 2-norm, one a seed: ``double backward`` and ``finite differences``.
    """
    operator = Jacobian(model, image.double())
    differences: dict[str, list[float]] = {"double backward": [], "finite differences": []}
    for seed in seeds:
        v = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        forward = operator @ v
        differences["double backward"].append(_relative(operator.double_backward(v), forward))
        differences["finite differences"].append(_relative(operator.finite_difference(v, 1e-6), forward))
    return {name: np.array(values) for name, values in differences.items()}


def adjoint_errors(model: nn.Module, image: Tensor, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Claim L2: the adjoint dot test ``|<A v, u> - <v, A'u>| / |<A v, u>|`` in float64.

    Args:
        model: The network.
        image: (1, 1, Y, X), the point of its Jacobian; best not square.
        seeds: One random pair (v, u) each.

    Returns:
        The relative defect, one a seed, of ``Jacobian``, ``projection``, ``back-projection`` and ``FBP``.
    """
    operator = Jacobian(model, image.double())
    scan, grid = ct.Geometry(views=72, channels=84, pitch=0.795 / 84), ct.Grid(64, 6.0)
    sinogram, picture = (1, *scan.sinogram_shape), (1, grid.pixels, grid.pixels)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def defects(forward: Map, adjoint: Map, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
        found = []
        for generator in generators:
            v = torch.randn(before, dtype=torch.float64, generator=generator)
            u = torch.randn(after, dtype=torch.float64, generator=generator)
            left, right = (forward(v) * u).sum(), (v * adjoint(u)).sum()
            found.append(float((left - right).abs() / left.abs()))
        return np.array(found)

    found = {"Jacobian": defects(lambda v: operator @ v, lambda u: operator.T @ u, image.shape, operator.output.shape)}
    there, back = (partial(one, geometry=scan, grid=grid) for one in (ct.project, ct.project_adjoint))
    found["projection"] = defects(there, back, picture, sinogram)
    for name, forward, adjoint in (
        ("back-projection", ct.back_project, ct.back_project_adjoint),
        ("FBP", ct.fbp, ct.fbp_adjoint),
    ):
        there, back = (partial(one, geometry=scan, grid=grid) for one in (forward, adjoint))
        found[name] = defects(there, back, sinogram, picture)
    return found
