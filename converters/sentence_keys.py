"""The files of a Sentence-Transformers directory: their names, and every setting in them, whoever wrote them."""

from __future__ import annotations

import re
from typing import Any

from converters.known_keys import Key

MODULES, MODEL = "modules.json", "config_sentence_transformers.json"
# The Transformer's own settings; each version of the library takes the first of these names that there is.
TRANSFORMER = "sentence_bert_config.json"
TRANSFORMER_FILES = (
    TRANSFORMER,
    *(
        f"sentence_{name}_config.json"
        for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
POOLING, NORMALIZE = "1_Pooling/config.json", "2_Normalize/config.json"
DENSE, LAYER_NORM, DROPOUT = "2_Dense/config.json", "2_LayerNorm/config.json", "2_Dropout/config.json"
# Modules that `convert` carries, each in a directory named by its place and class, as the library names them.
CARRIED = ("Pooling", "Normalize", "Dense", "Dropout", "LayerNorm", "WeightedLayerPooling", "CNN", "LSTM")
# Those that may follow the pooling, with the file that stands for theirs below.
AFTER_POOLING = {"Normalize": NORMALIZE, "Dense": DENSE, "LayerNorm": LAYER_NORM, "Dropout": DROPOUT}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MODULE_FILE = rf"([a-z]+_)?config\.json|{'|'.join(map(re.escape, WEIGHTS))}"
OURS = "|".join(
    [*map(re.escape, (MODULES, MODEL, *TRANSFORMER_FILES)), rf"\d+_({'|'.join(CARRIED)})(/({MODULE_FILE}))?"]
)

# The library's name of a pooling, and ours; several are joined in the order in which a file lists them.
POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weighted",
    "lasttoken": "lasttoken",
}
# The flags of versions before 5.6, in the order in which the vectors are joined.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Tokens of a text at most, where neither model nor user says how many.
DEFAULT_MAX_LENGTH = 512
# The prompts that every model has, empty where its files say nothing.
USUAL_PROMPTS = ("query", "document")

_EMPTY: tuple[Any, ...] = (None, {}, [])
_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_OF_TEXTS = (None, "sentence_embedding")
STACK = "supported are Transformer, Pooling, and after them Dense, LayerNorm, Dropout and Normalize"

SENTENCE_KEYS: tuple[Key, ...] = (
    Key(MODULES, "idx", "no effect", "the order of the list counts"),
    Key(MODULES, "name", "no effect", "a name"),
    Key(MODULES, "path", "honoured", "the module's directory: that of the encoder in the old layout, 0_Transformer"),
    Key(MODULES, "type", "honoured", f"{STACK}; embed, similarity and evaluate refuse others by name"),
    Key(MODULES, "kwargs", "refused", "arguments of modules are not supported", _EMPTY),
    Key(MODEL, "__version__", "no effect", "says where the file is from"),
    Key(MODEL, "requirements", "no effect", "says what Python needs"),
    Key(MODEL, "model_type", "refused", "only dense vectors are supported", (None, "SentenceTransformer")),
    Key(MODEL, "prompts", "honoured", "what may stand before a text, by name; --prompt chooses one"),
    Key(MODEL, "default_prompt_name", "honoured", "the default of --prompt"),
    Key(MODEL, "truncate_dim", "honoured", "the default of --dims"),
    Key(
        MODEL,
        "similarity_fn_name",
        "refused",
        "albert similarity computes the cosine (dot is one, where Normalize is last); embed does not read it",
        (None, "cosine"),
    ),
    Key(TRANSFORMER, "max_seq_length", "honoured", "the default of --max-length, no more than the model takes"),
    Key(TRANSFORMER, "do_lower_case", "honoured", "true: texts are lower-cased; --cased overrides it"),
    Key(TRANSFORMER, "transformer_task", "refused", "only the encoder is supported", (None, "feature-extraction")),
    Key(TRANSFORMER, "modality_config", "refused", "only text and the last layer are supported", (None, _TEXT_ONLY)),
    Key(TRANSFORMER, "module_output_name", "refused", "only token vectors are supported", (None, "token_embeddings")),
    Key(TRANSFORMER, "unpad_inputs", "no effect", "how the same numbers are computed"),
    *(
        Key(TRANSFORMER, name, "refused", "it is not supported", _EMPTY)
        for name in (
            "processing_kwargs",
            "query_length",
            "document_length",
            "query_expansion",
            "tokenizer_name_or_path",
            "model_args",
            "model_kwargs",
            "tokenizer_args",
            "processor_kwargs",
            "config_args",
            "config_kwargs",
        )
    ),
    Key(POOLING, "pooling_mode", "honoured", "the default of --pooling; several are joined in their order"),
    *(
        Key(POOLING, flag, "honoured", f"of older versions: pooling_mode {mode}, where pooling_mode is absent")
        for flag, mode in FLAGS.items()
    ),
    Key(POOLING, "include_prompt", "honoured", "false: the tokens of the prompt are left out of the pooling"),
    Key(POOLING, "embedding_dimension", "no effect", "the size of the model's vectors"),
    Key(POOLING, "word_embedding_dimension", "no effect", "embedding_dimension in older versions"),
    *(
        Key(file, name, "refused", "only vectors of texts", _OF_TEXTS)
        for file in (NORMALIZE, DENSE)
        for name in ("module_input_name", "module_output_name")
    ),
    Key(DENSE, "in_features", "honoured", "the numbers of a vector before the layer, as the weights have it"),
    Key(DENSE, "out_features", "honoured", "and after it"),
    Key(DENSE, "bias", "honoured", "whether the layer has one"),
    Key(DENSE, "activation_function", "honoured", "a class of torch.nn that computes number by number; else Tanh"),
    Key(DENSE, "use_residual", "honoured", "true: what goes in is added to what comes out, projected where needed"),
    Key(LAYER_NORM, "dimension", "honoured", "the numbers of a vector"),
    Key(DROPOUT, "dropout", "no effect", "nothing is dropped but in training"),
)
