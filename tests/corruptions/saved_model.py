"""SavedModels: their graph, their Keras settings, and their variables."""

import os
import shutil

import making
from hypothesis import strategies as st
from making import GROUPED, TINY, call, field, function, keras_module, keras_variables, node, saved_model_pb

from corruptions import Corruption, Fuzz, Series, cuts

FILE = "saved_model.pb"
QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
WORDS = "bert/embeddings/word_embeddings"
UNSOUND = "$file: not a sound SavedModel"
DATA = "variables/variables.data-00000-of-00001"


def asked(*sizes):
    return (
        f"$source: neither its variables nor its graph give {', '.join(sizes)}; give it with --model-config FILE<any>"
    )


def make(folder):
    return making.hub_module(folder / "module")


def graph(data):
    """Another graph, or bytes in its place."""
    return lambda source: (source / FILE).write_bytes(data)


def module(*positional, **options):
    """Another module of TF1."""

    def damage(source):
        shutil.rmtree(source)
        making.hub_module(source, *positional, **options)

    return damage


def keras(*positional, metadata=None, **options):
    """A module of TF2 in its place, with the bytes of its Keras settings."""

    def damage(source):
        shutil.rmtree(source)
        keras_module(source, *positional, **options)
        if metadata is not None:
            (source / "keras_metadata.pb").write_bytes(metadata)

    return damage


def corruptions():
    yield from _files()
    yield from _functions()
    yield from _graphs()
    yield from _keras()
    yield from _variables()
    yield from _objects()


# --- the graph's file


def _files():
    yield Corruption(
        "no graph",
        lambda source: (source / FILE).unlink(),
        "$source: no saved_model.pb beside the variables; copy the whole module",
        "convert",
    )
    for name, data, why in (
        ("empty", b"", "no graph in it"),
        ("zeros", b"\0" * 100, "no graph in it"),
        ("ones", b"\xff" * 100, "a number of more than 64 bits"),
        ("an archive", b"PK\3\4 an archive", "a field of wire type 3"),
        ("cut short", b"\x12\x02\x0a\x7f", "a field beyond the end of its message"),
    ):
        yield Corruption(f"another kind of file: {name}", graph(data), f"{UNSOUND} ({why})", "convert")

    def huge(source):
        with open(source / FILE, "r+b") as file:
            file.truncate(2**28)

    yield Corruption("a huge graph", huge, "$file: larger than 32 MiB, so not the small file it should be")
    many_nodes = b"".join(field(1, field(1, b"%d" % number)) for number in range(140_000))
    for name, data, fault in (  # many times their bytes would they take in memory
        ("functions", field(2, field(2, field(1, b"") * 200_000)), "two nodes of the name ''"),
        ("nodes", field(2, field(2, many_nodes)), "a graph of more than 131072 nodes"),
        ("fields", field(2, field(2, b"\x08\0" * 2_000_000)), "a message of more than 1048576 fields"),
    ):
        yield Corruption(f"endless {name}", graph(data), f"{UNSOUND} ({fault})")

    def pipe(source):
        (source / FILE).unlink()
        os.mkfifo(source / FILE)

    yield Corruption("a pipe for a graph", pipe, "$file: a pipe or device, not a regular file")
    for tag in (1, 2, 5, 7):  # none is followed further than what is looked for there
        yield Corruption(
            f"messages of tag {tag} in one another", nested(tag), asked("num_hidden_layers", "num_attention_heads")
        )


def nested(tag):
    def damage(source):
        bomb = b""
        for _ in range(20_000):
            bomb = field(tag, bomb)
        (source / FILE).write_bytes(field(2, bomb))

    return damage


# --- its functions


def functions_that_double(levels):
    """Each calls the next one twice: 2**levels reads from a few bytes."""
    calls = [
        function(f"f{level}", ["kernel"], *(call(f"c{number}", f"f{level + 1}", "kernel") for number in range(2)))
        for level in range(levels)
    ]
    return [*calls, function(f"f{levels}", ["kernel"], node("read", "ReadVariableOp", "kernel"))]


def functions_in_a_chain(levels):
    calls = [function(f"f{level}", ["kernel"], call("c", f"f{level + 1}", "kernel")) for level in range(levels)]
    return [*calls, function(f"f{levels}", ["kernel"], node("read", "ReadVariableOp", "kernel"))]


