"""The models one can name: built in, published on the Hugging Face Hub and by Google, and those in the Hub's cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from albert_cli.registry import builtin
from albert_cli.registry.resolve import PUBLISHED
from converters import roles, spec
from converters.config import EncoderConfig, parse_json
from converters.dialects import config_from_json
from converters.errors import CheckpointError, FileError
from converters.families.albert import PRESETS
from converters.files import read_optional

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

SIZES = ("base", "large", "xlarge", "xxlarge")
# README of google-research/albert: versions 1 and 2 in English, and the Chinese models.
ARCHIVES_URL = "https://storage.googleapis.com/albert_models"
_ARCHIVES = ("v1", "v2", "zh")
_CHINESE_VOCABULARY = 21128  # vocab_chinese.txt is the list of the Chinese BERT

Kind = Literal["built-in", "hub", "archive"]


@dataclass(frozen=True)
class Entry:
    """A model: `name` is what a command takes (of an archive, once it is downloaded from `url`).

    `parameters` are those of embeddings, encoder and pooler; `bytes` those of the weights in float32, with the
    masked-word head. Both are None where the config is not known. `here` is where it lies on this disk, or None, and
    `bytes_here` what it takes there.
    """

    name: str
    kind: Kind
    language: str | None
    parameters: int | None
    bytes: int | None
    url: str | None
    here: str | None = None
    bytes_here: int | None = None


def entries() -> list[Entry]:
    """Every model that is known without the network: built in, on the Hub or in its cache, and Google's archives."""
    return [*_built_in(), *_on_the_hub(), *_archives()]


def _built_in() -> Iterator[Entry]:
    where = builtin.built_in()
    size = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    yield _entry(builtin.NAME, "built-in", "English", _config(where), None, str(where), size)


def _on_the_hub() -> Iterator[Entry]:
    cached = _cached()
    for name in PUBLISHED:
        repository = f"albert/{name}"
        where, size = cached.pop(repository, (None, None))
        yield _entry(repository, "hub", "English", PRESETS[name.split("-")[1]], _page(repository), where, size)
    for repository, (where, size) in sorted(cached.items()):
        yield _entry(repository, "hub", None, _config(Path(where)), _page(repository), where, size)


def _archives() -> Iterator[Entry]:
    for version in _ARCHIVES:
        for size in SIZES:
            config = PRESETS[size]
            if version == "zh":
                config = dataclasses.replace(config, vocab_size=_CHINESE_VOCABULARY)
            name = f"albert_{size}_{version}.tar.gz"
            yield _entry(name, "archive", "Chinese" if version == "zh" else "English", config, f"{ARCHIVES_URL}/{name}")


def _entry(
    name: str,
    kind: Kind,
    language: str | None,
    config: EncoderConfig | None,
    url: str | None,
    here: str | None = None,
    bytes_here: int | None = None,
) -> Entry:
    if config is None:
        return Entry(name, kind, language, None, None, url, here, bytes_here)
    shapes = {
        name: tuple(size for size in item.shape if size is not None)
        for name, item in spec.spec(config).items()
        if item.component in (*roles.REQUIRED, "pooler", "mlm") and not item.optional
    }
    parts = spec.parameters(shapes, config)
    model = sum(count for part, count in parts.items() if part not in roles.HEADS)
    return Entry(name, kind, language, model, 4 * sum(parts.values()), url, here, bytes_here)


def _page(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


def _cached() -> dict[str, tuple[str, int]]:
    """The ALBERT models in the Hub's cache by repository: snapshot and bytes. Looks at the disk only."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return {}
    found = {}
    for repository in repositories:
        snapshot = _newest(repository) if repository.repo_type == "model" else None
        if snapshot and (repository.repo_id.removeprefix("albert/") in PUBLISHED or _config(snapshot)):
            found[repository.repo_id] = (str(snapshot), repository.size_on_disk)
    return found


def _newest(repository: CachedRepoInfo) -> Path | None:
    revisions = sorted(repository.revisions, key=lambda revision: ("main" in revision.refs, revision.last_modified))
    return revisions[-1].snapshot_path if revisions else None


def _config(directory: Path) -> EncoderConfig | None:
    """The config of an ALBERT in a directory; None for another model, or a damaged one."""
    try:
        text = read_optional(directory / "config.json")
        data = parse_json(text, str(directory)) if text else None
        if not isinstance(data, dict) or data.get("model_type") != "albert":
            return None
        return config_from_json(data, str(directory), dialect="hf")
    except (CheckpointError, FileError):
        return None
