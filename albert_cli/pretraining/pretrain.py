"""Pretraining from settings to a finished run directory: the flow, in reading order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from albert_cli.cards import runs as cards
from albert_cli.declared import faults_of, load_toml
from albert_cli.errors import RunError, TrainingError
from albert_cli.machine import DeviceName
from albert_cli.model.loading import to_checkpoint
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining import order_by_length
from albert_cli.pretraining.corpus import Files
from albert_cli.pretraining.distillation import DistillationSet, choose_sentences, prepare_distillation
from albert_cli.pretraining.initialization import initial_model, initialize_from_teacher, piece_counts
from albert_cli.pretraining.job import Job
from albert_cli.pretraining.local_heads import initialize_local_heads
from albert_cli.pretraining.loop import train
from albert_cli.pretraining.preparation import Prepared, digest, prepare
from albert_cli.pretraining.settings import PATHS, PretrainSettings, read_settings
from albert_cli.pretraining.teacher import Teacher
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs import resumption
from albert_cli.runs.claim import Inputs
from albert_cli.runs.curves import draws, warn_of_no_pictures
from albert_cli.runs.directory import RunDirectory, prepare_run_directory
from albert_cli.runs.events import Evaluated, Note, PretrainingPlan, Report, Trained, records_of, silent
from albert_cli.runs.files import CURVES, RUN, pattern
from albert_cli.runs.log import read_finished_log
from albert_cli.runs.processes import accelerator_for
from converters import convert
from converters.files import file_errors, open_regular
from converters.libraries import require_library

TEACHER = "teacher"
# What a run may leave in its directory, beside folders of tokens and vectors; all that --force removes.
OURS = pattern()
_TINY = "no --preset is named: this trains the tiny shape, to try things out; name a real one, such as --preset base"
# As Google's run_pretraining.py names them.
HELD_OUT = ("masked_lm_accuracy", "masked_lm_loss", "sentence_order_accuracy", "sentence_order_loss")


@dataclasses.dataclass(frozen=True)
class _RunFile:
    """What is read again of run.toml, beside its settings."""

    hashes: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class _Summary:
    """What is shown of a finished run's summary.json."""

    steps: int
    seconds: float
    tokens_seen: int
    held_out: Mapping[str, float]