def _functions():
    asked_for = asked("num_hidden_layers", "num_attention_heads")
    endless = f"{UNSOUND} (its functions call one another without end)"
    calls_itself = [function("f0", ["kernel"], call("c", "f0", "kernel"))]
    each_other = [function("f0", ["k"], call("c", "f1", "k")), function("f1", ["k"], call("c", "f0", "k"))]
    missing = [function("f0", ["k"], call("c", "f9", "k"))]
    ring = [function("f0", ["k"], node("a", "Identity", "k", "a"))]
    for name, functions, said in (
        ("a function that calls itself", calls_itself, endless),
        ("two that call each other", each_other, endless),
        ("a chain of functions", functions_in_a_chain(5000), endless),
        ("a function that is missing", missing, f"{UNSOUND} (function f9 is called and missing)"),
        ("more arguments", [function("f0", [])], f"{UNSOUND} (function f0 is given more than it takes)"),
        ("endlessly many reads", functions_that_double(60), asked_for),
        ("a loop", [function("f0", ["k"], node("while", "While", "k"))], asked_for),
        ("no read at all", [function("f0", ["k"])], asked_for),
        ("identities in a ring", ring, endless),
    ):
        top = [node(QUERY, "VarHandleOp"), call("out", "f0", QUERY)]
        yield Corruption(f"functions: {name}", graph(saved_model_pb(top, functions)), said, seconds=2)


# --- what it tells


def _graphs():
    layers_and_heads = asked("num_hidden_layers", "num_attention_heads")
    other_heads = [
        node(QUERY, "VarHandleOp"),
        node("read", "ReadVariableOp", QUERY),
        making.constant("shape", [8, 3, 2]),
        node("out", "Reshape", "read", "shape"),
    ]
    ring = [node("out", "Mul", "other"), node("other", "Mul", "out")]
    # Two copies of two copies of …: each is counted once.
    ways = [node(QUERY, "VarHandleOp")]
    for number in range(60):
        before = QUERY if not number else f"i{number - 1}"
        ways.append(node(f"i{number}", "Identity", before, before))
    ways.append(node("out", "ReadVariableOp", "i59"))
    nodes = making.google_nodes(TINY)
    for name, data, said in (
        ("no signature", saved_model_pb(nodes, signature="__saved_model_init_op"), layers_and_heads),
        ("an output that is no node", saved_model_pb(nodes, output="elsewhere"), layers_and_heads),
        ("nodes in a ring", saved_model_pb(ring), layers_and_heads),
        ("2^60 ways to one read", saved_model_pb(ways), layers_and_heads),
        ("another layout of heads", saved_model_pb(other_heads), asked("num_attention_heads")),
    ):
        yield Corruption(f"a graph that tells nothing: {name}", graph(data), said)
    # No ALBERT uses its first group three times and its second once.
    kernels = [QUERY, QUERY.replace("group_0/inner", "group_1/inner")]
    odd = [
        item.replace(kernels[1].encode(), kernels[0].encode()) if b"layer_2/read" in item else item
        for item in making.google_nodes(GROUPED)
    ]
    yield Corruption(
        "groups that are applied unevenly",
        module(GROUPED, graph=saved_model_pb(odd)),
        asked("num_hidden_layers"),
    )


# --- Keras settings


def _keras():
    def metadata(data):
        return field(1, field(5, data))

    yield Corruption(
        "Keras and a graph that disagree",
        keras(metadata=metadata(b'{"num_layers": 6, "num_attention_heads": 2}')),
        asked("num_hidden_layers"),
    )
    names = b'"num_layers" "num_attention_heads"'
    for name, data, said in (
        ("no message", b"\xff", f"{UNSOUND} (index out of range<any>"),
        ("no JSON", metadata(names), f"{UNSOUND} (is not JSON: Extra data<any>"),
        ("endless lists", metadata(b"[" * 100_000 + names), f"{UNSOUND} (<any>"),
        (
            "texts for numbers",
            metadata(b'{"num_layers": "x", "num_attention_heads": 2, "dropout_rate": "much"}'),
            "$source: hidden_dropout_prob is 'much'<any>",
        ),
    ):
        yield Corruption(f"settings of Keras: {name}", keras(metadata=data), said)


# --- variables


