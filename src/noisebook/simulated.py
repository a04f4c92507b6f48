"""The embedded default data, simulated from seeds and written in the real archive's own format.

CT: `phantoms.Thorax` in a clinical fan beam at full and at quarter dose, reconstructed and written as DICOM series in
the layout of the TCIA collection LDCT-and-Projection-data (doi 10.7937/9NPB-2637), so that the loader of the real
archive reads it. The quarter dose keeps each photon of the full dose with probability 1/4: as in the collection, where
noise was inserted, the two doses share noise. A third series, noise free, exists only because this is a simulation.

Chest radiographs: the same anatomies without and with opacities, several views a patient, as JPEG in the layout of the
archive of Kermany et al. 2018 (doi 10.17632/rscbjbr9sj).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook import _paths, ct, dicom, photons
from noisebook._checks import check_one_of, check_positive, error, writes
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


def embedded_ct(recipe: CtRecipe = TEST, *, progress: bool = True, again: bool = False) -> Path:
    """The folder of the embedded CT data, simulated if it is not in the cache yet.

    It is made under another name and renamed when whole, so an interrupted run leaves nothing that looks finished, and
    of two runs at once one wins.

    Args:
        recipe: What to simulate: `TEST`, `TRAIN`, `SMOKE` or your own.
        progress: Show a progress bar.
        again: Also if it is there; what is there is replaced when the new folder is whole.

    Returns:
        The folder that holds ``LDCT-and-Projection-data``, under the cache.

    Raises:
        ValueError: If the cache cannot be written.
    """

    def write(work: Path) -> None:
        for patient in _bar(recipe.patients, "simulating CT patients", progress):
            _write_patient(recipe, patient, work / "LDCT-and-Projection-data")

    return _make(recipe.id, {"version": VERSION, **asdict(recipe)}, write, again)


def _make(name: str, record: dict[str, object], write: Callable[[Path], None], again: bool = False) -> Path:
    """The folder of that name in the cache, filled by ``write`` and renamed when whole, if it is not there yet."""
    final = _paths.cache() / "data" / name
    with writes(_paths.cache(), _paths.CACHE_REMEDY):
        if again or not final.is_dir():
            _fill(final, record, write, again)
    return final


def _fill(final: Path, record: dict[str, object], write: Callable[[Path], None], again: bool) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        write(work)
        (work / "recipe.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.chmod(work, 0o755)
        if again and final.is_dir():  # under another name first: half a folder must not look like data
            final.rename(old := work.with_name(f"{work.name}-old"))
            work.rename(final)
            work = old
            return
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _bar(patients: Iterable[int], what: str, progress: bool) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(patients, desc=what, disable=not progress, mininterval=1.0)


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


XRAY_VERSION = 1
"""As `VERSION`, of the radiographs."""
_MARGIN = 16


@dataclass(frozen=True)
class XrayRecipe:
    """What the embedded chest radiographs are made of.

    Even patients are NORMAL, odd ones have PNEUMONIA: one to four opacities.

    Args:
        train: Numbers of the training patients, which are also the seeds of the anatomies.
        val: Of those that parameters are chosen on.
        test: Of those that are measured.
        views: Radiographs of each patient: other distances, positions, exposures and quanta, the same anatomy.
        pixels: Side of the images, which show 397 mm of the detector's plane, up to 4 % more or less.
        photons: Expected unattenuated photons in a pixel of 3.1 x 3.1 mm.
        noise_free: Without quanta, otherwise equal: the reference that only a simulation has.
    """

    train: tuple[int, ...] = tuple(range(1, 17))
    val: tuple[int, ...] = tuple(range(1001, 1013))
    test: tuple[int, ...] = tuple(range(2001, 2041))
    views: int = 2
    pixels: int = 128
    photons: float = 1e5
    noise_free: bool = False

    def __post_init__(self) -> None:
        for name in ("views", "pixels", "photons"):
            check_positive(name, getattr(self, name))
        patients = [*self.train, *self.val, *self.test]
        if len(set(patients)) < len(patients):
            raise error("patients", "each in one part, once", f"{len(patients) - len(set(patients))} twice")

    @property
    def id(self) -> str:
        """The identity of the data: ``xray-`` and eight digits of a hash of the recipe."""
        text = json.dumps([XRAY_VERSION, asdict(self)], sort_keys=True)
        return "xray-" + hashlib.sha256(text.encode()).hexdigest()[:8]


XRAY_TEST = XrayRecipe()
"""52 patients to choose parameters on and to measure, beside 16 of the training patients."""
XRAY_TRAIN = XrayRecipe(train=tuple(range(1, 337)), val=(), test=(), views=4)
"""The 336 training patients: 1,344 images, as many as the archive's NORMAL part for training has, within 3."""
XRAY_SMOKE = XrayRecipe(train=(1, 2), val=(1001, 1002), test=(2001, 2002), views=1, pixels=64, photons=4e5)
"""Six images, for tests: seconds."""
XRAY_RECIPES = {"test": XRAY_TEST, "train": XRAY_TRAIN, "smoke": XRAY_SMOKE}
"""The recipes by the names that presets use."""


