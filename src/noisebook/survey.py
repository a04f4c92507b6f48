"""What a file or folder of images or photon counts holds, what is left out and why, and which chapter can use it.

A chapter is recommended only after its own loader has read what the chapter would read: for ``linearized``, both doses
of the patients that it takes, paired by position; for ``cyclegan``, the same slices, or files of attenuation; for
``gap``, whole numbers as noisy as photon counts are; for ``xray``, every radiograph, divided by patient.
"""

from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from noisebook import datasets, dicom
from noisebook._paths import files_below, folders_below
from noisebook.papers import cyclegan, linearized

MARGIN = 32
"""Pixels on each side of the probed one that the chapter ``linearized`` shows."""
LABELS = ("full", "noise free")
NEEDS = "linearized needs low and full dose of the same slices: PATIENT/…Low Dose Images…, PATIENT/…Full Dose Images…"
DIVIDED = {"folder": "as the folders are", "patient": "anew: by=patient"}
"""How `noisebook.datasets.xray_split` can divide, in words, the first way that works first."""
Tell = Callable[[str], None]


def survey(path: Path, tell: Tell) -> bool:
    """Tell, line by line, what ``path`` holds and what can be done with it.

    Args:
        path: A DICOM file, a folder at or below which they lie, or an archive of chest radiographs: all images are
            decoded. Or a folder of ``{train,test}/{full_dose,quarter_dose}``, or a TIFF, ``.npy`` or ``.npz`` file.
        tell: Called with each line.

    Returns:
        Whether it holds CT images, files of mu, photon counts, or an archive of radiographs, that can be read.

    Raises:
        ValueError: Nothing is there, a folder holds no DICOM file, or a part of a radiograph archive lacks a class.
    """
    if path.suffix.lower() in datasets.COUNT_SUFFIXES and not path.is_dir():
        return _counts(path, tell)
    if _holds_radiographs(path):
        return _radiographs(path, tell)
    if cyclegan.data.holds_mu(path):
        return _mu(path, tell)
    if path.is_dir() or not path.exists():
        contents = dicom.scan(path)
        titles = [f"{k}. {_title(s)}" for k, s in enumerate(contents.series, 1)]
        usable = [_series(title, s, tell) for title, s in zip(titles, contents.series, strict=True)]
    else:
        contents, usable = dicom.Contents((), {}), [_series(str(path), [path], tell)]
    if contents.skipped:
        tell(f"skipped: {contents}")
    for problem in contents.damaged:
        tell(f"damaged: {problem}")
    if not any(usable):
        tell("No CT series here can be used.")
        return False
    if not _chapters(path, tell):
        files = f"scan({str(path)!r}).series[{usable.index(True)}].files" if path.is_dir() else f"[{str(path)!r}]"
        tell(f"In Python: from noisebook.dicom import read_series, scan; series = read_series({files})")
    return True


def _counts(path: Path, tell: Tell) -> bool:
    """Tell whether a file looks like photon counts, and the command for it; whether it does."""
    array = datasets.read_counts(path)
    report = datasets.count_report(array)
    tell(f"{path}: {' x '.join(map(str, array.shape))} values of {array.dtype}, mean {report.mean:.4g}")
    tell(f"    {report.verdict}")
    if not report.counts:
        tell("No chapter can use it. gap needs photon counts as the detector gave them.")
    elif array.ndim > 3:
        tell("No chapter can use it. gap needs an image (Y, X) or a stack (Z, Y, X).")
    else:
        tell("The chapter gap can use it:")
        tell(f"    noisebook run gap -p {shlex.quote(f'counts_path={path}')} --out results")
        return True
    return False


def _title(series: dicom.SeriesFiles) -> str:
    return f"{series.description or 'without description'}, {len(series.files)} files in {series.files[0].parent}"


def _series(title: str, files: dicom.SeriesFiles | list[Path], tell: Tell) -> bool:
    """Tell of one series; whether it can be read."""
    tell(title)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its faults are told below
        try:
            images = dicom.read_series(files)
        except ValueError as refused:
            tell(f"    cannot be used: {refused}")
            return False
    shape = " x ".join(str(n) for n in images.hu.shape)
    spacing = " x ".join(f"{mm:.3g}" for mm in images.spacing_mm)
    tell(f"    CT: {shape} pixels (z, y, x) of {spacing} mm, {images.hu.min():.0f} to {images.hu.max():.0f} HU")
    if padded := float((images.hu == dicom.PADDING_HU).mean()):
        tell(f"    {padded:.1%} of the pixels are padding, or as low: {dicom.PADDING_HU:.0f} HU")
    for fault in images.faults:
        tell(f"    no volume: {fault}; its slices can be used one by one")
    return True


