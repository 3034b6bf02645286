"""Models of other architectures, and unsupported forms of ours, recognised by the names of tensors or files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from converters.errors import PLACE, SpecError

# Unsupported architectures, by the name of a tensor (separated by dots) or variable (by slashes) that only they have.
_TENSORS = {
    r"bert/encoder/layer_shared/.*|bert/embeddings/word_embeddings_2": (
        "an early community albert_zh checkpoint (layer_shared, embeddings added after the projection), "
        "which is another architecture than Google's ALBERT"
    ),
    r".*/layer_normalization(_\d+)?/.*|.*/group_\d+_\d+/layer_\d+/.*": (
        "written by TF2-migrated training code whose layers no longer share their weights "
        "(layer_normalization_N), so not an ALBERT"
    ),
    r".*\blora_[AB]\b.*|.*\blora_embedding_[AB]\b.*": (
        "a LoRA adapter, which is no model without its base: merge the two (peft: merge_and_unload) and save that"
    ),
    r"(.*\.)?distilbert\.transformer\.layer\.\d+\..*": "a DistilBERT, which is not supported",
    r"(.*\.)?deberta\.encoder\.layer\.\d+\..*": "a DeBERTa, which is not supported",
    r"(.*\.)?xlm_roberta\.(encoder|embeddings)\..*": "an XLM-RoBERTa, which is not supported",
    r"generator_(ltr|rtl)/.*|cloze_predictions/.*": "an Electric, which is not supported",
}

# Files of models in forms that are not read here, each with the way to one that is.
_SAVE_AGAIN = "load it with the library that wrote it and save the weights as safetensors or a PyTorch state dict"
_FILES = {
    r"adapter_(config\.json|model\.(safetensors|bin))": (
        "an adapter (PEFT), which is no model without its base: merge the two (peft: merge_and_unload) and save that"
    ),
    r"tf_model(-\d+-of-\d+)?\.h5": (
        "weights of transformers for TensorFlow 2, which are not read: with transformers 4, "
        "AutoModel.from_pretrained(DIR, from_tf=True).save_pretrained(OUT)"
    ),
    r"flax_model(-\d+-of-\d+)?\.msgpack": (
        "weights of transformers for Flax, which are not read: with transformers 4, "
        "AutoModel.from_pretrained(DIR, from_flax=True).save_pretrained(OUT)"
    ),
    r".*\.(data-\d{5}-of-\d{5}|meta)": (
        "a part of a TensorFlow checkpoint, which is read by its .index: name that, and copy it there if it is not"
    ),
    r".*\.(h5|hdf5|keras)": f"Keras's weights, which are not read: {_SAVE_AGAIN}",
    r".*\.weights\.h5": f"Keras's weights, which are not read: {_SAVE_AGAIN}",
    r".*\.msgpack": f"Flax's weights, which are not read: {_SAVE_AGAIN}",
    r"rust_model\.ot|.*\.ot": f"weights for rust-bert, which are not read: {_SAVE_AGAIN}",
    r".*\.onnx": "an ONNX model, which is written here but not read: name the model that it was made from",
    r".*\.(gguf|ggml)": "a GGUF model, which is not read: name the model that it was made from",
    r".*\.tflite": "a TensorFlow Lite model, which is not read: name the model that it was made from",
    r"openvino_model\.(xml|bin)": "an OpenVINO model, which is not read: name the model that it was made from",
    r".*\.mlmodel|.*\.mlpackage": "a Core ML model, which is not read: name the model that it was made from",
}
_STARTS = {b"\x89HDF\r\n\x1a\n": ".h5", b"GGUF": ".gguf"}
_CONFIGS = r"(albert_|bert_)?config.*\.json"
_TOKENIZERS = (
    r"spiece\.(model|vocab)|30k-clean\.(model|vocab)|vocab(_chinese)?\.txt|vocab\.json|merges\.txt"
    r"|tokenizer(_config)?\.json|.*\.vocab"
)
# Files that may be weights under a name of one's own, but for what training leaves beside them.
_WEIGHTS = (
    r"(?!(optimizer|scheduler|scaler|training_args|rng_state|random_states)).*"
    r"\.(pt|pth|bin|ckpt|safetensors|npz|bson|tfbson|tar|tar\.gz|tgz|zip)"
)
_MOST_LISTED = 8


def refuse(names: Iterable[str], where: str, *, kind: str = "tensor") -> None:
    """SpecError for the tensors of a model of an architecture that is known not to be supported."""
    names = list(names)
    for pattern, what in _TENSORS.items():
        if found := next((name for name in names if re.fullmatch(pattern, name)), None):
            raise SpecError(where, f"{what}; seen in {kind} {found}")


def instead(path: Path) -> str | None:
    """What a path contains if no format recognises it, and what to do; None if that cannot be
    determined. It is the detail of an error."""
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        return "a pipe or device, not a regular file"
    names = sorted(entry.name for entry in path.iterdir())
    for pattern, what in _FILES.items():
        if found := next((name for name in names if re.fullmatch(pattern, name)), None):
            return f"holds {found}, {what}"
    files = [name for name in names if re.fullmatch(_WEIGHTS, name) and (path / name).is_file()]
    if files:
        return f"contains no model under a known name, but {_listed(files)}: name the file, as {PLACE}/{files[0]}"
    below = [name for name in names if (path / name).is_dir() and _is_model(path / name)]
    if below:
        return f"holds no model itself, but its directories {_listed(below)} may: name one, as {PLACE}/{below[0]}"
    for pattern, what in ((_CONFIGS, "a config"), (_TOKENIZERS, "a tokenizer")):
        if found := next((name for name in names if re.fullmatch(pattern, name)), None):
            return f"holds {what} ({found}) and no weights; copy the model's there (model.safetensors or another kind)"
    return None


def _file(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
    suffix = next((suffix for magic, suffix in _STARTS.items() if start.startswith(magic)), "")
    for name in (path.name, path.name + suffix):
        for pattern, what in _FILES.items():
            if re.fullmatch(pattern, name):
                return what
    for pattern, what in ((_CONFIGS, "a config"), (_TOKENIZERS, "a tokenizer's file")):
        if re.fullmatch(pattern, path.name):
            return f"{what}, not weights; name the directory that holds the model"
    return None


def _is_model(directory: Path) -> bool:
    return any(
        entry.is_file() and re.fullmatch(rf"{_CONFIGS}|.*\.(index|safetensors|pb)|pytorch_model.*\.bin", entry.name)
        for entry in directory.iterdir()
    )


def _listed(names: list[str]) -> str:
    rest = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")
