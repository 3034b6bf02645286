"""One file, one family: a module here that defines `FAMILY` is one; there is no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from converters.errors import ConfigError, SpecError
from converters.messages import brief, listing

if TYPE_CHECKING:
    from converters.config import EncoderConfig
    from converters.family import Family
    from converters.published import Published


@cache
def families() -> dict[str, Family]:
    """Every family by its model_type."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}").FAMILY for name in names]
    return {family.model_type: family for family in found}


def family_of(config: EncoderConfig) -> Family:
    """The family of a config."""
    return families()[config.family]


def presets() -> dict[str, EncoderConfig]:
    """The configs of every family by name."""
    return {name: config for family in families().values() for name, config in family.presets.items()}


def heads_of(preset: str) -> tuple[str, ...]:
    """The components beside the encoder that a model of a preset has before pre-training."""
    family = family_of(presets()[preset])
    return family.preset_heads.get(preset, family.fresh)


def pretraining_heads() -> set[str]:
    """The heads that a model of some family is pre-trained with."""
    return {head for family in families().values() for heads in family.titles.values() for head in heads}


def published() -> list[Published]:
    """The models of every family that others made public."""
    return [model for family in families().values() for model in family.published]


def named(model_type: object, where: str) -> Family:
    """The family of a `model_type`; ConfigError lists those that are supported."""
    if not isinstance(model_type, str) or model_type not in families():
        raise ConfigError(where, f"has model_type {model_type!r}; supported is {', '.join(families())}")
    return families()[model_type]


def find(model_type: object, names: Iterable[str], where: str) -> Family:
    """The family of tensors of these names, whatever scheme they are in; `model_type`: what their config says, or None.

    Raises ConfigError for a model_type that is not supported, and SpecError where config and names contradict each
    other, or where neither tells.
    """
    names = list(names)
    claims = {family: family.claim(names) for family in families().values()}
    own = {family: found for family, (found, _) in claims.items() if found is not None}
    if model_type is None and len(own) > 1 == len({*own.values()}):
        # Model Garden calls them alike: an encoder with a projection is an ELECTRA's, one without a BERT's.
        projections = {family: family.foreign("keras", "projection") for family in own}
        projects = any(name in names for name in projections.values())
        own = {family: seen for family, seen in own.items() if (projections[family] is not None) == projects} or own
    if model_type is not None:
        family = named(model_type, where)
        if own and family not in own:
            other, seen = next(iter(own.items()))
            raise SpecError(
                where,
                f"the config says {family.model_type}, the tensors are those of {other.model_type} (as {brief(seen)}); "
                "correct model_type, or take the model's own config",
            )
        return family
    found = own or {family: bare for family, (_, bare) in claims.items() if bare is not None}
    if len(found) == 1:
        return next(iter(found))
    known = ", ".join(families())
    if found:
        kinds = " or ".join(family.model_type for family in found)
        seen = next(iter(found.values()))
        raise SpecError(where, f"the tensors may be those of {kinds} (as {brief(seen)}); add model_type to the config")
    held = f"it holds {listing(names)}" if names else "it holds none"
    raise SpecError(where, f"no tensors of a known family ({known}); {held}")
