"""What the reduced CycleGANs do otherwise than the authors: discriminators, layout, the scale of losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_cyclegan_training import TINY, Plain, pair
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook.papers import cyclegan

WINDOWED = replace(TINY, critics="windowed", scale_hu=100.0)


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_channels_last_changes_nothing_about_the_norm(offset: float) -> None:
    """Value and gradient are those of PyTorch's instance normalisation, whatever the layout and the mean."""
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 9, 7, dtype=torch.float64) + offset).to(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn_like(x)
    found, expected = cyclegan.model.InstanceNorm()(x), F.instance_norm(x)
    assert "ChannelsLast" in type(found.grad_fn).__name__
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad(y, x, grad) for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_networks_are_trained_channels_last() -> None:
    """Every kernel with more than one channel on either side; values are those of the seed."""
    trainee = cyclegan.experiment.Training(TINY)
    for net in (trainee.g_q2f, trainee.d_f):
        kernels = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[:2]) > 1]
        assert kernels
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def judged(trainee: cyclegan.experiment.Training, images: Tensor) -> Tensor:
    """What discriminator F answers about images in HU."""
    with torch.no_grad():
        return trainee._judge(trainee.d_f, cyclegan.model.normalise(images, trainee.config.scale_hu))


def test_windowed_discriminators_see_soft_tissue_only() -> None:
    """Nothing beyond the window moves a judgement, whatever the generators' scale; what is inside does."""
    image = pair(1)[0]
    beyond = torch.where(image < -160, image - 300, torch.where(image > 240, image + 500, image))
    for scale in (100.0, 4000.0):
        trainee = cyclegan.experiment.Training(replace(WINDOWED, scale_hu=scale))
        torch.testing.assert_close(judged(trainee, beyond), judged(trainee, image))
        assert not torch.allclose(judged(trainee, image + 5), judged(trainee, image))
    small, large = (judged(cyclegan.experiment.Training(replace(WINDOWED, scale_hu=s)), image) for s in (100.0, 4000.0))
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-5)


def test_instance_normalisation_hides_the_strength_of_noise() -> None:
    """Of pure noise the authors' layers say the same at any strength; those without normalisation do not."""
    torch.manual_seed(0)
    noise, layers = torch.randn(1, 1, 128, 128), {}
    for norm in (True, False):
        body = cyclegan.model.Discriminator(4, norm).discriminator
        layers[norm] = [body(strength * noise) for strength in (100.0, 200.0)]
    torch.testing.assert_close(layers[True][1], layers[True][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layers[False][1], 2 * layers[False][0])


def test_weights_without_norm_keep_the_variance() -> None:
    """He's law, and a tenth of it in the last layer; the keys are the authors'."""
    torch.manual_seed(0)
    net = cyclegan.model.Discriminator(32, norm=False)
    assert set(net.state_dict()) == set(cyclegan.model.Discriminator(32).state_dict())
    convolutions = [layer for layer in net.discriminator if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        law = (2 / (1 + 0.2**2) / layer.weight[0].numel()) ** 0.5
        law *= 0.1 if layer is convolutions[-1] else 1
        assert float(layer.weight.detach().std()) == pytest.approx(law, rel=0.05)


def test_the_losses_do_not_depend_on_the_scale() -> None:
    """Cycle and identity are weighed in HU over 4000: near the identity any scale has the same gradients' ratio."""
    found = {}
    for scale in (100.0, 4000.0):
        config = replace(TINY, critics="windowed", scale_hu=scale, last=0.0)
        trainee = cyclegan.experiment.Training(config)
        for net in (trainee.g_q2f, trainee.g_f2q):
            nn.init.constant_(net.last_layer[1].bias, 8 / scale)  # every output is 8 HU higher
        found[scale] = trainee.step(Plain(), pair())
    assert float(found[100.0]["cycle_hu"]) == pytest.approx(16, rel=0.01)
    assert float(found[100.0]["identity_full_hu"]) == pytest.approx(8, rel=0.01)
    for name, value in found[4000.0].items():
        torch.testing.assert_close(found[100.0][name], value, rtol=0.01, atol=0)


def test_discriminators_look_more_often() -> None:
    """Three critic steps: three steps of the discriminators on crops of their own, one of the generators."""
    config = replace(TINY, critic_steps=3, crops=3)
    trainee, seen = cyclegan.experiment.Training(config), []
    quarter, full = pair(6)
    trainee.d_f.register_forward_hook(lambda _, given, __: seen.append(given[0].detach().clone()))
    trainee.step(Plain(), (quarter, full))
    real = [images[:2] for images in seen if len(images) == 4]
    assert len(real) == 3
    torch.testing.assert_close(torch.cat(real), cyclegan.model.normalise(full))
    steps = [{int(s["step"]) for s in o.state.values()} for o in (trainee.generators, trainee.critics)]
    assert steps == [{1}, {3}]
    assert len(trainee.past_full.images) == 2
    drawn = list(cyclegan.experiment.crops(quarter[:, 0], full[:, 0], config, torch.Generator().manual_seed(0)))
    assert (len(drawn), drawn[0][0].shape) == (9, (6, 1, 128, 128))


def test_looks_need_a_past() -> None:
    """Without a buffer there is nothing made to be looked at again; a look is at least one; kinds have names."""
    with pytest.raises(ValueError, match="buffer: expected at least 1 image, as the discriminators look"):
        cyclegan.experiment.Training(replace(TINY, critic_steps=2, buffer=0))
    with pytest.raises(ValueError, match="critic_steps: expected a number above zero"):
        replace(TINY, critic_steps=0)
    with pytest.raises(ValueError, match="critics: expected one of authors, windowed"):
        replace(TINY, critics="ours")
