"""Scores of the CycleGAN chapter on known answers: conventions, intervals, texture, residuals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from torch import nn

from noisebook import metrics
from noisebook.papers import cyclegan


def slices(count: int = 3, sd: float = 20.0, seed: int = 0) -> np.ndarray:
    """Noise about 40 HU in a square of tissue in air, one bright pixel of 1400 HU, (count, 128, 128) float32."""
    hu = np.full((count, 128, 128), -1000.0)
    hu[:, 20:108, 20:108] = 40
    hu += np.random.default_rng(seed).normal(0, sd, hu.shape) if sd else 0
    hu[:, 64, 64] = 1400
    return hu.astype(np.float32)


def test_psnr_follows_from_the_rmse_under_every_convention() -> None:
    """An offset of 4 HU within window and range: 40 dB at 400 HU, 60 dB at 4000, and 2400/4 at the own maximum."""
    truth = slices(1, 0)
    truth[truth < -500] = -100
    found = cyclegan.measures.scores(truth + 4, truth)["psnr"][:, 0]
    expected = dict.fromkeys(cyclegan.measures.CONVENTIONS, 20 * math.log10(2400 / 4))
    expected |= {"not windowed, range 400 HU": 40.0, "not windowed, range 4000 HU": 60.0}
    clipped = np.sqrt(1 - 1 / truth.size) * 4  # the bright pixel is beyond the window
    expected[cyclegan.measures.WINDOW_RULE] = 20 * math.log10(400 / clipped)
    assert list(found) == pytest.approx(list(expected.values()), abs=1e-3)


def test_air_does_not_count_where_it_is_clipped() -> None:
    """What differs below -1000 HU is no error to the authors, what differs outside the window none to the window."""
    truth = slices(1, 0)
    other = truth.copy()
    other[truth < -500] -= 700
    found = dict(zip(cyclegan.measures.CONVENTIONS, cyclegan.measures.scores(other, truth)["psnr"][:, 0], strict=True))
    assert found[cyclegan.measures.AUTHORS_RULE] == found[cyclegan.measures.WINDOW_RULE] == math.inf
    assert found["not windowed, range 400 HU"] < 10


def test_ssim_depends_on_the_range_and_nothing_else() -> None:
    """The authors' range of 2 on images in [0, 1] scores higher than 1 does, on the same images."""
    found = cyclegan.measures.scores(slices(2, 20, 1), slices(2, 20, 2))
    assert (found["psnr"][0] == found["psnr"][1]).all()
    assert (found["ssim"][0] > found["ssim"][1]).all()
    ours, theirs = cyclegan.measures.own_maximum(slices(1, 20, 1)[0], slices(1, 20, 2)[0])
    assert found["ssim"][1][0] == pytest.approx(metrics.ssim(ours, theirs, data_range=1), abs=0.05)


def test_conventions_stand_side_by_side() -> None:
    """One row a convention, the identity first, and conventions are more than ten decibels apart."""
    truth = slices(2, 0)
    noisy = slices(2, 30)
    table = cyclegan.measures.convention_table({"quarter dose": noisy, "output": (noisy + truth) / 2}, truth)
    assert table["convention"] == list(cyclegan.measures.CONVENTIONS)
    assert list(table)[1:3] == ["quarter dose: PSNR / dB", "quarter dose: SSIM"]
    first = [float(str(cell)) for cell in table["quarter dose: PSNR / dB"]]
    second = [float(str(cell)) for cell in table["output: PSNR / dB"]]
    assert max(first) - min(first) > 10
    assert second[-1] - first[-1] == pytest.approx(20 * math.log10(2), abs=0.01)


def test_gains_have_intervals_over_patients() -> None:
    """Half of the noise gains 6.02 dB in every slice, so the interval is narrow; the identity has none."""
    truth, noisy = slices(4, 0), slices(4, 30)
    images = {"quarter dose": noisy, "output": (noisy + truth) / 2}
    table = cyclegan.measures.convention_table(images, truth, ("secret", "secret", "b", "c"))
    assert [name for name in table if "gain" in name] == ["output: PSNR / dB, gain, 95 %", "output: SSIM, gain, 95 %"]
    assert table["output: PSNR / dB, gain, 95 %"][-1] == "+6.02 to +6.02"
    assert "secret" not in str(table)


