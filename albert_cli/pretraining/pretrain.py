"""Pretraining from settings to a finished run directory: the flow, in reading order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from albert_cli.declared import faults_of, load_toml
from albert_cli.errors import RunError, TrainingError
from albert_cli.model.loading import assign, to_checkpoint, untied
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import order_by_length
from albert_cli.pretraining import survey as surveys
from albert_cli.pretraining import teacher as teachers
from albert_cli.pretraining.local_heads import start_local, waves
from albert_cli.pretraining.loop import Job, train
from albert_cli.pretraining.settings import PATHS, VOCAB_SIZE, PretrainSettings, read_settings
from albert_cli.registry import resolve
from albert_cli.runs import info as run_info
from albert_cli.runs.claim import Inputs
from albert_cli.runs.directory import RunDirectory, prepare_run_directory
from albert_cli.runs.events import Counter, Evaluated, Note, PretrainingPlan, Report, Trained, records_of, silent
from albert_cli.runs.files import CURVES, RUN, pattern
from albert_cli.runs.log import read_log
from albert_cli.runs.processes import accelerator_for
from albert_cli.tokenization.loading import find_tokenizer_files
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert, roles, spec
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig, dump_json, parse_json
from converters.dialects import config_from_json
from converters.families.albert import PRESETS
from converters.files import file_errors, open_regular, read_small
from converters.libraries import require_library
from converters.staging import atomic_write
from converters.tokenizers.files import TokenizerFiles

TEACHER = "teacher"
# What a run may leave in its directory, beside folders of tokens and vectors; all that --force removes.
OURS = pattern()
# As Google's run_pretraining.py names them.
HELD_OUT = ("masked_lm_accuracy", "masked_lm_loss", "sentence_order_accuracy", "sentence_order_loss")


@dataclasses.dataclass(frozen=True)
class _RunFile:
    """What is read again of run.toml, beside its settings."""

    hashes: Mapping[str, str]


def pretrain(
    settings: PretrainSettings, out: Path, *, resume: bool = False, force: bool = False, report: Report = silent
) -> dict[str, Any]:
    """Train a model from scratch, or from `settings.init` on; the summary (steps, held-out figures) is returned.

    The run directory is a Hugging Face directory with run.toml, metrics.jsonl, curves.png and summary.json. `resume`
    goes on where a run with the same settings and data stopped, on a CPU to the same bits. Raises AlbertError's
    children, each with one line.
    """
    accelerator = accelerator_for(settings.precision)
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
    main = accelerator.is_main_process
    teacher = _teacher(settings, accelerator)
    files = corpora.Files.find([Path(path) for path in settings.corpus], settings.weights, settings.unordered)
    if resume and (work / RUN).exists():
        _check_same(work, settings, {})  # before any work
    base = resolve.resolve(settings.init).load() if settings.init else None
    config = _config(settings, base)
    with accelerator.main_process_first():  # the others find its files
        tokenizer_files = _given_tokenizer(settings, base)
        if main and not (resume and (work / RUN).exists()):
            _tell_survey(settings, files, tokenizer_files, report)
        if base is None and settings.tokenizer is None:
            tokenizer_files = _trained_tokenizer(settings, files, out, report)
        tokenizer = Tokenizer.of_model(base) if base else Tokenizer.from_files(tokenizer_files)
        corpus = corpora.prepare(
            files,
            tokenizer,
            tokenizer_files.ids_digest() or "",
            out / corpora.NAME,
            progress=Counter(report, "tokenizing", "bytes"),
        )
    for note in surveys.notes_of_tokens(
        corpus, np.array(files.ordered), settings.hold_out, settings.max_length, tokenizer.unk_id
    ):
        report(Note(note))
    train_documents, held_out = corpus.split(settings.hold_out)
    config = _sized(config, base, tokenizer)
    facts = {
        "documents": len(train_documents),
        "held_out_documents": len(held_out),
        "tokens": int(corpus.facts["counts"]["ids"]),
    }
    hashes = {"corpus": _digest(corpus.facts["fingerprint"])}
    if base is not None:
        hashes["init"] = run_info.digest_of(base)
    model = _model(config, base, corpus, train_documents, settings.seed)
    facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    weights = np.array(files.weights)
    lessons = None
    if teacher:
        with accelerator.main_process_first():
            lessons, hashes["teacher"] = _teach(
                settings, model, corpus, files, train_documents, tokenizer, out, teacher, report,
                fresh=base is None,
            )  # fmt: skip
    if settings.local_heads:
        start_local(model, settings.local_heads)
    if resume and (work / RUN).exists():
        _check_same(work, settings, hashes)
        if (finished := run_info.read_summary(work)) is not None:
            return finished
    accelerator.wait_for_everyone()
    if main:
        if not resume:
            held.begin()
        work.mkdir(parents=True, exist_ok=True)
        run_info.write_info(work, {"settings": _plain(settings), "data": facts, "hashes": hashes})
    accelerator.wait_for_everyone()
    report(PretrainingPlan(settings.steps, settings.minutes, **facts))
    job = Job(
        model=model.to(accelerator.device),
        corpus=corpus,
        train=train_documents,
        held_out=held_out,
        weights=weights,
        ordered=np.array(files.ordered),
        tokenizer=tokenizer,
        settings=settings,
        directory=work,
        accelerator=accelerator,
        save=lambda step: convert.save(
            to_checkpoint(model, config, tokenizer_files, global_step=step), work, format="safetensors", force=True
        ),
        lessons=lessons,
        report=report,
    )
    train(job, resume=resume)
    summary: dict[str, Any] = {}
    if main:
        summary = _finish(work, settings, facts)
    return summary


def _teacher(settings: PretrainSettings, accelerator: Accelerator) -> teachers.Teacher | None:
    """The teacher, if any; refuses what lacks a library, or cannot be shared, before any work is done."""
    require_library("matplotlib", "drawing a run's curves")
    if settings.teacher:
        require_library("transformers", "--teacher")
        if accelerator.num_processes > 1:
            raise TrainingError(
                "the loss of --teacher compares all sentences of a batch with one another: train with it in one process"
            )
    if settings.teacher_texts:
        with file_errors(settings.teacher_texts), open_regular(Path(settings.teacher_texts)):
            pass
    return teachers.Teacher(Path(settings.teacher), accelerator.device) if settings.teacher else None


def _given_tokenizer(settings: PretrainSettings, base: Checkpoint | None) -> TokenizerFiles:
    """The tokenizer of the model to start from, or the one named, prepared as the settings say; else none yet."""
    if base is not None:
        return base.tokenizer
    if settings.tokenizer is None:
        return TokenizerFiles(**_preparation(settings))
    files, flags = find_tokenizer_files(Path(settings.tokenizer)), _preparation(settings)
    if files.wordpiece and "keep_accents" in flags:
        flags["strip_accents"] = not flags.pop("keep_accents")  # the same thing by BERT's name
    return dataclasses.replace(files, **flags)


def _preparation(settings: PretrainSettings) -> dict[str, Any]:
    """The tokenizer's flags that the settings decide."""
    flags = {"keep_accents": settings.keep_accents, "lowercase": None if settings.cased is None else not settings.cased}
    return {key: value for key, value in flags.items() if value is not None}


