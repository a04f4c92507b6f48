"""Checks at the public doors: bad input raises ``ValueError`` with what was expected, what was got, and the remedy.

Nothing heavy is imported here, so that the command refuses a mistyped word at once.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


def error(name: str, expected: str, got: object, remedy: str = "") -> ValueError:
    """A ``ValueError`` in this library's form: ``name: expected …, got …. remedy``."""
    return ValueError(f"{name}: expected {expected}, got {got}." + (f" {remedy}" if remedy else ""))


def nearest(name: str, options: Iterable[str]) -> str:
    """The remedy for a mistyped word: the closest option, else all of them."""
    known = sorted(options)
    return _close(name, known) or f"Known: {', '.join(known) or 'none'}."


def _close(name: str, options: Sequence[str]) -> str:
    """The closest option as a question; empty if none is close."""
    found = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    return f"Did you mean {found[0]!r}?" if found else ""


def check_one_of(name: str, value: str, options: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``options``; the nearest one is named."""
    known = sorted(options)
    if value not in known:
        raise error(name, f"one of {', '.join(known) or 'none'}", f"{value!r:.60}", _close(value, known))


def check_range(name: str, value: object, lowest: int, highest: int | None = None) -> None:
    """Raise unless a whole number lies from ``lowest`` to ``highest``, both included."""
    if not isinstance(value, int) or value < lowest or (highest is not None and value > highest):
        wanted = f"a whole number from {lowest} " + ("on" if highest is None else f"to {highest}")
        raise error(name, wanted, f"{value!r:.30}")


def check_device(device: str, allowed: Sequence[str] = ("cpu", "cuda")) -> None:
    """Raise unless ``device`` is one of ``allowed``, and is there: ``cuda`` needs a GPU and a build of torch for it."""
    check_one_of("device", device, allowed)
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise error("device", "a GPU that torch can use", "none", "Take device=cpu, or a torch built for CUDA.")


def check_rank(name: str, array: Any, rank: int, axes: str) -> None:
    """Raise unless ``array`` has ``rank`` axes; ``axes`` names them, such as ``(B, C, Y, X)``."""
    if array.ndim != rank:
        raise error(name, f"{rank} axes {axes}", f"{array.ndim} in shape {tuple(array.shape)}")


def check_shape(name: str, array: Any, shape: Sequence[int | None]) -> None:
    """Raise unless ``array.shape`` equals ``shape``, where ``None`` stands for any length."""
    got = tuple(array.shape)
    if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
        want = tuple("any" if n is None else n for n in shape)
        raise error(name, f"shape {want}", f"shape {got}")


def check_real(name: str, array: Any) -> None:
    """Raise unless ``array`` is a numpy array of real numbers."""
    dtype = getattr(array, "dtype", None)
    if not hasattr(array, "astype") or getattr(dtype, "kind", "") not in "fiub":
        got = type(array).__name__ + (f" of {dtype}" if dtype is not None else "")
        raise error(name, "a numpy array of real numbers", got, "Convert it first.")


def check_tensor(name: str, value: Any) -> None:
    """Raise unless ``value`` is a tensor of floating numbers."""
    if not hasattr(value, "is_floating_point"):
        raise error(name, "a torch.Tensor", type(value).__name__, "Convert it: torch.as_tensor(array).")
    if not value.is_floating_point():
        raise error(name, "floating numbers", value.dtype, "Convert it: image.float().")


@contextmanager
def writes(place: object, remedy: str) -> Iterator[None]:
    """Turn what the system raises where ``place`` cannot be made, written or filled into an error with ``remedy``."""
    try:
        yield
    except OSError as refused:
        raise error(str(place), "a folder that can be written", reason(refused), remedy) from None


def reason(refused: OSError) -> str:
    """What the system says, in one line: pydicom puts a whole traceback before it."""
    return (str(refused).strip() or type(refused).__name__).splitlines()[-1]


@contextmanager
def model_takes(image: torch.Tensor) -> Iterator[None]:
    """Turn what torch raises where a model cannot take ``image`` into an error with the image's shape and dtype."""
    try:
        yield
    except RuntimeError as problem:
        text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        if "memory" in text:
            raise
        got = f"shape {tuple(image.shape)} of {image.dtype}"
        raise error("image", "rank, channels and dtype that the model takes", got, f"Torch says: {text}") from problem


def check_finite(name: str, array: np.ndarray | torch.Tensor) -> None:
    """Raise if ``array`` holds NaN or infinity; their number and the first place are named."""
    import numpy as np

    bad = ~array.isfinite() if hasattr(array, "isfinite") else ~np.isfinite(array)
    if bad.any():
        first = bad.nonzero()
        where = tuple(int(i) for i in (first[0] if hasattr(array, "isfinite") else [axis[0] for axis in first]))
        raise error(name, "finite values", f"{int(bad.sum())} that are not, the first at index {where}")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a number above zero (NaN is refused)."""
    if not value > 0:
        raise error(name, "a number above zero", value)


def check_pixel(pixel: tuple[int, int], height: int, width: int) -> None:
    """Raise unless ``pixel`` = (row, column), whole numbers, lies inside an image of ``height`` x ``width``."""
    if len(pixel) != 2 or not all(float(place).is_integer() for place in pixel):
        raise error("pixel (row, column)", "two whole numbers", pixel)
    row, column = pixel
    if not (0 <= row < height and 0 <= column < width):
        raise error("pixel (row, column)", f"within 0..{height - 1} and 0..{width - 1}", pixel)


def read_json(file: Path, what: str, remedy: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        file: the file.
        what: what it should be, for the message.
        remedy: what to do where it is not.

    Raises:
        ValueError: it is missing, no UTF-8, no JSON, no object, or holds a number that is not finite.
    """
    import json

    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
    except OSError as wrong:
        raise error(str(file), what, (wrong.strerror or type(wrong).__name__).lower(), remedy) from None
    except (ValueError, RecursionError) as wrong:
        raise error(str(file), what, f"what cannot be read ({wrong})", remedy) from None
    if not isinstance(content, dict):
        raise error(str(file), what, f"a {type(content).__name__}", remedy)
    return content


def _finite(text: str) -> float:
    """A number of a JSON file; NaN and infinity, which JSON does not have, are refused."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text}")
    return value
