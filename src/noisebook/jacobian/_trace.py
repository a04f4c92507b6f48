"""The linearization of a function at an image as a kept, simplified graph of torch operations."""

from __future__ import annotations

import operator
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.const_fold import split_const_subgraphs
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from ._covariance import Map
from ._derivative import forward_mode

aten = torch.ops.aten


def trace(function: Map, image: Tensor, functional: bool) -> Map | None:
    """The map v -> J v at ``image``, traced once; None where torch cannot trace the function.

    What torch records is kept but for copies to the same type, additions of zero (forward mode's tangents of constant
    weights) and channel-wise scales behind a convolution (batch normalisation), which move into its weights.

    Args:
        function: The function.
        image: The point.
        functional: Rewrite what is written in place, which the replay would otherwise repeat on results that are kept;
            it doubles the time.
    """
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, on its tracing
        zero = torch.zeros_like(image)
        try:
            # the image is an argument, so that what is made of it alone can be rewritten too
            recorded = make_fx(lambda x, v: forward_mode(function, x, v))(image, zero)
            if functional:
                recorded = make_fx(torch.func.functionalize(recorded))(image, zero)
            tangent = split_const_subgraphs(_at(recorded, image))
            tangent(zero)  # the constants are computed at the first call
            _simplify(tangent, image.dtype)
            tangent(zero)
        except Exception:  # whatever torch raises on its way
            return None
    return cast(Map, tangent)


def _at(module: GraphModule, image: Tensor) -> GraphModule:
    """The graph of two arguments with ``image`` for its first."""
    first = next(iter(module.graph.nodes))
    module.register_buffer("image", image)
    with module.graph.inserting_before(first):
        _replace(first, module.graph.get_attr("image"))
    module.recompile()
    return module


def _simplify(module: GraphModule, dtype: torch.dtype) -> None:
    graph, constants = module.graph, getattr(module, "_FX_CONST_FOLDED_ATTRS", None)
    copies = [node for node in graph.nodes if node.target == aten._to_copy.default]
    if not isinstance(constants, nn.ParameterList) or any(node.kwargs.get("dtype") != dtype for node in copies):
        return
    varying: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or varying.intersection(node.all_input_nodes):
            varying.add(node)

    def value(node: Node) -> Any:
        """Of a node that does not depend on the vector; LookupError if it is made of more than the kept constants."""
        if node.target is operator.getitem and cast(Node, node.args[0]).op == "get_attr":
            return constants[cast(int, node.args[1])].clone()
        if node.op != "call_function" or node.target is operator.getitem:
            raise LookupError(node.name)
        return cast(Any, node.target)(*map_arg(node.args, value), **map_arg(node.kwargs, value))

    for node in reversed(copies):
        if node in varying:
            _replace(node, node.args[0])
    for node in list(graph.nodes):
        if node not in varying or node.target not in (aten.add.Tensor, aten.mul.Tensor):
            continue
        before, other = node.args[:2]
        if before not in varying or not isinstance(other, Node) or other in varying:
            continue
        try:
            constant = value(other)
        except LookupError:
            continue
        if node.target == aten.add.Tensor:
            if not constant.any():
                _replace(node, before)
        elif before.target == aten.convolution.default and len(before.users) == 1:
            _, weights, bias, *_, transposed, _, _ = before.args
            scale, kernel = constant, value(weights)
            per_channel = (1, len(kernel), *[1] * (kernel.ndim - 2))
            if bias is None and not transposed and scale.shape == per_channel and len(weights.users) == 1:
                constants[weights.args[1]] = nn.Parameter(kernel * scale.transpose(0, 1), requires_grad=False)
                _replace(node, before)
    graph.eliminate_dead_code()
    module.recompile()


def _replace(node: Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)
