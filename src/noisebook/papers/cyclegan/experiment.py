"""The trainings: alternating and supervised steps, crops, the choice of an epoch; and the networks of the book.

J.-Y. Zhu et al., ICCV 2017, doi 10.1109/ICCV.2017.244 (image buffer: A. Shrivastava et al., CVPR 2017,
arXiv 1612.07828; least squares: X. Mao et al., ICCV 2017, arXiv 1611.04076); E. Kang et al., arXiv 1806.09748.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook import figures, metrics, networks, simulated, weights
from noisebook._checks import check_one_of, check_positive, check_range, error
from noisebook._parameters import check_opening

from .data import PAIRINGS, VALIDATION, WINDOW_HU, Scans, Split, check_source, domains, embedded_split
from .model import CRITICS, INIT, SCALE_HU, Discriminator, Generator, Nets, denoise, from_authors, normalise

_LAYOUT: dict[str, Any] = {"memory_format": torch.channels_last}
"""Of networks in training: convolutions take half the time on a CPU."""


@dataclass(frozen=True)
class Config:
    """Networks, losses and schedule; the defaults are the authors' (the course project), `ZHU` is Zhu's schedule."""

    width: int = 32  # of the generators; from the authors' code
    critic: int = 64  # width of the discriminators; Zhu et al., section 7.2
    critics: str = "authors"  # of `CRITICS`; ours
    critic_steps: int = 1  # ours; steps of the discriminators, each on crops of its own, for one of the generators
    blocks: int = 6  # Zhu et al., section 7.2, for images of 128 pixels
    last: float = INIT  # new weights of the generators' last layer; from the authors' code
    scale_hu: float = SCALE_HU  # HU that one stands for; from the authors' code
    pairing: str = "shuffled"  # of `scans.PAIRINGS`; from the authors' code. registered: supervised, L1
    every: int = 1  # ours; registered: every so many-th patient
    shift: int = 0  # ours; registered: the label's crop lies up to so many pixels elsewhere, along both axes
    lambda_cycle: float = 10.0  # of L1 over 4000 HU, whatever scale_hu; Zhu et al., section 4
    lambda_identity: float = 5.0  # Zhu et al., section 5.2: half of the cycle's
    learning_rate: float = 2e-4  # Zhu et al., section 4
    schedule: str = "step"  # generators times 0.95 every 5 epochs: the authors' code. linear: Zhu et al., section 4
    buffer: int = 0  # images of the past shown to the discriminators; Zhu et al., section 4: 50; the authors: none
    batch: int = 4  # from the authors' code
    epochs: int = 65  # from the authors' code
    patch: int = 128  # from the authors' code
    crops: int = 1  # of each slice and epoch; from the authors' code
    precision: str = "float32"  # bfloat16: the generators under autocast; ours
    seed: int = 0  # ours

    def __post_init__(self) -> None:
        words = {"pairing": PAIRINGS, "critics": CRITICS, "schedule": ("step", "linear")}
        for name, known in (words | {"precision": ("float32", "bfloat16")}).items():
            check_one_of(name, getattr(self, name), known)
        for name in ("every", "batch", "epochs", "patch", "crops", "learning_rate", "critic_steps"):
            check_positive(name, getattr(self, name))
        for name in ("shift", "lambda_cycle", "lambda_identity", "buffer"):
            if not getattr(self, name) >= 0:
                raise error(name, "a number from zero on", getattr(self, name))
        if self.shift and not self.supervised:
            raise error("shift", "0 unless pairing is registered", self.shift)

    @property
    def supervised(self) -> bool:
        """Whether the generator is trained on pairs, by L1 alone."""
        return self.pairing == "registered"


AUTHORS = Config()
"""The course project: 65 epochs, the generators' learning rate falls in steps, no image buffer."""
ZHU = Config(epochs=200, schedule="linear", buffer=50, batch=1)
"""Zhu et al.: 100 epochs at a constant rate and 100 falling linearly to zero, a buffer of 50 images, batches of one."""
_SMALL = replace(ZHU, width=8, blocks=2, last=INIT / 100, scale_hu=100.0, learning_rate=4e-4, epochs=16, crops=2)
_SMALL = replace(_SMALL, critic=16, precision="bfloat16")
SMALL = replace(_SMALL, pairing="patients", critics="windowed", critic_steps=4)
"""The reduced CycleGAN: a quarter of both widths, two of six blocks, and patients of whom one dose only is seen.

It starts near the identity and changes an image by at most 100 HU, so that it learns in fewer steps. Its discriminators
see the abdominal window without instance normalisation, which hides how strong noise is, four times as many crops.
"""
BASELINE = replace(_SMALL, pairing="registered", every=2, batch=2)
"""The paired baseline: the same generator trained by L1 on registered pairs, of as many slices of each dose."""
SHIFTED = replace(BASELINE, shift=8)
"""The same on misaligned pairs: one of each is up to 8 pixels, 6 mm, away along both axes."""
SHIPPED = {"cyclegan-small": SMALL, "cyclegan-paired": BASELINE, "cyclegan-shifted": SHIFTED}
"""The networks of the registry."""
WEIGHTS = ((0.0, 0.0), (10.0, 0.0), (100.0, 50.0))
"""Further weights of cycle and identity that are tried."""


