"""Tiny RoBERTas as fairseq wrote them over the years: the same weights in every spelling and layout."""

import argparse
import enum
import sys
import types

import numpy as np
import torch

HIDDEN, INTERMEDIATE, LAYERS, HEADS, WORDS, POSITIONS, LABELS = 8, 12, 2, 4, 24, 12, 3
NEW = "encoder.sentence_encoder."
ARGS = {
    "arch": "roberta_base",
    "encoder_layers": LAYERS,
    "encoder_embed_dim": HIDDEN,
    "encoder_ffn_embed_dim": INTERMEDIATE,
    "encoder_attention_heads": HEADS,
    "max_positions": POSITIONS,
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "pooler_dropout": 0.0,
    "activation_fn": "gelu",
    "pooler_activation_fn": "tanh",
    "lr": [0.0006],
    "adam_betas": "(0.9, 0.98)",
    "criterion": None,
}


def state(seed=0, heads=("mnli",), dtype=torch.float16):
    """The state dict of today's fairseq, every value random."""
    rows, H, I = WORDS + 5, HIDDEN, INTERMEDIATE  # noqa: E741
    shapes = {f"{NEW}embed_tokens.weight": (rows, H), f"{NEW}embed_positions.weight": (POSITIONS + 2, H)}

    def dense(name, out, into):
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def norm(name):
        shapes.update({f"{name}.weight": (H,), f"{name}.bias": (H,)})

    norm(f"{NEW}layernorm_embedding")
    for layer in range(LAYERS):
        at = f"{NEW}layers.{layer}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            dense(f"{at}self_attn.{name}", H, H)
        norm(f"{at}self_attn_layer_norm")
        dense(f"{at}fc1", I, H)
        dense(f"{at}fc2", H, I)
        norm(f"{at}final_layer_norm")
    shapes["encoder.lm_head.bias"] = (rows,)
    dense("encoder.lm_head.dense", H, H)
    norm("encoder.lm_head.layer_norm")
    for name in heads:
        dense(f"classification_heads.{name}.dense", H, H)
        dense(f"classification_heads.{name}.out_proj", LABELS, H)
    random = np.random.default_rng(seed)
    made = {name: torch.tensor(random.standard_normal(shape)).to(dtype) for name, shape in shapes.items()}
    made["encoder.lm_head.weight"] = made[f"{NEW}embed_tokens.weight"]
    made[f"{NEW}version"] = torch.tensor([3.0])
    made[f"{NEW}embed_positions._float_tensor"] = torch.zeros(1)
    return made


def old(made):
    """The names of before the middle of 2019: a decoder, and query, key and value in one matrix."""
    made = dict(made)
    for layer in range(LAYERS):
        at = f"{NEW}layers.{layer}.self_attn."
        for part in ("weight", "bias"):
            made[f"{at}in_proj_{part}"] = torch.cat([made.pop(f"{at}{name}_proj.{part}") for name in "qkv"])
    return {
        name.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm"): value
        for name, value in made.items()
    }


def namespace(**more):
    return argparse.Namespace(**ARGS | more)


def trained(made, model):
    """What training leaves since 0.10.1, `model` being the settings of the model."""
    return {
        "args": None,
        "cfg": {"_name": None, "common": {"seed": 1}, "model": model, "task": namespace(task="masked_lm")},
        "model": made,
        "criterion": None,
        "optimizer_history": [{"optimizer_name": "FairseqAdam", "num_updates": 7}],
        "extra_state": {"epoch": 1, "val_loss": np.float64(2.5)},
        "last_optimizer_state": {"state": {0: {"step": 7, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    }


def write(folder, value, *, zipped=True, dictionary=WORDS):
    """A directory as in the archives; the tokenizer's other files are not in these."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(value, folder / "model.pt", _use_new_zipfile_serialization=zipped)
    if dictionary is not None:
        (folder / "dict.txt").write_text("".join(f"{number} {1000 - number}\n" for number in range(dictionary)))
    return folder


class Forged:
    """Classes of libraries that are not installed, importable while something is pickled."""

    def __init__(self, monkeypatch):
        self._monkeypatch, self.modules = monkeypatch, set()

    def named(self, full, base=object, **members):
        """A class of that full name; or an Enum with members."""
        module, _, name = full.rpartition(".")
        made = enum.Enum(name, members) if members else type(name, (base,), {})
        made.__module__ = module
        for depth in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:depth])
            if part not in self.modules:
                self._monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
                self.modules.add(part)
        setattr(sys.modules[module], name, made)
        return made

    def gone(self):
        for module in self.modules:
            self._monkeypatch.delitem(sys.modules, module)


def omegaconf(forged, settings):
    """A DictConfig as fairseq's own configs are pickled: nodes in a container, with types and members of an Enum."""
    container, node = forged.named("omegaconf.dictconfig.DictConfig"), forged.named("omegaconf.nodes.AnyNode")
    metadata = forged.named("omegaconf.base.ContainerMetadata")
    choice = forged.named("fairseq.dataclass.constants.LOG_FORMAT_CHOICES", json="json", none="none")

    def made(kind, **state):
        value = kind()
        value.__dict__.update(state)
        return value

    held = made(container)
    about = made(metadata, ref_type=dict, object_type=dict, key=None, optional=True)
    values = settings | {"log_format": choice.json}
    content = {name: made(node, _metadata=about, _parent=held, _val=value) for name, value in values.items()}
    held.__dict__.update(_metadata=about, _parent=None, _content=content, _flags_cache=None)
    return held
