"""The gap chapter's network: sizes, shapes, the authors' checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noisebook.papers.gap.model import UNet, cropped, from_checkpoint, mirrored


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 43_679_361), ({"depth": 5}, 10_906_241), ({"dim": 3, "depth": 4}, 7_958_273)],
)
def test_the_authors_sizes_have_the_authors_parameters(settings: dict[str, int], count: int) -> None:
    """Ten levels, 32 filters: the published numbers of parameters."""
    with torch.device("meta"):
        net = UNet(**settings)
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_network_is_that_of_plain_operations() -> None:
    """Sines, residual triples, pooling, transposed convolution and a sum, written out for two resolutions."""
    torch.manual_seed(0)
    net = UNet(levels=3, depth=2, width=4)
    state = net.state_dict()

    def triple(name: str, x: Tensor) -> Tensor:
        def conv(k: int, image: Tensor) -> Tensor:
            return F.conv2d(image, state[f"{name}.conv{k}.weight"], state[f"{name}.conv{k}.bias"], padding=1)

        y = conv(1, x)
        return F.relu(conv(3, F.relu(conv(2, y))) + y)

    x = torch.poisson(torch.full((2, 1, 6, 8), 3.0))
    top = triple("down_convs.0", torch.cat([torch.sin(x), torch.sin(x / 10), torch.sin(x / 100)], 1))
    low = triple("down_convs.1", F.max_pool2d(top, 2))
    up = F.conv_transpose2d(low, state["up_convs.0.upconv.weight"], state["up_convs.0.upconv.bias"], stride=2)
    expected = F.conv2d(triple("up_convs.0", up + top), state["conv_final.weight"], state["conv_final.bias"])
    torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("merge", ["add", "concat"])
@pytest.mark.parametrize("shape", [(2, 3, 17, 5), (1, 3, 1, 33), (1, 3, 3, 9, 2)])
def test_any_sides_come_back(shape: tuple[int, ...], merge: str) -> None:
    """Images smaller than the pooling grid, odd ones, and three channels keep their shape, in 2-D and 3-D."""
    net = UNet(dim=len(shape) - 2, channels=3, levels=2, depth=4, width=2, merge=merge)
    assert net(torch.ones(shape)).shape == shape


def test_mirroring_goes_on_over_and_over() -> None:
    """One row of three pixels continues as 1 2 3 3 2 1 1 2; what was there first is what is left after cropping."""
    image = torch.tensor([[[[1.0, 2, 3]]]])
    wide = mirrored(image, (1, 8))
    assert wide.flatten().tolist() == [1, 2, 3, 3, 2, 1, 1, 2]
    torch.testing.assert_close(cropped(wide, (1, 3)), image, rtol=0, atol=0)


@pytest.mark.parametrize(("settings", "sides"), [({"depth": 3}, (120, 104)), ({"dim": 3, "depth": 2}, (44, 40, 36))])
def test_the_reach_covers_all_that_a_pixel_depends_on(settings: dict[str, int], sides: tuple[int, ...]) -> None:
    """Beyond the reach of a pixel, its gradient is exactly zero; within, it is not."""
    torch.manual_seed(0)
    net = UNet(levels=1, width=2, **settings).double()
    for p in net.parameters():
        p.data.uniform_(0.05, 0.2)  # nothing is cut by a ReLU
    x = torch.rand(1, 1, *sides, dtype=torch.float64).requires_grad_()
    place = tuple(side // 2 for side in sides)
    net(x)[(0, 0, *place)].backward()
    assert x.grad is not None
    where = x.grad[0, 0].nonzero()
    farthest = [int((where[:, axis] - at).abs().max()) for axis, at in enumerate(place)]
    assert all(far <= reach for far, reach in zip(farthest, net.reach, strict=True))
    assert all(far >= 0.5 * reach or far >= at - 1 for far, reach, at in zip(farthest, net.reach, place, strict=True))


def test_planes_stay_apart_beyond_the_stage() -> None:
    """With z_conv_stage = 0 no plane sees another; with 1, kernels of the first resolution alone have depth."""
    apart = UNet(dim=3, levels=1, depth=3, width=2, z_conv_stage=0)
    stack = torch.rand(1, 1, 5, 8, 8)
    torch.testing.assert_close(apart(stack)[:, :, 1:2], apart(stack[:, :, 1:2]))
    partly = UNet(dim=3, levels=1, depth=3, width=2, z_conv_stage=1)
    state = partly.state_dict()
    assert [state[f"down_convs.{i}.conv2.weight"].shape[2] for i in range(3)] == [3, 1, 1]
    assert (partly.stride, apart.stride) == ((2, 4, 4), (1, 4, 4))
    assert apart.reach[0] == 0
    assert partly(stack).shape == stack.shape


SETTINGS: list[dict[str, Any]] = [
    {"depth": 3},
    {"depth": 2, "merge": "concat", "channels": 3, "levels": 2},
    {"dim": 3, "depth": 3, "levels": 4},
    {"dim": 3, "depth": 3, "z_conv_stage": 1},
]


def saved(folder: Path, content: dict[str, Any]) -> Path:
    """A file as Lightning writes it."""
    torch.save(content, folder / "net.ckpt")
    return folder / "net.ckpt"


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_authors_checkpoints_load(settings: dict[str, Any], tmp_path: Path) -> None:
    """Weights under state_dict, settings under hyper_parameters: the same net comes back, whatever its settings."""
    torch.manual_seed(0)
    net = UNet(width=4, **settings).eval()
    given = {"start_filts": 4, "depth": net.depth, "levels": net.levels, "lr": 1e-4}
    found = from_checkpoint(saved(tmp_path, {"state_dict": net.state_dict(), "hyper_parameters": given, "epoch": 3}))
    x = torch.poisson(torch.full((1, net.channels, *(8,) * net.dim), 2.0))
    torch.testing.assert_close(found(x), net(x), rtol=0, atol=0)
    assert not found.training


def test_checkpoints_in_other_wrappings_load(tmp_path: Path) -> None:
    """Of a parallel training, beside its epoch, with numpy's numbers for settings: the same weights come back."""
    state = dict(UNet(depth=2, width=2).state_dict())
    more = {"depth": np.int64(2), "start_filts": np.int32(2)}
    wrapped = {f"module.{name}": value for name, value in state.items()}
    path = saved(tmp_path, {"epoch": 3, "model_state_dict": wrapped, "hyper_parameters": more})
    torch.testing.assert_close(dict(from_checkpoint(path).state_dict()), state, rtol=0, atol=0)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    """No weights, another way up, missing tensors, contradictory settings and programs are named."""
    net = UNet(depth=2, width=2)
    state = net.state_dict()
    with pytest.raises(ValueError, match=r"expected a U-Net of this chapter, got no down_convs\.0"):
        from_checkpoint(saved(tmp_path, {"weights": torch.zeros(2)}))
    other = {name.replace("upconv.", "upconv.1."): value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"an interpolation .* not supported"):
        from_checkpoint(saved(tmp_path, {"state_dict": other}))
    with pytest.raises(ValueError, match="hyper_parameters, depth: expected 2 as the weights have it, got 5"):
        from_checkpoint(saved(tmp_path, {"state_dict": state, "hyper_parameters": {"depth": 5}}))
    with pytest.raises(ValueError, match=r"1 missing: conv_final\.bias"):
        from_checkpoint(saved(tmp_path, {"state_dict": {k: v for k, v in state.items() if k != "conv_final.bias"}}))
    with pytest.raises(ValueError, match="asks to run "):
        from_checkpoint(saved(tmp_path, {"state_dict": state, "hyper_parameters": Path("anything")}))
    with pytest.raises(ValueError, match="expected sha256 0"):
        from_checkpoint(saved(tmp_path, {"state_dict": state}), sha256="0")


def test_bad_settings_and_images_are_refused() -> None:
    """Dimensions, merges, stages and channels that are none raise."""
    with pytest.raises(ValueError, match="dim: expected 2 or 3, got 4"):
        UNet(dim=4)
    with pytest.raises(ValueError, match="merge: expected one of add, concat, got 'ad'"):
        UNet(merge="ad")
    with pytest.raises(ValueError, match="z_conv_stage: expected in 3-D"):
        UNet(z_conv_stage=1)
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        UNet(width=0)
    net = UNet(depth=2, width=2)
    with pytest.raises(ValueError, match=r"counts: expected 4 axes \(B, C, Y, X\)"):
        net(torch.zeros(1, 1, 4, 4, 4))
    with pytest.raises(ValueError, match="counts: expected 1 channels, got 2"):
        net(torch.zeros(1, 2, 4, 4))