def build(config: Config, critics: bool = False) -> Nets:
    """New generators, their weights drawn from the configuration's seed: the same denoiser, supervised or not.

    Args:
        config: A supervised one has no way back.
        critics: Whether to draw discriminators too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sizes = (config.width, config.blocks, config.last, config.scale_hu)
        ways = [Generator(*sizes) for _ in range(1 if config.supervised else 2)]
        count = 2 if critics and not config.supervised else 0
        judges = [Discriminator(config.critic, config.critics == "authors") for _ in range(count)]
    return Nets(*ways, *judges)  # type: ignore[arg-type]


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


class Validation:
    """Scores generators after each epoch, and keeps those of the best one.

    Args:
        slices: By name; the first is the validation, which alone chooses the epoch. Without any, the last epoch stays.
        samples: A folder for a picture an epoch: quarter dose, output and full dose of the first slice.

    Attributes:
        scores: A row an epoch: RMSE against the full dose, HU, over the slices of each name.
        epoch: The chosen one, counted from 0; -1 before the first.
        best: The generators' weights at that epoch, by the names of the state dict of `Nets`.
    """

    def __init__(self, slices: Mapping[str, Scans], samples: Path | None = None) -> None:
        self.slices, self.samples = dict(slices), samples
        self.scores: list[list[float]] = []
        self.epoch = -1
        self.best: dict[str, Tensor] = {}

    def score(self, epoch: int, **nets: nn.Module) -> None:
        """Score the denoiser ``q2f``, and keep all ``nets`` if it is the best so far."""
        outputs = [denoise(nets["q2f"], scans.quarter) for scans in self.slices.values()]
        row = [metrics.rmse(out, scans.full) for out, scans in zip(outputs, self.slices.values(), strict=True)]
        if not row or all(row[0] < before[0] for before in self.scores):
            states = {f"{way}.{name}": value for way, net in nets.items() for name, value in net.state_dict().items()}
            self.epoch, self.best = epoch, {name: value.detach().cpu().clone() for name, value in states.items()}
        self.scores.append(row)
        if self.samples and outputs:
            scans = next(iter(self.slices.values()))
            shown = {"quarter dose": scans.quarter[0], f"output, epoch {epoch + 1}": outputs[0][0]}
            shown["full dose"] = scans.full[0]
            panels = [figures.Panel(image, title, WINDOW_HU) for title, image in shown.items()]
            self.samples.mkdir(parents=True, exist_ok=True)
            figures.images(panels, columns=3).savefig(self.samples / f"sample-{epoch + 1:04d}.png")

    def state_dict(self) -> dict[str, Any]:
        """Scores, the chosen epoch and its weights."""
        return {"scores": self.scores, "epoch": self.epoch, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.scores, self.epoch, self.best = list(state["scores"]), state["epoch"], state["best"]


def adversarial(judgement: Tensor, real: bool) -> Tensor:
    """The least-squares distance of a discriminator's map, any shape, from 1 (real) or 0: a mean."""
    return (judgement - float(real)).square().mean()


class _Validated:
    """What both trainings share: a configuration, and the choice of an epoch."""

    def __init__(self, config: Config, validation: Validation | None) -> None:
        self.config, self.validation = config, validation or Validation({})

    @property
    def net(self) -> Nets:
        """The generators of the chosen epoch."""
        return weights.into(build(self.config), self.validation.best)

    def autocast(self, images: Tensor) -> torch.autocast:
        """The generators' convolutions in the configuration's precision.

        Weights, losses and the discriminators stay float32: those cost little, and their judgements are close calls.
        """
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")


