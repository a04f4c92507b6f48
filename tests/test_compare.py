"""The comparison: each tool finds what is known of networks that were made by hand, and every network has its row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisebook import _registry, metrics
from noisebook.jacobian import Jacobian
from noisebook.papers import compare, gap


class Blur(nn.Module):
    """A mean over so many pixels a side, and a factor; circular, so that noise is the same everywhere."""

    def __init__(self, side: int, factor: float = 1.0) -> None:
        super().__init__()
        self.side, self.factor = side, factor

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, Y, X) to the same shape."""
        reach = self.side // 2
        padded = nn.functional.pad(image, [reach] * 4, mode="circular")
        return self.factor * nn.functional.avg_pool2d(padded, self.side, 1)


def subject(model: nn.Module, sd: float = 0.1) -> compare.data.Subject:
    """A disc of height one with white noise."""
    places = torch.arange(48) - 23.5
    truth = (places[:, None] ** 2 + places**2 < 15**2).float()[None, None]
    return compare.data._white("by hand", "a disc", "grey value", model, truth, sd)


def test_the_identity_changes_nothing() -> None:
    """A network that does nothing keeps scores, noise, contrast and the width of a step."""
    found = compare.measures.measure([subject(nn.Identity())], realisations=8)
    for scores in (found.psnr, found.ssim, found.rmse):
        np.testing.assert_allclose(scores[0], scores[1])
    np.testing.assert_allclose(found.noise_kept, 1)
    np.testing.assert_allclose(found.transfer, 1)
    assert found.contrast == pytest.approx(1)
    assert found.edge_px == pytest.approx(0.8)
    np.testing.assert_allclose(found.rmse[0], 0.1, rtol=0.05)
    np.testing.assert_allclose(found.sd_ratio, 1, rtol=0.05)


def test_a_blur_is_measured_as_the_blur_it_is() -> None:
    """A mean over five pixels keeps a fifth of white noise's sd, widens a step to four pixels, and stops fine noise."""
    found = compare.measures.measure([subject(Blur(5))] * 2, realisations=16, probes=128)
    np.testing.assert_allclose(found.noise_kept, 1 / 5, rtol=0.05)
    np.testing.assert_allclose(found.sd, 0.1 / 5, rtol=0.35)
    np.testing.assert_allclose(found.sd_ratio, 1, rtol=0.05)
    assert found.contrast == pytest.approx(1)
    assert found.edge_px == pytest.approx(0.8 * 5)
    kernel = np.zeros((48, 48))
    kernel[:5, :5] = 1 / 25
    exact = metrics.radial_spectrum(np.abs(np.fft.fft2(kernel)) ** 2, spacing_mm=1.0)[1]
    np.testing.assert_allclose(found.transfer.mean(0), exact, atol=0.05)


def test_a_lost_edge_has_no_width() -> None:
    """A network that keeps a twentieth of a step has lost it: the table says so, and no number."""
    assert math.isnan(compare.measures.faint_edge(Jacobian(Blur(3, 0.05), torch.zeros(1, 1, 48, 48)))[1])
    found = {"a": compare.measures.measure([subject(Blur(3, 0.05))], realisations=4)}
    assert compare.measures.responses(found)["edge / pixels"] == ["lost"]
    assert list(compare.measures.scores(found)) == [
        "network",
        "PSNR / dB, in → out",
        "SSIM, in → out",
        "RMSE, in → out",
    ]


def test_claims_are_those_of_the_worst_network() -> None:
    """What is claimed of all networks is measured on the one that is furthest from it, image by image, and names it."""
    listed = {"same": [subject(nn.Identity())] * 3, "dim": [subject(Blur(3, 0.8))] * 3}
    found = {name: compare.measures.measure(images, realisations=8) for name, images in listed.items()}
    first, second, third = compare.PAPER.claims(compare.measures.claimed(found, listed))
    np.testing.assert_allclose(first.ours, found["dim"].psnr[1] - found["dim"].psnr[0])
    assert "of dim, which gains least" in first.statement
    np.testing.assert_allclose(second.ours, 1)
    assert "of same, where it is largest" in second.statement
    assert len(third.ours) == 3
    assert third.verdict == "holds"
    with pytest.raises(ValueError, match="measures: expected at least one network, got none"):
        compare.measures.claimed({}, {})


