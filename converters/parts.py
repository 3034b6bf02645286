"""The models that lie in one checkpoint of Google's, an ELECTRA's two: taken apart, and put into one again.

Apart, each is in TARGET under the name of its part: `discriminator` and `generator`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters import proof, roles, spec
from converters.buffer_pool import reused
from converters.cast import check_dtypes
from converters.checkpoint import Checkpoint, same_bits
from converters.choices import Choices
from converters.convert import (
    Plan,
    Report,
    as_read_back,
    check_place,
    files_of,
    load,
    planned,
    read_back,
    target_format,
    write_into,
)
from converters.errors import FormatError, SpecError, TargetError
from converters.families import families, family_of
from converters.family import Part
from converters.files import file_errors
from converters.formats import Writable, formats
from converters.messages import listing
from converters.proof import Progress
from converters.staging import atomic_write, check_target, meant_as_file, syncing

# Of every family.
PARTS: Mapping[str, Part] = {part.name: part for family in families().values() for part in family.parts}


@reused()
def convert_each(
    source: Path,
    target: Path,
    *,
    source_as: str | None = None,
    target_as: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    keep_optimizer: bool = False,
    heads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Report]:
    """Convert every model of a checkpoint into the directory `target`, all of them in one step; reports by part.

    `heads` are the discriminator's: only there they may differ from what follows from the size. Errors: as of
    `converters.convert.convert`.
    """
    writer = check_directory(target, target_as)
    plans = {}
    for number, name in enumerate(PARTS):
        checkpoint = load(source, format=source_as, choices=Choices(heads=None if number else heads, part=name))
        others = {part.left_out for part in PARTS.values()}
        dropped = {reason: count for reason, count in checkpoint.dropped.items() if reason not in others}
        checkpoint = dataclasses.replace(checkpoint, dropped=dropped)
        plans[name] = planned(checkpoint, writer, dtype=dtype, keep_optimizer=keep_optimizer)
        check_dtypes(plans[name].wanted, writer.NAME, writer.DTYPES)
    ours = _ours(writer)
    with file_errors(target):
        sources = files_of(source, next(iter(plans.values())).checkpoint)
        check_target(target, force=force, sources=sources, ours=ours)
    surveys = {}
    with atomic_write(target, force=force, ours=ours) as beside:
        for name, plan in plans.items():
            place = beside / _called(name, writer)
            if writer.OURS is not None:
                place.mkdir()
            surveys[name] = write_into(plan.wanted, place, writer, str(target / place.name), progress)
    return {name: plan.report(target / _called(name, writer), writer, surveys[name]) for name, plan in plans.items()}


def check_directory(target: Path, target_as: str | None, *, force: bool = True) -> Writable:
    """The format of the models to write into a directory, which must be one or free for one (TargetError)."""
    writer = target_format(target, target_as)
    if meant_as_file(target) or (writer.OURS is None and writer.fits_target(target)):
        raise TargetError(target, "a file's name, where two models are written; name a directory")
    with file_errors(target):
        check_target(target, force=force, sources=[], ours=_ours(writer))
    return writer


def _ours(writer: Writable) -> re.Pattern[str]:
    """The names of all that is written into the directory."""
    names = "|".join(re.escape(_called(name, writer)) for name in PARTS)
    return re.compile(names if writer.OURS is None else f"({names})(/({writer.OURS.pattern}))?")


def _called(name: str, writer: Writable) -> str:
    return name if writer.OURS is not None else name + writer.SUFFIXES[0]


def found(directory: Path) -> dict[str, Path]:
    """The models in a directory that is none itself but holds one under the name of each part; empty otherwise."""
    if not directory.is_dir() or any(module.recognises(directory) for module in formats().values()):
        return {}
    models = [
        (path.stem, path)
        for path in directory.iterdir()
        if path.stem in PARTS and any(module.recognises(path) for module in formats().values())
    ]
    return {name: dict(models)[name] for name in PARTS} if sorted(name for name, _ in models) == sorted(PARTS) else {}


@reused()
def join(
    models: Mapping[str, Path],
    target: Path,
    *,
    source_as: str | None = None,
    target_as: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    keep_optimizer: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Write the models of `found` as one checkpoint of Google's, which holds once what they share.

    Raises FormatError for a format of one model, SpecError where they do not fit together; else as
    `converters.convert.convert`. In the report the later models' tensors are named after their part.
    """
    source = next(iter(models.values())).parent
    writer = check_place(target, target_as, force=force)
    if "part" not in writer.TAKES:
        names = " and a ".join(models)
        raise FormatError(source, f"holds a {names}, and {writer.NAME} one model: name one of them, or say --to tf")
    plans = {}
    for name, path in models.items():
        plans[name] = planned(load(path, format=source_as), writer, dtype=dtype, keep_optimizer=keep_optimizer)
        check_dtypes(plans[name].wanted, writer.NAME, writer.DTYPES)
    place = writer.place(target)
    with file_errors(target):
        sources = [file for name, path in models.items() for file in files_of(path, plans[name].checkpoint)]
        check_target(place, force=force, sources=sources, ours=writer.OURS)
    wanted = {name: as_read_back(plan.wanted, writer) for name, plan in plans.items()}
    shared = _fitting(wanted, source)
    first, *others = wanted.values()
    with atomic_write(place, force=force, ours=writer.OURS) as beside:
        with proof.Hashing("write", progress) as hashing, proof.Hashing("write", progress) as rest:
            writer.write(
                dataclasses.replace(hashing.watch(first), beside=[rest.watch(other) for other in others]), beside
            )
        surveys = [hashing.survey, rest.survey]
        with syncing(beside):
            for (name, model), survey in zip(wanted.items(), surveys, strict=True):
                # What all share is written, and so hashed, once.
                digests = {key: surveys[0].digests[key] for key in shared} | survey.digests
                written = read_back(writer, beside, Choices(part=name))
                proof.check_written(model, digests, written, str(target), progress)
    return _joined(plans, place, writer, surveys, shared, source)


