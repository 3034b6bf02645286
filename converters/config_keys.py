"""What is done with every key of `config.json` (and `albert_config.json`), and with the files that lie beside it.

What a key does is what transformers' ALBERT and Google's modeling.py make of it, today and in older versions. Refused
is what one of them computes otherwise for, and what names code, weights or settings elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from converters.errors import FormatError
from converters.known_keys import Key, refusals, unknown

CONFIG = "config.json"
_NOTHING: tuple[Any, ...] = (None, {}, [])


def _keys(treatment: Any, note: str, names: str, file: str = CONFIG) -> tuple[Key, ...]:
    return tuple(Key(file, name, treatment, note) for name in names.split())


_SIZES = (
    *_keys(
        "honoured",
        "a size of the model",
        "vocab_size embedding_size hidden_size num_hidden_layers num_hidden_groups inner_group_num "
        "num_attention_heads intermediate_size max_position_embeddings type_vocab_size",
    ),
    Key(CONFIG, "model_type", "honoured", "the family; one that is not supported is refused"),
    Key(CONFIG, "hidden_act", "honoured", "an unknown one is refused; Google's gelu is Hugging Face's gelu_new"),
    Key(CONFIG, "hf_hidden_act", "honoured", "in albert_config.json: the activation that has no name in Google's code"),
    Key(CONFIG, "layer_norm_eps", "honoured", "1e-12 by default"),
    Key(CONFIG, "share", "honoured", "written by this program: what all layers have in common"),
)
_TRAINING = (
    *_keys("honoured", "in training", "hidden_dropout_prob attention_probs_dropout_prob initializer_range"),
    *_keys("honoured", "in fine-tuning; null: as hidden_dropout_prob", "classifier_dropout_prob classifier_dropout"),
)
_LABELS = (
    Key(CONFIG, "id2label", "honoured", "the labels' names in predict"),
    Key(CONFIG, "label2id", "no effect", "the inverse of id2label"),
    Key(CONFIG, "num_labels", "no effect", "the labels are as many as the weights have"),
    Key(CONFIG, "problem_type", "honoured", "in predict"),
    Key(CONFIG, "finetuning_task", "no effect", "a name"),
)
_TIED = Key(
    CONFIG,
    "tie_word_embeddings",
    "honoured",
    "false: the masked-word head has a decoder of its own",
)
_PLAIN = (
    Key(CONFIG, "architectures", "no effect", "the weights say which heads there are"),
    *_keys(
        "no effect", "the weights are taken as they are stored, and computed with in --precision", "dtype torch_dtype"
    ),
    *_keys(
        "no effect",
        "says where the file is from",
        "transformers_version _name_or_path name_or_path _commit_hash filename xla_device language",
    ),
    *_keys(
        "no effect",
        "the tokenizer's files decide the ids; a RoBERTa's positions begin at pad_token_id + 1",
        "pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id "
        "decoder_start_token_id tokenizer_class",
    ),
    *_keys(
        "no effect",
        "how transformers computes or returns the same numbers",
        "attn_implementation _attn_implementation _attn_implementation_autoset _attn_implementation_internal "
        "experts_implementation chunk_size_feed_forward gradient_checkpointing output_attentions "
        "output_hidden_states output_past return_dict use_return_dict torchscript use_bfloat16 tf_legacy_loss "
        "tie_last_hidden_states",
    ),
    *_keys(
        "no effect",
        "transformers' ALBERT is an encoder whatever this says; of the other families is_decoder and "
        "add_cross_attention are refused where they are true",
        "is_decoder is_encoder_decoder is_causal add_cross_attention cross_attention_hidden_size "
        "tie_encoder_decoder use_cache",
    ),
    *_keys(
        "no effect",
        "for text generation",
        "task_specific_params prefix max_length min_length do_sample early_stopping num_beams temperature top_k top_p "
        "typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids "
        "num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id "
        "remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens epsilon_cutoff "
        "eta_cutoff encoder_repetition_penalty num_assistant_tokens num_assistant_tokens_schedule "
        "assistant_confidence_threshold assistant_lookbehind target_lookbehind num_beam_groups diversity_penalty",
    ),
    *_keys(
        "no effect",
        "Google's published code does not read it",
        "down_scale_factor net_structure_type num_memory_blocks gap_size layers_to_keep",
    ),
    *_keys(
        "no effect",
        "BERT's code does not read it either",
        "directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head "
        "pooler_type",
    ),
)
_SUMMARY = _keys(
    "no effect",
    "how transformers' ELECTRA sums a text up for multiple choice",
    "summary_type summary_use_proj summary_activation summary_last_dropout summary_first_dropout "
    "summary_proj_to_labels",
)
_REFUSED = (
    Key(
        CONFIG,
        "position_embedding_type",
        "refused",
        "only absolute positions are supported; convert it with the program that trained it",
        (None, "absolute"),
    ),
    Key(CONFIG, "ln_type", "refused", "only postln is supported: LayerNorm after each part", (None, "postln")),
    Key(CONFIG, "pruned_heads", "refused", "models without some of their heads are not supported", _NOTHING),
    Key(CONFIG, "per_layer_config", "refused", "layers of different settings are not supported", _NOTHING),
    Key(CONFIG, "quantization_config", "refused", "quantized weights are not supported; use the original", _NOTHING),
    Key(CONFIG, "compression_config", "refused", "compressed weights are not supported; use the original", _NOTHING),
    Key(
        CONFIG,
        "auto_map",
        "refused",
        "code that comes with a model is never run; remove the key if the model is a plain one",
        _NOTHING,
    ),
    Key(CONFIG, "adapters", "refused", "adapters are not supported; merge them into the weights", _NOTHING),
    Key(CONFIG, "transformers_weights", "refused", "it names other weights; convert those", (None,)),
    Key(CONFIG, "configuration_files", "refused", "it names other configs; use the one that applies", _NOTHING),
    *(
        Key(CONFIG, name, "refused", "rotary positions are not supported", _NOTHING)
        for name in ("rope_parameters", "rope_scaling", "rope_theta")
    ),
)
_FILES = (
    Key("adapter_config.json", "", "refused", "a PEFT adapter changes the weights; merge it and save the whole model"),
    *(
        Key(file, "", "refused", "quantized weights are not supported; use the original")
        for file in ("quantize_config.json", "quant_config.json")
    ),
    Key("generation_config.json", "", "no effect", "for text generation; not carried"),
    *(
        Key(file, "", "no effect", "not read, not carried")
        for file in (".gitattributes", "README.md", "training_args.bin", "trainer_state.json")
    ),
)

CONFIG_KEYS: tuple[Key, ...] = (*_SIZES, *_TRAINING, *_LABELS, _TIED, *_PLAIN, *_SUMMARY, *_REFUSED, *_FILES)
_REFUSED_FILES = tuple(key for key in CONFIG_KEYS if not key.key and key.treatment == "refused")


# Of a family whose code in transformers reads them.
_DECODER = tuple(
    Key(CONFIG, name, "refused", "decoders are not supported, only encoders", (None, False))
    for name in ("is_decoder", "add_cross_attention")
)


def config_refusals(settings: Mapping[str, Any], *, may_decode: bool) -> list[str]:
    """What of a config's settings is refused; `may_decode`: the family is a decoder where its config says so."""
    return refusals(settings, (*CONFIG_KEYS, *_DECODER) if may_decode else CONFIG_KEYS, CONFIG)


def notes_on(settings: Iterable[str]) -> list[str]:
    """A note on unknown keys; they are kept."""
    found = unknown(settings, CONFIG_KEYS, CONFIG)
    if not found:
        return []
    names = ", ".join(map(repr, found[:5])) + (", …" if len(found) > 5 else "")
    return [f"the config has {names}, no known setting of an encoder: kept, without effect"]


def holds_refused_file(directory: Path) -> bool:
    return any((directory / key.file).exists() for key in _REFUSED_FILES)


def check_files(directory: Path) -> None:
    """FormatError for files that make another model of the weights."""
    faults = [f"{directory / key.file}: {key.note}" for key in _REFUSED_FILES if (directory / key.file).exists()]
    if faults:
        raise FormatError("; ".join(faults))
