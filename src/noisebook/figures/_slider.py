"""A slider over a series of pictures that needs no server: it works in the published page and in a notebook."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noisebook._checks import error

from ._save import show_record, write_numbers, write_picture

_DPI = 110
_MOVE = (
    "const all=[...this.closest('.frames').querySelectorAll('img')];"
    "all.forEach((one,k)=>one.hidden=k!=this.value);"
    "const said=all[this.value].dataset.label;"
    "this.closest('.frames').querySelector('output').textContent=said;"
    "this.setAttribute('aria-valuetext',said)"
)


def keep_slider(
    frames: Sequence[Figure],
    labels: Sequence[str],
    out: str | Path,
    chapter: str,
    name: str,
    numbers: dict[str, np.ndarray],
    *,
    alt: str,
    text: str,
) -> None:
    """Show one picture of a series, with a slider to choose which, and keep all: ``out/chapter/figures/name/01.png``.

    The pictures are in the page itself, the last one is seen first, and without scripts it is the one that stays.

    Args:
        frames: At least two figures of one size.
        labels: What is chosen, one a frame, such as ``120 photons``.
        out: The folder of the run.
        chapter: The chapter's name.
        name: The figure's name.
        numbers: What is drawn, as for `keep`.
        alt: What each picture shows; its label is added.
        text: Stands before the slider.

    Raises:
        ValueError: If there are fewer than two frames, not as many labels, or no numbers.
    """
    if len(frames) < 2 or len(labels) != len(frames) or not numbers:
        got = f"{len(frames)} frames, {len(labels)} labels, {len(numbers)} arrays"
        raise error(f"frames of {name}", "at least two, a label each, and numbers", got)
    folder = Path(out) / chapter / "figures"
    (folder / name).mkdir(parents=True, exist_ok=True)
    pictures = []
    for k, (figure, label) in enumerate(zip(frames, labels, strict=True), 1):
        content = write_picture(figure, folder / name / f"{k:02d}", _DPI)
        source = base64.b64encode(content).decode()
        words = html.escape(f"{alt}: {label}")
        hidden = "" if k == len(frames) else " hidden"
        pictures.append(
            f'<img src="data:image/png;base64,{source}" alt="{words}" data-label="{html.escape(label)}"{hidden}>'
        )
    table = write_numbers(folder / name, numbers)
    last = len(frames) - 1
    slider = (
        f'<input type="range" min="0" max="{last}" value="{last}" autocomplete="off" oninput="{_MOVE}"'
        f' aria-valuetext="{html.escape(labels[-1])}" style="width: 100%">'
    )
    label = (
        f'<label style="display: block">{html.escape(text)} <output>{html.escape(labels[-1])}</output>{slider}</label>'
    )
    record = {"name": name, "numbers": table, "vectors": {f"{name}/{k:02d}.svg": s for k, s in enumerate(labels, 1)}}
    show_record(folder, record, chapter, f'<div class="frames">{label}{"".join(pictures)}</div>')