def _tell_survey(settings: PretrainSettings, files: corpora.Files, tokenizer: TokenizerFiles, report: Report) -> None:
    """Look at the corpus before any work: DataError where it will not do, notes of what is left out of it."""
    found = surveys.survey(files, settings.hold_out, Counter(report, "looking at the corpus", "bytes"))
    notes = surveys.notes_of_files(files, found)
    strips = not tokenizer.keep_accents
    if tokenizer.wordpiece:
        strips = strips and (tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents)
    if strips:
        can = settings.init is None
        notes += surveys.note_of_marks(found, "--keep-accents keeps them" if can else "the model of --init was made so")
    for note in notes:
        report(Note(note))


def _trained_tokenizer(settings: PretrainSettings, files: corpora.Files, out: Path, report: Report) -> TokenizerFiles:
    """A tokenizer trained on what is not held out, or kept from an earlier time."""
    flags = _preparation(settings)
    made = out / corpora.NAME / "spiece.model"
    wanted = _digest([corpora.fingerprint(files, ""), settings.hold_out, settings.vocab_size, settings.seed, flags])
    stamp = out / corpora.NAME / "spiece.json"
    if made.is_file() and stamp.is_file() and parse_json(read_small(stamp), str(stamp)) == {"made_of": wanted}:
        data = read_small(made)
    else:
        from albert_cli.pretraining.vocabulary import train_vocabulary

        report(Note("training a vocabulary: no --tokenizer is given"))
        data = train_vocabulary(
            _training_sentences(files, settings.hold_out),
            settings.vocab_size or VOCAB_SIZE,
            seed=settings.seed,
            note=lambda text: report(Note(text)),
            **flags,
        )
        for path, content in ((made, data), (stamp, dump_json({"made_of": wanted}))):
            with atomic_write(path, force=True, ours=None) as beside:
                beside.write_bytes(content)
    files_made = TokenizerFiles.of("the corpus", spiece=data, origin="trained on the corpus")
    return dataclasses.replace(files_made, **flags)


def _training_sentences(files: corpora.Files, hold_out: int) -> Iterable[str]:
    for number, (_, document) in enumerate(files.documents()):
        if not corpora.is_held_out(number, hold_out):
            yield from document


