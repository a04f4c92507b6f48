"""Whole slices through a generator, what tiles change about them, and the choice of an epoch.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., arXiv 1806.09748. Instance normalisation takes
its statistics from the whole image (D. Ulyanov et al., arXiv 1607.08022), so crops and slices are treated differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import figures, metrics, weights
from noisebook._checks import check_positive
from noisebook.inference import tiled

from .network import AIR_HU, normalise
from .scans import Scans, check_hu

WINDOW_HU = (-160.0, 240.0)
"""The abdominal window that samples are shown in."""


def denoise(
    net: nn.Module, hu: np.ndarray, *, tile: int = 0, halo: int = 0, spacing_mm: float | None = None
) -> np.ndarray:
    """Put slices through a generator, one by one.

    An embedded one warns of HU or pixels outside of what it was trained on; the output is then cut to the input's
    range.

    Args:
        net: A `Generator`, wherever it lies.
        hu: (Z, Y, X) float32, HU, square slices from 128 pixels a side on.
        tile: Side of the tiles in pixels; 0 takes each slice whole, as its instance normalisation is meant.
        halo: Pixels around each tile that it also sees.
        spacing_mm: Side of the pixels, if known.

    Returns:
        The same shape, float32, HU; not clipped, as the authors leave it.

    Raises:
        ValueError: As `check_hu` and `noisebook.inference.tiled` do.
    """
    check_hu("hu", hu)
    scale = float(net.scale_hu)  # type: ignore[arg-type]
    device = next(net.parameters()).device
    outputs = []
    for image in torch.from_numpy(hu):
        seen = normalise(image[None, None].to(device), scale)
        outputs.append(scale * tiled(net, seen, tile=tile or len(image), halo=halo))
    found: np.ndarray = torch.cat(outputs)[:, 0].cpu().numpy()
    outside = weights.warn_outside(net, value=hu.clip(min=AIR_HU), spacing=spacing_mm)
    return found.clip(min(AIR_HU, hu.min()), hu.max()) if outside else found


def tiling(net: nn.Module, hu: np.ndarray, tiles: Sequence[int], *, halo: int = 32) -> dict[str, np.ndarray]:
    """What tiles change: the statistics of instance normalisation are then those of each tile.

    Args:
        net: A `Generator`.
        hu: (Z, Y, X), as for `denoise`.
        tiles: Sides of tiles, pixels; those of the slices and above change nothing.
        halo: As for `denoise`; beyond the 22 pixels that the convolutions reach, what remains is the statistics.

    Returns:
        ``tile``; ``rms_hu`` and ``max_hu``, of the difference from whole slices.

    Raises:
        ValueError: As `denoise` does, or a tile is not positive.
    """
    for tile in tiles:
        check_positive("tile", tile)
    whole = denoise(net, hu)
    changes = [denoise(net, hu, tile=tile, halo=halo) - whole for tile in tiles]
    return {
        "tile": np.array(tiles),
        "rms_hu": np.array([np.sqrt(np.mean(change.astype(np.float64) ** 2)) for change in changes]),
        "max_hu": np.array([float(np.abs(change).max()) for change in changes]),
    }


class Watch:
    """Scores generators after each epoch, and keeps those of the best one.

    Args:
        slices: By name; the first is the validation, which alone chooses the epoch. Without any, the last epoch stays.
        samples: A folder for a picture an epoch: quarter dose, output and full dose of the first slice.

    Attributes:
        scores: A row an epoch: RMSE against the full dose, HU, over the slices of each name.
        epoch: The chosen one, counted from 0; -1 before the first.
        best: The generators' weights at that epoch, by name.
    """

    def __init__(self, slices: Mapping[str, Scans], samples: Path | None = None) -> None:
        self.slices, self.samples = dict(slices), samples
        self.scores: list[list[float]] = []
        self.epoch = -1
        self.best: dict[str, dict[str, Tensor]] = {}

    def look(self, epoch: int, nets: Mapping[str, nn.Module]) -> None:
        """Score the denoiser ``q2f``, and keep all ``nets`` if it is the best so far."""
        outputs = [denoise(nets["q2f"], scans.quarter) for scans in self.slices.values()]
        row = [metrics.rmse(out, scans.full) for out, scans in zip(outputs, self.slices.values(), strict=True)]
        if not row or all(row[0] < before[0] for before in self.scores):
            self.epoch = epoch
            self.best = {name: _copied(net) for name, net in nets.items()}
        self.scores.append(row)
        if self.samples and outputs:
            self._show(epoch, outputs[0][0])

    def _show(self, epoch: int, output: np.ndarray) -> None:
        scans = next(iter(self.slices.values()))
        shown = {"quarter dose": scans.quarter[0], f"output, epoch {epoch + 1}": output, "full dose": scans.full[0]}
        panels = [figures.Panel(image, title, WINDOW_HU) for title, image in shown.items()]
        assert self.samples is not None
        self.samples.mkdir(parents=True, exist_ok=True)
        figures.images(panels, columns=3).savefig(self.samples / f"sample-{epoch + 1:04d}.png")

    def state_dict(self) -> dict[str, Any]:
        """Scores, the chosen epoch and its weights."""
        return {"scores": self.scores, "epoch": self.epoch, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.scores, self.epoch, self.best = list(state["scores"]), state["epoch"], state["best"]


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
