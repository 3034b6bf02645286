"""PyTorch's own files, as it writes them today and as it did before 1.6."""

import json
import os
import zipfile
from collections import OrderedDict

import making
import torch
from hypothesis import strategies as st
from torch._utils import _rebuild_tensor_v2

from converters import convert
from corruptions import Corruption, Fuzz, Series

FILE = "pytorch_model.bin"
WORDS = "albert.embeddings.word_embeddings.weight"
POOLER = "albert.pooler.weight"
SHRINKS = (lambda source: os.truncate(source / FILE, 2000), "became shorter while it was read, inside tensor")


def make(folder):
    convert.save(making.model(), folder / "hf", format="torch")
    return folder / "hf"


def state_dict(path):
    return torch.load(path, weights_only=True)


def change(path, alter, **options):
    """Save a state dict again after `alter(state)`, which may return another one."""
    state = state_dict(path)
    torch.save(alter(state) or state, path, **options)


def legacy(path, alter=lambda state: None):
    """As PyTorch before 1.6 wrote it."""
    change(path, alter, _use_new_zipfile_serialization=False)


def shard(source):
    """The model in two shards with an index."""
    state = state_dict(source / FILE)
    (source / FILE).unlink()
    names, weight_map = list(state), {}
    for number, group in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in group}, source / file)
        weight_map |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (source / f"{FILE}.index.json").write_text(json.dumps(index))


def changed(alter, **options):
    return lambda source: change(source / FILE, alter, **options)


def pooler(made):
    """Another value for the pooler, made when it is wanted."""
    return changed(lambda state: state.update({POOLER: made()}))


def stored(value):
    return lambda source: torch.save(value, source / FILE)


def members(source):
    with zipfile.ZipFile(source / FILE) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def archived(alter, compression=zipfile.ZIP_STORED):
    """The archive after `alter(members)`."""
    return lambda source: making.write_zip(source / FILE, alter(members(source)), compression)


def corruptions():
    yield from _tensors()
    yield from _others()
    yield from _archives()
    yield from _shards()


# --- tensors