def radiograph(recipe: XrayRecipe, patient: int, view: int) -> np.ndarray:
    """One chest radiograph, (pixels, pixels) uint8, bright where much is absorbed.

    Args:
        recipe: Size and photons.
        patient: The patient's number, odd with PNEUMONIA.
        view: Counted from 0.
    """
    random = np.random.default_rng([patient, view, 0xC4E57])
    opacities = int(np.random.default_rng([patient, 0x0AC]).integers(1, 5)) if patient % 2 else 0
    pixels = recipe.pixels + 2 * (margin := max(1, _MARGIN * recipe.pixels // 256))
    spacing_mm, source_mm = 397 / recipe.pixels * random.uniform(0.96, 1.04), random.uniform(1500, 2000)
    path = _thorax(patient, opacities).radiograph(pixels=pixels, spacing_mm=spacing_mm, source_mm=source_mm)
    row, column = random.integers(0, 2 * margin + 1, 2)
    path = path[row : row + recipe.pixels, column : column + recipe.pixels]
    expected = recipe.photons * (128 / recipe.pixels) ** 2 * random.uniform(0.7, 1.4)
    low, width = random.uniform(0.4, 0.7), random.uniform(4.2, 4.8)
    attenuation = path * ct.MU_WATER_PER_MM
    if not recipe.noise_free:
        generator = torch.Generator().manual_seed(patient * 100 + view)
        counts = photons.poisson(expected * torch.exp(-attenuation), generator)
        attenuation = -torch.log(counts.clamp(min=0.5) / expected)
    grey: np.ndarray = (255 * (attenuation - low) / width).round().clamp(0, 255).to(torch.uint8).numpy()
    return grey


def named_xray(name: str) -> XrayRecipe:
    """The recipe of a name in `XRAY_RECIPES`.

    Raises:
        ValueError: If there is none; the nearest one is named.
    """
    check_one_of("recipe", name, XRAY_RECIPES)
    return XRAY_RECIPES[name]


@lru_cache(1)
def _thorax(patient: int, opacities: int) -> Thorax:
    """Kept from one view to the next."""
    return Thorax(patient, opacities)


def embedded_xray(recipe: XrayRecipe = XRAY_TEST, *, progress: bool = True) -> Path:
    """The folder of the embedded chest radiographs, simulated if it is not in the cache yet; see `embedded_ct`.

    Every eighth patient's JPEG files are RGB, as some of the archive's are.

    Args:
        recipe: What to simulate: `XRAY_TEST`, `XRAY_TRAIN`, `XRAY_SMOKE` or your own.
        progress: Show a progress bar.

    Returns:
        The folder that holds ``chest_xray``, under the cache.

    Raises:
        ValueError: If the cache cannot be written.
    """
    parts = {patient: part for part in ("train", "val", "test") for patient in getattr(recipe, part)}

    def write(work: Path) -> None:
        for patient in _bar(parts, "simulating radiographs", progress):
            _write_radiographs(recipe, patient, work / "chest_xray" / parts[patient])

    return _make(recipe.id, {"version": XRAY_VERSION, **asdict(recipe)}, write)


def _write_radiographs(recipe: XrayRecipe, patient: int, root: Path) -> None:
    from PIL import Image

    folder = root / ("PNEUMONIA" if patient % 2 else "NORMAL")
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(recipe.views):
        name = f"person{patient}_bacteria_{view + 1}" if patient % 2 else f"IM-{patient:04d}-{view + 1:04d}"
        image = Image.fromarray(radiograph(recipe, patient, view))
        image = image.convert("RGB") if patient % 8 == 0 else image
        image.save(folder / f"{name}.jpeg", quality=95)
