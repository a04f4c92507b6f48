"""Figures in one style, and how they are kept: the only door to matplotlib.

One width, one font, colour-blind-safe maps (grey, cividis; RdBu for signed values, white at zero), windows and units
stated at every colour bar, a scale bar in mm. The files hold no clock and no random id: equal runs write equal bytes.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from noisebook._checks import check_finite, check_positive, check_rank, error

WIDTH_IN = 7.4
BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#767676", "#8E4A8E"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "savefig.dpi": 180,
    "svg.hashsalt": "noisebook",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes:
        image: (Y, X).
        title: Stands above it.
        window: (lowest, highest) value shown; None for plus and minus the 99.9th percentile of the magnitude.
        unit: Of the values, at the colour bar.
        signed: Show in red and blue about zero in place of grey.
        mark: A pixel (row, column) to circle, or None.
        spacing_mm: Pixel size; gives the scale bar.
    """

    image: np.ndarray
    title: str
    window: tuple[float, float] | None = None
    unit: str = "HU"
    signed: bool = False
    mark: tuple[float, float] | None = None
    spacing_mm: float = 0.0


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def hu_window(centre: float, width: float) -> tuple[float, float]:
    """(lowest, highest) HU of a display window.

    Raises:
        ValueError: If ``width`` is not positive.
    """
    check_positive("width", width)
    return centre - width / 2, centre + width / 2


