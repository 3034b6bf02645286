"""What is settled before a model is made: tokenizer, config, the corpus as tokens, which documents are held out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from albert_cli.declared import read_facts
from albert_cli.errors import TrainingError
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import survey as surveys
from albert_cli.pretraining.local_heads import frequency_count
from albert_cli.pretraining.settings import VOCAB_SIZE, PretrainSettings, check_family
from albert_cli.registry import resolve
from albert_cli.runs.events import Counter, Note, Report
from albert_cli.tokenization.loading import find_tokenizer_files
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig, dump_json
from converters.dialects import config_from_json
from converters.errors import CorruptError
from converters.families.albert import PRESETS
from converters.files import read_small
from converters.staging import atomic_write
from converters.tokenizers.files import TokenizerFiles


@dataclass(frozen=True)
class Prepared:
    """The text of a run and its model's shape. `base`: the model to start from, if any; `train` and `held_out`:
    numbers of documents; `facts`: counts for run.toml."""

    files: corpora.Files
    base: Checkpoint | None
    config: EncoderConfig
    tokenizer_files: TokenizerFiles
    tokenizer: Tokenizer
    corpus: corpora.Corpus
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @property
    def facts(self) -> dict[str, int]:
        """Documents and tokens."""
        return {
            "documents": len(self.train),
            "held_out_documents": len(self.held_out),
            "tokens": int(self.corpus.facts["counts"]["ids"]),
        }


def prepare(
    settings: PretrainSettings,
    files: corpora.Files,
    out: Path,
    accelerator: Accelerator,
    report: Report,
    *,
    resuming: bool,
) -> Prepared:
    """Tokenize the corpus into `out`, with the tokenizer that the settings name, or one that is trained on it.

    A run that is not `resuming` looks at the text first. Raises DataError and TrainingError for what cannot be used.
    """
    base = resolve.resolve(settings.init).load() if settings.init else None
    config = _config(settings, base)
    with accelerator.main_process_first():  # the others find its files
        tokenizer_files = _given_tokenizer(settings, base)
        if tokenizer_files.kind == "bpe":
            what = "pretraining takes a SentencePiece model or a WordPiece list, not a byte-level BPE"
            raise TrainingError(f"{settings.tokenizer or settings.init}: {what}")
        if accelerator.is_main_process and not resuming:
            _report_survey(settings, files, tokenizer_files, report)
        if base is None and settings.tokenizer is None:
            tokenizer_files = _trained_tokenizer(settings, files, out, report, resuming=resuming)
        tokenizer = Tokenizer.of_model(base) if base else Tokenizer.from_files(tokenizer_files)
        corpus = corpora.prepare(
            files,
            tokenizer,
            tokenizer_files.ids_digest() or "",
            out / corpora.NAME,
            resuming=resuming,
            progress=Counter(report, "tokenizing", "bytes"),
        )
    ordered = np.array(files.ordered)
    for note in surveys.notes_of_tokens(corpus, ordered, settings.hold_out, settings.max_length, tokenizer.unk_id):
        report(Note(note))
    if base is None:
        config = dataclasses.replace(config, vocab_size=len(tokenizer))
    return Prepared(files, base, config, tokenizer_files, tokenizer, corpus, *corpus.split(settings.hold_out))


def _config(settings: PretrainSettings, base: Checkpoint | None) -> EncoderConfig:
    """The model's config with the wanted sharing; the size of the vocabulary is the tokenizer's, see `prepare`."""
    if base is not None:
        config = base.config
        check_family(config, base.where)
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
        frequency_count(config, settings.local_heads)  # an error before the corpus is read
    return config


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


def _report_survey(settings: PretrainSettings, files: corpora.Files, tokenizer: TokenizerFiles, report: Report) -> None:
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


def _trained_tokenizer(
    settings: PretrainSettings, files: corpora.Files, out: Path, report: Report, *, resuming: bool
) -> TokenizerFiles:
    """A tokenizer trained on what is not held out, or kept from an earlier time."""
    flags = _preparation(settings)
    made = out / corpora.NAME / "spiece.model"
    wanted = digest([corpora.fingerprint(files, ""), settings.hold_out, settings.vocab_size, settings.seed, flags])
    stamp = out / corpora.NAME / "spiece.json"
    if (data := _kept_vocabulary(made, stamp, wanted, resuming=resuming)) is None:
        from albert_cli.pretraining.vocabulary import train_vocabulary

        report(Note("training a vocabulary: no --tokenizer is given"))
        data = train_vocabulary(
            _training_sentences(files, settings.hold_out),
            settings.vocab_size or VOCAB_SIZE,
            seed=settings.seed,
            note=lambda text: report(Note(text)),
            **flags,
        )
        facts = {"made_of": wanted, "sha256": hashlib.sha256(data).hexdigest()}
        for path, content in ((made, data), (stamp, dump_json(facts))):
            with atomic_write(path, force=True, ours=None) as beside:
                beside.write_bytes(content)
    files_made = TokenizerFiles.of("the corpus", spiece=data, origin="trained on the corpus")
    return dataclasses.replace(files_made, **flags)


@dataclass(frozen=True)
class _Stamp:
    """What spiece.json says of the vocabulary beside it."""

    made_of: str
    sha256: str


def _kept_vocabulary(made: Path, stamp: Path, wanted: str, *, resuming: bool) -> bytes | None:
    """A vocabulary that was trained on the same before; None where there is none.

    For a damaged one a run that is `resuming` gets a CorruptError, a new one None.
    """
    if not (made.is_file() and stamp.is_file()):
        return None
    advice = f"remove {stamp}, and the vocabulary is trained again"
    try:
        facts, data = read_facts(stamp, _Stamp, advice), read_small(made)
        if facts["made_of"] == wanted and hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise CorruptError(f"{made}: its SHA-256 is not that in {stamp.name}; {advice}")
    except CorruptError:
        if resuming:
            raise
        return None
    return data if facts["made_of"] == wanted else None


def _training_sentences(files: corpora.Files, hold_out: int) -> Iterable[str]:
    """The sentences of all documents that are not held out."""
    for number, (_, document) in enumerate(files.documents()):
        if not corpora.is_held_out(number, hold_out):
            yield from document


def digest(data: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(dump_json(data)).hexdigest()
