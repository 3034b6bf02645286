"""The end of a run: with its best model, predictions of dev and test, figures, report and summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from albert_cli.cards import runs as cards
from albert_cli.cards.origin import Origin
from albert_cli.runs import info as run_info
from albert_cli.runs.curves import draws
from albert_cli.runs.events import Counter, Evaluated, Record, Remark, Report, records_of
from albert_cli.runs.files import CURVES
from albert_cli.runs.log import read_finished_log
from albert_cli.training import prediction
from albert_cli.training.rows import Predictions, Split
from albert_cli.training.run_directory import History, LoadedRun, load_run, settle
from albert_cli.training.settings import Plan
from albert_cli.training.splits import Prepared, score


@dataclass(frozen=True)
class Summary:
    """What is shown of a finished run's summary.json."""

    task: str
    best_step: int
    steps: int
    dev: Mapping[str, float]


def finish(
    out: Path, prepared: Prepared, plan: Plan, report: Report, *, device: str, called: str, origin: Origin
) -> dict[str, Any]:
    """Write all that comes of a trained model; its summary. What it is `called`, and its `origin`, are for its card."""
    from albert_cli.training import card
    from albert_cli.training import report as pages

    loaded = load_run(out, device=device)
    predicted, further = {}, {}
    for name, split in prepared.dev.items():
        whole, found = _predict(loaded, split, report)
        if name == "dev":
            loaded = replace(loaded, info=prepared.problem.settled(whole, found.outputs, loaded.info))
            settle(out, prepared.problem, loaded.info)
            found = replace(found, values=prepared.problem.decide(whole, found.outputs, loaded.info))
            further = score(prepared.problem, whole, found.outputs, loaded.info, ())
        if remark := prepared.problem.same_for_all(whole, found, prepared.info):
            prepared.notes.append(f"{name}: {remark}")
            report(Remark(f"{name}: {remark}"))
        prediction.write_dev(loaded, whole, found, out, name)
        predicted[name] = whole, found
    prediction.write_submissions(loaded, prepared.task, out)
    records = read_finished_log(out)
    history = History.of(out, records, prepared.task.selection_metric)
    summary = _summary(prepared, plan, records)
    summary["dev"] |= {key: value for key, value in further.items() if key not in summary["dev"]}
    if draws():
        from albert_cli.training import figures

        figures.curves({out.name: history}, out / CURVES)
        if prepared.problem.picture:
            prepared.problem.draw(*predicted["dev"], loaded.info, out / prepared.problem.picture)
    pages.write(out, prepared, summary, records)
    cards.write(out, card.text_of(out, called, prepared, origin, summary), report)
    run_info.write_summary(out, summary)
    return summary


def _predict(loaded: LoadedRun, split: Split[Any], report: Report) -> tuple[Split[Any], Predictions[Any]]:
    """The split, read by the run's own tokenizer, and the predictions for it."""
    whole = loaded.problem.split(split.examples, loaded.info, loaded.task, loaded.tokenizer)
    return whole, prediction.run_on(loaded, whole, tick=Counter(report, "predicting", "rows", len(whole.rows)))


def _summary(prepared: Prepared, plan: Plan, records: list[Record]) -> dict[str, Any]:
    evaluations = records_of(records, Evaluated)
    best, last = [record for record in evaluations if record.get("best")][-1], evaluations[-1]
    hidden = ("event", "best", "early_stop", "step", "epoch")
    return {
        "task": prepared.info.task,
        "best_step": best["step"],
        "steps": last["step"],
        "planned_steps": plan.steps,
        "stopped_early": bool(last.get("early_stop", False)),
        "dev": {key: value for key, value in best.items() if key not in hidden and not key.startswith("train_")},
        "last_weights_sha256": records[-1]["last_weights_sha256"],
    }
