"""A Sentence-Transformers directory: the files beside the encoder that say how a text becomes one vector.

`modules.json` lists modules that are applied one after another; each has a directory and a config of its own. The files
travel with a checkpoint as they are. `settings` reads them, as every version of sentence-transformers wrote them, and
refuses what this program does not compute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.config import EncoderConfig, Json, dump_json, parse_json
from converters.errors import CheckpointError, ConfigError
from converters.files import read_optional, read_small
from converters.known_keys import Key, refusals, unknown
from converters.messages import brief

MODULES, MODEL = "modules.json", "config_sentence_transformers.json"
# The Transformer's own settings; each version of the library takes the first of these names that there is.
TRANSFORMER = "sentence_bert_config.json"
_TRANSFORMER_FILES = (
    TRANSFORMER,
    *(
        f"sentence_{name}_config.json"
        for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
POOLING, NORMALIZE = "1_Pooling/config.json", "2_Normalize/config.json"
DENSE = "2_Dense/config.json"
# Modules that `convert` carries, each in a directory named by its place and class, as the library names them.
_CARRIED = ("Pooling", "Normalize", "Dense", "Dropout", "LayerNorm", "WeightedLayerPooling", "CNN", "LSTM")
_MODULE_FILE = r"([a-z]+_)?config\.json|model\.safetensors|pytorch_model\.bin"
OURS = "|".join(
    [*map(re.escape, (MODULES, MODEL, *_TRANSFORMER_FILES)), rf"\d+_({'|'.join(_CARRIED)})(/({_MODULE_FILE}))?"]
)

_POOLINGS = ("mean", "cls", "max")
# The flags of versions before 5.6, in the order in which the vectors are joined.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SHORTEST = 3  # [CLS], one piece, [SEP]
_EMPTY: tuple[Any, ...] = (None, {}, [])
_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_STACK = "supported are Transformer, Pooling and, last, Normalize"

SENTENCE_KEYS: tuple[Key, ...] = (
    Key(MODULES, "idx", "no effect", "the order of the list counts"),
    Key(MODULES, "name", "no effect", "a name"),
    Key(MODULES, "path", "honoured", "the module's directory: that of the encoder in the old layout, 0_Transformer"),
    Key(MODULES, "type", "honoured", f"{_STACK}; embed and similarity refuse others by name"),
    Key(MODULES, "kwargs", "refused", "arguments of modules are not supported", _EMPTY),
    Key(MODEL, "__version__", "no effect", "says where the file is from"),
    Key(MODEL, "requirements", "no effect", "says what Python needs"),
    Key(MODEL, "model_type", "refused", "only dense vectors are supported", (None, "SentenceTransformer")),
    Key(MODEL, "prompts", "refused", "prompts are not supported; write them before the texts, and remove them here"),
    Key(MODEL, "default_prompt_name", "refused", "prompts are not supported", (None,)),
    Key(MODEL, "truncate_dim", "refused", "it is not supported; remove it and pass --dims", (None,)),
    Key(
        MODEL,
        "similarity_fn_name",
        "refused",
        "albert similarity computes the cosine (dot is one, where Normalize is last); embed does not read it",
        (None, "cosine"),
    ),
    Key(TRANSFORMER, "max_seq_length", "honoured", "the default of --max-length, no more than the model takes"),
    Key(TRANSFORMER, "do_lower_case", "honoured", "true: texts are lower-cased; --cased overrides it"),
    Key(TRANSFORMER, "transformer_task", "refused", "only the encoder is supported", (None, "feature-extraction")),
    Key(TRANSFORMER, "modality_config", "refused", "only text and the last layer are supported", (None, _TEXT_ONLY)),
    Key(TRANSFORMER, "module_output_name", "refused", "only token vectors are supported", (None, "token_embeddings")),
    Key(TRANSFORMER, "unpad_inputs", "no effect", "how the same numbers are computed"),
    *(
        Key(TRANSFORMER, name, "refused", "it is not supported", _EMPTY)
        for name in (
            "processing_kwargs",
            "query_length",
            "document_length",
            "query_expansion",
            "tokenizer_name_or_path",
            "model_args",
            "model_kwargs",
            "tokenizer_args",
            "processor_kwargs",
            "config_args",
            "config_kwargs",
        )
    ),
    Key(POOLING, "pooling_mode", "honoured", "mean, cls and max are the default of --pooling; others are refused"),
    *(
        Key(POOLING, flag, "honoured", f"of older versions: pooling_mode {mode}, where pooling_mode is absent")
        for flag, mode in _FLAGS.items()
    ),
    Key(POOLING, "include_prompt", "refused", "prompts are not supported", (None, True)),
    Key(POOLING, "embedding_dimension", "no effect", "the size of the model's vectors"),
    Key(POOLING, "word_embedding_dimension", "no effect", "embedding_dimension in older versions"),
    Key(NORMALIZE, "module_input_name", "refused", "only vectors of texts", (None, "sentence_embedding")),
    Key(NORMALIZE, "module_output_name", "refused", "only vectors of texts", (None, "sentence_embedding")),
    Key(DENSE, "", "refused", "Dense layers are not supported by embed and similarity; convert carries them"),
)


@dataclass(frozen=True)
class SentenceSettings:
    """What the files say. `max_length`: tokens of a text at most, special ones included."""

    pooling: str
    normalize: bool
    max_length: int
    lowercase: bool

    def describe(self) -> str:
        parts = [f"pooling {self.pooling}"]
        parts += ["vectors of length 1"] if self.normalize else []
        parts.append(f"at most {self.max_length} tokens")
        parts += ["lower-cased"] if self.lowercase else []
        return ", ".join(parts)


@dataclass(frozen=True)
class SentenceFiles:
    """The files by their name in the directory. `left_out`: those that are not carried. `where` is for messages."""

    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()

    def settings(self, config: EncoderConfig, where: str, *, pooling: str | None = None) -> SentenceSettings:
        """What decides the vectors; ConfigError names all that is not supported.

        With a `pooling` of the user's own, that of the files does not matter.
        """
        settings = self._read(TRANSFORMER)
        length, lowercase = settings.get("max_seq_length"), settings.get("do_lower_case", False)
        mode, pooling_faults = self._pooling()
        faults = [*self._module_faults(), *pooling_faults, *self._refusals(TRANSFORMER)]
        faults += self._refusals(MODEL, but="similarity_fn_name")
        faults += [
            f"{self._name(TRANSFORMER)}: {key!r} is no setting known here"
            for key in unknown(settings, SENTENCE_KEYS, TRANSFORMER)
        ]
        if mode not in _POOLINGS and pooling is None:
            instead = "weighted is this one" if mode == "weightedmean" else "mean, cls or max overrides it"
            faults.append(f"{POOLING}: pooling_mode {mode} is not supported; --pooling {instead}")
        if isinstance(length, bool) or not isinstance(length, int) or length < _SHORTEST:
            faults.append(f"{self._name(TRANSFORMER)}: max_seq_length is {brief(length)}, not a whole number from 3 up")
        if not isinstance(lowercase, bool):
            faults.append(f"{self._name(TRANSFORMER)}: do_lower_case is {brief(lowercase)}, not true or false")
        if faults:
            raise ConfigError(where, f"{'; '.join(faults)}")
        return SentenceSettings(
            pooling=pooling or mode,
            normalize=self._classes()[-1] == "Normalize",
            max_length=min(int(length or 0), config.max_tokens),
            lowercase=lowercase,
        )

    def check_similarity(self, where: str) -> None:
        """ConfigError where vectors are meant to be compared otherwise than by their cosine."""
        if self._read(MODEL).get("similarity_fn_name") == "dot" and self._classes()[-1] == "Normalize":
            return
        if faults := self._refusals(MODEL, only="similarity_fn_name"):
            raise ConfigError(where, f"{faults[0]}")

    def describe(self, config: EncoderConfig) -> str:
        """The settings in words, or why they are not supported."""
        try:
            return self.settings(config, "").describe()
        except ConfigError as error:
            return error.detail

    def _modules(self) -> list[Json]:
        return _modules(self.files[MODULES], MODULES)

    def _classes(self) -> list[str]:
        """The names of the library's classes; of any other, the whole name."""
        return [_class(module["type"]) for module in self._modules()]

    def _module_faults(self) -> Iterator[str]:
        classes = self._classes()
        known = classes in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        if not known:
            others = [name for name in classes if name not in ("Transformer", "Pooling", "Normalize")]
            what = (
                f"{', '.join(map(brief, others))}: not supported" if others else f"the modules are {', '.join(classes)}"
            )
            yield f"{MODULES}: {what}; {_STACK}"
        for number, module in enumerate(self._modules()):
            for fault in refusals(module, SENTENCE_KEYS, MODULES):
                yield f"{MODULES}: {fault}"
            if classes[number] == "Normalize":
                path = f"{module['path']}/config.json"
                yield from (f"{path}: {fault}" for fault in refusals(self._json(path), SENTENCE_KEYS, NORMALIZE))

    def _pooling(self) -> tuple[str, list[str]]:
        """The mode, and faults of the file."""
        paths = [module["path"] for module in self._modules() if _class(module["type"]) == "Pooling"]
        if not paths:
            return "mean", []
        path = f"{paths[0]}/config.json"
        if path not in self.files:
            return "mean", [f"{path} is missing"]
        data = self._json(path)
        faults = [f"{path}: {fault}" for fault in refusals(data, SENTENCE_KEYS, POOLING)]
        faults += [f"{path}: {key!r} is no setting known here" for key in unknown(data, SENTENCE_KEYS, POOLING)]
        if data.get("pooling_mode") is None:
            wrong = [flag for flag in _FLAGS if not isinstance(data.get(flag, False), bool)]
            faults += [f"{path}: {flag} is {brief(data[flag])}, not true or false" for flag in wrong]
        elif not isinstance(data["pooling_mode"], (str, list)):
            return "mean", [*faults, f"{path}: pooling_mode is {brief(data['pooling_mode'])}, not a name"]
        return pooling_of(data), faults

    def _refusals(self, file: str, *, only: str = "", but: str = "") -> list[str]:
        data = dict(self._read(file))
        prompts = data.get("prompts")
        if isinstance(prompts, dict) and not any(prompts.values()):
            del data["prompts"]  # "query" and "document" are always there, empty by default
            if data.get("default_prompt_name") in prompts:
                del data["default_prompt_name"]
        chosen = [key for key in SENTENCE_KEYS if key.key != but and (not only or key.key == only)]
        return [f"{self._name(file)}: {fault}" for fault in refusals(data, chosen, file)]

    def _name(self, file: str) -> str:
        """What a file is called here; the Transformer's has had several names."""
        names = _TRANSFORMER_FILES if file == TRANSFORMER else (file,)
        return next((name for name in names if name in self.files), file)

    def _read(self, file: str) -> Json:
        return self._json(self._name(file))

    def _json(self, name: str) -> Json:
        return _object(self.files[name], name) if name in self.files else {}


