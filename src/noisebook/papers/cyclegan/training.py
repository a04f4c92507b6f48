"""Training of the CycleGAN chapter: the alternating step, the supervised step, and what a training is chosen by.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244 (image buffer: A. Shrivastava et al., CVPR 2017,
arXiv 1612.07828; least squares: X. Mao et al., ICCV 2017, arXiv 1611.04076); E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook._checks import check_one_of, check_positive, error

from .network import INIT, SCALE_HU, Discriminator, Generator, normalise
from .scans import PAIRINGS
from .watch import WINDOW_HU, Watch

SCHEDULES = ("step", "linear")
PRECISIONS = ("float32", "bfloat16")
CRITICS = ("authors", "windowed")
"""What judges: the authors' discriminators, or ones without normalisation that see soft tissue alone."""


@dataclass(frozen=True)
class Config:
    """Networks, losses and schedule; the defaults are the authors' (the course project), `ZHU` is Zhu's schedule."""

    width: int = 32  # of the generators; from the authors' code
    critic: int = 64  # width of the discriminators; Zhu et al., section 7.2
    critics: str = "authors"  # of `CRITICS`; ours
    looks: int = 1  # ours; steps of the discriminators, each on crops of its own, for one of the generators
    blocks: int = 6  # Zhu et al., section 7.2, for images of 128 pixels
    last: float = INIT  # new weights of the generators' last layer; from the authors' code
    scale_hu: float = SCALE_HU  # HU that one stands for; from the authors' code
    pairing: str = "shuffled"  # of `scans.PAIRINGS`; from the authors' code. registered: supervised, L1
    every: int = 1  # ours; registered: every so many-th patient
    shift: int = 0  # ours; registered: the label's crop lies up to so many pixels elsewhere, along both axes
    lambda_cycle: float = 10.0  # of L1 over 4000 HU, whatever scale_hu; Zhu et al., section 4
    lambda_identity: float = 5.0  # Zhu et al., section 5.2: half of the cycle's
    learning_rate: float = 2e-4  # Zhu et al., section 4
    schedule: str = (
        "step"  # generators times 0.95 every 5 epochs; from the authors' code. linear: Zhu et al., section 4
    )
    buffer: int = 0  # images of the past shown to the discriminators; Zhu et al., section 4: 50; the authors: none
    batch: int = 4  # from the authors' code
    epochs: int = 65  # from the authors' code
    patch: int = 128  # from the authors' code
    crops: int = 1  # of each slice and epoch; from the authors' code
    precision: str = "float32"  # bfloat16: the generators under autocast; ours
    seed: int = 0  # ours

    def __post_init__(self) -> None:
        words = {"pairing": PAIRINGS, "schedule": SCHEDULES, "precision": PRECISIONS, "critics": CRITICS}
        for name, known in words.items():
            check_one_of(name, getattr(self, name), known)
        for name in ("every", "batch", "epochs", "patch", "crops", "learning_rate", "looks"):
            check_positive(name, getattr(self, name))
        for name in ("shift", "lambda_cycle", "lambda_identity", "buffer"):
            if not getattr(self, name) >= 0:
                raise error(name, "a number from zero on", getattr(self, name))
        if self.shift and not self.supervised:
            raise error("shift", "0 unless pairing is registered", self.shift)
        if self.looks > 1 and not self.buffer:
            raise error("buffer", "at least 1 image, as the discriminators look more than once", self.buffer)

    @property
    def supervised(self) -> bool:
        """Whether the generator is trained on pairs, by L1 alone."""
        return self.pairing == "registered"