def _config(settings: PretrainSettings, base: Checkpoint | None) -> EncoderConfig:
    """The model's config with the wanted sharing; the size of the vocabulary is the tokenizer's, see `_sized`."""
    if base is not None:
        config = base.config
    elif settings.model_config:
        data = {"vocab_size": settings.vocab_size or VOCAB_SIZE} | dict(settings.model_config)
        config = config_from_json(data, "the config", dialect="google")
    else:
        config = PRESETS["tiny"]
    if settings.share is not None:
        config = config.sharing(settings.share)
    if settings.max_length > config.max_tokens:
        raise TrainingError(f"--max-length is {settings.max_length}, but the model has {config.max_tokens} positions")
    if settings.local_heads:
        waves(config, settings.local_heads)  # told before the corpus is read
    return config


def _sized(config: EncoderConfig, base: Checkpoint | None, tokenizer: Tokenizer) -> EncoderConfig:
    if base is None:
        return dataclasses.replace(config, vocab_size=len(tokenizer))
    return config


def _model(
    config: EncoderConfig, base: Checkpoint | None, corpus: corpora.Corpus, documents: Any, seed: int
) -> PreTrainingModel:
    """The model to start from; of a fresh one, the output bias is the log-frequency of each piece."""
    torch.manual_seed(seed)
    model = PreTrainingModel(config, untied=untied(base) if base else ())
    if base is not None:
        present = spec.components(base.tensors, base.config)
        absent = [roles.HEADS[part] for part in ("mlm", "sop") if part not in present]
        if absent:
            raise TrainingError(f"{base.where}: has no {' and no '.join(absent)}, which pretraining goes on with")
        assign(model, base)
        return model
    frequencies = teachers.counts(corpus, documents, config.vocab_size)
    with torch.no_grad():
        shares = (frequencies + 1) / (frequencies.sum() + len(frequencies))
        assert model.mlm is not None
        model.mlm.bias.copy_(torch.from_numpy(np.log(shares) - np.log(shares).mean()))
    return model


def _teach(
    settings: PretrainSettings,
    model: PreTrainingModel,
    corpus: corpora.Corpus,
    files: corpora.Files,
    documents: Any,
    tokenizer: Tokenizer,
    out: Path,
    teacher: teachers.Teacher,
    report: Report,
    *,
    fresh: bool,
) -> tuple[teachers.Lessons, str]:
    """The teacher's lessons; a fresh model starts from its vectors of single pieces."""
    weights = settings.teacher_weights or settings.weights
    by_source = np.array(corpora.Files.find(files.paths, weights, ()).weights)
    chosen = teachers.choose(corpus, documents, by_source, settings.teacher_sentences, seed=settings.seed)
    texts = Path(settings.teacher_texts) if settings.teacher_texts else None
    lessons, axes = teachers.prepare(
        teacher,
        corpus,
        chosen,
        texts,
        tokenizer,
        model.config.hidden_size,
        out / TEACHER,
        learner=model if settings.init else None,
        report=report,
    )
    if fresh:
        teachers.start_static(
            model, teacher, tokenizer, axes, teachers.counts(corpus, documents, model.config.vocab_size)
        )
    sha = hashlib.sha256(lessons.vectors.tobytes() + lessons.ids.tobytes())
    return lessons, sha.hexdigest()


def _plain(settings: PretrainSettings) -> dict[str, Any]:
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {key: value for key, value in values.items() if value not in (None, {}, [])}


def _check_same(out: Path, settings: PretrainSettings, hashes: dict[str, str]) -> None:
    """Refuse to resume with other settings or data than the run was started with; no `hashes`: not known yet."""
    before, content = json.loads(json.dumps(read_settings(out / RUN))), load_toml(out / RUN)
    if faults := faults_of(content, _RunFile, complete=True):
        raise RunError(f"{out / RUN}: damaged: {'; '.join(faults)}")
    run_info.check_same(out, settings=(before, _plain(settings)), hashes=(content["hashes"], hashes), paths=PATHS)


def _finish(out: Path, settings: PretrainSettings, facts: dict[str, Any]) -> dict[str, Any]:
    from albert_cli.pretraining import figures

    records = read_log(out)
    last, steps = records_of(records, Evaluated)[-1], records_of(records, Trained)
    figures.curves(records, out / CURVES)
    summary = {
        "steps": last["step"],
        "seconds": last["seconds"],
        "tokens_seen": int(sum(record["tokens"] for record in steps)),
        "held_out": {key: last[key] for key in HELD_OUT if key in last},
        **{key: last[key] for key in (order_by_length.NAME,) if key in last},
        "data": facts,
        "last_weights_sha256": records[-1]["last_weights_sha256"],
    }
    run_info.write_summary(out, summary)
    return summary


def _digest(data: Any) -> str:
    return hashlib.sha256(dump_json(data)).hexdigest()


__all__ = ["OURS", "pretrain"]
