"""The xray chapter's panels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noisebook.papers import xray
from noisebook.papers.xray import compare


@pytest.fixture
def images() -> torch.Tensor:
    """Two ramps, 8-bit."""
    ramp = torch.linspace(40, 210, 32).to(torch.uint8)
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32)])[:, None].contiguous()


def test_every_corruption_of_the_same_images_is_shown(images: torch.Tensor) -> None:
    """The six by name and the authors' wrapped one, each as `corrupt` makes it."""
    found = xray.corrupted(images, 3)
    assert tuple(found) == (*xray.CORRUPTIONS, "wrapped")
    expected = xray.corrupt(images, "gaussian-easy", torch.Generator().manual_seed(3), wrap=True)
    torch.testing.assert_close(found["wrapped"], xray.unit(expected))
    expected = xray.corrupt(images, "salt-and-pepper-hard", torch.Generator().manual_seed(3))
    torch.testing.assert_close(found["salt-and-pepper-hard"], xray.unit(expected))


def test_panels_show_one_noise_through_all_denoisers(images: torch.Tensor) -> None:
    """Noisy first, truth last, and each denoiser gets the noisy images; titles state what `scores` finds."""
    found = xray.compared(images, "gaussian-hard", 1, {"same": lambda x: x, "half": lambda x: x / 2})
    assert list(found) == ["noisy", "same", "half", "truth"]
    torch.testing.assert_close(found["half"], found["noisy"] / 2)
    torch.testing.assert_close(found["truth"], xray.unit(images))
    titles = xray.labels(found)
    score = xray.scores(found["noisy"], found["truth"])
    assert titles["same"] == f"same: {score['psnr']:.1f} dB, {score['ssim']:.2f}"
    assert titles["truth"] == "truth"


def test_a_net_is_measured_on_every_corruption(images: torch.Tensor) -> None:
    """Before are the corrupted images' own PSNR; after is that of the net's output."""
    net = xray.ResidualAutoencoder(0.05)
    found = xray.everywhere(net, images, 0)
    noisy, truth = xray.pairs(images, xray.CORRUPTIONS[4], 0)
    assert found["before"].shape == (6,)
    assert found["before"][4] == pytest.approx(xray.scores(noisy, truth)["psnr"])
    assert found["after"][4] == pytest.approx(xray.scores(xray.denoise(net, noisy), truth)["psnr"])


def test_a_mosaic_keeps_reading_order() -> None:
    """Six images of 2 x 3 in three columns; rows that would not be whole are refused."""
    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    found = xray.mosaic(images, 3)
    assert found.shape == (4, 9)
    assert found[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="columns: expected one of 1, 2, 3, 6, got '4'"):
        xray.mosaic(images, 4)


def test_a_family_is_loaded_or_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded nets come by their names; a training uses all images, and other images lie elsewhere."""
    monkeypatch.setattr(compare, "load", lambda name, device: (name, device))
    assert xray.family("embedded", tmp_path) == {
        "ae": ("xray-ae", "cpu"),
        "vae": ("xray-vae-40", "cpu"),
        "residual": ("xray-residual", "cpu"),
    }
    tiny = {model: replace(config, width=0.05, latent=3, batch=2, epochs=1) for model, config in xray.FULL.items()}
    monkeypatch.setattr(compare, "FULL", tiny)
    images = torch.arange(3 * 4096, dtype=torch.int64).reshape(3, 1, 64, 64).to(torch.uint8)
    nets = xray.family("train", tmp_path, images)
    assert [type(net) for net in nets.values()] == [xray.Autoencoder, xray.VAE, xray.ResidualAutoencoder]
    again = xray.family("train", tmp_path, images)
    torch.testing.assert_close(again["ae"].state_dict(), nets["ae"].state_dict(), rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 3
    xray.family("train", tmp_path, 255 - images)
    assert len(list(tmp_path.iterdir())) == 6
    with pytest.raises(ValueError, match="nets: expected one of embedded, train, got 'other'"):
        xray.family("other", tmp_path)


def test_the_full_networks_are_the_authors() -> None:
    """Full width, 100 and 150 epochs."""
    assert {config.width for config in xray.FULL.values()} == {1.0}
    assert [config.epochs for config in xray.FULL.values()] == [100, 100, 150]
