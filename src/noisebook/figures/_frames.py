"""Frames that follow one another, under a slider that needs neither a server nor a library in the page."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from noisebook._checks import check_finite, check_rank, error

_SHOW = (
    "const box=this.closest('.house-frames');"
    "box.querySelectorAll('img').forEach((image,k)=>image.hidden=k!=this.value);"
    "box.querySelector('output').value=this.dataset.names.split('|')[this.value];"
    "this.setAttribute('aria-valuetext',box.querySelector('output').value)"
)


def keep_frames(
    frames: Mapping[str, np.ndarray],
    out: str | Path,
    chapter: str,
    name: str,
    *,
    window: tuple[float, float],
    alt: str,
    caption: str = "",
) -> None:
    """Show frames in the notebook under a slider and keep them: ``out/chapter/figures/name/1-FRAME.png``, ``name.npz``.

    The slider works in a page that nobody serves, by keyboard too; where no script runs the last frame is seen.

    Args:
        frames: (Y, X) each, by name, in their order; all of one shape.
        out: The folder of the run.
        chapter: The chapter's name.
        name: The figure's name.
        window: (lowest, highest) value shown, of all frames.
        alt: What is seen, for who does not see it; the frame's name is added.
        caption: Above the slider.

    Raises:
        ValueError: If there is no frame, one is not (Y, X) or not finite, shapes differ, or a name holds a ``|``.
    """
    if not frames:
        raise error(f"frames of {name}", "at least one", "none")
    shape = next(iter(frames.values())).shape
    for title, frame in frames.items():
        check_rank(title, frame, 2, "(Y, X)")
        check_finite(title, frame)
        if frame.shape != shape or "|" in title:
            raise error(f"frame {title}", f"shape {shape} and a name without |", frame.shape)
    folder = Path(out) / chapter / "figures"
    (folder / name).mkdir(parents=True, exist_ok=True)
    pictures = [_png(frame, window) for frame in frames.values()]
    for number, (title, picture) in enumerate(zip(frames, pictures, strict=True), 1):
        (folder / name / f"{number}-{re.sub(r'[^0-9a-zA-Z.]+', '-', title).strip('-')}.png").write_bytes(picture)
    np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **dict(frames))
    from IPython.display import HTML, display

    link = f'<a href="{chapter}/figures/{name}.npz">{name}.npz</a>'
    display(HTML(_page(list(frames), pictures, alt, caption) + f'<p class="figure-links">numbers: {link}</p>'))


def _png(frame: np.ndarray, window: tuple[float, float]) -> bytes:
    low, high = window
    picture = io.BytesIO()
    grey = np.clip((frame.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    unsigned: dict[str, Any] = {"Software": None}
    matplotlib.image.imsave(picture, grey, cmap="gray", vmin=0, vmax=1, format="png", metadata=unsigned)
    return picture.getvalue()


def _page(names: list[str], pictures: list[bytes], alt: str, caption: str) -> str:
    """One picture a frame, of which one is seen, and the slider; the looks stand in the book's style sheet."""
    last = len(names) - 1
    shown = [
        f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}" alt="{html.escape(f"{alt}: {title}")}"'
        f' style="width:100%;max-width:32rem;image-rendering:pixelated"{"" if k == last else " hidden"}>'
        for k, (title, picture) in enumerate(zip(names, pictures, strict=True))
    ]
    slider = (
        f'<input type="range" min="0" max="{last}" value="{last}" autocomplete="off" style="width:60%;max-width:20rem"'
        f' aria-valuetext="{html.escape(names[-1])}" data-names="{html.escape("|".join(names))}" oninput="{_SHOW}">'
    )
    label = f"<label>{html.escape(caption)} {slider} <output>{html.escape(names[-1])}</output></label>"
    return f'<div class="house-frames">{label}{"".join(shown)}</div>'
