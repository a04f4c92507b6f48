"""Products, covariances and noise maps against whole-image double backward: ``python benchmarks/jacobian.py``.

Everything runs in this process, in turn; that ours and the plain reference agree is checked first. The plain reference
is written out here: J v as Xu & Noo compute it, on the whole image.
"""

from __future__ import annotations

import argparse
import time

import torch
from common import compare

from noisebook import datasets, simulated
from noisebook.jacobian import Covariance, Jacobian, noise_map, white
from noisebook.papers import linearized


def double_backward(net: torch.nn.Module, image: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """J v: the gradient of <J'w, v> with respect to a dummy w."""
    image = image.clone().requires_grad_(True)
    output = net(image)
    dummy = torch.zeros_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad(output, image, dummy, create_graph=True)
    (product,) = torch.autograd.grad(gradient, dummy, v)
    return product


def reverse(net: torch.nn.Module, image: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """J' u by one reverse pass."""
    image = image.clone().requires_grad_(True)
    return torch.autograd.grad(net(image), image, u)[0]


def setup(channels: int, levels: int, pixels: int) -> tuple[linearized.model.FBPConvNet, torch.Tensor]:
    """A net with random weights that trains nothing, and a noisy image."""
    torch.manual_seed(0)
    net = linearized.model.FBPConvNet(channels, levels).eval().requires_grad_(False)
    torch.nn.init.normal_(net.last.weight)
    return net, 50 * torch.randn(1, 1, pixels, pixels)


def products(channels: int, rounds: int) -> None:
    """Many J v at one image."""
    net, image = setup(channels, 4, 256)
    vectors = torch.randn(24, 1, 256, 256)
    fast = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    operator = Jacobian(fast, image)
    torch.testing.assert_close((operator @ vectors[:1]), double_backward(net, image, vectors[:1]), rtol=1e-3, atol=1e-3)
    start = time.perf_counter()
    operator.linearize()
    print(f"tracing the linearization: {1000 * (time.perf_counter() - start):.0f} ms, once an image")
    torch.testing.assert_close(operator @ vectors[:1], double_backward(net, image, vectors[:1]), rtol=1e-3, atol=1e-3)
    plain, _ = setup(channels, 4, 256)

    def one_by_one() -> None:
        for v in vectors[:4]:
            double_backward(plain, image, v[None])

    compare(f"4 of many J v, 4 levels, {channels} channels, 256²", lambda: operator @ vectors[:4], one_by_one, rounds)
    single = Jacobian(fast, image)
    compare("one J v", lambda: single @ vectors[:1], lambda: double_backward(plain, image, vectors[:1]), rounds)


def one_pixel(channels: int, rounds: int) -> None:
    """Covariance in a region, and variance, of one pixel for white noise."""
    pixel, roi = (256, 256), (slice(224, 288), slice(224, 288))
    net, image = setup(channels, 5, 512)
    plain, _ = setup(channels, 5, 512)
    fast = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    impulse = torch.zeros_like(image)
    impulse[(0, 0, *pixel)] = 1

    def cropped() -> Jacobian:
        return Jacobian(fast, image, halo=net.halo, stride=net.stride)

    def whole() -> torch.Tensor:
        return double_backward(plain, image, reverse(plain, image, impulse))

    expected = whole()
    found = cropped().covariance_image(pixel, white(1.0), roi)
    torch.testing.assert_close(found, expected[(..., *roi)], rtol=1e-3, atol=1e-3 * float(expected.max()))
    variance = cropped().variance(pixel, white(1.0))
    torch.testing.assert_close(torch.tensor(variance), expected[(0, 0, *pixel)], rtol=1e-3, atol=0)
    window = tuple(slice(s.start - net.halo, s.stop + net.halo) for s in roi)
    with torch.no_grad():
        inner = plain(image[(..., *window)])[..., net.halo : -net.halo, net.halo : -net.halo]
        torch.testing.assert_close(inner, plain(image)[(..., *roi)], rtol=1e-4, atol=1e-3)
    print("the crop's output, its border included, equals the whole image's")
    name = f"of one pixel, 5 levels, {channels} channels, 512²"
    compare(f"64² covariance {name}", lambda: cropped().covariance_image(pixel, white(1.0), roi), whole, rounds)
    compare(f"variance {name}", lambda: cropped().variance(pixel, white(1.0)), whole, rounds)
    row, reached = ((side / 512) ** 2 for side in (net.stride + 2 * net.halo, 64 + 2 * net.halo))
    for kind, method, ceiling, more in (
        ("64² covariance", Jacobian.covariance_image, 1 / reached, (roi,)),
        ("variance", Jacobian.variance, 1 / row, ()),
    ):
        compare(
            f"{kind}, cropped against not (ceiling by area {ceiling:.2f})",
            lambda m=method, a=more: m(cropped(), pixel, white(1.0), *a),  # type: ignore[misc]
            lambda m=method, a=more: m(Jacobian(fast, image), pixel, white(1.0), *a),  # type: ignore[misc]
            rounds,
        )


def maps(realisations: int) -> None:
    """Noise maps of a 256 x 256 slice, their cost, their true error, and the linearization's own bias."""
    root = simulated.embedded_ct(simulated.TEST)
    pair = datasets.ct_pairs(root, datasets.ct_patients(root)[-1], label="noise free")
    grid, middle = linearized.data.grid_of(pair), slice(128, 384)
    scan = linearized.data.scan(pair.label[1], grid, grid.part(middle, middle), "I0")
    net = linearized.experiment.NETWORKS.load("linearized-i0")
    operator = Jacobian(net, scan.mean)
    carried = scan.covariance(scan.dose.variance(scan.expected, scan.geometry))
    places = [(row, column) for row in range(4, 256, 24) for column in range(4, 256, 24)]
    for name, noise, method in (("white", white(16.0), "structured"), ("of FBP", carried, "random")):
        exact = torch.tensor([operator.variance(place, noise) for place in places]).sqrt()
        found = noise_map(Jacobian(net, scan.mean), noise, method=method)
        off = torch.stack([found.sd[place] for place in places]) / exact - 1
        equal = 1 / (2 * found.standard_error**2)
        carlo = monte_carlo(net, scan.mean, noise, realisations)
        bias = float((found.sd / carlo).median()) - 1
        print(
            f"noise map 256², noise {name}, {method}: {found.evaluations:.0f} network evaluations, standard error "
            f"{found.standard_error:.1%} (true error at {len(places)} pixels {float(off.square().mean().sqrt()):.1%}); "
            f"Monte Carlo of equal standard error {equal:.0f}, share {found.evaluations / equal:.2f}; linearization's "
            f"own bias {bias:+.1%} (median, against {realisations} realisations)"
        )


def monte_carlo(net: torch.nn.Module, mean: torch.Tensor, noise: Covariance, count: int) -> torch.Tensor:
    """Standard deviation of the network's output for Gaussian noise about an image, (Y, X)."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        origin = net(mean)
        total, squares = torch.zeros_like(origin[0, 0]), torch.zeros_like(origin[0, 0])
        for _ in range(count // 20):
            d = (net(mean + noise.draw(mean, 20, generator)) - origin)[:, 0]
            total, squares = total + d.sum(0), squares + d.square().sum(0)
    return ((squares - total.square() / count) / (count - 1)).sqrt()


def main() -> None:
    """Check equality, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--realisations", type=int, default=2000)
    arguments = parser.parse_args()
    products(arguments.channels, arguments.rounds)
    one_pixel(arguments.channels, arguments.rounds)
    maps(arguments.realisations)


if __name__ == "__main__":
    main()
