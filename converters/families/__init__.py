"""One file, one family: a module here that defines `FAMILY` is one; there is no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from converters.errors import ConfigError

if TYPE_CHECKING:
    from converters.config import EncoderConfig
    from converters.family import Family


@cache
def families() -> dict[str, Family]:
    """Every family by its model_type."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}").FAMILY for name in names]
    return {family.model_type: family for family in found}


def family_of(config: EncoderConfig) -> Family:
    """The family of a config."""
    return families()[config.family]


def named(model_type: object, where: str) -> Family:
    """The family of a `model_type`; ConfigError lists those that are supported."""
    if not isinstance(model_type, str) or model_type not in families():
        raise ConfigError(where, f"has model_type {model_type!r}; supported is {', '.join(families())}")
    return families()[model_type]
