"""TF-Hub's modules: a SavedModel directory with `saved_model.pb`, `variables/variables.*` and `assets/`.

TF1 modules (google/albert_base/1-3: Google's variable names, under `module/` or not) and TF2 ones
(tensorflow/albert_en_base/1-3: Keras names of TensorFlow Model Garden's AlbertEncoder, kernels by head) are read
without TensorFlow; written are TF2 ones, by TensorFlow. A module of others holds no config: sizes are read off its
variables, layers and heads off its graph (tensorflow.saved_graph), and what had to be assumed is in its notes. A
module of ours, like some of Google's, has `albert_config.json` among its assets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from converters import google, spec, strangers, variables
from converters.checkpoint import FLOATS, Checkpoint, Tensor
from converters.choices import NONE, Choices
from converters.config import REQUIRED, Json, parse_json
from converters.dialects import config_from_json, to_hf
from converters.errors import CheckpointError, ConfigError, CorruptError, FormatError, SpecError
from converters.families import families, family_of, find
from converters.family import Family
from converters.files import read_optional, read_small
from converters.libraries import require_library
from converters.messages import listing
from converters.sizes import heads_of
from converters.tensorflow import wire
from converters.tensorflow.bundle import OBJECT_GRAPH, read_bundle
from converters.tensorflow.saved_graph import SavedGraph
from converters.tokenizers.settings import tokenizer_beside

NAME = "saved-model"
DESCRIPTION = "TF-Hub module: SavedModel of TF1 or TF2 (saved_model.pb, variables/, assets/)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = re.compile(
    r"saved_model\.pb|keras_metadata\.pb|fingerprint\.pb|tfhub_module\.pb"
    r"|variables(/variables\.(index|data-\d{5}-of-\d{5}))?"
    rf"|assets(/(30k-clean\.(model|vocab)|vocab\.(txt|json)|merges\.txt|{google.CONFIGS}))?"
)
SUFFIXES: tuple[str, ...] = ()
TAKES = frozenset({"config", "heads"})
WRITES = True
HOLDS_SENTENCE_FILES = False

_GRAPH, _KERAS, _ASSETS = "saved_model.pb", "keras_metadata.pb", "assets"
_VARIABLES = "variables/variables"
_WORDPIECE = "vocab.txt"
# The module's attributes that are files, as Model Garden calls them.
_ATTRIBUTES = {
    "sp_model_file": google.SPIECE,
    "sp_vocab_file": google.VOCAB,
    "vocab_file": _WORDPIECE,
}
# Those of the published modules take a few megabytes.
_MOST_GRAPH_BYTES = 32 * 2**20
_LOWER = "do_lower_case/.ATTRIBUTES/VARIABLE_VALUE"


def recognises(path: Path) -> bool:
    if path.is_dir():
        return (path / _GRAPH).exists() or (path / f"{_VARIABLES}.index").exists()
    return path.is_file() and path.name == _GRAPH


def fits_target(path: Path) -> bool:
    return False  # a bare directory becomes a Hugging Face one: say --to saved-model


def place(path: Path) -> Path:
    return path


def holds(family: Family) -> bool:
    return any(entry.keras for entry in family.entries)


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    if not path.is_dir() and path.name != _GRAPH:
        raise FormatError(path, f"not a SavedModel; name its directory, or the {_GRAPH} in it")
    directory = path if path.is_dir() else path.parent
    where = str(directory)
    if not (directory / _GRAPH).exists():
        raise CheckpointError(directory, f"no {_GRAPH} beside the variables; copy the whole module")
    graph = SavedGraph(read_small(directory / _GRAPH, _MOST_GRAPH_BYTES), str(directory / _GRAPH))
    found = _variables(directory)
    lower, step = found.pop(_LOWER, None), found.pop(variables.STEP, None)
    assets = directory / _ASSETS
    family, scheme = _family(found, assets, where, google.model_type_in(choices.config))
    legacy = family.legacy.get(scheme, {})
    found = variables.modernised(found, legacy, where, transposed=family.legacy_transposed)
    said, settings = _config_among(assets, family)
    overriding = google.settings_in(choices.config, family)[0] | choices.settings
    notes: list[str] = []
    if said is None:
        said, notes = _facts(family, found, graph, read_optional(directory / _KERAS), where, overriding)
    where_said = where if choices.config is None else str(choices.config)
    settled = config_from_json(said | overriding, where_said, dialect="hf", family=family)
    components = variables.components_of(found, settled)
    table = family.google(components) if scheme == "google" else family.keras(settled)
    canonical = variables.to_canonical(found, table, settled, where)
    lowercase = graph.lowercase() if lower is None else bool(lower.read().all())
    if lowercase is not None:
        settings = {"do_lower_case": lowercase} | settings
    return canonical.checkpoint(NAME, tokenizer_beside(assets, settings, family), step, notes)


def write(checkpoint: Checkpoint, path: Path) -> None:
    require_library("tensorflow", "writing a SavedModel")
    from converters.tensorflow import module

    config = checkpoint.config
    family = family_of(config)
    table, wanted = family.keras(config), spec.spec(config)
    if not holds(family):
        what = f"TF-Hub's modules have no names for a {family.model_type}"
        raise CheckpointError(checkpoint.where, what, "choose another format, such as safetensors")
    assets = google.files(checkpoint, wordpiece=_WORDPIECE)
    file = google.config_file(family)
    attributes = {file.removesuffix(".json"): file} | _ATTRIBUTES
    module.save(
        config,
        variables.to_foreign(checkpoint, table),
        {
            row.foreign: wanted[row.canonical].attribute
            for row in table.expand(config).by_foreign.values()
            if row.canonical in wanted
        },
        checkpoint.global_step,
        {attribute: (name, assets[name]) for attribute, name in attributes.items() if name in assets},
        lowercase=checkpoint.tokenizer.lowercase,
        path=path,
    )


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    """What a user of the written module should know."""
    found = checkpoint.tokenizer.notes_for_google()
    if "pooler" not in checkpoint.components:
        found.append("the model has no pooler, so the module has no pooled_output")
    if checkpoint.config.share not in ("all", "none"):
        found.append(f"share {checkpoint.config.share!r}: trained in TensorFlow, the layers' copies go their own ways")
    if kinds := {tensor.dtype.name for tensor in checkpoint.tensors.values()} - {"float32"}:
        found.append(f"weights stay {' and '.join(sorted(kinds))}; the module computes in float32")
    return found


def _variables(directory: Path) -> dict[str, Tensor]:
    """The variables by name: of TF1 as the bundle has them, of TF2 as its graph of objects calls them."""
    prefix = directory / _VARIABLES
    if not prefix.with_name(prefix.name + ".index").exists():
        raise CheckpointError(
            directory, f"no {_VARIABLES}.index, so a SavedModel without variables, no model of a family here"
        )
    found = read_bundle(prefix, texts=[OBJECT_GRAPH])
    objects = found.pop(OBJECT_GRAPH, None)
    if objects is not None:
        readable = _object_names(objects.read().tobytes(), f"{prefix}.index")
        named = [(readable.get(key, key), tensor) for key, tensor in found.items()]
    else:
        inside = all(name.startswith("module/") for name in found)
        named = [(name.removeprefix("module/") if inside else name, tensor) for name, tensor in found.items()]
    if twice := len(named) - len(dict(named)):
        raise SpecError(
            directory, f"{twice} of its variables have the name of another, so they cannot be distinguished"
        )
    return dict(named)


def _object_names(data: bytes, where: str) -> dict[str, str]:
    """Checkpoint key -> the variable's own name (tensorflow/core/protobuf/trackable_object_graph.proto)."""
    names = {}
    try:
        for item in wire.messages(wire.fields(data), 1):
            for attribute in map(wire.fields, wire.messages(wire.fields(item), 2)):
                key = wire.text(attribute, 3)
                if key != _LOWER and (name := wire.text(attribute, 2)):
                    names[key] = name
    except wire.FAULTS as error:
        raise CorruptError(where, f"its {OBJECT_GRAPH} is not sound ({error})") from None
    return names


