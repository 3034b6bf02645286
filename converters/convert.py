"""load, save, convert: the flow from any format to any other, in reading order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from converters import archives, pages, proof, roles, spec, strangers
from converters.buffer_pool import reused
from converters.cast import Cast, check_dtypes
from converters.checkpoint import FLOATS, Array, Checkpoint, Tensor
from converters.choices import NONE, Choices
from converters.config_keys import notes_on
from converters.errors import (
    PLACE,
    CheckpointError,
    FileError,
    FormatError,
    SpecError,
    UnknownFormatError,
    did_you_mean,
)
from converters.families import family_of
from converters.files import file_errors, noting
from converters.formats import Format, Writable, formats, writable
from converters.messages import listing
from converters.names import slot_of
from converters.proof import Progress
from converters.sentence_files import encoder_or_self
from converters.sentence_writing import SentenceRecipe
from converters.staging import atomic_write, check_target, meant_as_file, our_files, syncing
from converters.tokenizers.vocabulary import misfits

Kind = TypeVar("Kind", bound=Format)

DEFAULT_DIRECTORY_FORMAT = "safetensors"
_COPY = f"the source is {DEFAULT_DIRECTORY_FORMAT} too, so this is a copy; --to names another format"


@dataclass(frozen=True, repr=False)
class Report:
    """What a conversion did, and its proof: `digests` are the SHA-256 of each tensor, the same in source and target.

    `heads`: those that are carried, as `converters.roles.HEADS` calls them.
    `not_finite` counts the values that are `nan` and `infinite`, and names the `tensors` that hold any.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    digests: Mapping[str, str]
    parameters: int
    bytes: int
    dropped: Mapping[str, int]
    absent: list[str]
    heads: list[str]
    tokenizer: str
    global_step: int | None
    cast: Cast | None
    notes: list[str]
    not_finite: Mapping[str, Any]

    def __repr__(self) -> str:
        """One line: there are dozens of digests."""
        made = f"{self.source} ({self.source_format}) -> {self.target} ({self.target_format})"
        return f"<Report {made}: {len(self.digests)} tensors, {self.parameters:,} parameters, proved>"


def load(path: Path | str, *, format: str | None = None, choices: Choices = NONE) -> Checkpoint:
    """Open a model of any format, also inside an archive (`converters.archives`); arrays stay on disk until read.

    `choices`: what only the user can say of it.
    Raises FormatError (it cannot be determined), CorruptError, ConfigError, or SpecError (every missing, unknown or
    misshapen tensor in one message).
    """
    path = Path(path)
    with file_errors(path):
        archived = _archived(path)
        if archived:
            checkpoint = _read_archived(*archived, format, choices)
        else:
            with noting() as check:
                checkpoint = _read(source_format(path, format), path, choices)
            checkpoint = checkpoint.reading(lambda tensor: functools.partial(_read_and, check, tensor))
    weights = checkpoint.tensors
    spec.check(checkpoint.config, {name: tensor.shape for name, tensor in weights.items()}, checkpoint.where)
    faults = []
    for name, tensor in checkpoint.everything().items():
        if tensor.dtype not in FLOATS:
            faults.append(f"{name} is {tensor.dtype.name}, not one of {', '.join(kind.name for kind in FLOATS)}")
    for name, slot in checkpoint.optimizer.items():
        owner = weights.get(name.rpartition("/")[0])
        if owner is None:
            faults.append(f"optimizer slot {name} has no variable")
        elif slot.shape != owner.shape:
            faults.append(f"optimizer slot {name} is {list(slot.shape)}, its variable {list(owner.shape)}")
    if faults:
        raise SpecError(checkpoint.where, listing(faults, separator="; "))
    if notes := misfits(checkpoint.tokenizer, checkpoint.config):
        checkpoint = dataclasses.replace(checkpoint, notes=[*checkpoint.notes, *notes])
    return checkpoint


def _read_and(check: Callable[[], None], tensor: Tensor) -> Array:
    """The values of a tensor, once nothing has changed in the files that the checkpoint was opened from."""
    array = tensor.read()
    check()
    return array


def _read(reader: Format, path: Path, choices: Choices = NONE) -> Checkpoint:
    choices.check(reader.TAKES, path, reader.NAME)
    checkpoint = _without_architectures(reader.read(path, choices))
    if notes := notes_on(checkpoint.config.extra):
        checkpoint = dataclasses.replace(checkpoint, notes=[*checkpoint.notes, *notes])
    return _ordered(checkpoint)


