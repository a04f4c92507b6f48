"""Quarter-dose and full-dose slices: from the CT archive, from files of mu, paired or not.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisebook import ct, datasets
from noisebook._checks import check_finite, check_one_of, check_rank, check_shape, error

from .network import AIR_HU, SMALLEST

PAIRINGS = ("shuffled", "patients", "registered")
"""How the doses belong together: drawn apart from the same slices, of different patients, or pixel by pixel."""
DOSES = ("quarter_dose", "full_dose")
PARTS = ("train", "test")
PER_MM = {"1/mm": 1.0, "1/cm": 0.1}
"""What a unit of mu is in 1/mm."""
DENSE_PER_MM = 0.15
"""Above bone and below soft tissue in 1/cm: tells the two units of mu apart."""
HU_FROM = 5.0
"""No mu is as large, in any unit; no CT slice is as flat in HU."""
BODY_HU = -500.0
"""A slice with nothing above is all air."""


@dataclass(frozen=True, eq=False)
class Scans:
    """Slices at both doses.

    Attributes:
        quarter: ``(N, Y, X)`` float32, HU.
        full: ``(N, Y, X)`` float32, HU: the same slices.
        patients: ``(N,)`` ids, for splitting only: not to be printed, plotted or stored. Empty where unknown.
    """

    quarter: np.ndarray
    full: np.ndarray
    patients: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_hu("quarter", self.quarter)
        check_hu("full", self.full)
        check_shape("full", self.full, self.quarter.shape)
        if self.patients and len(self.patients) != len(self.quarter):
            raise error("patients", f"{len(self.quarter)}, one a slice, or none", len(self.patients))

    def of(self, chosen: Iterable[int]) -> Scans:
        """Some of the slices, by number."""
        rows = list(chosen)
        return Scans(self.quarter[rows], self.full[rows], tuple(self.patients[k] for k in rows if self.patients))


@dataclass(frozen=True, eq=False)
class Domains:
    """What a net is trained on.

    Attributes:
        quarter: ``(M, Y, X)`` float32, HU.
        full: ``(N, Y, X)`` float32, HU.
        registered: Whether slice k of one is slice k of the other.
    """

    quarter: Tensor
    full: Tensor
    registered: bool

    def __post_init__(self) -> None:
        for name, images in (("quarter", self.quarter), ("full", self.full)):
            check_hu(name, images.numpy())
        if self.registered:
            check_shape("full", self.full, tuple(self.quarter.shape))


def check_hu(name: str, hu: np.ndarray) -> None:
    """Raise unless an array is one of CT slices that the networks take.

    Raises:
        ValueError: No slice; not ``(Z, Y, X)``, float32, finite, square and from 128 pixels a side on; mu in place of
            HU; a slice that is all air.
    """
    check_rank(name, hu, 3, "(Z, Y, X)")
    if not len(hu):
        raise error(name, "at least one slice", "none", "Both domains are needed.")
    if hu.dtype != np.float32:
        raise error(name, "float32", hu.dtype, "Convert it: array.astype('float32').")
    check_size(name, hu.shape[1:])
    check_finite(name, hu)
    if np.abs(hu).max() < HU_FROM:
        got = f"{hu.min():.3g} to {hu.max():.3g}"
        raise error(name, "HU", got, "This looks like mu: convert it with cyclegan.from_mu.")
    empty = np.flatnonzero(hu.max((1, 2)) < BODY_HU)
    if len(empty):
        got = f"all air in {len(empty)} slices, the first number {empty[0]}"
        raise error(name, f"something above {BODY_HU:g} HU", got, "Leave them out.")


def check_size(name: str, size: tuple[int, ...]) -> None:
    """Raise unless the networks take slices of (rows, columns)."""
    rows, columns = size
    if rows != columns or rows < SMALLEST:
        raise error(name, f"square slices from {SMALLEST} x {SMALLEST} pixels on", f"{rows} x {columns}")


def from_mu(mu: np.ndarray, unit: str = "1/mm") -> np.ndarray:
    """Linear attenuation to HU, any shape, float32.

    Args:
        mu: In ``unit``, with soft tissue in it.
        unit: ``1/mm`` as in the authors' files, or ``1/cm``.

    Raises:
        ValueError: Unknown unit; values that are not finite, or are HU, or are mu in the other unit.
    """
    check_one_of("unit", unit, PER_MM)
    check_finite("mu", mu)
    if not mu.size or np.abs(mu).max() >= HU_FROM:
        got = f"{mu.min():.3g} to {mu.max():.3g}" if mu.size else "nothing"
        raise error("mu", f"linear attenuation in {unit}", got, "This looks like HU already.")
    dense, scaled = float(np.quantile(mu, 0.999)), mu.min() == 0 and mu.max() == 1
    if scaled or ((dense > DENSE_PER_MM) != (unit == "1/cm") and dense > 0.01):
        body = float(np.median(mu[mu >= np.quantile(mu, 0.9) / 2])) / ct.MU_WATER_PER_MM
        other = next(name for name in PER_MM if name != unit)
        remedy = f"Was it scaled, to 0…1 for instance? Water has {ct.MU_WATER_PER_MM:.3g}/mm."
        if not scaled and 0.75 < body * PER_MM[other] < 1.25:
            remedy = f"This looks like {other}."
        raise error("mu", f"linear attenuation in {unit}", f"{dense:.3g} in dense pixels", remedy)
    values = torch.from_numpy(np.asarray(mu, np.float64)) * PER_MM[unit]
    return np.asarray(ct.mu_to_hu(values).numpy(), np.float32)


def to_mu(hu: np.ndarray, unit: str = "1/mm") -> np.ndarray:
    """HU to linear attenuation, any shape, float32.

    Raises:
        ValueError: Unknown unit; values that are not finite, or are mu.
    """
    check_one_of("unit", unit, PER_MM)
    check_finite("hu", hu)
    if not hu.size or np.abs(hu).max() < HU_FROM:
        raise error("hu", "HU", f"up to {np.abs(hu).max():.3g}" if hu.size else "nothing", "This looks like mu.")
    mu = ct.hu_to_mu(torch.from_numpy(np.asarray(hu, np.float64))) / PER_MM[unit]
    return np.asarray(mu.numpy(), np.float32)


def read_archive(root: str | Path, patients: Iterable[str], *, label: str = "full") -> Scans:
    """Slices of patients of a CT archive, real or simulated, paired by position; not below air, as the authors' are.

    Args:
        root: As for `noisebook.datasets.ct_pairs`.
        patients: At least one.
        label: ``full``, or ``noise free`` for the truth of the simulated data, which then stands as the full dose.

    Raises:
        ValueError: As `noisebook.datasets.ct_pairs` and `check_hu` do; patients of mixed image size.
    """
    pairs = [datasets.ct_pairs(root, patient, label=label) for patient in patients]
    if not pairs:
        raise error("patients", "at least one", "none")
    check_one_size(str(root), (pair.low.shape[1:] for pair in pairs))
    ids = tuple(pair.patient for pair in pairs for _ in pair.low)
    quarter, full = (np.concatenate(some) for some in zip(*((pair.low, pair.label) for pair in pairs), strict=True))
    return Scans(_above_air(quarter), _above_air(full), ids)


def check_one_size(name: str, sizes: Iterable[tuple[int, ...]]) -> None:
    """Raise unless all images are of one size; pixels of other sizes in mm are other zooms, which crops may mix.

    Raises:
        ValueError: They are not; all sizes are named.
    """
    found = sorted(set(sizes))
    if len(found) > 1:
        got = ", ".join(" x ".join(map(str, size)) for size in found)
        raise error(name, "images of one size", got, "Choose patients of one size, by prefix or in another folder.")


def holds_mu(root: str | Path) -> bool:
    """Whether a folder is laid out as `read_mu` takes it."""
    return any((Path(root) / part / dose).is_dir() for part in PARTS for dose in DOSES)


def read_mu(root: str | Path, part: str, *, unit: str = "1/mm") -> Scans:
    """Slices from ``{train,test}/{full_dose,quarter_dose}/N.npy``, each (Y, X) in mu, in the order of their numbers.

    As for `read_archive`, nothing is below air.

    Args:
        root: The folder that holds ``train`` and ``test``.
        part: ``train`` or ``test``.
        unit: As for `from_mu`.

    Returns:
        Of unknown patients: `check_apart` can only compare slices.

    Raises:
        ValueError: A folder is missing or empty, the doses have other numbers, a name is no number, a file no array, or
            sizes are mixed.
    """
    arrays = [[_array(some[k]) for k in sorted(some)] for some in _mu_files(root, part)]
    check_one_size(str(Path(root) / part), (array.shape for some in arrays for array in some))
    quarter, full = (np.stack([from_mu(array, unit) for array in some]) for some in arrays)
    return Scans(_above_air(quarter), _above_air(full))


def check_mu(root: str | Path, part: str) -> None:
    """Raise where `read_mu` would, from the names of all files and the content of the first pair."""
    quarter, full = (from_mu(_array(some[min(some)]))[None] for some in _mu_files(root, part))
    Scans(_above_air(quarter), _above_air(full))


def _mu_files(root: str | Path, part: str) -> list[dict[int, Path]]:
    """The files of both doses by number."""
    check_one_of("part", part, PARTS)
    place = Path(root) / part
    files = [_numbered(place / dose) for dose in DOSES]
    lonely = sorted(files[0].keys() ^ files[1].keys())
    if lonely:
        raise error(str(place), "each N.npy at both doses", f"{len(lonely)} at one only, as {lonely[0]}")
    return files


def _above_air(hu: np.ndarray) -> np.ndarray:
    """What lies below air, as padding does, counts as air."""
    return hu.clip(min=AIR_HU)


def _numbered(folder: Path) -> dict[int, Path]:
    found = sorted(folder.glob("*.npy"))
    if not found:
        raise error(str(folder), "N.npy files", "none", "Both doses are needed: full_dose and quarter_dose.")
    strange = [file.name for file in found if not file.stem.isdecimal()]
    if strange:
        raise error(str(folder), "names N.npy with N a number", strange[0])
    return {int(file.stem): file for file in found}


def _array(file: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise error(str(file), "an array of numbers", f"{type(problem).__name__} while reading it") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise error(str(file), "(Y, X) of floating numbers", f"{array.dtype} {array.shape}")
    return array


def domains(scans: Scans, pairing: str, every: int = 1) -> Domains:
    """What to train on.

    Args:
        scans: Of the training patients.
        pairing: ``shuffled``: all slices of both doses, to be drawn apart; ``patients``: quarter dose of every other
            patient, the first among them, and full dose of the rest, so that no anatomy is in both; ``registered``.
        every: ``registered``: only every so many-th patient. 2 gives those whose quarter dose ``patients`` takes, and
            as many slices of each dose.

    Raises:
        ValueError: Unknown pairing; fewer than two known patients for ``patients``, none known for ``every``.
    """
    check_one_of("pairing", pairing, PAIRINGS)
    quarter, full = torch.from_numpy(scans.quarter), torch.from_numpy(scans.full)
    if pairing == "shuffled" or (pairing == "registered" and every == 1):
        return Domains(quarter, full, pairing == "registered")
    ids = sorted(set(scans.patients))
    if len(ids) < 2:
        raise error("patients", "at least two, known by their ids", len(ids), "Take pairing='shuffled'.")
    step = 2 if pairing == "patients" else every
    first = torch.tensor([ids.index(patient) % step == 0 for patient in scans.patients])
    return Domains(quarter[first], full[first if pairing == "registered" else ~first], pairing == "registered")


def check_apart(training: Scans, others: Mapping[str, Scans]) -> None:
    """Raise if a patient, or a slice, of the training is also in one of the ``others``, by their names.

    Raises:
        ValueError: It is; how many are named, never the patients.
    """
    known = _digests(training)
    for name, scans in others.items():
        shared = set(training.patients) & set(scans.patients)
        if shared:
            raise error(name, "patients that are not trained on", f"{len(shared)} in both", "Split by patient.")
        same = known & _digests(scans)
        if same:
            raise error(name, "slices that are not trained on", f"{len(same)} in both", "Split by patient.")


def _digests(scans: Scans) -> set[bytes]:
    return {hashlib.sha256(image.tobytes()).digest() for images in (scans.quarter, scans.full) for image in images}
