"""Draw the title picture: profiles through a simulated chest, noisy at the left edge, clean at the right.

Each line is one row of a CT slice of `noisebook.phantoms.Thorax`, its height the attenuation; rows in front hide those
behind. The noise is band-limited like that of filtered back-projection and fades across the width. The same drawing is
written twice, in ink for light pages and in chalk for dark ones, both on a transparent ground.

    python book/title.py            # rewrites book/images/title.png and title-dark.png; the same bytes every time
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d

from noisebook.phantoms import Thorax

SEED, SLICE_MM, ROWS = 0, -20.0, 58
HU, RELIEF = (-1000, -850, -120, 40, 250, 900), (0.0, 0.1, 0.5, 0.62, 0.92, 1.05)  # soft tissue stands out
WIDTH, HEIGHT, OVERSAMPLING = 1600, 620, 3
INKS = {"title.png": ((190, 84, 48), (24, 44, 66)), "title-dark.png": ((240, 152, 104), (206, 220, 232))}


def profiles(width: int) -> np.ndarray:
    """Heights, shape (ROWS, width): attenuation by the scale ``RELIEF``, from breastbone to spine, noise added."""
    image = np.asarray(Thorax(SEED).image(SLICE_MM, pixels=512, spacing_mm=0.75), dtype=np.float64)
    rows = np.linspace(128, 388, ROWS).round().astype(int)
    clean = gaussian_filter1d(np.interp(image, HU, RELIEF), 1.4, axis=1)[rows]
    position = np.linspace(0, 1, width)
    spread = np.stack([np.interp(np.linspace(26, 486, width), np.arange(512), row) for row in clean])
    white = np.random.default_rng(SEED).standard_normal((ROWS, width))
    step = width / 512
    grain = gaussian_filter1d(white, 0.9 * step, axis=1) - gaussian_filter1d(white, 2.2 * step, axis=1)
    return spread + 0.16 * grain / grain.std() * np.exp(-((position / 0.36) ** 2))


def mask(width: int, height: int) -> np.ndarray:
    """The drawing as coverage in 0..1, shape (height, width): each profile hides what lies behind it."""
    big = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    pen, (wide, tall) = ImageDraw.Draw(big), big.size
    across = np.arange(wide)
    for base, heights in zip(np.linspace(0.22, 0.965, ROWS), profiles(wide), strict=True):
        line = list(zip(across.tolist(), (tall * (base - 0.165 * heights)).tolist(), strict=True))
        pen.polygon([*line, (wide, tall), (0, tall)], fill=0)
        pen.line(line, fill=255, width=round(1.25 * OVERSAMPLING), joint="curve")
    small = np.asarray(big.resize((width, height), Image.Resampling.BOX), dtype=np.float64) / 255
    edge = np.clip(np.minimum(np.arange(width), np.arange(width)[::-1]) / (0.05 * width), 0, 1)
    return np.asarray(small * edge**1.5)


def picture(noisy: tuple[int, int, int], clean: tuple[int, int, int], width: int, height: int) -> Image.Image:
    """The drawing in colours that pass from ``noisy`` (left) to ``clean``, on a transparent ground."""
    blend = np.exp(-((np.linspace(0, 1, width) / 0.40) ** 2))[:, None]
    colours = np.broadcast_to(blend * noisy + (1 - blend) * clean, (height, width, 3))
    pixels = np.concatenate([colours, 255 * mask(width, height)[..., None]], axis=2)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


def main(argv: list[str] | None = None) -> None:
    """Write both pictures into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    folder = parser.parse_args(argv).out
    for name, (noisy, clean) in INKS.items():
        picture(noisy, clean, WIDTH, HEIGHT).quantize(64, method=Image.Quantize.FASTOCTREE).save(folder / name)


if __name__ == "__main__":
    main()