def zoom(panel: Panel, half: int) -> Panel:
    """The centre of a panel, ``half`` pixels to each side, with the same colours.

    Raises:
        ValueError: If the image is smaller than that.
    """
    check_rank(panel.title, panel.image, 2, "(Y, X)")
    centre = [side // 2 for side in panel.image.shape]
    if min(centre) < half:
        raise error(f"zoom of {panel.title}", f"a half side of at most {min(centre)} pixels", half)
    image = panel.image[tuple(slice(c - half, c + half + 1) for c in centre)]
    mark = (panel.mark[0] - centre[0] + half, panel.mark[1] - centre[1] + half) if panel.mark else None
    return replace(panel, image=image, title=f"centre, {image.shape[1]} pixels", window=_limits(panel), mark=mark)


def images(panels: Sequence[Panel], *, columns: int, title: str = "") -> Figure:
    """A grid of images, each with a colour bar that names window and unit, and a scale bar in mm.

    Args:
        panels: In reading order.
        columns: Panels a row.
        title: Above all.

    Raises:
        ValueError: If there is no panel or column, or an image is not (Y, X) or not finite.
    """
    if not panels:
        raise error("panels", "at least one", "none")
    check_positive("columns", columns)
    rows = -(-len(panels) // columns)
    with _style():
        side = WIDTH_IN / columns
        figure = Figure(figsize=(WIDTH_IN, rows * (side + 0.62) + (0.3 if title else 0)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(figure, axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        if title:
            figure.suptitle(title, x=0.01, ha="left")
    return figure


def _draw(figure: Figure, axis: Axes, panel: Panel) -> None:
    check_rank(panel.title, panel.image, 2, "(Y, X)")
    check_finite(panel.title, panel.image)
    low, high = _limits(panel)
    shown = axis.imshow(panel.image, cmap="RdBu_r" if panel.signed else "gray", vmin=low, vmax=high)
    axis.set_title(panel.title)
    axis.set_axis_off()
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool(panel.image.min() < low), bool(panel.image.max() > high)]
    bar = figure.colorbar(
        shown, ax=axis, orientation="horizontal", fraction=0.05, pad=0.02, aspect=24, extend=extend, extendfrac=0.03
    )
    bar.set_label(panel.unit, labelpad=1)
    bar.ax.tick_params(length=2, pad=1.5)
    bar.outline.set_linewidth(0.4)
    bar.locator = matplotlib.ticker.MaxNLocator(4)
    if panel.spacing_mm:
        _scale_bar(axis, panel)
    if panel.mark:
        axis.plot(panel.mark[1], panel.mark[0], "o", ms=7, mfc="none", mec=ORANGE, mew=1.2)


def _limits(panel: Panel) -> tuple[float, float]:
    """The values at the ends of the colours."""
    reach = float(np.percentile(np.abs(panel.image), 99.9)) or 1.0
    return panel.window or (-reach, reach)


def _scale_bar(axis: Axes, panel: Panel) -> None:
    height, width = panel.image.shape
    target = width * panel.spacing_mm / 4
    length = max(n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if n <= max(target, 0.1))
    ink = "black" if panel.signed else "white"
    left, top, pixels = width * 0.04, height * 0.95, length / panel.spacing_mm
    axis.add_patch(Rectangle((left, top), pixels, height * 0.012, color=ink, lw=0))
    axis.text(left, top - height * 0.015, f"{length:g} mm", color=ink, fontsize=7, va="bottom")


@dataclass(frozen=True)
class Line:
    """One curve of `profile`.

    Attributes:
        x: (N,).
        y: (N,).
        label: Its name in the legend.
        spread: (N,), half lengths of error bars, or None.
        marker: Mark the points.
    """

    x: np.ndarray
    y: np.ndarray
    label: str
    spread: np.ndarray | None = None
    marker: bool = False


_LOOKS = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (GREY, ":"), (PURPLE, "-"), ("black", "--"))


def profile(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    reference: float | None = None,
) -> Figure:
    """Curves over a common axis, with their names in a legend beside them.

    Args:
        lines: At most six.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        title: Above the plot.
        log_x: A logarithmic horizontal axis.
        log_y: A logarithmic vertical axis, base 2.
        reference: Height of a dashed grey line, or None.

    Raises:
        ValueError: If there is no line, or more than can be told apart.
    """
    if not 0 < len(lines) <= len(_LOOKS):
        raise error("lines", f"1 to {len(_LOOKS)}", len(lines), "Draw two figures.")
    with _style():
        figure = Figure(figsize=(WIDTH_IN, 2.9), layout="constrained")
        axis = figure.subplots()
        for line, (colour, dash) in zip(lines, _LOOKS, strict=False):
            marker = "o" if line.marker else ""
            drawn = axis.errorbar(line.x, line.y, line.spread, capsize=2, elinewidth=0.9, label=line.label)
            drawn[0].set(color=colour, lw=1.4, ls=dash, marker=marker, ms=4)
            for part in (*drawn[1], *drawn[2]):
                part.set_color(colour)
        if reference is not None:
            axis.axhline(reference, color=GREY, ls="--", lw=1)
        axis.set(xlabel=x, ylabel=y, title=title)
        if log_x:
            axis.set_xscale("log")
            axis.set_xticks(lines[0].x)
            axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            axis.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        if log_y:
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def dots(groups: dict[str, np.ndarray], *, y: str, reference: float, title: str = "", log: bool = False) -> Figure:
    """Every value of each group as a dot, the group's median as a bar, and a reference as a dashed line.

    Args:
        groups: Values by name, (N,) each.
        y: Label of the value axis.
        reference: What to compare with.
        title: Above the plot.
        log: A logarithmic axis.
    """
    with _style():
        figure = Figure(figsize=(WIDTH_IN, 2.9), layout="constrained")
        axis = figure.subplots()
        for place, values in enumerate(groups.values()):
            spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
            axis.plot(place + spread, np.asarray(values), "o", ms=4.5, color=BLUE, alpha=0.75, mew=0)
            axis.hlines(float(np.median(values)), place - 0.32, place + 0.32, color=ORANGE, lw=2)
        axis.axhline(reference, color=GREY, ls="--", lw=1)
        axis.set(ylabel=y, title=title, xlim=(-0.6, len(groups) - 0.4))
        axis.set_xticks(range(len(groups)), list(groups))
        if log:
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    return figure


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
    with _style():
        figure = Figure(figsize=(WIDTH_IN, 3.3), layout="constrained")
        axis = figure.subplots()
        places: dict[int, list[int]] = {}
        for index, (kind, channels, side) in enumerate(steps):
            level = sides.index(side)
            tall = 0.75 * 0.82**level
            colour = {"ConvTranspose2d": GREEN, "Conv2d": BLUE}.get(kind, GREY)
            axis.add_patch(Rectangle((index - 0.36, -level - tall / 2), 0.72, tall, color=colour, alpha=0.85, lw=0))
            axis.text(index, -level, f"{channels}", ha="center", va="center", fontsize=6.5, color="white")
            places.setdefault(level, []).append(index)
        for level, side in enumerate(sides):
            axis.text(-1.2, -level, f"{side}²", ha="right", va="center", fontsize=8, color=GREY)
            inside = places[level]
            gap = max(range(1, len(inside)), key=lambda k: inside[k] - inside[k - 1], default=0)
            if gap and inside[gap] - inside[gap - 1] > 1:
                ends = ((inside[gap - 1] + 0.4, -level), (inside[gap] - 0.4, -level))
                axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=8, color=GREY, lw=0.7))
        axis.set(xlim=(-3, len(steps)), ylim=(-len(sides) + 0.3, 0.6), title=title)
        axis.set_axis_off()
        for colour, name in ((BLUE, "convolution"), (GREEN, "transposed convolution")):
            axis.plot([], [], "s", color=colour, label=name)
        axis.plot([], [], "-", color=GREY, lw=0.7, label="to the same resolution")
        axis.legend(loc="lower right")
    return figure


def _feature_maps(model: nn.Module, image: Tensor) -> list[tuple[str, int, int]]:
    """(kind, channels, side) of every convolution's output, in the order of execution."""
    steps: list[tuple[str, int, int]] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        steps.append((type(module).__name__, output.shape[1], output.shape[-1]))

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


def table(columns: dict[str, Sequence[object]]) -> None:
    """Show a table in the notebook: names and texts as they are, numbers to three significant digits.

    Args:
        columns: Equally long columns under their headings, units included.

    Raises:
        ValueError: If the columns differ in length.
    """
    if len({len(column) for column in columns.values()}) != 1:
        raise error("columns", "one length", [len(column) for column in columns.values()])
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in column] for column in columns.values()]
    numeric = [all(isinstance(v, int | float) for v in column) for column in columns.values()]
    lines = [list(columns), ["--:" if right else ":--" for right in numeric], *map(list, zip(*cells, strict=True))]
    from IPython.display import Markdown, display

    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines)))


