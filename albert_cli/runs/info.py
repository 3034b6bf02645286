"""What a run says of itself: `run.toml` when it begins, `summary.json` when it is finished."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from albert_cli.declared import read_facts
from albert_cli.errors import RunError
from albert_cli.runs.files import MODEL, RUN, STATE, SUMMARY
from albert_cli.strict_json import strict_json
from converters.checkpoint import Checkpoint, digest
from converters.dialects import to_hf
from converters.messages import listing
from converters.staging import atomic_write

_LIBRARIES = ("albert-cli", "torch", "accelerate", "numpy", "sentencepiece", "safetensors")


def write_info(directory: Path, tables: Mapping[str, Any]) -> None:
    """Write run.toml: the tables given (settings, data, hashes, …), and the versions of the libraries."""
    rewrite_info(directory, {**tables, "versions": versions()})


def rewrite_info(directory: Path, tables: Mapping[str, Any]) -> None:
    """Write run.toml with the tables given and no others."""
    import tomli_w

    with atomic_write(directory / RUN, force=True, ours=None) as beside:
        beside.write_text(tomli_w.dumps(dict(tables)), encoding="utf-8")


def versions() -> dict[str, str]:
    """Of Python and the libraries that a run depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def check_same(
    directory: Path,
    *,
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
    hashes: tuple[Mapping[str, str], Mapping[str, str]],
    paths: Collection[str],
    changed: Sequence[str] = (),
) -> None:
    """Refuse to resume a run with other settings or data than it was started with (RunError).

    `settings`, `hashes`: those in its run.toml, then those of now; `hashes` of now may be empty, where the contents are
    not known yet. `paths`: settings that may differ, for the contents are compared. `changed`: what else differs.
    """
    before, now = settings
    faults = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted(now.keys() | before.keys())
        if before.get(key) != now.get(key) and key not in paths
    ]
    old, new = hashes
    faults += changed
    faults += [f"the contents of {key} changed" for key, sha in old.items() if new and new.get(key) != sha]
    if faults:
        raise RunError(f"{directory}: cannot resume: {'; '.join(faults)}; restore it, or restart with --force")


def digest_of(base: Checkpoint) -> str:
    """SHA-256 over the config, the tokenizer, and names and contents of all weights."""
    config = json.dumps(to_hf(base.config), sort_keys=True)
    sha = hashlib.sha256(f"{config}\n{base.tokenizer.ids_digest()}\n".encode())
    for name, tensor in base.tensors.items():
        sha.update(f"{name} {digest(tensor.read())}\n".encode())
    return sha.hexdigest()


def read_summary(directory: Path, declared: type) -> dict[str, Any] | None:
    """The summary of a finished run; None where the run is not finished.

    RunError where it lacks what the dataclass `declared` has, or holds something else, and where its model is gone.
    """
    path = directory / SUMMARY
    if not path.exists():
        return None
    advice = "remove it, and --resume makes it again; or restart with --force"
    summary = read_facts(path, declared, advice, RunError)
    check_model(directory, "the run is finished")
    return summary


def check_model(directory: Path, why: str) -> None:
    """RunError where the model that a run saved is not there any more; `why` it must be."""
    if lost := [name for name in MODEL if not (directory / name).exists()]:
        raise RunError(
            f"{directory}: {why}, but lacks {listing(lost)}; restore what is missing, or restart with --force"
        )


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, which makes a run a finished one; its state is not needed any more and removed."""
    with atomic_write(directory / SUMMARY, force=True, ours=None) as beside:
        beside.write_text(strict_json(summary, indent=2) + "\n", encoding="utf-8")
    (directory / STATE).unlink(missing_ok=True)
