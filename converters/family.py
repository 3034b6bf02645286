"""Family: one architecture as a table, a row for each role and a column for each naming scheme.

Schemes: `hf` (Hugging Face's state dict, which gives the canonical names), `google` (Google's TF1 variables), `keras`
(TensorFlow Model Garden's, of TF-Hub's TF2 modules) and `fairseq`. What a scheme appends to a name, and how it stores
an array, follows from the kind of the role.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from converters.errors import ConfigError
from converters.limits import LAYERS
from converters.messages import brief
from converters.names import FROM_HEADS, OF_HEADS, SAME, TO_HEADS, Layout, NameTable, Row, T
from converters.roles import PAIR, PARTS, REQUIRED, ROLES

if TYPE_CHECKING:
    from converters.config import EncoderConfig
    from converters.published import Published

Held = TypeVar("Held")
Casing = Literal["lower", "mostly lower", "either"]
Foreign = Literal["google", "keras", "fairseq"]
# The schemes of TensorFlow's variables.
SCHEMES: tuple[Literal["google", "keras"], ...] = ("google", "keras")

_LINEAR = {"weight": ("/kernel", T), "bias": ("/bias", SAME)}
_NORM = {"weight": ("/gamma", SAME), "bias": ("/beta", SAME)}
_VECTOR: Mapping[str, tuple[str, Layout]] = {"": ("", SAME)}
_PYTORCH: Mapping[str, Mapping[str, tuple[str, Layout]]] = {
    kind: {part: (f".{part}" if part else "", SAME) for part in parts} for kind, parts in PARTS.items()
}
# By scheme and kind: what each tensor's name ends in, and how it is stored.
_SUFFIXES: Mapping[str, Mapping[str, Mapping[str, tuple[str, Layout]]]] = {
    "hf": _PYTORCH,
    "fairseq": _PYTORCH,
    "google": {
        "table": {"weight": ("", SAME)},
        "linear": _LINEAR,
        "matrix": _LINEAR,
        "to_heads": _LINEAR,
        "from_heads": _LINEAR,
        "output": {"weight": ("_weights", SAME), "bias": ("_bias", SAME)},
        "norm": _NORM,
        "vector": _VECTOR,
    },
    "keras": {
        "table": {"weight": ("/embeddings", SAME)},
        "linear": _LINEAR,
        "to_heads": {"weight": ("/kernel", TO_HEADS), "bias": ("/bias", OF_HEADS)},
        "from_heads": {"weight": ("/kernel", FROM_HEADS), "bias": ("/bias", SAME)},
        "norm": _NORM,
    },
}


@dataclass(frozen=True)
class Entry:
    """One role under the name that each scheme has for it; None where the scheme does not store it.

    `{group}`, `{inner}` and `{layer}` stand for every layer of the config. In a `keras` name `{at}` stands for the
    place of a layer where there are several (`Family.keras_place`), and for `Family.keras_place_of_one` where there is
    one. `parts`: those of the role's tensors that the family has, all by default.
    """

    role: str
    hf: str
    google: str | None = None
    keras: str | None = None
    fairseq: str | None = None
    parts: tuple[str, ...] | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """The parts of the role that are tensors of the family."""
        return PARTS[ROLES[self.role].kind] if self.parts is None else self.parts


@dataclass(frozen=True)
class Part:
    """One of several models in a checkpoint of Google's, recognised by the component that it alone has.

    `own`: what the names of its own variables begin with. `scopes`: what names begin with in the place of what stands
    in the table. `untied`: what it may have of its own in the place of what all models share. `config`: the file that
    its config has beside another model's, None for the usual one.
    """

    name: str
    component: str
    own: tuple[str, ...]
    scopes: Mapping[str, str] = field(default_factory=dict)
    untied: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None

    @property
    def left_out(self) -> str:
        """What is said of its variables where another model is read."""
        return f"variables of the {self.name} (--part {self.name} converts it)"

    def tied(self, found: Mapping[str, Held]) -> dict[str, Held]:
        """The variables of this model, those of its own that are `untied` under the names of the shared ones."""
        untied = {old: new for old, new in self.untied.items() if any(name.startswith(old) for name in found)}
        kept = {name: item for name, item in found.items() if not name.startswith(tuple(untied.values()))}
        for old, new in untied.items():
            kept = {new + name.removeprefix(old) if name.startswith(old) else name: kept[name] for name in kept}
        return kept

    def rename(self, name: str) -> str:
        """A name of the table as this model has it."""
        old = next((scope for scope in self.scopes if name.startswith(scope)), "")
        return self.scopes[old] + name.removeprefix(old) if old else name


@dataclass(frozen=True)
class ConfigTable:
    """How a family's configs are written.

    `google_file`: the name of Google's, None where Google has no such model. `google_config_follows`: Google's
    checkpoints come without one, as the sizes follow from the variables. `google_activations`: Hugging Face's name ->
    Google's where they differ. `inexact`: activations that Google's code has no name for; its name for each is what it
    computes instead. `keys`: the key of a field where it is not called alike. `derived`: fields that equal another one,
    and are not stored. `fixed`: fields of one value, not stored either. `defaults`: values of absent keys, where they
    are not those of EncoderConfig. `google_wordpiece`: what Google calls a WordPiece list beside it. `pad_token_id`
    where absent. `positions_follow_pad`: the first token's position is
    one more than that id. `may_decode`: transformers computes a decoder where the config asks for one.
    """

    google_file: str | None
    google_activations: Mapping[str, str]
    google_config_follows: bool = False
    google_wordpiece: str = "vocab.txt"
    inexact: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pad_token_id: int = 0
    positions_follow_pad: bool = False
    may_decode: bool = False


@dataclass(frozen=True)
class TokenizerTable:
    """A family's tokenizers. `classes`: that of transformers for each kind of vocabulary, where it computes our ids.
    `casing`: whether text for a WordPiece list is lower-cased where no file says so. `drop_category_c`: as
    `TokenizerFiles.drop_category_c`."""

    classes: Mapping[str, str] = field(default_factory=dict)
    casing: Casing = "either"
    drop_category_c: bool = False


@dataclass(frozen=True, eq=False)
class Family:
    """An architecture: its tensors' names in each scheme, its classes in transformers, its configs.

    `titles`: what its models are called in words, the family itself first, and the heads that each is pre-trained with.
    `pair` is the component name of its pair
    head, None without one; `no_pair`: why it, or a model of it, has none. `fresh`: the components beside the encoder
    that a model has before pre-training. `classes` maps a class of transformers to the components that it reads beside
    the encoder, `bare` is the one that reads none. `reads_classifier`: classes that read a `classifier` of the same
    shape, and what that is in each. `presets`: configs by name; `preset_heads`: what those of them have before
    pre-training that do not have `fresh`. `published`: the models that others made public. `projects_always`:
    whether there is a projection where the embeddings have the hidden size too. `mlm_activation`: that of the
    masked-word head where it is not `hidden_act`; `first_token_activation`: that of the classification head on the
    first token. `tied` maps copies that transformers stores to what they are copies of, `buffers` are names in an
    `hf` file that carry no weights. `legacy`: by scheme, patterns of old names and today's; `legacy_transposed`: the
    old names of those that lay the other way. `fused`: patterns of fairseq tensors that hold several, one below the
    other. `parts`: the models in a checkpoint of Google's where there are several, the usual one first.
    `google_drop`, `keras_drop` and `fairseq_drop`: patterns of variables that are left out, with the reason.
    `keras_place`, `keras_place_of_one`: what `{at}` in a `keras` name stands for, with several layers and with one.
    `julia_rows`: Julia's files hold a vector of n as 1 x n; `julia_untransposed`: the canonical names of matrices that
    they hold as TensorFlow does.
    """

    model_type: str
    titles: Mapping[str, tuple[str, ...]]
    entries: tuple[Entry, ...]
    pair: str | None
    fresh: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    bare: str
    reads_classifier: Mapping[str, str]
    config: ConfigTable
    prefix: str
    presets: Mapping[str, EncoderConfig]
    published: tuple[Published, ...]
    tokenizer: TokenizerTable
    no_pair: str = ""
    preset_heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    projects_always: bool = True
    mlm_activation: str | None = None
    first_token_activation: str = "tanh"
    tied: Mapping[str, str] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    legacy: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    legacy_transposed: tuple[str, ...] = ()
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    google_drop: Mapping[str, str] = field(default_factory=dict)
    keras_drop: Mapping[str, str] = field(default_factory=dict)
    fairseq_drop: Mapping[str, str] = field(default_factory=dict)
    keras_place: str = ""
    keras_place_of_one: str = ""
    julia_rows: bool = False
    julia_untransposed: tuple[str, ...] = ()

    def component(self, entry: Entry) -> str:
        """The component of an entry: that of its role, but the family's own name for the pair head."""
        found = ROLES[entry.role].component
        return self.pair if found == PAIR and self.pair is not None else found

    @property
    def text_head(self) -> str:
        """The component that classifies a text: `first_token` of a family that has it, else `classifier`."""
        return "first_token" if any(entry.role == "first_token.out" for entry in self.entries) else "classifier"

    @property
    def title(self) -> str:
        """What the family is called in words."""
        return next(iter(self.titles))

    @property
    def usual_heads(self) -> list[str]:
        """The heads of pre-training, and those for a text and for a question: what a model is asked for first."""
        heads = [part for parts in self.classes.values() for part in parts]
        return [part for part in heads if part not in ("pooler", "summary", "choice", "tokens")]

    @cached_property
    def hf(self) -> NameTable:
        """Canonical names, each for itself."""
        return NameTable(self._rows("hf"), dict(self.buffers))

    def google(self, components: Collection[str] = ()) -> NameTable:
        """Google's TF1 variables of a model that has these components; without rows where Google has no such model."""
        return self._google[next((n for n, part in enumerate(self.parts) if part.component in components), 0)]

    @cached_property
    def _google(self) -> list[NameTable]:
        rows, drop = list(self._rows("google")), dict(self.google_drop)
        if not self.parts:
            return [NameTable(rows, drop)]
        tables = []
        for part in self.parts:
            others = tuple(scope for other in self.parts if other is not part for scope in other.own)
            renamed = (replace(row, foreign=part.rename(row.foreign)) for row in rows)
            tables.append(NameTable((row for row in renamed if not row.foreign.startswith(others)), drop))
        return tables

    @cached_property
    def fairseq(self) -> NameTable:
        """fairseq's state dict; without rows for a family that it has not."""
        return NameTable(self._rows("fairseq"), dict(self.fairseq_drop))

    def keras(self, config: EncoderConfig) -> NameTable:
        """Model Garden's variables, of the encoder; heads have Google's names.

        Without rows where Model Garden has no such encoder.
        """
        return self._keras_one if len(config.places) == 1 else self._keras_many

    @cached_property
    def _keras_one(self) -> NameTable:
        first = {"group": 0, "inner": 0, "layer": 0}
        rows = (
            Row(row.canonical.format(**first), row.foreign.format(**first), row.layout)
            for row in self._rows("keras", at=self.keras_place_of_one)
        )
        return NameTable(rows, dict(self.keras_drop))

    @cached_property
    def _keras_many(self) -> NameTable:
        return NameTable(self._rows("keras", at=self.keras_place), dict(self.keras_drop))

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """How many axes the tensor of each canonical row has."""
        return {
            entry.hf + _PYTORCH[ROLES[entry.role].kind][part][0]: len(ROLES[entry.role].sizes)
            if part == "weight"
            else 1
            for entry in self.entries
            for part in entry.tensors
        }

    def _rows(self, scheme: Literal["hf"] | Foreign, at: str = "") -> Iterator[Row]:
        if scheme == "keras" and not any(entry.keras for entry in self.entries):
            return
        for entry in self.entries:
            role = ROLES[entry.role]
            if scheme == "keras" and role.component not in (*REQUIRED, "pooler"):
                name, suffixes = entry.google, _SUFFIXES["google"]
            else:
                name, suffixes = getattr(entry, scheme), _SUFFIXES[scheme]
            if name is None:
                continue
            for part in entry.tensors:
                suffix, layout = suffixes[role.kind][part]
                canonical = entry.hf + _SUFFIXES["hf"][role.kind][part][0]
                yield Row(canonical, name.replace("{at}", at) + suffix, layout)

    def foreign(self, scheme: Foreign, role: str, place: Mapping[str, int] | None = None) -> str | None:
        """The scheme's name of a role's weight, in the layer at `place` (None: the only layer, or none).

        None where the scheme has no such role.
        """
        name, kind = self._template(scheme, role, several=place is not None), ROLES[role].kind
        first = {"group": 0, "inner": 0, "layer": 0}
        return None if name is None else name.format(**(place or first)) + _SUFFIXES[scheme][kind]["weight"][0]

    def is_of_a_head(self, name: str) -> bool:
        """Whether a variable of Google's lies outside the encoder: what begins as the word embeddings do is in it."""
        words = self.foreign("google", "embeddings.words")
        return words is None or not name.startswith(words.partition("/")[0] + "/")

    def scheme_of(self, names: Collection[str]) -> Literal["google", "keras"] | None:
        """Whose names TensorFlow's variables have, by those of the word embeddings; None where there are none."""
        return next((scheme for scheme in SCHEMES if self.foreign(scheme, "embeddings.words") in names), None)

    def places_in(self, names: Iterable[str]) -> set[tuple[int, int]]:
        """The (group, inner) places of the layers that foreign names speak of; (layer, 0) of layers without groups."""
        patterns = [pattern_of(name) for name in self._layer_names()]
        matches = (pattern.match(name) for name in names for pattern in patterns)
        found = [match for match in matches if match and match.groupdict()]
        for match in found:
            if any(len(number) > len(str(LAYERS)) or int(number) >= LAYERS for number in match.groups() if number):
                raise ConfigError(f"variable {brief(match.string)} counts more than {LAYERS} layers")
        places = (match.groupdict(default="0") for match in found)
        return {(int(at.get("layer", at.get("group", 0))), int(at.get("inner", 0))) for at in places}

    def claim(self, names: Iterable[str]) -> tuple[str | None, str | None]:
        """A name that this family's layers alone have, and one that they have where the family's prefix is left out."""
        names = list(names)
        own, bare = (next(filter(pattern.fullmatch, names), None) for pattern in self._claims)
        return own, bare

    @cached_property
    def _claims(self) -> list[re.Pattern[str]]:
        bare = [entry.hf.removeprefix(self.prefix) for entry in self.entries if entry.role.startswith("layer.")]
        whole = [*self._layer_names(), *(self.prefix + name for name in bare)]
        alternatives = ("|".join(_expression(name, r"\d+") for name in names) for names in (whole, bare))
        return [re.compile(f"(.*[./])?({names})([./_].*)?") for names in alternatives]

    def _layer_names(self) -> list[str]:
        """The foreign names of a layer's roles, of every scheme and every part."""
        roles = [entry.role for entry in self.entries if entry.role.startswith("layer.")]
        schemes: tuple[Foreign, ...] = ("google", "keras", "fairseq")
        found = (
            self._template(scheme, role, several=several)
            for several in (True, False)
            for scheme in schemes
            for role in roles
        )
        names = [name for name in found if name]
        return list(dict.fromkeys([*names, *(part.rename(name) for part in self.parts for name in names)]))

    def _template(self, scheme: Foreign, role: str, *, several: bool) -> str | None:
        entry = next((entry for entry in self.entries if entry.role == role), None)
        name: str | None = getattr(entry, scheme, None)
        return name and name.replace("{at}", self.keras_place if several else self.keras_place_of_one)

    def __repr__(self) -> str:
        return f"<Family {self.model_type}>"


def pattern_of(name: str) -> re.Pattern[str]:
    """Every name that a row with indices stands for; the indices are its named groups."""
    return re.compile(_expression(name, r"(?P<{}>\d+)"))


def _expression(name: str, number: str) -> str:
    """The regular expression of a row's names; `number` is that of an index, with `{}` for what it is called."""
    parts = re.split(r"\{(\w+)\}", name)
    return "".join(number.format(part) if place % 2 else re.escape(part) for place, part in enumerate(parts))
