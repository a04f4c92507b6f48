"""Claims: what a work says, what was measured here, and a verdict that is computed, never written by hand.

What is claimed, with its bounds, stands in the ``claims.yaml`` of a paper; what measures it is a function of the
paper's ``measures.py``, which the record names. `measure` brings the two together.
"""

from __future__ import annotations

import json
import math
import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from noisebook import _numbers, _paths
from noisebook._checks import check_one_of, error, read_json

VERDICTS = ("holds", "fails", "undecided", "not tested")
KINDS = ("claim", "check")
"""What nature could refuse, and what only a mistake in the code could."""


@dataclass(frozen=True)
class Claim:
    """One claim and its measurement.

    Attributes:
        id: Short name, such as ``L10``.
        statement: What is claimed, in one sentence.
        source: Where: section, table or figure of the work.
        ours: The measured values, one a seed or sample; empty if and only if ``needs`` is given.
        low: Smallest value that supports the claim.
        high: Largest value that supports the claim.
        unit: Unit of ``ours``, ``low`` and ``high``.
        published: The published value, as text.
        data: What it was measured on, whether that is simulated, and the precomputed study if one measured it.
        schedule: Width and training schedule of every network that is measured or compared; see `against`.
        needs: What is missing to test the claim, such as a data set.
        kind: One of `KINDS`.
        axes: What the measured values are taken over, such as ``{"seed": 3, "patient": 10}``: names and lengths, the
            last one fastest.
        primary: Whether it is the one claim of its work that matters most.
        population: What the verdict speaks of: new trainings, new patients, or both.
        margin: Differences up to this size count as equal; None where equality is not claimed.
        revised: Why statement or bounds changed after values were known; empty if they did not.
    """

    id: str
    statement: str
    source: str
    ours: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    published: str = ""
    data: str = ""
    schedule: str = ""
    needs: str = ""
    kind: str = "claim"
    axes: dict[str, int] = field(default_factory=dict)
    primary: bool = False
    population: str = ""
    margin: float | None = None
    revised: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ours", tuple(float(value) for value in self.ours))
        name = f"claim {self.id}"
        if not self.id:
            raise error("claim", "an id", "none")
        if not all(math.isfinite(value) for value in self.ours):
            raise error(name, "finite measured values", self.ours, "A measurement that failed supports nothing.")
        if bool(self.needs) == bool(self.ours):
            got = f"{len(self.ours)} values and needs={self.needs!r}"
            raise error(name, "either measured values or what it needs", got)
        if not self.low <= self.high:
            raise error(name, "low <= high", f"{self.low} and {self.high}")
        if self.axes and math.prod(self.axes.values()) != len(self.ours):
            raise error(name, f"as many values as {self.axes}", len(self.ours))

    @property
    def values(self) -> np.ndarray:
        """The measured values with one axis for each of ``axes``."""
        return np.array(self.ours).reshape(tuple(self.axes.values()) or (-1,))

    @property
    def mean(self) -> float:
        """Mean of the measured values; NaN if there are none."""
        return math.fsum(self.ours) / len(self.ours) if self.ours else math.nan

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for one value, NaN for none."""
        n = len(self.ours)
        if n < 2:
            return 0.0 if n else math.nan
        return math.sqrt(math.fsum((value - self.mean) ** 2 for value in self.ours) / (n - 1) / n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean by Student's t; of one value the value itself; NaN for none."""
        from scipy.special import stdtrit

        n = len(self.ours)
        half = float(stdtrit(n - 1, 0.975)) * self.standard_error if n > 1 else 0.0
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """``holds`` if the interval is within the bounds, ``fails`` if it is outside, else ``undecided``.

        Without a measurement: ``not tested (needs …)``.
        """
        if self.needs:
            return f"not tested (needs {self.needs})"
        least, most = self.interval
        if self.low <= least and most <= self.high:
            return "holds"
        return "fails" if most < self.low or self.high < least else "undecided"


_FIELDS = {
    "id": str,
    "statement": str,
    "kind": str,
    "source": str,
    "published": str,
    "unit": str,
    "low": float,
    "high": float,
    "study": str,
    "data": str,
    "networks": list,
    "value": str,
    "with": dict,
    "axes": list,
    "needs": str,
    "primary": bool,
    "population": str,
    "margin": float,
    "revised": str,
}
"""The fields of a record in ``claims.yaml``, and their types; a whole number may stand for a float."""


