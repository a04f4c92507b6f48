"""What a file or folder of images or photon counts holds, what is left out and why, and which chapter can use it.

A chapter is offered only after its own loader has read what the chapter would read: for ``linearized``, both doses of
the patients that it takes, paired by position; for ``cyclegan``, the same slices, or files of attenuation; for ``gap``,
whole numbers as noisy as photon counts are; for ``xray``, every radiograph, divided by patient.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from noisebook import datasets, dicom
from noisebook._paths import files_below, folders_below
from noisebook.papers import cyclegan, linearized

MARGIN = 32
"""Pixels on each side of the probed one that the chapter ``linearized`` shows."""
LABELS = ("full", "noise free")
WAYS = ("folder", "patient")
"""How `noisebook.datasets.xray_split` can divide, in the order in which they are tried."""


class Kind(Enum):
    """What a file or folder holds."""

    CT = "CT series"
    MU = "files of linear attenuation"
    COUNTS = "an array that can be photon counts"
    RADIOGRAPHS = "an archive of chest radiographs"


@dataclass(frozen=True)
class Use:
    """A chapter, and whether it can use what was found.

    Attributes:
        chapter: Its name.
        parameters: Those that make it read what was found; empty if it cannot.
        refused: Why it cannot; empty if it can.
        warnings: What its loader warned of.
        untrainable: Why its networks cannot be trained on the same images; empty if they can, or it was not asked.
        slices: How many it measures, of ``cyclegan``.
    """

    chapter: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    refused: str = ""
    warnings: tuple[str, ...] = ()
    untrainable: str = ""
    slices: int = 0


@dataclass(frozen=True)
class SeriesFound:
    """One CT series.

    Attributes:
        files: Its files, and ``description`` as in `noisebook.dicom.SeriesFiles`.
        refused: Why it cannot be read; empty if it can, and then:
        shape: (z, y, x), pixels.
        spacing_mm: (z, y, x), mm.
        range_hu: Smallest and largest value, HU.
        padded: Share of pixels that are padding, or as low.
        faults: What forbids to take it for a volume.
    """

    files: tuple[Path, ...]
    description: str = ""
    refused: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    range_hu: tuple[float, float] = (0.0, 0.0)
    padded: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArrayFound:
    """An array in a TIFF or NumPy file, and what it looks like as photon counts."""

    shape: tuple[int, ...]
    dtype: str
    report: datasets.CountReport


@dataclass(frozen=True)
class RadiographsFound:
    """An archive of radiographs.

    Attributes:
        images: By part and class.
        others: Pictures that are copies or hidden, or lie elsewhere.
        patients: By file name.
        shared: Patients with images in two folders.
        damaged: Why some cannot be read.
    """

    images: Mapping[tuple[str, str], int]
    others: int
    patients: int
    shared: int
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a file or folder holds.

    Attributes:
        path: The file or folder.
        kind: What it holds.
        usable: Whether images, files of mu or photon counts were found that can be read.
        uses: The chapters that were tried, and with which parameters they can use it.
        series: Of kind `Kind.CT`, and what else the folder holds is in ``contents``.
        contents: Of kind `Kind.CT`.
        mu: Of kind `Kind.MU`: the number of files by part and dose.
        array: Of kind `Kind.COUNTS`.
        radiographs: Of kind `Kind.RADIOGRAPHS`.
    """

    path: Path
    kind: Kind
    usable: bool
    uses: tuple[Use, ...]
    series: tuple[SeriesFound, ...] = ()
    contents: dicom.Contents = field(default_factory=lambda: dicom.Contents((), {}))
    mu: Mapping[tuple[str, str], int] = field(default_factory=dict)
    array: ArrayFound | None = None
    radiographs: RadiographsFound | None = None


def validate(path: Path, *, progress: bool = False) -> Found:
    """Read what ``path`` holds, and try which chapter can use it.

    Args:
        path: A DICOM file, a folder at or below which they lie, or an archive of chest radiographs: all images are
            decoded. Or a folder of ``{train,test}/{full_dose,quarter_dose}``, or a TIFF, ``.npy`` or ``.npz`` file.
        progress: Show a progress bar.

    Raises:
        ValueError: Nothing is there, a folder holds no DICOM file, a part of a radiograph archive lacks a class, or an
            array cannot be read.
    """
    if path.suffix.lower() in datasets.COUNT_SUFFIXES and not path.is_dir():
        return _counts(path)
    if _holds_radiographs(path):
        return _radiographs(path, progress)
    if cyclegan.data.holds_mu(path):
        use = _try_cyclegan(path, "")
        folders = [(part, dose) for part in cyclegan.data.PARTS for dose in cyclegan.data.DOSES]
        mu = {(part, dose): sum(1 for _ in (path / part / dose).glob("*.npy")) for part, dose in folders}
        return Found(path, Kind.MU, not use.refused, (use,), mu=mu)
    return _ct(path, progress)


def _counts(path: Path) -> Found:
    array = datasets.read_counts(path)
    report = datasets.count_report(array)
    fits = report.counts and array.ndim <= 3
    reason = "an image (Y, X) or a stack (Z, Y, X)" if report.counts else "photon counts as the detector gave them"
    use = Use("gap", {"counts_path": path}) if fits else Use("gap", refused=reason)
    return Found(path, Kind.COUNTS, fits, (use,), array=ArrayFound(array.shape, str(array.dtype), report))


