"""Products with the Jacobian of many kinds of network against brute force, and what is refused since it has none.

As a script, ``python tests/test_jacobian_networks.py``, it prints the table of the largest relative differences.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from noisebook.jacobian import Jacobian, _derivative, _operator, noise_map, white

Body = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Parts, and what is done with them: by default convolutions a from 1 to 4, b of 4, c from 4 to 1 channels."""

    def __init__(self, body: Body, **parts: Any) -> None:
        super().__init__()
        self.body = body
        for name, part in ({"a": conv(1, 4), "b": conv(4, 4), "c": conv(4, 1)} | parts).items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """The body, of the parts and the image."""
        return self.body(self, x)


def conv(before: int, after: int, size: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the image's size."""
    return nn.Conv2d(before, after, size, padding=size // 2, **options)


def between(*parts: nn.Module, after: int = 4) -> nn.Module:
    """``parts``, from 4 to ``after`` channels, between two convolutions."""
    return nn.Sequential(conv(1, 4), *parts, conv(after, 1))


def tokens(of: Callable[[Any, Tensor], Tensor], part: nn.Module) -> nn.Module:
    """A network that hands the pixels to its ``part`` as tokens of 4 numbers."""

    def body(m: Any, x: Tensor) -> Tensor:
        h = m.a(x)
        return m.c(of(m.part, h.flatten(2).mT).mT.reshape(h.shape)) + x

    return Net(body, part=part)


def _added(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    h += 3.0
    return m.c(h.tanh())


def _residual(m: Any, x: Tensor) -> Tensor:
    i = m.a(x)
    o = m.b(F.relu(i))
    o += i
    return m.c(F.relu_(o).square())


def _border(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[..., :2, :] = 0
    y[..., -1] = 0
    return m.c(m.a(y).tanh())


def _own_input(m: Any, x: Tensor) -> Tensor:
    x -= 0.5
    x[..., 0, :] = 0
    return m.c(m.a(x.mul_(2)).tanh())


def _haar(m: Any, x: Tensor) -> Tensor:
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    bands = x.new_zeros(1, 4, x.shape[2] // 2, x.shape[3] // 2)
    bands[:, :1], bands[:, 1:2], bands[:, 2:3], bands[:, 3:] = (
        a + b + c + d,
        a - b + c - d,
        a + b - c - d,
        a - b - c + d,
    )
    bands, back = m.b(bands).tanh(), torch.zeros_like(x)
    for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        back[..., i::2, j::2] = bands[:, k : k + 1]
    return back.square() + x


def _masked(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    h[h < 0] *= 0.1
    h[h > 1] = 1
    return m.c(h.sin())


def _concatenated(m: Any, x: Tensor) -> Tensor:
    h = m.a(x).relu()
    low = F.interpolate(m.b(F.max_pool2d(h, 2)).relu(), scale_factor=2)
    return m.c(torch.cat([h, low], 1))


def _squeezed(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    return m.c(h * m.b(h.mean((2, 3), keepdim=True)).sigmoid())


def _spectral(m: Any, x: Tensor) -> Tensor:
    low = torch.fft.rfft2(m.a(x))[..., :4, :4]
    return torch.fft.irfft2(torch.einsum("bchw,cdhw->bdhw", low, m.weight), s=x.shape[-2:]) + x


def _complex(m: Any, x: Tensor) -> Tensor:
    h = torch.view_as_complex(m.a(x).unflatten(1, (2, 2)).movedim(2, -1).contiguous())
    return m.c(((h * h.conj() * (1 + 2j)).abs() + h.angle()).repeat(1, 2, 1, 1))


def _cached(m: Any, x: Tensor) -> Tensor:
    m.kept["skip"] = m.a(x)
    m.last = m.c(m.kept["skip"].tanh())
    return m.last + x


def _buffered(m: Any, x: Tensor) -> Tensor:
    m.buffer.copy_(m.a(x))
    return m.c(m.buffer * m.buffer)


def _descended(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x if x.requires_grad else x.requires_grad_()
        energy = m.c(m.a(x).tanh()).square().sum()
        return x - torch.autograd.grad(energy, x, create_graph=True)[0]


def _warped(m: Any, x: Tensor) -> Tensor:
    grid = F.affine_grid(torch.eye(2, 3).to(x)[None], list(x.shape), align_corners=False)
    return F.grid_sample(x, grid + 0.1 * m.a(x)[:, :2].movedim(1, -1).tanh(), align_corners=False)


def _unfolded(m: Any, x: Tensor) -> Tensor:
    patches = F.unfold(m.a(x), 3, padding=1)
    return F.fold(patches * patches.softmax(1), x.shape[2:], 3, padding=1)[:, :1]


class _Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * g


def _hooked() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, for the new way
        return between(nn.utils.weight_norm(conv(4, 4)))


def _checkpointed(reentrant: bool) -> nn.Module:
    return Net(lambda m, x: m.c(checkpoint(m.b, m.a(x), use_reentrant=reentrant).tanh()))


NETWORKS: dict[str, Callable[[], Any]] = {
    "in-place addition": lambda: Net(_added),
    "ResNet block, o += i and relu_": lambda: Net(_residual),
    "F.relu_(b(h).add_(h))": lambda: Net(lambda m, x: m.c(F.relu_(m.b(h := m.a(x)).add_(h)))),
    "border zeroed in place": lambda: Net(_border),
    "its own input changed": lambda: Net(_own_input),
    "Haar transform, writing slices": lambda: Net(_haar),
    "assignment through a mask": lambda: Net(_masked),
    "concatenation (torch.cat)": lambda: Net(_concatenated, c=conv(8, 1)),
    "multihead attention": lambda: tokens(
        lambda p, t: p(t, t, t, need_weights=False)[0], nn.MultiheadAttention(4, 2, batch_first=True)
    ),
    "multihead attention, weights": lambda: tokens(
        lambda p, t: p(t, t, t)[0], nn.MultiheadAttention(4, 2, batch_first=True)
    ),
    "transformer layer": lambda: tokens(
        lambda p, t: p(t), nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
    ),
    "scaled dot-product attention": lambda: tokens(
        lambda p, t: F.scaled_dot_product_attention(*p(t).chunk(3, -1)), nn.Linear(4, 12)
    ),
    "layer norm": lambda: tokens(lambda p, t: p(t), nn.LayerNorm(4)),
    "weight norm, hooks": _hooked,
    "weight norm, parametrised": lambda: between(parametrizations.weight_norm(conv(4, 4))),
    "spectral norm, hooks": lambda: between(nn.utils.spectral_norm(conv(4, 4))),
    "spectral norm, parametrised": lambda: between(parametrizations.spectral_norm(conv(4, 4))),
    "FFT filter": lambda: Net(lambda m, x: m.c(torch.fft.ifft2(torch.fft.fft2(m.a(x).tanh()) * (1 + 0.5j)).real)),
    "Fourier operator, complex weights": lambda: Net(
        _spectral, a=conv(1, 2), weight=nn.Parameter(torch.randn(2, 1, 4, 4, dtype=torch.complex64))
    ),
    "complex inside": lambda: Net(_complex),
    "grouped convolution": lambda: between(conv(4, 8, groups=2), nn.SiLU(), after=8),
    "depthwise convolution": lambda: between(conv(4, 4, groups=4), nn.PReLU(4)),
    "dilated, GELU": lambda: between(nn.Conv2d(4, 4, 3, dilation=2, padding=2), nn.GELU()),
    "batch norm, in-place ReLU": lambda: between(nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "statistics of the image": lambda: Net(lambda m, x: m.c(F.batch_norm(m.a(x), None, None, training=True).relu())),
    "instance norm": lambda: between(nn.InstanceNorm2d(4, affine=True)),
    "group norm": lambda: between(nn.GroupNorm(2, 4), nn.LeakyReLU(0.2, inplace=True)),
    "squeeze and excite": lambda: Net(_squeezed, b=nn.Conv2d(4, 4, 1)),
    "max pooling": lambda: between(nn.MaxPool2d(2), nn.Upsample(scale_factor=2)),
    "average pooling": lambda: between(nn.ReLU(), nn.AvgPool2d(3, 1, 1)),
    "bilinear upsampling": lambda: between(nn.AvgPool2d(2), nn.ELU(), nn.Upsample(scale_factor=2, mode="bilinear")),
    "pixel shuffle": lambda: between(nn.PixelUnshuffle(2), nn.Tanh(), nn.PixelShuffle(2)),
    "transposed convolution": lambda: between(nn.Conv2d(4, 4, 2, 2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2)),
    "reflecting border": lambda: between(nn.ReflectionPad2d(2), nn.Conv2d(4, 4, 5), nn.Softplus()),
    "circular border": lambda: between(conv(4, 4, padding_mode="circular"), nn.Tanh()),
    "shifted windows": lambda: Net(
        lambda m, x: m.c(m.a(x).roll((1, 2), (2, 3)).unflatten(2, (2, -1)).softmax(2).flatten(2, 3))
    ),
    "median of three": lambda: Net(lambda m, x: torch.stack([m.a(x), m.b(m.a(x)), m.a(x).roll(1, 2)]).median(0).values),
    "unfold and fold": lambda: Net(_unfolded),
    "grid sample": lambda: Net(_warped),
    "strided, another size": lambda: nn.Sequential(conv(1, 4), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2)),
    "channels last": lambda: between(nn.ReLU()).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "checkpointed": lambda: _checkpointed(False),
    "checkpointed, reentrant": lambda: _checkpointed(True),
    "plain function": lambda: lambda x: x.tanh() * x.roll(1, -1),
    "function around a network": lambda: (lambda net: lambda x: x * net(x).tanh())(made(lambda: conv(1, 1))),
    "holds a lock and a generator": lambda: Net(
        lambda m, x: m.c(m.a(x).tanh()), lock=threading.Lock(), kept=[torch.Generator()]
    ),
    "activations cached": lambda: Net(_cached, kept={}),
    "writes into a buffer": lambda: Net(_buffered, buffer=nn.Buffer(torch.zeros(1, 4, 8, 6))),
    "operation without forward mode": lambda: Net(lambda m, x: m.c(_Cubed.apply(m.a(x)))),  # type: ignore[no-untyped-call]
    "gradient of an energy": lambda: Net(_descended),
    "derivative by forward mode": lambda: lambda x: x * torch.func.jvp(torch.tanh, (x,), (x,))[1],
}


def made(make: Callable[[], Any]) -> Any:
    """The network in double precision and evaluation mode, with fixed weights and, once run, the computed ones."""
    torch.manual_seed(0)
    model = make()
    if isinstance(model, nn.Module):
        model.eval()._apply(lambda t: t.to(torch.complex128 if t.is_complex() else torch.float64))
    return model


def image(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*(shape or (1, 1, 8, 6)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute(make: Callable[[], Any], x: Tensor) -> Tensor:
    """The slow reference: the whole matrix, one plain backward pass of a new network an output."""
    rows = []
    for k in range(made(make)(x.clone()).numel()):
        point = x.clone().requires_grad_()
        made(make)(point.clone()).flatten()[k].backward()
        rows.append(point.grad.flatten())  # type: ignore[union-attr]
    return torch.stack(rows)


def differences(name: str) -> tuple[list[float], bool]:
    """Relative differences from brute force, of J and J' with 1 and 32 vectors before and after `linearize`.

    Also whether the linearization is kept.
    """
    make, x, found = NETWORKS[name], image(), []
    operator, matrix = Jacobian(made(make), x), brute(make, x)
    for _ in ("before", "after"):
        for count in (1, 32):
            v, u = image(count, 1, 8, 6, seed=count), image(count, *operator.output.shape[1:], seed=count + 1)
            for product, expected in (
                (operator @ v, v.flatten(1) @ matrix.T),
                (operator.T @ u, u.flatten(1) @ matrix),
            ):
                found.append(float((product.flatten(1) - expected).norm() / expected.norm()))
        operator.linearize()
    return found, operator._replay is not None


@pytest.mark.parametrize("name", NETWORKS)
def test_products_equal_brute_force(name: str) -> None:
    """J and J' equal the whole matrix to 1e-5, for 1 and 32 vectors, before and after `linearize`."""
    found, kept = differences(name)
    assert max(found) < 1e-5
    assert kept or name in ("grid sample", "operation without forward mode", "derivative by forward mode")


def test_what_is_asked_of_a_resnet_block_does_not_change_with_linearize() -> None:
    """Responses, covariances and noise maps of a block that writes in place equal the dense matrix's, kept or not."""
    x = image(1, 1, 12, 12)
    matrix = brute(lambda: Net(_residual), x)
    covariance = matrix @ matrix.T
    operator = Jacobian(made(lambda: Net(_residual)), x)
    for _ in ("before", "after"):
        torch.testing.assert_close(operator.local_response((5, 6)).flatten(), matrix[:, 66])
        torch.testing.assert_close(operator.covariance_image((5, 6), white(1.0)).flatten(), covariance[66])
        sd = noise_map(operator, white(1.0), method="exact").sd
        torch.testing.assert_close(sd.flatten(), covariance.diag().sqrt())
        operator.linearize()
    structured = noise_map(operator, white(1.0), period=6)
    off = structured.sd.flatten() / covariance.diag().sqrt() - 1
    assert float(off.square().mean().sqrt()) < 0.01


def test_pixels_of_an_output_of_another_size() -> None:
    """Rows, responses and covariances of a network that halves the image are the matrix's; a noise map is refused."""
    make = lambda: nn.Sequential(conv(1, 4), nn.ReLU(), nn.Conv2d(4, 1, 2, stride=2))  # noqa: E731
    x = image()
    operator, matrix = Jacobian(made(make), x), brute(make, x)
    torch.testing.assert_close(operator.local_response((7, 5)).flatten(), matrix[:, 47])
    torch.testing.assert_close(operator.row((3, 2)).flatten(), matrix[11])
    found = operator.covariance_image((3, 2), white(4.0), (slice(1, 4), slice(0, 3)))
    torch.testing.assert_close(found.flatten(), 4 * (matrix @ matrix[11])[3:])
    with pytest.raises(ValueError, match=r"output of the model for a noise map: expected shape \(1, 1, 8, 6\), got"):
        noise_map(operator, white(1.0))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrapped_networks_are_unwrapped(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """A compiled or parallel network has the products of the network within, from a kept linearization."""
    net, v = made(lambda: conv(1, 1, bias=False)), image(20, 1, 8, 6)
    operator = Jacobian(wrap(net), image())
    torch.testing.assert_close(operator @ v, net(v).detach())
    assert operator._replay is not None


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_linearization_that_goes_wrong_is_not_used(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that is right ``kept`` times and then drifts is left for forward mode, with a warning and the number."""
    model, v = made(lambda: conv(1, 1, bias=False)), image(20, 1, 8, 6)

    def drifting(function: Callable[[Tensor], Tensor], *_: Any) -> Callable[[Tensor], Tensor]:
        calls = iter(range(100))
        return lambda v: function(v) * (1 if next(calls) < kept else 1.5)

    monkeypatch.setattr(_operator, "trace", drifting)
    operator = Jacobian(model, image())
    with pytest.warns(UserWarning, match=r"The kept linearization is 33\.3% off forward mode, which is used"):
        operator.linearize()
    torch.testing.assert_close(operator @ v, model(v).detach())


def _switched_off(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = m.a(x)
    return m.c(h.tanh()) + x


def _inference(m: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        h = m.a(x)
    return m.c(h.tanh()) + x


REFUSED: dict[str, tuple[Body, str]] = {
    "no_grad in a part": (_switched_off, r"an adjoint test that is .*% off\. Look in forward for no_grad"),
    "no_grad on all": (torch.no_grad()(lambda m, x: m.c(m.a(x))), r"% off.*no_grad"),
    "inference_mode in a part": (_inference, r"% off finite differences.*inference_mode"),
    "inference_mode on all": (torch.inference_mode()(lambda m, x: m.c(m.a(x))), r"J v 100.0% off finite differences"),
    "detached gate": (
        lambda m, x: m.c((h := m.a(x)) * h.mean((2, 3), keepdim=True).detach()),
        r"% off finite differences.*detach",
    ),
    ".data": (lambda m, x: m.c((h := m.a(x)) * h.data), r"J v .*% off finite differences.*\.data"),
    "straight-through rounding": (
        lambda m, x: m.c((h := m.a(x)) + (h.round() - h).detach()),
        r"J v .*% off finite differences.*of its own",
    ),
    "by way of numpy": (lambda m, x: m.c(torch.from_numpy(m.a(x).numpy())), r"torch differentiates.*says: Can't call"),
    "dropout": (lambda m, x: m.c(F.dropout(m.a(x), training=True)), "same output .*random numbers drawn.*dropout"),
    "attention dropout": (
        lambda m, x: m.c(F.scaled_dot_product_attention(h := m.a(x), h, h, dropout_p=0.5)),
        "same output for the same",
    ),
    "randn": (lambda m, x: m.a(x) + 0.01 * torch.randn_like(x), "same output for the same image, got random"),
    "labels": (lambda m, x: m.a(x).argmax(1, keepdim=True), "output of the model: .*of floating numbers, got .*int64"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("halo", [None, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_derivative_is_refused(name: str, halo: int | None, dtype: torch.dtype) -> None:
    """Gradients switched off in a part, random numbers and labels raise at construction, and the cause is named."""
    body, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        Jacobian(made(lambda: Net(body)), image().to(dtype), halo=halo)


def test_things_that_are_no_python_models_are_refused() -> None:
    """A TorchScript, whole or as a part, and what cannot be called raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of scripts
        script = torch.jit.script(conv(1, 1))
    for model in (script, nn.Sequential(script)):
        with pytest.raises(ValueError, match="model: expected a module or function in Python, got a TorchScript"):
            Jacobian(model, image())
    with pytest.raises(ValueError, match="model: expected a torch module or a function of a tensor, got dict"):
        Jacobian({}, image())  # type: ignore[arg-type]


@pytest.mark.parametrize("fails", [False, True])
def test_switches_of_attention_and_checkpoints_are_put_back(fails: bool) -> None:
    """The fast path, the attention kernels and reentrant checkpoints are as before, also after a model has raised."""

    def state() -> tuple[object, ...]:
        cuda = torch.backends.cuda
        kernels = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()
        return (*kernels, torch.backends.mha.get_fastpath_enabled(), torch.utils.checkpoint.CheckpointFunction)

    def model(x: Tensor) -> Tensor:
        assert state() != before
        return 1 / 0 if fails else 2 * x  # type: ignore[return-value]

    before = state()
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        Jacobian(model, image()) @ image()
    assert state() == before


@pytest.mark.parametrize("constant", [False, True])
def test_relus_are_not_refused(constant: bool) -> None:
    """Kinks within a finite difference, and images that lie on kinks, refuse none of 60 random ReLU networks."""
    for seed in range(30):
        for bias in (False, True):
            torch.manual_seed(seed)
            layers = [layer for _ in range(4) for layer in (conv(4, 4, bias=bias), nn.ReLU(), nn.MaxPool2d(2, 1, 1))]
            net = nn.Sequential(conv(1, 4, bias=bias), nn.ReLU(), *layers, conv(4, 1))
            Jacobian(
                net, torch.full((1, 1, 16, 16), -1000.0 * (seed % 2)) if constant else 100 * torch.randn(1, 1, 16, 16)
            )


def test_precision_that_is_fixed_in_the_model_is_no_cause_of_refusal() -> None:
    """Float32 constants, which no double precision can check, and float32 inside are accepted; hiding is not."""
    kernel = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    x = image().float()
    operator = Jacobian(lambda x: F.conv2d(x, kernel, padding=1).relu(), x)
    torch.testing.assert_close(operator @ x, F.conv2d(x, kernel, padding=1).relu())
    v = image(seed=3)
    found = Jacobian(lambda x: x.float().square().to(x.dtype), image()) @ v
    torch.testing.assert_close(found, 2 * image() * v, rtol=1e-5, atol=1e-5)
    for hidden in (
        lambda x: F.conv2d(x, kernel, padding=1) * x.detach(),
        lambda x: x.float().square().to(x.dtype) * x.detach(),
    ):
        with pytest.raises(ValueError, match="off finite differences"):
            Jacobian(hidden, x)


def test_models_of_one_size_or_of_small_domains_are_checked_whole() -> None:
    """A model that takes only its own size is accepted on an image beyond the check's crop, and refused if it hides."""
    weight = torch.randn(1, 1, 72, 70, dtype=torch.float64)
    x = image(1, 1, 72, 70).abs()
    v = image(1, 1, 72, 70, seed=2)
    torch.testing.assert_close(Jacobian(lambda x: weight * (x + 1).log(), x) @ v, weight * v / (x + 1))
    with pytest.raises(ValueError, match="off finite differences"):
        Jacobian(lambda x: weight * x * x.detach(), x)


def test_an_image_of_a_size_that_the_model_does_not_take_is_to_blame_itself() -> None:
    """The error names the image's shape where only the check's crop lies on the model's pooling grid."""
    with pytest.raises(ValueError, match=r"image: .* that the model takes, got shape \(1, 1, 67, 66\).*Torch says"):
        Jacobian(lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2) + x, image(1, 1, 67, 66))


def test_checks_cost_no_evaluations_and_little_time() -> None:
    """The check of a large image runs on a small crop, is done once for all crops, and is not counted."""
    sizes = []

    def model(x: Tensor) -> Tensor:
        sizes.append(x.shape[-1])
        return F.avg_pool2d(x, 3, 1, 1)

    operator = Jacobian(model, torch.randn(1, 1, 256, 256), halo=2)
    assert operator.evaluations == 0
    assert set(sizes) == {_derivative.CROP[4]}
    sizes.clear()
    operator.row((100, 100))
    assert sizes == [5]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(f"{'network':34} {'largest relative difference':>28}  J @ v of many vectors")
    for name in NETWORKS:
        found, kept = differences(name)
        print(f"{name:34} {max(found):28.1e}  {'kept linearization' if kept else 'vector by vector'}")


class DropPath(nn.Module):
    """Leaves its branch out once in twenty evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, Y, X), the same shape."""
        h = self.a(x)
        return h + self.b(h).relu() * torch.empty(1, 1, 1, 1, dtype=x.dtype).bernoulli_(0.95) / 0.95


@pytest.mark.parametrize("seed", range(8))
def test_numbers_that_are_seldom_drawn_are_refused(seed: int) -> None:
    """Stochastic depth is random also where two evaluations agree."""
    torch.manual_seed(seed)
    with pytest.raises(ValueError, match=r"model: expected the same output .* got random numbers drawn in forward"):
        Jacobian(DropPath().train(), torch.rand(1, 1, 12, 12))


@pytest.mark.parametrize("hidden", [lambda x: torch.logit(x).detach(), lambda x: F.dropout(torch.ones_like(x))])
def test_the_end_of_a_domain_is_checked_as_it_is(hidden: Callable[[Tensor], Tensor]) -> None:
    """A model that has no value beyond 1 is checked at the image itself, and what it hides is found."""
    image = torch.linspace(0.001, 0.9999, 256).reshape(1, 1, 16, 16)
    assert Jacobian(torch.logit, image).output.isfinite().all()
    with pytest.raises(ValueError, match="model: expected"):
        Jacobian(lambda x: torch.logit(x) * hidden(x), image)


def test_attention_in_a_checkpoint_is_recomputed_by_its_formula() -> None:
    """Products of attention that is computed again in the backward pass are those of plain autograd."""
    torch.manual_seed(0)
    inner, mix = nn.Conv2d(1, 4, 3, padding=1).double(), nn.MultiheadAttention(4, 2, batch_first=True).double()

    def model(x: Tensor) -> Tensor:
        h = inner(x).flatten(2).mT
        return torch.utils.checkpoint.checkpoint(lambda t: mix(t, t, t)[0], h, use_reentrant=False).sum(-1)

    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(model, image).reshape(16, 16)
    operator = Jacobian(model, image)
    found = torch.cat([operator.T @ u[None] for u in torch.eye(16, dtype=torch.float64)])
    torch.testing.assert_close(found.reshape(16, 16), expected)


@pytest.mark.parametrize("scale", [1e-4, 1e-6])
def test_small_images_of_float32_functions_are_not_refused(scale: float) -> None:
    """Differences that float32 rounds to nothing refute no derivative."""
    for seed in range(6):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
        Jacobian(lambda x, net=net: net(x), torch.rand(1, 1, 24, 24) * scale)


def test_two_threads_leave_the_switches_of_torch_as_they_were() -> None:
    """Products in several threads put attention and checkpoints back."""
    before = torch.utils.checkpoint.CheckpointFunction, torch.backends.mha.get_fastpath_enabled()
    operators = [Jacobian(nn.Conv2d(1, 1, 3, padding=1), torch.rand(1, 1, 16, 16)) for _ in range(2)]

    def work(operator: Jacobian) -> None:
        for _ in range(20):
            operator @ torch.ones(1, 1, 16, 16)

    threads = [threading.Thread(target=work, args=(operator,)) for operator in operators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == (torch.utils.checkpoint.CheckpointFunction, torch.backends.mha.get_fastpath_enabled())