class Training(_Validated):
    """Two generators, two discriminators and their alternating step, for `Networks.train`.

    The generators' loss is a sum over parts that share nothing but weights; each part runs backward by itself, so that
    only one graph is in memory at a time, and the discriminators' weights take no part in it.

    Args:
        config: What to train, and how; not ``registered``.
        validation: What chooses the epoch; without, the last one is taken.

    Raises:
        ValueError: If the discriminators look more than once, and there is no buffer of images to look at.
    """

    parts: tuple[str, ...] = (
        *("g_q2f", "g_f2q", "d_f", "d_q", "generators", "critics", "rate", "critics_rate"),
        *("past_full", "past_quarter", "validation"),
    )

    def __init__(self, config: Config, validation: Validation | None = None) -> None:
        if config.critic_steps > 1 and not config.buffer:
            raise error("buffer", "at least 1 image, as the discriminators look more than once", config.buffer)
        super().__init__(config, validation)
        nets = build(config, critics=True).to(**_LAYOUT)
        self.g_q2f, self.g_f2q, self.d_f, self.d_q = nets.children()
        self.generators = _adam(config, self.g_q2f, self.g_f2q)
        self.critics = _adam(config, self.d_f, self.d_q)
        self.rate = _rate(config, self.generators)
        self.critics_rate = _rate(config, self.critics, falls=config.schedule == "linear")
        self.past_full, self.past_quarter = (ImageBuffer(config.buffer, 2 * config.seed + k) for k in (0, 1))

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (quarter, full dose), both (critic_steps B, 1, Y, X) in HU, of different places and patients.

        The generators see the first B; the discriminators look at all, beside what the generators made now and before.

        Returns:
            ``adversarial``: mean of the generators' two terms, before the step. ``critics``: mean over domains and
            their steps of the sum of the two squared terms, before halving. ``cycle_hu``: mean of the two L1 residuals;
            ``identity_full_hu`` and ``identity_quarter_hu``: of full dose denoised, and of quarter dose made noisier.
            Those whose weight is zero are left out.
        """
        c = self.config
        parts = list(zip(*(torch.split(normalise(images, c.scale_hu), c.batch) for images in batch), strict=True))
        # gradients pass the discriminators, and reach no weight of theirs
        judges = nn.ModuleList((self.d_f, self.d_q)).requires_grad_(False)
        found, fakes = self._generators(fabric, *parts[0])
        judges.requires_grad_(True)
        shown = [self.past_full.exchange(fakes[0]), self.past_quarter.exchange(fakes[1])]
        sums = [self.judge(fabric, parts[0], shown)]
        for real in parts[1:]:
            sums.append(self.judge(fabric, real, [past.past(c.batch) for past in (self.past_full, self.past_quarter)]))
        found["critics"] = torch.stack(sums).mean()
        return {name: SCALE_HU * value if name.endswith("_hu") else value for name, value in found.items()}

    def _generators(self, fabric: Any, quarter: Tensor, full: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        c = self.config
        ways = ((self.g_q2f, self.g_f2q, self.d_f, quarter), (self.g_f2q, self.g_q2f, self.d_q, full))
        self.generators.zero_grad()
        terms: dict[str, list[Tensor]] = {"adversarial": [], "cycle_hu": []}
        fakes = []
        for there, back, critic, start in ways:
            with self.autocast(start):
                fake = there(start)
                around = self._apart(back(fake), start) if c.lambda_cycle else None
            fooled = adversarial(self._judge(critic, fake), True)
            fabric.backward(fooled if around is None else fooled + c.lambda_cycle * around)
            terms["adversarial"].append(fooled.detach())
            terms["cycle_hu"] += [] if around is None else [around.detach()]
            fakes.append(fake.detach())
        for name, there, same in (("full", self.g_q2f, full), ("quarter", self.g_f2q, quarter)):
            if c.lambda_identity:
                with self.autocast(same):
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

    def judge(self, fabric: Any, real: Sequence[Tensor], fakes: Sequence[Tensor]) -> Tensor:
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
        self.validation.score(epoch, q2f=self.g_q2f, f2q=self.g_f2q)
        self.rate.step()
        self.critics_rate.step()


class PairedTraining(_Validated):
    """The denoiser alone, trained on pairs by L1: the paired baselines.

    Args:
        config: What to train, and how; ``registered``.
        validation: What chooses the epoch; without, the last one is taken.
    """

    parts: tuple[str, ...] = ("g_q2f", "generators", "rate", "validation")

    def __init__(self, config: Config, validation: Validation | None = None) -> None:
        super().__init__(config, validation)
        self.g_q2f: nn.Module = build(config).q2f.to(**_LAYOUT)
        self.generators = _adam(config, self.g_q2f)
        self.rate = _rate(config, self.generators)

    def step(self, fabric: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """One step on (quarter dose, full dose), both (B, 1, Y, X) in HU; logs ``l1_hu``."""
        quarter, full = (normalise(images, self.config.scale_hu) for images in batch)
        with self.autocast(quarter):
            loss = F.l1_loss(self.g_q2f(quarter), full)
        self.generators.zero_grad()
        fabric.backward(loss)
        self.generators.step()
        return {"l1_hu": self.config.scale_hu * loss.detach()}

    def end_epoch(self, epoch: int) -> None:
        """Judge the denoiser, and lower the learning rate."""
        self.validation.score(epoch, q2f=self.g_q2f)
        self.rate.step()


def _rate(config: Config, optimizer: torch.optim.Optimizer, falls: bool = True) -> Any:
    """The scheduler of the generators' learning rate; where it falls linearly, of the discriminators' too."""
    if config.schedule == "step":
        return torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.95 if falls else 1.0)
    falling = config.epochs - config.epochs // 2
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, (config.epochs - epoch) / falling))


def _adam(config: Config, *nets: nn.Module) -> torch.optim.Optimizer:
    values = chain.from_iterable(net.parameters() for net in nets)
    return torch.optim.Adam(values, lr=config.learning_rate, betas=(0.5, 0.999))


def trainee(config: Config, validation: Validation | None = None) -> Training | PairedTraining:
    """What trains a configuration, supervised or not."""
    return (PairedTraining if config.supervised else Training)(config, validation)


def crops(quarter: Tensor, full: Tensor, config: Config, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of crops with flips, (quarter dose, full dose), both (critic_steps B, 1, patch, patch) in HU.

    Each domain is gone through in a random order of its own, the smaller one as often as it takes. Registered slices
    are drawn together, cropped at one place, up to ``config.shift`` apart, and flipped together.

    Args:
        quarter: All training slices, as `domains` gives them for ``config.pairing``.
        full: Those at full dose.
        config: Pairing, patch, batch, critic_steps, crops and shift.
        generator: Chooses order, places and flips.

    Raises:
        ValueError: If slices are smaller than the patch.
    """
    side = min(quarter.shape[1], full.shape[1])
    if side < config.patch:
        raise error("domains", f"slices of at least {config.patch} pixels a side", side)
    steps = max(1, config.crops * max(len(quarter), len(full)) // config.batch)
    size = config.batch * config.critic_steps
    order = _order(len(quarter), steps * size, generator)
    other = order if config.supervised else _order(len(full), steps * size, generator)
    for k in range(0, steps * size, size):
        chosen = zip(order[k : k + size], other[k : k + size], strict=True)
        pairs = [_pair(quarter[a], full[b], config, generator) for a, b in chosen]
        first, second = (torch.stack(images)[:, None] for images in zip(*pairs, strict=True))
        yield first, second


def _order(length: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` numbers below ``length``: permutations, one after the other."""
    return torch.cat([torch.randperm(length, generator=generator) for _ in range(-(-count // length))])[:count]


def _pair(first: Tensor, second: Tensor, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One crop of each dose."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def place(image: Tensor) -> tuple[list[int], list[int]]:
        room = image.shape[0] - config.patch
        return [draw(0, room), draw(0, room)], [axis for axis in (0, 1) if draw(0, 1)]

    def cut(image: Tensor, at: list[int], turned: list[int]) -> Tensor:
        return image[at[0] : at[0] + config.patch, at[1] : at[1] + config.patch].flip(turned)

    at, turned = place(first)
    if not config.supervised:
        return cut(first, at, turned), cut(second, *place(second))
    room = first.shape[0] - config.patch
    moved = [min(max(k + draw(-config.shift, config.shift), 0), room) for k in at]
    return cut(first, at, turned), cut(second, moved, turned)


def batches(config: Config, split: Split | None, folder: Path) -> networks.Batches:
    """Crops of each epoch, of given patients or of the embedded ones.

    Raises:
        ValueError: As `domains` does, and when first asked for, as `crops` does.
    """
    data = domains((split or embedded_split()).training, config.pairing, config.every)
    return lambda _, generator: crops(*data, config, generator)


def describe(config: Config) -> dict[str, str]:
    """A configuration in words."""
    loss = f"LSGAN + {config.lambda_cycle:g} cycle + {config.lambda_identity:g} identity"
    if config.supervised:
        loss = f"L1 on {f'pairs misaligned by up to {config.shift} pixels' if config.shift else 'registered pairs'}"
    critics = "discriminators without instance normalisation that see soft tissue alone"
    return {
        "architecture": f"{'one generator' if config.supervised else 'two generators'}, {config.width} channels (the "
        f"authors: {AUTHORS.width}), {config.blocks} residual blocks (the authors: {AUTHORS.blocks})",
        "loss": loss,
        "optimiser": f"Adam, {config.learning_rate:g}, {config.schedule} decay",
        "crops": f"{config.crops} crops of {config.patch} x {config.patch} a slice and epoch",
        "batches": f"batches of {config.batch}",
        "discriminators": critics if config.critics == "windowed" and not config.supervised else "",
        "steps": f"{config.critic_steps} critic steps a generator step" * (config.critic_steps > 1),
        "epoch": f"the best of {config.epochs} epochs on {VALIDATION} validation patients",
    }


def training_data(config: Config) -> str:
    """The embedded training data in words."""
    recipe = simulated.TRAIN
    slices = (len(recipe.patients) - VALIDATION) // 2 * recipe.slices
    pairing = "paired" if config.supervised else "no patient at both doses"
    return f"{recipe.id}: {slices} quarter-dose and {slices} full-dose slices of simulated patients, {pairing}"


def outcome(net: nn.Module, config: Config) -> Tensor:
    """What the denoiser makes of a slice of each validation patient, (Z, Y, X), HU."""
    return torch.from_numpy(denoise(cast(Nets, net).q2f, embedded_split().scored["validation"].quarter))


def trained_on(config: Config) -> dict[str, weights.Range]:
    """The range of the embedded training slices, of which either generator sees both doses, and the pixels' side."""
    seen, side = domains(embedded_split().training, config.pairing, config.every), simulated.TRAIN.grid.spacing_mm
    return {"value": weights.span("HU", seen), "spacing": weights.Range("mm", side, side)}


class _Networks(networks.Networks):
    """Networks whose epoch is chosen on slices of the data that they are trained on."""

    def train(self, config: Config, folder: Path, data: Split | None = None, **how: Any) -> networks.Trained:
        """As `Networks.train`; a sample picture an epoch lies beside the checkpoints, unless a trainee is given."""
        data = data or embedded_split()
        given = how.pop("trainee", None) or trainee(config, Validation(data.scored, folder / "samples"))
        return super().train(config, folder, data, trainee=given, **how)


NETWORKS = _Networks(
    chapter="cyclegan",
    shipped=SHIPPED,
    build=build,
    trainee=trainee,
    batches=batches,
    describe=describe,
    data=training_data,
    trained_on=trained_on,
    outcome=outcome,
    unit=f"HU RMS over {VALIDATION} slices",
    authors={"cyclegan-small": AUTHORS}
    | {name: replace(AUTHORS, pairing="registered", shift=SHIPPED[name].shift) for name in list(SHIPPED)[1:]},
    others={"unrelated": replace(BASELINE, shift=512)}
    | {f"weights-{a:g}-{b:g}": replace(SMALL, lambda_cycle=a, lambda_identity=b) for a, b in WEIGHTS},
)
"""The networks of the chapter; of ``others`` the names give the weights of cycle and identity."""


def checked(
    out: str,
    data_root: str,
    prefix: str,
    recipe: str,
    nets: str,
    checkpoint_path: str,
    shown: int,
    verify: bool,
    seed: int,
    device: str,
) -> tuple[str, str]:
    """Refuse parameters of the notebook that it would stumble over; the names of its data and weights, for its stamp.

    Raises:
        ValueError: One is wrong, or does not go with the others.
    """
    check_opening(checked, "cyclegan", locals())
    used = NETWORKS.check_source("nets", nets)
    check_one_of("recipe", recipe, ("test", "smoke"))
    check_range("shown", shown, 0)
    if checkpoint_path:
        from_authors(checkpoint_path, both=True)
    check_source(nets, data_root, prefix)
    name = Path(data_root).resolve().name if data_root else f"{simulated.named(recipe).id} (simulated)"
    return name, used
