"""The channelised Hotelling observer on known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from noisebook import metrics


def test_laguerre_gauss_channels_are_orthonormal() -> None:
    """On a large, fine patch the channels have unit energy and no overlap; channel 0 is a Gaussian."""
    channels = metrics.laguerre_gauss(81, 16, 6)
    flat = channels.reshape(6, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-6)
    assert channels[0, 40, 40] == pytest.approx(math.sqrt(2) / 16)
    assert channels[0, 40, 48] / channels[0, 40, 40] == pytest.approx(math.exp(-math.pi / 4))
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        metrics.laguerre_gauss(9, 0, 3)


def gaussian_task(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """A Gaussian of height 0.5 and sd 3 in white noise of sd 1, and the d' of the ideal observer."""
    axis = np.arange(33) - 16
    signal = 0.5 * np.exp(-(axis[:, None] ** 2 + axis**2) / 18)
    noise = np.random.default_rng(seed).normal(size=(2 * count, 33, 33))
    return noise[:count], noise[count:] + signal, 0.5 * 3 * math.sqrt(math.pi)


def test_the_observer_reaches_the_analytic_detectability() -> None:
    """For a Gaussian signal in white noise d' is height times sd times the root of pi: the ideal, within 3 %."""
    absent, present, ideal = gaussian_task(4000)
    for channels in (metrics.laguerre_gauss(33, 3 * math.sqrt(2 * math.pi), 6), metrics.laguerre_gauss(33, 12, 10)):
        assert metrics.detectability(absent, present, channels) == pytest.approx(ideal, rel=0.03)


def test_few_images_do_not_raise_the_detectability() -> None:
    """The mean of d'² over draws of 30 images is the analytic one within 5 %, and noise alone has about none."""
    channels = metrics.laguerre_gauss(33, 3 * math.sqrt(2 * math.pi), 6)
    tasks = [gaussian_task(15, seed) for seed in range(300)]
    found = np.mean([metrics.detectability(a, p, channels) ** 2 for a, p, _ in tasks])
    assert found == pytest.approx(tasks[0][2] ** 2, rel=0.05)
    noise = gaussian_task(2000)[0]
    assert abs(metrics.detectability(noise[:1000], noise[1000:], channels)) < 0.15


SHOWN = 0.3 * np.arange(1, -1, -0.25)
"""A signal as eight channels see it."""


