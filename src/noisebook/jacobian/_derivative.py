"""A model as a function that torch differentiates in every mode, and the check that its products are a derivative's."""

from __future__ import annotations

import copy
import math
import pickle
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from noisebook._checks import check_finite, error, model_takes

from ._covariance import Map

CROP = {4: 64, 5: 16}
"""Side of the crop on which a model is checked, in pixels, by the image's axes."""
STEPS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Of the finite differences, over the image's largest value."""
RANDOM, ADJOINT, APART = 1e-5, 1e-4, 1e-3
"""Relative differences that are still rounding: of two evaluations, of the adjoint test, and from a finite difference
(which a few ReLUs that switch within the least step change by some 1e-4)."""
_SWITCHES = threading.RLock()
"""Torch's switches are the process's: one thread at a time changes them and puts them back."""
CAUSES = "Look in forward for no_grad, inference_mode, detach, .data, or an operation with a gradient of its own."


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the larger norm; 0 if both are zero."""
    largest = max(float(found.norm()), float(expected.norm()))
    return float((found - expected).norm()) / largest if largest else 0.0


def _check_deterministic(model: nn.Module) -> None:
    """Raise if the model uses statistics of its batch or random numbers."""
    for name, module in model.named_modules():
        statistics = isinstance(module, nn.modules.batchnorm._NormBase) and (
            (module.training and module.track_running_stats)
            or (isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None)
        )
        drops = isinstance(module, nn.RReLU) or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
        if statistics or (module.training and drops):
            kind = f"{type(module).__name__} {name or 'itself'}"
            remedy = "Call model.eval() first."
            raise error("model", "no batch statistics or dropout", f"{kind} in training mode", remedy)


def check_model(model: object) -> None:
    """Raise unless ``model`` is a module or function of Python code that draws no random numbers by its type."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else [model]
    if any(isinstance(part, torch.jit.ScriptModule | torch.jit.ScriptFunction) for part in parts):
        remedy = "Give the module from which it was compiled: a script hides its derivative."
        raise error("model", "a module or function in Python", "a TorchScript", remedy)
    if not callable(model):
        raise error("model", "a torch module or a function of a tensor", type(model).__name__)
    if isinstance(model, nn.Module):
        _check_deterministic(model)


def _copied(model: nn.Module) -> nn.Module:
    """A deep copy: of computed tensors their values; what cannot be copied, such as locks, is shared."""
    memo: dict[int, Any] = {}
    for leaf in tree_leaves([vars(module) for module in model.modules()]):
        if isinstance(leaf, Tensor) and not leaf.is_leaf:
            memo[id(leaf)] = leaf.detach().clone()
        elif not isinstance(leaf, Tensor | nn.Module | MethodType):
            try:
                copy.deepcopy(leaf)
            except Exception:  # whatever an object raises that has no copy
                memo[id(leaf)] = leaf
    return copy.deepcopy(model, memo)


