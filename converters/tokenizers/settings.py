"""The tokenizer in a directory: its vocabulary, and what the JSON files beside that say of its ids.

`transformers` keeps one fact in several files: those must agree. What is done with each setting is declared in
converters.tokenizers.keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.config import parse_json, parse_texts
from converters.errors import ConfigError, CorruptError
from converters.families import families
from converters.family import Casing, Family, TokenizerTable
from converters.files import read_optional, read_small
from converters.messages import brief
from converters.tokenizers import casing
from converters.tokenizers.bpe import written
from converters.tokenizers.files import TOKENS, AddedToken, Kind, TokenizerFiles, added_token, kind_of
from converters.tokenizers.keys import (
    ADDED,
    BY_FILE,
    CONFIG,
    EXTRA_TOKENS,
    NAMED_TOKENS,
    PIPELINE,
    SPECIAL_MAP,
    SWITCHES,
    USUAL,
)
from converters.tokenizers.pipeline import Pipeline, read_pipeline
from converters.tokenizers.sentencepiece_model import CONTROL_PIECES, UNKNOWN_PIECE, USER_DEFINED_PIECES, make_model
from converters.tokenizers.tokenizer_json import MODEL_MAX_LENGTH
from converters.tokenizers.vocabulary import ALBERT, BERT, BPE, KINDS, Vocabulary, find_vocabulary

Json = dict[str, Any]

# These take a tokenizer.json as it is.
_ANY = {"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "PreTrainedTokenizerBase"}
_SCORE_TOLERANCE = 1e-3
_PREPARATION = {"do_lower_case": True, "keep_accents": False, "strip_accents": None, "tokenize_chinese_chars": True}
_SPECIAL = ("bos_token", "eos_token", *NAMED_TOKENS)


def read_tokenizer(
    directory: Path, *, first: Sequence[str] = (), only: Path | None = None, family: Family | None = None
) -> TokenizerFiles:
    """The tokenizer in a directory; empty where there is none. `only`: the one vocabulary file to take there. `family`:
    that of the model, which the config there tells otherwise.

    Settings that contradict one another or give ids that are not computed here are its `fault`, so that the model
    can be inspected and converted all the same. Raises FormatError for several vocabularies, CorruptError for damaged
    ones.
    """
    try:
        return _read(directory, first, only, family)
    except ConfigError as error:
        return TokenizerFiles(fault=str(error))


def _read(directory: Path, first: Sequence[str], only: Path | None, family: Family | None) -> TokenizerFiles:
    said = _object(directory / CONFIG)
    mapped = _object(directory / SPECIAL_MAP)
    config = _object(directory / "config.json", parse_json)  # which keeps what it does not know
    family = family or families().get(str(config.get("model_type")))
    kind = said.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(kind or "").removesuffix("Fast")
    if only is None:
        paths = find_vocabulary(directory, first, name)
    else:
        paths = {part: only for part, pattern in KINDS.items() if pattern.fullmatch(only.name)} or {"wordpiece": only}
    pipeline_bytes = read_optional(directory / PIPELINE)
    if not paths and pipeline_bytes is None:
        return TokenizerFiles()
    if len(paths.keys() & {"vocab_json", "merges"}) == 1:
        if pipeline_bytes is None:
            has, lacks = ("merges.txt", "vocab.json") if "merges" in paths else ("vocab.json", "merges.txt")
            raise ConfigError(directory, f"holds {has} and no {lacks}, of which one is nothing without the other")
        paths = {}
    if name and name not in BERT | ALBERT | BPE | _ANY:
        wanted = "AlbertTokenizer, BertTokenizer, RobertaTokenizer or PreTrainedTokenizerFast"
        raise ConfigError(directory / CONFIG, f"tokenizer_class is {kind!r}, whose ids differ from those of {wanted}")
    pipeline = None if pipeline_bytes is None else read_pipeline(pipeline_bytes, str(directory / PIPELINE))
    parts = {part: read_small(path) for part, path in paths.items()}
    kind = pipeline.kind if pipeline is not None and not parts else kind_of(**parts)
    if name in BERT | ALBERT | BPE and (name in BPE) != (kind == "bpe"):
        file = next(iter(paths.values()), directory / PIPELINE)
        what = "is a byte-level BPE" if kind == "bpe" else "is no byte-level BPE"
        raise ConfigError(file, f"{what}, but tokenizer_class is {name!r}; remove the one that is not the model's own")
    notes = _check_keys(directory, said, mapped, has_pipeline=pipeline is not None, is_bpe=kind == "bpe")
    every = said | {key: mapped[key] for key in mapped if key not in said}
    table = None if family is None else family.tokenizer
    source = _Source(directory, str(only or directory), every, name, table, kind, pipeline, paths, parts)
    for key in mapped.keys() & said.keys():
        if key in _SPECIAL and _content(mapped[key]) != _content(said[key]):
            raise source.wrong(f"{key} is {_content(said[key])!r}, in {SPECIAL_MAP} {_content(mapped[key])!r}")
    return source.files(notes)


def tokenizer_beside(directory: Path, settings: Json, family: Family) -> TokenizerFiles:
    """The tokenizer beside Google's weights; `settings` are what its config says, which count before other files'."""
    if not settings:
        return read_tokenizer(directory, family=family)
    paths = find_vocabulary(directory)
    parts: dict[str, Any] = {part: read_small(path) for part, path in paths.items()}
    table, origin = family.tokenizer, _origin(paths)
    return TokenizerFiles.of(str(directory), **parts, settings=settings, table=table, origin=origin)


def _origin(paths: Mapping[str, Path]) -> Mapping[str, str]:
    return {part: path.name for part, path in paths.items()}


def _check_keys(directory: Path, said: Json, mapped: Json, *, has_pipeline: bool, is_bpe: bool) -> list[str]:
    """Notes on settings that are not known; ConfigError lists every one that is refused."""
    if wrong := [f"{key} is {brief(said[key])}" for key in SWITCHES if not isinstance(said.get(key), bool | None)]:
        raise ConfigError(directory / CONFIG, f"{', '.join(wrong)}, not true or false")
    refused, unknown = [], []
    for file, data in ((CONFIG, said), (SPECIAL_MAP, mapped)):
        for key, value in data.items():
            known = BY_FILE[file].get(key)
            if known is None and not key.endswith("_token"):
                unknown.append(f"{key} of {file}")
            elif known is not None and known.treatment == "refused" and value not in USUAL[key]:
                dropped = has_pipeline and key in ("add_bos_token", "add_eos_token")
                dropped = dropped or (is_bpe and key == "add_prefix_space")
                refused += [] if dropped else [f"{key} is {brief(value)} ({known.note})"]
    if refused:
        raise ConfigError(
            directory / CONFIG, f"{', '.join(refused)}: not computed here; remove it if it is of no account"
        )
    if not unknown:
        return []
    return [f"{directory}: the tokenizer's {', '.join(unknown)} is not known here, so it has no effect"]


@dataclass(frozen=True)
class _Source:
    """What the files of a directory say, before it is made one. `name`: the tokenizer's class, perhaps empty. `table`:
    that of the model's family, if known. `kind`: that of the vocabulary, which is `parts`, or in tokenizer.json alone.
    """

    directory: Path
    where: str
    said: Json
    name: str
    table: TokenizerTable | None
    kind: Kind | None
    pipeline: Pipeline | None
    paths: Mapping[str, Path]
    parts: Mapping[str, bytes]

    def files(self, notes: list[str]) -> TokenizerFiles:
        parts: Mapping[str, Any] = self.parts
        origin: str | Mapping[str, str] = _origin(self.paths)
        if not parts:
            parts, origin = self._derived(), PIPELINE
        said = {key: self.said[key] for key in _PREPARATION if key in self.said}
        usually: Casing = "mostly lower" if self.table is None else self.table.casing
        if self.kind == "wordpiece" and usually != "lower":
            if self.pipeline is not None:
                said.setdefault("do_lower_case", self.pipeline.settings["do_lower_case"])
            said, more = casing.inferred(self.where, parts["wordpiece"], said, usually)
            notes = [*notes, *more]
        settings = self._preparation(said) | self._lengths()
        settings |= {f"{name}_token": token for name, token in self._names().items()}
        files = TokenizerFiles.of(self.where, **parts, settings=settings, origin=origin, notes=notes)
        vocabulary = Vocabulary.of(files, where=self.where, needed=self._needs_vocabulary)
        if self.pipeline is not None:
            self._compare(self.pipeline, files, vocabulary)
        if vocabulary.unknown is not None and files.special_tokens["unk"] != vocabulary.unknown:
            raise self.wrong(f"unk_token is {files.special_tokens['unk']!r}, the model's own is {vocabulary.unknown!r}")
        return replace(files, added=self._added(files, vocabulary))

    def wrong(self, what: str, file: str = CONFIG) -> ConfigError:
        return ConfigError(self.directory / file, f"{what}; make them agree")

    @property
    def _needs_vocabulary(self) -> bool:
        return self.pipeline is not None or bool(self._listed_ids()) or any(True for _ in self._extra())

    def _derived(self) -> dict[str, bytes]:
        """The vocabulary that is in tokenizer.json alone, which is all that transformers 5 writes."""
        pipeline = self.pipeline
        assert pipeline is not None
        if pipeline.kind == "bpe":
            ids = {token: number for number, token in enumerate(pipeline.tokens or ())}
            return dict(zip(("vocab_json", "merges"), written(ids, pipeline.merges), strict=True))
        if pipeline.tokens is not None:
            lines = ("" if "\n" in token else token for token in pipeline.tokens)
            return {"wordpiece": "".join(f"{line}\n" for line in lines).encode()}
        pieces = pipeline.pieces or []
        inside = [token for token in pipeline.added if token.id < len(pieces)]
        control = [token.content for token in inside if token.special and token.content not in CONTROL_PIECES]
        symbols = [token.content for token in inside if not token.special and token.content not in USER_DEFINED_PIECES]
        model = make_model(
            pieces,
            unknown=pipeline.unknown or UNKNOWN_PIECE,
            control=(*CONTROL_PIECES, *control),
            user_defined=(*USER_DEFINED_PIECES, *symbols),
            charsmap=pipeline.charsmap,
        )
        return {"spiece": model}

    def _preparation(self, said: Json) -> Json:
        """How a text is prepared: as tokenizer.json says, or as the class does it that transformers makes instead."""
        if self.kind == "bpe":
            return self._prefix_space()
        listed = self.kind == "wordpiece"
        drops = (self.table is not None and self.table.drop_category_c) or self.name == "ElectraTokenizer"
        always = {"drop_category_c": self.said.get("drop_category_c", drops)} if listed else {}
        if self.pipeline is None:
            return _effective(said, listed, str(self.directory / CONFIG)) | always
        theirs = dict(self.pipeline.settings)
        limit = {key: theirs.pop(key) for key in ("max_input_chars_per_word",) if key in theirs} | always
        if listed and self.name in BERT:
            return _effective(said, listed, str(self.directory / CONFIG)) | limit
        # Of what ALBERT's class has by default, transformers 4 and 5 differ on which file counts.
        ours = _effective(said if self.name in ALBERT else theirs | said, listed, str(self.directory / CONFIG))
        wanted = _effective(theirs, listed, str(self.directory / PIPELINE))
        for key, usual in _PREPARATION.items():
            mine, other = ours.get(key, usual), wanted.get(key, usual)
            if mine != other:
                raise self.wrong(f"{key} is {brief(mine)}, in {PIPELINE} {brief(other)}")
        return wanted | limit

    def _prefix_space(self) -> Json:
        """Whether a text for BPE begins with a space: RoBERTa's class does not ask tokenizer.json."""
        theirs = None if self.pipeline is None else self.pipeline.settings["add_prefix_space"]
        found = self.said.get("add_prefix_space", False if theirs is None or self.name in BPE else theirs)
        if theirs is not None and found != theirs:
            raise self.wrong(f"add_prefix_space is {brief(found)}, in {PIPELINE} {brief(theirs)}")
        return {"add_prefix_space": found}

    def _lengths(self) -> Json:
        found: Json = {}
        longest = self.said.get("model_max_length", self.said.get("max_len"))
        if longest is not None:
            if isinstance(longest, bool) or not isinstance(longest, int | float) or longest < 1:
                raise ConfigError(
                    self.directory / CONFIG, f"model_max_length is {brief(longest)}, not a number of tokens"
                )
            if longest < MODEL_MAX_LENGTH:
                found["model_max_length"] = int(longest)
        side = self.said.get("truncation_side")
        if side is None and self.pipeline is not None and self.pipeline.cut_left:
            side = "left"
        if side is not None:
            found["truncation_side"] = side
        if self.said.get("model_input_names") is not None:
            found["model_input_names"] = self.said["model_input_names"]
        return found

    def _names(self) -> dict[str, str]:
        """The special tokens that are not called as usual."""
        usual = TOKENS[self.kind or "sentencepiece"]
        said = {name: _content(self.said.get(f"{name}_token")) for name in usual}
        if self.pipeline is not None and (unknown := self.pipeline.unknown) is not None:
            if said["unk"] not in (None, unknown):
                raise self.wrong(f"unk_token is {said['unk']!r}, in {PIPELINE} {unknown!r}")
            said["unk"] = unknown
        return {name: token for name, token in said.items() if token is not None and token != usual[name]}

    def _compare(self, pipeline: Pipeline, files: TokenizerFiles, vocabulary: Vocabulary) -> None:
        """ConfigError where tokenizer.json has another vocabulary than the file beside it, or other tokens around."""
        where = str(self.directory / PIPELINE)
        beside = next(iter(self.paths.values()), Path(PIPELINE)).name
        theirs = pipeline.tokens if pipeline.tokens is not None else [piece for piece, _ in pipeline.pieces or ()]
        if pipeline.kind != files.kind:
            found = {"sentencepiece": "Unigram", "wordpiece": "WordPiece", "bpe": "BPE"}[pipeline.kind]
            raise ConfigError(where, f"its model is {found}, that of {beside} is not; remove one of the two")
        size = len(vocabulary.tokens)
        if len(theirs) != size:
            raise ConfigError(where, f"has {len(theirs)} pieces, {beside} {size}; remove the file that is wrong")
        own = {token: number for number, token in enumerate(vocabulary.tokens)}
        for number, token in enumerate(theirs):
            if own.get(token.rstrip() if files.wordpiece else token) != number and token.strip():
                raise ConfigError(
                    where,
                    f"piece {number} is {token!r}, in {beside} {vocabulary.tokens[number]!r}; "
                    "remove the file that is wrong",
                )
        for (piece, score), mine in zip(pipeline.pieces or (), vocabulary.scores, strict=False):
            if abs(score - mine) > _SCORE_TOLERANCE * max(1.0, abs(mine)):
                raise ConfigError(where, f"piece {piece!r} has the score {score:g}, in {beside} {mine:g}")
        if pipeline.pieces is not None and pipeline.charsmap != vocabulary.charsmap:
            raise ConfigError(where, f"its normalizer's precompiled_charsmap is not that of {beside}")
        if pipeline.kind == "bpe" and list(pipeline.merges) != list(vocabulary.merges):
            raise ConfigError(where, f"its merges are not those beside {beside}; remove the file that is wrong")
        self._check_around(pipeline, files, own)

    def _check_around(self, pipeline: Pipeline, files: TokenizerFiles, own: Mapping[str, int]) -> None:
        where = str(self.directory / PIPELINE)
        ids = {token.content: token.id for token in pipeline.added} | dict(own)
        named = files.special_tokens
        wanted = (ids.get(named["cls"]), ids.get(named["sep"]))
        if pipeline.around is None and (self.name in BERT | ALBERT | BPE or None in wanted):
            return
        if pipeline.around != wanted:
            raise ConfigError(
                where,
                f"the post_processor puts the ids {pipeline.around} around a text, not {wanted}, those of "
                f"{named['cls']} and {named['sep']}; correct cls_token and sep_token of {CONFIG}",
            )

    def _listed_ids(self) -> list[AddedToken]:
        """The added tokens with an id, each file's in turn; the first one's flags count."""
        found: list[AddedToken] = []
        decoder = self.said.get("added_tokens_decoder") or {}
        where = str(self.directory / CONFIG)
        if not isinstance(decoder, dict):
            raise ConfigError(where, "added_tokens_decoder is no object from id to token")
        for number, token in decoder.items():
            if not re.fullmatch("[0-9]{1,9}", number) or not isinstance(token, dict):
                raise ConfigError(where, f"added_tokens_decoder has {brief({number: token})}, no id and token")
            flags = {key: value for key, value in token.items() if key != "__type"}
            found.append(added_token({**flags, "id": int(number)}, where))
        if self.pipeline is not None:
            found += self.pipeline.added
        special = {_content(self.said.get(key)) for key in _SPECIAL} | {token.content for token in self._extra()}
        for content, number in _object(self.directory / ADDED).items():
            is_special = content in special
            token = {"id": number, "content": content, "normalized": not is_special, "special": is_special}
            found.append(added_token(token, str(self.directory / ADDED)))
        return found

    def _extra(self) -> Iterator[AddedToken]:
        """The special tokens beside the usual five; their ids are not given (0)."""
        for key in (*EXTRA_TOKENS, "model_specific_special_tokens"):
            value = self.said.get(key) or ()
            if not isinstance(value, list | tuple | dict):
                raise ConfigError(self.directory / CONFIG, f"{key} is {brief(value)}, not a list of tokens")
            for token in value.values() if isinstance(value, dict) else value:
                yield self._special_token(key, token)
        for key, value in self.said.items():
            other = key in ("bos_token", "eos_token") or (key.endswith("_token") and key not in BY_FILE[CONFIG])
            if other and isinstance(value, str | dict):
                yield self._special_token(key, value)

    def _special_token(self, key: str, token: Any) -> AddedToken:
        where = f"{self.directory / CONFIG}: {key}"
        if isinstance(token, dict):
            flags = {name: value for name, value in token.items() if name != "__type"}
            return added_token({"normalized": False, "special": True, **flags, "id": 0}, where)
        return added_token({"id": 0, "content": token, "normalized": False, "special": True}, where)

    def _added(self, files: TokenizerFiles, vocabulary: Vocabulary) -> tuple[AddedToken, ...]:
        """Every added token but the vocabulary's own special pieces and symbols; see `Vocabulary.own`."""
        if not vocabulary.tokens:
            return ()
        ids = {token: number for number, token in enumerate(vocabulary.tokens)}
        named = set(files.special_tokens.values())
        split = self.said.get("split_special_tokens") is True
        extra = list(self._extra())
        special = {token.content for token in extra}
        found: dict[str, AddedToken] = {}
        taken: dict[int, str] = {}
        for token in self._listed_ids():
            before = found.get(token.content)
            if before is not None and before.id != token.id:
                raise self._clash(token, f"the id {before.id} in another file")
            if before is None:
                self._check_id(token, ids, vocabulary, taken)
                taken[token.id] = token.content
                looked_for = token.content not in named and not (split and token.special)
                is_special = token.special or token.content in special
                found[token.content] = replace(token, in_text=looked_for, special=is_special)
        upcoming = max([len(vocabulary.tokens) - 1, *taken]) + 1
        for token in extra:
            if token.content in found or token.content in named:
                continue
            number = ids.get(token.content, upcoming)
            upcoming += number == upcoming
            found[token.content] = replace(token, id=number, in_text=not (split and token.special))
        kept = (
            token for token in found.values() if token.id not in vocabulary.own and not _is_named(token, named, ids)
        )
        return tuple(sorted(kept, key=lambda token: token.id))

    def _check_id(
        self, token: AddedToken, ids: Mapping[str, int], vocabulary: Vocabulary, taken: Mapping[int, str]
    ) -> None:
        if ids.get(token.content, token.id) != token.id:
            raise self._clash(token, f"the id {ids[token.content]} in the vocabulary")
        if token.id < len(vocabulary.tokens) and ids.get(token.content) is None:
            raise self._clash(token, f"{vocabulary.tokens[token.id]!r} is {token.id} in the vocabulary")
        if token.id in taken:
            raise self._clash(token, f"{taken[token.id]!r} has that id too")

    def _clash(self, token: AddedToken, other: str) -> ConfigError:
        return ConfigError(
            self.directory, f"the added token {token.content!r} has the id {token.id}, but {other}; make them agree"
        )


