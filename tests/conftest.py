import json
import string
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input beside the project; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the sample data is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def google_model(shared_data, tmp_path_factory) -> Path:
    """The TF1 checkpoint of the sample data, converted to a Hugging Face directory."""
    from converters import hub

    target = tmp_path_factory.mktemp("google") / "hf"
    hub.convert(shared_data / "checkpoints/tf1-google", target)
    return target


@pytest.fixture(scope="session")
def letter_model(tmp_path_factory) -> Path:
    """A small random model of 2 layers and 64 positions whose pieces are single characters."""
    from typer.testing import CliRunner

    from albert_cli.main import app

    folder = tmp_path_factory.mktemp("letters")
    characters = string.ascii_lowercase + string.digits + ".,?!"
    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁", *(f"▁{c}" for c in characters), *characters]
    scores = [0.0 if n < 5 else -1.0 - n / 100 for n in range(len(pieces))]
    (folder / "letters.vocab").write_text("".join(f"{p}\t{s:g}\n" for p, s in zip(pieces, scores, strict=True)))
    config = {
        "vocab_size": len(pieces),
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ["init", "hf", "--config", "config.json", "--tokenizer", "letters.vocab"]
    paths = [str(folder / item) if (folder / item).exists() or item == "hf" else item for item in arguments]
    assert CliRunner().invoke(app, paths, catch_exceptions=False).exit_code == 0
    return folder / "hf"
