"""The loader of photon counts, and how counts are told from what merely looks alike."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from noisebook.datasets import count_report, read_counts

COUNTS = np.random.default_rng(0).poisson(3.0, (5, 12, 17)).astype(np.uint16)


@pytest.mark.parametrize("kind", ["plain.tif", "imagej.tiff", "array.npy", "array.npz"])
def test_every_kind_of_file_gives_the_same_stack(kind: str, tmp_path: Path) -> None:
    """Plain and ImageJ TIFF stacks, .npy and .npz are read back exactly, in their own type."""
    path = tmp_path / kind
    if kind.endswith(".npy"):
        np.save(path, COUNTS)
    elif kind.endswith(".npz"):
        np.savez(path, counts=COUNTS)
    else:
        tifffile.imwrite(path, COUNTS, imagej=kind.startswith("imagej"), photometric="minisblack")
    found = read_counts(path)
    assert found.dtype == COUNTS.dtype
    np.testing.assert_array_equal(found, COUNTS)


def test_a_single_page_is_an_image(tmp_path: Path) -> None:
    """One page gives two axes, also where a writer put axes of length 1 in front."""
    tifffile.imwrite(tmp_path / "one.tif", COUNTS[0])
    np.save(tmp_path / "one.npy", COUNTS[None, :1])
    np.testing.assert_array_equal(read_counts(tmp_path / "one.tif"), COUNTS[0])
    np.testing.assert_array_equal(read_counts(tmp_path / "one.npy"), COUNTS[0])


def test_an_array_of_several_is_named(tmp_path: Path) -> None:
    """An .npz with two arrays asks for a name, and takes it."""
    np.savez(tmp_path / "two.npz", first=COUNTS, second=2 * COUNTS)
    np.testing.assert_array_equal(read_counts(tmp_path / "two.npz", "second"), 2 * COUNTS)
    with pytest.raises(
        ValueError, match=r"expected one array, got 2: first, second\. Name it in Python, or save it alone"
    ):
        read_counts(tmp_path / "two.npz")
    with pytest.raises(ValueError, match=r"got 'secnd'\. Did you mean 'second'"):
        read_counts(tmp_path / "two.npz", "secnd")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """Missing, unknown, damaged, pickled and one-dimensional files are named."""
    with pytest.raises(ValueError, match="expected a file of photon counts, got nothing there"):
        read_counts(tmp_path / "none.tif")
    with pytest.raises(ValueError, match="suffix of the file: expected one of"):
        read_counts(tmp_path / "none.png")
    for name in ("bad.tif", "bad.npz", "bad.npy"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 no such file" if name.endswith("z") else b"II nothing at all")
        with pytest.raises(ValueError, match=r"expected (a whole|an array)"):
            read_counts(tmp_path / name)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="expected an array of numbers"):
        read_counts(tmp_path / "object.npy")
    np.save(tmp_path / "line.npy", np.arange(4))
    with pytest.raises(ValueError, match=r"an image or a stack of numbers, got int64 of shape \(4,\)"):
        read_counts(tmp_path / "line.npy")


def test_poisson_counts_look_like_counts() -> None:
    """From a photon in a hundred pixels to a hundred in each, as integers or as whole floats."""
    random = np.random.default_rng(1)
    for mean in (0.01, 1.0, 100.0):
        report = count_report(random.poisson(mean, (200, 200)).astype(np.float32))
        assert report.counts, report.verdict
        assert report.whole
        assert report.mean == pytest.approx(mean, rel=0.1)
        assert report.variance_to_mean == pytest.approx(1, rel=0.1)


RANDOM = np.random.default_rng(2).poisson(6.0, (60, 60)).astype(float)
BAD = {
    "offset": (RANDOM + 100, "subtract the offset"),
    "gain": (3 * RANDOM, "multiples of 3; divide by this gain"),
    "negative": (RANDOM - 4, "no photon counts: .* values are no counts, the first -"),
    "fraction": (RANDOM / 7, "no photon counts: .* values are no counts, the first 0"),
    "nan": (np.where(RANDOM > 11, np.nan, RANDOM), "no photon counts: .* the first nan"),
    "smooth": (np.tile(np.round(4 + 4 * np.sin(np.arange(60) / 9)), (60, 1)), "far below Poisson's 1"),
    "clipped": (np.minimum(RANDOM, 8), "saturated: .* have the largest value 8"),
    "empty": (np.zeros((4, 4)), "no photon at all"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_only_looks_alike_is_told(fault: str) -> None:
    """Offset, gain, smoothing, clipping, and values that are no counts each have their verdict."""
    array, message = BAD[fault]
    report = count_report(array)
    assert not report.counts
    assert re.search(message, report.verdict), report.verdict


def test_a_row_is_no_image() -> None:
    """One axis, or one column, can't be judged."""
    for shape in ((5,), (5, 1), (0, 4)):
        with pytest.raises(ValueError, match="array: expected an image of at least 1 x 2 pixels"):
            count_report(np.ones(shape))
