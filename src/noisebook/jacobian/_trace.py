"""The linearization of a network at an image as a kept, simplified graph of torch operations."""

from __future__ import annotations

import operator
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ._covariance import Map

aten = torch.ops.aten


def trace(model: nn.Module, image: Tensor) -> Map | None:
    """The map v -> J v at ``image``, traced once; None where torch cannot trace the model.

    What torch records is kept but for copies to the same type, additions of zero (forward mode's tangents of constant
    weights) and channel-wise scales behind a convolution (batch normalisation), which move into its weights.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on its tracing
        try:
            tangent = cast(Map, torch.func.linearize(model, image)[1])
            tangent(torch.zeros_like(image))  # the constants are computed at the first call
        except (RuntimeError, NotImplementedError, TypeError):
            return None
    for cell in tangent.__closure__ or ():
        if isinstance(cell.cell_contents, GraphModule):
            with torch.no_grad():
                _simplify(cell.cell_contents, image.dtype)
    return tangent


def _simplify(module: GraphModule, dtype: torch.dtype) -> None:
    graph, constants = module.graph, getattr(module, "_FX_CONST_FOLDED_ATTRS", None)
    copies = [node for node in graph.nodes if node.target == aten._to_copy.default]
    if not isinstance(constants, nn.ParameterList) or any(node.kwargs.get("dtype") != dtype for node in copies):
        return
    varying: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or varying.intersection(node.all_input_nodes):
            varying.add(node)

    def value(node: Any) -> Any:
        """Of a node that does not depend on the vector; LookupError if it is made of more than the kept constants."""
        if not isinstance(node, Node):
            return node
        if node.target is operator.getitem and cast(Node, node.args[0]).op == "get_attr":
            return constants[cast(int, node.args[1])].clone()
        if node.op != "call_function" or node.target is operator.getitem:
            raise LookupError(node.name)
        return cast(Any, node.target)(*map(value, node.args), **node.kwargs)

    for node in reversed(copies):
        if node in varying and not _written(node):
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


def _written(node: Node) -> bool:
    """Whether an operation changes this result, or a view of it, in place."""
    schemas = [(user, user.target._schema) for user in node.users if hasattr(user.target, "_schema")]
    views = [user for user, schema in schemas if any(value.alias_info for value in schema.returns)]
    return any(schema.is_mutable for _, schema in schemas) or any(map(_written, views))


def _replace(node: Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)
