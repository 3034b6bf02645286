"""--device, --threads, --precision, --batch-tokens: whatever computes has them, and computes as they say."""

import json
import threading

import pytest
import torch
import tuning
from test_foreign_models import model as fine_tuned
from test_options import commands, options
from typer.testing import CliRunner

from albert_cli.embedding.encoders import make_encoder
from albert_cli.errors import DeviceError, TrainingError
from albert_cli.machine import Machine, find_device, on_threads
from albert_cli.main import app
from albert_cli.model import hidden_states
from albert_cli.model.encoder import Encoder
from albert_cli.model.packed import PackedEncoder
from albert_cli.runs import processes

FOUR = ("--device", "--threads", "--precision", "--batch-tokens")
COMPUTING = {
    "answer", "embed", "evaluate", "fill-mask", "finetune", "predict", "pretrain", "score", "search", "serve",
    "similarity", "sop",
}  # fmt: skip
WITHOUT = {"convert", "diff", "init", "inspect", "models", "tokenize"}
# (option, command): why there is none.
EXCEPTIONS = {
    ("--batch-tokens", "finetune"): "--grad-accum parts a batch: the rows of one update are a setting of the run",
    ("--batch-tokens", "pretrain"): "--grad-accum parts a batch: --tokens-per-update is a setting of the run",
}


def test_every_command_that_computes_has_the_four_options():
    assert set(commands()) == COMPUTING | WITHOUT
    for command, callback in commands().items():
        names = {name for name, _ in options(callback)}
        wanted = {name for name in FOUR if command in COMPUTING and (name, command) not in EXCEPTIONS}
        assert names & set(FOUR) == wanted, command


@pytest.fixture(scope="module")
def words(tmp_path_factory, letter_model):
    """Command lines over several texts, by command."""
    folder = tmp_path_factory.mktemp("models")
    texts = ["a", "a good film", "a bad film of a good film"]
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    (folder / "masks.txt").write_text("".join(f"{text} [MASK]\n" for text in texts))
    (folder / "pairs.csv").write_text("text,pair\n" + "".join(f"{text},b\n" for text in texts))
    labelled = tuning.write_csv(folder / "dev.csv", [(text, "LABEL_0") for text in texts])
    run = fine_tuned(folder / "run", [0.5, 2])
    answers = fine_tuned(folder / "qa", [0, 2], name="qa_outputs")
    model = ["--model", letter_model, "--json"]
    return {
        "fill-mask": ["--in", folder / "masks.txt", *model],
        "score": ["--in", folder / "texts.txt", *model],
        "sop": ["--in", folder / "pairs.csv", *model],
        "predict": [run, "--in", folder / "texts.txt", "--json"],
        "evaluate": [run, "--data", labelled, "--json"],
        "answer": [answers, "a film?", "the good film " * 60, "--json"],
        "similarity": ["--in", folder / "texts.txt", *model],
        "search": ["a film", "--in", folder / "texts.txt", *model],
        "embed": ["--in", folder / "texts.txt", "--out", folder / "v.parquet", "--force", *model],
    }


@pytest.fixture
def seen(monkeypatch):
    """Of each batch that goes through an encoder: its tokens, the threads, and what is computed in.

    The threads are those of PyTorch or, where a batch has one of its own, those that batches are computed on.
    """
    found, pools = [], [0]
    chunks = hidden_states.in_order

    def in_order(compute, batches, threads):
        pools.append(threads)
        yield from chunks(compute, batches, threads)

    monkeypatch.setattr(hidden_states, "in_order", in_order)

    def spy(kind, name, tokens):
        whole = getattr(kind, name)

        def forward(self, *arguments, **more):
            dtype = (
                torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else getattr(self, "precision", "")
            )
            alone = threading.current_thread() is threading.main_thread()
            threads = torch.get_num_threads() if alone else torch.get_num_threads() * pools[-1]
            found.append((tokens(arguments[0]), threads, str(dtype)))
            return whole(self, *arguments, **more)

        monkeypatch.setattr(kind, name, forward)

    spy(Encoder, "forward", lambda ids: ids.numel())
    spy(PackedEncoder, "__call__", lambda batch: len(batch.ids))
    return found


