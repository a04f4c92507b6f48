"""The title picture is drawn from the phantom and is the one that lies in the folder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

IMAGES = Path(__file__).resolve().parents[2] / "book" / "images"


def test_two_drawings_are_equal(title: ModuleType) -> None:
    """The same script draws the same lines every time."""
    np.testing.assert_array_equal(title.profiles(300), title.profiles(300))


def test_the_noise_fades_to_the_right(title: ModuleType) -> None:
    """The left fifth of the profiles is several times as rough as the right fifth."""
    rough = np.abs(np.diff(title.profiles(1000), 2, axis=1)).mean(axis=0)
    assert rough[:200].mean() > 10 * rough[-200:].mean()


@pytest.fixture(scope="module")
def drawn(title: ModuleType) -> np.ndarray:
    """What the script draws: coverage in 0..1."""
    coverage: np.ndarray = title.mask(title.WIDTH, title.HEIGHT)
    return coverage


@pytest.mark.parametrize("name", ["title.png", "title-dark.png"])
def test_the_committed_picture_is_this_drawing(drawn: np.ndarray, name: str) -> None:
    """The picture in the folder has the coverage that the script draws, but for the rounding of its palette."""
    with Image.open(IMAGES / name) as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3] / 255
    assert alpha.shape == drawn.shape
    assert np.abs(alpha - drawn).mean() < 0.02
    assert np.corrcoef(alpha.ravel(), drawn.ravel())[0, 1] > 0.98
