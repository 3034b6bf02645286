"""Google's variables of a BERT, and TF-Hub's three kinds of modules of it, made by TensorFlow itself."""

import re

import making
import numpy as np

from converters.config import EncoderConfig

WORDS = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##s\nQueen\n"
BERT = EncoderConfig(
    family="bert",
    vocab_size=30,
    embedding_size=8,
    hidden_size=8,
    num_hidden_layers=3,
    num_hidden_groups=3,
    num_attention_heads=2,
    intermediate_size=12,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    classifier_dropout_prob=None,
    max_position_embeddings=10,
)


def google_names(config=BERT):
    """Names and shapes of google-research/bert's modeling.py and run_pretraining.py, written out independently."""
    V, H, I = config.vocab_size, config.hidden_size, config.intermediate_size  # noqa: E741
    shapes = {
        "bert/embeddings/word_embeddings": (V, H),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, H),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, H),
        "bert/embeddings/LayerNorm/beta": (H,),
        "bert/embeddings/LayerNorm/gamma": (H,),
    }
    for number in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{number}"
        for part, rows, columns in (
            ("attention/self/query", H, H),
            ("attention/self/key", H, H),
            ("attention/self/value", H, H),
            ("attention/output/dense", H, H),
            ("intermediate/dense", H, I),
            ("output/dense", I, H),
        ):
            shapes |= {f"{layer}/{part}/kernel": (rows, columns), f"{layer}/{part}/bias": (columns,)}
        for norm in ("attention/output", "output"):
            shapes |= {f"{layer}/{norm}/LayerNorm/beta": (H,), f"{layer}/{norm}/LayerNorm/gamma": (H,)}
    return shapes | {
        "bert/pooler/dense/kernel": (H, H),
        "bert/pooler/dense/bias": (H,),
        "cls/predictions/transform/dense/kernel": (H, H),
        "cls/predictions/transform/dense/bias": (H,),
        "cls/predictions/transform/LayerNorm/beta": (H,),
        "cls/predictions/transform/LayerNorm/gamma": (H,),
        "cls/predictions/output_bias": (V,),
        "cls/seq_relationship/output_weights": (2, H),
        "cls/seq_relationship/output_bias": (2,),
    }


def google_variables(config=BERT, seed=0):
    return {name: making.values(shape, [seed, n]) for n, (name, shape) in enumerate(google_names(config).items())}


def _norm(x, weight, name):
    import tensorflow as tf

    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, weight(f"{name}/beta"), weight(f"{name}/gamma"), 1e-12)


