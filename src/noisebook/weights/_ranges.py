"""What a network was trained on: taken from its training, carried by the loaded network, compared with inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from noisebook import _paths
from noisebook._registry import QUANTITIES, Range, metadata

from ._files import Module, into, load

SLACK = 2e-4
"""Of a range's larger end: what rounding in a header sets pixel sizes apart by."""


def span(unit: str, parts: Iterable[Any]) -> Range:
    """From the least to the greatest value of some arrays.

    Args:
        unit: Of the values.
        parts: Arrays of numpy or torch, any shapes, such as the inputs of a training.
    """
    ends = [(float(part.min()), float(part.max())) for part in parts]
    return Range(unit, min(low for low, _ in ends), max(high for _, high in ends))


def restored(id: str, module: Module, data: Path = _paths.DATA) -> Module:
    """Put an embedded network's weights into its module, in evaluation mode; it then carries what it was trained on.

    Args:
        id: Of the network.
        module: Of its architecture; changed in place.
        data: As for ``embedded``.

    Raises:
        ValueError: As `load` and `into` raise.
    """
    return carrying(id, into(module, load(id, data)), data)


def carrying(id: str, module: Module, data: Path = _paths.DATA) -> Module:
    """The module, in evaluation mode, with the ranges of the registry's entry; see `carried`."""
    for part in (module.eval(), *module.children()):
        vars(part)["trained_on"] = metadata(id, data).trained_on
    return module


def carried(model: nn.Module) -> dict[str, Range]:
    """The ranges that a network was trained on, also if it is a part of ``model``; empty where nothing is known."""
    return next((vars(part)["trained_on"] for part in model.modules() if "trained_on" in vars(part)), {})


def warn_outside(model: nn.Module, *, stacklevel: int = 3, **inputs: Any) -> bool:
    """Whether an input lies outside of what its network was trained on; if so, a warning names both ranges.

    Args:
        model: A network; without known ranges nothing is compared.
        stacklevel: As for ``warnings.warn``: 3 names the caller of the function that calls this one.
        inputs: Arrays or numbers of the input by names in ``QUANTITIES``; None for what is not known.
    """
    trained, outside = carried(model), False
    for name, values in inputs.items():
        if name not in trained or values is None:
            continue
        known = trained[name]
        seen = span(known.unit, [values if hasattr(values, "min") else Tensor([values])])
        slack = SLACK * max(abs(known.low), abs(known.high))
        if seen.low < known.low - slack or seen.high > known.high + slack:
            outside = True
            text = f"input: {QUANTITIES[name]} {seen}; the network was trained on {known}"
            warnings.warn(f"{text}, so that its output is a guess.", stacklevel=stacklevel)
    return outside