def _effective(said: Json, listed: bool, where: str) -> Json:
    """The preparation's settings with every usual value left out, so that two ways to say the same are equal."""
    for key in ("do_lower_case", "keep_accents", "tokenize_chinese_chars"):
        if not isinstance(said.get(key, True), bool):
            raise ConfigError(where, f"{key} is {brief(said[key])}, not true or false")
    strip = said.get("strip_accents")
    if strip is not None and not isinstance(strip, bool):
        raise ConfigError(where, f"strip_accents is {brief(strip)}, not true, false or null")
    lower = said.get("do_lower_case", True)
    found = {} if lower else {"do_lower_case": False}
    if not listed:
        return found | ({"keep_accents": True} if said.get("keep_accents") else {})
    if strip is None:
        strip = lower and not said.get("keep_accents", False)
    if strip != lower:
        found["strip_accents"] = strip
    if not said.get("tokenize_chinese_chars", True):
        found["tokenize_chinese_chars"] = False
    return found


def _is_named(token: AddedToken, named: set[str], ids: Mapping[str, int]) -> bool:
    return token.content in named and token.content in ids


def _content(token: Any) -> str | None:
    """The text of a special token, which may be an object of it and its flags."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _object(path: Path, parse: Callable[[bytes, str], Any] = parse_texts) -> Json:
    """The JSON object in a file; empty without a file."""
    data = read_optional(path)
    if not data:
        return {}
    try:
        parsed = parse(data, str(path))
    except ConfigError as error:  # damaged, which is more than a setting that is not supported
        raise CorruptError(error.where, error.detail) from None
    if not isinstance(parsed, dict):
        raise ConfigError(path, f"holds a JSON {type(parsed).__name__}, not an object of settings")
    return parsed
