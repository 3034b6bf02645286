"""An encoder in TensorFlow's own operations, saved as a TF2 SavedModel that any TensorFlow loads without this package.

What calls and attributes a module offers follows TensorFlow Model Garden (official/nlp/tools/export_tfhub_lib.py,
official/nlp/albert/export_albert_tfhub.py) and tensorflow.org/hub/reusable_saved_models; the computation is that of
Google's modeling.py.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.activations import ACTIVATIONS
from converters.checkpoint import Tensor
from converters.config import EncoderConfig
from converters.errors import CheckpointError
from converters.messages import is_text
from converters.tensorflow.runtime import save_bundle, tensorflow, tensorflow_errors, to_tensorflow
from converters.variables import STEP

INPUTS = ("input_word_ids", "input_mask", "input_type_ids")

# TensorFlow's counters are in these names; see `_make_deterministic`.
_FUNCTION = re.compile(r"(__inference_.*_)(\d+)")


def save(
    config: EncoderConfig,
    variables: Mapping[str, Tensor],
    attributes: Mapping[str, str],
    step: int | None,
    assets: Mapping[str, tuple[str, bytes]],
    *,
    lowercase: bool,
    path: Path,
) -> None:
    """Write a SavedModel into the empty directory `path`; it holds the whole model in memory once.

    `variables` are tensors by their name in the module, and `attributes` gives those of `converters.roles` for those
    that are weights; the rest (optimizer slots) lie beside them in the files and are no part of the module that is
    loaded. `assets` are files (name, bytes) by attribute. Raises CheckpointError where TensorFlow cannot write.
    """
    if not is_text(str(path)):
        raise CheckpointError(path, "a name that is not UTF-8, which TensorFlow cannot write", "rename it afterwards")
    tf = tensorflow()
    act = _activation(config.hidden_act)
    sources = path / "assets-staging"
    sources.mkdir()
    try:
        with tensorflow_errors(path), tf.device("CPU"):
            module, weights = _module(variables, attributes, step, lowercase=lowercase)
            for attribute, (name, data) in assets.items():
                (sources / name).write_bytes(data)
                setattr(module, attribute, tf.saved_model.Asset(str(sources / name)))
        with tensorflow_errors(path):
            module.__call__, signature = _functions(config, weights, act)
            with _quiet():
                tf.saved_model.save(module, str(path), signatures={"serving_default": signature})
            if slots := {name: tensor for name, tensor in variables.items() if name not in attributes}:
                _add(slots, path / "variables", path / "parts")
    finally:
        shutil.rmtree(sources, ignore_errors=True)
    _make_deterministic(path)


def _module(
    variables: Mapping[str, Tensor], attributes: Mapping[str, str], step: int | None, *, lowercase: bool
) -> tuple[Any, dict[str, Any]]:
    """The object to be saved, with its variables, which are also given by the names of `converters.roles`."""
    tf = tensorflow()
    weights = {
        attributes[name]: tf.Variable(to_tensorflow(tensor.read()), name=name)
        for name, tensor in variables.items()
        if name in attributes
    }
    # Its variables are attributes here, saved with it, where tf.Module has properties of these names.
    module = type("Module", (tf.Module,), {"variables": None, "trainable_variables": None})()
    module.variables = [weights[name] for name in weights if name.startswith("encoder.")]
    module.trainable_variables = list(module.variables)
    module.regularization_losses = []
    module.heads = [weights[name] for name in weights if not name.startswith("encoder.")]
    module.do_lower_case = tf.Variable(lowercase, trainable=False, name="do_lower_case")
    if step is not None:
        module.global_step = tf.Variable(step, dtype=tf.int64, trainable=False, name=STEP)
    return module, weights


def _add(tensors: Mapping[str, Tensor], bundle: Path, parts: Path) -> None:
    """Put more tensors into the files of the variables; `parts` is a name for a directory to work in."""
    tf = tensorflow()
    bundle.rename(parts)
    save_bundle(tensors, parts / "more")
    with tf.device("CPU"):
        prefixes = [str(parts / name) for name in ("variables", "more")]
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=prefixes, destination_prefix=str(bundle / "variables"), delete_old_dirs=False
        )
    shutil.rmtree(parts)


def _functions(config: EncoderConfig, weights: Mapping[str, Any], act: Callable[[Any], Any]) -> tuple[Any, Any]:
    """What the module is called by, and its signature."""
    tf = tensorflow()
    drops = bool(config.hidden_dropout_prob or config.attention_probs_dropout_prob)
    specs = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in INPUTS}

    def encoder(training: bool) -> Any:
        """Traced once, however often it is called by."""

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def encode(*inputs: Any) -> Any:
            return _encode(config, weights, act, *inputs, training=training)

        return encode.get_concrete_function(*specs.values())

    encode = {training: encoder(training) for training in {False, drops}}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def call(inputs: Any, training: bool = False) -> Any:
        """The inputs by name, as later modules take them, or in a list, as the first ones did."""
        named = isinstance(inputs, Mapping)
        outputs = encode[training and drops](*((inputs[name] for name in INPUTS) if named else inputs))
        return outputs if named else [outputs[name] for name in ("pooled_output", "sequence_output") if name in outputs]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve(input_word_ids: Any, input_mask: Any, input_type_ids: Any) -> Any:
        outputs = encode[False](input_word_ids, input_mask, input_type_ids)
        return {name: outputs[name] for name in ("pooled_output", "sequence_output") if name in outputs}

    for training in (False, True):
        for inputs in (specs, list(specs.values())):
            call.get_concrete_function(inputs, training=training)
    return call, serve.get_concrete_function(**specs)


def _encode(
    config: EncoderConfig,
    weights: Mapping[str, Any],
    act: Callable[[Any], Any],
    ids: Any,
    mask: Any,
    types: Any,
    *,
    training: bool,
) -> dict[str, Any]:
    """Ids, mask and token types (batch, tokens) -> the outputs of Model Garden's encoder, in float32.

    A shared layer's variables are read each time the layer is applied, so that the graph shows the number of layers.
    """
    tf = tensorflow()

    def weight(name: str) -> Any:
        return tf.cast(weights[name], tf.float32)

    def linear(x: Any, name: str, equation: str = "bti,io->bto") -> Any:
        return tf.einsum(equation, x, weight(f"{name}.weight")) + weight(f"{name}.bias")

    def norm(x: Any, name: str) -> Any:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        scale, offset = weight(f"{name}.weight"), weight(f"{name}.bias")
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, config.layer_norm_eps)

    def drop(x: Any, rate: float) -> Any:
        return tf.nn.dropout(x, rate) if training and rate else x

    def layer(x: Any, name: str) -> Any:
        query, key, value = (linear(x, f"{name}.{part}", "bti,iad->btad") for part in ("query", "key", "value"))
        scores = tf.einsum("bfad,btad->baft", query, key) * config.head_size**-0.5
        scores = tf.where(visible, scores, scores.dtype.min)  # (batch, heads, from, to)
        share = drop(tf.nn.softmax(scores), config.attention_probs_dropout_prob)
        context = tf.einsum("baft,btad->bfad", share, value)
        attended = drop(linear(context, f"{name}.attention_output", "bfad,ado->bfo"), config.hidden_dropout_prob)
        attended = norm(attended + x, f"{name}.attention_norm")
        output = linear(act(linear(attended, f"{name}.intermediate")), f"{name}.output")
        return norm(drop(output, config.hidden_dropout_prob) + attended, f"{name}.output_norm")

    embeddings = "encoder.embeddings"
    words, kinds, places = (weights[f"{embeddings}.{part}.weight"] for part in ("words", "types", "positions"))
    x = tf.cast(tf.gather(words, ids), tf.float32) + tf.cast(tf.gather(kinds, types), tf.float32)
    x += tf.cast(places[: tf.shape(ids)[1]], tf.float32)  # (batch, tokens, E)
    x = drop(norm(x, f"{embeddings}.norm"), config.hidden_dropout_prob)
    projection = "encoder.projection"
    if f"{projection}.weight" in weights:  # left out where it is the identity
        x = linear(x, projection)
    visible = tf.cast(mask, tf.bool)[:, tf.newaxis, tf.newaxis, :]
    outputs = []
    for number in range(config.num_hidden_layers):
        for inner in range(config.inner_group_num):
            x = layer(x, f"encoder.layers.{config.group_of(number) * config.inner_group_num + inner}")
        outputs.append(x)
    found = {"sequence_output": x, "encoder_outputs": outputs}
    if "encoder.pooler.weight" in weights:
        pooled = tf.tanh(tf.matmul(x[:, 0], weight("encoder.pooler.weight")) + weight("encoder.pooler.bias"))
        found |= {"pooled_output": pooled, "default": pooled}
    return found


def _activation(name: str) -> Callable[[Any], Any]:
    """The activation that a config calls so, in TensorFlow."""
    nn = tensorflow().nn
    functions: dict[str, Callable[[Any], Any]] = {
        "gelu": nn.gelu,
        "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
        "hardswish": lambda x: x * nn.relu6(x + 3) / 6,
        "leaky_relu": lambda x: nn.leaky_relu(x, alpha=0.01),
        "linear": lambda x: x,
        "mish": lambda x: x * nn.tanh(nn.softplus(x)),
        "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
        "relu": nn.relu,
        "relu2": lambda x: nn.relu(x) ** 2,
        "relu6": nn.relu6,
        "sigmoid": nn.sigmoid,
        "silu": nn.silu,
        "tanh": nn.tanh,
    }
    return functions[ACTIVATIONS[name]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's word on every asset that it writes."""
    logger = tensorflow().get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _make_deterministic(path: Path) -> None:
    """Make the files' bytes follow from the model alone.

    TensorFlow numbers functions through the life of a process, and signs what it saves with a random number in
    `fingerprint.pb`, which no reader needs.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    (path / "fingerprint.pb").unlink(missing_ok=True)
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for meta in saved.meta_graphs:
        library, objects = meta.graph_def.library, meta.object_graph_def
        numbered = sorted((int(match[2]), match[1]) for item in library.function if (match := _numbered(item)))
        new = {f"{stem}{number}": f"{stem}{place}" for place, (number, stem) in enumerate(numbered)}
        for function in library.function:
            function.signature.name = new.get(function.signature.name, function.signature.name)
            for argument in function.arg_attr.values():
                if argument.attr["_user_specified_name"].s.isdigit():  # a variable's number in this process
                    del argument.attr["_user_specified_name"]
        for node in [*meta.graph_def.node, *(node for function in library.function for node in function.node_def)]:
            for attribute in node.attr.values():
                if attribute.func.name in new:
                    attribute.func.name = new[attribute.func.name]
        library.function.sort(key=lambda function: str(function.signature.name))
        for name in [name for name in objects.concrete_functions if name in new]:
            objects.concrete_functions[new[name]].CopyFrom(objects.concrete_functions.pop(name))
        for item in objects.nodes:
            traced = item.function.concrete_functions if item.HasField("function") else []
            traced[:] = [new.get(name, name) for name in traced]
            if item.HasField("bare_concrete_function"):
                bare = item.bare_concrete_function
                bare.concrete_function_name = new.get(bare.concrete_function_name, bare.concrete_function_name)
    (path / "saved_model.pb").write_bytes(saved.SerializeToString(deterministic=True))


def _numbered(function: Any) -> re.Match[str] | None:
    return _FUNCTION.fullmatch(function.signature.name)
