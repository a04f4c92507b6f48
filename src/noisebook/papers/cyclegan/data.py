"""Quarter-dose and full-dose slices: simulated, from the CT archive, or from files of mu; paired or not.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244; E. Kang et al., Medical Physics 46(2), 2019, arXiv 1806.09748.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from noisebook import ct, datasets, simulated
from noisebook._checks import check_finite, check_one_of, check_rank, check_shape, error

T = TypeVar("T")
AIR_HU = -1000.0
WINDOW_HU = (-160.0, 240.0)
"""The abdominal window."""
SMALLEST = 128
"""The least side of an image, in pixels: that of the authors' crops."""
VALIDATION = 5
"""The last so many training patients choose the epoch and are not trained on."""
PAIRINGS = ("shuffled", "patients", "registered")
"""How the doses belong together: drawn apart from the same slices, of different patients, or pixel by pixel."""
DOSES = ("quarter_dose", "full_dose")
PARTS = ("train", "test")
PER_MM = {"1/mm": 1.0, "1/cm": 0.1}
"""What a unit of mu is in 1/mm."""
DENSE_PER_MM = 0.15
"""Above bone and below soft tissue in 1/cm: tells the two units of mu apart."""
SOFT = 0.25
"""How far from water the median of a body may lie, of water's mu."""
SAMPLED = 16
"""At most so many slices of a dose show its unit."""
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
class Split:
    """What a network is trained on, and what it is scored on after each epoch: no patient and no slice is in both.

    Attributes:
        training: Slices to train on.
        scored: Slices to score, by name; the first are the validation, which chooses the epoch. Without any the last
            epoch is taken.
    """

    training: Scans
    scored: Mapping[str, Scans]

    def __post_init__(self) -> None:
        check_apart(self.training, self.scored)


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
        remedy = "This looks like mu: convert it with cyclegan.data.from_mu."
        raise error(name, "HU", f"{hu.min():.3g} to {hu.max():.3g}", remedy)
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
    hu = _converted(mu, unit)
    check_unit(mu, unit)
    return hu


def _converted(mu: np.ndarray, unit: str) -> np.ndarray:
    """As `from_mu`, of one slice, which may hold no soft tissue."""
    check_one_of("unit", unit, PER_MM)
    check_finite("mu", mu)
    if not mu.size or np.abs(mu).max() >= HU_FROM:
        got = f"{mu.min():.3g} to {mu.max():.3g}" if mu.size else "nothing"
        raise error("mu", f"linear attenuation in {unit}", got, "This looks like HU already.")
    dense = float(np.quantile(mu, 0.999))
    if mu.max() == 1 or ((dense > DENSE_PER_MM) != (unit == "1/cm") and dense > 0.01):
        raise _mistaken(mu, unit)
    values = torch.from_numpy(np.asarray(mu, np.float64)) * PER_MM[unit]
    return np.asarray(ct.mu_to_hu(values).numpy(), np.float32)


def check_unit(mu: np.ndarray, unit: str) -> None:
    """Raise if what is denser than lung is not soft tissue by its median: mu in another unit, or scaled.

    Args:
        mu: One slice or more; one through little but bone would be refused by itself, below 100 pixels nothing is.
        unit: As for `from_mu`.
    """
    relative = mu * (PER_MM[unit] / ct.MU_WATER_PER_MM)
    body = relative[relative > 0.5]
    if body.size >= 100 and not 1 - SOFT < float(np.median(body)) < 1 + SOFT:
        raise _mistaken(mu, unit)


def _mistaken(mu: np.ndarray, unit: str) -> ValueError:
    """The error that names the other unit where the body would be soft tissue in it."""
    body = float(np.median(mu[mu >= np.quantile(mu, 0.9) / 2])) / ct.MU_WATER_PER_MM
    other = next(name for name in PER_MM if name != unit)
    remedy = f"Was it scaled, to 0…1 for instance? Water has {ct.MU_WATER_PER_MM:.3g}/mm."
    if mu.max() != 1 and abs(body * PER_MM[other] - 1) < SOFT:
        remedy = f"This looks like {other}."
    dense = float(np.quantile(mu, 0.999))
    return error("mu", f"linear attenuation in {unit}", f"{dense:.3g} in dense pixels", remedy)


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
    for some in arrays:
        check_unit(np.stack(_sampled(some)), unit)
    quarter, full = (np.stack([_converted(array, unit) for array in some]) for some in arrays)
    return Scans(_above_air(quarter), _above_air(full))


def check_mu(root: str | Path, part: str) -> None:
    """Raise where `read_mu` would, from the names and headers of all files and the content of some."""
    files = _mu_files(root, part)
    check_one_size(str(Path(root) / part), [_array(file, "r").shape for some in files for file in some.values()])
    sampled = [[_array(some[k]) for k in _sampled(sorted(some))] for some in files]
    quarter, full = (np.stack([_converted(array, "1/mm") for array in some]) for some in sampled)
    Scans(_above_air(quarter), _above_air(full))
    for some in sampled:
        check_unit(np.stack(some), "1/mm")