def patients(
    random: np.random.Generator, signal: np.ndarray, background: float = 1.0, gain: float = 0.0, count: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Patches of patients, one pixel for each of eight channels, with their numbers and the true d'².

    Each patient has an anatomy in either lung, of sd ``background``, and shows the signal 1 ± ``gain`` times as strong;
    four patches of each lung have noise of sd 0.3 of their own. A patient's patches serve in both classes.
    """
    anatomy = background * random.normal(size=(count, 2, 1, 8))
    absent, present = (anatomy + 0.3 * random.normal(size=(count, 2, 4, 8)) for _ in range(2))
    present = present + (1 + gain * random.normal(size=(count, 1, 1, 1))) * signal
    covariance = (background**2 + 0.09) * np.eye(8) + gain**2 * np.outer(signal, signal) / 2
    whose = np.arange(count).repeat(8)
    truth = float(signal @ np.linalg.solve(covariance, signal))
    return absent.reshape(-1, 1, 8), present.reshape(-1, 1, 8), whose, truth


def squares(draws: int, grouped: bool = True, **task: Any) -> tuple[np.ndarray, float]:
    """d'², with its sign, of so many draws of `patients`; and the true one."""
    random, channels, found = np.random.default_rng(0), np.eye(8)[:, None], []
    for _ in range(draws):
        absent, present, whose, truth = patients(random, **task)
        value = metrics.detectability(absent, present, channels, whose if grouped else None)
        found.append(value * abs(value))
    return np.array(found), truth


@pytest.mark.parametrize("task", [{}, {"gain": 0.5}, {"background": 0.1}, {"count": 100}], ids=str)
def test_patients_who_serve_in_both_classes_give_the_true_detectability(task: dict[str, float]) -> None:
    """The mean of d'² over draws of 40 patients is the analytic one within 4 %, a faint signal's within Monte Carlo."""
    found, truth = squares(200, signal=SHOWN, **task)
    assert found.mean() == pytest.approx(truth, rel=0.04)
    assert found.std() < 0.5 * truth
    faint, truth = squares(200, signal=0.2 * SHOWN, **task)
    assert abs(faint.mean() - truth) < 4 * faint.std() / math.sqrt(200)


def test_patches_of_a_patient_are_not_independent() -> None:
    """What is taken off for independent patches makes a faint signal vanish, which the groups' own differences show."""
    found, truth = squares(60, signal=0.2 * SHOWN)
    wrong, _ = squares(60, grouped=False, signal=0.2 * SHOWN)
    assert (found > 0).mean() > 0.9
    assert (wrong < 0).all()
    assert abs(found.mean() - truth) < 3 * found.std() / math.sqrt(60)
    assert wrong.mean() < truth - 20 * wrong.std() / math.sqrt(60)


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_no_signal_gives_no_detectability_on_average(background: float) -> None:
    """Without a signal d'² is 0 within three standard errors; it is negative about as often as not."""
    found, truth = squares(400, signal=0 * SHOWN, background=background)
    assert truth == 0
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(400)
    assert 0.4 < (found < 0).mean() < 0.7


def test_a_group_counts_once() -> None:
    """Patches that come twice in their group change nothing, nor do other names and another order of the groups."""
    absent, present, whose, _ = patients(np.random.default_rng(0), SHOWN)
    channels = np.eye(8)[:, None]
    plain = metrics.detectability(absent, present, channels, whose)
    twice = [np.concatenate([values, values[whose < 5]]) for values in (absent, present, whose)]
    assert metrics.detectability(*twice[:2], channels, twice[2]) == pytest.approx(plain)
    names = [f"patient {number}" for number in whose[::-1]]
    assert metrics.detectability(absent[::-1], present[::-1], channels, names) == pytest.approx(plain)


def test_groups_of_one_independent_pair_agree_with_none() -> None:
    """Where nothing is shared both corrections are right: d' is the same within 1 %."""
    absent, present, _ = gaussian_task(3000)
    channels = metrics.laguerre_gauss(33, 9, 6)
    plain = metrics.detectability(absent, present, channels)
    assert metrics.detectability(absent, present, channels, range(3000)) == pytest.approx(plain, rel=0.01)


def test_groups_that_cannot_serve_are_refused() -> None:
    """Too few groups for the channels, labels for other patches, and classes that are no pairs."""
    absent, present, whose, _ = patients(np.random.default_rng(0), SHOWN, count=12)
    channels = np.eye(8)[:, None]
    metrics.detectability(absent, present, channels, whose)
    with pytest.raises(ValueError, match="groups: expected more than 11 for 8 channels, got 11"):
        metrics.detectability(absent[8:], present[8:], channels, whose[8:])
    with pytest.raises(ValueError, match=r"groups: expected shape \(96,\), got shape \(95,\)"):
        metrics.detectability(absent, present, channels, whose[1:])
    with pytest.raises(ValueError, match="present: expected shape"):
        metrics.detectability(absent, present[1:], channels, whose)


def test_detectability_sees_what_is_lost_not_what_is_scaled() -> None:
    """Any gain and offset leave d' as it is; a blur to a mean over the patch removes it."""
    absent, present, _ = gaussian_task(200)
    channels = metrics.laguerre_gauss(33, 9, 4)
    plain = metrics.detectability(absent, present, channels)
    assert metrics.detectability(3 * absent + 1, 3 * present + 1, channels) == pytest.approx(plain)
    assert metrics.detectability(absent, present * 0 + absent, channels) < 0.5 * plain


@pytest.mark.parametrize(
    ("absent", "present", "channels", "message"),
    [
        (np.zeros((9, 5, 5)), np.zeros((9, 5, 4)), np.ones((1, 5, 5)), "present: expected shape"),
        (np.zeros((1, 5, 5)), np.zeros((9, 5, 5)), np.ones((1, 5, 5)), "absent: expected at least 2 images"),
        (np.zeros((4, 5, 5)), np.zeros((4, 5, 5)), np.ones((5, 5, 5)), "more than 8 for 5 channels, got 8"),
        (np.zeros((9, 5, 5)), np.zeros((9, 5, 5)), np.ones((1, 5, 5)), "linearly independent outputs"),
        (np.full((9, 5, 5), np.nan), np.zeros((9, 5, 5)), np.ones((1, 5, 5)), "absent: expected finite"),
    ],
)
def test_an_observer_without_enough_to_see_is_refused(
    absent: np.ndarray, present: np.ndarray, channels: np.ndarray, message: str
) -> None:
    """Other shapes, too few images, and channels that all say the same have no d'."""
    with pytest.raises(ValueError, match=message):
        metrics.detectability(absent, present, channels)