def frozen(model: nn.Module | Map, like: Tensor) -> Map:
    """The function of ``model``; of a module a copy in dtype and device of ``like``, that trains nothing.

    Every evaluation has its own image and buffers, so that what it writes in place is not seen by the next one.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    inner: Map = model
    if isinstance(model, nn.Module):

        def cast_to(t: Tensor) -> Tensor:
            complex_or_real = like.dtype.to_complex() if t.is_complex() else like.dtype
            return t.to(like.device, complex_or_real if t.is_complex() or t.is_floating_point() else t.dtype)

        module = _copied(model).requires_grad_(False)._apply(cast_to)
        for part in module.modules():  # else their linearization takes the slower way
            if getattr(part, "inplace", False):
                part.inplace = False

        def inner(x: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
            return cast(Tensor, torch.func.functional_call(module, buffers, (x,)))

    def function(x: Tensor) -> Tensor:
        with _plain():
            return inner(x.clone())

    return function


class _Unchecked:
    """Stands in for reentrant checkpointing, which admits neither `torch.autograd.grad` nor forward mode."""

    @staticmethod
    def apply(function: Any, _preserve: bool, *arguments: Any) -> Any:
        return function(*arguments)


@contextmanager
def _plain() -> Iterator[None]:
    """Attention by its formula and no reentrant checkpoints: torch's fused operations have no second derivative."""
    with _SWITCHES:
        fast, checkpoint = torch.backends.mha.get_fastpath_enabled(), torch.utils.checkpoint.CheckpointFunction
        torch.backends.mha.set_fastpath_enabled(False)
        torch.utils.checkpoint.CheckpointFunction = _Unchecked  # type: ignore[misc, assignment]
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            torch.utils.checkpoint.CheckpointFunction = checkpoint  # type: ignore[misc]


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """Raise if what is done inside draws random numbers of torch, numpy or Python, however seldom it uses them."""
    state = _random_state()
    yield
    if _random_state() != state:
        remedy = (
            "Switch its random numbers off: dropout, drop-path, attention dropout, randn in forward; call model.eval()."
        )
        raise error("model", "the same output for the same image", "random numbers drawn in forward", remedy)


def _random_state() -> tuple[Any, ...]:
    devices = [torch.cuda.get_rng_state(k).numpy().tobytes() for k in range(torch.cuda.device_count())]
    return torch.get_rng_state().numpy().tobytes(), *devices, pickle.dumps(np.random.get_state()), random.getstate()


@contextmanager
def differentiable() -> Iterator[None]:
    """Turn what torch raises where it cannot differentiate a model into an error that says so."""
    try:
        yield
    except RuntimeError as problem:
        text = str(problem).splitlines()[0]
        if "memory" in text:
            raise
        remedy = f"{CAUSES} Torch says: {text}"
        raise error("model", "a function that torch differentiates", "one that it does not", remedy) from problem


def forward_mode(function: Map, x: Tensor, v: Tensor) -> Tensor:
    """J v at ``x`` by forward mode; v has the shape of x."""
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # torch's own, once, when forward mode is first used
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        with forward_ad.dual_level():
            output, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, v.clone())))
    return torch.zeros_like(output) if tangent is None else tangent.detach()


def reverse_mode(function: Map, x: Tensor) -> tuple[Tensor, Map]:
    """The output at ``x``, and the map u -> J' u, which keeps the graph."""
    with torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_(True)
        output = function(point)

    def pull(u: Tensor) -> Tensor:
        if not output.requires_grad:
            return torch.zeros_like(x)
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        with torch.inference_mode(False), _plain():  # a checkpoint computes its part again
            return torch.autograd.grad(output, point, u.clone(), **options)[0]

    return output, pull


def double_backward(function: Map, x: Tensor, v: Tensor) -> Tensor:
    """J v at ``x`` by two reverse passes: g(w) = J'w is linear, and d<g, v>/dw = J v."""
    with torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_(True)
        output = function(point)
        dummy = torch.zeros_like(output, requires_grad=True)
        if not output.requires_grad:
            return dummy.detach()
        with _plain():
            (gradient,) = torch.autograd.grad(output, point, dummy, create_graph=True, materialize_grads=True)
            if not gradient.requires_grad:
                return dummy.detach()
            return torch.autograd.grad(gradient, dummy, v.clone())[0]


def product(function: Map, x: Tensor, v: Tensor) -> tuple[Tensor, bool]:
    """J v at ``x``, and whether torch has forward mode for the function; else it is by double backward."""
    with differentiable():
        try:
            return forward_mode(function, x, v), True
        except RuntimeError:
            return double_backward(function, x, v), False


