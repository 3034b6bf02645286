"""Modules that we write, as users of TF-Hub take them: `hub.KerasLayer` in a Keras model, in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import convert

LIBRARIES = ("tensorflow", "tensorflow_hub", "tf_keras", "pkg_resources")  # the last went with setuptools 82

# Nothing of ours can be imported here; the paths are those of TensorFlow and of the two libraries of TF-Hub.
SCRIPT = """
import json, sys
sys.path += sys.argv[4:]
sys.modules["converters"] = sys.modules["albert_cli"] = None
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras as keras

with np.load(sys.argv[2]) as file:
    names = {"input_word_ids": "input_ids", "input_mask": "input_mask", "input_type_ids": "token_type_ids"}
    arrays = {name: file[key].astype(np.int32) for name, key in names.items()}
layer = hub.KerasLayer(sys.argv[1], trainable=True)
inputs = {name: keras.Input([None], dtype=tf.int32, name=name) for name in arrays}
outputs = layer(inputs)
encoder = keras.Model(inputs, {name: outputs[name] for name in ("pooled_output", "sequence_output")})
np.savez(sys.argv[3], **encoder.predict(arrays, verbose=0))

model = keras.Model(inputs, keras.layers.Dense(1)(outputs["pooled_output"]))
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
before = {weight.name: weight.numpy() for weight in layer.trainable_weights}
model.fit(arrays, np.ones([len(arrays["input_mask"]), 1], np.float32), verbose=0)
after = {weight.name: weight.numpy() for weight in layer.trainable_weights}
print(json.dumps({
    "trainable": sorted(before),
    "learnt": sorted(name for name in before if not np.array_equal(before[name], after[name])),
    "asset": layer.resolved_object.sp_model_file.asset_path.numpy().decode(),
}))
"""


def folder_of(library):
    """Where a library is installed; the test is skipped where it is not."""
    found = importlib.util.find_spec(library)
    if found is None:
        pytest.skip(f"{library} is not installed: pip install --no-deps tensorflow-hub tf-keras 'setuptools<82'")
    return str(Path(found.origin).parents[1])


def test_in_a_keras_model(shared_data, tmp_path):
    """Model Garden's outputs within 1e-5 after module -> Hugging Face -> module; a step trains all that is used."""
    folders = dict.fromkeys(folder_of(name) for name in LIBRARIES)
    source = shared_data / "checkpoints/tfhub2-saved-model"
    convert.convert(source, tmp_path / "hf")
    convert.convert(tmp_path / "hf", tmp_path / "module", target_as="saved-model")
    expected = shared_data / "checkpoints/tfhub2-saved-model.expected.npz"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, tmp_path / "module", expected, tmp_path / "found.npz", *folders],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found, np.load(expected) as wanted:
        real = wanted["input_mask"].astype(bool)
        assert np.abs(found["sequence_output"] - wanted["sequence_output"])[real].max() < 1e-5
        assert np.abs(found["pooled_output"] - wanted["pooled_output"]).max() < 1e-5
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(facts["trainable"]) == len(convert.load(source).tensors)
    still = set(facts["trainable"]) - set(facts["learnt"])
    assert all("key/bias" in name for name in still)  # softmax takes no notice of it
    asset = Path(facts["asset"])
    assert asset.read_bytes() == (source / "assets/30k-clean.model").read_bytes()