def test_the_images_of_a_network_are_others() -> None:
    """A network is measured on three images of its domain, and another seed brings three others."""
    found = [compare.data.subjects(seed, ["xray-ae", "gap-2d", "regularity-s1-decay-0.001"]) for seed in (0, 1)]
    for name in found[0]:
        images = [one.truth for listed in found for one in listed[name]]
        assert len(images) == 2 * compare.data.IMAGES
        assert all(not torch.equal(a, b) for k, a in enumerate(images) for b in images[:k])


def test_both_ct_networks_see_the_same_place() -> None:
    """The two CT scans are of one patient and place, whichever image it is."""
    sparse, quarter = compare.data._sparse("linearized-i0", 1), compare.data._unpaired("cyclegan-small", 1)
    same = np.corrcoef(sparse.truth.flatten().numpy(), quarter.truth.flatten().numpy())[0, 1]
    assert same > 0.95


def test_every_network_has_its_row_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the table of networks makes a subject of its own; one whose weights are absent is left out."""
    known = _registry.entries()
    assert set(compare.data.MAKERS) <= set(known)
    (one, *_) = compare.data.subjects(only=["xray-ae"])["xray-ae"]
    assert one.name == "xray-ae"
    assert one.model(one.mean).shape == one.truth.shape
    absent = {name: entry for name, entry in known.items() if name != "xray-ae"}
    monkeypatch.setattr(_registry, "entries", lambda: absent)
    with pytest.raises(ValueError, match="got 'xray-ae'"):
        compare.data.subjects(only=["xray-ae"])
    monkeypatch.setattr(_registry, "entries", dict)
    assert compare.data.subjects() == {}


def test_a_network_that_is_not_compared_is_refused() -> None:
    """A mistyped id is refused with the nearest one, one that is in the registry but not compared too."""
    with pytest.raises(ValueError, match=r"networks: expected one of .*, got 'xray-aee'\. Did you mean 'xray-ae'"):
        compare.data.subjects(only=["xray-ae", "xray-aee"])
    with pytest.raises(ValueError, match=r"networks: expected one of .*, got 'linearized-quarter'"):
        compare.data.subjects(only=["linearized-quarter"])


def test_too_little_is_refused() -> None:
    """Fewer than four realisations or no probe are refused."""
    with pytest.raises(ValueError, match="realisations: expected a whole number from 4 on, got 3"):
        compare.measures.measure([subject(nn.Identity())], realisations=3)
    with pytest.raises(ValueError, match="probes"):
        compare.measures.measure([subject(nn.Identity())], probes=0)
    with pytest.raises(ValueError, match="images: expected at least one, got none"):
        compare.measures.measure([])


def test_a_photon_network_keeps_the_photons_and_can_be_traced() -> None:
    """Counts and expected photons have one sum; products replayed from the trace are those of forward mode."""
    torch.manual_seed(0)
    model = compare.data.Photons(gap.model.UNet(depth=2, width=4).eval()).requires_grad_(False)
    counts = torch.poisson(torch.full((1, 1, 16, 16), 2.0))
    assert float(model(counts).sum()) == pytest.approx(float(counts.sum()), rel=1e-5)
    v = torch.randn(1, 1, 16, 16)
    operator = Jacobian(model, counts)
    plain = operator @ v
    operator.linearize()
    assert operator._replay is not None
    torch.testing.assert_close(operator @ v, plain)


def test_noise_is_what_differs_from_the_mean() -> None:
    """The spectrum of white noise on any image is flat at its variance, whatever the image."""
    one = subject(nn.Identity(), sd=0.5)
    images = one.draw(64, torch.Generator().manual_seed(0))[:, 0].double().numpy()
    power = compare.measures.noise_spectrum(images)[1]
    np.testing.assert_allclose(power, 0.25, rtol=0.15)


def test_a_negative_seed_is_refused() -> None:
    """The seed counts images: below 0 there is none, and it is refused by its name."""
    with pytest.raises(ValueError, match="seed: expected a whole number from 0 to 332, got -1"):
        compare.data.subjects(-1)
