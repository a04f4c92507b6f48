"""Names and shapes of the published networks, typed from the authors' code and fact sheets, never from our modules.

Channels are the authors'. Tensors are plain torch's, so that files written with them are such as the authors write.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]
Shape = tuple[int, ...]

_DOUBLE = {  # of the regularity U-Net: inputs, middle and outputs of two convolutions, 0 and 4, with norms 2 and 6
    "inc": (1, 64, 64),
    "down1.maxpool_conv.1": (64, 128, 128),
    "down2.maxpool_conv.1": (128, 256, 256),
    "down3.maxpool_conv.1": (256, 512, 512),
    "down4.maxpool_conv.1": (512, 512, 512),
    "up1.conv": (1024, 512, 256),
    "up2.conv": (512, 256, 128),
    "up3.conv": (256, 128, 64),
    "up4.conv": (128, 64, 64),
}


def regularity(scaling: int, width: int = 64, device: str = "cpu") -> dict[str, Tensor]:
    """A state dict of Habring & Holler's U-Net: 130 random tensors; other widths than 64 are for small files."""

    def wide(channels: int) -> int:
        return channels * width // 64 if channels > 1 else 1

    layers: dict[str, nn.Module] = {}
    with torch.device(device):
        for block, channels in _DOUBLE.items():
            a, b, c = map(wide, channels)
            layers[f"{block}.double_conv.0"] = nn.Conv2d(a, b, 3 * scaling)
            layers[f"{block}.double_conv.2"] = nn.BatchNorm2d(b)
            layers[f"{block}.double_conv.4"] = nn.Conv2d(b, c, 3 * scaling)
            layers[f"{block}.double_conv.6"] = nn.BatchNorm2d(c)
        layers["out.conv"] = nn.Conv2d(wide(64), wide(32), scaling)
        layers["prediction"] = nn.Conv2d(wide(32), 1, 3 * scaling)
    return {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}


GENERATOR: Shapes = {
    "first_layer.1.weight": (32, 1, 7, 7),
    "first_layer.1.bias": (32,),
    "conv_block.conv.0.weight": (64, 32, 3, 3),
    "conv_block.conv.3.weight": (128, 64, 3, 3),
    **{f"res_layers.{k}.res_block.{n}.weight": (128, 128, 3, 3) for k in range(6) for n in (1, 5)},
    **{f"res_layers.{k}.res_block.{n}.bias": (128,) for k in range(6) for n in (1, 5)},
    "deconv_block.deconv.0.weight": (128, 64, 3, 3),
    "deconv_block.deconv.3.weight": (64, 32, 3, 3),
    "last_layer.1.weight": (1, 32, 7, 7),
    "last_layer.1.bias": (1,),
}
DISCRIMINATOR: Shapes = {
    "discriminator.0.weight": (64, 1, 4, 4),
    "discriminator.2.weight": (128, 64, 4, 4),
    "discriminator.5.weight": (256, 128, 4, 4),
    "discriminator.8.weight": (512, 256, 4, 4),
    "discriminator.11.weight": (1, 512, 4, 4),
}

GAP_2D = ((10, 32), (32, 64), (64, 128), (128, 256), (256, 512), (512, 1024))
GAP_3D = GAP_2D[:4]
"""Inputs and outputs of each depth on the way down; one channel enters as ten sines."""


def gap(channels: tuple[tuple[int, int], ...], dim: int, concat: bool = False, z_conv_stage: int = 99) -> Shapes:
    """Names and shapes of Krull et al.'s U-Net with residual blocks; beyond the stage kernels are flat."""
    found: Shapes = {}

    def layer(name: str, kernel: Shape, inputs: int, outputs: int, up: bool = False) -> None:
        found[f"{name}.weight"] = ((inputs, outputs) if up else (outputs, inputs)) + kernel
        found[f"{name}.bias"] = (outputs,)

    def kernel(depth: int, side: int) -> Shape:
        return (1, side, side) if dim == 3 and depth >= z_conv_stage else (side,) * dim

    for i, (a, b) in enumerate(channels):
        for k, inputs in ((1, a), (2, b), (3, b)):
            layer(f"down_convs.{i}.conv{k}", kernel(i, 3), inputs, b)
    for i, (b, a) in enumerate(reversed(channels[1:])):
        depth = len(channels) - 2 - i
        layer(f"up_convs.{i}.upconv", kernel(depth, 2), a, b, up=True)
        for k, inputs in ((1, 2 * b if concat else b), (2, b), (3, b)):
            layer(f"up_convs.{i}.conv{k}", kernel(depth, 3), inputs, b)
    layer("conv_final", (1,) * dim, 32, 1)
    return found


def fbpconvnet() -> Iterator[tuple[str, Shape]]:
    """Shapes of Xu & Noo's five levels of 64 channels and more; their weights are not published, so names are ours."""
    ups = ((1024, 512), (512, 256), (256, 128), (128, 64))
    blocks = [(f"down.{i}", a, b) for i, (a, b) in enumerate([(1, 64), *((b, a) for a, b in reversed(ups))])]
    for name, a, b in [*blocks, *((f"merge.{i}", a, b) for i, (a, b) in enumerate(ups))]:
        for conv, norm, inputs in ((0, 1, a), (3, 4, b)):
            yield f"{name}.{conv}.weight", (b, inputs, 3, 3)
            yield from ((f"{name}.{norm}.{key}", (b,)) for key in ("weight", "bias", "running_mean", "running_var"))
            yield f"{name}.{norm}.num_batches_tracked", ()
    for i, (a, b) in enumerate(ups):
        yield from ((f"up.{i}.weight", (a, b, 2, 2)), (f"up.{i}.bias", (b,)))
    yield from (("last.weight", (1, 64, 1, 1)), ("last.bias", (1,)))


_DOWN_64 = [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,)]
_LATENT = [(150, 2048), (2048,)]
_UP_64 = [*_LATENT, (3, 3, 64, 32), (64,), (3, 3, 32, 64), (32,), (3, 3, 1, 32), (1,)]
_UP_128 = [*_LATENT, (3, 3, 90, 32), (90,), (3, 3, 64, 90), (64,), (3, 3, 32, 64), (32,), (3, 3, 1, 32), (1,)]
_DOWN_RESIDUAL = [
    *((4, 4, 1, 64), (64,), (8, 8, 64, 64), (64,), (8, 8, 64, 128), (128,)),
    *((8, 8, 128, 256), (256,), (4, 4, 256, 518), (518,)),
]
_UP_RESIDUAL = [
    *((4, 4, 256, 518), (256,), (8, 8, 128, 256), (128,), (16, 16, 64, 128), (64,)),
    *((16, 16, 64, 64), (64,), (64, 64, 1, 64), (1,)),
]
KERAS: dict[str, list[Shape]] = {
    "ae-64": [*_DOWN_64, *[(64,)] * 4, (15 * 15 * 64, 150), (150,), *_UP_64],
    "ae-128": [*_DOWN_64, (3, 3, 64, 90), (90,), (4 * 4 * 90, 150), (150,), *_UP_128],
    "residual": [*_DOWN_RESIDUAL, *_UP_RESIDUAL],
}
"""As ``model.get_weights()`` gives them: kernels (y, x, in, out), transposed (y, x, out, in), dense (in, out)."""
