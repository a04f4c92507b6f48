"""Curves, dots, and images over their cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisebook._checks import check_finite, check_rank, error

from ._images import BLUE, GREEN, GREY, ORANGE, PURPLE, WIDTH_IN, style


@dataclass(frozen=True)
class Line:
    """One curve of `profile`.

    Attributes:
        x: (N,).
        y: (N,).
        label: Its name in the legend.
        spread: (N,), half lengths of error bars, or None.
        marker: Mark the points.
        like: Label of an earlier line whose colour it has, dotted; empty for a look of its own.
    """

    x: np.ndarray
    y: np.ndarray
    label: str
    spread: np.ndarray | None = None
    marker: bool = False
    like: str = ""


_STYLES = (
    *((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (GREY, ":"), (PURPLE, "-"), ("black", "--")),
    ("#8a6a14", (0, (5, 1, 1, 1, 1, 1))),
)


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
        lines: At most seven that are like no other.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        title: Above the plot.
        log_x: A logarithmic horizontal axis.
        log_y: A logarithmic vertical axis.
        reference: Height of a dashed grey line, or None.

    Raises:
        ValueError: If there is no line, more than can be told apart, or one like a line that is none of them.
    """
    own = [line.label for line in lines if not line.like]
    if not 0 < len(own) <= len(_STYLES):
        raise error("lines", f"1 to {len(_STYLES)}", len(own), "Draw two figures.")
    if strange := {line.like for line in lines if line.like} - set(own):
        raise error("lines", f"likeness to one of {', '.join(own)}", ", ".join(sorted(strange)))
    styles = dict(zip(own, _STYLES, strict=False))
    with style():
        figure = Figure(figsize=(WIDTH_IN, 2.9), layout="constrained")
        axis = figure.subplots()
        for line in lines:
            colour, dash = (styles[line.like][0], ":") if line.like else styles[line.label]
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
        elif np.asarray(lines[0].x).dtype.kind in "iu":
            axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        if log_y:
            _logarithmic(axis)
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
    with style():
        figure = Figure(figsize=(WIDTH_IN, 2.9), layout="constrained")
        axis = figure.subplots()
        for place, values in enumerate(groups.values()):
            spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
            axis.plot(place + spread, np.asarray(values), "o", ms=4.5, color=BLUE, alpha=0.75, mew=0)
            axis.hlines(float(np.median(values)), place - 0.32, place + 0.32, color=ORANGE, lw=2)
        axis.axhline(reference, color=GREY, ls="--", lw=1)
        axis.set(ylabel=y, title=title, xlim=(-0.6, len(groups) - 0.4))
        names = [name.replace(" ", "\n", 1) for name in groups] if len(groups) > 6 else list(groups)  # they would touch
        axis.set_xticks(range(len(groups)), names)
        if log:
            _logarithmic(axis)
    return figure


def _logarithmic(axis: Axes) -> None:
    """Make the vertical axis logarithmic, with ticks at 1, 2 and 5 of each decade; of many decades, at 1 alone."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    steps = (1, 2, 5) if high < 300 * low else (1,)
    axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps, numticks=20))
    axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))


def matrix(
    values: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], x: str, y: str, unit: str, title: str = ""
) -> Figure:
    """Signed numbers in a grid: each in its cell, on red above zero and blue below it, white at zero.

    Args:
        values: (len(rows), len(columns)).
        rows: Names, from top to bottom.
        columns: Names, from left to right.
        x: What the columns are.
        y: What the rows are.
        unit: Of the values, at the colour bar.
        title: Above the grid.

    Raises:
        ValueError: If names and values do not fit, or a value is not finite.
    """
    if values.shape != (len(rows), len(columns)):
        raise error("values", f"shape {(len(rows), len(columns))}, one name a row and column", values.shape)
    check_finite("values", values)
    reach = float(np.abs(values).max()) or 1.0
    with style():
        figure = Figure(figsize=(WIDTH_IN, 1.1 + 0.36 * len(rows)), layout="constrained")
        axis = figure.subplots()
        shown = axis.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            value = float(values[row, column])
            ink = "white" if abs(value) > 0.6 * reach else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink)
        axis.set_xticks(range(len(columns)), list(columns))
        axis.set_yticks(range(len(rows)), list(rows))
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set(xlabel=x, ylabel=y, title=title)
        bar = figure.colorbar(shown, ax=axis, fraction=0.04, pad=0.02)
        bar.set_label(unit)
        bar.outline.set_linewidth(0.4)
    return figure


@dataclass(frozen=True)
class Sample:
    """One sample of `cuts`.

    Attributes:
        images: (Y, X) each, one a column, of any sizes.
        truth: (Y, X): drawn in grey behind every cut; its range is that of all images and cuts.
        at: Where the cut is, as a share of the height from the top.
    """

    images: Sequence[np.ndarray]
    truth: np.ndarray
    at: float

    def cut(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in image sides, and the values there along the cut, both (X,)."""
        return (np.arange(image.shape[1]) + 0.5) / image.shape[1], image[int(self.at * image.shape[0])]


def cuts(samples: Sequence[Sample], *, titles: Sequence[str], title: str = "") -> Figure:
    """Images over their cuts along one row, marked in red: one pair of rows a sample, one column a title.

    Args:
        samples: From top to bottom.
        titles: One a column.
        title: Above all.

    Raises:
        ValueError: If a sample has not one image a title, an image is not (Y, X) or not finite, or a cut lies outside.

    Source: the arrangement of Habring & Holler 2022.
    """
    for number, sample in enumerate(samples, 1):
        if len(sample.images) != len(titles) or not 0 <= sample.at < 1:
            got = f"{len(sample.images)} images, cut at {sample.at:g}"
            raise error(f"sample {number}", f"{len(titles)} images and a cut from 0 to below 1", got)
        for name, image in zip((*titles, "truth"), (*sample.images, sample.truth), strict=True):
            check_rank(f"sample {number}, {name}", image, 2, "(Y, X)")
            check_finite(f"sample {number}, {name}", image)
    with style():
        side = WIDTH_IN / len(titles)
        size = (WIDTH_IN, len(samples) * 1.75 * side + (0.55 if title else 0.3))
        figure = Figure(figsize=size, layout="constrained")
        heights = [1.0, 0.62] * len(samples)
        axes = figure.subplots(len(heights), len(titles), height_ratios=heights, squeeze=False)
        for k, sample in enumerate(samples):
            low, high = float(sample.truth.min()), float(sample.truth.max())
            room = 0.12 * (high - low)
            for above, below, image in zip(axes[2 * k], axes[2 * k + 1], sample.images, strict=True):
                above.imshow(image, cmap="gray", vmin=low, vmax=high, extent=(0, 1, 0, 1))
                above.axhline(1 - sample.at, color="red", lw=0.8)
                above.set_axis_off()
                below.step(*sample.cut(sample.truth), where="mid", color="#B5B5B5", lw=1.6)
                below.plot(*sample.cut(image), color=BLUE, lw=0.9)
                below.set(xlim=(0, 1), ylim=(low - room, high + room), xticks=[0, 1])
                below.tick_params(labelsize=6.5, length=2, labelleft=below is axes[2 * k + 1][0])
        for axis, name in zip(axes[0], titles, strict=True):
            axis.set_title(name, fontsize=7.5)
        axes[-1][0].set_xlabel("x / image side", fontsize=7)
        if title:
            figure.suptitle(title, x=0.01, ha="left")
    return figure
