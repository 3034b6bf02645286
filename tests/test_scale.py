"""The memory that a command takes: what its tensors in flight need, not what the model does."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import convert
from converters.buffer_pool import empty, reused
from converters.config import dump_json
from converters.dialects import to_google
from converters.families import albert, bert
from converters.initialize import initialize
from converters.tokenizers.files import TokenizerFiles

BENCH = Path(__file__).parents[1] / "bench" / "convert.py"
# Six matrices of 33.6 MB, so that a second copy of the model, or even the model once, is far above the limit.
SHAPE = {"hidden_size": 256, "intermediate_size": 32768, "num_hidden_layers": 3, "num_hidden_groups": 3}
CONFIGS = {
    "albert": dataclasses.replace(albert.PRESETS["tiny"], **SHAPE),
    # As a BERT-large: every layer has weights of its own.
    "bert": dataclasses.replace(bert.PRESETS["bert-tiny"], vocab_size=1000, embedding_size=256, **SHAPE),
}
LARGEST = 256 * 32768 * 4
MODEL = 6 * LARGEST
SLACK = 48 * 10**6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("scale")
    (work / "config.json").write_bytes(dump_json(to_google(CONFIGS["albert"])))
    made(work, "albert")
    convert.convert(work / "hf", work / "model.npz")
    convert.convert(work / "hf", work / "model.bson")
    return work


def made(work: Path, family: str) -> None:
    convert.save(initialize(CONFIGS[family], TokenizerFiles(), seed=1), work / "hf", format="safetensors")


def grown(work: Path, *arguments: str) -> int:
    """Bytes by which a command's memory grew beyond its imports, in a process of its own."""
    command = [sys.executable, str(BENCH), "--measure", *arguments]
    done = subprocess.run(command, cwd=work, check=True, stdout=subprocess.PIPE)
    figures = json.loads(done.stdout)
    return int(figures["peak"] - figures["before"])


@pytest.mark.parametrize(
    "command",
    [
        "convert hf a.npz --to npz",
        "convert hf a.bson --to bson",
        "convert hf d --to tf",
        "convert model.bson f --to safetensors",
        "inspect model.bson",
        "convert model.npz a --to safetensors",
        "convert hf b --to safetensors --dtype bfloat16",
        "inspect model.npz",
        "diff hf model.npz",
        "init c --model-config config.json --to safetensors",
    ],
)
def test_memory_follows_the_largest_tensor(models: Path, command: str) -> None:
    assert grown(models, *command.split()) <= 2 * LARGEST + SLACK < MODEL


def test_tensorflow_checkpoints_are_read_tensor_by_tensor(models: Path) -> None:
    convert.convert(models / "hf", models / "tf", target_as="tf")
    assert grown(models, "convert", "tf", "e.npz", "--to", "npz") <= 2 * LARGEST + SLACK < MODEL


def test_layers_that_are_not_shared_are_no_exception(tmp_path: Path) -> None:
    made(tmp_path, "bert")
    assert grown(tmp_path, "convert", "hf", "tf", "--to", "tf") <= 2 * LARGEST + SLACK < MODEL
    assert grown(tmp_path, "convert", "tf", "model.npz", "--to", "npz") <= 2 * LARGEST + SLACK < MODEL


def test_memory_is_used_again_only_when_no_view_is_left() -> None:
    shape, dtype = (1024, 1024), np.dtype(np.float32)
    with reused():
        first = empty(shape, dtype)
        first[...] = 1
        place, view = first.ctypes.data, first.T[5:]
        del first
        second = empty(shape, dtype)
        second[...] = 2
        assert second.ctypes.data != place
        assert np.all(view == 1)
        del view
        third = empty((512, 1024), dtype)
        assert third.ctypes.data == place
        third[...] = 3
        assert np.all(second == 2)
    assert np.all(third == 3)
    fourth = empty(shape, dtype)
    assert not np.shares_memory(fourth, third)
