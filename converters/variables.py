"""Between a file's own variables and canonical tensors, by one NameTable; shared by every format with foreign names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters import spec
from converters.checkpoint import Checkpoint, Tensor, same_bits
from converters.config import EncoderConfig
from converters.errors import CorruptError, SpecError
from converters.families import family_of
from converters.messages import counted, listing
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
        elif (reason := table.dropped(name) or _foreign_slot(name, variables, known)) is not None:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            unknown.append(name)
    if unknown and all(map(head, unknown)):
        dropped[f"variables of a head that is not known here ({listing(unknown)})"] = len(unknown)
    elif unknown:
        raise SpecError(
            where,
            f"holds {counted(unknown, 'variable')} that the config ({_layers(config)}) has no place for: "
            f"{listing(unknown)}",
        )
    identity = _identity(config, next((tensor.dtype for tensor in weights.values()), np.dtype(np.float32)))
    if not weights.keys() & identity.keys():
        weights |= identity
    return Canonical(weights, slots, dropped, config, where)


def to_foreign(checkpoint: Checkpoint, table: NameTable) -> dict[str, Tensor]:
    """The checkpoint's tensors and optimizer slots under the file's names and in its orientation."""
    known = table.expand(checkpoint.config).by_canonical
    without = [name for name in checkpoint.tensors if name not in known]
    if without:
        raise SpecError(
            checkpoint.where, f"the target format has no name for {listing(without)}; choose another format"
        )
    variables = {}
    left_out = _left_out(checkpoint)
    for name, tensor in checkpoint.everything().items():
        if name in left_out:
            continue
        variable, slot = slot_of(name) or (name, "")
        row = known[variable]
        foreign = f"{row.foreign}/{slot}" if slot else row.foreign
        variables[foreign] = tensor.to_foreign(row.layout, checkpoint.config)
    return variables


def components_of(names: Iterable[str], config: EncoderConfig) -> list[str]:
    """The component of a checkpoint of Google's with these variables that tells which of its models they are.

    Empty for a family whose checkpoints hold one model. Where there are several, the first of them counts.
    """
    names = list(names)
    parts = family_of(config).parts
    present = [part.component for part in parts if any(name.startswith(part.own) for name in names)]
    return present[:1]


def _foreign_slot(name: str, variables: Mapping[str, Tensor], known: Collection[str]) -> str | None:
    """Why a variable below one of the model's, of its shape, is left out: an optimizer's, or an average of values."""
    variable, _, slot = name.rpartition("/")
    if variable in known and variable in variables and variables[name].shape == variables[variable].shape:
        return f"what training kept of each weight ({slot})"
    return None


def modernised(
    variables: Mapping[str, Tensor],
    legacy: Mapping[str, str],
    where: str,
    slots: str = "/",
    transposed: Collection[str] = (),
) -> dict[str, Tensor]:
    """The variables, and their optimizer slots, by today's names; `legacy`: patterns of old ones, and what they became.

    `transposed`: the old names of matrices that are turned as well. SpecError where a tensor is there under both.
    """
    renamed: dict[str, Tensor] = {}
    olds: dict[str, str] = {}
    for old, tensor in variables.items():
        variable, slot = slot_of(old, slots) or (old, "")
        turned = variable in transposed
        variable = modern_name(variable, legacy)
        name = f"{variable}{slots}{slot}" if slot else variable
        if name in renamed:
            raise SpecError(where, f"holds both {listing([olds[name], old])}, names of one tensor; remove one")
        renamed[name], olds[name] = tensor.transposed if turned else tensor, old
    return renamed


def modern_name(name: str, legacy: Mapping[str, str]) -> str:
    """Today's name of what has an old one."""
    for pattern, new in legacy.items():
        if match := re.fullmatch(pattern, name):
            name = match.expand(new)
    return name


def _layers(config: EncoderConfig) -> str:
    if not spec.may_share(config) or (config.shared == "none" and config.inner_group_num == 1):
        return counted(range(config.num_hidden_layers), "layer")
    return f"{config.num_hidden_groups} groups of {config.inner_group_num}"


def step_of(checkpoint: Checkpoint, prefix: str = "") -> dict[str, Tensor]:
    """The training step as a variable, where there is one; `prefix` is that of all names in the file."""
    step = checkpoint.global_step
    return {} if step is None else {prefix + STEP: Tensor.of(np.asarray(step, np.int64))}


def _identity(config: EncoderConfig, dtype: np.dtype[Any]) -> dict[str, Tensor]:
    """The projection that does nothing: Google's code leaves it out where E = H, and Hugging Face's does not.

    Empty for a model that has none, or has another one.
    """
    size = config.hidden_size
    if config.embedding_size != size:
        return {}
    names = [name for name, item in spec.spec(config).items() if item.role == "projection"]
    matrix = Tensor((size, size), dtype, lambda: np.eye(size, dtype=dtype))
    bias = Tensor((size,), dtype, lambda: np.zeros(size, dtype))
    return {name: matrix if name.endswith(".weight") else bias for name in names}


def _left_out(checkpoint: Checkpoint) -> Collection[str]:
    """The tensors of a projection that does nothing, which Google's files lack; none if they have optimizer slots."""
    dtype = next(iter(checkpoint.tensors.values())).dtype
    identity = _identity(checkpoint.config, dtype)
    if any(f"{name}/{slot}" in checkpoint.optimizer for name in identity for slot in SLOTS):
        return ()
    stored = checkpoint.tensors
    return identity if all(same_bits(stored[name].read(), item.read()) for name, item in identity.items()) else ()
