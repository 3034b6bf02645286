"""Published: a model that others have made public, and what is known of it without reading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.config import EncoderConfig


@dataclass(frozen=True)
class Published:
    """`name`: a repository of the Hugging Face Hub (owner/name), or the file of an archive at `url`. `heads`: the
    components beside the encoder that it has. `licence`: as its publishers call it."""

    name: str
    config: EncoderConfig
    heads: tuple[str, ...]
    licence: str = "Apache-2.0"
    language: str = "English"
    url: str | None = None

    @property
    def short(self) -> str:
        """The name without its owner."""
        return self.name.rpartition("/")[2]


def archive(url: str, config: EncoderConfig, heads: tuple[str, ...], **more: str) -> Published:
    """What is published as an archive at `url`."""
    return Published(url.rpartition("/")[2], config, heads, url=url, **more)
