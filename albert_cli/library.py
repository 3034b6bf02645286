"""The functions of the library: what the commands do, for Python programs and notebooks.

Models are named as on the command line: a path in any format, a published name (`albert-base-v2`), a repository of the
Hugging Face Hub, `built-in`; None is the model that ALBERT_MODEL names, else the built-in one, with a warning that says
which. Errors are AlbertError's children, each with one line; notices are warnings (`albert_cli.errors.Notice`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from converters.messages import brief, html_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from albert_cli.machine import DeviceName
    from albert_cli.model.pretraining_heads import PreTrainingModel
    from albert_cli.scoring.fill_mask import Candidate
    from albert_cli.training.run_directory import LoadedRun
    from converters.checkpoint import Checkpoint
    from converters.convert import Report

# Candidates that the short form of a filled text shows.
_SHOWN = 3


def load(model: str | Path | None = None, *, format: str | None = None) -> Checkpoint:
    """Open a model of any format: its config, its tensors by canonical name, its tokenizer.

    The arrays stay on disk until they are read (`checkpoint.tensors[name].read()`). `format`: what `--from` takes,
    where it cannot be found out.
    """
    from albert_cli.registry.resolve import resolve

    return resolve(model).load(format=format)


def load_model(model: str | Path | Checkpoint | None = None) -> PreTrainingModel:
    """The PyTorch module of a model, with the pooler and the pre-training heads that it holds.

    In eval mode, in float32, on the CPU. Heads of fine-tuned models are not part of it; see `load_run`.
    """
    from albert_cli.model import loading
    from converters.checkpoint import Checkpoint

    return loading.load_model(model if isinstance(model, Checkpoint) else load(model))


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    force: bool = False,
) -> Report:
    """Convert a model to another format; every tensor is read back and compared with the source by SHA-256.

    `format`: what `--to` takes of the formats that are read again; by default the one that the target's name says, a
    Hugging Face directory for a bare name. `dtype`: cast the weights to it. `force`: replace what is there. The report
    has the digests of all tensors, and what was left out, cast or assumed.
    """
    from albert_cli.registry.resolve import resolve
    from converters import convert as converters
    from converters.errors import errors_name, renamed

    target = Path(target)
    converters.check_place(target, format, force=force, source=Path(source))
    model = resolve(source)
    with errors_name(model.shown, model.path):
        report = converters.convert(model.path, target, target_as=format, dtype=dtype, force=force)
    return dataclasses.replace(report, source=renamed(report.source, model.path, model.shown))


@dataclass(frozen=True, repr=False)
class Filled(Sequence["list[Candidate]"]):
    """A text with what was found for its masks: a list of candidates for each, the likeliest first."""

    text: str
    masks: list[list[Candidate]]

    def __len__(self) -> int:
        return len(self.masks)

    @overload
    def __getitem__(self, place: int) -> list[Candidate]: ...

    @overload
    def __getitem__(self, place: slice) -> list[list[Candidate]]: ...

    def __getitem__(self, place: int | slice) -> list[Candidate] | list[list[Candidate]]:
        return self.masks[place]

    def __repr__(self) -> str:
        found = (", ".join(f"{one.piece} {one.probability:.2f}" for one in mask[:_SHOWN]) for mask in self.masks)
        return f"<Filled {brief(self.text)}: {'; '.join(found)}>"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = [
            (number, one.rank, f"{one.probability:.4g}", one.piece, one.filled)
            for number, mask in enumerate(self.masks, 1)
            for one in mask
        ]
        return html_table(rows, ("mask", "rank", "probability", "piece", "filled in"))


@overload
def fill_mask(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
    texts: str,
    model: str | Path | None = ...,
    *,
    top: int = ...,
    targets: Sequence[str] = ...,
    device: DeviceName = ...,
) -> Filled: ...


@overload
def fill_mask(
    texts: Sequence[str],
    model: str | Path | None = ...,
    *,
    top: int = ...,
    targets: Sequence[str] = ...,
    device: DeviceName = ...,
) -> list[Filled]: ...


def fill_mask(
    texts: str | Sequence[str],
    model: str | Path | None = None,
    *,
    top: int = 5,
    targets: Sequence[str] = (),
    device: DeviceName = "auto",
) -> Filled | list[Filled]:
    """The words that the model expects at each `[MASK]` (or `<mask>`) of a text, or of several texts.

    The `top` likeliest pieces, or all `targets`, words of one piece each. HeadError for a model without a masked-word
    head, and for texts without a mask.
    """
    from albert_cli.scoring.fill_mask import fill_masks
    from albert_cli.scoring.load import load as with_head

    many = [texts] if isinstance(texts, str) else list(texts)
    heads = with_head(None if model is None else str(model), "mlm", device=device)
    found = fill_masks(heads.model, heads.tokenizer, many, top=top, targets=targets)
    filled = [Filled(text, masks) for text, masks in zip(many, found, strict=True)]
    return filled[0] if isinstance(texts, str) else filled


def similarity(
    texts: Sequence[str], others: Sequence[str] | None = None, *, model: str | Path | None = None, **options: Any
) -> NDArray[np.float32]:
    """The cosine of every text with every other one, (texts, others); without `others` with one another.

    `options`: as `Embedder.from_pretrained` takes them (pooling, prompt, device, …). Where several calls share a model,
    make an Embedder once, and compare its vectors.
    """
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.embedding.nearest import cosines

    embedder = Embedder.from_pretrained(model, **options)
    first = embedder.embed(texts)
    return cosines(first, first if others is None else embedder.embed(others))


def finetune(
    task: str,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    device: DeviceName = "auto",
    show: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tune a model on a task, into the run directory `out` (runs/TASK by default); what summary.json says of it.

    `settings` are those of a run.toml, as `model`, `data`, `train`, `learning_rate`, `epochs`, `seed`; what is not
    given is as published for the task and the model's family. `resume`: go on with an interrupted run. `show`: print
    the plan and every evaluation. TrainingError for a setting that there is not, or out of its range.
    """
    from albert_cli import declared, tasks
    from albert_cli.errors import TrainingError
    from albert_cli.runs import progress
    from albert_cli.runs.events import silent
    from albert_cli.training import session
    from albert_cli.training.settings import Settings

    given = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    if faults := declared.faults_of({key: value for key, value in given.items() if value is not None}, Settings):
        raise TrainingError("; ".join(faults))
    place, name = Path(out) if out is not None else Path("runs") / task, tasks.named(task).name.lower()
    how: dict[str, Any] = {"config": None, "seeds": [], "compare": [], "resume": resume, "force": force}
    if not show:
        return session.one(name, given, place, report=silent, device=device, **how)
    with progress.shown(quiet=False) as report:
        return session.one(name, given, place, report=report, device=device, **how)


def load_run(run: str | Path, *, device: DeviceName = "auto") -> LoadedRun:
    """The best model of a run, ready to predict: a directory of `finetune`, or a model fine-tuned elsewhere."""
    from albert_cli.machine import find_device
    from albert_cli.training import run_directory

    return run_directory.load_run(Path(run), device=find_device(device))


def predict(run: str | Path | LoadedRun, *texts: str) -> dict[str, Any]:
    """What a fine-tuned model says of one text or pair, or of a question and its text: the document of `--json`.

    `run`: what `load_run` gave, or takes. For a table of texts, `albert predict RUN --in FILE` computes many at once.
    """
    from albert_cli.training import prediction
    from albert_cli.training.run_directory import LoadedRun

    loaded = run if isinstance(run, LoadedRun) else load_run(run)
    return prediction.one(loaded, loaded.problem.command, *texts)
