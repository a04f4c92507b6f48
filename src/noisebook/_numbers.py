"""Numbers as a reader wants them: a true minus, powers of ten written as such, no digit beyond what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SMALL, _LARGE = 1e-3, 1e6  # outside of these a power of ten is split off
_EXACT = 2.0**53  # whole numbers beyond are not told apart
_TIED = "\N{NO-BREAK SPACE}"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits at most: ``−0.05``, ``1.31 × 10⁻⁷``, ``10⁻⁸``."""
    if value == 0 or _SMALL <= abs(value) < _LARGE:
        return _minus(f"{float(f'{value:.{digits}g}'):.{max(digits, 6)}g}")
    factor, power = f"{value:.{digits - 1}e}".split("e")
    factor = factor.rstrip("0").rstrip(".") if "." in factor else factor
    ten = "10" + str(int(power)).translate(_RAISED)
    return {"1": ten, "-1": f"−{ten}"}.get(factor) or _minus(f"{factor}{_TIED}×{_TIED}{ten}")


def counted(value: float) -> str:
    """A whole number with all its digits in groups of three: ``1,958,497``; any other as `number` has it."""
    return _minus(f"{value:,.0f}") if float(value).is_integer() and abs(value) < _EXACT else number(value)


def with_spread(mean: float, spread: float, digits: int = 2) -> str:
    """A mean and its spread, the spread with so many significant digits, the mean to the same decimal place."""
    between = f"{_TIED}±{_TIED}"
    if not spread:
        return f"{counted(mean)}{between}0"
    size = max(abs(mean), spread)
    power = 0 if _SMALL <= size < _LARGE else math.floor(math.log10(size))
    mean, spread = mean / 10.0**power, spread / 10.0**power
    places = digits - 1 - math.floor(math.log10(spread))
    shown = between.join(_minus(f"{round(value, places):.{max(places, 0)}f}") for value in (mean, spread))
    return f"({shown}){_TIED}×{_TIED}10{str(power).translate(_RAISED)}" if power else shown


def column(values: Sequence[object]) -> list[str]:
    """The cells of a table's column: numbers with decimals in common, whole ones in groups of three, texts as they are.

    The largest number has three significant digits, or four if the smallest would have less than two.
    """
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    if all(value.is_integer() for value in numbers) and not any(isinstance(v, float) for v in values):
        return [_minus(f"{v:,}") if isinstance(v, int) else str(v) for v in values]
    sizes = [abs(value) for value in numbers if value] or [1.0]
    if max(sizes) < _SMALL or max(sizes) >= _LARGE:
        return [number(v) if isinstance(v, int | float) else str(v) for v in values]
    largest, smallest = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    places = max(0, min(max(2 - largest, 1 - smallest), 3 - largest))
    return [_minus(f"{v:.{places}f}") if isinstance(v, int | float) else str(v) for v in values]


def _minus(text: str) -> str:
    """With a minus in place of the hyphen, and none before zero."""
    return text.replace("-", "−") if text.strip("-0.,") else text.removeprefix("-")
