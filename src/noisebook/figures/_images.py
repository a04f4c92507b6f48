"""The style of every figure, and images in a grid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from noisebook._checks import check_finite, check_positive, check_rank, error

WIDTH_IN = 7.4
DPI = 180
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
    "savefig.dpi": DPI,
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
def style() -> Iterator[None]:
    """The book's style on matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
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
    with style():
        side = WIDTH_IN / columns
        above = 0.15 * max(panel.title.count("\n") for panel in panels)
        figure = Figure(figsize=(WIDTH_IN, rows * (side + 0.62 + above) + (0.3 if title else 0)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(figure, axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        if title:
            figure.suptitle(title, x=0.01, ha="left")
    return figure


def alike(
    shown: Mapping[str, np.ndarray],
    *,
    columns: int,
    window: tuple[float, float],
    unit: str,
    title: str = "",
    captions: Sequence[str] = (),
) -> Figure:
    """A grid of images in one window and unit, to be compared.

    Args:
        shown: (Y, X) each, by name, in reading order.
        columns: Images a row.
        window: (lowest, highest) value shown, of all.
        unit: Of the values.
        title: Above all.
        captions: One an image, in place of the names.

    Raises:
        ValueError: As `images`, or if there are other than as many captions.
    """
    if captions and len(captions) != len(shown):
        raise error("captions", f"{len(shown)}, one an image", len(captions))
    named = zip(captions or shown, shown.values(), strict=True)
    return images([Panel(image, name, window, unit) for name, image in named], columns=columns, title=title)


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
