"""Tables and figures as a run shows and keeps them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from noisebook import _numbers
from noisebook._checks import error

from ._images import DPI, style
from ._plots import Sample

RECORD = "application/vnd.noisebook.figure+json"
"""The type of a figure's record among the outputs of its cell: pages are made from it."""


def table(columns: dict[str, Sequence[object]]) -> None:
    """Show a table in the notebook: names and texts as they are, the numbers of a column with common decimals.

    Args:
        columns: Equally long columns under their headings, units included.

    Raises:
        ValueError: If the columns differ in length.
    """
    if len({len(column) for column in columns.values()}) != 1:
        raise error("columns", "one length", [len(column) for column in columns.values()])
    cells = [_numbers.column(column) for column in columns.values()]
    numeric = [any(isinstance(v, int | float) for v in column) for column in columns.values()]
    lines = [list(columns), ["--:" if right else ":--" for right in numeric], *map(list, zip(*cells, strict=True))]
    from IPython.display import Markdown, display

    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines)))


def keep(figure: Figure, out: str | Path, chapter: str, name: str, numbers: dict[str, np.ndarray]) -> None:
    """Show a figure in the notebook and keep it: ``out/chapter/figures/name.png``, ``.svg`` and its numbers.

    Args:
        figure: What to keep.
        out: The folder of the run.
        chapter: The chapter's name.
        name: The figure's name.
        numbers: What is drawn: one CSV where all are columns of one length, else one npz.

    Raises:
        ValueError: If there are no numbers: every figure of the book comes with them.
    """
    if not numbers:
        raise error(f"numbers of figure {name}", "at least one array", "none")
    folder = Path(out) / chapter / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    picture = write_picture(figure, folder / name)
    table = write_numbers(folder / name, numbers)
    from IPython.display import Image, display

    display(Image(picture))
    show_record(folder, {"name": name, "numbers": table, "vectors": {f"{name}.svg": f"{name}.svg"}}, chapter)


def show_record(folder: Path, record: dict[str, Any], chapter: str, above: str = "") -> None:
    """Keep a figure's record as ``name.json`` beside it, and show its links, with the record among the outputs.

    Args:
        folder: Of the figure.
        record: ``name``; ``numbers``, a file; ``vectors``, labels by file.
        chapter: The chapter's name.
        above: HTML to stand above the links.
    """
    from IPython.display import display

    record = record | {"folder": f"{chapter}/figures"}
    (folder / f"{record['name']}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    display({"text/html": f'{above}<p class="figure-links">{links(record)}</p>', RECORD: record}, raw=True)


def links(record: dict[str, Any]) -> str:
    """The links to what belongs to a figure, as HTML."""
    places = {record["numbers"]: record["numbers"]} | record["vectors"]
    linked = [f'<a href="{record["folder"]}/{file}">{html.escape(label)}</a>' for file, label in places.items()]
    return f"numbers: {linked[0]} · vector: {', '.join(linked[1:])}"


def keep_parts(samples: Sequence[Sample], out: str | Path, chapter: str, name: str, titles: Sequence[str]) -> None:
    """Keep every image and every cut of `cuts` by itself: ``out/chapter/figures/name/1-TITLE.png`` and ``.csv``.

    Args:
        samples: As for `cuts`; numbered from 1.
        out: The folder of the run.
        chapter: The chapter's name.
        name: The figure's name.
        titles: One a column; in file names, what is no letter or digit becomes a hyphen.
    """
    folder = Path(out) / chapter / "figures" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(samples, 1):
        low, high = float(sample.truth.min()), float(sample.truth.max())
        for title, image in zip(titles, sample.images, strict=True):
            stem = folder / f"{number}-{re.sub(r'[^0-9a-zA-Z.]+', '-', title).strip('-')}"
            grey = np.clip((image - low) / ((high - low) or 1.0), 0, 1)
            unsigned: dict[str, Any] = {"Software": None}
            with style():
                matplotlib.image.imsave(f"{stem}.png", grey, cmap="gray", vmin=0, vmax=1, metadata=unsigned)
            places, values = sample.cut(image)
            _write_table(Path(f"{stem}.csv"), {"x": places, "value": values})


def write_picture(figure: Figure, path: Path, dpi: int = DPI) -> bytes:
    """Write a figure as ``path.png`` and ``path.svg``; the bytes of the first.

    The PNG has the 256 colours that serve it best, hardly any further from its own than a fiftieth of the range, at a
    third to a quarter of the bytes. The SVG and the numbers are exact.
    """
    from PIL import Image

    drawn, picture = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    Image.open(drawn).convert("RGB").quantize(256, method, dither=dither).save(picture, "png")
    path.with_name(f"{path.name}.png").write_bytes(picture.getvalue())
    return picture.getvalue()


def write_numbers(path: Path, numbers: dict[str, np.ndarray]) -> str:
    """Write what a figure draws beside it, as CSV or npz; the file's name."""
    columns = {key: np.asarray(value) for key, value in numbers.items()}
    if all(value.ndim == 1 for value in columns.values()) and len({len(v) for v in columns.values()}) == 1:
        _write_table(path.with_suffix(".csv"), columns)
        return f"{path.name}.csv"
    np.savez_compressed(path.with_suffix(".npz"), **columns)  # type: ignore[arg-type]
    return f"{path.name}.npz"


def _write_table(path: Path, columns: dict[str, np.ndarray]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(v.tolist() for v in columns.values()), strict=True))
