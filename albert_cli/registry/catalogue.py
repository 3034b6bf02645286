"""The models one can name: built in, published on the Hugging Face Hub or as archives, and those in the Hub's cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from albert_cli.registry import builtin
from converters import roles, spec
from converters.config import EncoderConfig, parse_json
from converters.dialects import config_from_json
from converters.errors import CheckpointError, FileError
from converters.families import family_of, published
from converters.files import read_optional
from converters.published import Published

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

Kind = Literal["built-in", "hub", "archive"]
_LABELS = 3  # of the classifiers among the published models: MNLI's


@dataclass(frozen=True)
class Entry:
    """A model: `name` is what a command takes (of an archive, once it is downloaded from `url`).

    `parameters` are those of embeddings, encoder and pooler; `bytes` those of the weights in float32, with the heads
    that were published (ALBERT's: the masked-word head). Both are None where the config is not known, `language` and
    `licence` where nobody has said them here. `here` is where it lies on this disk, or None, and `bytes_here` what it
    takes there.
    """

    name: str
    kind: Kind
    family: str | None
    language: str | None
    licence: str | None
    parameters: int | None
    bytes: int | None
    url: str | None
    here: str | None = None
    bytes_here: int | None = None


def entries() -> list[Entry]:
    """Every model that is known without the network: built in, on the Hub or in its cache, and archives."""
    return [*_built_in(), *_on_the_hub(), *_archives()]


def _built_in() -> Iterator[Entry]:
    where = builtin.built_in()
    size = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    entry = _entry(builtin.NAME, "built-in", None, _config(where), None, str(where), size)
    yield dataclasses.replace(entry, language="English", licence="Apache-2.0")


def _on_the_hub() -> Iterator[Entry]:
    cached = _cached()
    for model in published():
        if model.url is None:
            where, size = cached.pop(model.name, (None, None))
            yield _entry(model.name, "hub", model, model.config, _page(model.name), where, size)
    for repository, (where, size) in sorted(cached.items()):
        yield _entry(repository, "hub", None, _config(Path(where)), _page(repository), where, size)


def _archives() -> Iterator[Entry]:
    for model in published():
        if model.url is not None:
            yield _entry(model.name, "archive", model, model.config, model.url)


def _entry(
    name: str,
    kind: Kind,
    model: Published | None,
    config: EncoderConfig | None,
    url: str | None,
    here: str | None = None,
    bytes_here: int | None = None,
) -> Entry:
    language, licence = (model.language, model.licence) if model else (None, None)
    if config is None:
        return Entry(name, kind, None, language, licence, None, None, url, here, bytes_here)
    family = family_of(config)
    heads = model.heads if model else [part for part in family.fresh if part != family.pair]
    shapes = {
        name: tuple(_LABELS if size is None else size for size in item.shape)
        for name, item in spec.spec(config).items()
        if item.component in (*roles.REQUIRED, *heads) and not item.optional
    }
    parts = spec.parameters(shapes, config)
    encoder = sum(count for part, count in parts.items() if part not in roles.HEADS)
    return Entry(name, kind, config.family, language, licence, encoder, 4 * sum(parts.values()), url, here, bytes_here)


def _page(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


def _cached() -> dict[str, tuple[str, int]]:
    """The models of the families here in the Hub's cache by repository: snapshot and bytes. Looks at the disk only."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return {}
    known, found = {model.name for model in published()}, {}
    for repository in repositories:
        snapshot = _newest(repository) if repository.repo_type == "model" else None
        if snapshot and (repository.repo_id in known or _config(snapshot)):
            found[repository.repo_id] = (str(snapshot), repository.size_on_disk)
    return found


def _newest(repository: CachedRepoInfo) -> Path | None:
    revisions = sorted(repository.revisions, key=lambda revision: ("main" in revision.refs, revision.last_modified))
    return revisions[-1].snapshot_path if revisions else None


def _config(directory: Path) -> EncoderConfig | None:
    """The config of a model in a directory; None for one of no family here, or a damaged one."""
    try:
        text = read_optional(directory / "config.json")
        data = parse_json(text, str(directory)) if text else None
        if not isinstance(data, dict) or "model_type" not in data:
            return None
        return config_from_json(data, str(directory), dialect="hf")
    except (CheckpointError, FileError):
        return None
