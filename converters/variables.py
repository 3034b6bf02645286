"""Between a file's own variables and canonical tensors, by one NameTable; shared by every format with foreign names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters import spec
from converters.checkpoint import Array, Checkpoint, Tensor, same_bits
from converters.config import EncoderConfig
from converters.errors import CorruptError, SpecError
from converters.messages import listing
from converters.names import SLOTS, NameTable, slot_of
from converters.tokenizers.files import TokenizerFiles

# The training step, where a file has it among its variables.
STEP = "global_step"


@dataclass(frozen=True)
class Canonical:
    """A file's variables under canonical names; `where` is for messages."""

    tensors: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    dropped: dict[str, int]
    config: EncoderConfig
    where: str

    def checkpoint(
        self, format: str, tokenizer: TokenizerFiles, step: Tensor | None, notes: Sequence[str] = ()
    ) -> Checkpoint:
        """The checkpoint of these; SpecError where `step` is not one whole number."""
        return Checkpoint(
            config=self.config,
            tensors=self.tensors,
            tokenizer=tokenizer,
            optimizer=self.optimizer,
            global_step=None if step is None else self._whole(step),
            dropped=self.dropped,
            format=format,
            where=self.where,
            notes=notes,
        )

    def _whole(self, step: Tensor) -> int:
        if step.shape not in ((), (1,)) or step.dtype.kind != "i":
            raise SpecError(self.where, f"{STEP} is {step.dtype.name}{list(step.shape)}, not one whole number")
        return int(step.read().reshape(()))


def to_canonical(
    variables: Mapping[str, Tensor],
    table: NameTable,
    config: EncoderConfig,
    where: str,
    *,
    head: Callable[[str], bool] = lambda name: False,
) -> Canonical:
    """Rename and re-orient a file's variables; SpecError lists all names that the table does not know.

    Where all of these are of a `head`, they are left out, and named in `dropped`.
    """
    known = table.expand(config).by_foreign
    weights: dict[str, Tensor] = {}
    slots: dict[str, Tensor] = {}
    dropped: dict[str, int] = {}
    unknown = []
    for name, tensor in variables.items():
        variable, slot = slot_of(name) or (name, "")
        row = known.get(variable)
        if row is not None:
            into, canonical = (slots, f"{row.canonical}/{slot}") if slot else (weights, row.canonical)
            try:
                into[canonical] = tensor.to_canonical(row.layout, config)
            except ValueError as error:
                raise CorruptError(where, f"{name} cannot be of shape {list(tensor.shape)} ({error})") from None
        elif (reason := table.dropped(name)) is not None:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            unknown.append(name)
    if unknown and all(map(head, unknown)):
        dropped[f"variables of a head that is not known here ({listing(unknown)})"] = len(unknown)
    elif unknown:
        raise SpecError(
            where,
            f"holds {len(unknown)} variable{'s' if len(unknown) > 1 else ''} that the config "
            f"({config.num_hidden_groups} groups of {config.inner_group_num}) has no place for: "
            f"{listing(unknown)}",
        )
    if not weights.keys() & set(_identity_projection(config)):
        weights |= _identity(config, next((tensor.dtype for tensor in weights.values()), np.dtype(np.float32)))
    return Canonical(weights, slots, dropped, config, where)


def to_foreign(checkpoint: Checkpoint, table: NameTable) -> dict[str, Tensor]:
    """The checkpoint's tensors and optimizer slots under the file's names and in its orientation."""
    known = table.expand(checkpoint.config).by_canonical
    without = [name for name in checkpoint.tensors if name not in known]
    if without:
        raise SpecError(checkpoint.where, f"the target format has no name for {listing(without)}")
    variables = {}
    left_out = _identity_projection(checkpoint.config) if _projects_nothing(checkpoint) else ()
    for name, tensor in checkpoint.everything().items():
        if name in left_out:
            continue
        variable, slot = slot_of(name) or (name, "")
        row = known[variable]
        foreign = f"{row.foreign}/{slot}" if slot else row.foreign
        variables[foreign] = tensor.to_foreign(row.layout, checkpoint.config)
    return variables


def step_of(checkpoint: Checkpoint, prefix: str = "") -> dict[str, Tensor]:
    """The training step as a variable, where there is one; `prefix` is that of all names in the file."""
    step = checkpoint.global_step
    return {} if step is None else {prefix + STEP: Tensor.of(np.asarray(step, np.int64))}


def _identity_projection(config: EncoderConfig) -> list[str]:
    """The tensors of a projection that Google's code leaves out, where E = H, and Hugging Face's does not."""
    if config.embedding_size != config.hidden_size:
        return []
    return [name for name, item in spec.spec(config).items() if item.role == "projection"]


def _identity(config: EncoderConfig, dtype: np.dtype[Any]) -> dict[str, Tensor]:
    """The projection that does nothing."""
    size = config.hidden_size
    values: dict[int, Callable[[], Array]] = {
        2: lambda: np.eye(size, dtype=dtype),
        1: lambda: np.zeros(size, dtype),
    }
    shapes = {name: spec.spec(config)[name].shape for name in _identity_projection(config)}
    return {name: Tensor((size,) * len(shape), dtype, values[len(shape)]) for name, shape in shapes.items()}


def _projects_nothing(checkpoint: Checkpoint) -> bool:
    names = _identity_projection(checkpoint.config)
    if not names or any(f"{name}/{slot}" in checkpoint.optimizer for name in names for slot in SLOTS):
        return False
    stored = [checkpoint.tensors[name] for name in names]
    wanted = _identity(checkpoint.config, stored[0].dtype).values()
    return all(same_bits(a.read(), b.read()) for a, b in zip(stored, wanted, strict=True))
