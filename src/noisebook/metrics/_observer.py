"""What an observer can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error


def laguerre_gauss(size: int, width: float, channels: int) -> np.ndarray:
    """Laguerre-Gauss channels about the middle of a square patch, each of unit energy on the continuum.

    Channel n is ``sqrt(2)/width exp(-pi r²/width²) L_n(2 pi r²/width²)``: round, for a round signal of known place.

    Args:
        size: Pixels a side; the middle lies at (size - 1) / 2.
        width: The parameter a, in pixels; a Gaussian signal of sd s is channel 0 for a = s sqrt(2 pi).
        channels: Their number, 6 to 10 as a rule.

    Returns:
        (channels, size, size) float64.

    Source: B. D. Gallas, H. H. Barrett, JOSA A 20(9), 2003, doi 10.1364/JOSAA.20.001725.
    """
    for name, value in (("size", size), ("width", width), ("channels", channels)):
        check_positive(name, value)
    axis = np.arange(size) - (size - 1) / 2
    square = 2 * math.pi * (axis[:, None] ** 2 + axis**2) / width**2
    waves = [np.polynomial.laguerre.lagval(square, np.eye(channels)[n]) for n in range(channels)]
    found: np.ndarray = math.sqrt(2) / width * np.exp(-square / 2) * np.stack(waves)
    return found


def detectability(
    absent: np.ndarray, present: np.ndarray, channels: np.ndarray, groups: np.ndarray | Sequence[object] | None = None
) -> float:
    """Detectability d' of a signal by the channelised Hotelling observer, free of the bias of few patches.

    The patches are seen through the channels alone, with outputs v. With dv the difference of the classes' means and S
    the mean of their covariances, ``d'² = dv' S⁻¹ dv``. From few patches this comes out too large: the noise of dv adds
    ``trace(S⁻¹ Cov(dv))``, and the noise of S a factor. Both are taken off, so that d'² can come out negative.

    Without ``groups`` all patches must be independent and normal; the mean of d'² is then right for any number of them.
    It is not for patches that share anything: a background that stands in both classes cancels in dv, and ten views of
    one patient are not ten patients.

    With ``groups`` only these must be independent. Each counts once, whatever its size. Cov(dv) is estimated from the
    groups' own differences, so that, but for the factor, d'² is the mean of ``D' S⁻¹ E`` over all pairs of different
    groups, D and E being the differences of their means. The factor is 1 - (K + 1) / f. For independent patches f is
    their number less two; here it is that of a Wishart matrix which varies as much, along dv, as S does from group to
    group. What remains is of second order in one over the number of groups: a few per cent for 40 groups, 8 channels.

    Args:
        absent: (M, Y, X), patches without the signal.
        present: (N, Y, X), patches with it in the middle.
        channels: (K, Y, X), such as `laguerre_gauss`.
        groups: (N,), the group that absent[i] and present[i] belong to, such as the patient; M = N.

    Returns:
        d', without unit: an observer who must choose between two images is right with probability Phi(d' / sqrt 2).
        Negative: minus the root of minus d'², no more than noise.

    Raises:
        ValueError: If shapes differ, values are not finite, there are too few images or groups for the channels, or the
            channels' outputs are linearly dependent.

    Source: H. H. Barrett, J. Yao, J. P. Rolland, K. J. Myers, PNAS 90, 1993, doi 10.1073/pnas.90.21.9758. Corrections
    are those of the Mahalanobis distance: G. J. McLachlan, Discriminant Analysis, 1992, section 3.2; from pairs of
    different groups: J. Diedrichsen, S. Provost, H. Zareamoghaddam, 2016, arXiv 1607.01371.
    """
    check_rank("channels", channels, 3, "(K, Y, X)")
    count = len(channels)
    outputs = []
    for name, images in (("absent", absent), ("present", present)):
        check_shape(name, images, (None, *channels.shape[1:]))
        check_finite(name, images)
        if len(images) < 2:
            raise error(name, "at least 2 images", len(images))
        outputs.append(images.reshape(len(images), -1).astype(np.float64) @ channels.reshape(count, -1).T)
    if groups is None:
        square = _of_independent(outputs[0], outputs[1])
    else:
        check_shape("present", present, absent.shape)
        check_shape("groups", labels := np.asarray(groups), (len(absent),))
        square = _of_groups(outputs[0], outputs[1], np.unique(labels, return_inverse=True)[1])
    return math.copysign(math.sqrt(abs(square)), square)


def _of_independent(absent: np.ndarray, present: np.ndarray) -> float:
    """d'² from channel outputs (M, K) and (N, K) of independent patches."""
    count, numbers = int(absent.shape[1]), (len(absent), len(present))
    freedom = sum(numbers) - 2
    if freedom <= count + 1:
        raise error("images", f"more than {count + 3} for {count} channels", sum(numbers))
    scatter = ((numbers[0] - 1) * _covariance(absent) + (numbers[1] - 1) * _covariance(present)) / freedom
    difference = present.mean(0) - absent.mean(0)
    square = (freedom - count - 1) / freedom * float(difference @ _solve(scatter, difference))
    return square - count * (1 / numbers[0] + 1 / numbers[1])


def _of_groups(absent: np.ndarray, present: np.ndarray, member: np.ndarray) -> float:
    """d'² from channel outputs (N, K) of pairs of patches, ``member`` (N,) the number of each pair's group."""
    count, number = absent.shape[1], int(member.max()) + 1
    if number <= count + 3:
        raise error("groups", f"more than {count + 3} for {count} channels", number)

    def means(values: np.ndarray) -> np.ndarray:
        total = np.zeros((number, *values.shape[1:]))
        np.add.at(total, member, values)
        return total / np.bincount(member).reshape(-1, *(1,) * (values.ndim - 1))

    mean_absent, mean_present = means(absent), means(present)
    centred = np.stack([absent - mean_absent.mean(0), present - mean_present.mean(0)])
    scatters = means(np.einsum("cnk,cnl->nkl", centred, centred) / 2)
    lost = (_covariance(mean_absent) + _covariance(mean_present)) / 2 / number  # by centring on the sample's own mean
    scatter = scatters.mean(0) + lost
    differences = mean_present - mean_absent
    difference = differences.mean(0)
    template = _solve(scatter, difference)
    square = float(difference @ template)
    bias = float(np.trace(_solve(scatter, _covariance(differences) / number)))
    along = (scatters - scatters.mean(0)) @ template
    spread = float((along.T * _solve(scatter, along.T)).sum()) / (number * (number - 1))
    return (1 - spread / square if square > 0 else 1.0) * (square - bias)


def _covariance(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.cov(values, rowvar=False).reshape(values.shape[1], values.shape[1])
    return found


def _solve(scatter: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``S⁻¹ values``, or an error that tells why S has no inverse."""
    if np.linalg.matrix_rank(scatter) < len(scatter):
        raise error("channels", "linearly independent outputs", "others", "Take fewer channels or other images.")
    found: np.ndarray = np.linalg.solve(scatter, values)
    return found
