"""Building checkpoints of every kind, sound and broken, for the tests."""

import dataclasses
import io
import json
import struct
import zipfile

import google_crc32c
import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from converters import spec
from converters.checkpoint import Checkpoint, Tensor
from converters.config import EncoderConfig
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import rebuild_model

TINY = EncoderConfig(
    vocab_size=30,
    embedding_size=6,
    hidden_size=8,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=10,
)
GROUPED = dataclasses.replace(TINY, vocab_size=23, num_hidden_groups=2, inner_group_num=2)
# Formats that TensorFlow writes, which takes seconds to import.
BY_TENSORFLOW = ("saved-model",)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Every bit pattern must survive: infinities, signed zeros, denormals, quiet and signaling NaNs with payloads.
SPECIAL = np.array(
    [0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x807FFFFF, 0x7FC00000, 0xFFC01234, 0x7F800001, 0x7F7FFFFF],
    np.uint32,
).view(np.float32)

LINES = "".join(
    f"{piece}\t{score:g}\n"
    for piece, score in [
        *((piece, 0) for piece in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "(", ")", '"', "-")),
        *((piece, -1.5 - place) for place, piece in enumerate(["▁", "▁the", "a", "b", "é", "中", "▁ab", "ing"])),
    ]
).encode()


def spiece():
    return rebuild_model(LINES, "test vocabulary")


def tokenizer():
    return TokenizerFiles.of("test", spiece=spiece(), origin="test")


def values(shape, seed, dtype=np.float32, special=False):
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if special:
        flat = array.reshape(-1)
        flat[: len(SPECIAL)] = SPECIAL[: flat.size]
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def model(
    config=TINY,
    *,
    seed=0,
    dtype=np.float32,
    without=("qa",),
    optimizer=False,
    step=7,
    files=None,
    special=False,
    also=(),
):
    """A checkpoint whose every value is random; `without` names the components left out, `also` rare ones put in."""
    shapes = {
        name: tuple(3 if size is None else size for size in item.shape)
        for name, item in spec.spec(config).items()
        if item.component not in without and not item.optional and (item.component != "squad2" or "squad2" in also)
    }
    tensors = {
        name: Tensor.of(values(shape, [seed, number], dtype, special))
        for number, (name, shape) in enumerate(shapes.items())
    }
    slots = {}
    if optimizer:
        for number, (name, shape) in enumerate(shapes.items()):
            for slot in ("adam_m", "adam_v"):
                slots[f"{name}/{slot}"] = Tensor.of(values(shape, [seed, number, len(slot), ord(slot[-1])]))
    return Checkpoint(config, tensors, tokenizer() if files is None else files, optimizer=slots, global_step=step)


def same(a, b):
    """Whether two checkpoints hold the same bits, config, tokenizer bytes and step; a word for what differs."""
    left, right = a.everything(), b.everything()
    differing = [f"only in one: {name}" for name in set(left) ^ set(right)]
    for name in set(left) & set(right):
        x, y = left[name].read(), right[name].read()
        if (x.dtype, x.shape, x.tobytes()) != (y.dtype, y.shape, y.tobytes()):
            differing.append(name)
    if a.config != b.config:
        differing.append("config")
    if (a.tokenizer.model(), a.tokenizer.lines()) != (b.tokenizer.model(), b.tokenizer.lines()):
        differing.append("tokenizer")
    if a.global_step != b.global_step:
        differing.append("global_step")
    return differing or True


# --- TensorFlow


