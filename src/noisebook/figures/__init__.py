"""Figures in one style, and how they are kept: the only door to matplotlib.

One width, one font, colour-blind-safe maps (grey, cividis; RdBu for signed values, white at zero), windows and units
stated at every colour bar, a scale bar in mm. The files hold no clock and no random id: equal runs write equal bytes.
"""

from ._images import Panel, alike, hu_window, images, zoom
from ._network import architecture
from ._plots import Line, Sample, cuts, dots, matrix, profile
from ._save import RECORD, keep, keep_parts, links, table
from ._slider import keep_slider

__all__ = [
    "RECORD",
    "Line",
    "Panel",
    "Sample",
    "alike",
    "architecture",
    "cuts",
    "dots",
    "hu_window",
    "images",
    "keep",
    "keep_parts",
    "keep_slider",
    "links",
    "matrix",
    "profile",
    "table",
    "zoom",
]