def _evaluated(model: nn.Module | Map, image: Tensor) -> tuple[Map, Tensor, Tensor]:
    """The model as a function, a point near the image and the output there: in double precision, on a crop.

    A model that takes no crop gets the whole image, and one that takes only its own precision gets that.
    """
    crop = image
    for axis, length in enumerate(image.shape[2:], 2):
        side = min(CROP[image.ndim], length)
        crop = crop.narrow(axis, (length - side) // 2, side)
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float64, image.dtype):
        for part in (crop, image):
            # off the kinks at which constant areas lie, upwards, since counts have no logarithm below zero; or, where
            # that leaves the model's domain, as the image is
            shift = torch.randn(part.shape, generator=generator, dtype=dtype).abs().to(part.device)
            for off in (1e-3 * _scale(part) * shift, 0.0):
                point = part.to(dtype) + off
                try:
                    function = frozen(model, point)
                    with torch.no_grad():
                        output = function(point)
                except Exception:  # whatever a model raises for a size or a precision that it does not take
                    break
                if not isinstance(output, Tensor) or output.isfinite().all():
                    return function, point, output
    with model_takes(image), torch.no_grad():
        function = frozen(model, image)
        return function, image, function(image)


def _scale(image: Tensor) -> float:
    return float(image.abs().max()) or 1.0


def check_output(output: object) -> None:
    """Raise unless a model's output is one tensor of floating numbers with a leading axis of 1."""
    if not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != 1 or not output.is_floating_point():
        got = f"shape {tuple(output.shape)}, {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        expected = "one tensor with a leading axis of 1, of floating numbers"
        raise error("output of the model", expected, got, "Wrap the model.")


def check_derivative(model: nn.Module | Map, image: Tensor) -> None:
    """Raise unless J v and J'u of the model are products of its derivative: it draws no random numbers, hides nothing.

    ``J v`` must agree with ``J'u`` in the adjoint test and with a central difference, near the image: kinks on which an
    image of constant areas lies have no derivative.
    """
    with torch.inference_mode(False):
        function, x, output = _evaluated(model, image)
        check_output(output)
        check_finite("output of the model", output)
        with drawing_nothing(), torch.no_grad():
            apart = relative(function(x), output)
        if apart > RANDOM:
            remedy = "Switch its random numbers off: dropout, attention dropout, batch statistics, randn in forward."
            raise error("model", "the same output for the same image", f"{apart:.1%} difference", remedy)
        generator = torch.Generator().manual_seed(1)
        v, u = (torch.randn(y.shape, generator=generator, dtype=x.dtype).to(x.device) for y in (x, output))
        column, _ = product(function, x, v)
        with differentiable():
            row = reverse_mode(function, x)[1](u)
        size = max(float(column.norm()), float(row.norm()), 1e-300)
        apart = float(((column * u).sum() - (row * v).sum()).abs()) / size
        if apart > ADJOINT:
            raise error("model", "J v and J'u of one derivative", f"an adjoint test that is {apart:.1%} off", CAUSES)
        apart = _from_differences(function, x, v, column)
        if apart > APART:
            raise error("model", "products of its derivative", f"J v {apart:.1%} off finite differences", CAUSES)


def _from_differences(function: Map, x: Tensor, v: Tensor, column: Tensor) -> float:
    """How far J v is from finite differences, relatively; 0 where they agree no better with one another.

    Rounding and kinks set finite differences apart from J v and from one another, whatever the step; what is not a
    derivative is off by the same at two steps.
    """

    def difference(step: float) -> Tensor:
        with torch.no_grad():
            return (function(x + step * v) - function(x - step * v)) / (2 * step)

    steps = [step * _scale(x) for step in STEPS]
    first = difference(steps[0])
    if not relative(first, column) > APART:
        return 0.0
    with torch.no_grad():
        rounding = 10 * torch.finfo(x.dtype).eps * float(function(x).norm())
    found = zip(steps, [first, *map(difference, steps[1:])], strict=True)
    usable = [one for step, one in found if rounding / step < max(float(one.norm()), float(column.norm()))]
    if len(usable) < 2:  # the others are rounded to nothing
        return 0.0
    between = torch.tensor([relative(*both) for both in pairwise(usable)]).nan_to_num(math.inf)
    best = int(between.argmin())
    apart = relative(usable[best], column)
    return apart if apart > 10 * float(between[best]) else 0.0
