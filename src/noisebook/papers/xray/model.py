"""Autoencoder, variational autoencoder and residual autoencoder, with the arithmetic that Keras has.

L. Gondara, "Medical image denoising using convolutional denoising autoencoders", ICDMW 2016,
doi 10.1109/ICDMW.2016.0041. X.-J. Mao, C. Shen, Y.-B. Yang, "Image restoration using very deep convolutional
encoder-decoder networks with symmetric skip connections", NeurIPS 2016, arXiv 1603.09056. D. P. Kingma, M. Welling,
"Auto-encoding variational Bayes", ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import weights
from noisebook._checks import check_one_of, check_positive, check_shape, error

SIZES = (64, 128)
_BY_FFT, _BY_PHASES = 32, 16
"""Kernels from these sides on are applied by Fourier transforms, or as convolutions of the output's interleaved phases.

The same sums: some thirty times faster at 64 x 64, and three times at 16 x 16 with a stride."""


class SameConv(nn.Conv2d):
    """A convolution with the padding that Keras calls ``same``: sides become ceil(n / stride), odd padding trails."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) to (B, C', ceil(Y / s), ceil(X / s))."""
        pads: list[int] = []
        for side, k, s in zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True):
            total = max((-(-side // s) - 1) * s + k - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class SameTranspose(nn.ConvTranspose2d):
    """A transposed convolution that Keras calls ``same``: sides become n times the stride.

    It is the adjoint of `SameConv` on that larger image, so (k - s) // 2 rows and columns are cut in front.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        cut, missing = max(kernel - stride, 0) // 2, max(stride - kernel, 0)
        super().__init__(inputs, outputs, kernel, stride, padding=cut, output_padding=missing)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, Y, X) to (B, C', s Y, s X)."""
        k, s = self.kernel_size[0], self.stride[0]
        high, wide, cut = x.shape[2] * s, x.shape[3] * s, max(k - s, 0) // 2
        if s == 1 and k >= _BY_FFT:
            full = self._by_fft(x, [-(-(side + k - 1) // 16) * 16 for side in (high, wide)])  # no large primes
        elif k % s == 0 and k >= _BY_PHASES:
            full = self._by_phases(x, s, k // s)
        else:
            return super().forward(x, output_size)[..., :high, :wide]
        image = full[..., cut : cut + high, cut : cut + wide]
        return image if self.bias is None else image + self.bias[:, None, None]

    def _by_fft(self, x: Tensor, sides: list[int]) -> Tensor:
        spectra = torch.fft.rfft2(x, s=sides), torch.fft.rfft2(self.weight, s=sides)
        full: Tensor = torch.fft.irfft2(torch.einsum("bcyx,cdyx->bdyx", *spectra), s=sides)
        return full

    def _by_phases(self, x: Tensor, s: int, m: int) -> Tensor:
        """Every s-th pixel of the output is a convolution of the input with every s-th pixel of the kernel."""
        inputs, outputs = self.weight.shape[:2]
        parts = self.weight.reshape(inputs, outputs, m, s, m, s).permute(1, 3, 5, 0, 2, 4)
        kernels = parts.reshape(outputs * s * s, inputs, m, m).flip(2, 3)
        return F.pixel_shuffle(F.conv2d(x, kernels, padding=m - 1), s)


def glorot(module: nn.Module) -> None:
    """Draw weights as Keras does by default, for ``module.apply``: Glorot-uniform kernels, biases of zero.

    Source: X. Glorot, Y. Bengio, AISTATS 2010; the limit is the root of 6 over the sum of both fans.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _widths(width: float, *channels: int) -> list[int]:
    check_positive("width", width)
    return [max(1, round(width * number)) for number in channels]


def _encoder(size: int, outputs: int, width: float) -> nn.Sequential:
    """(B, 1, size, size) to (B, outputs)."""
    a, b, c = _widths(width, 32, 64, 90)
    if size == 64:
        layers = [nn.Conv2d(1, a, 3, 2), nn.ReLU(), nn.Conv2d(a, b, 3, 2), nn.ReLU()]
        norm = nn.BatchNorm2d(b, eps=1e-3, momentum=0.01)  # Keras: epsilon 0.001, momentum 0.99
        return nn.Sequential(*layers, norm, nn.Flatten(), nn.Linear(15 * 15 * b, outputs))
    layers = [nn.Conv2d(1, a, 3, 4), nn.ReLU(), nn.Conv2d(a, b, 3, 3), nn.ReLU(), nn.Conv2d(b, c, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 4 * c, outputs))


def _decoder(size: int, latent: int, width: float) -> nn.Sequential:
    """(B, latent) to logits (B, 1, size, size)."""
    a, b, c = _widths(width, 32, 64, 90)
    start = [nn.Linear(latent, 8 * 8 * a), nn.ReLU(), nn.Unflatten(1, (a, 8, 8))]
    if size == 64:
        steps = [SameTranspose(a, b, 3, 4), nn.ReLU(), SameTranspose(b, a, 3, 2), nn.ReLU()]
    else:
        steps = [SameTranspose(a, c, 3, 2), nn.ReLU(), SameTranspose(c, b, 3, 2), nn.ReLU()]
        steps += [SameTranspose(b, a, 3, 4), nn.ReLU()]
    return nn.Sequential(*start, *steps, SameTranspose(a, 1, 3, 1))


def _check_coder(size: int, latent: int) -> None:
    check_one_of("size", str(size), [str(known) for known in SIZES])
    check_positive("latent", latent)


class Autoencoder(nn.Module):
    """The autoencoder: (B, 1, size, size) in [0, 1] to logits of the same shape.

    Args:
        size: Pixels a side, 64 or 128: two architectures.
        latent: L, numbers in the bottleneck; the authors': 150.
        width: Factor on the channels of all convolutions; the authors': 1.

    Raises:
        ValueError: If there is no architecture for the size, or another number is not positive.
    """

    def __init__(self, size: int = 64, latent: int = 150, width: float = 1.0) -> None:
        _check_coder(size, latent)
        super().__init__()
        self.size = size
        self.encoder, self.decoder = _encoder(size, latent, width), _decoder(size, latent, width)
        self.apply(glorot)

    def forward(self, image: Tensor) -> Tensor:
        """Logits; a sigmoid makes an image of them."""
        check_shape("image", image, (None, 1, self.size, self.size))
        return self.decoder(self.encoder(image))  # type: ignore[no-any-return]


class VAE(nn.Module):
    """The variational autoencoder: (B, 1, size, size) in [0, 1] to logits of the same shape.

    Args:
        size: As for `Autoencoder`.
        latent: L; the authors': 10, 20, 40, 50 and 150. The encoder has 2 L outputs.
        width: As for `Autoencoder`.

    Raises:
        ValueError: As for `Autoencoder`.
    """

    def __init__(self, size: int = 64, latent: int = 150, width: float = 1.0) -> None:
        _check_coder(size, latent)
        super().__init__()
        self.size, self.latent = size, latent
        self.encoder, self.decoder = _encoder(size, 2 * latent, width), _decoder(size, latent, width)
        self.apply(glorot)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent normal law, each (B, L)."""
        check_shape("image", image, (None, 1, self.size, self.size))
        mean, log_variance = self.encoder(image).chunk(2, 1)
        return mean, log_variance

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the mean of the posterior."""
        return self.decoder(self.posterior(image)[0])  # type: ignore[no-any-return]


class ResidualAutoencoder(nn.Module):
    """The residual autoencoder: (B, 1, Y, X) to the same shape, sides multiples of 16.

    Args:
        width: Factor on the channels; the authors': 1, with 64, 64, 128, 256 and 518 channels.
        skips: Add each encoder's output to the decoder's of that size, as the authors do.

    Raises:
        ValueError: If the width is not positive.
    """

    def __init__(self, width: float = 1.0, skips: bool = True) -> None:
        a, b, c, d = _widths(width, 64, 128, 256, 518)
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList(
            [
                SameConv(1, a, 4),
                SameConv(a, a, 8, 2),
                SameConv(a, b, 8, 2),
                SameConv(b, c, 8, 2),
                SameConv(c, d, 4, 2),
            ]
        )
        self.up = nn.ModuleList(
            [
                SameTranspose(d, c, 4, 2),
                SameTranspose(c, b, 8, 2),
                SameTranspose(b, a, 16, 2),
                SameTranspose(a, a, 16, 2),
            ]
        )
        self.out = SameTranspose(a, 1, 64, 1)
        self.apply(glorot)

    def forward(self, image: Tensor) -> Tensor:
        """Denoise."""
        check_shape("image", image, (None, 1, None, None))
        if any(side % 16 for side in image.shape[2:]):
            raise error("image", "sides that are multiples of 16", tuple(image.shape[2:]), "Cut or resize it.")
        x, kept = image, []
        for down in self.down:
            x = F.relu(down(x))
            kept.append(x)
        for up, skip in zip(self.up, reversed(kept[:-1]), strict=True):
            x = F.relu(up(x))
            x = x + skip if self.skips else x
        return self.out(x)  # type: ignore[no-any-return]


Network = Autoencoder | VAE | ResidualAutoencoder


def denoise(net: Network, images: Tensor, batch: int = 64) -> Tensor:
    """Images that a net makes of noisy ones, both (N, 1, Y, X) in [0, 1], without gradients, in evaluation mode.

    The autoencoders' logits pass a sigmoid (the authors showed logits); the residual one's output is cut to [0, 1].
    An embedded net warns of values outside of what it was trained on.
    """
    weights.warn_outside(net, value=images)
    was = net.training
    net.eval()
    device = next(net.parameters()).device
    with torch.no_grad():
        parts = [net(part.to(device)).cpu() for part in images.split(batch)]
    net.train(was)
    found = torch.cat(parts)
    return found.clamp(0, 1) if isinstance(net, ResidualAutoencoder) else found.sigmoid()


def sample(net: VAE, latent: Tensor) -> Tensor:
    """Images (N, 1, size, size) in [0, 1] that the decoder makes of latent vectors (N, L)."""
    check_shape("latent", latent, (None, net.latent))
    with torch.no_grad():
        return net.decoder(latent).sigmoid()  # type: ignore[no-any-return]


def keras_parameters(module: nn.Module) -> int:
    """The number of parameters as Keras counts them: with the running means and variances of batch normalisation."""
    statistics = sum(2 * part.num_features for part in module.modules() if isinstance(part, nn.BatchNorm2d))
    return sum(p.numel() for p in module.parameters()) + statistics
