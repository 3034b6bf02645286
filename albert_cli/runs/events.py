"""What a run passes to its listener, and what its log keeps: every name of an event stands here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_args

Record = dict[str, Any]


@dataclass(frozen=True)
class Note:
    """Something that the reader should know; the run continues."""

    text: str


@dataclass(frozen=True)
class Remark:
    """Something that the reader should know of the finished model."""

    text: str


@dataclass(frozen=True)
class RunBegun:
    """One of several runs begins: the `task` or the `seed` by which they differ."""

    what: str
    value: str | int


@dataclass(frozen=True)
class FineTuningPlan:
    """What a fine-tuning run is going to do. `dropout` and `taken` (what the data was taken for) as they are shown."""

    steps: int
    warmup_steps: int
    train_rows: int
    dropout: str = ""
    taken: str = ""


@dataclass(frozen=True)
class PretrainingPlan:
    """What a pretraining run is going to do; it ends after `steps`, or after `minutes` where these are None."""

    steps: int | None
    minutes: float | None
    parameters: int
    tokens: int
    documents: int
    held_out_documents: int


@dataclass(frozen=True)
class WorkDone:
    """How far a piece of work beside the training itself is: `done` of `total`, which may be unknown."""

    what: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True)
class StepDone:
    """One update is done. `losses` of it by name; `done`: the share of the run."""

    step: int
    losses: Mapping[str, float]
    done: float | None = None


@dataclass(frozen=True)
class Trained:
    """Some updates are done: the means of their `figures`."""

    NAME: ClassVar[str] = "train"

    step: int
    epoch: float
    figures: Mapping[str, float]
    seconds: float | None = None

    def record(self) -> Record:
        """As the log has it."""
        return _record(self, ("step", "epoch", "seconds")) | dict(self.figures)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the development set, or on the held-out documents: its `figures`.

    `best`: whether it is the best one so far, where the best model is kept; `early_stop`: it ends the run.
    """

    NAME: ClassVar[str] = "dev"

    step: int
    epoch: float
    figures: Mapping[str, float]
    seconds: float | None = None
    best: bool | None = None
    early_stop: bool | None = None

    def record(self) -> Record:
        """As the log has it."""
        ends = {"best": self.best, "early_stop": self.early_stop}
        kept = {key: value for key, value in ends.items() if value is not None}
        return _record(self, ("step", "epoch", "seconds")) | dict(self.figures) | kept


@dataclass(frozen=True)
class EpochEnded:
    """The rows were seen once more; `epoch` counts from 1."""

    NAME: ClassVar[str] = "epoch"

    epoch: int
    seconds: float

    def record(self) -> Record:
        """As the log has it."""
        return _record(self, ("epoch", "seconds"))


@dataclass(frozen=True)
class Ended:
    """The last update and evaluation are done."""

    NAME: ClassVar[str] = "end"

    step: int
    last_weights_sha256: str
    best_step: int | None = None

    def record(self) -> Record:
        """As the log has it."""
        return _record(self, ("step", "best_step", "last_weights_sha256"))


Logged = Trained | Evaluated | EpochEnded | Ended
Event = Note | Remark | RunBegun | FineTuningPlan | PretrainingPlan | WorkDone | StepDone | Logged
Report = Callable[[Event], None]


# Values of a record: numbers, texts, and null for what is no number.
_VALUES = (bool, int, float, str, type(None))


def silent(event: Event) -> None:
    """The listener that shows nothing."""


def _record(event: Logged, keys: Iterable[str]) -> Record:
    values = ((key, getattr(event, key)) for key in keys)
    return {"event": event.NAME} | {key: value for key, value in values if value is not None}


def is_record(item: Any) -> bool:
    """Whether an object read from a log can be the record of an event: its own values are there, numbers or texts."""
    if not isinstance(item, dict) or not all(isinstance(value, _VALUES) for value in item.values()):
        return False
    kind = next((kind for kind in get_args(Logged) if item.get("event") == kind.NAME), None)
    if kind is None:  # of an older run
        return isinstance(item.get("event"), str)
    own = [one for one in fields(kind) if one.name != "figures" and one.default is MISSING]
    return all(isinstance(item.get(one.name), _VALUES[:3] if one.type != "str" else str) for one in own)


def records_of(log: Iterable[Record], kind: type[Logged]) -> list[Record]:
    """The records of one kind of event, out of a log that was read."""
    return [record for record in log if record["event"] == kind.NAME]


@dataclass
class Counter:
    """Counts a piece of work for a listener: called with what was done now."""

    report: Report
    what: str
    unit: str
    total: int | None = None
    done: int = field(default=0, init=False)

    def __call__(self, more: int) -> None:
        self.done += more
        self.report(WorkDone(self.what, self.done, self.total, self.unit))
