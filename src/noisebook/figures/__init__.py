"""Figures in one style, and how they are kept: the only door to matplotlib.

One width, one font, colour-blind-safe maps (grey, cividis; RdBu for signed values, white at zero), windows and units
stated at every colour bar, a scale bar in mm. The files hold no clock and no random id: equal runs write equal bytes.
"""

from ._frames import keep_frames
from ._images import Panel, hu_window, images, zoom
from ._keep import keep, keep_parts, table
from ._network import architecture
from ._plots import Line, Sample, cuts, dots, matrix, profile

__all__ = [
    "Line",
    "Panel",
    "Sample",
    "architecture",
    "cuts",
    "dots",
    "hu_window",
    "images",
    "keep",
    "keep_frames",
    "keep_parts",
    "matrix",
    "profile",
    "table",
    "zoom",
]