def google_variables(config, seed=0, heads=("mlm", "sop")):
    """Names and shapes as Google's modeling.py and run_pretraining.py create them, written out here independently."""
    E, H, I = config.embedding_size, config.hidden_size, config.intermediate_size  # noqa: E741
    shapes = {
        "bert/embeddings/word_embeddings": (config.vocab_size, E),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, E),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, E),
        "bert/embeddings/LayerNorm/beta": (E,),
        "bert/embeddings/LayerNorm/gamma": (E,),
        "bert/encoder/embedding_hidden_mapping_in/kernel": (E, H),
        "bert/encoder/embedding_hidden_mapping_in/bias": (H,),
        "bert/pooler/dense/kernel": (H, H),
        "bert/pooler/dense/bias": (H,),
    }
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            layer = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
            for part, rows, columns in (
                ("attention_1/self/query", H, H),
                ("attention_1/self/key", H, H),
                ("attention_1/self/value", H, H),
                ("attention_1/output/dense", H, H),
                ("ffn_1/intermediate/dense", H, I),
                ("ffn_1/intermediate/output/dense", I, H),
            ):
                shapes[f"{layer}/{part}/kernel"] = (rows, columns)
                shapes[f"{layer}/{part}/bias"] = (columns,)
            for norm in ("LayerNorm", "LayerNorm_1"):
                shapes[f"{layer}/{norm}/beta"] = (H,)
                shapes[f"{layer}/{norm}/gamma"] = (H,)
    if "mlm" in heads:
        shapes |= {
            "cls/predictions/transform/dense/kernel": (H, E),
            "cls/predictions/transform/dense/bias": (E,),
            "cls/predictions/transform/LayerNorm/beta": (E,),
            "cls/predictions/transform/LayerNorm/gamma": (E,),
            "cls/predictions/output_bias": (config.vocab_size,),
        }
    if "sop" in heads:
        shapes |= {"cls/seq_relationship/output_weights": (2, H), "cls/seq_relationship/output_bias": (2,)}
    return {name: values(shape, [seed, number]) for number, (name, shape) in enumerate(shapes.items())}


def with_slots(variables, *slots):
    """The variables and their optimizer slots, as Google's optimizers name them."""
    extra = {
        f"{name}/{slot}": values(array.shape, [99, number, place])
        for number, (name, array) in enumerate(variables.items())
        for place, slot in enumerate(slots)
    }
    return variables | extra


def tf1_files(directory, config=TINY, lines=LINES):
    """What lies beside a checkpoint of Google's."""
    directory.mkdir(parents=True, exist_ok=True)
    google = {
        "vocab_size": config.vocab_size,
        "embedding_size": config.embedding_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_hidden_groups": config.num_hidden_groups,
        "inner_group_num": config.inner_group_num,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "initializer_range": 0.02,
        "down_scale_factor": 1,
    }
    (directory / "albert_config.json").write_text(json.dumps(google))
    if lines:
        (directory / "30k-clean.model").write_bytes(rebuild_model(lines, "test vocabulary"))
        (directory / "30k-clean.vocab").write_bytes(lines)
    return directory


def tensorflow_saver(variables, prefix, **options):
    """Write with TensorFlow's own TF1 saver, from a graph, as Google's training code does."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        made = [tf.compat.v1.get_variable(name, initializer=value, **options) for name, value in variables.items()]
        del made
        saver = tf.compat.v1.train.Saver()
        with tf.compat.v1.Session(graph=graph) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver.save(session, str(prefix))


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    """A protocol buffer field: a whole number or bytes."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def masked_crc(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


_CODES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bfloat16": 14, "float16": 19}


def bundle_entry(array, *, shard=0, offset=0, code=None, shape=None, size=None, crc=None, extra=b""):
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes()
    dims = b"".join(field(2, field(1, dim)) for dim in (array.shape if shape is None else shape))
    return (
        field(1, _CODES[array.dtype.name] if code is None else code)
        + field(2, dims)
        + (field(3, shard) if shard else b"")
        + (field(4, offset) if offset else b"")
        + field(5, len(data) if size is None else size)
        + varint(6 << 3 | 5)
        + (masked_crc(data) if crc is None else crc)
        + extra
    )


def table_block(entries, pack=None):
    """A LevelDB block (contents, compression type, CRC) of (key, value) pairs, keys prefix-compressed."""
    out, restarts, last = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % 16 == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    out += b"".join(struct.pack("<I", place) for place in restarts) + struct.pack("<I", len(restarts))
    return sealed(bytes(out), pack)


def sealed(contents, pack=None):
    """A block's contents with its compression type and CRC; `pack` compresses (Snappy)."""
    data = (pack(contents) if pack else contents) + bytes([1 if pack else 0])
    return data + masked_crc(data)


