"""Family: one architecture as a table, a row for each role and a column for each naming scheme.

Schemes: `hf` (Hugging Face's state dict, which gives the canonical names), `google` (Google's TF1 variables) and
`keras` (TensorFlow Model Garden's, of TF-Hub's TF2 modules). What a scheme appends to a name, and how it stores an
array, follows from the kind of the role.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from converters.names import FROM_HEADS, OF_HEADS, SAME, TO_HEADS, Layout, NameTable, Row, T
from converters.roles import PAIR, PARTS, REQUIRED, ROLES

if TYPE_CHECKING:
    from converters.config import EncoderConfig

Foreign = Literal["google", "keras"]
SCHEMES: tuple[Foreign, ...] = get_args(Foreign)

_LINEAR = {"weight": ("/kernel", T), "bias": ("/bias", SAME)}
_NORM = {"weight": ("/gamma", SAME), "bias": ("/beta", SAME)}
_VECTOR: Mapping[str, tuple[str, Layout]] = {"": ("", SAME)}
# By scheme and kind: what each tensor's name ends in, and how it is stored.
_SUFFIXES: Mapping[str, Mapping[str, Mapping[str, tuple[str, Layout]]]] = {
    "hf": {kind: {part: (f".{part}" if part else "", SAME) for part in parts} for kind, parts in PARTS.items()},
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
    place of a layer where there are several (`Family.keras_place`), and for nothing where there is one.
    """

    role: str
    hf: str
    google: str | None = None
    keras: str | None = None


@dataclass(frozen=True)
class ConfigTable:
    """How a family's configs are written.

    `google_file`: the name of Google's. `google_activations`: Hugging Face's name -> Google's where they differ.
    `inexact`: activations that Google's code has no name for; its name for each is what it computes instead.
    `derived`: fields that equal another one, and are not stored. `fixed`: fields of one value, not stored either.
    `defaults`: values of absent keys, where they are not those of EncoderConfig.
    """

    google_file: str
    google_activations: Mapping[str, str]
    inexact: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Family:
    """An architecture: its tensors' names in each scheme, its classes in transformers, its configs.

    `pair` is the component name of its pair head. `classes` maps a class of transformers to the components that it
    reads beside the encoder, `bare` is the one that reads none. `reads_classifier`: classes that read a `classifier` of
    the same shape, and what that is in each. `tied` maps copies that transformers stores to what they are copies of,
    `buffers` are names in an `hf` file that carry no weights. `google_drop` and `keras_drop`: patterns of variables
    that are left out, with the reason.
    """

    model_type: str
    entries: tuple[Entry, ...]
    pair: str
    classes: Mapping[str, tuple[str, ...]]
    bare: str
    reads_classifier: Mapping[str, str]
    config: ConfigTable
    prefix: str
    tied: Mapping[str, str] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    google_drop: Mapping[str, str] = field(default_factory=dict)
    keras_drop: Mapping[str, str] = field(default_factory=dict)
    keras_place: str = ""

    def component(self, entry: Entry) -> str:
        """The component of an entry: that of its role, but the family's own name for the pair head."""
        found = ROLES[entry.role].component
        return self.pair if found == PAIR else found

    @cached_property
    def hf(self) -> NameTable:
        """Canonical names, each for itself."""
        return NameTable(self._rows("hf"), dict(self.buffers))

    @cached_property
    def google(self) -> NameTable:
        """Google's TF1 variables."""
        return NameTable(self._rows("google"), dict(self.google_drop))

    def keras(self, config: EncoderConfig) -> NameTable:
        """Model Garden's variables, of the encoder; heads have Google's names.

        A config with one layer alone has no place of a layer in its names.
        """
        return self._keras_one if len(config.places) == 1 else self._keras_many

    @cached_property
    def _keras_one(self) -> NameTable:
        first = {"group": 0, "inner": 0, "layer": 0}
        rows = (Row(row.canonical.format(**first), row.foreign, row.layout) for row in self._rows("keras", at=""))
        return NameTable(rows, dict(self.keras_drop))

    @cached_property
    def _keras_many(self) -> NameTable:
        return NameTable(self._rows("keras", at=self.keras_place), dict(self.keras_drop))

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """How many axes the tensor of each canonical row has."""
        return {
            entry.hf + suffix: len(ROLES[entry.role].sizes) if part == "weight" else 1
            for entry in self.entries
            for part, (suffix, _) in _SUFFIXES["hf"][ROLES[entry.role].kind].items()
        }

    def _rows(self, scheme: Literal["hf"] | Foreign, at: str = "") -> Iterator[Row]:
        for entry in self.entries:
            role = ROLES[entry.role]
            if scheme == "keras" and role.component not in (*REQUIRED, "pooler"):
                name, suffixes = entry.google, _SUFFIXES["google"]
            else:
                name, suffixes = getattr(entry, scheme), _SUFFIXES[scheme]
            if name is None:
                continue
            for part in PARTS[role.kind]:
                suffix, layout = suffixes[role.kind][part]
                canonical = entry.hf + _SUFFIXES["hf"][role.kind][part][0]
                yield Row(canonical, name.replace("{at}", at) + suffix, layout)

    def foreign(self, scheme: Foreign, role: str, place: Mapping[str, int] | None = None) -> str:
        """The scheme's name of a role's weight, in the layer at `place`; None: the only layer, or none."""
        name, kind = self._template(scheme, role, several=place is not None), ROLES[role].kind
        return name.format(**(place or {})) + _SUFFIXES[scheme][kind]["weight"][0]

    def is_of_a_head(self, name: str) -> bool:
        """Whether a variable of Google's lies outside the encoder: what begins as the word embeddings do is in it."""
        return not name.startswith(self.foreign("google", "embeddings.words").partition("/")[0] + "/")

    def scheme_of(self, names: Collection[str]) -> Foreign | None:
        """Whose names variables have, by those of the word embeddings; None where there are none."""
        return next((scheme for scheme in SCHEMES if self.foreign(scheme, "embeddings.words") in names), None)

    def places_in(self, names: Iterable[str]) -> set[tuple[int, int]]:
        """The (group, inner) places of the layers that Google's or Model Garden's names speak of."""
        patterns = [
            pattern_of(self._template(scheme, entry.role, several=True))
            for scheme in SCHEMES
            for entry in self.entries
            if entry.role.startswith("layer.")
        ]
        matches = (pattern.match(name) for name in names for pattern in patterns)
        return {(int(match["group"]), int(match["inner"])) for match in matches if match}

    def _template(self, scheme: Foreign, role: str, *, several: bool) -> str:
        entry = next(entry for entry in self.entries if entry.role == role)
        name: str = getattr(entry, scheme)
        return name.replace("{at}", self.keras_place if several else "")

    def __repr__(self) -> str:
        return f"<Family {self.model_type}>"


def pattern_of(name: str) -> re.Pattern[str]:
    """Every name that a row with indices stands for; the indices are its named groups."""
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile("".join(rf"(?P<{p}>\d+)" if n % 2 else re.escape(p) for n, p in enumerate(parts)))