def records(file: Path) -> list[dict[str, Any]]:
    """The records of a ``claims.yaml``: a mapping with ``claims``, and ``source``, which claims without one share.

    Raises:
        ValueError: The file is no such YAML, or a record lacks its id or statement, has an unknown or mistyped field,
            or has neither ``value`` nor ``needs``.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        shared, listed = content["source"], content["claims"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as problem:
        raise error(str(file), "YAML with source and claims", f"{type(problem).__name__}: {problem}") from None
    found = []
    for record in listed:
        record = {"source": shared, "kind": "claim"} | record
        name = f"{file}: claim {record.get('id', 'without id')}"
        for key, value in record.items():
            check_one_of(f"{name}: field", key, _FIELDS)
            wanted = (int, float) if _FIELDS[key] is float else (_FIELDS[key],)
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                raise error(f"{name}: {key}", wanted[-1].__name__, repr(value))
        check_one_of(f"{name}: kind", record["kind"], KINDS)
        if not record.get("statement") or not (record.get("value") or record.get("needs")):
            raise error(name, "a statement, and a value or what it needs", sorted(record))
        found.append(record)
    return found


def measure(
    file: Path,
    measures: ModuleType,
    found: Mapping[str, Any],
    settings: Callable[[str], Mapping[str, Any]],
    words: Callable[..., str],
) -> list[Claim]:
    """The claims of a paper, measured.

    Args:
        file: Its ``claims.yaml``. Of each record ``value`` names a function of ``measures``, and ``with`` its keyword
            arguments; ``axes`` names the axes of the array that it returns.
        measures: The paper's module of that name; no function of another module is called.
        found: What the functions are given: arrays of the studies, by name, and whatever a run has measured itself.
        settings: The configuration of a study, by its name: statements, data and networks may name its values in
            braces, or those that the run has measured.
        words: Networks in words, by their ids.

    Raises:
        ValueError: As `records`; a function is unknown, or its values do not have the axes that were named.
    """
    return [_measured(file, record, measures, found, settings, words) for record in records(file)]


def _measured(
    file: Path,
    record: Mapping[str, Any],
    measures: ModuleType,
    found: Mapping[str, Any],
    settings: Callable[[str], Mapping[str, Any]],
    words: Callable[..., str],
) -> Claim:
    name = f"{file}: claim {record['id']}"
    values, axes = np.zeros(0), list(record.get("axes", []))
    if function := record.get("value"):
        own = {key: f for key, f in vars(measures).items() if getattr(f, "__module__", "") == measures.__name__}
        check_one_of(f"{name}: value", function, own)
        values = np.asarray(own[function](found, **record.get("with", {})), float)
        if values.size and values.ndim != len(axes):
            raise error(name, f"values with the axes {axes}", f"shape {values.shape}")
    studies = [study.strip() for study in record.get("study", "").split(",") if study.strip()]
    known = ChainMap(dict(settings(studies[0])) if studies else {}, found)  # type: ignore[arg-type]
    each = f"one value {'an' if axes[0][0] in 'aeiou' else 'a'} {' and '.join(axes)}" if values.size > 1 else ""
    computed = f"precomputed {'study' if len(studies) == 1 else 'studies'} {', '.join(studies)}" if studies else ""
    data = ", ".join(filter(None, (record.get("data", "").format_map(known), computed, each)))
    kept = ("published", "unit", "kind", "primary", "population", "margin", "revised")
    return Claim(
        record["id"],
        record["statement"].format_map(known),
        record["source"],
        tuple(values.ravel()),
        float(record.get("low", -math.inf)),
        float(record.get("high", math.inf)),
        data=data,
        schedule=words(*(id.format_map(known) for id in record["networks"])) if record.get("networks") else "",
        needs="" if values.size else record.get("needs", "values; its measurement gave none"),
        axes=dict(zip(axes, values.shape, strict=True)) if values.size else {},
        **{key: record[key] for key in kept if key in record},
    )


def write(claims: Sequence[Claim], path: str | Path) -> None:
    """Write claims as JSON, sorted by id, with their verdicts; equal claims give equal bytes.

    Args:
        claims: Any number, with distinct ids.
        path: The file; its folder must exist.

    Raises:
        ValueError: Two claims of one id.
    """
    records = []
    for claim in _sorted(claims):
        record: dict[str, Any] = asdict(claim)
        for bound in ("low", "high"):  # JSON has no infinity
            record[bound] = record[bound] if math.isfinite(record[bound]) else None
        records.append(record | {"verdict": claim.verdict})
    text = json.dumps({"claims": records}, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    _paths.write_whole(Path(path), (text + "\n").encode())


def read(path: str | Path, remedy: str = "Run the chapter again to write it.") -> list[Claim]:
    """Read claims that ``write`` wrote.

    Args:
        path: The JSON file.
        remedy: What to do where it is none.

    Returns:
        The claims, sorted by id. Verdicts are computed again from the values.

    Raises:
        ValueError: No claims file, fields missing or unknown, or a stored verdict that the values do not give.
    """
    content = read_json(Path(path), "a claims file", remedy)
    try:
        pairs = [(_claim(dict(record)), record["verdict"]) for record in content["claims"]]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as problem:
        got = f"{type(problem).__name__}: {problem}".rstrip(".")
        raise error(str(path), "a claims file", got, remedy) from None
    for claim, verdict in pairs:
        if verdict != claim.verdict:
            got = f"{verdict!r}"
            raise error(f"{path}: claim {claim.id}", f"{claim.verdict!r}", got, "Verdicts are computed: run it again.")
    return _sorted([claim for claim, _ in pairs])


def markdown(claims: Sequence[Claim]) -> str:
    """A table of the claims, and under it what they were measured on and with.

    Args:
        claims: Any number, with distinct ids.

    Returns:
        Markdown: id, verdict, statement, ours ± standard error (number), bound, and the published values if there are
        any; then a line for each combination of data and schedule.
    """
    shown = any(claim.published for claim in claims)
    heads = ["claim", "verdict", "statement", "ours", "supported by", *(["published"] if shown else [])]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for claim in _sorted(claims):
        where = f"{claim.statement} *({claim.source})*" if claim.source else claim.statement
        cells = [claim.id, f"**{claim.verdict}**", where, measured(claim), support(claim), published(claim)]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells[: len(heads)]) + " |")
    return "\n".join([*lines, *conditions(claims)]) + "\n"


def conditions(claims: Sequence[Claim]) -> list[str]:
    """Which claims were measured on which data, with networks of which schedule: a Markdown paragraph each.

    Args:
        claims: Any number, with distinct ids.
    """
    found: dict[str, list[str]] = {}
    for claim in _sorted(claims):
        if what := "; ".join(part for part in (claim.data, claim.schedule) if part):
            found.setdefault(what, []).append(claim.id)
    return [f"\n{', '.join(ids)}: {what}." for what, ids in found.items()]


def against(first: str, *others: str) -> str:
    """Words on networks that are compared: what they share once, what differs joined by *against*.

    Args:
        first: Width and schedule, divided by commas and semicolons.
        others: The same of the others; if one is divided otherwise, all are told in full.
    """
    words = list(dict.fromkeys((first, *others)))
    for mark in (r"([,;] )(?![^(]*\))", r"(; )(?![^(]*\))"):  # not within brackets
        parts = [re.split(mark, one) for one in words]
        if len({tuple(one[1::2]) for one in parts}) == 1:
            return "".join(" against ".join(dict.fromkeys(part)) for part in zip(*parts, strict=True))
    return "; against: ".join(words)


def totals(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims hold, fail, are undecided and were not tested.

    Args:
        claims: Any number.

    Returns:
        A count for each of `VERDICTS`.
    """
    verdicts = [claim.verdict.split(" (")[0] for claim in claims]
    return {name: verdicts.count(name) for name in VERDICTS}