def _family(
    found: Mapping[str, Tensor], assets: Path, where: str, model_type: object
) -> tuple[Family, Literal["google", "keras"]]:
    """The family whose variables these are, and whose names they have; SpecError for those of another model.

    `model_type`: what the user says of it, None where nothing.
    """
    strangers.refuse(found, where, kind="variable")
    said = [family for family in families().values() if (assets / google.config_file(family)).exists()]
    if model_type is None and len(said) == 1:
        model_type = said[0].model_type
    names = dict.fromkeys([*found, *(name for family in families().values() for name in _modern(family, found))])
    family = find(model_type, names, where)
    scheme = family.scheme_of(found) or family.scheme_of(_modern(family, found))
    if scheme is None:
        raise SpecError(
            where, f"a SavedModel without the embeddings of a {family.model_type} (it holds {listing(found)})"
        )
    return family, scheme


def _modern(family: Family, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The variables by the names that the modules of today have."""
    return variables.modernised(found, family.legacy.get("keras", {}), "")


def _config_among(assets: Path, family: Family) -> tuple[Json | None, Json]:
    """The config among a module's assets in Hugging Face's terms, None without one; and its tokenizer's settings."""
    path = assets / google.config_file(family)
    data = read_optional(path)
    if data is None:
        return None, {}
    parsed, settings = google.split_settings(parse_json(data, str(path)))
    dialect = "google" if family.config.google_file else "hf"
    return to_hf(config_from_json(parsed, str(path), dialect=dialect, family=family)), settings


def _facts(
    family: Family, found: Mapping[str, Tensor], graph: SavedGraph, keras: bytes | None, where: str, overriding: Json
) -> tuple[Json, list[str]]:
    """The config that follows from variables and graph, and notes on what was read there and what assumed."""
    scheme = family.scheme_of(found) or "keras"
    google = scheme == "google"
    places = family.places_in(found) or {(0, 0)}
    groups, inner = (1 + max(numbers) for numbers in zip(*places, strict=True))
    several = google or len(places) > 1

    def called(role: str, group: int = 0) -> str:
        return family.foreign(scheme, role, {"group": group, "inner": 0, "layer": group} if several else None) or ""

    words, query = called("embeddings.words"), called("layer.query")

    def size(name: str, axis: int) -> int | None:
        shape = found[name].shape if name in found else ()
        return shape[axis] if axis < len(shape) else None

    settings = graph.keras_settings(keras)
    hidden = size(query, 0)
    stated: dict[str, Any] = {
        "vocab_size": size(words, 0),
        "embedding_size": size(words, 1),
        "hidden_size": hidden,
        "num_hidden_layers": _layers([graph.uses(called("layer.query", group)) for group in range(groups)], settings),
        "num_attention_heads": _heads(graph, query, hidden) if google else size(query, 1),
        "intermediate_size": size(called("layer.intermediate"), 1),
        "num_hidden_groups": groups,
        "inner_group_num": inner,
        "max_position_embeddings": size(called("embeddings.positions"), 0),
        "type_vocab_size": size(called("embeddings.types"), 0),
        "hidden_act": graph.activation(),
        "layer_norm_eps": graph.epsilon(),
        "hidden_dropout_prob": settings.get("dropout_rate"),
        "attention_probs_dropout_prob": settings.get("attention_dropout_rate"),
        "initializer_range": _deviation(settings),
    }
    table = family.config
    if "num_hidden_groups" in table.derived:  # no layer is used twice
        stated["num_hidden_layers"] = groups
    follows = {*table.derived, *table.fixed}
    stated = {key: value for key, value in stated.items() if value is not None and key not in follows}
    usual = {key: table.defaults.get(key, value) for key, value in _ASSUMED.items()}
    if "num_hidden_groups" in table.derived and hidden is not None:
        usual = {"num_attention_heads": heads_of(hidden)} | usual
    if absent := [key for key in REQUIRED if key not in {*stated, *overriding, *follows, *usual}]:
        raise ConfigError(
            where,
            f"neither its variables nor its graph give {', '.join(absent)}; give it with --model-config FILE "
            f"(the model's {family.config.google_file}, or a JSON object of just that)",
        )
    read_off = {key: stated[key] for key in _FROM_GRAPH if key in stated and key not in overriding}
    assumed = {key: value for key, value in usual.items() if key not in stated and key not in overriding}
    notes = [f"the module holds no config; read off its variables and graph: {_listed(read_off)}"] if read_off else []
    if assumed:
        notes.append(f"assumed, as the module does not say: {_listed(assumed)}; --model-config FILE overrides")
    return stated | assumed, notes


# What follows from no variable's shape; and the published models' values of what may not follow from the graph.
_FROM_GRAPH = ("num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
_ASSUMED = {
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _layers(uses: list[int | None], settings: Json) -> int | None:
    """The number of layers, from how often the graph uses each group; None where graph and Keras do not agree."""
    found = {settings["num_layers"]} if isinstance(settings.get("num_layers"), int) else set()
    counted = [count for count in uses if count is not None]
    if len(counted) == len(uses):
        layers = sum(counted)
        applied = [int(layer / (layers / len(uses))) for layer in range(layers)]
        if [applied.count(group) for group in range(len(uses))] != counted:
            return None
        found.add(layers)
    return found.pop() if len(found) == 1 else None


def _heads(graph: SavedGraph, query: str, hidden: int | None) -> int | None:
    """The number of heads, from the shape that Google's code gives the query's kernel (hidden size, heads, size of a
    head) or what is computed from it (batch, tokens, heads, size of a head)."""
    kernel, output = graph.reshaped(query), graph.reshaped_output(query)
    if kernel is not None and len(kernel) == 3 and kernel[0] == hidden and kernel[1] * kernel[2] == hidden:
        return kernel[1]
    if output is not None and output[0] * output[1] == hidden:
        return output[0]
    return None


def _deviation(settings: Json) -> Any:
    initializer = settings.get("initializer")
    inner = initializer.get("config") if isinstance(initializer, dict) else None
    return inner.get("stddev") if isinstance(inner, dict) else None