def _variables():
    yield Corruption(
        "no variables",
        lambda source: shutil.rmtree(source / "variables"),
        "$source: no variables/variables.index, so a SavedModel without variables, no model of a family here",
        "convert",
    )
    yield Corruption(
        "no variable in them",
        module(variables={}),
        "$source: no tensors of a known family (albert, bert, electra, roberta); it holds none",
    )
    yield Corruption(
        "variables cut short",
        lambda source: (source / DATA).write_bytes((source / DATA).read_bytes()[:-1]),
        f"$source/{DATA}: truncated; tensor <any>",
        "convert",
    )
    yield Corruption(
        "variables without their data",
        lambda source: (source / DATA).unlink(),
        f"$source/{DATA}: missing; the index names 1 data file",
        "convert",
    )
    names = ["EncoderDNN/DNN/ResidualHidden_0/dense/kernel", "Embeddings/sharded_0"]
    yield Corruption(
        "another model's variables",
        module(variables={name: making.values((3, 4), 1) for name in names}),
        f"$source: no tensors of a known family (albert, bert, electra, roberta); it holds {names[1]}, {names[0]}",
    )
    google = making.google_variables(TINY)
    for name in ("bert/encoder/layer_0/attention/self/key/kernel", "transformer/layer_0/output/bias"):
        yield Corruption(
            f"a BERT's beside an ALBERT's: {name}",
            module(variables=google | {name: making.values((8,), 1)}),
            "$source: the tensors may be those of albert or bert<any>",
        )
    yield Corruption(
        "an early albert_zh",
        module(variables=google | {f"{WORDS}_2": making.values((8,), 1)}),
        "<any>an early community albert_zh checkpoint<any>",
    )
    extra = {"something/else": making.values((2, 3), 1), "and/more": making.values((2,), 2)}
    for kind, damage, listed in (
        ("TF1", module(variables=google | extra), "and/more, something/else"),
        ("TF2", keras(keras_variables() | extra), "something/else, and/more"),
    ):
        yield Corruption(
            f"unknown variables of {kind}",
            damage,
            f"$source: holds 2 variables that the config (1 groups of 1) has no place for: {listed}",
            "convert",
        )
    without = {name: array for name, array in keras_variables().items() if "transformer/output/" not in name}
    yield Corruption("missing variables", keras(without), "<any>2 tensors missing: albert.encoder.<any>")
    arrays = dict(google)
    del arrays["bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"]
    arrays[WORDS] = arrays[WORDS].reshape(-1)
    yield Corruption(
        "missing variables that tell sizes",
        module(variables=arrays),
        asked("embedding_size", "intermediate_size"),
    )
    value = "transformer/self_attention/value"
    output = "transformer/self_attention/attention_output/kernel"
    for name, variable, shape, said in (
        (
            "heads of another size",
            f"{value}/kernel",
            (8, 4, 2),
            f"$source: {value}/kernel cannot be of shape [8, 4, 2] (2 heads of 8 make it [8, 2, 4])",
        ),
        (
            "heads in one",
            f"{value}/bias",
            (8,),
            f"$source: {value}/bias cannot be of shape [8] (2 heads of 8 make it [2, 4])",
        ),
        (
            "output by columns",
            output,
            (8, 2, 4),
            f"$source: {output} cannot be of shape [8, 2, 4] (2 heads of 8 make it [2, 4, 8])",
        ),
        (
            "another width",
            "transformer/output/kernel",
            (12, 9),
            "<any>ffn_output.weight is [9, 12], the config asks for [8, 12]; look at hidden_size in the config: <any>",
        ),
        ("a scalar", "pooler_transform/kernel", (), "<any>albert.pooler.weight is [], the config asks for [8, 8]"),
    ):
        yield Corruption(f"a wrong shape: {name}", keras(keras_variables() | {variable: making.values(shape, 1)}), said)


# --- the graph of objects


def _objects():
    yield Corruption(
        "two variables of one name",
        keras(names={"pooler_transform/bias": "transformer/output/bias"}),
        "$source: 1 of its variables have the name of another, so they cannot be distinguished",
    )
    not_text = field(1, field(2, field(3, b"\xff\xff") + field(2, b"\xfe")))
    for name, objects in (("no message", b"\xff"), ("no text", not_text), ("a number", field(1, 7))):
        yield Corruption(
            f"a graph of objects: {name}",
            keras(objects=objects),
            "$source/variables/variables.index: its _CHECKPOINTABLE_OBJECT_GRAPH is not sound (<any>",
        )

    def changed_byte(source):
        keras()(source)
        changed = bytearray((source / DATA).read_bytes())
        changed[300] ^= 1
        (source / DATA).write_bytes(changed)

    yield Corruption(
        "a graph of objects with a byte changed",
        changed_byte,
        f"$source/{DATA}: tensor _CHECKPOINTABLE_OBJECT_GRAPH is damaged (its CRC-32C does not match the index)",
    )
    yield Corruption(
        "a damaged config among the assets",
        lambda source: (source / "assets/albert_config.json").write_text("{"),
        "$source/assets/albert_config.json: is not JSON: <any>",
    )


# --- many of a kind


def series():
    def truncated(sound):
        for cut in cuts(sound, range(40), (len(sound) - 1,)):
            yield sound[:cut], f"{UNSOUND}<any>"

    yield Series("truncated", truncated)


def fuzzes():
    sound = saved_model_pb(making.google_nodes(TINY))

    def replace(source, drawn):
        """Bytes replaced, cut out or put in anywhere."""
        place, length, data = drawn
        (source / FILE).write_bytes(sound[:place] + data + sound[place + length :])

    drawn = st.tuples(st.integers(0, len(sound)), st.integers(0, 8), st.binary(max_size=8))
    yield Fuzz("any change of the graph", drawn, replace, tensors=32)
    yield Fuzz(
        "any bytes as a graph",
        st.binary(max_size=200),
        lambda source, data: (source / FILE).write_bytes(data),
        50,
        refused=True,
    )