def encode(weight, config, act, ids, mask, types):
    """Google's modeling.py, `weight` giving a variable by its name; `sequence_output` and `pooled_output`.

    As there, a dense layer multiplies matrices, and what it gives is reshaped by head.
    """
    import tensorflow as tf

    A, H = config.num_attention_heads, config.hidden_size
    batch, tokens = tf.shape(ids)[0], tf.shape(ids)[1]

    def dense(x, name):
        return tf.nn.bias_add(tf.matmul(x, weight(f"{name}/kernel")), weight(f"{name}/bias"))

    def by_head(x, name):
        return tf.transpose(tf.reshape(dense(x, name), [batch, tokens, A, H // A]), [0, 2, 1, 3])

    x = tf.gather(weight("bert/embeddings/word_embeddings"), ids)
    x += tf.gather(weight("bert/embeddings/token_type_embeddings"), types)
    x += weight("bert/embeddings/position_embeddings")[:tokens]
    x = tf.reshape(_norm(x, weight, "bert/embeddings/LayerNorm"), [-1, H])
    for number in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{number}"
        query, key, value = (by_head(x, f"{layer}/attention/self/{part}") for part in ("query", "key", "value"))
        scores = tf.matmul(query, key, transpose_b=True) / float(np.sqrt(H // A))
        scores += (1.0 - tf.cast(mask, tf.float32))[:, None, None, :] * -10000.0
        context = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), [0, 2, 1, 3])
        attended = dense(tf.reshape(context, [-1, H]), f"{layer}/attention/output/dense")
        x = _norm(attended + x, weight, f"{layer}/attention/output/LayerNorm")
        hidden = act(dense(x, f"{layer}/intermediate/dense"))
        x = _norm(dense(hidden, f"{layer}/output/dense") + x, weight, f"{layer}/output/LayerNorm")
    x = tf.reshape(x, [batch, tokens, H])
    pooled = tf.tanh(dense(x[:, 0], "bert/pooler/dense"))
    return {"sequence_output": x, "pooled_output": pooled}


def tanh_gelu(x):
    import tensorflow as tf

    return x * 0.5 * (1.0 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * tf.pow(x, 3))))


def erf_gelu(x):
    import tensorflow as tf

    return x * 0.5 * (1.0 + tf.math.erf(x / tf.sqrt(2.0)))


def module_of_tf1(directory, variables, act, *, config=BERT, scope="", lowercase=False):
    """As google/bert_…/1: the signatures `tokens` and `tokenization_info`, the vocabulary an asset."""
    import tensorflow as tf

    v1 = tf.compat.v1
    (directory.parent / "vocab.txt").write_bytes(WORDS)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        made = {name: v1.get_variable(scope + name, initializer=array) for name, array in variables.items()}
        inputs = {name: v1.placeholder(tf.int32, [None, None], name) for name in ("ids", "mask", "types")}
        outputs = encode(made.__getitem__, config, act, *inputs.values())
        file = tf.constant(str(directory.parent / "vocab.txt"), name="vocab_file")
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
        said = {"vocab_file": file, "do_lower_case": tf.identity(tf.constant(lowercase))}
        session.run(v1.global_variables_initializer())
        build = v1.saved_model.signature_def_utils.build_signature_def
        info = v1.saved_model.utils.build_tensor_info
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [],
            signature_def_map={
                "tokens": build(*({key: info(x) for key, x in found.items()} for found in (inputs, outputs))),
                "tokenization_info": build({}, {key: info(x) for key, x in said.items()}),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )
        builder.save()
        return session.run(outputs, dict(zip(inputs.values(), examples(config), strict=True)))


# Google's name -> Model Garden's, of versions 3 and 4, and of 1 and 2.
_LATER = {
    r"bert/embeddings/word_embeddings": "word_embeddings/embeddings",
    r"bert/embeddings/position_embeddings": "position_embedding/embeddings",
    r"bert/embeddings/token_type_embeddings": "type_embeddings/embeddings",
    r"bert/embeddings/LayerNorm/(.*)": r"embeddings/layer_norm/\1",
    r"bert/encoder/(layer_\d+)/attention/self/(.*)": r"transformer/\1/self_attention/\2",
    r"bert/encoder/(layer_\d+)/attention/output/dense/(.*)": r"transformer/\1/self_attention/attention_output/\2",
    r"bert/encoder/(layer_\d+)/attention/output/LayerNorm/(.*)": r"transformer/\1/self_attention_layer_norm/\2",
    r"bert/encoder/(layer_\d+)/intermediate/dense/(.*)": r"transformer/\1/intermediate/\2",
    r"bert/encoder/(layer_\d+)/output/dense/(.*)": r"transformer/\1/output/\2",
    r"bert/encoder/(layer_\d+)/output/LayerNorm/(.*)": r"transformer/\1/output_layer_norm/\2",
    r"bert/pooler/dense/(.*)": r"pooler_transform/\1",
    r"cls/predictions/output_bias": "cls/predictions/output_bias/bias",
    r"cls/seq_relationship/output_weights": "predictions/transform/logits/kernel",
    r"cls/seq_relationship/output_bias": "predictions/transform/logits/bias",
}
_FIRST = {
    r"word_embeddings/embeddings": "bert_model/word_embeddings/embeddings",
    r"position_embedding/embeddings": "bert_model/embedding_postprocessor/position_embeddings",
    r"type_embeddings/embeddings": "bert_model/embedding_postprocessor/type_embeddings",
    r"embeddings/layer_norm/(.*)": r"bert_model/embedding_postprocessor/layer_norm/\1",
    r"transformer/(layer_\d+)/self_attention/attention_output/(.*)": (
        r"bert_model/encoder/\1/self_attention_output/\2"
    ),
    r"transformer/(.*)": r"bert_model/encoder/\1",
    r"pooler_transform/(.*)": r"bert_model/pooler_transform/\1",
}


def _renamed(name, patterns):
    found = (re.fullmatch(pattern, name) for pattern in patterns)
    return next((match.expand(patterns[match.re.pattern]) for match in found if match), name)


def model_garden(name, array, config=BERT, *, first=False, plain_output=False):
    """Model Garden's name and shape of one of Google's variables."""
    A, H = config.num_attention_heads, config.hidden_size
    if "attention/self" in name:
        array = array.reshape(*array.shape[:-1], A, H // A)
    elif "attention/output/dense/kernel" in name and not plain_output:
        array = array.reshape(A, H // A, H)
    elif name == "cls/seq_relationship/output_weights":
        array = array.T
    later = _renamed(name, _LATER)
    return _renamed(later, _FIRST) if first else later, array


def module_of_tf2(directory, variables, act, *, config=BERT, lowercase=False, **options):
    """As tensorflow/bert_…: kernels by head, the vocabulary and do_lower_case attributes of the object."""
    import tensorflow as tf

    (directory.parent / "vocab.txt").write_bytes(WORDS)
    module = tf.Module()
    made = {}
    for name, array in variables.items():
        called, shaped = model_garden(name, array, config, **options)
        made[name] = tf.Variable(np.ascontiguousarray(shaped), name=called)
    module.held = list(made.values())
    module.vocab_file = tf.saved_model.Asset(str(directory.parent / "vocab.txt"))
    module.do_lower_case = tf.Variable(lowercase, trainable=False, name="do_lower_case")

    def weight(name):
        return tf.reshape(made[name], variables[name].shape)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * 3)
    def serve(input_word_ids, input_mask, input_type_ids):
        return encode(weight, config, act, input_word_ids, input_mask, input_type_ids)

    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve.get_concrete_function()})
    return {name: value.numpy() for name, value in serve(*map(tf.constant, examples(config))).items()}


def examples(config=BERT):
    """Ids, mask and token types of two texts, the second of which is padded."""
    ids = (np.arange(14).reshape(2, 7) * 5 % config.vocab_size).astype(np.int32)
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3], np.int32)
    return ids, mask, np.array([[0] * 7, [0, 0, 1, 1, 1, 1, 1]], np.int32)
