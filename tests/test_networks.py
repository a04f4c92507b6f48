"""Networks of a paper: trained, stored, loaded and described by one piece of code, whatever the paper."""

from dataclasses import dataclass, replace

import pytest
import torch
import yaml
from torch import nn

from noisebook import networks, weights


@dataclass(frozen=True)
class Config:
    """A line: one weight, one bias."""

    width: int = 1
    sizes: tuple[int, ...] = (1, 2)
    rate: float = 0.1
    epochs: int = 3
    seed: int = 0


class Training:
    """Least squares on y = 2 x + 1."""

    parts = ("model", "optimizer")

    def __init__(self, config):
        self.model = self.net = build(config)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config.rate)

    def step(self, fabric, batch):
        """One step on (x, y)."""
        loss = (self.model(batch[0]) - batch[1]).square().mean()
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        return {"loss": loss}

    def end_epoch(self, epoch):
        """Nothing."""


def build(config):
    """A new line."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return nn.Linear(config.width, config.width)


def batches(config, data, folder):
    """Four batches an epoch, of given or of drawn abscissas."""

    def epoch(_, generator):
        for _ in range(4):
            x = torch.randn(8, 1, generator=generator) if data is None else data
            yield x, 2 * x + 1

    return epoch


LINES = networks.Networks(
    chapter="lines",
    shipped={"line-a": Config(), "line-b": Config(rate=0.2)},
    build=build,
    trainee=Training,
    batches=batches,
    describe=lambda c: {"architecture": f"a line of {c.width}", "loss": "MSE", "rate": f"rate {c.rate:g}"},
    data=lambda c: "drawn numbers",
    trained_on=lambda c: {"value": weights.Range("m", -4.0, 4.0)},
    outcome=lambda net, c: net(torch.ones(3, 1)),
    unit="RMS",
    authors={"line-a": Config(epochs=5), "line-b": Config(epochs=6)},
    others={"line-c": Config(rate=0.3)},
    course=lambda c: replace(c, epochs=0),
)


def by_hand(config, epochs):
    """The same training, written out in plain torch."""
    from noisebook.training import epoch_seed

    line = build(config)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch_seed(config.seed, epoch))
        for _ in range(4):
            x = torch.randn(8, 1, generator=generator)
            loss = (line(x) - 2 * x - 1).square().mean()
            slopes = torch.autograd.grad(loss, list(line.parameters()))
            with torch.no_grad():
                for value, slope in zip(line.parameters(), slopes, strict=True):
                    value -= config.rate * slope
    return line.state_dict()


@pytest.fixture
def data(tmp_path):
    """An empty registry."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"embedded": [], "external": []}))
    return tmp_path


def test_a_training_is_the_plain_loop_and_resumes(tmp_path):
    """Training equals plain torch, and three epochs that resume from two are the same three."""
    config = Config()
    folder = LINES.checkpoints(tmp_path, "line-a", config)
    LINES.train(replace(config, epochs=2), folder, device="cpu", progress=False)
    trained = LINES.train(config, folder, device="cpu", progress=False)
    assert len(trained.log) == 3
    torch.testing.assert_close(dict(trained.net.state_dict()), dict(by_hand(config, 3)))


def test_checkpoints_are_apart_by_course_and_data(tmp_path):
    """More epochs share a folder; another rate and other data do not."""
    place = LINES.checkpoints(tmp_path, "x", Config())
    assert place == LINES.checkpoints(tmp_path, "x", Config(epochs=9))
    others = {LINES.checkpoints(tmp_path, "x", Config(rate=1.0)), LINES.checkpoints(tmp_path, "x", Config(), "mine")}
    assert len({place, *others}) == 3


def test_a_stored_network_comes_back(data):
    """What is stored in half precision is loaded into a network of its own configuration, and described."""
    net = build(Config(seed=3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    entry = LINES.store("line-a", Config(seed=3), net, data)
    assert (entry.architecture, entry.schedule, entry.seed) == ("a line of 1", "MSE; rate 0.1", 3)
    assert entry.config["sizes"] == [1, 2]
    loaded = LINES.load("line-a", data=data)
    assert not loaded.training
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, before[name].half().float())
    assert weights.metadata("line-a", data).training_data == "drawn numbers"
    assert weights.carried(loaded) == {"value": weights.Range("m", -4.0, 4.0)}


def test_a_chapter_takes_its_networks_by_source(tmp_path):
    """Training gives the authors' configurations with the seed that was asked for; nothing else is accepted."""
    nets = LINES.chosen("train", ["line-a"], tmp_path, device="cpu", seed=4)
    torch.testing.assert_close(dict(nets["line-a"].state_dict()), dict(by_hand(Config(seed=4), 5)))
    with pytest.raises(ValueError, match="networks: expected one of embedded, train, got 'published'"):
        LINES.chosen("published", ["line-a"], tmp_path)
    with pytest.raises(ValueError, match="network: expected one of line-a, line-b, got 'line-d'"):
        LINES.train_shipped(tmp_path, ["line-a", "line-d"])
    with pytest.raises(ValueError, match="network of lines: expected one of line-a, line-b, line-c, got 'line'"):
        LINES.config("line")


def test_a_stamp_names_the_shipped_networks_or_the_source():
    """Embedded networks are named one by one, others by source and chapter; the parameter is named in a refusal."""
    assert LINES.check_source("nets", "embedded") == "line-a, line-b"
    assert LINES.check_source("nets", "train") == "train: lines"
    assert replace(LINES, published=build).check_source("nets", "published") == "published: lines"
    with pytest.raises(ValueError, match="nets: expected one of embedded, train, got 'published'"):
        LINES.check_source("nets", "published")


def test_words_say_once_what_networks_share():
    """Topics that agree are said once, those that differ are joined, in the order of the description."""
    assert LINES.words("line-a") == "a line of 1; MSE; rate 0.1; drawn numbers"
    assert LINES.words("line-a", "line-c", "line-b") == (
        "a line of 1; MSE; rate 0.1 against rate 0.3 against rate 0.2; drawn numbers"
    )
    assert networks.contrasted([{"a": "x"}, {"a": "x", "b": "y"}]) == "x; none against y"
