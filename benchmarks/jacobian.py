"""Forward mode against the paper's double backward: ``python benchmarks/jacobian.py [--channels N] [--pixels N]``.

Both run in this process, in turn; that they agree is checked first. The plain reference is written out here.
"""

from __future__ import annotations

import argparse

import torch
from common import compare

from noisebook.jacobian import Jacobian
from noisebook.papers.linearized import FBPConvNet


def double_backward(net: torch.nn.Module, image: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """J v as Xu & Noo compute it: the gradient of <J'w, v> with respect to a dummy w."""
    image = image.clone().requires_grad_(True)
    output = net(image)
    dummy = torch.zeros_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad(output, image, dummy, create_graph=True)
    (product,) = torch.autograd.grad(gradient, dummy, v)
    return product


def main() -> None:
    """Check equality, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    net = FBPConvNet(arguments.channels, arguments.levels).eval()
    torch.nn.init.normal_(net.last.weight)
    image, v = (50 * torch.randn(1, 1, arguments.pixels, arguments.pixels) for _ in range(2))
    operator = Jacobian(net, image)
    torch.testing.assert_close(operator @ v, double_backward(net, image, v), rtol=1e-3, atol=1e-3)
    shape = f"{arguments.levels} levels, {arguments.channels} channels, {arguments.pixels}²"
    compare(f"J v, {shape}", lambda: operator @ v, lambda: double_backward(net, image, v), arguments.rounds)


if __name__ == "__main__":
    main()
