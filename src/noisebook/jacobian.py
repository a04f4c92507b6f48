"""The Jacobian of any network at an image, as a linear operator: products, local responses, covariance images.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE TMI 2022, doi
10.1109/TMI.2022.3214475. Near an image x, f(x + v) = f(x) + J v: small signals pass through J, and noise of covariance
S comes out with covariance J S J'. J is never formed: a column costs one forward-mode pass, a row one reverse-mode one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from noisebook._checks import check_finite, check_pixel, check_positive, check_rank, check_shape, error

Map = Callable[[Tensor], Tensor]


def _frozen(model: nn.Module, like: Tensor) -> nn.Module:
    """A copy of ``model`` in dtype and device of ``like``, without in-place activations, that trains nothing."""
    for name, module in model.named_modules():
        batch_statistics = isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        )
        random = module.training and isinstance(module, nn.modules.dropout._DropoutNd)
        if batch_statistics or random:
            kind = f"{type(module).__name__} {name or 'itself'}"
            raise error(
                "model", "no batch statistics or dropout", f"{kind} in training mode", "Call model.eval() first."
            )
    frozen = copy.deepcopy(model).to(like).requires_grad_(False)
    for module in frozen.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return frozen


class Jacobian:
    """The Jacobian J of ``model`` at ``image``: ``J @ v`` and ``J.T @ u``.

    Args:
        model: Any module from (1, C, Y, X), or (1, C, Z, Y, X), to a tensor with a leading axis of 1. It is copied, so
            in-place activations and parameters that require gradients are welcome, and it is not changed.
        image: The point, in the model's units. Its dtype and device are those of the computation.

    Attributes:
        image: The point.
        output: The model's output at ``image``.
        evaluations: Network evaluations so far, in forward passes: a forward-mode product counts 2 (value and
            tangent), a reverse-mode product 2, its shared forward pass 1.

    Raises:
        ValueError: If the image is not one image or not finite, or the model uses batch statistics or dropout.

    Source: Xu & Noo 2022. At a kink of ReLU or max-pooling all products use torch's one-sided convention.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        if image.ndim not in (4, 5) or image.shape[0] != 1:
            raise error("image", "one image (1, C, Y, X) or (1, C, Z, Y, X)", f"shape {tuple(image.shape)}")
        check_finite("image", image)
        self._model = _frozen(model, image)
        self.image = image.detach()
        output, self._pull = torch.func.vjp(self._model, self.image)[:2]
        self.output: Tensor = output.detach()
        self.evaluations = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(numbers in the output, numbers in the input)."""
        return self.output.numel(), self.image.numel()

    @property
    def T(self) -> Transpose:  # noqa: N802
        """The transpose, for ``J.T @ u``."""
        return Transpose(self)

    def __matmul__(self, v: Tensor) -> Tensor:
        """``J v`` in forward mode.

        Args:
            v: (K, C, Y, X), K vectors of the input's shape.

        Returns:
            K vectors of the output's shape.

        Raises:
            ValueError: If the shape of ``v`` is not that of the input.
        """
        check_shape("v", v, (None, *self.image.shape[1:]))
        with warnings.catch_warnings():  # torch's own, once, when forward mode is first used
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
            columns = [torch.func.jvp(self._model, (self.image,), (one[None].to(self.image),))[1] for one in v]
        self.evaluations += 2 * len(columns)
        return torch.cat(columns).detach()

    def _transposed(self, u: Tensor) -> Tensor:
        check_shape("u", u, (None, *self.output.shape[1:]))
        rows = [cast(Tensor, self._pull(one[None].to(self.output))[0]) for one in u]
        self.evaluations += 2 * len(rows)
        return torch.cat(rows).detach()

    def double_backward(self, v: Tensor) -> Tensor:
        """``J v`` by two reverse passes, as the paper computes it: g(w) = J'w is linear, and d<g, v>/dw = J v.

        Args:
            v: (1, C, Y, X).

        Source: Xu & Noo 2022, and their code; slower than ``J @ v`` and kept as its independent check.
        """
        check_shape("v", v, tuple(self.image.shape))
        point = self.image.clone().requires_grad_(True)
        with torch.enable_grad():
            output = self._model(point)
            dummy = torch.zeros_like(output, requires_grad=True)
            (gradient,) = torch.autograd.grad(output, point, dummy, create_graph=True)
            (product,) = torch.autograd.grad(gradient, dummy, v.to(point))
        self.evaluations += 5
        return product.detach()

    def finite_difference(self, v: Tensor, step: float) -> Tensor:
        """``J v`` as (f(image + step v) - f(image - step v)) / (2 step), (1, C, Y, X); exact to rounding between kinks.

        Args:
            v: (1, C, Y, X).
            step: So small that no ReLU or maximum switches, so large that rounding does not show: 1e-6 in float64.
        """
        check_shape("v", v, tuple(self.image.shape))
        check_positive("step", step)
        self.evaluations += 2
        with torch.no_grad():
            ahead, behind = (self._model(self.image + sign * step * v) for sign in (1, -1))
        return cast(Tensor, ahead - behind) / (2 * step)

    def impulse(self, pixel: tuple[int, int], shape: torch.Size | None = None) -> Tensor:
        """A unit impulse at ``pixel`` = (row, column) of a one-channel image of ``shape`` (the output's by default)."""
        like = self.output.new_zeros(self.output.shape if shape is None else shape)
        check_rank("image for a pixel", like, 4, "(1, 1, Y, X)")
        check_shape("image for a pixel", like, (1, 1, None, None))
        check_pixel(pixel, like.shape[2], like.shape[3])
        like[0, 0, pixel[0], pixel[1]] = 1
        return like

    def local_response(self, pixel: tuple[int, int]) -> Tensor:
        """The linear local impulse response J delta, (1, 1, Y, X): what a faint point at ``pixel`` becomes.

        Raises:
            ValueError: If the pixel lies outside the image or images have more than one channel.

        Source: Xu & Noo 2022, the linear LIR.
        """
        return self @ self.impulse(pixel, self.image.shape)

    def covariance_image(self, pixel: tuple[int, int], input_covariance: Map) -> Tensor:
        """Covariance of every output pixel with ``pixel``: J S J' delta, (1, 1, Y, X). Its value there is the variance.

        Args:
            pixel: (row, column) in the output.
            input_covariance: The map v -> S v on (1, 1, Y, X): `white`, `diagonal`, or one's own.

        Raises:
            ValueError: If the pixel lies outside the image or images have more than one channel.

        Source: Xu & Noo 2022: a = J' delta, b = S a, covariance = J b.
        """
        return self @ input_covariance(self.T @ self.impulse(pixel))


class Transpose:
    """``J.T`` of a `Jacobian`; only good for ``J.T @ u``, computed in reverse mode."""

    def __init__(self, jacobian: Jacobian) -> None:
        self._jacobian = jacobian

    def __matmul__(self, u: Tensor) -> Tensor:
        """``J' u`` for K vectors ``u`` of the output's shape; K vectors of the input's shape."""
        return self._jacobian._transposed(u)


def white(variance: float) -> Map:
    """The covariance of white noise: v -> variance v.

    Raises:
        ValueError: If the variance is not positive.
    """
    check_positive("variance", variance)
    return lambda v: v * variance


def diagonal(variance: Tensor) -> Map:
    """The covariance of independent noise: v -> variance v, with one variance a pixel in the shape of the image.

    Raises:
        ValueError: If a variance is negative or not finite.
    """
    check_finite("variance", variance)
    if (variance < 0).any():
        raise error("variance", "values of at least 0", float(variance.min()))
    return lambda v: v * variance
