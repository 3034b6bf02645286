"""The model that a command names: a path, a published name, a repository of the Hugging Face Hub, or none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from albert_cli import console
from albert_cli.errors import ModelError
from albert_cli.phases import phase
from albert_cli.registry import builtin
from albert_cli.registry.builtin import NAME
from converters.choices import NONE, Choices
from converters.errors import did_you_mean, errors_name, renamed
from converters.families import published

if TYPE_CHECKING:
    from converters.checkpoint import Checkpoint

# owner/name, and a revision where it matters which one: owner/name@revision
_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_TOKENIZER_FILES = (
    "spiece.model", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "*.vocab",
    "added_tokens.json", "special_tokens_map.json",
)  # fmt: skip
# Modules of Sentence-Transformers have directories of their own: 1_Pooling, and 0_Transformer in older ones.
_SETTINGS = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "[0-9]_*/*")
_REFUSED = ("adapter_config.json", "quantize_config.json", "quant_config.json")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_MODEL_FILES = ("config.json", *_WEIGHTS, *_TOKENIZER_FILES, *_SETTINGS, *_REFUSED)
_OLDER_FILES = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
# A file's name, which no repository has.
_FILE_NAME = re.compile(r".*\.(bin|bson|gz|index|model|npz|onnx|pb|pt|pth|safetensors|tar|tfbson|tgz|vocab|zip)")


@dataclass(frozen=True)
class Model:
    """A model that is on this disk. `name` is how it was asked for; `revision` the Hub's commit, if from there."""

    path: Path
    name: str
    revision: str | None = None

    @phase("loading the model")
    def load(self, *, format: str | None = None, choices: Choices = NONE) -> Checkpoint:
        """The checkpoint; its arrays stay on disk until read. It and its errors are named as in `shown`."""
        from dataclasses import replace

        from converters import convert

        with errors_name(self.shown, self.path):
            checkpoint = convert.load(self.path, format=format, choices=choices)
        return replace(checkpoint, where=renamed(checkpoint.where, self.path, self.shown))

    def files(self) -> list[Path]:
        """What the model is read from, so that no result replaces it."""
        from converters.formats import formats

        if not self.path.is_dir():
            return [self.path]
        patterns = [module.OURS for module in formats().values() if module.OURS is not None]
        return [item for item in self.path.iterdir() if any(pattern.fullmatch(item.name) for pattern in patterns)]

    @property
    def shown(self) -> str:
        """The model in messages: not where the package or the Hub's cache happens to be."""
        if self.name == NAME:
            return NAME
        return f"{self.name}@{self.revision[:12]}" if self.revision else str(self.path)


@phase("finding the model")
def resolve(name: str | Path | None, *, tokenizer_only: bool = False) -> Model:
    """The model of that name.

    A path that exists, in any format the converters read; a published name (`albert-base-v2`, `bert-base-uncased`);
    else a repository id of the Hub (`owner/name`, `owner/name@revision`), fetched into the Hub's usual cache: only
    config, safetensors weights (pytorch_model.bin where there are none) and tokenizer, or the tokenizer alone.
    `built-in` is the built-in model; None the one that ALBERT_MODEL names, else the built-in one. Raises ModelError
    with one line.
    """
    text = builtin.default() if name is None else str(name)
    if text == NAME:
        return Model(builtin.built_in(), NAME)
    path = Path(text)
    if path.exists():
        return Model(path, text)
    wanted, _, revision = text.partition("@")
    if wanted in repositories():
        text = repositories()[wanted] + (f"@{revision}" if revision else "")
    match = _REPOSITORY.fullmatch(text)
    inside = any(parent.is_file() for parent in path.parents)  # of an archive
    if (
        not match
        and path.parent == Path()
        and (near := did_you_mean(text, (*repositories(), NAME)))
        and not _begins(path)
    ):
        raise ModelError(f"{text}: no such file or directory here, and no published model{near}")
    if not match or text.startswith((".", "/", "~")) or _FILE_NAME.fullmatch(text) or inside:
        # A checkpoint's prefix (model.ckpt-best) is not a file; the formats know it, or report what is wrong.
        return Model(path, text)
    if path.parent.is_dir() and _begins(path):
        return Model(path, text)
    return _fetch(match["id"], match["revision"], tokenizer_only=tokenizer_only)


def may_be_on_the_hub(name: Path) -> bool:
    """Whether a name is a repository's, and no path of this disk: nothing of its first part is here."""
    known = _REPOSITORY.fullmatch(str(name)) and not _FILE_NAME.fullmatch(str(name))
    return bool(known) and not name.exists() and not name.parent.is_dir()


def repositories() -> dict[str, str]:
    """The repositories of the Hub that hold published models, by the name without the owner."""
    return {model.short: model.name for model in published() if model.url is None}


def cached_names() -> list[str]:
    """The repositories of models in the Hub's cache, of any kind: by the names of directories alone, so quickly."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    return sorted("/".join(folder.name.split("--")[1:3]) for folder in folders)


def _begins(path: Path) -> bool:
    """Whether there are files whose names begin so, as those of a checkpoint do."""
    return any(item.name.startswith(path.name) for item in path.parent.iterdir())


def _fetch(repository: str, revision: str | None, *, tokenizer_only: bool) -> Model:
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def download(files: tuple[str, ...], revision: str | None) -> Path:
        if console.is_hushed():
            disable_progress_bars()
        with console.aside():  # the Hub's library shows bars of its own
            found = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(files))
        return Path(found)

    try:
        snapshot = download(_TOKENIZER_FILES if tokenizer_only else _MODEL_FILES, revision)
        if not tokenizer_only and not any(snapshot.glob("*.safetensors")):
            download(_OLDER_FILES, snapshot.name)
    except errors.GatedRepoError:
        raise ModelError(f"{repository}: the Hub asks for consent first; accept there, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{repository}: no such file or directory here, and the Hugging Face Hub shows no such model"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repository}: the Hub has no revision {revision!r} of it") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise ModelError(
            f"{repository}: no such file or directory here, not in the Hub's cache, and the Hugging Face Hub cannot be "
            "reached; go online once, or name a path"
        ) from None
    except errors.HfHubHTTPError as error:
        raise ModelError(f"{repository}: the Hugging Face Hub answers {error}") from None
    return Model(snapshot, repository, snapshot.name)
