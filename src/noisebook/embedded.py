"""The embedded default data, simulated from seeds and written in the real archive's own format.

CT: `phantoms.Thorax` in a clinical fan beam at full and at quarter dose, reconstructed and written as DICOM series in
the layout of the TCIA collection LDCT-and-Projection-data (doi 10.7937/9NPB-2637), so that the loader of the real
archive reads it. The quarter dose keeps each photon of the full dose with probability 1/4: as in the collection, where
noise was inserted, the two doses share noise. A third series, noise free, exists only because this is a simulation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from noisebook import _paths, ct, dicom, photons
from noisebook._checks import check_one_of, check_positive
from noisebook.phantoms import Thorax

VERSION = 2
"""Raised when the same recipe gives other pixels; part of the identity of the data. 2: padding around the circle."""

FIELD_MM = 384.0
"""Side of the images, and diameter of the circle outside of which they are padding, as scanners have it."""
_FAN_RAD = 672 * 1.2858 / 1085.6
_DESCRIPTIONS = ("Full Dose Images", "Low Dose Images", "Noise Free Images")


@dataclass(frozen=True)
class CtRecipe:
    """What the embedded CT data are made of.

    Args:
        patients: Numbers of the simulated patients; 17 becomes SIM017, which is also the seed of the anatomy.
        slices: Slices a patient, 35 mm apart from the liver's dome upwards.
        pixels: Side of the images; the field of view is `FIELD_MM` whatever their number.
        views: Views of the full turn.
        channels: Detector channels; they share a fan of 45.6 degrees.
        photons: Expected unattenuated photons of the central ray at full dose.
        low_share: Dose of the low-dose scan, as a share of the full dose.
    """

    patients: tuple[int, ...] = (46, 47, 48, 49, 50)
    slices: int = 2
    pixels: int = 512
    views: int = 580
    channels: int = 672
    photons: float = 3.5e5
    low_share: float = 0.25

    def __post_init__(self) -> None:
        for name in ("slices", "pixels", "views", "channels", "photons", "low_share"):
            check_positive(name, getattr(self, name))

    @property
    def id(self) -> str:
        """The identity of the data: ``ct-`` and eight digits of a hash of the recipe."""
        text = json.dumps([VERSION, asdict(self)], sort_keys=True)
        return "ct-" + hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def geometry(self) -> ct.Geometry:
        """The scan."""
        return ct.Geometry("fan", self.views, self.channels, _FAN_RAD / self.channels)

    @property
    def grid(self) -> ct.Grid:
        """The image grid."""
        return ct.Grid(self.pixels, FIELD_MM / self.pixels)

    def dose(self, share: float = 1.0) -> ct.Dose:
        """The photon statistics at ``share`` of the full dose."""
        return ct.Dose(self.photons * share)

    def positions_mm(self, patient: int) -> list[float]:
        """Each slice's z for a patient: the first between -105 and -95 mm."""
        return [round(-100 + 5 * ((patient * 0.6180339887) % 2 - 1) + 35 * k, 1) for k in range(self.slices)]

    def sinogram(self, patient: int, z_mm: float) -> Tensor:
        """Exact line integrals of a slice, (views, channels) float32."""
        path = Thorax(patient).slice_path(z_mm, *(ray.float() for ray in self.geometry.rays()))
        return path * ct.MU_WATER_PER_MM


TEST = CtRecipe()
"""The five test patients, which the book is computed from."""
TRAIN = CtRecipe(patients=tuple(range(1, 46)), slices=4)
"""The 45 training patients; only `make weights` simulates them."""
SMOKE = CtRecipe(patients=(50,), slices=1, pixels=128, views=144, channels=168, photons=1.4e6)
"""One coarse slice, for tests: seconds."""
RECIPES = {"test": TEST, "train": TRAIN, "smoke": SMOKE}
"""The recipes by the names that presets use."""


def named(name: str) -> CtRecipe:
    """The recipe of a name in `RECIPES`.

    Raises:
        ValueError: If there is none; the nearest one is named.
    """
    check_one_of("recipe", name, RECIPES)
    return RECIPES[name]


def simulate(recipe: CtRecipe, patient: int, z_mm: float) -> Tensor:
    """One slice at full dose, at low dose and free of noise: (3, Y, X) float32, HU, padded around the circle.

    Args:
        recipe: Geometry and dose.
        patient: The patient's number; with ``z_mm`` it also seeds the noise.
        z_mm: The slice.
    """
    generator = torch.Generator().manual_seed(patient * 100_000 + round(z_mm * 10) % 100_000)
    clean = recipe.sinogram(patient, z_mm)[None]
    full, low = recipe.dose(), recipe.dose(recipe.low_share)
    counts = photons.poisson(full.expected_counts(clean, recipe.geometry), generator)
    kept = photons.thin(counts, recipe.low_share, generator)
    scans = [
        full.log_transform(counts, recipe.geometry, generator),
        low.log_transform(kept, recipe.geometry, generator),
        clean,
    ]
    images = ct.mu_to_hu(ct.fbp(torch.cat(scans), recipe.geometry, recipe.grid))
    axis = recipe.grid.axes_mm()[0]
    outside = torch.hypot(axis[:, None], axis) > FIELD_MM / 2
    return images.masked_fill(outside, dicom.PADDING_HU)


def embedded_ct(recipe: CtRecipe = TEST, *, progress: bool = True) -> Path:
    """The folder of the embedded CT data, simulated if it is not in the cache yet.

    It is made under another name and renamed when whole, so an interrupted run leaves nothing that looks finished, and
    of two runs at once one wins.

    Args:
        recipe: What to simulate: `TEST`, `TRAIN`, `SMOKE` or your own.
        progress: Show a progress bar.

    Returns:
        The folder that holds ``LDCT-and-Projection-data``, under the cache.

    Raises:
        OSError: If the cache cannot be written.
    """
    final = _paths.cache() / "data" / recipe.id
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{recipe.id}-", dir=final.parent))
    try:
        for patient in _bar(recipe.patients, progress):
            _write_patient(recipe, patient, work / "LDCT-and-Projection-data")
        (work / "recipe.json").write_text(json.dumps({"version": VERSION, **asdict(recipe)}, indent=1) + "\n")
        os.chmod(work, 0o755)
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def _bar(patients: Iterable[int], progress: bool) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(patients, desc="simulating CT patients", disable=not progress, mininterval=1.0)


def _write_patient(recipe: CtRecipe, patient: int, root: Path) -> None:
    positions = recipe.positions_mm(patient)
    images = torch.stack([simulate(recipe, patient, z) for z in positions], 1).numpy()
    name = f"SIM{patient:03d}"
    for number, (description, hu) in enumerate(zip(_DESCRIPTIONS, images, strict=True), 1):
        dicom.write_series(
            root / name / "simulated" / f"{number}.000000-{description}-{number:05d}",
            hu,
            (35.0, recipe.grid.spacing_mm, recipe.grid.spacing_mm),
            positions,
            patient=name,
            description=f"{description} (simulated)",
            series_number=number,
        )