def run(command, *arguments):
    done = CliRunner().invoke(app, [command, *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


HEADS = ("fill-mask", "score", "sop", "predict", "evaluate", "answer")


BY_TEXT = ("similarity", "embed")  # with three texts, so that no more than three threads have one


@pytest.mark.parametrize("command", [*HEADS, *BY_TEXT])
def test_threads_and_tokens_at_once_are_as_asked(words, seen, command):
    before = torch.get_num_threads()
    usual = run(command, *words[command], "--device", "cpu")
    batches = len(seen)
    assert {threads for _, threads, _ in seen} == {min(before, 3 if command in BY_TEXT else before)}
    seen.clear()
    single = run(command, *words[command], "--threads", before + 1, "--batch-tokens", 1)
    assert {threads for _, threads, _ in seen} == {min(before + 1, 3 if command in BY_TEXT else before + 1)}
    assert torch.get_num_threads() == before
    assert len(seen) >= batches if command in BY_TEXT else len(seen) > batches
    assert near(single, usual)


def near(a, b):
    """Equal but for rounding, and for how long it took."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(near, a, b))
    return a == pytest.approx(b, rel=1e-4, abs=1e-5) if isinstance(a, float) else a == b


@pytest.mark.parametrize("command", HEADS)
def test_a_head_computes_in_the_precision_asked_for(words, seen, command):
    exact = run(command, *words[command], "--precision", "auto")
    assert {dtype for *_, dtype in seen} == {""}
    seen.clear()
    rough = run(command, *words[command], "--precision", "bf16")
    assert {dtype for *_, dtype in seen} == {"torch.bfloat16"}
    assert not torch.is_autocast_enabled("cpu")
    assert str(rough)[:9] == str(exact)[:9]
    assert run(command, *words[command], "--precision", "fp32") == exact


@pytest.mark.parametrize("command", ["similarity", "embed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_vectors_are_computed_in_the_precision_asked_for(words, seen, monkeypatch, command, precision):
    made = []

    def encoder(model, **how):
        made.append(how["precision"])
        return make_encoder(model, **how)

    monkeypatch.setattr("albert_cli.embedding.embedder.make_encoder", encoder)
    monkeypatch.setattr("albert_cli.model.kernels.has_bfloat16", lambda: True)
    run(command, *words[command], "--precision", precision)
    assert made == [precision]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", sorted(COMPUTING))
def test_a_device_that_is_not_there_is_refused(words, refused, tmp_path, command):
    (tmp_path / "t.txt").write_text("a\n")
    training = {
        "finetune": ["csv", "--train", tmp_path / "t.txt", "--model", "built-in", "--out", tmp_path / "r"],
        "pretrain": ["--corpus", tmp_path / "t.txt", "--steps", 1, "--out", tmp_path / "r"],
        "serve": ["--model", "built-in", "--port", 0],
    }
    message = refused(command, *(words | training)[command], "--device", "cuda")
    assert message == f"--device cuda: PyTorch {torch.__version__} finds no such device; choose cpu or auto"


@pytest.mark.parametrize("command", ["fill-mask", "predict"])
def test_half_precision_needs_a_gpu(words, refused, command):
    assert refused(command, *words[command], "--precision", "fp16", "--device", "cpu") == (
        "--precision fp16 needs a GPU; choose bf16 or fp32"
    )


def test_the_processor_is_taken_though_there_is_a_gpu(monkeypatch):
    asked = []

    class Fake:
        num_processes = 1

        def __init__(self, **given):
            asked.append((given["cpu"], given["mixed_precision"]))
            self.device = torch.device("cpu" if given["cpu"] else "cuda")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(processes, "Accelerator", Fake)
    for device in ("auto", "cuda", "cpu"):
        processes.accelerator_for("auto", device)
    assert asked == [(False, "bf16"), (False, "bf16"), (True, "no")]
    with pytest.raises(TrainingError, match="--precision fp16 needs a GPU"):
        processes.accelerator_for("fp16", "cpu")
    assert (find_device("auto"), find_device("cuda"), find_device("cpu")) == ("cuda", "cuda", "cpu")
    monkeypatch.setattr(Fake, "num_processes", 1)
    with pytest.raises(DeviceError, match="--device mps"):
        processes.accelerator_for("auto", "mps")


def test_what_was_before_comes_back_after_an_error():
    before, inside = torch.get_num_threads(), []

    def fail(how):
        with how:
            inside.append((torch.get_num_threads(), torch.is_autocast_enabled("cpu")))
            raise KeyError

    for how in (on_threads(before + 2), Machine("cpu", before + 1, "bf16").at_work()):
        with pytest.raises(KeyError):
            fail(how)
        assert (torch.get_num_threads(), torch.is_autocast_enabled("cpu")) == (before, False)
    assert inside == [(before + 2, False), (before + 1, True)]


def test_a_training_takes_device_and_threads_from_the_command_line_alone(tmp_path, monkeypatch):
    """They are of the machine: not in run.toml, and free to differ when the run is resumed."""
    seen, whole = [], Encoder.forward

    def spy(self, *arguments, **more):
        seen.append(torch.get_num_threads())
        return whole(self, *arguments, **more)

    monkeypatch.setattr(Encoder, "forward", spy)
    before = torch.get_num_threads()
    text = "\n\n".join(f"The {word} one sat here.\nIt was {word} again and again." for word in map(chr, range(97, 117)))
    (tmp_path / "t.txt").write_text(text * 4)
    rows = [(f"a {word} film", label) for word in "abcdefgh" for label in ("NEG", "POS")]
    trained = ["--train", tuning.write_csv(tmp_path / "t.csv", rows), "--model", "built-in", "--max-length", 16]
    given = {
        "finetune": ["csv", *trained, "--steps", 2, "--eval-every", 1],
        "pretrain": ["--corpus", tmp_path / "t.txt", "--init", "built-in", "--steps", 2, "--tokens-per-update", 64,
                     "--max-length", 32, "--eval-every", 1, "--hold-out", 4],
    }  # fmt: skip
    for command, words in given.items():
        out = tmp_path / command
        run(command, *words, "--out", out, "--json", "--device", "cpu", "--threads", before + 1)
        assert set(seen) == {before + 1}
        seen.clear()
        text = (out / "run.toml").read_text()
        assert "threads =" not in text
        assert "device =" not in text
        again = run(command, *words, "--out", out, "--json", "--resume", "--threads", before + 2)
        assert again["out"] == str(out)
