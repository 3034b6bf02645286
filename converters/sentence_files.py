"""A Sentence-Transformers directory: the files beside the encoder that say how a text becomes one vector.

`modules.json` lists modules that are applied one after another; each has a directory and a config of its own. The files
travel with a checkpoint as they are. `settings` reads them, as every version of sentence-transformers wrote them, and
refuses what this program does not compute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters.config import EncoderConfig, Json, dump_json, parse_json
from converters.errors import CheckpointError, ConfigError
from converters.files import read_optional, read_small
from converters.known_keys import refusals, unknown
from converters.messages import brief, listing
from converters.sentence_keys import (
    AFTER_POOLING,
    CARRIED,
    FLAGS,
    MODEL,
    MODULE_FILE,
    MODULES,
    POOLING,
    POOLINGS,
    SENTENCE_KEYS,
    STACK,
    TRANSFORMER,
    TRANSFORMER_FILES,
    USUAL_PROMPTS,
    WEIGHTS,
)

_SHORTEST = 3  # [CLS], one piece, [SEP]
_MOST_MODULES = 32
# Classes of torch.nn, as they are without arguments.
ACTIVATIONS = (
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid",
    "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink",
)  # fmt: skip
_ACTIVATION = re.compile(rf"torch\.nn\.(?:modules\.(?:activation|linear)\.)?({'|'.join(ACTIVATIONS)})")


@dataclass(frozen=True)
class Step:
    """What is done to the vectors (rows, `inputs`) after the pooling, giving (rows, `outputs`).

    `kind`: Dense (a linear layer, then `activation`, a class of torch.nn; with `residual` its input is added),
    LayerNorm, or Normalize (length 1). `path`: the module's directory.
    """

    kind: str
    path: str
    inputs: int
    outputs: int
    bias: bool = True
    activation: str = "Identity"
    residual: bool = False

    def describe(self) -> str:
        if self.kind != "Dense":
            return self.kind
        extra = "" if self.activation == "Identity" else f" {self.activation}"
        return f"Dense {self.inputs} -> {self.outputs}{extra}{' residual' * self.residual}"


@dataclass(frozen=True)
class SentenceSettings:
    """What the files say. `max_length`: tokens of a text at most, special ones included.

    `pooling`: our name, several joined by +. `steps` follow it, but for a last Normalize, which is `normalize`; then
    vectors have `width` numbers, of which `dims` are kept (None: all). `prompts` are texts by name, `prompt` the name
    of that which is taken by default; without `include_prompt` the pooling leaves its tokens out.
    """

    pooling: str
    normalize: bool
    max_length: int
    lowercase: bool
    width: int
    steps: tuple[Step, ...] = ()
    dims: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    include_prompt: bool = True

    def describe(self) -> str:
        parts = [f"pooling {self.pooling}", *(step.describe() for step in self.steps)]
        parts += ["vectors of length 1"] if self.normalize else []
        parts += [f"the first {self.dims} numbers of {self.width}"] if self.dims else []
        parts.append(f"at most {self.max_length} tokens")
        parts += ["lower-cased"] if self.lowercase else []
        if named := [name for name, text in self.prompts.items() if text]:
            used = f" ({self.prompt} by default)" if self.prompt in named else ""
            parts.append(f"prompts {listing(named)}{used}")
        return ", ".join(parts)


@dataclass(frozen=True, repr=False)
class SentenceFiles:
    """The files by their name in the directory. `left_out`: those that are not carried. `where` is for messages."""

    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SentenceFiles {', '.join(self.files)}>"

    def settings(self, config: EncoderConfig, where: str, *, pooling: str | None = None) -> SentenceSettings:
        """What decides the vectors; ConfigError names all that is not supported.

        With a `pooling` of the user's own, that of the files does not matter; "tokens" has no steps after it.
        """
        settings = self._read(TRANSFORMER)
        length, lowercase = settings.get("max_seq_length"), settings.get("do_lower_case", False)
        said, included, pooling_faults = self._pooling()
        mode = pooling or "+".join(POOLINGS.get(name, name) for name in said.split("+"))
        faults = [*self._module_faults(), *pooling_faults, *self._refusals(TRANSFORMER)]
        faults += self._refusals(MODEL, but="similarity_fn_name")
        faults += [
            f"{self._name(TRANSFORMER)}: {key!r} is no setting known here"
            for key in unknown(settings, SENTENCE_KEYS, TRANSFORMER)
        ]
        if others := [name for name in said.split("+") if name not in POOLINGS and pooling is None]:
            faults.append(f"{POOLING}: pooling_mode {'+'.join(others)} is not supported; --pooling overrides it")
        if type(length) is not int or length < _SHORTEST:
            faults.append(f"{self._name(TRANSFORMER)}: max_seq_length is {brief(length)}, not a whole number from 3 up")
        if not isinstance(lowercase, bool):
            faults.append(f"{self._name(TRANSFORMER)}: do_lower_case is {brief(lowercase)}, not true or false")
        prompts, prompt_faults = self._prompts()
        faults += prompt_faults
        width = config.hidden_size * len(mode.split("+"))
        steps: list[Step] = []
        if mode != "tokens" and not faults:  # sizes are those of a stack that is supported
            width, steps, step_faults = self._steps(width)
            faults += step_faults
        cut = self._read(MODEL).get("truncate_dim")
        if cut is not None and (type(cut) is not int or cut < 1):
            faults.append(f"{MODEL}: truncate_dim is {brief(cut)}, not a whole number from 1 up")
        if faults:
            raise ConfigError(where, f"{'; '.join(faults)}")
        return SentenceSettings(
            pooling=mode,
            normalize=self._normalized(),
            max_length=min(int(length or 0), config.max_tokens),
            lowercase=lowercase,
            width=width,
            steps=tuple(steps),
            dims=cut if cut and cut < width else None,
            prompts=prompts,
            prompt=self._read(MODEL).get("default_prompt_name"),
            include_prompt=included,
        )

    def check_similarity(self, where: str) -> None:
        """ConfigError where vectors are meant to be compared otherwise than by their cosine."""
        settings = self._read(MODEL)
        if settings.get("similarity_fn_name") == "dot" and self._normalized() and not settings.get("truncate_dim"):
            return
        if faults := self._refusals(MODEL, only="similarity_fn_name"):
            raise ConfigError(where, f"{faults[0]}")

    def describe(self, config: EncoderConfig) -> str:
        """The settings in words, or why they are not supported."""
        try:
            return self.settings(config, "").describe()
        except ConfigError as error:
            return error.detail

    def weights(self, step: Step) -> tuple[str, bytes] | None:
        """Name and content of the file of a step's weights; None where it has none."""
        names = (f"{step.path}/{name}" for name in WEIGHTS)
        return next(((name, self.files[name]) for name in names if name in self.files), None)

    def _modules(self) -> list[Json]:
        return _modules(self.files[MODULES], MODULES)

    def _classes(self) -> list[str]:
        """The names of the library's classes; of any other, the whole name."""
        return [_class(module["type"]) for module in self._modules()]

    def _normalized(self) -> bool:
        """Whether the last module that does anything is Normalize."""
        return [name for name in self._classes() if name != "Dropout"][-1] == "Normalize"

    def _module_faults(self) -> Iterator[str]:
        classes = self._classes()
        others = [name for name in classes if name not in ("Transformer", "Pooling", *AFTER_POOLING)]
        if others:
            yield f"{MODULES}: {', '.join(map(brief, others))}: not supported; {STACK}"
        elif classes[:2] != ["Transformer", "Pooling"] or not set(classes[2:]) <= AFTER_POOLING.keys():
            yield f"{MODULES}: the modules are {', '.join(classes)}; {STACK}"
        for kind, module in zip(classes, self._modules(), strict=True):
            for fault in refusals(module, SENTENCE_KEYS, MODULES):
                yield f"{MODULES}: {fault}"
            if kind in AFTER_POOLING:
                path = f"{module['path']}/config.json"
                yield from (
                    f"{path}: {fault}" for fault in refusals(self._json(path), SENTENCE_KEYS, AFTER_POOLING[kind])
                )

    def _pooling(self) -> tuple[str, bool, list[str]]:
        """The mode as the library calls it, whether the prompt is pooled, and faults of the file."""
        paths = [module["path"] for module in self._modules() if _class(module["type"]) == "Pooling"]
        if not paths:
            return "mean", True, []
        path = f"{paths[0]}/config.json"
        if path not in self.files:
            return "mean", True, [f"{path} is missing"]
        data = self._json(path)
        faults = [f"{path}: {fault}" for fault in refusals(data, SENTENCE_KEYS, POOLING)]
        faults += [f"{path}: {key!r} is no setting known here" for key in unknown(data, SENTENCE_KEYS, POOLING)]
        included = True if data.get("include_prompt") is None else data["include_prompt"]
        if not isinstance(included, bool):
            faults.append(f"{path}: include_prompt is {brief(included)}, not true or false")
        if data.get("pooling_mode") is None:
            wrong = [flag for flag in FLAGS if not isinstance(data.get(flag, False), bool)]
            faults += [f"{path}: {flag} is {brief(data[flag])}, not true or false" for flag in wrong]
        elif not isinstance(data["pooling_mode"], (str, list)):
            return "mean", True, [*faults, f"{path}: pooling_mode is {brief(data['pooling_mode'])}, not a name"]
        return pooling_of(data), included, faults

    def _steps(self, width: int) -> tuple[int, list[Step], list[str]]:
        """The numbers of a vector at the end, what is done to vectors of `width`, and faults of the modules' files."""
        steps: list[Step] = []
        faults: list[str] = []
        for kind, module in zip(self._classes(), self._modules(), strict=True):
            path = module["path"]
            if kind == "Normalize":
                steps.append(Step(kind, path, width, width))
            elif kind in ("Dense", "LayerNorm"):
                file = f"{path}/config.json"
                step, wrong = _step(kind, path, self._json(file), width)
                faults += [f"{file}: {fault}" for fault in wrong]
                if self.weights(step) is None:
                    faults.append(f"{path}: no weights in it; {' or '.join(WEIGHTS)} holds them")
                steps.append(step)
                width = step.outputs
        while steps and steps[-1].kind == "Normalize":
            steps.pop()
        return width, steps, faults

    def _prompts(self) -> tuple[dict[str, str], list[str]]:
        """The texts by name, and faults of the file."""
        settings = self._read(MODEL)
        found, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
        prompts = dict.fromkeys(USUAL_PROMPTS, "")
        if not isinstance(found, dict) or not all(isinstance(text, (str, type(None))) for text in found.values()):
            return prompts, [f"{MODEL}: prompts is {brief(found)}, not texts by name"]
        prompts |= {name: text or "" for name, text in found.items()}
        if default is None or (isinstance(default, str) and default in prompts):
            return prompts, []
        return prompts, [f"{MODEL}: default_prompt_name is {brief(default)}, none of {listing(prompts)}"]

    def _refusals(self, file: str, *, only: str = "", but: str = "") -> list[str]:
        chosen = [key for key in SENTENCE_KEYS if key.key != but and (not only or key.key == only)]
        return [f"{self._name(file)}: {fault}" for fault in refusals(self._read(file), chosen, file)]

    def _name(self, file: str) -> str:
        """What a file is called here; the Transformer's has had several names."""
        names = TRANSFORMER_FILES if file == TRANSFORMER else (file,)
        return next((name for name in names if name in self.files), file)

    def _read(self, file: str) -> Json:
        return self._json(self._name(file))

    def _json(self, name: str) -> Json:
        return _object(self.files[name], name) if name in self.files else {}