class Rebuilt:
    """Is pickled as a tensor of any shape over any storage."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return _rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


def beyond(first, shape, strides):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.ones(64).untyped_storage(), dtype=torch.float32, _internal=True
    )
    return Rebuilt(storage, first, shape, strides)


def _tensors():
    for first, shape, strides in (
        (0, (10**6, 10**6), (10**6, 1)),
        (0, (8, 8), (9, 1)),
        (1, (8, 8), (8, 1)),
        (2**40, (8, 8), (8, 1)),
        (0, (8, 8), (2**40, 1)),
    ):
        yield Corruption(
            f"a tensor beyond its storage: {first}, {shape}, {strides}",
            pooler(lambda first=first, shape=shape, strides=strides: beyond(first, shape, strides)),
            f"$file: tensor {POOLER} of shape {list(shape)} reaches beyond the 256 bytes of its storage",
        )
    for what, made in (
        ("sparse", lambda: torch.eye(8).to_sparse()),
        ("complex64", lambda: torch.ones(8, 8, dtype=torch.complex64)),
        ("int32", lambda: torch.ones(8, 8, dtype=torch.int32)),
        ("float32 with the mark 'neg'", lambda: torch._neg_view(torch.ones(8, 8))),
    ):
        yield Corruption(
            f"a tensor of another kind: {what}",
            pooler(made),
            f"$file: tensor {POOLER} is {what}, not plainly one of float32, float16, bfloat16, float64, int64",
        )
    yield Corruption(
        "a tensor without values",
        pooler(lambda: torch.ones(8, 8, device="meta")),
        f"$file: tensor {POOLER} has no values in the file",
    )
    for order in (b"big", b"odd"):  # as PyTorch writes on s390x
        yield Corruption(
            f"the byte order {order.decode()}",
            archived(lambda members, order=order: (dict(members) | {"archive/byteorder": order}).items()),
            "$file: written on a machine of another byte order; save it again on a usual one",
        )
    yield Corruption(
        "names with a line break",
        changed(lambda state: {"\n" + name: tensor for name, tensor in state.items()}),
        "<any>tensors unknown: \\nalbert.<any>",
    )


# --- other things than a state dict


def _others():
    nested = {"model_state_dict": {"a": torch.ones(2)}, "epoch": 3}
    for value, said in (
        ([1, 2], "holds a list, not tensors by name; save a model's state_dict()"),
        ({}, "holds a dict, not tensors by name; save a model's state_dict()"),
        (torch.ones(2), "holds a Tensor, not tensors by name; save a model's state_dict()"),
        ({"epoch": 3}, "'epoch' is a int, not a tensor"),
        ({3: torch.ones(2)}, "3 is a Tensor, not a tensor"),
        (nested, "'model_state_dict' is a dict, not a tensor; if the model is in 'model_state_dict', save that alone"),
    ):
        yield Corruption(f"something else: {value!r:.30}", stored(value), f"$file: {said}")
    yield Corruption(
        "a step that is none",
        changed(lambda state: state.__dict__.update(_metadata={"": {"global_step": "soon"}})),
        "$source: global_step in the metadata is 'soon', not a whole number",
    )
    yield Corruption(
        "slots that are none",
        lambda source: torch.save({"state": torch.ones(1)}, source / "optimizer_slots.bin"),
        "$source/optimizer_slots.bin: state is no optimizer slot (variable/adam_m)",
    )


# --- archives


def _changed_value(source):
    with zipfile.ZipFile(source / FILE) as archive:
        place = archive.getinfo("archive/data/0").header_offset + 200
    content = bytearray((source / FILE).read_bytes())
    content[place] ^= 1
    (source / FILE).write_bytes(content)


def _archives():
    yield Corruption(
        "a changed value",
        _changed_value,
        f"$file: tensor {WORDS} is damaged (its CRC-32 does not match)",
        "convert",
    )
    # Ten gigabytes of zeros in ten megabytes would be a bomb; a packed member is enough to be refused.
    yield Corruption(
        "a packed member",
        archived(lambda members: [(members[0][0], members[0][1] + bytes(10**7)), *members[1:]], zipfile.ZIP_DEFLATED),
        "$file: member 'archive/data.pkl' is packed or encrypted, where PyTorch stores plain copies",
    )
    yield Corruption(
        "a member twice", archived(lambda members: [*members, members[4]]), "$file: member 'archive/<any>' occurs twice"
    )
    yield Corruption(
        "no pickle",
        archived(lambda members: [member for member in members if not member[0].endswith(".pkl")]),
        "$file: not a sound PyTorch file (<any>",
    )
    yield Corruption(
        "a huge pickle",
        archived(lambda members: [("archive/data.pkl", bytes(2**26 + 1)), *members[1:]]),
        f"$file: member 'archive/data.pkl' has {2**26 + 1} bytes, which no list of tensors takes",
    )


# --- shards


def _shards():
    index, second = f"{FILE}.index.json", "pytorch_model-00002-of-00002.bin"

    def missing(source):
        shard(source)
        (source / second).unlink()

    def elsewhere(source):
        shard(source)
        data = json.loads((source / index).read_text())
        data["weight_map"][WORDS] = "../x.bin"
        (source / index).write_text(json.dumps(data))

    yield Corruption("a missing shard", missing, f"$source: the shard {second} that {index} names is missing")
    yield Corruption(
        "a shard elsewhere", elsewhere, f"$source/{index}: names the shard '../x.bin', which is not a plain file name"
    )


# --- many of a kind


def _old(source):
    legacy(source / FILE)


VERSIONS = {"zip": lambda source: None, "before 1.6": _old}


def series():
    def truncated(sound):
        for size in sorted({0, 1, 3, 4, *range(1, len(sound), len(sound) // 40), len(sound) - 1}):
            yield sound[:size], "$file: <any>"

    for version, prepare in VERSIONS.items():
        yield Series(f"truncated ({version})", truncated, prepare)


def fuzzes():
    def damage(source, changes):
        whole = (source / FILE).read_bytes()
        content = bytearray(whole)
        for place, data in changes:
            content[place % len(whole) : place % len(whole) + len(data)] = data
        (source / FILE).write_bytes(content[: len(whole)])

    for version, prepare in VERSIONS.items():
        # The pickle comes first.
        place = st.integers(0, 900 if version == "before 1.6" else 4000) | st.integers(0, 2**15)
        changes = st.lists(st.tuples(place, st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)
        yield Fuzz(f"changed bytes ({version})", changes, damage, prepare=prepare)
