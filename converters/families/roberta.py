"""RoBERTa (paper: arXiv 1907.11692).

Names: transformers' modeling_roberta.py; fairseq's roberta/model.py and modules/transformer_sentence_encoder.py.
"""

from __future__ import annotations

from converters import bert_like
from converters.config import EncoderConfig
from converters.family import Entry, Family, TokenizerTable
from converters.published import Published, archive

_HF = "roberta.encoder.layer.{layer}."
_FAIRSEQ = "encoder.sentence_encoder."
_LAYER = f"{_FAIRSEQ}layers.{{layer}}."

_ENTRIES = (
    Entry("embeddings.words", "roberta.embeddings.word_embeddings", fairseq=f"{_FAIRSEQ}embed_tokens"),
    Entry("embeddings.positions", "roberta.embeddings.position_embeddings", fairseq=f"{_FAIRSEQ}embed_positions"),
    Entry("embeddings.types", "roberta.embeddings.token_type_embeddings"),  # fairseq has none: zeros
    Entry("embeddings.norm", "roberta.embeddings.LayerNorm", fairseq=f"{_FAIRSEQ}layernorm_embedding"),
    *(
        Entry(f"layer.{role}", _HF + hf, fairseq=_LAYER + fairseq)
        for role, hf, fairseq in (
            ("query", "attention.self.query", "self_attn.q_proj"),
            ("key", "attention.self.key", "self_attn.k_proj"),
            ("value", "attention.self.value", "self_attn.v_proj"),
            ("attention_output", "attention.output.dense", "self_attn.out_proj"),
            ("attention_norm", "attention.output.LayerNorm", "self_attn_layer_norm"),
            ("intermediate", "intermediate.dense", "fc1"),
            ("output", "output.dense", "fc2"),
            ("output_norm", "output.LayerNorm", "final_layer_norm"),
        )
    ),
    Entry("pooler", "roberta.pooler.dense"),
    Entry("mlm.dense", "lm_head.dense", fairseq="encoder.lm_head.dense"),
    Entry("mlm.norm", "lm_head.layer_norm", fairseq="encoder.lm_head.layer_norm"),
    Entry("mlm.bias", "lm_head.bias", fairseq="encoder.lm_head.bias"),
    Entry("mlm.decoder", "lm_head.decoder", fairseq="encoder.lm_head.decoder"),
    Entry("first_token.dense", "classifier.dense", fairseq="classifier.dense"),
    Entry("first_token.out", "classifier.out_proj", fairseq="classifier.out_proj"),
    Entry("classifier", "classifier"),
    Entry("qa", "qa_outputs"),
)


def _preset(hidden: int, layers: int) -> EncoderConfig:
    return bert_like.preset(
        "roberta",
        hidden,
        layers,
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        position_offset=2,
        extra={"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    )


PRESETS = {
    "roberta-base": _preset(768, 12),
    "roberta-large": _preset(1024, 24),
    "distilroberta-base": _preset(768, 6),
}


def _published() -> tuple[Published, ...]:
    """README of fairseq's examples/roberta, and the models' pages on the Hub; none has a pooler that was trained."""
    base, large = PRESETS["roberta-base"], PRESETS["roberta-large"]
    url = "https://dl.fbaipublicfiles.com/fairseq/models/roberta"
    mnli = ("first_token",)
    return (
        Published("FacebookAI/roberta-base", base, ("mlm",), "MIT"),
        Published("FacebookAI/roberta-large", large, ("mlm",), "MIT"),
        Published("FacebookAI/roberta-large-mnli", large, mnli, "MIT"),
        Published("distilbert/distilroberta-base", PRESETS["distilroberta-base"], ("mlm",)),
        archive(f"{url}.base.tar.gz", base, ("mlm",), licence="MIT"),
        archive(f"{url}.large.tar.gz", large, ("mlm",), licence="MIT"),
        archive(f"{url}.large.mnli.tar.gz", large, ("mlm", *mnli), licence="MIT"),
        archive(f"{url}.large.wsc.tar.gz", large, ("mlm",), licence="MIT"),
    )


FAMILY = Family(
    model_type="roberta",
    titles={"RoBERTa": ("mlm",)},
    prefix="roberta.",
    entries=_ENTRIES,
    pair=None,
    no_pair="it was trained without next-sentence prediction",
    fresh=("mlm",),
    classes={
        "RobertaForSequenceClassification": ("first_token",),
        "RobertaForMultipleChoice": ("pooler", "choice"),
        "RobertaForTokenClassification": ("tokens",),
        "RobertaForQuestionAnswering": ("qa",),
        "RobertaForMaskedLM": ("mlm",),
    },
    bare="RobertaModel",
    reads_classifier={"RobertaForMultipleChoice": "choice", "RobertaForTokenClassification": "tokens"},
    config=bert_like.config_table(
        projects=False,
        google_file=None,
        google_activations={},
        # Absent keys have the values of transformers' RobertaConfig, which are not those of any published model.
        pad_token_id=1,
        positions_follow_pad=True,
    ),
    presets=PRESETS,
    tokenizer=TokenizerTable({"bpe": "RobertaTokenizer"}),
    published=_published(),
    # fairseq's RobertaLMHead computes gelu whatever activation_fn says, and transformers' does.
    mlm_activation="gelu",
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    buffers=bert_like.buffers("roberta"),
    legacy={
        "hf": {**bert_like.gamma_beta("LayerNorm"), r"lm_head\.weight": "lm_head.decoder.weight"},
        "fairseq": {
            bert_like.WRAPPED: r"\1",
            r"decoder\.(.*)": r"encoder.\1",
            r"(.*sentence_encoder)\.emb_layer_norm\.(.*)": r"\1.layernorm_embedding.\2",
            r"encoder\.lm_head\.weight": "encoder.lm_head.decoder.weight",
            r"classification_heads\.[^.]+\.(.*)": r"classifier.\1",
        },
    },
    # Before the middle of 2019.
    fused={
        r"(.*\.self_attn)\.in_proj_(weight|bias)": (r"\1.q_proj.\2", r"\1.k_proj.\2", r"\1.v_proj.\2"),
    },
    fairseq_drop={
        r"encoder\.sentence_encoder\.version|.*_float_tensor": "buffers",
    },
)
