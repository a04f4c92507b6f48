"""What a file of photon counts, or a file or folder of DICOM images holds, and which chapter can use it.

A chapter is recommended only after its own loader has read what the chapter would read: for ``linearized``, both doses
of the patients that it takes, paired by position; for ``gap``, whole numbers as noisy as photon counts are.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from noisebook import datasets, dicom
from noisebook.papers.linearized import grid_of, probe_pixel

MARGIN = 32
"""Pixels on each side of the probed one that the chapter ``linearized`` shows."""
LABELS = ("full", "noise free")
NEEDS = "linearized needs low and full dose of the same slices: PATIENT/…Low Dose Images…, PATIENT/…Full Dose Images…"
Tell = Callable[[str], None]


def survey(path: Path, tell: Tell) -> bool:
    """Tell, line by line, what ``path`` holds and what can be done with it.

    Args:
        path: A DICOM file, or a folder at or below which they lie: all its CT images are decoded. Or a TIFF, ``.npy``
            or ``.npz`` file.
        tell: Called with each line.

    Returns:
        Whether it holds CT images that can be read, or photon counts.

    Raises:
        ValueError: Nothing is there, or a folder holds no DICOM file.
    """
    if path.suffix.lower() in datasets.COUNT_SUFFIXES and not path.is_dir():
        return _counts(path, tell)
    if path.is_dir() or not path.exists():
        contents = dicom.scan(path)
        titles = [f"{k}. {_title(s)}" for k, s in enumerate(contents.series, 1)]
        usable = [_series(title, s.files, tell) for title, s in zip(titles, contents.series, strict=True)]
    else:
        contents, usable = dicom.Contents((), {}), [_series(str(path), (path,), tell)]
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


def _series(title: str, files: Sequence[Path], tell: Tell) -> bool:
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
            grid_of(pair)
    assert pair is not None  # ct_patients gives one or raises
    depth, rows, columns = np.array(pair.low.shape) // 2
    probe_pixel(pair.low[depth], int(rows), int(columns), margin=MARGIN)
    return [int(depth), int(rows), int(columns)], list(dict.fromkeys(str(one.message) for one in caught))
