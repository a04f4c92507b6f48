"""A network drawn from its module."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from noisebook._checks import error

from ._images import BLUE, GREEN, GREY, WIDTH_IN, style


def architecture(model: nn.Module, image: Tensor, *, title: str = "") -> Figure:
    """Draw a network from the module itself: it is run once, and every feature map becomes a block.

    A block's height is the side of its feature map on a logarithmic scale, its area's number the channels; blocks stand
    in the order of execution, lower for coarser maps; arrows lead from one visit of a resolution to the next, which is
    where a U-Net has its skips (they are not traced).

    Args:
        model: The network; convolutions and transposed convolutions are drawn.
        image: (1, C, Y, X), an input.
        title: Above the picture.
    """
    steps = _feature_maps(model, image)
    sides = sorted({side for _, _, side in steps}, reverse=True)
    with style():
        figure = Figure(figsize=(WIDTH_IN, 3.3), layout="constrained")
        axis = figure.subplots()
        places: dict[int, list[int]] = {}
        arrows = False
        for index, (kind, channels, side) in enumerate(steps):
            level = sides.index(side)
            tall = 0.75 * 0.82**level
            colour = GREEN if kind == "transposed" else BLUE
            axis.add_patch(Rectangle((index - 0.36, -level - tall / 2), 0.72, tall, color=colour, alpha=0.85, lw=0))
            axis.text(index, -level, f"{channels}", ha="center", va="center", fontsize=6.5, color="white")
            places.setdefault(level, []).append(index)
        for level, side in enumerate(sides):
            axis.text(-1.2, -level, f"{side}²", ha="right", va="center", fontsize=8, color=GREY)
            inside = places[level]
            gap = max(range(1, len(inside)), key=lambda k: inside[k] - inside[k - 1], default=0)
            if gap and inside[gap] - inside[gap - 1] > 1:
                ends = ((inside[gap - 1] + 0.4, -level), (inside[gap] - 0.4, -level))
                arrows = True
                axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=8, color=GREY, lw=0.7))
        axis.set(xlim=(-3, len(steps)), ylim=(-len(sides) + 0.3, 0.6), title=title)
        axis.set_axis_off()
        kinds = {kind for kind, _, _ in steps}
        for kind, colour, name in (("plain", BLUE, "convolution"), ("transposed", GREEN, "transposed convolution")):
            if kind in kinds:
                axis.plot([], [], "s", color=colour, label=name)
        if arrows:
            axis.plot([], [], "-", color=GREY, lw=0.7, label="to the same resolution")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3)
    return figure


def _feature_maps(model: nn.Module, image: Tensor) -> list[tuple[str, int, int]]:
    """(``plain`` or ``transposed``, channels, side) of every convolution's output, in the order of execution."""
    steps: list[tuple[str, int, int]] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        kind = "transposed" if isinstance(module, nn.ConvTranspose2d) else "plain"  # of a subclass too
        steps.append((kind, output.shape[1], output.shape[-1]))

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not steps:
        raise error("model", "a network with two-dimensional convolutions", type(model).__name__)
    return steps
