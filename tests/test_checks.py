"""The checks at the public doors say what was expected, what was got, and what to do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from noisebook import _checks


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_the_first_bad_value_is_named(make: type) -> None:
    """NaN and infinity are counted and the first is located; finite arrays, of integers too, pass."""
    _checks.check_finite("x", make([1, 2, 3]))
    with pytest.raises(ValueError, match=r"x: expected finite values, got 2 that are not, the first at index \(0, 1\)"):
        _checks.check_finite("x", make([[0.0, float("nan")], [float("inf"), 1.0]]))


def test_the_nearest_word_is_named() -> None:
    """A slip of the keyboard names the word meant; nonsense lists all."""
    with pytest.raises(
        ValueError, match=r"expected one of gap, linearized, got 'linearised'\. Did you mean 'linearized'\?"
    ):
        _checks.check_one_of("chapter", "linearised", ("linearized", "gap"))
    assert _checks.nearest("qqq", ["b", "a"]) == "Known: a, b."
    assert _checks.nearest("qqq", []) == "Known: none."


def test_a_device_is_a_known_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is always there, CUDA only where torch finds a GPU; another word is refused with those that are known."""
    _checks.check_device("cpu")
    _checks.check_device("auto", ("auto", "cpu", "cuda"))
    with pytest.raises(ValueError, match="device: expected one of cpu, cuda, got 'gpu'"):
        _checks.check_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device: expected a GPU that torch can use, got none\. Take device=cpu"):
        _checks.check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _checks.check_device("cuda")


def test_shapes_ranks_signs_and_pixels() -> None:
    """Each check passes what fits and names expected and got otherwise."""
    array = np.zeros((2, 3))
    _checks.check_shape("a", array, (None, 3))
    _checks.check_rank("a", array, 2, "(Y, X)")
    _checks.check_positive("n", 0.1)
    _checks.check_pixel((1, 2), 2, 3)
    with pytest.raises(ValueError, match=r"a: expected shape \('any', 4\), got shape \(2, 3\)"):
        _checks.check_shape("a", array, (None, 4))
    with pytest.raises(ValueError, match=r"a: expected 3 axes \(Z, Y, X\), got 2 in shape \(2, 3\)"):
        _checks.check_rank("a", array, 3, "(Z, Y, X)")
    with pytest.raises(ValueError, match="n: expected a number above zero, got nan"):
        _checks.check_positive("n", float("nan"))
    with pytest.raises(ValueError, match=r"within 0\.\.1 and 0\.\.2, got \(0, -1\)"):
        _checks.check_pixel((0, -1), 2, 3)


def test_a_refusal_does_not_wait_for_torch() -> None:
    """Importing the checks imports neither torch nor numpy: the command refuses a mistyped word at once."""
    code = "import sys, noisebook._checks; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
