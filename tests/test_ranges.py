"""Embedded networks outside of what they were trained on: no black hole, and a warning where nothing can be done."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisebook import weights
from noisebook._registry import QUANTITIES
from noisebook.papers import cyclegan, gap, linearized, regularity, xray
from noisebook.papers.gap.model import brightness, kept_share

COUNTS = ("gap-2d", "gap-2d-mse", "gap-2d-wide", "gap-3d", "gap-toy")
SIDES = {"gap-3d": (8, 24, 24), "gap-toy": (8, 8)}


def middle(net: str, half: int) -> tuple[slice, ...]:
    """The index of so many pixels to each side of the middle, along the last two axes."""
    return (..., *(slice(side // 2 - half, side // 2 + half) for side in SIDES.get(net, (48, 48))[-2:]))


def grain(net: str, rate: float, ground: float = 0.1) -> Tensor:
    """Poisson counts of a bright square on a dim ground, (1, 1, ...)."""
    rates = torch.full((1, 1, *SIDES.get(net, (48, 48))), ground)
    rates[middle(net, 3 if net != "gap-toy" else 2)] = rate
    return torch.poisson(rates, generator=torch.Generator().manual_seed(0))


def forget(net: nn.Module) -> None:
    """Take the ranges off a network and its parts."""
    for part in net.modules():
        vars(part).pop("trained_on", None)


@pytest.mark.parametrize("name", COUNTS)
def test_a_brighter_grain_is_no_black_hole(name: str) -> None:
    """Of a grain that is too bright a net keeps as much, within a third, as of the same grain at a brightness it knows.

    The black hole kept a millionth of it. The bound is the net's own: how much of such a grain is left at all is a
    matter of what images it was trained on, and thinning cannot change that.
    """
    net, share = gap.experiment.NETWORKS.load(name), {}
    at = middle(name, 3 if name != "gap-toy" else 2)
    known = weights.metadata(name).trained_on["patch"].high / 2
    for rate in (known, 46.0, 1000.0):
        counts = grain(name, rate, 0.1 * rate / 46)
        share[rate] = float(gap.model.denoise(net, counts)[at].sum() / counts[at].sum())
    assert min(share[46.0], share[1000.0]) > 2 / 3 * share[known] > 0.05, share


def wide(name: str) -> dict[str, Tensor]:
    """Counts of every kind, (1, 1, ...)."""
    empty = torch.zeros(1, 1, *SIDES.get(name, (48, 48)))
    one, hot = empty.clone(), grain(name, 0.1)
    one[(0, 0, *(side // 3 for side in empty.shape[2:]))] = 1
    hot[(0, 0, *(side // 2 for side in empty.shape[2:]))] = 5000
    constant = {f"constant {value}": empty + value for value in (1.0, 46.0, 1e5)}
    return constant | {"one photon": one, "hot pixel": hot, "bright": grain(name, 3000.0)}


@pytest.mark.parametrize("name", COUNTS)
def test_photons_stay_photons(name: str) -> None:
    """From one photon to 10^5 a pixel: finite, not negative, of the image's sum, repeatable; flat stays as bright."""
    net, counts = gap.experiment.NETWORKS.load(name), torch.cat([*wide(name).values()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dim images, tested below
        found, again = (gap.model.denoise(net, counts) for _ in range(2))
    assert torch.equal(found, again)
    assert bool(found.isfinite().all() and (found >= 0).all())
    torch.testing.assert_close(found.flatten(1).sum(1), counts.flatten(1).sum(1), rtol=1e-4, atol=0)
    if name != "gap-toy":  # no image of the toy prior is flat
        kept = found[:3][middle(name, 8)].flatten(1).mean(1) / counts[:3].flatten(1).mean(1)
        assert bool(((kept > 0.7) & (kept < 1.4)).all()), kept


def test_images_within_the_range_are_left_alone() -> None:
    """Beside a bright image, and with known ranges, an ordinary one has the very numbers of the net without ranges."""
    net = gap.experiment.NETWORKS.load("gap-2d")
    counts = torch.cat([gap.data.drawn(0, (48, 48), 6.0)[1], grain("gap-2d", 46.0)])
    found = gap.model.denoise(net, counts)
    assert (kept_share(net, counts) < 1).flatten().tolist() == [False, True]
    forget(net)
    plain = gap.model.denoise(net, counts)
    assert torch.equal(found[0], plain[0])
    assert not torch.equal(found[1], plain[1])


def test_brighter_tissue_is_denoised_better_than_by_the_best_filter() -> None:
    """Four times brighter than in training, thinned photons beat the best Gaussian; all of them lose by over 10 dB."""
    net = gap.experiment.NETWORKS.load("gap-2d")
    truth, counts = (image[0, 0].numpy() for image in gap.data.drawn(3, (128, 128), 12.0))
    best = gap.measures.level_psnr(gap.measures.best_gaussian(counts, truth)[0], truth)
    thinned = gap.measures.level_psnr(gap.model.denoise(net, torch.from_numpy(counts)[None, None])[0, 0].numpy(), truth)
    forget(net)
    plain = gap.measures.level_psnr(gap.model.denoise(net, torch.from_numpy(counts)[None, None])[0, 0].numpy(), truth)
    assert plain + 10 < best < thinned


def test_photons_accumulate_beyond_the_range_without_a_hole() -> None:
    """A sample that is begun from a bright grain keeps it, though the net was trained on dimmer ones."""
    net, counts = gap.experiment.NETWORKS.load("gap-2d"), grain("gap-2d", 46.0, 1.0)
    stop = 10 * float(counts.mean().log10()) + 3
    made = gap.model.sample(net, counts, stop_db=stop, beta=0.5, generator=torch.Generator().manual_seed(0))
    at = middle("gap-2d", 3)
    assert float((made.estimate / made.estimate.sum())[at].sum() / (counts / counts.sum())[at].sum()) > 0.2


def doors() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name, each network whose inputs are no counts, through its chapter's own door: an image (Y, X) to the same."""
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for name in linearized.experiment.SHIPPED:
        found[name] = lambda image, name=name: linearized.model.denoise(
            linearized.experiment.NETWORKS.load(name), image[None]
        )
    nets = cyclegan.experiment.NETWORKS.load
    for name in cyclegan.experiment.SHIPPED:
        found[name] = lambda image, name=name: cyclegan.model.denoise(nets(name).q2f, image[None])
    found["cyclegan-small back"] = lambda image: cyclegan.model.denoise(nets("cyclegan-small").f2q, image[None])
    xrays = xray.experiment.NETWORKS
    for ids, load, door in (
        (regularity.experiment.SHIPPED, regularity.experiment.NETWORKS.load, regularity.model.apply),
        (xrays.shipped, xrays.load, xray.model.denoise),
    ):
        for name in ids:
            found[name] = lambda image, name=name, load=load, door=door: np.asarray(
                door(load(name), torch.from_numpy(image[None, None]))
            )
    return found


@pytest.mark.parametrize("name", doors())
def test_values_outside_are_warned_of_and_bounded(name: str) -> None:
    """Metal, a hot pixel, far too low values: a warning with both ranges, and an output within the input's range."""
    is_ct, door, known = name.startswith(("linearized", "cyclegan")), doors()[name], name.split()[0]
    side = {"c": 128, "r": 96}.get(name[0], 64)
    noise = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    usual = 40 + 20 * noise if is_ct else (0.5 + 0.07 * noise).clip(0, 1)
    door(usual)
    for value, half in ((8000.0, 0), (3000.0, 5), (-5000.0, 5)) if is_ct else ((255.0, 0), (-20.0, 5)):
        image = usual.copy()
        image[side // 2 - half : side // 2 + half + 1, side // 2 - half : side // 2 + half + 1] = value
        if name.startswith("cyclegan") and value < 0:  # what is below air is air to these networks
            found, low, high = door(image), -1100.0, 200.0
        else:
            with pytest.warns(UserWarning, match=f"{value:.4g}.* was trained on") as said:
                found = door(image)
            assert str(weights.metadata(known).trained_on["value"]) in str(said[0].message)
            air = -1000 if name.startswith("cyclegan") else float(image.min())
            low, high = (0, 1) if name.startswith("xray") else (air, float(image.max()))
        assert np.isfinite(found).all()
        assert low <= found.min() <= found.max() <= high


def test_pixels_of_another_size_and_dim_images_are_warned_of() -> None:
    """A CT net warns of 0.43 mm where it knows 0.75 mm, and the photon net of one photon in an image; not of theirs."""
    image = np.full((1, 64, 64), 40, np.float32)
    linearized.model.denoise(linearized.experiment.NETWORKS.load("linearized-quarter"), image, 0.75)
    with pytest.warns(UserWarning, match=r"pixel sizes 0\.431 mm; the network was trained on 0\.75 mm"):
        linearized.model.denoise(linearized.experiment.NETWORKS.load("linearized-quarter"), image, 0.431)
    one = torch.zeros(1, 1, 64, 64)
    one[..., 20, 20] = 1
    with pytest.warns(UserWarning, match=r"mean of the image 0\.0002441 photons per pixel; the network was trained on"):
        gap.model.denoise(gap.experiment.NETWORKS.load("gap-2d"), one)


def test_ranges_are_those_of_the_training_inputs(tmp_path: Path) -> None:
    """A literal range; the ranges of gap are extremes over the very inputs that the training's steps give the net."""
    assert weights.span("HU", [np.array([3, -7]), torch.tensor([5.0])]) == weights.Range("HU", -7.0, 5.0)
    found = brightness(torch.tensor([[[[9.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 3]]]]))
    assert {name: float(value) for name, value in found.items()} == {"pixel": 9.0, "patch": 1.0, "image": 1.0}
    config = replace(
        gap.experiment.SMALL, images=2, size=(16, 16), crop=(8, 8), depth=2, width=2, steps=2, epochs=2, batch=2
    )
    seen: list[Tensor] = []
    trainee = gap.experiment.Training(config)
    trainee.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    gap.experiment.NETWORKS.train(config, tmp_path, trainee=trainee, device="cpu", progress=False)
    wanted = [float(part.flatten(1).mean(1).max()) for part in seen]
    assert len(seen) == 4
    assert gap.experiment.trained_on(config)["image"].high == pytest.approx(max(wanted))


@pytest.mark.parametrize(("value", "text"), [({}, "none"), ({"value": (1, 0)}, "value"), ({"size": (0, 1)}, "size")])
def test_the_registry_refuses_odd_ranges(value: dict[str, tuple[float, float]], text: str) -> None:
    """No range, one that ends before it begins, and one of an unknown quantity are problems of an entry."""
    ranges = {name: weights.Range("HU", *ends) for name, ends in value.items()}
    entry = replace(weights.metadata("gap-2d"), trained_on=ranges)
    problems = weights._registry.problems_of_embedded(entry, Path("nowhere"))
    assert any(text in problem for problem in problems if problem.startswith("trained_on"))


def test_every_card_says_what_its_network_was_trained_on() -> None:
    """Each embedded network has ranges of its inputs, in its card and on the network, also inside of another module."""
    for entry in weights.embedded():
        card = weights.model_card(entry.id)
        for name, known in entry.trained_on.items():
            assert f"{QUANTITIES[name]} {known}" in card
    assert (
        weights.carried(nn.Sequential(xray.experiment.NETWORKS.load("xray-ae"), nn.Sigmoid()))
        == weights.metadata("xray-ae").trained_on
    )
    assert weights.carried(nn.Identity()) == {}
