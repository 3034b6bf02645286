"""ALBERT (paper: arXiv 1909.11942).

Names: transformers' modeling_albert.py; google-research/albert modeling.py, read off the index of a published
checkpoint; `output_*` from classifier_utils.py and race_utils.py, `cls/squad/*` (SQuAD v1) and `start_logits`,
`end_logits`, `answer_class` (v2) from squad_utils.py; TensorFlow Model Garden's AlbertEncoder.
"""

from __future__ import annotations

import dataclasses

from converters.config import EncoderConfig
from converters.family import ConfigTable, Entry, Family, TokenizerTable
from converters.published import Published, archive

_HF = "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}."
_GOOGLE = "bert/encoder/transformer/group_{group}/inner_group_{inner}/"
_KERAS = "transformer/{at}"

_ENTRIES = (
    Entry(
        "embeddings.words",
        "albert.embeddings.word_embeddings",
        "bert/embeddings/word_embeddings",
        "word_embeddings",
    ),
    Entry(
        "embeddings.positions",
        "albert.embeddings.position_embeddings",
        "bert/embeddings/position_embeddings",
        "position_embedding",
    ),
    Entry(
        "embeddings.types",
        "albert.embeddings.token_type_embeddings",
        "bert/embeddings/token_type_embeddings",
        "type_embeddings",
    ),
    Entry("embeddings.norm", "albert.embeddings.LayerNorm", "bert/embeddings/LayerNorm", "embeddings/layer_norm"),
    Entry(
        "projection",
        "albert.encoder.embedding_hidden_mapping_in",
        "bert/encoder/embedding_hidden_mapping_in",
        "embedding_projection",
    ),
    *(
        Entry(f"layer.{role}", _HF + hf, _GOOGLE + google, _KERAS + keras)
        for role, hf, google, keras in (
            ("query", "attention.query", "attention_1/self/query", "self_attention/query"),
            ("key", "attention.key", "attention_1/self/key", "self_attention/key"),
            ("value", "attention.value", "attention_1/self/value", "self_attention/value"),
            ("attention_output", "attention.dense", "attention_1/output/dense", "self_attention/attention_output"),
            ("attention_norm", "attention.LayerNorm", "LayerNorm", "self_attention_layer_norm"),
            ("intermediate", "ffn", "ffn_1/intermediate/dense", "intermediate"),
            ("output", "ffn_output", "ffn_1/intermediate/output/dense", "output"),
            ("output_norm", "full_layer_layer_norm", "LayerNorm_1", "output_layer_norm"),
        )
    ),
    Entry("pooler", "albert.pooler", "bert/pooler/dense", "pooler_transform"),
    Entry("mlm.dense", "predictions.dense", "cls/predictions/transform/dense"),
    Entry("mlm.norm", "predictions.LayerNorm", "cls/predictions/transform/LayerNorm"),
    Entry("mlm.bias", "predictions.bias", "cls/predictions/output_bias"),
    Entry("mlm.decoder", "predictions.decoder"),
    Entry("pair", "sop_classifier.classifier", "cls/seq_relationship/output"),
    Entry("classifier", "classifier", "output"),
    Entry("qa", "qa_outputs", "cls/squad/output"),
    Entry("squad2.start", "start_logits.dense", "start_logits/dense"),
    Entry("squad2.end_dense", "end_logits.dense_0", "end_logits/dense_0"),
    Entry("squad2.end_norm", "end_logits.LayerNorm", "end_logits/LayerNorm"),
    Entry("squad2.end", "end_logits.dense_1", "end_logits/dense_1"),
    Entry("squad2.answer_dense", "answer_class.dense_0", "answer_class/dense_0"),
    Entry("squad2.answer", "answer_class.dense_1", "answer_class/dense_1"),
)


def _preset(hidden: int, layers: int, heads: int, *, embedding: int = 128, intermediate: int = 0) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=30000,
        embedding_size=embedding,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate or 4 * hidden,
    )


# The published v2 shapes (paper, table 2; google-research/albert README) and a tiny one for trying things out.
PRESETS = {
    "tiny": _preset(128, 4, 4, embedding=64, intermediate=512),
    "base": _preset(768, 12, 12),
    "large": _preset(1024, 24, 16),
    "xlarge": _preset(2048, 24, 16),
    "xxlarge": _preset(4096, 12, 64),
}

_SIZES = ("base", "large", "xlarge", "xxlarge")
_HEADS = ("pooler", "mlm")  # Google's archives have "sop" too
_CHINESE_VOCABULARY = 21128  # vocab_chinese.txt is the list of the Chinese BERT


def _published() -> tuple[Published, ...]:
    """README of google-research/albert: versions 1 and 2 in English, and the Chinese models."""
    hub = [Published(f"albert/albert-{size}-v{n}", PRESETS[size], _HEADS) for n in (1, 2) for size in _SIZES]
    url = "https://storage.googleapis.com/albert_models/albert"
    english = [archive(f"{url}_{size}_v{n}.tar.gz", PRESETS[size], _HEADS) for n in (1, 2) for size in _SIZES]
    shapes = {size: dataclasses.replace(PRESETS[size], vocab_size=_CHINESE_VOCABULARY) for size in _SIZES}
    chinese = [
        archive(f"{url}_{size}_zh.tar.gz", config, _HEADS, language="Chinese") for size, config in shapes.items()
    ]
    return (*hub, *english, *chinese)


FAMILY = Family(
    model_type="albert",
    titles={"ALBERT": ("mlm", "sop")},
    prefix="albert.",
    entries=_ENTRIES,
    pair="sop",
    fresh=("pooler", "mlm", "sop"),
    classes={
        "AlbertForSequenceClassification": ("pooler", "classifier"),
        "AlbertForMultipleChoice": ("pooler", "choice"),
        "AlbertForTokenClassification": ("tokens",),
        "AlbertForQuestionAnswering": ("qa",),
        "AlbertForPreTraining": ("pooler", "mlm", "sop"),
        "AlbertForMaskedLM": ("mlm",),
    },
    bare="AlbertModel",
    reads_classifier={
        "AlbertForSequenceClassification": "classifier",
        "AlbertForMultipleChoice": "choice",
        "AlbertForTokenClassification": "tokens",
    },
    config=ConfigTable(
        google_file="albert_config.json",
        google_wordpiece="vocab_chinese.txt",
        # Google's "gelu" is the tanh approximation, which Hugging Face calls "gelu_new" (modeling.py get_activation).
        google_activations={"gelu_new": "gelu"},
        # Google's code has one gelu only: an exact one is written under its name.
        inexact=dict.fromkeys(("gelu", "gelu_pytorch_tanh", "gelu_fast", "gelu_python"), "gelu"),
    ),
    presets=PRESETS,
    tokenizer=TokenizerTable(casing="lower"),
    published=_published(),
    tied={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    buffers={rf"albert\.embeddings\.{name}": f"{name} buffer" for name in ("position_ids", "token_type_ids")},
    google_drop={r".*/Adam(_1)?|beta[12]_power": "slots of TensorFlow's own Adam"},
    keras_drop={r"save_counter": "counter of checkpoints"},
    julia_rows=True,
    # Model Garden has no name for a second group or inner layer: Google's stand in for it.
    keras_place="group_{group}/inner_group_{inner}/",
)
