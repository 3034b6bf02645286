"""BERT (paper: arXiv 1810.04805), and SpanBERT (arXiv 1907.10529), which is a BERT with a head of its own.

Names: transformers' modeling_bert.py; google-research/bert modeling.py, run_pretraining.py (`cls/…`), run_classifier.py
(`output_*`), run_squad.py (`cls/squad/*`); TensorFlow Model Garden's BertEncoder; SpanBERT's pair_bert.py.
"""

from __future__ import annotations

from converters.config import EncoderConfig
from converters.family import ConfigTable, Entry, Family

_HF = "bert.encoder.layer.{layer}."
_GOOGLE = "bert/encoder/layer_{layer}/"
_KERAS = "transformer/{at}"
_EMBEDDINGS, _GOOGLE_EMBEDDINGS = "bert.embeddings.", "bert/embeddings/"
_SBO = "cls.pair_target_predictions."

_ENTRIES = (
    *(
        Entry(f"embeddings.{role}", _EMBEDDINGS + name, _GOOGLE_EMBEDDINGS + name, keras)
        for role, name, keras in (
            ("words", "word_embeddings", "word_embeddings"),
            ("positions", "position_embeddings", "position_embedding"),
            ("types", "token_type_embeddings", "type_embeddings"),
            ("norm", "LayerNorm", "embeddings/layer_norm"),
        )
    ),
    *(
        Entry(f"layer.{role}", _HF + name, _GOOGLE + name.replace(".", "/"), _KERAS + keras)
        for role, name, keras in (
            ("query", "attention.self.query", "self_attention/query"),
            ("key", "attention.self.key", "self_attention/key"),
            ("value", "attention.self.value", "self_attention/value"),
            ("attention_output", "attention.output.dense", "self_attention/attention_output"),
            ("attention_norm", "attention.output.LayerNorm", "self_attention_layer_norm"),
            ("intermediate", "intermediate.dense", "intermediate"),
            ("output", "output.dense", "output"),
            ("output_norm", "output.LayerNorm", "output_layer_norm"),
        )
    ),
    Entry("pooler", "bert.pooler.dense", "bert/pooler/dense", "pooler_transform"),
    Entry("mlm.dense", "cls.predictions.transform.dense", "cls/predictions/transform/dense"),
    Entry("mlm.norm", "cls.predictions.transform.LayerNorm", "cls/predictions/transform/LayerNorm"),
    Entry("mlm.bias", "cls.predictions.bias", "cls/predictions/output_bias"),
    Entry("mlm.decoder", "cls.predictions.decoder"),
    Entry("pair", "cls.seq_relationship", "cls/seq_relationship/output"),
    # Google's BERT has no such head: the names are SpanBERT's, as its variables would be called.
    *(
        Entry(f"sbo.{role}", _SBO + name, (_SBO + name).replace(".", "/"))
        for role, name in (
            ("positions", "position_embeddings"),
            ("dense_1", "mlp_layer_norm.linear1"),
            ("norm_1", "mlp_layer_norm.layer_norm1"),
            ("dense_2", "mlp_layer_norm.linear2"),
            ("norm_2", "mlp_layer_norm.layer_norm2"),
            ("bias", "bias"),
        )
    ),
    Entry("classifier", "classifier", "output"),
    Entry("qa", "qa_outputs", "cls/squad/output"),
)


def _preset(hidden: int, layers: int, vocabulary: int = 30522) -> EncoderConfig:
    return EncoderConfig(
        family="bert",
        vocab_size=vocabulary,
        embedding_size=hidden,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_hidden_groups=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        classifier_dropout_prob=None,
    )


# google-research/bert README: the models of 2018, and those of the 24 small ones (arXiv 1908.08962) that have names.
PRESETS = {
    "bert-tiny": _preset(128, 2),
    "bert-mini": _preset(256, 4),
    "bert-small": _preset(512, 4),
    "bert-medium": _preset(512, 8),
    "bert-base": _preset(768, 12),
    "bert-large": _preset(1024, 24),
    "bert-base-cased": _preset(768, 12, 28996),
    "bert-large-cased": _preset(1024, 24, 28996),
}

FAMILY = Family(
    model_type="bert",
    prefix="bert.",
    entries=_ENTRIES,
    pair="nsp",
    fresh=("pooler", "mlm", "nsp"),
    classes={
        "BertForSequenceClassification": ("pooler", "classifier"),
        "BertForMultipleChoice": ("pooler", "choice"),
        "BertForTokenClassification": ("tokens",),
        "BertForQuestionAnswering": ("qa",),
        "BertForPreTraining": ("pooler", "mlm", "nsp"),
        "BertForNextSentencePrediction": ("pooler", "nsp"),
        "BertForMaskedLM": ("mlm",),
    },
    bare="BertModel",
    reads_classifier={
        "BertForSequenceClassification": "classifier",
        "BertForMultipleChoice": "choice",
        "BertForTokenClassification": "tokens",
    },
    config=ConfigTable(
        google_file="bert_config.json",
        # Google's "gelu" was the exact one when the models of 2018 were trained, and transformers computes that.
        google_activations={},
        # Google's code has one gelu only, today the tanh approximation: that is written under its name.
        inexact=dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python"), "gelu"),
        keys={"classifier_dropout_prob": "classifier_dropout"},
        derived={"embedding_size": "hidden_size", "num_hidden_groups": "num_hidden_layers"},
        fixed={"inner_group_num": 1, "share": "all"},
        defaults={
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "classifier_dropout_prob": None,
        },
        may_decode=True,
    ),
    presets=PRESETS,
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        f"{_SBO}decoder.weight": "bert.embeddings.word_embeddings.weight",
    },
    buffers={rf"bert\.embeddings\.{name}": f"{name} buffer" for name in ("position_ids", "token_type_ids")},
    legacy={
        # pytorch-pretrained-bert and SpanBERT, after TensorFlow.
        "hf": {
            r"(.*(?:LayerNorm|layer_norm\d))\.gamma": r"\1.weight",
            r"(.*(?:LayerNorm|layer_norm\d))\.beta": r"\1.bias",
        },
        # TF-Hub's modules of versions 1 and 2.
        "keras": {
            r"bert_model/word_embeddings/(.*)": r"word_embeddings/\1",
            r"bert_model/embedding_postprocessor/position_embeddings": "position_embedding/embeddings",
            r"bert_model/embedding_postprocessor/type_embeddings": "type_embeddings/embeddings",
            r"bert_model/embedding_postprocessor/layer_norm/(.*)": r"embeddings/layer_norm/\1",
            r"bert_model/encoder/(layer_\d+)/self_attention_output/(.*)": (
                r"transformer/\1/self_attention/attention_output/\2"
            ),
            r"bert_model/encoder/(layer_\d+)/(.*)": r"transformer/\1/\2",
            r"bert_model/pooler_transform/(.*)": r"pooler_transform/\1",
        },
    },
    google_drop={r".*/Adam(_1)?|beta[12]_power": "slots of TensorFlow's own Adam"},
    keras_drop={r"save_counter": "counter of checkpoints"},
    # As the files that Transformers.jl 0.1 had for download.
    julia_untransposed=("cls.seq_relationship.weight",),
    keras_place="layer_{layer}/",
    keras_place_of_one="layer_{layer}/",
)