def table(blocks, handles=None, keys=None):
    """A table of sealed data blocks with the last key of each; `handles(places, end)` replaces the index's entries."""
    out, places = b"", []
    for block in blocks:
        places.append((len(out), len(block) - 5))
        out += block
    meta = len(out)
    empty = table_block([])
    out += empty
    if handles is None:
        keys = keys or [b"~"] * len(blocks)
        entries = [(key, varint(at) + varint(size)) for key, (at, size) in zip(keys, places, strict=True)]
    else:
        entries = handles(places, len(out))
    index = table_block(entries)
    footer = varint(meta) + varint(len(empty) - 5) + varint(len(out)) + varint(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def bundle_header(shards=1, endianness=0):
    return field(1, shards) + (field(2, endianness) if endianness else b"") + field(3, field(1, 1))


def write_bundle(prefix, variables, *, shards=1, change=None, pack=None, split=None):
    """A TensorFlow checkpoint by hand. `change` maps a variable's name to arguments of `bundle_entry`."""
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", bundle_header(shards))]
    for number, (name, array) in enumerate(sorted(variables.items())):
        shard = number % shards
        entries.append(
            (
                name.encode(),
                bundle_entry(array, **{"shard": shard, "offset": len(data[shard])} | (change or {}).get(name, {})),
            )
        )
        data[shard] += np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes()
    step = split or len(entries)
    parts = [entries[start : start + step] for start in range(0, len(entries), step)]
    blocks = [table_block(part, pack) for part in parts]
    prefix.with_name(prefix.name + ".index").write_bytes(table(blocks, keys=[part[-1][0] for part in parts]))
    for number, part in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{shards:05d}").write_bytes(part)


def tf1(directory, config=TINY, variables=None, **options):
    """A sound checkpoint directory of Google's, written by hand."""
    tf1_files(directory, config)
    variables = google_variables(config) | {"global_step": np.int64(7)} if variables is None else variables
    write_bundle(directory / "model.ckpt-best", {k: np.asarray(v) for k, v in variables.items()}, **options)
    return directory


# --- SavedModels, by hand (tensorflow/core/protobuf/meta_graph.proto, framework/node_def.proto)


def node(name, op, *inputs, **attributes):
    """A node of a graph; attributes are the bytes of an AttrValue."""
    return (
        field(1, name.encode())
        + field(2, op.encode())
        + b"".join(field(3, item.encode()) for item in inputs)
        + b"".join(field(5, field(1, key.encode()) + field(2, value)) for key, value in attributes.items())
    )


def constant(name, values):
    """A node that gives a float or a row of int32."""
    if isinstance(values, float):
        tensor = field(1, 1) + varint(5 << 3 | 5) + struct.pack("<f", values)
    else:
        tensor = field(1, 3) + field(4, struct.pack(f"<{len(values)}i", *values))
    return node(name, "Const", value=field(8, tensor))


def function(name, arguments, *nodes):
    signature = field(1, name.encode()) + b"".join(field(2, field(1, item.encode())) for item in arguments)
    return field(1, signature) + b"".join(field(3, item) for item in nodes)


def call(name, callee, *inputs):
    return node(name, "StatefulPartitionedCall", *inputs, f=field(10, field(1, callee.encode())))


def saved_model_pb(nodes, functions=(), output="out", signature="tokens", tags=()):
    """The bytes of a `saved_model.pb` whose one signature gives the named node's output."""
    library = b"".join(field(1, item) for item in functions)
    graph = b"".join(field(1, item) for item in nodes) + (field(2, library) if library else b"")
    outputs = field(2, field(1, b"sequence_output") + field(2, field(1, f"{output}:0".encode())))
    meta = (
        field(1, b"".join(field(4, tag.encode()) for tag in tags))
        + field(2, graph)
        + field(5, field(1, signature.encode()) + field(2, outputs))
    )
    return field(1, 1) + field(2, meta)


def google_nodes(config, module=""):
    """Of the graph of Google's module, what tells layers and heads: each layer reads, reshapes the query's kernel."""
    nodes, last = [constant("shape", [config.hidden_size, config.num_attention_heads, config.head_size])], "ids"
    kernel = f"{module}bert/encoder/transformer/group_%d/inner_group_0/attention_1/self/query/kernel"
    nodes += [node(kernel % group, "VarHandleOp") for group in range(config.num_hidden_groups)]
    for layer in range(config.num_hidden_layers):
        nodes += [
            node(f"layer_{layer}/read", "ReadVariableOp", kernel % config.group_of(layer)),
            node(f"layer_{layer}/reshape", "Reshape", f"layer_{layer}/read", "shape"),
            node(f"layer_{layer}", "Einsum", last, f"layer_{layer}/reshape:0"),
        ]
        last = f"layer_{layer}"
    nodes += [constant("gelu", 0.044715), constant("epsilon", 1e-12)]
    nodes += [node("sum", "AddV2", last, "epsilon"), node("root", "Rsqrt", "sum")]
    return [*nodes, node("out", "Mul", "root", "gelu"), node("saved", "ReadVariableOp", kernel % 0)]


def hub_module(directory, config=TINY, *, variables=None, graph=None, module=""):
    """A TF1 module like Google's, by hand: no config in it."""
    (directory / "variables").mkdir(parents=True)
    (directory / "assets").mkdir()
    (directory / "assets" / "30k-clean.model").write_bytes(spiece())
    (directory / "tfhub_module.pb").write_bytes(field(1, 3))
    variables = google_variables(config) if variables is None else variables
    write_bundle(directory / "variables/variables", {f"{module}{name}": item for name, item in variables.items()})
    pb = saved_model_pb(google_nodes(config, module)) if graph is None else graph
    (directory / "saved_model.pb").write_bytes(pb)
    return directory


def keras_variables(config=TINY):
    """A TF2 module's variables: by number in the bundle, named in its graph of objects."""
    E, H, I, A = config.embedding_size, config.hidden_size, config.intermediate_size, config.num_attention_heads  # noqa: E741
    shapes = {
        "word_embeddings/embeddings": (config.vocab_size, E),
        "position_embedding/embeddings": (config.max_position_embeddings, E),
        "type_embeddings/embeddings": (config.type_vocab_size, E),
        "embeddings/layer_norm/gamma": (E,),
        "embeddings/layer_norm/beta": (E,),
        "embedding_projection/kernel": (E, H),
        "embedding_projection/bias": (H,),
        **{f"transformer/self_attention/{part}/kernel": (H, A, H // A) for part in ("query", "key", "value")},
        **{f"transformer/self_attention/{part}/bias": (A, H // A) for part in ("query", "key", "value")},
        "transformer/self_attention/attention_output/kernel": (A, H // A, H),
        "transformer/self_attention/attention_output/bias": (H,),
        "transformer/intermediate/kernel": (H, I),
        "transformer/intermediate/bias": (I,),
        "transformer/output/kernel": (I, H),
        "transformer/output/bias": (H,),
        **{
            f"transformer/{part}_layer_norm/{item}": (H,)
            for part in ("self_attention", "output")
            for item in ("gamma", "beta")
        },
        "pooler_transform/kernel": (H, H),
        "pooler_transform/bias": (H,),
    }
    return {name: values(shape, number) for number, (name, shape) in enumerate(shapes.items())}


def text_entry(data, offset):
    """The bytes of one string as TensorFlow stores it, and its entry in the index (tensor_bundle.cc)."""
    start = masked_crc(struct.pack("<I", len(data)))
    crc = google_crc32c.value(struct.pack("<I", len(data)) + start + data)
    masked = struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    stored = varint(len(data)) + start + data
    entry = field(1, 7) + field(2, b"") + field(4, offset) + field(5, len(stored)) + varint(6 << 3 | 5) + masked
    return stored, entry


def keras_module(directory, arrays=None, *, names=None, objects=None, graph=None):
    """A TF2 module by hand; `objects` replaces the bytes of its graph of objects."""
    arrays = keras_variables() if arrays is None else arrays
    keys = {name: f"variables/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number, name in enumerate(arrays)}
    if objects is None:
        objects = b"".join(
            field(
                1,
                field(
                    2,
                    field(1, b"VARIABLE_VALUE")
                    + field(2, (names or {}).get(name, name).encode())
                    + field(3, key.encode()),
                ),
            )
            for name, key in keys.items()
        )
    (directory / "variables").mkdir(parents=True)
    data, entries = bytearray(), [(b"", bundle_header())]
    stored, entry = text_entry(objects, 0)
    data += stored
    entries.append((b"_CHECKPOINTABLE_OBJECT_GRAPH", entry))
    for name, key in sorted(keys.items(), key=lambda item: item[1]):
        entries.append((key.encode(), bundle_entry(arrays[name], offset=len(data))))
        data += arrays[name].tobytes()
    (directory / "variables/variables.index").write_bytes(table([table_block(entries)]))
    (directory / "variables/variables.data-00000-of-00001").write_bytes(data)
    if graph is None:
        query = "transformer/self_attention/query/kernel"
        layer = function("layer", ["x", "kernel"], node("read", "ReadVariableOp", "kernel"))
        calls = [call(f"call_{number}", "layer", "x", "kernel") for number in range(4)]
        graph = saved_model_pb(
            [node(query, "VarHandleOp"), call("out", "model", "ids", query)],
            [layer, function("model", ["x", "kernel"], *calls)],
            signature="serving_default",
        )
    (directory / "saved_model.pb").write_bytes(graph)
    return directory


def snappy(data, copy4=False):
    """Compress with Snappy (greedy): literals and copies of all three forms, overlapping ones too."""
    out, position, plain = bytearray(varint(len(data))), 0, bytearray()

    def flush():
        if plain:
            length = len(plain) - 1
            out.extend(bytes([length << 2]) if length < 60 else bytes([61 << 2]) + struct.pack("<H", length))
            out.extend(plain)
            plain.clear()

    while position < len(data):
        found = data.rfind(data[position : position + 4], 0, position + 3) if position + 4 <= len(data) else -1
        if found < 0:
            plain.append(data[position])
            position += 1
            continue
        flush()
        distance, length = position - found, 4
        while length < 64 and position + length < len(data) and data[found + length] == data[position + length]:
            length += 1
        if copy4:
            out.extend(bytes([(length - 1) << 2 | 3]) + struct.pack("<I", distance))
        elif length < 12 and distance < 2048:
            out.extend(bytes([(distance >> 8) << 5 | (length - 4) << 2 | 1, distance & 255]))
        else:
            out.extend(bytes([(length - 1) << 2 | 2]) + struct.pack("<H", distance))
        position += length
    flush()
    return bytes(out)


# --- safetensors and npz


def safetensors_bytes(header, data=b"", *, length=None):
    """A safetensors file of any header (an object, or bytes as they are)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def npy_bytes(array, *, fortran=False, header=None):
    """One .npy file; `header` replaces entries of its header."""
    out = io.BytesIO()
    described = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": fortran, "shape": array.shape}
    npy.write_array_header_1_0(out, described | (header or {}))
    out.write(array.tobytes("F" if fortran else "C"))
    return out.getvalue()


def npz_members(config=TINY, *, seed=0, rows=True):
    """The members of our .npz, made independently: Google's variables, transposed (vectors as 1 x n)."""
    google = json.dumps(
        {
            "vocab_size": config.vocab_size,
            "embedding_size": config.embedding_size,
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_hidden_groups": config.num_hidden_groups,
            "inner_group_num": config.inner_group_num,
            "num_attention_heads": config.num_attention_heads,
            "intermediate_size": config.intermediate_size,
            "max_position_embeddings": config.max_position_embeddings,
            "hidden_act": "gelu",
        }
    )
    members = {"config": np.frombuffer(google.encode(), np.uint8), "vocab": np.frombuffer(LINES.strip(), np.uint8)}
    for name, array in google_variables(config, seed).items():
        members[f"weights/{name}"] = array.T if array.ndim == 2 else array.reshape(1, -1) if rows else array
    return members


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    """An archive of (name, bytes) pairs, whatever the names."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)


def write_npz(path, members, **options):
    write_zip(path, [(f"{name}.npy", npy_bytes(array)) for name, array in members.items()], **options)


# --- BSON, laid out by hand after bsonspec.org and BSON.jl's write.jl and extensions.jl


class Plain(bytes):
    """The bytes of a BSON value as they are, of the kind that its first byte says."""


def bson_document(pairs):
    """A BSON document of (key, value) pairs or of a dict; whole numbers are Julia's Int64."""
    body = b"".join(bson_element(*pair) for pair in (pairs.items() if isinstance(pairs, dict) else pairs))
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def bson_element(key, value):
    name = key if isinstance(key, bytes) else key.encode()
    if isinstance(value, Plain):
        return value[:1] + name + b"\0" + value[1:]
    if value is None:
        kind, data = 10, b""
    elif isinstance(value, bool):
        kind, data = 8, bytes([value])
    elif isinstance(value, int):
        kind, data = 18, struct.pack("<q", value)
    elif isinstance(value, float):
        kind, data = 1, struct.pack("<d", value)
    elif isinstance(value, str):
        kind, data = 2, struct.pack("<i", len(value.encode()) + 1) + value.encode() + b"\0"
    elif isinstance(value, bytes):
        kind, data = 5, struct.pack("<i", len(value)) + b"\0" + value
    elif isinstance(value, list):
        kind, data = 4, bson_document((str(place), item) for place, item in enumerate(value))
    else:
        kind, data = 3, bson_document(value)
    return bytes([kind]) + name + b"\0" + data


def julia_type(*name, params=()):
    return {"tag": "datatype", "params": list(params), "name": list(name)}


def julia_array(array, main=()):
    """An array of numbers as Julia's writer lays it out, given in Julia's shape."""
    names = {"float32": "Float32", "float64": "Float64", "float16": "Float16", "int64": "Int64", "uint8": "UInt8"}
    kind = julia_type(*main, "Core", names.get(array.dtype.name, "Int32"))
    return {"tag": "array", "type": kind, "size": list(array.shape), "data": array.tobytes("F")}


def julia_dict(items, value_type, main=()):
    kind = julia_type(*main, "Base", "Dict", params=[julia_type(*main, "Core", "String"), value_type])
    return {"tag": "struct", "type": kind, "data": [list(items), list(items.values())]}


def backref(number):
    return {"tag": "backref", "ref": number}


def julia_members(config=TINY, *, seed=0, rows=True, main=("Main",), step=7, lines=LINES):
    """What `BSON.@save file config weights vocab` writes of Google's model (vectors as 1 x n unless not `rows`).

    Julia shares every type that is no plain number and stands twice: `Any`, `TypeVar` and the two variables of `Array`
    are backrefs.
    """
    arrays = npz_members(config, seed=seed, rows=rows)
    settings = json.loads(arrays["config"].tobytes()) | {"filename": "albert_base_v1"}
    weights = {name.removeprefix("weights/"): array for name, array in arrays.items() if name.startswith("weights/")}
    weights["global_step"] = np.array(step, np.int64)
    body = julia_type(*main, "Core", "Array", params=[backref(3), backref(1)])
    array_type = {"tag": "unionall", "body": {"tag": "unionall", "body": body, "var": backref(1)}, "var": backref(3)}
    variables = [
        {
            "tag": "struct",
            "type": backref(4),
            "data": [{"tag": "symbol", "name": name}, {"tag": "jl_bottom_type"}, any_],
        }
        for name, any_ in (("N", backref(2)), ("T", backref(2)))
    ]
    return {
        "vocab": lines.decode().splitlines(),
        "weights": julia_dict({name: julia_array(array, main) for name, array in weights.items()}, array_type, main),
        "_backrefs": [
            variables[0],
            julia_type(*main, "Core", "Any"),
            variables[1],
            julia_type(*main, "Core", "TypeVar"),
        ],
        "config": julia_dict(settings, backref(2), main),
    }


def write_bson(path, members):
    path.write_bytes(bson_document(members))


def teacher(folder):
    """A small BERT with a WordPiece list of letters, as sentence-transformers lays it out, in the folder."""
    import torch
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:'"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(tokens), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
