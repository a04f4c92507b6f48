"""Numbers in tables and claims are written with the digits that were measured, and in a reader's signs."""

from __future__ import annotations

import pytest

from noisebook import _numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-0.05, "−0.05"),
        (0.322, "0.322"),
        (12345, "12300"),
        (1e-8, "10⁻⁸"),
        (-1e-8, "−10⁻⁸"),
        (1.31e-7, "1.31\u00a0×\u00a010⁻⁷"),
        (2e6, "2\u00a0×\u00a010⁶"),
    ],
)
def test_a_number(value: float, text: str) -> None:
    """At most three significant digits, a true minus, and powers of ten where zeros would have to be counted."""
    assert _numbers.number(value) == text


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (0.00737, 0.12, "0.01 ± 0.12"),
        (-0.223, 0.36, "−0.22 ± 0.36"),
        (-0.001, 0.36, "0.00 ± 0.36"),
        (3.17, 0.2, "3.17 ± 0.20"),
        (12345, 120, "12340 ± 120"),
        (5.16e-16, 1.2e-17, "(5.16 ± 0.12) × 10⁻¹⁶"),
        (9.87e-5, 1.2e-4, "(1.0 ± 1.2) × 10⁻⁴"),
        (2.0, 0.0, "2 ± 0"),
        (1958497.0, 0.0, "1,958,497 ± 0"),
    ],
)
def test_a_mean_has_the_decimals_of_its_spread(mean: float, spread: float, text: str) -> None:
    """Two digits of the spread, the mean to the same place; a power of ten is common to both."""
    assert _numbers.with_spread(mean, spread).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1958497.0, "1,958,497"), (-1200.0, "−1,200"), (0.0, "0"), (0.25, "0.25"), (1e30, "10³⁰")],
)
def test_what_was_counted_keeps_its_digits(value: float, text: str) -> None:
    """Whole numbers that a float tells apart have all digits, in groups of three; others three significant ones."""
    assert _numbers.counted(value) == text


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ([37.0, 36.1, 25.4], ["37.0", "36.1", "25.4"]),
        ([0.159, 0.0362], ["0.159", "0.036"]),
        ([1.08, -0.00525], ["1.080", "−0.005"]),
        ([486409, 1234, ""], ["486,409", "1,234", ""]),
        ([5.53, "lost"], ["5.53", "lost"]),
        ([1e-8, 0.0], ["10⁻⁸", "0"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_a_column_has_decimals_in_common(values: list[object], cells: list[str]) -> None:
    """Numbers below each other have one number of decimals, whole ones none; texts stay as they are."""
    assert _numbers.column(values) == cells