def _sampled(items: Sequence[T]) -> Sequence[T]:
    return items[:: 1 + len(items) // SAMPLED]


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


def _array(file: Path, mapped: Literal["r"] | None = None) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, mmap_mode=mapped, allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise error(str(file), "an array of numbers", f"{type(problem).__name__} while reading it") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise error(str(file), "(Y, X) of floating numbers", f"{array.dtype} {array.shape}")
    return array


def domains(scans: Scans, pairing: str, every: int = 1) -> tuple[Tensor, Tensor]:
    """What to train on: slices at quarter and at full dose, (M, Y, X) and (N, Y, X), float32, HU.

    Args:
        scans: Of the training patients.
        pairing: ``shuffled``: all slices of both doses, to be drawn apart; ``patients``: quarter dose of every other
            patient, the first among them, and full dose of the rest, so that no anatomy is in both; ``registered``:
            slice k of one is slice k of the other.
        every: ``registered``: only every so many-th patient. 2 gives those whose quarter dose ``patients`` takes, and
            as many slices of each dose.

    Raises:
        ValueError: Unknown pairing; fewer than two known patients for ``patients``, none known for ``every``.
    """
    check_one_of("pairing", pairing, PAIRINGS)
    quarter, full = torch.from_numpy(scans.quarter), torch.from_numpy(scans.full)
    if pairing == "shuffled" or (pairing == "registered" and every == 1):
        return quarter, full
    ids = sorted(set(scans.patients))
    if len(ids) < 2:
        raise error("patients", "at least two, known by their ids", len(ids), "Take pairing='shuffled'.")
    step = 2 if pairing == "patients" else every
    first = torch.tensor([ids.index(patient) % step == 0 for patient in scans.patients])
    return quarter[first], full[first if pairing == "registered" else ~first]


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


def embedded_split() -> Split:
    """The simulated patients: training, a slice of each validation patient, and a slice of each test patient."""
    root = simulated.embedded_ct(simulated.TRAIN)
    return _split(root, datasets.ct_patients(root), {"test": _first_slices(embedded_test())})


def embedded_test(label: str = "full", recipe: simulated.CtRecipe = simulated.TEST) -> Scans:
    """The simulated test patients at quarter dose, beside full dose or (``noise free``) the truth."""
    root = simulated.embedded_ct(recipe)
    return read_archive(root, datasets.ct_patients(root), label=label)


def measured_scans(data_root: str = "", recipe: str = "test", prefix: str = "") -> tuple[Scans, np.ndarray | None]:
    """The slices to measure, and their truth, (Z, Y, X) in HU, which only simulated ones have.

    Args:
        data_root: A CT archive, of which the last five patients test; or the folder of the authors' files of mu; empty
            for simulated patients.
        recipe: Of these, by its name in `noisebook.simulated.RECIPES`.
        prefix: Only patients of the archive whose id starts so.

    Raises:
        ValueError: As `read_archive` and `read_mu` do.
    """
    if not data_root:
        chosen = simulated.named(recipe)
        return embedded_test(recipe=chosen), embedded_test("noise free", chosen).full
    if holds_mu(data_root):
        return read_mu(data_root, "test"), None
    patients = datasets.ct_patients(data_root, prefix)
    return read_archive(data_root, patients[-datasets.TEST_PATIENTS :]), None


def training_split(data_root: str = "", prefix: str = "") -> Split:
    """What to train on and what to score after each epoch; arguments and errors as for `measured_scans`.

    Files of mu know no patients: nothing can be held out of them, and the last epoch is taken, as the authors do.
    """
    if not data_root:
        return embedded_split()
    if holds_mu(data_root):
        training = read_mu(data_root, "train")
        check_apart(training, {"test": read_mu(data_root, "test")})
        return Split(training, {})
    return _split(data_root, datasets.ct_patients(data_root, prefix)[: -datasets.TEST_PATIENTS], {})


def check_trainable(nets: str, data_root: str = "", prefix: str = "") -> None:
    """Raise before anything is trained, from headers alone, if the authors' training cannot run on a CT archive.

    Args:
        nets: Only ``train`` trains.
        data_root: As for `training_split`; simulated patients and files of mu need no check.
        prefix: As for `training_split`.

    Raises:
        ValueError: If there are too few patients, or those to train on differ in image size, or it is one that the
            networks do not take.
    """
    if nets != "train" or not data_root or holds_mu(data_root):
        return
    patients = datasets.ct_patients(data_root, prefix)
    least = datasets.TEST_PATIENTS + VALIDATION + 1
    if len(patients) < least:
        raise error("nets=train", f"at least {least} patients, of which the last ten are not trained on", len(patients))
    sizes = [size for size, _ in datasets.ct_grids(data_root, patients[: -datasets.TEST_PATIENTS])]
    check_one_size("nets=train", sizes)
    check_size("nets=train", sizes[0])


def check_source(nets: str, data_root: str, prefix: str) -> None:
    """Raise where `measured_scans`, or `training_split` too, would.

    From the headers of all patients or files, and the pixels of the last patient or of some files of mu.

    Raises:
        ValueError: There are no such data, too few patients, or a prefix for simulated ones.
    """
    if data_root and holds_mu(data_root):
        for part in PARTS if nets == "train" else ("test",):
            check_mu(data_root, part)
    elif data_root:
        patients = datasets.ct_patients(data_root, prefix)
        sizes = [size for size, _ in datasets.ct_grids(data_root, patients[-datasets.TEST_PATIENTS :])]
        check_one_size(data_root, sizes)
        check_size("slices", sizes[0])
        check_trainable(nets, data_root, prefix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told where all patients are read
            read_archive(data_root, patients[-1:])
    elif prefix:
        raise error("prefix", "none, for simulated patients", repr(prefix), "Set data_root too.")


def _split(root: str | Path, patients: Sequence[str], others: Mapping[str, Scans]) -> Split:
    """The last patients validate with a slice each, and the rest train."""
    validation = _first_slices(read_archive(root, patients[-VALIDATION:]))
    return Split(read_archive(root, patients[:-VALIDATION]), {"validation": validation, **others})


def _first_slices(scans: Scans) -> Scans:
    """One slice of each patient."""
    return scans.of(sorted(map(scans.patients.index, set(scans.patients))))