def test_rmse_stands_beside_the_identity_with_intervals() -> None:
    """Half of the noise: half of the RMSE, a change of -50 % with an interval of no width; patients are not shown."""
    truth, noisy = slices(4, 0), slices(4, 30)
    images = {"quarter dose": noisy, "output": (noisy + truth) / 2}
    table = cyclegan.measures.rmse_table(
        images, {"truth": truth, "full dose": truth + 5}, ("secret", "secret", "b", "c")
    )
    assert table["image"] == ["quarter dose", "output"] * 2
    assert table["change / %"][:2] == ["+0.0", "-50.0"]
    assert table["95 % of change"][1] == "-50.00 to -50.00"
    low, high = (float(part) for part in str(table["95 %"][0]).split(" to "))
    assert low < float(str(table["RMSE / HU"][0])) < high
    assert "secret" not in str(table)


def test_flat_regions_are_tissue_without_edges() -> None:
    """Regions of the grid inside the square, none on its border, in air or on the bright pixel."""
    regions = cyclegan.measures.flat_regions(slices(1, 0), 16)
    assert (0, 24, 24) in regions
    assert not {(0, 16, 24), (0, 0, 0), (0, 56, 56)} & set(regions)
    assert all(20 <= y <= 92 and 20 <= x <= 92 for _, y, x in regions)
    with pytest.raises(ValueError, match="truth: expected flat regions of 64 pixels a side, got none"):
        cyclegan.measures.flat_regions(slices(1, 0), 64)


def test_smooth_noise_has_a_lower_mean_frequency() -> None:
    """White noise keeps its variance in the spectrum and its mean frequency; blurred, both fall."""
    truth, random = slices(3, 0), np.random.default_rng(0)
    white = random.normal(0, 10, truth.shape)
    regions = cyclegan.measures.flat_regions(truth, 16)
    _, power, fine = cyclegan.measures.texture(truth + white, truth, regions, side=16, spacing_mm=0.5)
    smooth = ndimage.gaussian_filter(white, (0, 1, 1))
    frequency, less, coarse = cyclegan.measures.texture(truth + smooth, truth, regions, side=16, spacing_mm=0.5)
    assert power == pytest.approx(25, rel=0.3)
    assert power.mean() == pytest.approx(25, rel=0.1)
    assert fine == pytest.approx(17 / 24, rel=0.02)  # two thirds of Nyquist, on eight rings
    assert coarse < 0.6 * fine
    assert less[-1] < 0.01 * power[-1]
    assert frequency[-1] == pytest.approx(1, rel=0.03)
    with pytest.raises(ValueError, match="regions: expected at least one"):
        cyclegan.measures.texture(truth, truth, [], spacing_mm=0.5)


def constant(offset: float) -> cyclegan.model.Generator:
    """A generator that adds a number of HU everywhere."""
    net = cyclegan.model.Generator(2, 1, last=0, scale_hu=400.0).eval()
    nn.init.constant_(net.last_layer[1].bias, math.atanh(offset / 400))
    return net


def test_residuals_are_those_of_the_way_there_and_back() -> None:
    """+10 HU one way and -4 HU back leave 6 HU of both cycles; identities are left at 10 and 4 HU."""
    found = cyclegan.measures.residuals_hu(constant(10), constant(-4), slices(2), slices(1))
    expected = {"cycle_quarter": 6, "cycle_full": 6, "identity_full": 10, "identity_quarter": 4}
    assert found == pytest.approx(expected, abs=0.01)


def test_scores_that_cannot_be_are_refused() -> None:
    """Other shapes, single slices, and references of air."""
    with pytest.raises(ValueError, match="reference: expected shape"):
        cyclegan.measures.scores(slices(2), slices(3))
    with pytest.raises(ValueError, match=r"image: expected 3 axes \(Z, Y, X\)"):
        cyclegan.measures.rmse_hu(slices()[0], slices()[0])
    with pytest.raises(ValueError, match="reference: expected something above -1000 HU"):
        cyclegan.measures.own_maximum(slices()[0], np.full((128, 128), -1024.0))


def test_slices_of_unknown_patients_count_by_themselves() -> None:
    """Without ids the intervals are over slices, as if each were of another patient."""
    truth = slices(3, 0)
    outputs = {"input": truth + 4, "output": truth + np.array([1, 2, 3], np.float32)[:, None, None]}
    unknown, known = (cyclegan.measures.rmse_table(outputs, {"truth": truth}, ids) for ids in ((), ("a", "b", "c")))
    assert unknown == known
