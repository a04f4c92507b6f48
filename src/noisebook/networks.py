"""The networks of a paper: trained, stored, loaded and described in one way for all papers.

A paper says what is its own (how a network is built, one training step, its batches, its words); everything around
that (checkpoints, resuming, half precision, the registry, the choice between embedded, published and newly trained
weights) is here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from noisebook import _paths, training, weights
from noisebook._checks import check_one_of

SOURCES = ("embedded", "published", "train")
"""Where a chapter's networks may come from, which is this book, the authors, or a training of the authors' size."""
Batches = Callable[[int, torch.Generator], Iterable[Any]]


class Trainee(training.Trainee, Protocol):
    """What `Networks.train` trains."""

    @property
    def net(self) -> nn.Module:
        """The network that the training gives, which is the last one or the one that validation chose."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        net: The network, on the CPU, in evaluation mode.
        log: Means of what the steps logged, one dictionary an epoch.
        trainee: What was trained, in its final state.
    """

    net: Any
    log: training.Log
    trainee: Any


@dataclass(frozen=True)
class Networks:
    """The networks of one paper.

    Attributes:
        chapter: The paper's name.
        shipped: Configurations of the networks in the registry, by id.
        build: A new network of a configuration, its weights drawn from the configuration's seed.
        trainee: What trains a configuration: network, optimisers, step.
        batches: ``batches(config, data, folder)`` gives ``batches(epoch, generator)``; data None means the embedded
            data, and ``folder`` is that of the checkpoints, beside which prepared data may be kept.
        describe: A configuration in words, by topic, ``architecture`` and ``schedule`` among them; what two networks
            share is then said once.
        data: Identity of the embedded training data, in words.
        trained_on: The ranges of a configuration's embedded training inputs, for the registry.
        outcome: ``outcome(net, config)`` is the network's output on a few held-out examples, any shape.
        unit: Of the root mean square change of that output when weights are stored in half precision.
        authors: Configurations of the authors' own size, by the ids of ``shipped``; for ``source="train"``.
        published: Opens the authors' weights by the same ids; None where there are none.
        others: Further configurations that studies train and claims name, by id.
        course: What of a configuration decides each step; trainings that differ in the rest share their checkpoints,
            so that more epochs resume from fewer.
    """

    chapter: str
    shipped: Mapping[str, Any]
    build: Callable[[Any], nn.Module]
    trainee: Callable[[Any], Trainee]
    batches: Callable[[Any, Any, Path], Batches]
    describe: Callable[[Any], Mapping[str, str]]
    data: Callable[[Any], str]
    trained_on: Callable[[Any], Mapping[str, weights.Range]]
    outcome: Callable[[nn.Module, Any], Tensor]
    unit: str
    authors: Mapping[str, Any] = field(default_factory=dict)
    published: Callable[[str], nn.Module] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    course: Callable[[Any], object] = lambda config: config

    def config(self, id: str) -> Any:
        """The configuration of an id, shipped or not.

        Raises:
            ValueError: The id is unknown; the nearest one is named.
        """
        known = {**self.shipped, **self.others}
        check_one_of(f"network of {self.chapter}", id, known)
        return known[id]

    def checkpoints(self, folder: Path, name: str, config: Any, data: str = "") -> Path:
        """Where the checkpoints of a training lie: other configurations and other data have other folders."""
        known = hashlib.sha256(f"{self.course(config)} {data or self.data(config)}".encode()).hexdigest()
        return folder / f"{name}-{known[:8]}"

    def train(
        self,
        config: Any,
        folder: Path,
        data: Any = None,
        *,
        trainee: Trainee | None = None,
        device: str = "auto",
        progress: bool = True,
    ) -> Trained:
        """Train a network; an interrupted training resumes from its latest checkpoint, a finished one is only read.

        Args:
            config: Network and schedule.
            folder: For checkpoints and the log; see `checkpoints`.
            data: As the paper's ``batches`` takes it; the embedded data if None.
            trainee: In place of a new one, for a training that starts from given weights.
            device: ``auto``, ``cpu`` or ``cuda``.
            progress: Show a progress bar.

        Raises:
            ValueError: As the paper's ``trainee`` and ``batches`` raise.
            FloatingPointError: The loss is not finite; the last whole epoch stays on disk.
        """
        trainee = trainee or self.trainee(config)
        log = training.fit(
            trainee,
            self.batches(config, data, folder),
            epochs=config.epochs,
            folder=folder,
            seed=config.seed,
            device=device,
            progress=progress,
        )
        return Trained(trainee.net.cpu().eval(), log, trainee)

    def train_shipped(self, folder: Path, ids: Iterable[str] | None = None, device: str = "auto") -> None:
        """Train the networks that ship with the book and enter them into the registry.

        Args:
            folder: For checkpoints, in a subfolder for each network and configuration.
            ids: Of the registry; all if None.
            device: ``auto``, ``cpu`` or ``cuda``.

        Raises:
            ValueError: An id is unknown; nothing is trained then.
        """
        chosen = list(self.shipped if ids is None else ids)
        for id in chosen:
            check_one_of("network", id, self.shipped)
        for id in chosen:
            config = self.shipped[id]
            self.store(id, config, self.train(config, self.checkpoints(folder, id, config), device=device).net)

    def store(self, id: str, config: Any, net: nn.Module, data: Path = _paths.DATA) -> weights.Embedded:
        """Store a network in half precision and enter it into the registry, with what halving changes.

        Args:
            id: Of the registry.
            config: What it was trained with.
            net: On the CPU, in evaluation mode; its weights become the stored ones.
            data: The folder of the registry.
        """
        words = self.describe(config)
        kept = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}

        def outcome(net: nn.Module) -> Tensor:
            with torch.no_grad():
                return self.outcome(net, config)

        return weights.embed(
            id,
            net,
            outcome,
            self.unit,
            chapter=self.chapter,
            architecture=words["architecture"],
            config={key: value for key, value in kept.items() if value is not None},
            schedule="; ".join(text for topic, text in words.items() if topic != "architecture"),
            training_data=self.data(config),
            trained_on=self.trained_on(config),
            seed=config.seed,
            data=data,
        )

    def load(self, id: str, device: str = "cpu", data: Path = _paths.DATA) -> Any:
        """A network of the registry, verified, in evaluation mode.

        Args:
            id: Of the registry.
            device: Where to put it.
            data: The folder of the registry.

        Raises:
            ValueError: The id is unknown, or the file is not the registered one.
        """
        stored = weights.metadata(id, data).config
        kind = type(next(iter(self.shipped.values())))
        known = {f.name for f in fields(kind)}
        config = kind(**{k: _tuple(v) for k, v in stored.items() if k in known})
        return weights.restored(id, self.build(config), data).to(device)

    def chosen(
        self,
        source: str,
        ids: Sequence[str],
        folder: Path,
        data: Any = None,
        *,
        identity: str = "",
        device: str = "auto",
        **changes: Any,
    ) -> dict[str, Any]:
        """The networks that a chapter looks at, by id.

        Args:
            source: One of `SOURCES`.
            ids: Of the registry.
            folder: For the checkpoints of a training.
            data: As for `train`.
            identity: Of ``data``, for the names of the checkpoints' folders.
            device: As for `train`; loaded networks are put there too, unless it is ``auto``.
            changes: Fields of the authors' configurations for a training, such as ``seed=1``.

        Raises:
            ValueError: The source is unknown, the authors published no weights, or they are not fetched.
        """
        self.check_source("networks", source)
        place = "cpu" if device == "auto" else device
        if source == "embedded":
            return {id: self.load(id, place) for id in ids}
        if source == "published":
            return {id: cast(Any, self.published)(id).to(place) for id in ids}
        full = {id: replace(self.authors[id], **changes) for id in ids}
        return {
            id: self.train(config, self.checkpoints(folder, id, config, identity), data, device=device).net.to(place)
            for id, config in full.items()
        }

    def check_source(self, name: str, source: str) -> str:
        """Refuse a source that the paper does not have, as parameter ``name``; what a stamp says of networks from it.

        Raises:
            ValueError: The source is unknown, or the authors published no weights.
        """
        check_one_of(name, source, [one for one in SOURCES if one != "published" or self.published])
        return ", ".join(self.shipped) if source == "embedded" else f"{source}: {self.chapter}"

    def words(self, *ids: str) -> str:
        """Networks and their training in words: what they share once, what differs joined by *against*."""
        known = [(self.describe(config), self.data(config)) for config in map(self.config, ids)]
        return contrasted([{**words, "training data": data} for words, data in known])


def contrasted(descriptions: Sequence[Mapping[str, str]]) -> str:
    """Descriptions by topic as one text: what they share once, what differs joined by *against*.

    >>> contrasted([{"size": "small", "loss": "L1"}, {"size": "small", "loss": "L2"}])
    'small; L1 against L2'
    """
    topics = dict.fromkeys(topic for one in descriptions for topic in one)
    said = (dict.fromkeys(one.get(topic, "") for one in descriptions) for topic in topics)
    return "; ".join(" against ".join(text or "none" for text in texts) for texts in said if any(texts))


def _tuple(value: Any) -> Any:
    """A list of a YAML file as the tuple that a configuration holds, through all its depth."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