def _step(kind: str, path: str, data: Json, width: int) -> tuple[Step, list[str]]:
    """A Dense or LayerNorm of vectors of `width` numbers by its config, and what is wrong with that."""
    table = AFTER_POOLING[kind]
    faults = [f"{key!r} is no setting known here" for key in unknown(data, SENTENCE_KEYS, table)]
    sizes = ("in_features", "out_features") if kind == "Dense" else ("dimension",)
    odd = [name for name in sizes if type(data.get(name)) is not int or data[name] < 1]
    faults += [f"{name} is {brief(data.get(name))}, not a whole number from 1 up" for name in odd]
    if faults:
        return Step(kind, path, width, width), faults
    inputs, outputs = data[sizes[0]], data[sizes[-1]]
    if inputs != width:
        faults.append(f"{sizes[0]} is {inputs}, but the vectors before it have {width} numbers")
    switches = {"bias": data.get("bias", True), "use_residual": data.get("use_residual", False)}
    faults += [
        f"{name} is {brief(value)}, not true or false"
        for name, value in switches.items()
        if not isinstance(value, bool)
    ]
    if kind == "LayerNorm":
        return Step(kind, path, inputs, outputs), faults
    named = data.get("activation_function", "torch.nn.Tanh")
    found = _ACTIVATION.fullmatch(named) if isinstance(named, str) else None
    if not found:
        faults.append(f"activation_function is {brief(named)}; supported are {', '.join(ACTIVATIONS)} of torch.nn")
    activation = found[1] if found else "Identity"
    return Step(kind, path, inputs, outputs, switches["bias"], activation, switches["use_residual"]), faults


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
    raise ConfigError(directory, f"{MODULES}: {brief(first['type'])} is not supported; {STACK}")


def encoder_or_self(directory: Path) -> Path | None:
    """As `encoder_directory`; where that raises, None for a Sentence-Transformers model, else the directory."""
    try:
        return encoder_directory(directory)
    except CheckpointError:
        return None if b"sentence_transformers." in read_small(directory / MODULES) else directory


def pooling_of(settings: Json) -> str:
    """The mode in a Pooling module's settings, of any version; several are joined by +, and mean is the default."""
    modes = settings.get("pooling_mode") or [mode for flag, mode in FLAGS.items() if settings.get(flag) is True]
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
    name = next((name for name in TRANSFORMER_FILES if (encoder / name).is_file()), TRANSFORMER)
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
        carried = kind in CARRIED
        places.append(f"{number}_{kind}" if carried else module["path"])
        for file in sorted(place.iterdir()) if module["path"] and place.is_dir() else ():
            if carried and re.fullmatch(MODULE_FILE, file.name) and file.is_file():
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
    if len(found) > _MOST_MODULES:
        raise ConfigError(where, f"{MODULES} lists {len(found)} modules; at most {_MOST_MODULES} are supported")
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
