"""ONNX files run by onnxruntime, and inputs for them."""

import numpy as np


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(path, given):
    """The outputs by name; what the file does not ask for is left out."""
    runner = session(path)
    asked = {item.name: given[item.name] for item in runner.get_inputs()}
    return dict(zip((out.name for out in runner.get_outputs()), runner.run(None, asked), strict=True))


def inputs(batch, tokens, config, seed=0):
    """Random ids of a config, of transformers or ours, and two segments; each row is padded one more than the last."""
    random = np.random.default_rng(seed)
    lengths = np.maximum(1, tokens - np.arange(batch))
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.int64)
    ids = random.integers(4, config.vocab_size, (batch, tokens))
    return {
        "input_ids": np.where(mask, ids, getattr(config, "pad_token_id", 0) or 0),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, config.type_vocab_size, (batch, tokens)),
    }
