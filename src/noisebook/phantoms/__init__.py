"""Simulated objects: `Thorax`, whose line integrals are known exactly, and `Cells`, a tissue for photon counting."""

from ._cells import Cells
from ._thorax import Thorax

__all__ = ["Cells", "Thorax"]