def pretrain(
    settings: PretrainSettings,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Train a model from scratch, or from `settings.init` on; the summary (steps, held-out figures) is returned.

    The run directory is a Hugging Face directory with run.toml, metrics.jsonl, curves.png and summary.json. `resume`
    continues a run with the same settings and data, on a CPU to a bit-identical result. Raises AlbertError's
    children, each with one line.
    """
    accelerator = accelerator_for(settings.precision, device)
    report = report if accelerator.is_main_process else silent
    with prepare_run_directory(
        accelerator, out, ours=OURS, inputs=lambda: _inputs(settings), resume=resume, force=force
    ) as held:
        return _run(settings, out, held, accelerator, resume=resume, report=report)


def _inputs(settings: PretrainSettings) -> Inputs:
    """What a run reads from this disk."""
    given = (*settings.corpus, settings.tokenizer, settings.teacher, settings.teacher_texts)
    start = [resolve.resolve(settings.init).path] if settings.init else []
    return Inputs(start, [Path(path) for path in given if path])


def _run(
    settings: PretrainSettings,
    out: Path,
    held: RunDirectory,
    accelerator: Accelerator,
    *,
    resume: bool,
    report: Report,
) -> dict[str, Any]:
    """The run in `held.work`; tokens and a teacher's vectors are kept in `out`, for this run and the next."""
    work = held.work
    resuming = resume and (work / RUN).exists()
    if resume and not resuming:
        report(Note(resumption.none_yet(out)))
    teacher = _teacher(settings, accelerator)
    files = Files.find([Path(path) for path in settings.corpus], settings.weights, settings.unordered)
    if resuming:
        _check_same(work, settings, {})  # before any work
    prepared = prepare(settings, files, out, accelerator, report, resuming=resuming)
    hashes = {"corpus": digest(prepared.corpus.facts["fingerprint"])}
    if prepared.base is not None:
        hashes["init"] = run_info.digest_of(prepared.base)
    model = initial_model(
        prepared.config, prepared.base, prepared.corpus, prepared.train, settings.seed, silent if resuming else report
    )
    facts = prepared.facts | {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    distillation = None
    if teacher:
        with accelerator.main_process_first():
            distillation = _distillation(settings, model, prepared, teacher, out / TEACHER, report, resuming=resuming)
        hashes["teacher"] = distillation.digest
    if settings.local_heads:
        initialize_local_heads(model, settings.local_heads)
    if resuming:
        _check_same(work, settings, hashes)
        if (finished := run_info.read_summary(work, _Summary)) is not None:
            report(Note(resumption.finished(out)))
            return finished
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not resume:
            held.begin()
        work.mkdir(parents=True, exist_ok=True)
        run_info.write_info(work, {"settings": _plain(settings), "data": facts, "hashes": hashes})
    accelerator.wait_for_everyone()
    if not (resuming or settings.model_config or settings.init):
        report(Note(_TINY))
    report(PretrainingPlan(settings.steps, settings.minutes, **facts))
    train(_job(settings, prepared, model, distillation, work, accelerator, report), resume=resume)
    return _finish(work, out.name, settings, facts, report) if accelerator.is_main_process else {}


def _job(
    settings: PretrainSettings,
    prepared: Prepared,
    model: PreTrainingModel,
    distillation: DistillationSet | None,
    work: Path,
    accelerator: Accelerator,
    report: Report,
) -> Job:
    """All that the loop needs."""

    def save(step: int) -> None:
        checkpoint = to_checkpoint(model, prepared.config, prepared.tokenizer_files, global_step=step)
        convert.save(checkpoint, work, format="safetensors", force=True)

    return Job(
        model=model.to(accelerator.device),
        corpus=prepared.corpus,
        train=prepared.train,
        held_out=prepared.held_out,
        weights=np.array(prepared.files.weights),
        ordered=np.array(prepared.files.ordered),
        tokenizer=prepared.tokenizer,
        settings=settings,
        directory=work,
        accelerator=accelerator,
        save=save,
        distillation=distillation,
        report=report,
    )


def _teacher(settings: PretrainSettings, accelerator: Accelerator) -> Teacher | None:
    """The teacher, if any; refuses what lacks a library, or cannot be shared, before any work is done."""
    warn_of_no_pictures()
    if settings.teacher:
        require_library("transformers", "--teacher")
        if accelerator.num_processes > 1:
            raise TrainingError(
                "the loss of --teacher compares all sentences of a batch with one another: train with it in one process"
            )
    if settings.teacher_texts:
        with file_errors(settings.teacher_texts), open_regular(Path(settings.teacher_texts)):
            pass
    return Teacher(Path(settings.teacher), accelerator.device) if settings.teacher else None


def _distillation(
    settings: PretrainSettings,
    model: PreTrainingModel,
    prepared: Prepared,
    teacher: Teacher,
    directory: Path,
    report: Report,
    *,
    resuming: bool,
) -> DistillationSet:
    """What is learnt of the teacher; a fresh model starts from its vectors of single pieces."""
    corpus, tokenizer = prepared.corpus, prepared.tokenizer
    weights = settings.teacher_weights or settings.weights
    by_source = np.array(Files.find(prepared.files.paths, weights, ()).weights)
    chosen = choose_sentences(corpus, prepared.train, by_source, settings.teacher_sentences, seed=settings.seed)
    distillation, axes = prepare_distillation(
        teacher,
        corpus,
        chosen,
        Path(settings.teacher_texts) if settings.teacher_texts else None,
        tokenizer,
        model.config.hidden_size,
        directory,
        student=model if settings.init else None,
        resuming=resuming,
        report=report,
    )
    if prepared.base is None:
        frequencies = piece_counts(corpus, prepared.train, model.config.vocab_size)
        initialize_from_teacher(model, teacher, tokenizer, axes, frequencies)
    return distillation


def _plain(settings: PretrainSettings) -> dict[str, Any]:
    """The settings as run.toml has them: without those that are not given."""
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {key: value for key, value in values.items() if value not in (None, {}, [])}


def _check_same(out: Path, settings: PretrainSettings, hashes: dict[str, str]) -> None:
    """Refuse to resume with other settings or data than the run was started with; no `hashes`: not known yet."""
    before, content = json.loads(json.dumps(read_settings(out / RUN))), load_toml(out / RUN)
    if faults := faults_of(content, _RunFile, complete=True):
        raise RunError(f"{out / RUN}: damaged: {'; '.join(faults)}")
    run_info.check_same(out, settings=(before, _plain(settings)), hashes=(content["hashes"], hashes), paths=PATHS)


def _finish(out: Path, name: str, settings: PretrainSettings, facts: dict[str, Any], report: Report) -> dict[str, Any]:
    """Curves, the card and the summary; the state is removed."""
    from albert_cli.pretraining import card

    records = read_finished_log(out)
    last, steps = records_of(records, Evaluated)[-1], records_of(records, Trained)
    if draws():
        from albert_cli.pretraining import figures

        figures.curves(records, out / CURVES)
    summary = {
        "steps": last["step"],
        "seconds": last["seconds"],
        "tokens_seen": int(sum(record.get("tokens", 0) for record in steps)),
        "held_out": {key: last[key] for key in HELD_OUT if key in last},
        **{key: last[key] for key in (order_by_length.NAME,) if key in last},
        "data": facts,
        "last_weights_sha256": records[-1]["last_weights_sha256"],
    }
    cards.write(out, card.text_of(out, name, settings, summary, load_toml(out / RUN)), report)
    run_info.write_summary(out, summary)
    return summary
