"""Products with the Jacobian of a network at an image, and what one pixel's products say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from noisebook._checks import check_finite, check_pixel, check_positive, check_shape, check_tensor, error, model_takes

from ._covariance import Map
from ._derivative import (
    check_derivative,
    check_model,
    check_output,
    differentiable,
    double_backward,
    drawing_nothing,
    frozen,
    product,
    relative,
    reverse_mode,
)
from ._trace import trace

FORWARD, REVERSE, REPLAY, FORWARD_MODE, DOUBLE_BACKWARD = 1, 1, 1, 3, 6
"""Nominal costs in network evaluations: a forward pass; a reverse product from the kept graph (measured 0.7 to 0.8);
a product replayed from the kept linearization (0.65 to 0.9); a forward-mode product (1.6 to 2.6); one by double
backward (3.4 to 6). Rounded up."""
MANY = 16
"""So many products at one image repay the linearization's tracing, which costs 12 to 20 network evaluations, and its
check, which costs 6 to 12."""
Window = tuple[slice, slice]


class Jacobian:
    """The Jacobian J of ``model`` at ``image``: ``J @ v`` and ``J.T @ u``.

    Args:
        model: Any module or function from (1, C, Y, X), or (1, C, Z, Y, X), to a tensor with a leading axis of 1, which
            may write in place. A module is copied and not changed; a function must take the image's dtype and device.
        image: The point, in the model's units. Its dtype and device are those of the computation.
        halo: Pixels around the stride-aligned block of an output pixel beyond which nothing influences it; what is
            asked about one pixel is then computed on a crop, exactly. A multiple of ``stride``. None: never crop.
            Global pooling, instance normalisation and attention forbid it.
        stride: The pooling grid, on which crops lie.

    Attributes:
        image: The point.
        evaluations: Network evaluations so far, in forward passes of the whole image; crops count by their area. The
            costs of products are nominal: a reverse or replayed product 1, a forward-mode product 3, and 6 where torch
            has no forward mode. Checks are not counted.

    Raises:
        ValueError: If the image is not one image of floating numbers, not finite or not what the model takes, or
            ``halo`` is not a multiple of ``stride``; if the model does not return one tensor, or its products are no
            derivative's: it uses batch statistics or random numbers, is a TorchScript, or switches gradients off in a
            part. The adjoint test and finite differences find that, on a crop of the image in double precision.

    Source: Xu & Noo 2022. At a kink of ReLU or max-pooling all products use torch's one-sided convention.
    """

    def __init__(self, model: nn.Module | Map, image: Tensor, *, halo: int | None = None, stride: int = 1) -> None:
        check_tensor("image", image)
        if image.ndim not in (4, 5) or image.shape[0] != 1:
            raise error("image", "one image (1, C, Y, X) or (1, C, Z, Y, X)", f"shape {tuple(image.shape)}")
        check_finite("image", image)
        check_positive("stride", stride)
        if halo is not None and (halo < 0 or halo % stride or image.ndim != 4):
            raise error("halo", f"a multiple of the stride {stride}, and an image (1, C, Y, X)", halo)
        check_model(model)
        with torch.inference_mode(False):
            image = image.detach().clone()
            check_derivative(model, image)
            self._start(frozen(model, image), image, halo, stride)

    def _start(self, function: Map, image: Tensor, halo: int | None, stride: int) -> None:
        self._model, self.image, self._halo, self._stride = function, image, halo, stride
        self.evaluations = 0.0
        if halo is None:
            self._linear  # noqa: B018  # so that a model that does not fit is refused here

    @cached_property
    def _linear(self) -> tuple[Tensor, Map]:
        """The output, and the map u -> J'u."""
        with model_takes(self.image), drawing_nothing():  # that it can be differentiated is known from the check
            output, pull = reverse_mode(self._model, self.image)
        check_output(output)
        self.evaluations += FORWARD
        return output.detach(), pull

    @cached_property
    def _replay(self) -> Map | None:
        """The map v -> J v from a kept linearization; None where torch cannot trace the model, or traces it wrongly."""
        apart = 0.0
        for functional in (False, True):  # most networks do not need the slower way
            tangent = trace(self._model, self.image, functional)
            apart = self._apart(tangent) if tangent else apart
            if tangent and apart < math.sqrt(torch.finfo(self.image.dtype).eps):
                self.evaluations += FORWARD
                return tangent
        if apart:
            warnings.warn(f"The kept linearization is {apart:.1%} off forward mode, which is used.", stacklevel=4)
        return None

    def _apart(self, tangent: Map) -> float:
        """How far three replays are from forward mode: what they write in place can spoil the second and the third."""
        generator, apart = torch.Generator().manual_seed(0), 0.0
        for _ in range(3):
            v = torch.randn(self.image.shape, generator=generator, dtype=self.image.dtype).to(self.image.device)
            with torch.no_grad():
                off = relative(tangent(v), product(self._model, self.image, v)[0])
            apart = max(apart, off if off < math.inf else math.inf)
        return apart

    def linearize(self) -> None:
        """Trace the linearization now and keep it: worth it before some `MANY` products, however they are batched.

        It is used only if three replays equal forward mode; else a warning says by how much they differ, and forward
        mode goes on.
        """
        self._replay  # noqa: B018

    @property
    def output(self) -> Tensor:
        """The model's output at ``image``."""
        return self._linear[0]

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
            ValueError: If ``v`` is no tensor of finite floating numbers in the shape of the input.
        """
        check_tensor("v", v)
        check_shape("v", v, (None, *self.image.shape[1:]))
        check_finite("v", v)
        vectors = [one[None] for one in v.to(self.image)]
        tangent = self._replay if len(vectors) >= MANY or "_replay" in vars(self) else None
        if tangent is not None:
            self.evaluations += REPLAY * len(vectors)
            with torch.no_grad():
                return torch.cat([tangent(one) for one in vectors])
        columns, forward = zip(*(product(self._model, self.image, one) for one in vectors), strict=True)
        self.evaluations += sum(FORWARD_MODE if done else DOUBLE_BACKWARD for done in forward)
        return torch.cat(columns)

    def _transposed(self, u: Tensor) -> Tensor:
        check_tensor("u", u)
        check_shape("u", u, (None, *self.output.shape[1:]))
        check_finite("u", u)
        self.evaluations += REVERSE * len(u)
        with differentiable():
            return torch.cat([self._linear[1](one[None]) for one in u.to(self.output)])

    def double_backward(self, v: Tensor) -> Tensor:
        """``J v`` by two reverse passes, as the paper computes it: g(w) = J'w is linear, and d<g, v>/dw = J v.

        Args:
            v: (1, C, Y, X).

        Source: Xu & Noo 2022, and their code; slower than ``J @ v`` and kept as its independent check.
        """
        check_shape("v", v, tuple(self.image.shape))
        self.evaluations += DOUBLE_BACKWARD
        with differentiable():
            return double_backward(self._model, self.image, v.to(self.image))

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
        return (ahead - behind) / (2 * step)

    def impulse(self, pixel: tuple[int, int], shape: torch.Size | None = None) -> Tensor:
        """A unit impulse at ``pixel`` = (row, column) of a one-channel image of ``shape`` (the output's by default).

        Raises:
            ValueError: If the pixel lies outside the image, is not a pair of whole numbers, or the image has not the
                shape (1, 1, Y, X).
        """
        like = self.image.new_zeros(self.output.shape if shape is None else shape)
        check_shape("image for a pixel", like, (1, 1, None, None))
        check_pixel(pixel, like.shape[2], like.shape[3])
        like[0, 0, pixel[0], pixel[1]] = 1
        return like

    def _window(self, part: Window) -> Window:
        """The part of the input that a part of the output depends on, on the pooling grid."""
        sides, s, halo = self.image.shape[2:], self._stride, cast(int, self._halo)
        rows, columns = (
            slice(max(0, p.start // s * s - halo), min(side, -(-p.stop // s) * s + halo))
            for p, side in zip(part, sides, strict=True)
        )
        return rows, columns

    @contextmanager
    def _on(self, window: Window) -> Iterator[Jacobian]:
        """The Jacobian on a window of the image; its evaluations are added to ours by its share of the area."""
        part = Jacobian.__new__(Jacobian)
        part._start(self._model, self.image[(..., *window)], None, 1)
        check_shape("output of the model on a crop", part.output, (1, 1, *part.image.shape[2:]))
        yield part
        self.evaluations += part.evaluations * part.image.numel() / self.image.numel()

    def _around(self, pixel: tuple[int, int]) -> Window:
        check_shape("image for a pixel", self.image, (1, 1, None, None))
        check_pixel(pixel, *self.image.shape[2:])
        return slice(pixel[0], pixel[0] + 1), slice(pixel[1], pixel[1] + 1)

    def local_response(self, pixel: tuple[int, int]) -> Tensor:
        """The linear local impulse response J delta, (1, 1, Y, X): what a faint point at ``pixel`` becomes.

        Raises:
            ValueError: If the pixel lies outside the image or the image has more than one channel.

        Source: Xu & Noo 2022, the linear LIR.
        """
        if self._halo is None:
            return self @ self.impulse(pixel, self.image.shape)
        # the halo's relation is mutual: an input pixel reaches the outputs of its own window, and they need theirs
        reached = self._window(self._around(pixel))
        with self._on(self._window(reached)) as part:
            response = part @ self._cut(self.impulse(pixel, self.image.shape), self._window(reached))
        return self._placed(response, self._window(reached))

    def row(self, pixel: tuple[int, int]) -> Tensor:
        """J' delta, (1, 1, Y, X): the weights with which the network averages its input at an output pixel.

        Raises:
            ValueError: If the pixel lies outside the output or the output has more than one channel.
        """
        if self._halo is None:
            return self.T @ self.impulse(pixel)
        window = self._window(self._around(pixel))
        with self._on(window) as part:
            row = part.T @ part.impulse((pixel[0] - window[0].start, pixel[1] - window[1].start))
        return self._placed(row, window)

    def variance(self, pixel: tuple[int, int], input_covariance: Map) -> float:
        """Variance of the output at ``pixel``, a' S a with a = J' delta, in the output's unit squared.

        Args:
            pixel: (row, column).
            input_covariance: As for `covariance_image`.

        Raises:
            ValueError: If the pixel lies outside the output or the output has more than one channel.
        """
        row = self.row(pixel)
        return float((row * input_covariance(row)).sum())

    def covariance_image(
        self, pixel: tuple[int, int], input_covariance: Map, roi: tuple[slice, slice] | None = None
    ) -> Tensor:
        """Covariance of output pixels with ``pixel``: J S J' delta. Its value there is the variance.

        Args:
            pixel: (row, column) in the output.
            input_covariance: The map v -> S v on (K, 1, Y, X): `white`, `diagonal`, `coloured`, or one's own.
            roi: Rows and columns that are wanted; None: all. With a halo only their crop is computed.

        Returns:
            (1, 1, rows, columns).

        Raises:
            ValueError: If the pixel or the ROI lies outside the output or the output has more than one channel.

        Source: Xu & Noo 2022: a = J' delta, b = S a, covariance = J b.
        """
        sides = (self.output if self._halo is None else self.image).shape[2:]
        part = (slice(0, sides[0]), slice(0, sides[1])) if roi is None else roi
        if not all(0 <= p.start < p.stop <= side for p, side in zip(part, sides, strict=True)):
            raise error("roi", f"slices within {tuple(sides)}", roi)
        if self._halo is None:
            return (self @ input_covariance(self.row(pixel)))[(..., *part)]
        own, window = self._window(self._around(pixel)), self._window(part)
        if not all(w.start <= o.start and o.stop <= w.stop for o, w in zip(own, window, strict=True)):
            carried = input_covariance(self.row(pixel))
            with self._on(window) as crop:
                return self._from(crop @ self._cut(carried, window), window, part)
        with self._on(window) as crop:  # one crop for both products
            local = (pixel[0] - window[0].start, pixel[1] - window[1].start)
            carried = input_covariance(self._placed(crop.T @ crop.impulse(local), window))
            return self._from(crop @ self._cut(carried, window), window, part)

    def _cut(self, image: Tensor, window: Window) -> Tensor:
        return image[(..., *window)]

    def _placed(self, crop: Tensor, window: Window) -> Tensor:
        """A crop in an image of zeros."""
        whole = torch.zeros_like(self.image)
        whole[(..., *window)] = crop
        return whole

    @staticmethod
    def _from(crop: Tensor, window: Window, part: Window) -> Tensor:
        """The part that is wanted of a crop that lies at ``window``."""
        rows, columns = (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, window, strict=True))
        return crop[..., rows, columns]


class Transpose:
    """``J.T`` of a `Jacobian`; only good for ``J.T @ u``, computed in reverse mode."""

    def __init__(self, jacobian: Jacobian) -> None:
        self._jacobian = jacobian

    def __matmul__(self, u: Tensor) -> Tensor:
        """``J' u`` for K vectors ``u`` of the output's shape; K vectors of the input's shape."""
        return self._jacobian._transposed(u)
