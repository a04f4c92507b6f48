"""What ``noisebook data check`` prints of what was found: the only place where it is put into words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from noisebook import datasets, dicom
from noisebook.papers import cyclegan
from noisebook.validation import ArrayFound, Found, Kind, RadiographsFound, SeriesFound, Use

NEEDS = "linearized needs low and full dose of the same slices: PATIENT/…Low Dose Images…, PATIENT/…Full Dose Images…"
DIVIDED = {"folder": "as the folders are", "patient": "anew: by=patient"}


def lines(found: Found) -> Iterator[str]:
    """What was found, what is left out and why, and the command of each chapter that can use it, line by line."""
    if found.array:
        yield from _array(found, found.array)
    elif found.radiographs:
        yield from _radiographs(found.radiographs)
    elif found.kind is Kind.MU:
        for part in cyclegan.data.PARTS:
            quarter, full = (found.mu[part, dose] for dose in cyclegan.data.DOSES)
            yield f"{part}: {quarter:,} slices of mu at quarter dose, {full:,} at full dose"
    else:
        yield from _series(found)
    for use in found.uses:
        yield from _use(found, use)
    if found.kind is Kind.CT and found.usable and all(use.refused for use in found.uses):
        number = [not one.refused for one in found.series].index(True)
        path = str(found.path)
        files = f"scan({path!r}).series[{number}].files" if found.path.is_dir() else f"[{path!r}]"
        yield f"In Python: from noisebook.dicom import read_series, scan; series = read_series({files})"


def _array(found: Found, array: ArrayFound) -> Iterator[str]:
    shape = " x ".join(map(str, array.shape))
    yield f"{found.path}: {shape} values of {array.dtype}, mean {array.report.mean:.4g}"
    yield f"    {array.report.verdict}"


def _radiographs(found: RadiographsFound) -> Iterator[str]:
    yield f"Chest radiographs: {sum(found.images.values()):,} images"
    for part in datasets.XRAY_PARTS:
        counts = {label: found.images.get((part, label), 0) for label in datasets.XRAY_CLASSES}
        if any(counts.values()):
            yield f"    {part}: {', '.join(f'{count:,} {label}' for label, count in counts.items())}"
    if found.others:
        yield f"    {found.others:,} more files are copies or hidden, or lie elsewhere: left out"
    yield "    Only identical pixels count as the same picture: one that was saved again with loss is another"
    yield f"    {found.patients:,} patients by file name, {found.shared:,} of them with images in two folders"
    for problem in found.damaged:
        yield f"damaged: {problem}"


def _series(found: Found) -> Iterator[str]:
    for number, series in enumerate(found.series, 1):
        title = f"{series.description or 'without description'}, {len(series.files)} files in {series.files[0].parent}"
        yield f"{number}. {title}" if found.path.is_dir() else str(found.path)
        yield from _images(series)
    if found.contents.skipped:
        yield f"skipped: {found.contents}"
    for problem in found.contents.damaged:
        yield f"damaged: {problem}"
    if not found.usable:
        yield "No CT series here can be used."


def _images(series: SeriesFound) -> Iterator[str]:
    if series.refused:
        yield f"    cannot be used: {series.refused}"
        return
    shape = " x ".join(str(n) for n in series.shape)
    spacing = " x ".join(f"{mm:.3g}" for mm in series.spacing_mm)
    low, high = series.range_hu
    yield f"    CT: {shape} pixels (z, y, x) of {spacing} mm, {low:.0f} to {high:.0f} HU"
    if series.padded:
        yield f"    {series.padded:.1%} of the pixels are padding, or as low: {dicom.PADDING_HU:.0f} HU"
    for fault in series.faults:
        yield f"    no volume: {fault}; its slices can be used one by one"


def _use(found: Found, use: Use) -> Iterator[str]:
    if use.refused and use.chapter == "gap":
        yield f"No chapter can use it. gap needs {use.refused}."
    elif use.refused and use.chapter == "linearized":
        yield f"No chapter can use it. {NEEDS}"
        if found.path.is_dir():
            yield f"    {use.refused}"
    elif use.refused:
        yield f"The chapter {use.chapter} cannot use it: {use.refused}"
    else:
        way = DIVIDED.get(str(use.parameters.get("by")))
        detail = f", {use.slices} slices to measure" if use.slices else f", divided {way}" if way else ""
        yield f"The chapter {use.chapter} can use it{detail}:"
        given = " ".join(_parameter(name, value) for name, value in use.parameters.items() if value)
        yield f"    noisebook run {use.chapter} {given} --out results"
        if way:
            yield f"    noisebook run {use.chapter} --preset paper {given} --out results    # trains: a GPU, hours"
    for warning in use.warnings:
        yield f"    it will warn: {warning}"
    if use.untrainable:
        yield f"    its networks cannot be trained on it: {use.untrainable}"


def _parameter(name: str, value: object) -> str:
    text = str(value).replace(" ", "") if isinstance(value, list) else str(value)
    return f"-p {shlex.quote(f'{name}={text}')}"