def _ct(path: Path, progress: bool) -> Found:
    if path.is_dir() or not path.exists():
        contents = dicom.scan(path)
        bar = tqdm(contents.series, desc="reading series", disable=not progress, mininterval=1.0)
        series = [_series(one, one.files, one.description) for one in bar]
    else:
        contents, series = dicom.Contents((), {}), [_series([path], (path,))]
    usable = any(not one.refused for one in series)
    return Found(path, Kind.CT, usable, _try_ct(path) if usable else (), series=tuple(series), contents=contents)


def _series(readable: dicom.SeriesFiles | list[Path], files: tuple[Path, ...], description: str = "") -> SeriesFound:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its faults are kept
        try:
            images = dicom.read_series(readable)
        except ValueError as refused:
            return SeriesFound(files, description, str(refused))
    return SeriesFound(
        files,
        description,
        shape=images.hu.shape,
        spacing_mm=images.spacing_mm,
        range_hu=(float(images.hu.min()), float(images.hu.max())),
        padded=float((images.hu == dicom.PADDING_HU).mean()),
        faults=images.faults,
    )


def _try_ct(path: Path) -> tuple[Use, ...]:
    """How ``linearized``, and after it ``cyclegan``, can use the images at ``path``."""
    tried = []
    for root, prefix in ((path, ""), (path.resolve().parent, path.resolve().name)):
        for label in LABELS if root.is_dir() and path.is_dir() else ():
            try:
                probe, notes = _try_linearized(root, prefix, label)
            except ValueError as refused:
                tried.append(str(refused))
                continue
            patients = datasets.ct_patients(root, prefix)
            check = partial(linearized.experiment.check_trainable, "train", root, patients, label)
            chosen = {"data_root": root, "label": label, "prefix": prefix, "probe": probe}
            use = Use("linearized", chosen, warnings=tuple(notes), untrainable=_refusal(check))
            return (use, _try_cyclegan(root, prefix)) if label == "full" else (use,)
    return (Use("linearized", refused=tried[0] if tried else "a single file"),)


def _try_linearized(root: Path, prefix: str, label: str) -> tuple[list[int], list[str]]:
    """The middle of the last patient's images, and what is warned of, if the test patients have the pairs it needs.

    Raises:
        ValueError: They have not; the message says which and why.
    """
    pair = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for patient in datasets.ct_patients(root, prefix)[-datasets.TEST_PATIENTS :]:
            pair = datasets.ct_pairs(root, patient, label=label)
            linearized.data.grid_of(pair)
    assert pair is not None  # ct_patients gives one or raises
    depth, rows, columns = np.array(pair.low.shape) // 2
    linearized.data.probe_pixel(pair.low[depth], int(rows), int(columns), margin=MARGIN)
    return [int(depth), int(rows), int(columns)], list(dict.fromkeys(str(one.message) for one in caught))


def _try_cyclegan(root: Path, prefix: str) -> Use:
    """Whether the chapter ``cyclegan`` can measure the test slices."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same as of linearized
            test, _ = cyclegan.data.measured_scans(str(root), prefix=prefix)
    except ValueError as refused:
        return Use("cyclegan", refused=str(refused))
    check = partial(cyclegan.data.check_trainable, "train", str(root), prefix)
    chosen = {"data_root": root, "prefix": prefix}
    return Use("cyclegan", chosen, untrainable=_refusal(check), slices=len(test.quarter))


def _refusal(check: Callable[[], object]) -> str:
    """With what a check refuses; empty if it does not."""
    try:
        check()
    except ValueError as refused:
        return str(refused)
    return ""


def _holds_radiographs(path: Path) -> bool:
    """Whether there are folders ``{train,test,val}/{NORMAL,PNEUMONIA}`` at or below a path."""
    folders = folders_below(path.absolute()) if path.is_dir() else []
    return any(f.name in datasets.XRAY_CLASSES and f.parent.name in datasets.XRAY_PARTS for f in folders)


def _radiographs(path: Path, progress: bool) -> Found:
    files = datasets.xray_files(path)
    places: dict[str, set[str]] = {}
    for file in files:
        places.setdefault(file.patient, set()).add(file.part)
    bar = tqdm(files, desc="reading images", disable=not progress, mininterval=1.0)
    read = (_refusal(partial(datasets.xray_images, [file], 64)) for file in bar)
    damaged = tuple(problem for problem in read if problem)
    use = Use("xray", refused="take the damaged files away") if damaged else _division(path, files)
    radiographs = RadiographsFound(
        images=Counter((file.part, file.label) for file in files),
        others=sum(map(datasets.is_picture, files_below(path))) - len(files),
        patients=len(places),
        shared=sum(len(parts) > 1 for parts in places.values()),
        damaged=damaged,
    )
    return Found(path, Kind.RADIOGRAPHS, not damaged, (use,), radiographs=radiographs)


def _division(path: Path, files: list[datasets.XrayFile]) -> Use:
    """By the first of `WAYS` that gives three parts that share no patient; else why the last one does not."""
    reason = ""
    for by in WAYS:
        try:
            parts = datasets.xray_split(files, by)
        except ValueError as refused:
            reason = str(refused)
            continue
        if all(parts.values()):
            return Use("xray", {"data_root": path, "by": by})
        reason = f"no image in {', '.join(part for part, found in parts.items() if not found)}"
    return Use("xray", refused=reason)
