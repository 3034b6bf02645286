"""BERT (paper: arXiv 1810.04805), and SpanBERT (arXiv 1907.10529), which is a BERT with a head of its own.

Names: transformers' modeling_bert.py; google-research/bert modeling.py, run_pretraining.py (`cls/…`), run_classifier.py
(`output_*`), run_squad.py (`cls/squad/*`); TensorFlow Model Garden's BertEncoder; SpanBERT's pair_bert.py.
"""

from __future__ import annotations

from dataclasses import replace

from converters import bert_like
from converters.config import EncoderConfig
from converters.family import Entry, Family, TokenizerTable
from converters.published import Published, archive

_SBO = "cls.pair_target_predictions."
_GAMMA_BETA = bert_like.gamma_beta(r"(?:LayerNorm|layer_norm\d)")

_GOOGLE = (
    *bert_like.embeddings("bert"),
    *bert_like.layer("bert"),
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
# SpanBERT trained a module of the same names, which fairseq calls a decoder.
_ENTRIES = tuple(replace(entry, fairseq=f"decoder.{entry.hf}") for entry in _GOOGLE)


def _preset(hidden: int, layers: int, vocabulary: int = 30522) -> EncoderConfig:
    return bert_like.preset("bert", hidden, layers, vocab_size=vocabulary)


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

_FRESH = ("pooler", "mlm", "nsp")
_QA = ("pooler", "qa")
_MASKED = "-whole-word-masking"


def _published() -> tuple[Published, ...]:
    """READMEs of google-research/bert and of SpanBERT, and the models' pages on the Hub.

    SpanBERT's archives have neither pooler nor heads, but for one that its authors named in issue 44 there.
    """
    base, large, cased = PRESETS["bert-base"], PRESETS["bert-large"], PRESETS["bert-base-cased"]
    large_cased, chinese = PRESETS["bert-large-cased"], _preset(768, 12, 21128)
    multilingual, multilingual_cased = _preset(768, 12, 105879), _preset(768, 12, 119547)
    small = {(layers, hidden): _preset(hidden, layers) for layers in range(2, 13, 2) for hidden in (128, 256, 512, 768)}
    names = {size: f"L-{size[0]}_H-{size[1]}_A-{config.num_attention_heads}" for size, config in small.items()}
    url = "https://storage.googleapis.com/bert_models"
    spanbert = "https://dl.fbaipublicfiles.com/fairseq/models/spanbert"
    hub = (
        ("base-uncased", base, _FRESH, "English"),
        ("base-cased", cased, _FRESH, "English"),
        ("large-uncased", large, _FRESH, "English"),
        ("large-cased", large_cased, _FRESH, "English"),
        ("base-multilingual-uncased", multilingual, _FRESH, "102 languages"),
        ("base-multilingual-cased", multilingual_cased, _FRESH, "104 languages"),
        ("base-chinese", chinese, _FRESH, "Chinese"),
        (f"large-uncased{_MASKED}", large, _FRESH, "English"),
        (f"large-cased{_MASKED}", large_cased, _FRESH, "English"),
        (f"large-uncased{_MASKED}-finetuned-squad", large, _QA, "English"),
        (f"large-cased{_MASKED}-finetuned-squad", large_cased, _QA, "English"),
    )
    zips = (
        ("2018_10_18/uncased_L-12_H-768_A-12", base, "English"),
        ("2018_10_18/uncased_L-24_H-1024_A-16", large, "English"),
        ("2018_10_18/cased_L-12_H-768_A-12", cased, "English"),
        ("2018_10_18/cased_L-24_H-1024_A-16", large_cased, "English"),
        ("2018_11_03/multilingual_L-12_H-768_A-12", multilingual, "102 languages"),
        ("2018_11_23/multi_cased_L-12_H-768_A-12", multilingual_cased, "104 languages"),
        ("2018_11_03/chinese_L-12_H-768_A-12", chinese, "Chinese"),
        ("2019_05_30/wwm_uncased_L-24_H-1024_A-16", large, "English"),
        ("2019_05_30/wwm_cased_L-24_H-1024_A-16", large_cased, "English"),
    )
    spans = (("base", cased, "_base"), ("large", large_cased, ""))
    licence = "CC-BY-NC-4.0"
    return (
        *(Published(f"google-bert/bert-{name}", config, heads, language=said) for name, config, heads, said in hub),
        *(Published(f"google/bert_uncased_{names[size]}", config, _FRESH) for size, config in small.items()),
        *(Published(f"SpanBERT/spanbert-{name}-cased", config, (), licence) for name, config, _ in spans),
        Published("mrm8488/spanbert-finetuned-squadv2", cased, _QA, licence),
        *(archive(f"{url}/{name}.zip", config, _FRESH, language=said) for name, config, said in zips),
        *(archive(f"{url}/2020_02_20/uncased_{names[size]}.zip", config, _FRESH) for size, config in small.items()),
        *(archive(f"{spanbert}_hf{end}.tar.gz", config, (), licence=licence) for _, config, end in spans),
        archive(f"{spanbert}_large_with_head.tar.gz", large_cased, ("mlm", "sbo"), licence=licence),
    )


FAMILY = Family(
    model_type="bert",
    titles={"BERT": ("mlm", "nsp"), "SpanBERT": ("mlm", "sbo")},
    prefix="bert.",
    entries=_ENTRIES,
    pair="nsp",
    no_pair="SpanBERT was trained without one",
    fresh=_FRESH,
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
    config=bert_like.config_table(
        projects=False,
        google_file="bert_config.json",
        # Google's "gelu" was the exact one when the models of 2018 were trained, and transformers computes that.
        google_activations={},
        # Google's code has one gelu only, today the tanh approximation: that is written under its name.
        inexact=dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python"), "gelu"),
    ),
    presets=PRESETS,
    tokenizer=TokenizerTable({"wordpiece": "BertTokenizer"}),
    published=_published(),
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        f"{_SBO}decoder.weight": "bert.embeddings.word_embeddings.weight",
    },
    buffers=bert_like.buffers("bert"),
    legacy={
        # pytorch-pretrained-bert and SpanBERT, after TensorFlow.
        "hf": _GAMMA_BETA,
        "fairseq": {bert_like.WRAPPED: r"\1", **_GAMMA_BETA},
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
            # The heads of Model Garden's pre-training model, of which the second is a dense layer.
            r"cls/predictions/output_bias/bias": "cls/predictions/output_bias",
            r"predictions/transform/logits/kernel": "cls/seq_relationship/output_weights",
            r"predictions/transform/logits/bias": "cls/seq_relationship/output_bias",
        },
    },
    legacy_transposed=("predictions/transform/logits/kernel",),
    google_drop=bert_like.GOOGLE_DROP,
    keras_drop={r"save_counter": "counter of checkpoints"},
    # As the files that Transformers.jl 0.1 had for download.
    julia_untransposed=("cls.seq_relationship.weight",),
    keras_place="layer_{layer}/",
    keras_place_of_one="layer_{layer}/",
)