def encoder_directory(directory: Path) -> Path:
    """Where the encoder's files are: the directory itself, or in the old layout the one that modules.json names.

    ConfigError where modules.json leads out of the directory, or to something that is no Transformer.
    """
    if not (directory / MODULES).is_file():
        return directory
    first = _modules(read_small(directory / MODULES), str(directory))[0]
    path: str = first["path"]
    if _class(first["type"]) == "Transformer":
        return directory / path
    if (directory / "config.json").exists():
        return directory
    raise ConfigError(directory, f"{MODULES}: {brief(first['type'])} is not supported; {_STACK}")


def encoder_or_self(directory: Path) -> Path | None:
    """As `encoder_directory`; where that raises, None for a Sentence-Transformers model, else the directory."""
    try:
        return encoder_directory(directory)
    except CheckpointError:
        return None if b"sentence_transformers." in read_small(directory / MODULES) else directory


def pooling_of(settings: Json) -> str:
    """The mode in a Pooling module's settings, of any version; several are joined by +, and mean is the default."""
    modes = settings.get("pooling_mode") or [mode for flag, mode in _FLAGS.items() if settings.get(flag) is True]
    return modes if isinstance(modes, str) else "+".join(map(str, modes)) or "mean"


def read_sentence_files(directory: Path, config: EncoderConfig) -> SentenceFiles | None:
    """The files of a directory, in the layout of today: the encoder's own in the root. None where there are none.

    The length is written down where it follows from the tokenizer's settings, so that it is not lost with them.
    """
    listed = read_optional(directory / MODULES)
    if listed is None:
        return None
    modules, encoder = _modules(listed, str(directory)), encoder_directory(directory)
    files: dict[str, bytes] = {}
    left_out = []
    if (found := read_optional(directory / MODEL)) is not None:
        files[MODEL] = found
    name = next((name for name in _TRANSFORMER_FILES if (encoder / name).is_file()), TRANSFORMER)
    settings = _object(read_optional(encoder / name) or b"{}", str(encoder / name))
    if settings.get("max_seq_length") is None:
        settings["max_seq_length"] = _tokenizer_length(encoder, config)
        files[name] = dump_json(settings)
    else:
        files[name] = read_small(encoder / name)
    places = []
    for number, module in enumerate(modules):
        kind, place = _class(module["type"]), directory / module["path"]
        if kind == "Transformer" and number == 0:
            places.append("")
            continue
        carried = kind in _CARRIED
        places.append(f"{number}_{kind}" if carried else module["path"])
        for file in sorted(place.iterdir()) if module["path"] and place.is_dir() else ():
            if carried and re.fullmatch(_MODULE_FILE, file.name) and file.is_file():
                files[f"{places[-1]}/{file.name}"] = read_small(file)
            else:
                left_out.append(f"{module['path']}/{file.name}")
    if places != [module["path"] for module in modules]:
        moved = [module | {"path": place} for module, place in zip(modules, places, strict=True)]
        listed = (json.dumps(moved, indent=2) + "\n").encode()
    return SentenceFiles({MODULES: listed, **files}, tuple(left_out))