def keep(figure: Figure, out: str | Path, chapter: str, name: str, numbers: dict[str, np.ndarray]) -> None:
    """Show a figure in the notebook and keep it: ``out/chapter/figures/name.png``, ``.svg`` and its numbers.

    Args:
        figure: What to keep.
        out: The folder of the run.
        chapter: The chapter's name.
        name: The figure's name.
        numbers: What is drawn: one CSV where all are columns of one length, else one npz.

    Raises:
        ValueError: If there are no numbers: every figure of the book comes with them.
    """
    if not numbers:
        raise error(f"numbers of figure {name}", "at least one array", "none")
    folder = Path(out) / chapter / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    with _style():
        figure.savefig(picture, format="png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    (folder / f"{name}.png").write_bytes(picture.getvalue())
    table = _write_numbers(folder / name, numbers)
    from IPython.display import HTML, Image, display

    base = f"{chapter}/figures/"
    links = f'numbers: <a href="{base}{table}">{table}</a> · vector: <a href="{base}{name}.svg">{name}.svg</a>'
    display(Image(picture.getvalue()), HTML(f'<p class="figure-links">{links}</p>'))


def _write_numbers(path: Path, numbers: dict[str, np.ndarray]) -> str:
    columns = {key: np.asarray(value) for key, value in numbers.items()}
    if all(value.ndim == 1 for value in columns.values()) and len({len(v) for v in columns.values()}) == 1:
        with path.with_suffix(".csv").open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(v.tolist() for v in columns.values()), strict=True))
        return f"{path.name}.csv"
    np.savez_compressed(path.with_suffix(".npz"), **columns)  # type: ignore[arg-type]
    return f"{path.name}.npz"
