"""The xray chapter's corruptions of 8-bit images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_xray import generator, pictures

from noisebook.papers import xray


@pytest.mark.parametrize(
    ("name", "psnr"),
    [("salt-and-pepper-easy", 21.3), ("salt-and-pepper-medium", 16.0), ("salt-and-pepper-hard", 12.0)],
)
def test_salt_and_pepper_has_its_draws(name: str, psnr: float) -> None:
    """So many draws of 255, then of 0, fall on pixels with replacement; the nominal PSNR is the published one."""
    images = torch.full((50, 1, 64, 64), 128, dtype=torch.uint8)
    found = xray.data.corrupt(images, name, generator())
    amount = xray.data.SALT_AND_PEPPER[name.rsplit("-", 1)[1]]
    draws = math.ceil(amount * 4096 / 2)
    untouched = (1 - 1 / 4096) ** draws  # of a pixel, by one kind
    pepper, salt = ((found == value).float().mean() for value in (0, 255))
    assert float(pepper) == pytest.approx(1 - untouched, rel=0.02)
    assert float(salt) == pytest.approx((1 - untouched) * untouched, rel=0.02)
    assert float((found == 128).float().mean() + pepper + salt) == pytest.approx(1)
    assert xray.data.nominal_psnr(name) == pytest.approx(psnr, abs=0.06)


@pytest.mark.parametrize(("level", "sd"), [("easy", 16.1), ("medium", 22.8), ("hard", 36.1)])
def test_gaussian_noise_has_its_spread_and_is_clipped(level: str, sd: float) -> None:
    """On mid-grey the published standard deviations; beside 0 and 255 nothing wraps around."""
    assert xray.data.sigma(level) == pytest.approx(sd, abs=0.06)
    images = torch.full((10, 1, 64, 64), 128, dtype=torch.uint8)
    assert float(xray.data.corrupt(images, f"gaussian-{level}", generator()).float().std()) == pytest.approx(
        sd, rel=0.02
    )
    dark = xray.data.corrupt(torch.zeros_like(images), f"gaussian-{level}", generator())
    assert float((dark == 0).float().mean()) == pytest.approx(0.51, abs=0.02)
    assert int(dark.max()) < 6 * sd
    assert xray.data.nominal_psnr(f"gaussian-{level}") == pytest.approx(20 * math.log10(255 / sd), abs=0.05)


def test_wrapped_noise_is_that_of_the_authors() -> None:
    """Cut to whole numbers and taken modulo 256, as numpy casts; where nothing leaves the range both agree to 1."""
    images = pictures()
    clipped, wrapped = (xray.data.corrupt(images, "gaussian-hard", generator(1), wrap=wrap) for wrap in (False, True))
    values = images.float() + xray.data.sigma("hard") * torch.randn(images.shape, generator=generator(1))
    expected = values.numpy().astype(np.int64).astype(np.uint8)
    np.testing.assert_array_equal(wrapped.numpy(), expected)
    inside = (values > -0.5) & (values < 255.5) & (values.trunc() >= 0) & (values.trunc() <= 255)
    assert int((clipped.int() - wrapped.int())[inside].abs().max()) == 1
    dark = torch.zeros_like(images)
    assert float((xray.data.corrupt(dark, "gaussian-easy", generator(), wrap=True) > 128).float().mean()) > 0.4


def test_unknown_corruptions_and_other_types_are_refused() -> None:
    """A mistyped name and floating images are named."""
    with pytest.raises(ValueError, match="Did you mean 'gaussian-easy'"):
        xray.data.corrupt(pictures(), "gausian-easy", generator())
    with pytest.raises(ValueError, match=r"images: expected uint8, 0 to 255, got torch\.float32"):
        xray.data.corrupt(pictures().float(), "gaussian-easy", generator())