def _fitting(models: Mapping[str, Checkpoint], source: Path) -> list[str]:
    """The canonical names of the tensors and slots that the models share; SpecError where they do not fit together."""
    for name, model in models.items():
        kinds = {part.name: part.component for part in family_of(model.config).parts}
        if kinds.get(name) not in model.components:
            holds = f"of model_type {model.config.family} it holds {listing(model.components)}"
            raise SpecError(source, f"what is called {name} in it is none: {holds}; name one model")
    (first, one), *others = models.items()
    shared: list[str] = []
    for second, other in others:
        both = {name for name in one.everything().keys() | other.everything().keys() if _is_shared(name, one)}
        differing = sorted(name for name in both if not _same(name, one, other))
        if differing:
            raise SpecError(
                source,
                f"its {first} and {second} differ in {listing(differing)}, which one checkpoint of both holds once; "
                "convert them apart",
            )
        if one.global_step != other.global_step:
            steps = f"global_step {one.global_step} and {other.global_step}"
            raise SpecError(
                source, f"its {first} and {second} are of {steps}, and a checkpoint has one; convert them apart"
            )
        if _vocabulary(one) != _vocabulary(other):
            raise SpecError(source, f"its {first} and {second} have different tokenizers; convert them apart")
        shared = [name for name in one.everything() if name in both]
    return shared


def _is_shared(name: str, model: Checkpoint) -> bool:
    """Whether all models of a checkpoint have this tensor, or slot, in common: those of the embeddings."""
    wanted = spec.spec(model.config)
    item = wanted.get(name) or wanted.get(name.rpartition("/")[0])
    return item is not None and item.component == "embeddings"


def _same(name: str, one: Checkpoint, other: Checkpoint) -> bool:
    a, b = one.everything().get(name), other.everything().get(name)
    return a is not None and b is not None and same_bits(a.read(), b.read())


def _vocabulary(model: Checkpoint) -> tuple[object, ...]:
    tokenizer = model.tokenizer
    return tokenizer.model(), tokenizer.lines(), tokenizer.digest(), tokenizer.settings


def _joined(
    plans: Mapping[str, Plan],
    target: Path,
    writer: Writable,
    surveys: Sequence[proof.Survey],
    shared: Sequence[str],
    source: Path,
) -> Report:
    """One report of several models in one checkpoint."""
    reports = {
        name: plan.report(target, writer, survey) for (name, plan), survey in zip(plans.items(), surveys, strict=True)
    }
    first, *others = reports.values()
    digests, finite = dict(first.digests), proof.Survey(not_finite=dict(surveys[0].not_finite))
    dropped: dict[str, int] = {}
    for name, report, survey in zip(reports, reports.values(), surveys, strict=True):
        if report is not first:
            digests |= {f"{name}/{key}": value for key, value in report.digests.items()}
            finite.not_finite.update({f"{name}/{key}": value for key, value in survey.not_finite.items()})
        for reason, count in report.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    wanted = next(iter(plans.values())).wanted
    casts = [report.cast for report in reports.values() if report.cast]
    return dataclasses.replace(
        first,
        source=str(source),
        digests=digests,
        parameters=sum(report.parameters for report in reports.values())
        - sum(wanted.tensors[name].size for name in shared if name in wanted.tensors) * len(others),
        bytes=sum(report.bytes for report in reports.values())
        - sum(wanted.everything()[name].nbytes for name in shared) * len(others),
        dropped=dropped,
        absent=[],
        heads=[head for head in roles.HEADS if any(head in report.heads for report in reports.values())],
        cast=max(casts, key=lambda cast: cast.max_abs_error, default=None),
        notes=list(dict.fromkeys(note for report in reports.values() for note in report.notes)),
        not_finite=finite.counts(),
    )