def failures(claims: Sequence[Claim]) -> str:
    """The claims that fail, then the undecided, as Markdown lists: what was measured, and what would have supported it.

    Args:
        claims: Any number, with distinct ids.
    """
    lines = {
        verdict: [
            f"- **{claim.id}**: {claim.statement}: {measured(claim)} where {support(claim)} was needed"
            for claim in _sorted(claims)
            if claim.verdict == verdict
        ]
        for verdict in ("fails", "undecided")
    }
    unsure = ["", "Undecided, since the mean's 95 % interval lies on both sides of the bound:", ""]
    found = [*(lines["fails"] or ["No claim fails."]), *([*unsure, *lines["undecided"]] if lines["undecided"] else [])]
    return "\n".join(found) + "\n"


def _claim(record: dict[str, Any]) -> Claim:
    del record["verdict"]
    texts = [name for name, value in record.items() if name not in _NUMBERS and not isinstance(value, str)]
    if texts:
        raise TypeError(f"{texts[0]} is no text")
    low, high = record.pop("low"), record.pop("high")
    ours = tuple(record.pop("ours"))
    return Claim(**record, ours=ours, low=-math.inf if low is None else low, high=math.inf if high is None else high)


_NUMBERS = ("ours", "low", "high", "axes", "primary", "margin")


def _sorted(claims: Sequence[Claim]) -> list[Claim]:
    """By id, numbers within it by value: L2 before L10."""
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise error("claims", "distinct ids", ", ".join(sorted({i for i in ids if ids.count(i) > 1})) + " twice")
    return sorted(
        claims, key=lambda c: [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", c.id)]
    )


def published(claim: Claim) -> str:
    """What the work published, or that it gives no number; empty for a claim of ours."""
    return claim.published or ("" if claim.source.startswith("ours") else "no number")


def measured(claim: Claim) -> str:
    """What was measured, with its spread and unit; empty if nothing was."""
    if not claim.ours:
        return ""
    unit = f" {claim.unit}" if claim.unit else ""
    if len(claim.ours) == 1:
        return f"{_digits(claim)(claim.mean)}{unit}"
    return f"{_numbers.with_spread(claim.mean, claim.standard_error)}{unit} (n\u00a0=\u00a0{len(claim.ours)})"


def _digits(claim: Claim) -> Callable[[float], str]:
    """How numbers of a claim are written: what was counted with all digits, anything else with three."""
    return _numbers.counted if all(value.is_integer() for value in claim.ours) else _numbers.number


def support(claim: Claim) -> str:
    """The values that support a claim, with their unit."""
    unit = f" {claim.unit}" if claim.unit else ""
    low, high = ("" if math.isinf(bound) else _digits(claim)(bound) for bound in (claim.low, claim.high))
    if low and high:
        return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
    return f"≥ {low}{unit}" if low else f"≤ {high}{unit}" if high else "any value"
