"""What is known of the model that another one was made of: where it is on the Hub, its licence, its language."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_cli.markdown import code
from albert_cli.registry.builtin import NAME
from albert_cli.registry.resolve import Model
from converters.families import published
from converters.pages import README

# As the Hub has them; a number of languages is none of its codes.
_LANGUAGES = {"English": "en", "Chinese": "zh"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Front matter is a few lines.
_LONGEST = 2**17


@dataclass(frozen=True)
class Origin:
    """`shown` is how a page calls the model, without the directories that it lies in; `repository` its name on the Hub,
    or that of the one it was made of; `facts` what front matter says of licence and language."""

    shown: str
    repository: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> Origin:
        """By its name on the Hub, or by the README.md in its directory; what nobody has said is left out."""
        if model.name == NAME:
            return cls("the built-in model of `albert`", None, {"license": "apache-2.0", "language": "en"})
        said = _front_matter(model.path)
        if model.revision is None:
            base = said.pop("base_model", None)
            own = isinstance(base, str) and _REPOSITORY.fullmatch(base)
            return cls(code(model.path.name or model.name), base if own else None, said)
        said.pop("base_model", None)
        known = next((item for item in published() if item.url is None and item.name == model.name), None)
        if known is not None:
            said.setdefault("license", known.licence.lower())
            said.setdefault("language", _LANGUAGES.get(known.language, "multilingual"))
        return cls(f"{code(model.name)} at commit {code(model.revision)}", model.name, said)


def _front_matter(directory: Path) -> dict[str, Any]:
    """What the README.md in a directory says of licence, language and base model; nothing where it cannot be read."""
    path = directory / README
    if not path.is_file() or path.stat().st_size > _LONGEST:
        return {}
    from huggingface_hub import metadata_load

    try:
        found = metadata_load(path)
    except Exception:  # PyYAML lets any through: a KeyError for `!!bool x`, an IndexError for `!!int ""`
        return {}
    kept = ("license", "license_name", "license_link", "language", "base_model")
    return {name: value for name in kept if _is_plain(value := (found or {}).get(name))}


def _is_plain(value: object) -> bool:
    """A text, or a list of texts: what the Hub takes."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, str) and item and item.isprintable() for item in items)