def _tokenizer_length(encoder: Path, config: EncoderConfig) -> int:
    """The length that sentence-transformers takes from the tokenizer: no more than the model has positions for."""
    path = encoder / "tokenizer_config.json"
    length = _object(read_optional(path) or b"{}", str(path)).get("model_max_length")
    limit = config.max_tokens
    return int(min(length, limit)) if isinstance(length, (int, float)) and length >= _SHORTEST else limit


def _modules(data: bytes, where: str) -> list[Json]:
    """The modules with `type` and `path`, each path the plain name of a directory; ConfigError where they are not."""
    found = parse_json(data, f"{where}/{MODULES}")
    if not isinstance(found, list) or not found or not all(isinstance(module, dict) for module in found):
        raise ConfigError(where, f"{MODULES} is not a list of modules")
    for number, module in enumerate(found):
        for key in ("type", "path"):
            if not isinstance(module.get(key), str):
                raise ConfigError(where, f"{MODULES}: module {number} has no {key}")
        path = module["path"] = module["path"].removesuffix("/") or module["path"]
        if path in (".", "..") or re.search(r"[/\\\0]", path):
            raise ConfigError(where, f"{MODULES}: path {brief(path)} is not the name of a directory in this one")
    return found


def _class(name: str) -> str:
    """`Pooling` of `sentence_transformers.….Pooling`; the whole name of a class that is not the library's."""
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _object(data: bytes, where: str) -> Json:
    found = parse_json(data, where)
    if not isinstance(found, dict):
        raise ConfigError(where, f"holds a JSON {type(found).__name__}, not an object of settings")
    return found