def _without_architectures(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without its config's `architectures` where these follow from its heads, or cannot be true."""
    config = checkpoint.config
    extra = {key: value for key, value in config.extra.items() if key != "architectures"}
    plain = dataclasses.replace(config, extra=extra)
    found = spec.architecture(checkpoint.tensors, plain)
    if untrue := spec.untrue(checkpoint.tensors, config):
        note = f"{untrue}; read as {found}"
        return dataclasses.replace(checkpoint, config=plain, notes=[*checkpoint.notes, note])
    return dataclasses.replace(checkpoint, config=plain) if config.extra.get("architectures") == [found] else checkpoint


def _archived(path: Path) -> tuple[Path, Path] | None:
    """The archive that a path names or leads into, and the place in it; some formats are zip archives themselves."""
    archive, place = archives.split(path)
    if archives.is_archive(archive) and not any(module.recognises(archive) for module in formats().values()):
        return archive, place
    return None


def _read_archived(archive: Path, place: Path, format: str | None, choices: Choices) -> Checkpoint:
    opened = archives.Opened(archive)
    try:
        with opened.errors_name_archive():
            path = opened.root / place if place.parts else _model_in(opened, format)
            return opened.keep_open(_read(source_format(path, format), path, choices))
    except BaseException:
        opened.close()
        raise


def _model_in(opened: archives.Opened, format: str | None) -> Path:
    """The one model in an archive; FormatError where there is none or several."""
    readers = [source_format(opened.root, format)] if format else list(formats().values())
    found = sorted(_models(opened.root, readers))
    if not found:
        links = f" ({opened.passed_over} links or special files in it are never followed)" if opened.passed_over else ""
        known = ", ".join(module.NAME for module in readers)
        raise FormatError(opened.root, f"an archive that holds no model of a known format ({known}){links}")
    if len(found) > 1:
        names = listing(f"{PLACE}/{path.relative_to(opened.root).as_posix()}" for path in found)
        raise FormatError(opened.root, f"holds {len(found)} models; name one of {names}")
    return found[0]


def _models(directory: Path, readers: Sequence[Format]) -> list[Path]:
    """The directories and files below one that are models; what is inside a model is part of it."""
    if any(module.recognises(directory) for module in readers):
        return [directory]
    entries = list(directory.iterdir())
    found = [path for entry in entries if entry.is_dir() for path in _models(entry, readers)]
    files = [entry for entry in entries if entry.is_file()]
    return found + [file for file in files if any(module.recognises(file) for module in readers)]


def _ordered(checkpoint: Checkpoint) -> Checkpoint:
    """Tensors in the order of computation: the same model gives the same bytes, whatever it was read from."""
    order = {name: number for number, name in enumerate(spec.spec(checkpoint.config))}

    def place(name: str) -> tuple[int, str]:
        variable, _ = slot_of(name) or (name, "")
        return order.get(variable, len(order)), name

    tensors, optimizer = (
        {name: tensors[name] for name in sorted(tensors, key=place)}
        for tensors in (checkpoint.tensors, checkpoint.optimizer)
    )
    return dataclasses.replace(checkpoint, tensors=tensors, optimizer=optimizer)


def save(checkpoint: Checkpoint, target: Path | str, *, format: str | None = None, force: bool = False) -> None:
    """Write a checkpoint in any format and prove what was written by reading it back (see `write_proved`)."""
    target = Path(target)
    write_proved(checkpoint, target, target_format(target, format), force=force)


def convert(
    source: Path | str,
    target: Path | str,
    *,
    source_as: str | None = None,
    target_as: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    keep_optimizer: bool = False,
    choices: Choices = NONE,
    sentence: SentenceRecipe | None = None,
    progress: Progress | None = None,
    page: Callable[[Checkpoint, Report], str] | None = None,
) -> Report:
    """Convert a model and prove it: every tensor written is read back and compared by SHA-256 with the source.

    `choices`: as in `load`. `sentence`: what makes it a Sentence-Transformers model. `page`: its README.md.
    """
    source, target = Path(source), Path(target)
    writer = check_place(target, target_as, force=force, source=source, source_as=source_as)
    checkpoint = load(source, format=source_as, choices=choices)
    checkpoint = sentence.applied(checkpoint) if sentence else checkpoint
    plan = planned(checkpoint, writer, dtype=dtype, keep_optimizer=keep_optimizer)
    sources = files_of(source, plan.checkpoint)
    copied = plan.checkpoint.format == writer.NAME == DEFAULT_DIRECTORY_FORMAT and not target_as and not plan.cast
    notes = [_COPY] if copied else []
    if page is not None and writer.HOLDS_SENTENCE_FILES and not pages.is_free(target):
        notes.append(f"{pages.README} was there already and is kept; see that it is about this model")

    def reported(survey: proof.Survey) -> Report:
        report = plan.report(target, writer, survey, notes)
        return dataclasses.replace(report, absent=[]) if sentence else report  # no head is missed where none is wanted

    paged = None if page is None else lambda survey: page(plan.wanted, reported(survey))
    survey = write_proved(plan.wanted, target, writer, force=force, sources=sources, progress=progress, page=paged)
    return reported(survey)


@dataclass(frozen=True)
class Plan:
    """A model that was read, and what is to be written of it: `wanted`."""

    checkpoint: Checkpoint
    wanted: Checkpoint
    cast: Cast | None
    dropped: Mapping[str, int]

    def report(self, target: Path, writer: Writable, survey: proof.Survey, notes: Sequence[str] = ()) -> Report:
        """What was done, once it is proved; `notes` are further ones."""
        checkpoint, family = self.checkpoint, family_of(self.checkpoint.config)
        present, fault = checkpoint.components, checkpoint.tokenizer.fault
        # A generator lacks no head of the discriminator's.
        fresh = () if any(part.component in present for part in family.parts) else family.fresh
        return Report(
            source=checkpoint.where,
            target=str(target),
            source_format=checkpoint.format,
            target_format=writer.NAME,
            digests=survey.digests,
            parameters=sum(tensor.size for tensor in checkpoint.tensors.values()),
            bytes=sum(tensor.nbytes for tensor in self.wanted.everything().values()),
            dropped=self.dropped,
            absent=[roles.HEADS[part] for part in fresh if part in roles.HEADS and part not in present],
            heads=[head for head in roles.HEADS if head in present],
            tokenizer=describe_tokenizer(checkpoint),
            global_step=checkpoint.global_step,
            cast=self.cast,
            notes=[
                *checkpoint.notes,
                *checkpoint.tokenizer.notes,
                *([f"the tokenizer is left out: {fault}"] if fault else []),
                *writer.notes(checkpoint),
                *notes,
            ],
            not_finite=survey.counts(),
        )


def planned(checkpoint: Checkpoint, writer: Writable, *, dtype: str | None, keep_optimizer: bool) -> Plan:
    """What is written of a model, and what is left out."""
    dropped = dict(checkpoint.dropped)
    if checkpoint.optimizer and not keep_optimizer:
        dropped["optimizer slots"] = len(checkpoint.optimizer)
        checkpoint = dataclasses.replace(checkpoint, optimizer={})
    cast = Cast(dtype) if dtype else None
    wanted = cast.apply(checkpoint) if cast else checkpoint
    if sentence := checkpoint.sentence:
        lost = () if writer.HOLDS_SENTENCE_FILES else sentence.files
        if left_out := [*lost, *sentence.left_out]:
            dropped[f"Sentence-Transformers files ({listing(left_out)})"] = len(left_out)
    return Plan(checkpoint, wanted, cast, dropped)


def files_of(source: Path, checkpoint: Checkpoint) -> list[Path]:
    """The files that a model was read from, so that no target replaces them."""
    return _files(source, formats()[checkpoint.format])


@reused()
def write_proved(
    checkpoint: Checkpoint,
    target: Path,
    writer: Writable,
    *,
    force: bool = False,
    sources: Sequence[Path] = (),
    progress: Progress | None = None,
    page: Callable[[proof.Survey], str] | None = None,
) -> proof.Survey:
    """Write beside the target, read that back, compare every tensor, config and tokenizer, then rename into place.

    Returns the SHA-256 of every tensor, and what of it is not finite. Nothing of the target changes unless all of it is
    proved equal. `page`: what README.md says, in a Hugging Face directory that has none but ours.
    """
    target = writer.place(target)
    check_dtypes(checkpoint, writer.NAME, writer.DTYPES)
    with file_errors(target):
        check_target(target, force=force, sources=sources, ours=writer.OURS)
    ours = writer.OURS
    paged = page is not None and ours is not None and writer.HOLDS_SENTENCE_FILES and pages.is_free(target)
    with atomic_write(target, force=force, ours=pages.with_readme(ours) if paged and ours else ours) as beside:
        survey = write_into(checkpoint, beside, writer, str(target), progress)
        if page is not None and paged:
            (beside / pages.README).write_bytes(pages.marked(page(survey)))
        return survey


def write_into(
    checkpoint: Checkpoint, place: Path, writer: Writable, shown: str, progress: Progress | None = None
) -> proof.Survey:
    """Write a model to a place that is still hidden, and prove what was written; `shown` is the target in errors."""
    checkpoint = as_read_back(checkpoint, writer)
    with proof.Hashing("write", progress) as hashing:
        writer.write(hashing.watch(checkpoint), place)
    with syncing(place):
        proof.check_written(checkpoint, hashing.survey.digests, read_back(writer, place), shown, progress)
    return hashing.survey


def as_read_back(checkpoint: Checkpoint, writer: Writable) -> Checkpoint:
    """The model as it will be when it is read back."""
    if not writer.HOLDS_SENTENCE_FILES:
        checkpoint = dataclasses.replace(checkpoint, sentence=None)
    return _ordered(_without_architectures(checkpoint))


def read_back(writer: Writable, place: Path, choices: Choices = NONE) -> Checkpoint:
    """What was written to a place, as it will be found there."""
    return _read(writer, place, choices)


def check_place(
    target: Path,
    target_as: str | None = None,
    *,
    force: bool,
    source: Path | None = None,
    source_as: str | None = None,
    inputs: Sequence[Path] = (),
) -> Writable:
    """The format to write, once its target is known to be free and writable (TargetError); nothing is read before.

    `source` is the model that is written, `inputs` are other files that it is made from; no target replaces them.
    """
    writer = target_format(target, target_as)
    place = writer.place(target)
    with file_errors(target):
        sources = [*inputs, *(_known_files(source, source_as) if source else ())]
        check_target(place, force=force, sources=sources, ours=writer.OURS)
    return writer


def _known_files(source: Path, source_as: str | None) -> list[Path]:
    """As `_files`; the path alone where its format cannot be determined."""
    try:
        if archived := _archived(source):
            return [archived[0]]
        return _files(source, source_format(source, source_as))
    except (CheckpointError, FileError, OSError):
        return [source]


def _files(source: Path, reader: Format) -> list[Path]:
    """The files that a model is read from, so that no target replaces them."""
    if archived := _archived(source):
        return [archived[0]]
    if (ours := reader.OURS) is None:
        return [source]
    directory = source if source.is_dir() else source.parent
    places = {directory, encoder_or_self(directory) or directory}
    return [source, *(place / name for place in sorted(places) for name in our_files(place, ours))]


def describe_tokenizer(checkpoint: Checkpoint) -> str:
    """Where the tokenizer came from, in words."""
    tokenizer = checkpoint.tokenizer
    if not tokenizer:
        return "none" if tokenizer.fault is None else f"none that is computed here: {tokenizer.fault}"
    how = "model rebuilt from its lines" if tokenizer.rebuilt else "copied"
    added = f", {len(tokenizer.added)} added tokens" if tokenizer.added else ""
    return f"{tokenizer.origin}, {how}{added}"


def source_format(path: Path, name: str | None = None) -> Format:
    """The format of what is at `path`, by its contents."""
    known = formats()
    if name is not None:
        return _named(name, known)
    found = [module for module in formats().values() if module.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"--from {module.NAME}" for module in found)
        raise FormatError(path, f"holds models of several formats; say {choices}, or name the file")
    if not path.exists():
        raise FormatError(path, "no such file, directory or checkpoint")
    if held := strangers.instead(path):
        raise FormatError(path, held)
    what = "directory" if path.is_dir() else "file"
    raise FormatError(path, f"a {what} that holds no model of a known format ({', '.join(known)})")


def target_format(path: Path, name: str | None = None) -> Writable:
    """The format to write at `path`: by name, suffix, what is there already, else a Hugging Face directory."""
    known = writable()
    if name is not None:
        return _named(name, known)
    fitting = [module for module in known.values() if module.fits_target(path)]
    if not fitting and path.is_dir():
        fitting = [module for module in known.values() if module.recognises(path)]
    if not fitting and meant_as_file(path):
        files = " ".join(suffix for module in known.values() for suffix in module.SUFFIXES)
        raise FormatError(
            path, f"no format writes a {path.suffix} file (but {files}); say --to {' or --to '.join(known)}"
        )
    if not fitting:
        return known[DEFAULT_DIRECTORY_FORMAT]
    if len(fitting) == 1:
        return fitting[0]
    choices = " or --to ".join(module.NAME for module in fitting)
    raise FormatError(path, f"could become several formats; say --to {choices}")


def _named(name: str, known: Mapping[str, Kind]) -> Kind:
    if name in formats() and name not in known:
        raise UnknownFormatError(f"{name} is read and not written; say --to {' or --to '.join(known)}")
    if name not in known:
        raise UnknownFormatError(
            f"{name!r} is no format here; the formats are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return known[name]
