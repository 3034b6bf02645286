"""ELECTRA (paper: arXiv 2003.10555): a discriminator, and the smaller generator that it was trained with.

Names: transformers' modeling_electra.py; google-research/electra run_pretraining.py, a checkpoint holds both models:
the embeddings are the discriminator's and serve the generator too. TensorFlow Model Garden's BertEncoder, which
projects narrower embeddings, is its encoder as well.
"""

from __future__ import annotations

from converters import bert_like
from converters.config import EncoderConfig
from converters.family import Entry, Family, Part, TokenizerTable
from converters.published import Published, archive

_ENTRIES = (
    *bert_like.embeddings("electra"),
    Entry("projection", "electra.embeddings_project", "electra/embeddings_project", "embedding_projection"),
    *bert_like.layer("electra"),
    Entry("rtd.dense", "discriminator_predictions.dense", "discriminator_predictions/dense"),
    Entry("rtd.out", "discriminator_predictions.dense_prediction", "discriminator_predictions/dense_1"),
    Entry("mlm.dense", "generator_predictions.dense", "generator_predictions/dense"),
    Entry("mlm.norm", "generator_predictions.LayerNorm", "generator_predictions/LayerNorm"),
    Entry("mlm.bias", "generator_lm_head.bias", "generator_predictions/output_bias"),
    Entry("mlm.decoder", "generator_lm_head", parts=("weight",)),
    # Google's own heads for tasks are others: one linear layer, or for SQuAD a chain of them.
    Entry("first_token.dense", "classifier.dense"),
    Entry("first_token.out", "classifier.out_proj"),
    Entry("summary", "sequence_summary.summary"),
    Entry("classifier", "classifier"),
    Entry("qa", "qa_outputs"),
)


def _preset(hidden: int, layers: int, embedding: int) -> EncoderConfig:
    return bert_like.preset("electra", hidden, layers, embedding_size=embedding, vocab_size=30522)


# google-research/electra configure_pretraining.py and the published models' sizes.
PRESETS = {
    "electra-small": _preset(256, 12, 128),
    "electra-base": _preset(768, 12, 768),
    "electra-large": _preset(1024, 24, 1024),
    "electra-small-generator": _preset(256, 12, 128),
    "electra-base-generator": _preset(256, 12, 768),
    "electra-large-generator": _preset(256, 24, 1024),
}
_SIZES = ("small", "base", "large")


def _published() -> tuple[Published, ...]:
    """README of google-research/electra; an archive holds discriminator and generator."""
    discriminators = {size: PRESETS[f"electra-{size}"] for size in _SIZES}
    generators = {size: PRESETS[f"electra-{size}-generator"] for size in _SIZES}
    url = "https://storage.googleapis.com/electra-data/electra"
    return (
        *(
            Published(f"google/electra-{size}-discriminator", config, ("rtd",))
            for size, config in discriminators.items()
        ),
        *(Published(f"google/electra-{size}-generator", config, ("mlm",)) for size, config in generators.items()),
        *(archive(f"{url}_{size}.zip", config, ("rtd",)) for size, config in discriminators.items()),
    )


FAMILY = Family(
    model_type="electra",
    titles={"ELECTRA": ("rtd", "mlm")},
    prefix="electra.",
    entries=_ENTRIES,
    pair=None,
    no_pair="it was trained on masked and replaced tokens alone",
    fresh=("rtd",),
    classes={
        "ElectraForSequenceClassification": ("first_token",),
        "ElectraForMultipleChoice": ("summary", "choice"),
        "ElectraForTokenClassification": ("tokens",),
        "ElectraForQuestionAnswering": ("qa",),
        "ElectraForPreTraining": ("rtd",),
        "ElectraForMaskedLM": ("mlm",),
    },
    bare="ElectraModel",
    reads_classifier={"ElectraForMultipleChoice": "choice", "ElectraForTokenClassification": "tokens"},
    config=bert_like.config_table(
        projects=True,
        google_file="electra_config.json",  # ours: Google's archives hold none
        google_config_follows=True,
        google_activations={},
    ),
    presets=PRESETS,
    tokenizer=TokenizerTable({"wordpiece": "ElectraTokenizer"}, casing="mostly lower", drop_category_c=True),
    preset_heads={f"electra-{size}-generator": ("mlm",) for size in _SIZES},
    published=_published(),
    projects_always=False,
    # transformers' ElectraGeneratorPredictions computes gelu whatever hidden_act says.
    mlm_activation="gelu",
    first_token_activation="gelu",
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    buffers=bert_like.buffers("electra"),
    legacy={"hf": bert_like.gamma_beta("LayerNorm")},
    google_drop=bert_like.GOOGLE_DROP,
    keras_drop={
        r"save_counter": "counter of checkpoints",
        r"pooler_transform/.*": "pooler, which Model Garden's encoder always has and an ELECTRA never trained",
    },
    keras_place="layer_{layer}/",
    keras_place_of_one="layer_{layer}/",
    parts=(
        Part(
            "discriminator",
            "rtd",
            own=("electra/encoder/", "electra/embeddings_project/", "discriminator_predictions/", "task_specific/"),
        ),
        Part(
            "generator",
            "mlm",
            own=("generator/", "generator_predictions/"),
            scopes={
                "electra/encoder/": "generator/encoder/",
                "electra/embeddings_project": "generator/embeddings_project",
            },
            untied={"generator/embeddings/": "electra/embeddings/"},
            config="electra_generator_config.json",  # ours
        ),
    ),
)
