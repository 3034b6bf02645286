import hashlib
import json
import os
import shutil
import signal
import string
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

# Two workers with as many threads each as there are cores would only wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")

# The model of whoever runs the tests is none of theirs.
os.environ.pop("ALBERT_MODEL", None)

# A shell lets what it starts in the background ignore Ctrl-C, and what that starts as well: the tests of it would hang.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be busy, and a first call loads libraries.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser):
    parser.addoption(
        "--weights", type=Path, metavar="DIR", help="Google's weights, in any format, for the tests marked `published`"
    )


def pytest_report_header(config):
    """Which models the published values are checked on."""
    directory = config.getoption("--weights")
    if directory is None:
        return []
    from published import find_models

    return [f"weights: {found}" for found in find_models(directory)] or [f"weights: no model in {directory}"]


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
    from converters import convert

    target = tmp_path_factory.mktemp("google") / "hf"
    convert.convert(shared_data / "checkpoints/tf1-google", target)
    return target


@pytest.fixture(scope="session")
def relatives(shared_data, tmp_path_factory) -> dict[str, Path]:
    """The sample data's small models of other families as Hugging Face directories, by name."""
    from converters import convert
    from converters.choices import Choices

    folder, samples = tmp_path_factory.mktemp("relatives"), shared_data / "relatives"
    with_heads = folder / "source"
    with_heads.mkdir()
    for file in (samples / "spanbert-with-head/model.pt", samples / "spanbert/vocab.txt"):
        shutil.copy(file, with_heads)
    for name, source, choices in (
        ("bert", samples / "tf1-bert-uncased", Choices()),
        ("spanbert", samples / "spanbert", Choices()),
        ("spanbert-with-heads", with_heads, Choices(heads=4)),
        ("discriminator", samples / "tf1-electra", Choices(heads=4)),
        ("generator", samples / "tf1-electra", Choices(heads=1, part="generator")),
    ):
        convert.convert(source, folder / name, choices=choices)
    shutil.rmtree(with_heads)
    shutil.copytree(samples / "hf-roberta", folder / "roberta")
    return {path.name: path for path in folder.iterdir()}


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
    arguments = ["init", "hf", "--model-config", "config.json", "--tokenizer", "letters.vocab"]
    paths = [str(folder / item) if (folder / item).exists() or item == "hf" else item for item in arguments]
    assert CliRunner().invoke(app, paths, catch_exceptions=False).exit_code == 0
    return folder / "hf"


@pytest.fixture
def albert(capsys, monkeypatch):
    """Run the `albert` command in this process; returns (exit code, stdout, stderr)."""
    from albert_cli.main import main

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["albert", *map(str, arguments)])
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # Ctrl-C changes it
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as stopped:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def tree(folder):
    """Every path below a folder with what it is: digest of a file, aim of a link, kind of anything else."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            what = f"-> {path.readlink()}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "directory" if path.is_dir() else "special"
        found[str(path.relative_to(folder))] = what
    return found


@pytest.fixture
def refused(albert, tmp_path):
    """Run a command that must fail: exit code 1, one line on stderr, and not a byte or name changed in tmp_path."""

    def run(*arguments):
        before = tree(tmp_path)
        code, out, err = albert(*arguments)
        assert code == 1, err
        assert not out
        assert err.startswith("albert: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert tree(tmp_path) == before
        return err.removeprefix("albert: ").strip()

    return run


@pytest.fixture
def undrawn(request, monkeypatch):
    """Pictures are only begun, for tests of runs that look at none: to draw them takes longer than to train.

    In a module that uses it, tests marked `drawn` have their pictures.
    """
    if request.node.get_closest_marker("drawn") is None:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", lambda self, target, **options: Path(target).write_bytes(b"not drawn"))


@pytest.fixture
def in_time():
    """Fail, not hang, where something waits for input that never comes."""

    def expired(number, frame):
        raise TimeoutError("still waiting after 60 s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def no_private_operators(monkeypatch):
    """As on a PyTorch without oneDNN's operators, or with others of their names."""
    import torch

    from albert_cli.model import byte_kernels, kernels

    checks = (kernels._operators_work, byte_kernels._int8_operators_work, byte_kernels._fused_rows_work)
    for check in checks:
        check.cache_clear()
    for name in ("mkldnn", "onednn", "quantized"):
        monkeypatch.setattr(torch.ops, name, SimpleNamespace())
    yield
    for check in checks:
        check.cache_clear()
