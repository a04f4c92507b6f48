"""The xray chapter's panels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noisebook.papers import xray


@pytest.fixture
def images() -> torch.Tensor:
    """Two ramps, 8-bit."""
    ramp = torch.linspace(40, 210, 32).to(torch.uint8)
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32)])[:, None].contiguous()


def test_every_corruption_of_the_same_images_is_shown(images: torch.Tensor) -> None:
    """The six by name and the authors' wrapped one, each as `corrupt` makes it."""
    found = xray.figures.corrupted(images, 3)
    assert tuple(found) == (*xray.data.CORRUPTIONS, "wrapped")
    expected = xray.data.corrupt(images, "gaussian-easy", torch.Generator().manual_seed(3), wrap=True)
    torch.testing.assert_close(found["wrapped"], xray.data.unit(expected))
    expected = xray.data.corrupt(images, "salt-and-pepper-hard", torch.Generator().manual_seed(3))
    torch.testing.assert_close(found["salt-and-pepper-hard"], xray.data.unit(expected))


def test_panels_show_one_noise_through_all_denoisers(images: torch.Tensor) -> None:
    """Noisy first, truth last, and each denoiser gets the noisy images; titles state what `scores` finds."""
    found = xray.figures.compared(images, "gaussian-hard", 1, {"same": lambda x: x, "half": lambda x: x / 2})
    assert list(found) == ["noisy", "same", "half", "truth"]
    torch.testing.assert_close(found["half"], found["noisy"] / 2)
    torch.testing.assert_close(found["truth"], xray.data.unit(images))
    titles = xray.figures.labels(found)
    score = xray.measures.scores(found["noisy"], found["truth"])
    assert titles["same"] == f"same: {score['psnr']:.1f} dB, {score['ssim']:.2f}"
    assert titles["truth"] == "truth"


def test_codes_are_drawn_where_the_encoder_puts_them() -> None:
    """An encoder that gives every image the code 2 moves all vectors there; those of the prior stay as drawn."""
    net = xray.model.VAE(64, 3, 0.05).eval()
    last = net.encoder[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 2.0)
    found = xray.figures.drawn(net, torch.rand(4, 1, 64, 64), 5)
    torch.testing.assert_close(found["codes"], xray.model.sample(net, torch.full((5, 3), 2.0)))
    normal = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["prior"], xray.model.sample(net, normal))


def test_the_full_networks_are_the_authors() -> None:
    """Full width, 100 and 150 epochs."""
    authors = xray.experiment.NETWORKS.authors
    assert {config.width for config in authors.values()} == {1.0}
    assert [config.epochs for config in authors.values()] == [100, 100, 150]


def test_parameters_are_counted_as_here_and_as_in_keras() -> None:
    """The authors' counts to the unit; only the 64² encoder has running statistics, two for each of 64 channels."""
    table = xray.figures.parameter_table()
    keras = dict(zip(table["network"], table["in Keras"], strict=True))
    assert keras == {
        "residual autoencoder": "12,634,631",
        "autoencoder 64², encoder": "2,179,222",
        "autoencoder 64², decoder": "346,497",
        "autoencoder 128², encoder": "286,896",
        "autoencoder 128², decoder": "405,915",
    }
    assert table["running means and variances"] == [0, 128, 0, 0, 0]
    assert table["parameters"][1] == "2,179,094"


def test_published_defects_stand_beside_what_should_be(images: torch.Tensor) -> None:
    """Wrapped and clipped differ only, by more than a grey level, where the map says; logits are those of the image."""
    bright = images + 40
    found = xray.figures.as_published(bright, lambda noisy: noisy.clamp(0.1, 0.9), 0)
    apart = (found["wrapped"] - found["clipped"]).abs() > 1.5 / 255
    torch.testing.assert_close(apart.float(), found["where it wraps"])
    assert 0 < found["where it wraps"].mean() < 0.2
    torch.testing.assert_close(found["its logits"].sigmoid(), found["autoencoder"])
    torch.testing.assert_close(found["autoencoder"], found["clipped"].clamp(0.1, 0.9))


def test_cheap_rows_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSNR of a net, PSNR before denoising and d' of noisy images, each beside the stored one of the first seed."""
    axis = torch.linspace(60, 200, 64)
    clean = torch.stack([(axis * (0.8 + 0.01 * k)).expand(64, 64) for k in range(24)])[:, None].to(torch.uint8)
    net = xray.model.ResidualAutoencoder(0.02)
    patients = np.arange(24) // 2
    monkeypatch.setattr(xray.studies, "held_out", lambda: clean)
    monkeypatch.setattr(xray.studies, "held_out_patients", lambda: patients)
    monkeypatch.setattr(xray.studies, "NETWORKS", SimpleNamespace(load=lambda name: net))
    place = {"seed": np.array([1, 0])}
    method = {"method": np.full(2, xray.measures.METHODS.index("residual")), "psnr": np.array([9.0, 10.0])}
    before = {"trained": np.zeros(2), "tested": np.full(2, 5), "before": np.array([19.0, 20.0])}
    plain = {"method": np.full(2, xray.measures.METHODS.index("identity")), "detectability": np.array([1.0, 2.0])}
    found, stored = xray.studies.rows_again(place | method, place | before, place | plain)
    assert stored == [10.0, 20.0, 2.0]
    noisy, truth = xray.data.pairs(clean, "gaussian-medium", 1000)
    again = xray.measures.opacity_detectability(lambda shown: shown, clean, "gaussian-medium", 1000, patients=patients)
    hard = xray.measures.scores(*xray.data.pairs(clean, "gaussian-hard", 1000))["psnr"]
    assert found == [xray.measures.scores(xray.model.denoise(net, noisy), truth)["psnr"], hard, again]