def _new(config: Config) -> dict[str, nn.Module]:
    """New networks, their weights drawn from the configuration's seed: the same denoiser, supervised or not.

    Channels lie last in memory: convolutions then take half the time on a CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        nets: dict[str, nn.Module] = {"g_q2f": generator(config)}
        if not config.supervised:
            nets |= {"g_f2q": generator(config)}
            nets |= {name: Discriminator(config.critic, config.critics == "authors") for name in ("d_f", "d_q")}
    for net in nets.values():
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return nets


def generator(config: Config) -> Generator:
    """A generator of a configuration, its weights drawn from the global state."""
    return Generator(config.width, config.blocks, config.last, config.scale_hu)


class ImageBuffer:
    """Images that generators made in the past, for discriminators to be shown in place of half of the new ones.

    Args:
        size: How many are kept; 0 gives every image back as it is.
        seed: Of the choice between past and new.

    Source: Zhu et al. 2017, section 4: 50 images.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def exchange(self, images: Tensor) -> Tensor:
        """Hand in (B, C, Y, X); get as many back.

        Until the buffer is full each image is kept and given back; then, with probability 1/2, an older one is given
        back and replaced by it.
        """
        found = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and self._draw(2):
                place = self._draw(self.size)
                image, self.images[place] = self.images[place].to(image.device), image
            found.append(image)
        return torch.stack(found)

    def past(self, count: int) -> Tensor:
        """Some of the kept images, (count, C, Y, X), at random."""
        return torch.stack([self.images[self._draw(len(self.images))] for _ in range(count)])

    def _draw(self, limit: int) -> int:
        return int(torch.randint(limit, (), generator=self.generator))

    def state_dict(self) -> dict[str, Any]:
        """The images, on the CPU, and the random state."""
        return {"images": [image.cpu() for image in self.images], "random": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it holds more images than fit.
        """
        if len(state["images"]) > self.size:
            raise error("buffer", f"at most {self.size} images", len(state["images"]))
        self.images = list(state["images"])
        self.generator.set_state(state["random"])


def adversarial(judgement: Tensor, real: bool) -> Tensor:
    """The least-squares distance of a discriminator's map, any shape, from 1 (real) or 0: a mean."""
    return (judgement - float(real)).square().mean()


class Training:
    """Two generators, two discriminators and their alternating step, for `noisebook.training.fit`.

    The generators' loss is a sum over parts that share nothing but weights; each part runs backward by itself, so that
    only one graph is in memory at a time, and the discriminators' weights take no part in it.

    Args:
        config: What to train, and how; not ``registered``.
        watch: What an epoch is judged by.
    """

    parts: tuple[str, ...] = (
        *("g_q2f", "g_f2q", "d_f", "d_q", "generators", "critics", "schedulers", "past_full", "past_quarter", "watch"),
    )

    def __init__(self, config: Config, watch: Watch | None = None) -> None:
        self.config = config
        nets = _new(config)
        self.g_q2f, self.g_f2q, self.d_f, self.d_q = nets.values()
        self.generators = _adam(config, self.g_q2f, self.g_f2q)
        self.critics = _adam(config, self.d_f, self.d_q)
        self.schedulers = Schedulers(config, self.generators, self.critics)
        self.past_full, self.past_quarter = (ImageBuffer(config.buffer, 2 * config.seed + k) for k in (0, 1))
        self.watch = watch or Watch({})

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (quarter dose, full dose), both (looks B, 1, Y, X) in HU, of different places and patients.

        The generators see the first B; the discriminators look at all, beside what the generators made now and before.

        Returns:
            ``adversarial``: mean of the generators' two terms, before the step. ``critics``: mean over domains and
            looks of the sum of the two squared terms, before halving. ``cycle_hu``: mean of the two L1 residuals;
            ``identity_full_hu`` and ``identity_quarter_hu``: of full dose denoised, and of quarter dose made noisier.
            Those whose weight is zero are left out.
        """
        c = self.config
        looks = list(zip(*(torch.split(normalise(images, c.scale_hu), c.batch) for images in batch), strict=True))
        with _frozen(self.d_f, self.d_q):
            found, fakes = self._generators(fabric, *looks[0])
        shown = [self.past_full.exchange(fakes[0]), self.past_quarter.exchange(fakes[1])]
        sums = [self.look(fabric, looks[0], shown)]
        for real in looks[1:]:
            sums.append(self.look(fabric, real, [past.past(c.batch) for past in (self.past_full, self.past_quarter)]))
        found["critics"] = torch.stack(sums).mean()
        return {name: SCALE_HU * value if name.endswith("_hu") else value for name, value in found.items()}

    def _generators(self, fabric: Any, quarter: Tensor, full: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        c = self.config
        ways = ((self.g_q2f, self.g_f2q, self.d_f, quarter), (self.g_f2q, self.g_q2f, self.d_q, full))
        self.generators.zero_grad()
        terms: dict[str, list[Tensor]] = {"adversarial": [], "cycle_hu": []}
        fakes = []
        for there, back, critic, start in ways:
            with autocast(c, start):
                fake = there(start)
                around = self._apart(back(fake), start) if c.lambda_cycle else None
            fooled = adversarial(self._judge(critic, fake), True)
            fabric.backward(fooled if around is None else fooled + c.lambda_cycle * around)
            terms["adversarial"].append(fooled.detach())
            terms["cycle_hu"] += [] if around is None else [around.detach()]
            fakes.append(fake.detach())
        for name, there, same in (("full", self.g_q2f, full), ("quarter", self.g_f2q, quarter)):
            if c.lambda_identity:
                with autocast(c, same):
                    change = self._apart(there(same), same)
                fabric.backward(c.lambda_identity * change)
                terms[f"identity_{name}_hu"] = [change.detach()]
        self.generators.step()
        return {name: torch.stack(values).mean() for name, values in terms.items() if values}, fakes

    def _apart(self, images: Tensor, others: Tensor) -> Tensor:
        """Their L1 distance at the authors' scale, whatever ours: the losses' weights keep their meaning."""
        return F.l1_loss(images, others) * (self.config.scale_hu / SCALE_HU)

    def _judge(self, critic: nn.Module, images: Tensor) -> Tensor:
        """A discriminator's map of what it is shown of images: all, or soft tissue within the window, about -1 to 1."""
        if self.config.critics == "authors":
            return critic(images)  # type: ignore[no-any-return]
        low, high = (bound / self.config.scale_hu for bound in WINDOW_HU)
        return critic(images.clamp(low, high) * (2 / (high - low)))  # type: ignore[no-any-return]

    def look(self, fabric: Any, real: Sequence[Tensor], fakes: Sequence[Tensor]) -> Tensor:
        """One step of the discriminators: real is (quarter, full dose), fakes are (full, quarter dose), normalised.

        Returns:
            The sum of a discriminator's two squared terms before the step, the mean over both.
        """
        quarter, full = real
        self.critics.zero_grad()
        sums = []
        for critic, true, false in ((self.d_f, full, fakes[0]), (self.d_q, quarter, fakes[1])):
            judged = self._judge(critic, torch.cat([true, false]))
            both = adversarial(judged[: len(true)], True) + adversarial(judged[len(true) :], False)
            fabric.backward(both / 2)
            sums.append(both.detach())
        self.critics.step()
        return torch.stack(sums).mean()

    def end_epoch(self, epoch: int) -> None:
        """Judge the generators, and lower the learning rates."""
        self.watch.look(epoch, {"q2f": self.g_q2f, "f2q": self.g_f2q})
        self.schedulers.step()


class PairedTraining:
    """The denoiser alone, trained on pairs by L1: the supervised twins.

    Args:
        config: What to train, and how; ``registered``.
        watch: What an epoch is judged by.
    """

    parts: tuple[str, ...] = ("g_q2f", "generators", "schedulers", "watch")

    def __init__(self, config: Config, watch: Watch | None = None) -> None:
        self.config = config
        (self.g_q2f,) = _new(config).values()
        self.generators = _adam(config, self.g_q2f)
        self.schedulers = Schedulers(config, self.generators)
        self.watch = watch or Watch({})

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (quarter dose, full dose), both (B, 1, Y, X) in HU; logs ``l1_hu``."""
        quarter, full = (normalise(images, self.config.scale_hu) for images in batch)
        with autocast(self.config, quarter):
            loss = F.l1_loss(self.g_q2f(quarter), full)
        self.generators.zero_grad()
        fabric.backward(loss)
        self.generators.step()
        return {"l1_hu": self.config.scale_hu * loss.detach()}

    def end_epoch(self, epoch: int) -> None:
        """Judge the denoiser, and lower the learning rate."""
        self.watch.look(epoch, {"q2f": self.g_q2f})
        self.schedulers.step()


class Schedulers:
    """The learning rates of a configuration: of the generators, and, if it is linear, of the discriminators too."""

    def __init__(self, config: Config, *optimizers: torch.optim.Optimizer) -> None:
        if config.schedule == "step":
            self.each: list[Any] = [torch.optim.lr_scheduler.StepLR(optimizers[0], 5, 0.95)]
        else:
            constant = config.epochs // 2
            falling = config.epochs - constant
            self.each = [
                torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, (config.epochs - epoch) / falling))
                for o in optimizers
            ]

    def step(self) -> None:
        """An epoch has ended."""
        for one in self.each:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each."""
        return {str(k): one.state_dict() for k, one in enumerate(self.each)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for k, one in enumerate(self.each):
            one.load_state_dict(state[str(k)])


def autocast(config: Config, images: Tensor) -> AbstractContextManager[None]:
    """The generators' convolutions in the configuration's precision.

    Weights, losses and the discriminators stay float32: those cost little, and their judgements are close calls.
    """
    on = config.precision == "bfloat16"
    return torch.autocast(images.device.type, torch.bfloat16, enabled=on)


@contextmanager
def _frozen(*nets: nn.Module) -> Iterator[None]:
    """Networks through which gradients pass without reaching their weights."""
    for net in nets:
        net.requires_grad_(False)
    try:
        yield
    finally:
        for net in nets:
            net.requires_grad_(True)


def _adam(config: Config, *nets: nn.Module) -> torch.optim.Optimizer:
    values = chain.from_iterable(net.parameters() for net in nets)
    return torch.optim.Adam(values, lr=config.learning_rate, betas=(0.5, 0.999))