def _chapters(path: Path, tell: Tell) -> bool:
    """Tell which chapter can use the images at ``path``, with the command, or why none can; whether one can."""
    tried = []
    for root, prefix in ((path, ""), (path.resolve().parent, path.resolve().name)):
        for label in LABELS if root.is_dir() and path.is_dir() else ():
            try:
                probe, notes = _try_linearized(root, prefix, label)
            except ValueError as refused:
                tried.append(str(refused))
                continue
            chosen = {"data_root": root, "label": label, "prefix": prefix, "probe": str(probe).replace(" ", "")}
            given = " ".join(f"-p {shlex.quote(f'{name}={value}')}" for name, value in chosen.items() if value)
            tell("The chapter linearized can use it:")
            tell(f"    noisebook run linearized {given} --out results")
            for note in notes:
                tell(f"    it will warn: {note}")
            patients = datasets.ct_patients(root, prefix)
            _trainable(tell, partial(linearized.experiment.check_trainable, "train", root, patients, label))
            if label == "full":
                _try_cyclegan(root, prefix, tell)
            return True
    tell(f"No chapter can use it. {NEEDS}")
    if tried:
        tell(f"    {tried[0]}")
    return False


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


def _try_cyclegan(root: Path, prefix: str, tell: Tell) -> bool:
    """Tell whether the chapter ``cyclegan`` can measure the test slices, and the command for it; whether it can."""
    chosen = {"data_root": root, "prefix": prefix}
    given = " ".join(f"-p {shlex.quote(f'{name}={value}')}" for name, value in chosen.items() if value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told of the chapter linearized
            test, _ = cyclegan.data.measured_scans(str(root), prefix=prefix)
    except ValueError as refused:
        tell(f"The chapter cyclegan cannot use it: {refused}")
        return False
    tell(f"The chapter cyclegan can use it, {len(test.quarter)} slices to measure:")
    tell(f"    noisebook run cyclegan {given} --out results")
    _trainable(tell, partial(cyclegan.data.check_trainable, "train", str(root), prefix))
    return True


def _trainable(tell: Tell, check: Callable[[], None]) -> None:
    """Tell if the networks of the chapter just recommended cannot be trained on the same images, and why."""
    try:
        check()
    except ValueError as refused:
        tell(f"    its networks cannot be trained on it: {refused}")


def _mu(path: Path, tell: Tell) -> bool:
    """Tell what the folders of the authors of ``cyclegan`` hold, and the command; whether the chapter can use them."""
    for part in ("train", "test"):
        counts = [sum(1 for _ in (path / part / dose).glob("*.npy")) for dose in ("quarter_dose", "full_dose")]
        tell(f"{part}: {counts[0]:,} slices of mu at quarter dose, {counts[1]:,} at full dose")
    return _try_cyclegan(path, "", tell)


def _holds_radiographs(path: Path) -> bool:
    """Whether there are folders ``{train,test,val}/{NORMAL,PNEUMONIA}`` at or below a path."""
    folders = folders_below(path.absolute()) if path.is_dir() else []
    return any(f.name in datasets.XRAY_CLASSES and f.parent.name in datasets.XRAY_PARTS for f in folders)


def _radiographs(path: Path, tell: Tell) -> bool:
    """Tell what an archive of radiographs holds, and how the chapter takes it; whether every image can be read."""
    files = datasets.xray_files(path)
    tell(f"Chest radiographs: {len(files):,} images")
    for part in datasets.XRAY_PARTS:
        counts = Counter(file.label for file in files if file.part == part)
        if counts:
            tell(f"    {part}: {', '.join(f'{counts[label]:,} {label}' for label in datasets.XRAY_CLASSES)}")
    if copies := sum(map(datasets.is_picture, files_below(path))) - len(files):
        tell(f"    {copies:,} more files are copies or hidden, or lie elsewhere: left out")
    places: dict[str, set[str]] = {}
    for file in files:
        places.setdefault(file.patient, set()).add(file.part)
    shared = sum(len(parts) > 1 for parts in places.values())
    tell(f"    {len(places):,} patients by file name, {shared:,} of them with images in two folders")
    damaged = [problem for file in files if (problem := _damage(file))]
    for problem in damaged:
        tell(f"damaged: {problem}")
    by, refused = _division(files)
    if damaged or not by:
        tell(f"The chapter xray cannot use it: {refused or 'take the damaged files away'}")
        return not damaged
    tell(f"The chapter xray can use it, divided {DIVIDED[by]}:")
    given = f"-p {shlex.quote(f'data_root={path}')} -p by={by}"
    tell(f"    noisebook run xray {given} --out results")
    tell(f"    noisebook run xray --preset paper {given} --out results    # trains: a GPU, hours")
    return True


def _damage(file: datasets.XrayFile) -> str:
    """Why a radiograph cannot be read; empty if it can."""
    try:
        datasets.xray_images([file], 64)
    except ValueError as refused:
        return str(refused)
    return ""


def _division(files: list[datasets.XrayFile]) -> tuple[str, str]:
    """The first of `DIVIDED` that gives three parts that share no patient, or empty and why the last one does not."""
    reason = ""
    for by in DIVIDED:
        try:
            parts = datasets.xray_split(files, by)
        except ValueError as refused:
            reason = str(refused)
            continue
        if all(parts.values()):
            return by, ""
        reason = f"no image in {', '.join(part for part, found in parts.items() if not found)}"
    return "", reason
