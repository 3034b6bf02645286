"""Without a library: a command does its work all the same, or says in one line what to install."""

import contextlib
import re
import shutil

import missing
import pytest
from conftest import tree
from making import TINY, tf1
from tuning import reviews, write_csv, write_model

# What pip calls each library, where Python calls it otherwise.
PACKAGES = {"PIL": "pillow", "bson": "pymongo", "google": "protobuf"}
PACKAGES |= {"ray": "ray[data]", "tensorflow": "tensorflow-cpu", "google_crc32c": "google-crc32c"}
PACKAGES |= {"tomli_w": "tomli-w", "yaml": "pyyaml", "unicode_segmentation_rs": "unicode-segmentation-rs"}
# The usual uses of every command, and of each the libraries that it does nothing without. $ is the world's directory.
USES = {
    "inspect $/model": ("safetensors",),
    "inspect $/tf1": ("google_crc32c",),
    "diff $/model $/model.npz": ("safetensors",),
    "models": ("huggingface_hub",),
    "init $/out --preset tiny": ("safetensors",),
    "init $/out.npz --preset tiny --tokenizer $/model/spiece.model": ("sentencepiece",),
    "convert $/model $/out.npz": ("safetensors",),
    "convert $/model.npz $/out": ("safetensors",),
    "convert $/tf1 $/out": ("google_crc32c", "safetensors"),
    "convert $/model $/out --to tf": ("google_crc32c", "safetensors"),
    "convert $/model $/out.tfbson": ("bson", "safetensors"),
    "convert $/model.tfbson $/out": ("bson", "safetensors"),
    "convert $/model.bin $/out": ("safetensors",),
    "tokenize text --model $/model": ("sentencepiece",),
    "tokenize text --model $/vocab.txt": (),
    "tokenize text --model $/model/tokenizer.json": ("tokenizers",),
    "tokenize --in $/t.txt --stats --model $/model": ("sentencepiece",),
    "embed --in $/t.txt --model $/model --out $/out.parquet": ("torch", "pyarrow", "safetensors"),
    "embed --in $/t.csv --model $/model --out $/out.jsonl": ("torch", "pyarrow"),
    "embed --merge --in $/shard*.parquet --out $/out.parquet": ("pyarrow",),
    "embed text --model $/model": ("torch", "pyarrow"),
    "search text --in $/t.txt --model $/model": ("torch", "pyarrow"),
    "similarity one two --model $/model": ("torch", "pyarrow"),
    "similarity one two --model $/model --plot $/out.png": ("torch", "matplotlib", "PIL", "pyarrow"),
    "similarity $/v.parquet --top 1": ("pyarrow",),
    "fill-mask [MASK] --model $/model": ("torch", "sentencepiece"),
    "fill-mask [MASK] --model $/model --out $/out.parquet": ("torch", "pyarrow"),
    "sop one two --model $/model": ("torch",),
    "score text --model $/model": ("torch", "unicode_segmentation_rs"),
    "score text --model $/model --plot $/out.svg": ("torch", "matplotlib", "PIL", "unicode_segmentation_rs"),
    "predict $/run film": ("torch", "accelerate"),
    "predict $/run --in $/t.csv --out $/out.csv": ("torch", "accelerate"),
    "predict $/run --in $/t.csv --out $/out.parquet": ("torch", "pyarrow", "accelerate"),
    "answer $/qa film film": ("torch", "accelerate"),
    "evaluate $/run": ("torch", "accelerate"),
    "evaluate $/run --curves $/out.pdf": ("torch", "matplotlib", "accelerate"),
    "finetune csv --train $/train.csv --model $/model --steps 1 --max-length 16 --out $/out": (
        "torch", "accelerate", "tomli_w",
    ),
    "finetune csv --train $/train.csv --model $/model --steps 1 --max-length 16 --tensorboard --out $/out": (
        "tensorboard", "accelerate", "tomli_w", "torch",
    ),
    "finetune csv --train $/train.csv --model $/model --steps 1 --max-length 16 --compare $/run --out $/out": (
        "accelerate", "matplotlib", "tomli_w", "torch",
    ),
    "pretrain --corpus $/c.txt --init $/model --steps 1 --max-length 16 --hold-out 4 --out $/out": (
        "torch", "accelerate", "unicode_segmentation_rs", "tomli_w",
    ),
    "pretrain --corpus $/c.txt --vocab-size 90 --steps 1 --max-length 16 --hold-out 4 --out $/out": (
        "sentencepiece", "accelerate", "tomli_w", "torch", "unicode_segmentation_rs",
    ),
    "pretrain --corpus $/c.txt --init $/model --steps 1 --max-length 16 --hold-out 4 --teacher $/model --out $/out": (
        "transformers", "accelerate", "huggingface_hub", "tomli_w", "torch", "unicode_segmentation_rs",
    ),
}  # fmt: skip
# What takes long even to fail, or has a library of its own.
HEAVY_USES = {
    "convert $/model $/out --to saved-model": ("tensorflow",),
    "convert $/model $/out.onnx": ("onnx", "onnxruntime", "onnxscript", "torch"),
    "convert $/model $/out --to torch": ("torch",),
    "embed --in $/t.txt --model $/model --out $/out.parquet --engine ray": ("ray", "pyarrow", "torch"),
}
LIBRARIES = sorted(
    {library for needed in [*USES.values(), *HEAVY_USES.values()] for library in needed}
    | {"huggingface_hub", "pandas", "psutil", "google", "ml_dtypes", "yaml", "zstandard", "joblib"}
)
# What others are built on, or nearly every command: of these the table has a few uses only.
BELOW = ("PIL", "google", "google_crc32c", "joblib", "ml_dtypes", "pandas", "psutil", "safetensors",
         "sentencepiece", "yaml")  # fmt: skip
# What transformers lacks, it says of itself only that it cannot be imported.
OF_TRANSFORMERS = ("tokenizers",)


@pytest.fixture(scope="module")
def server():
    with contextlib.closing(missing.Server()) as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model in several formats, a run, texts and tables."""
    from typer.testing import CliRunner

    from albert_cli.main import app
    from converters import convert

    root = tmp_path_factory.mktemp("world")

    def albert(words):
        result = CliRunner().invoke(app, words.replace("$", str(root)).split())
        assert result.exit_code == 0, (words, result.output)

    write_model(root / "model")
    import making

    config = making.dataclasses.replace(TINY, vocab_size=len(making.tokenizer().lines().splitlines()))
    answering = making.model(config, without=("pooler", "mlm", "sop", "classifier"), files=making.tokenizer())
    convert.save(answering, root / "qa")
    tf1(root / "tf1")
    write_csv(root / "train.csv", reviews(24))
    write_csv(root / "t.csv", [(text,) for text, _ in reviews(3)], ("text",))
    (root / "t.txt").write_text("a film\nthe story\n")
    (root / "c.txt").write_text("\n\n".join(f"{text}.\n{text}." for text, _ in reviews(24)))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "text", "film"]
    (root / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    for form in ("npz", "tfbson"):
        albert(f"convert $/model $/model.{form}")
    albert("convert $/model $/torch --to torch")
    shutil.copytree(root / "torch", root / "model.bin")
    albert("embed --in $/t.txt --model $/model --out $/v.parquet --keep-text")
    for shard in (0, 1):
        albert(f"embed --in $/t.txt --model $/model --out $/shard.parquet --shard {shard}/2")
    train = "--train $/train.csv --dev $/train.csv --model $/model --steps 1 --max-length 16"
    albert(f"finetune csv {train} --out $/run")
    return root


def tried(server, world, library, use, how="missing"):
    """What a command did without a library: "done", or the one line it said, and nothing left behind."""
    before = tree(world)
    code, err = server.run(library, [word.replace("$", str(world)) for word in use.split()], how)
    clear(world)
    if code == 0:
        assert "Traceback" not in err, (library, use, err)
        return "done"
    said = [line for line in err.splitlines(keepends=True) if not line.startswith("albert: note: ")]
    assert (code, len(said)) == (1, 1), (library, use, err)
    assert said[0].startswith("albert: "), (library, use, err)
    assert tree(world) == before, (library, use)
    return said[0]


def clear(world):
    """Remove what a use wrote."""
    for path in world.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def check(server, world, library, use, needed):
    said = tried(server, world, library, use)
    if said != "done":
        package = PACKAGES.get(library, library)
        found = re.search(r"needs the library '(\w+)', which is not installed: pip install (.+)$", said)
        assert found, (use, said)
        assert found[1] == library, (use, said)
        assert package in [name.strip("'") for name in found[2].split()], (use, said)
    if library not in BELOW:
        assert (said == "done") == (library not in needed), (library, use, said)
    elif library in needed:
        assert said != "done", (library, use)


CASES = {library: [use for use, needed in USES.items() if library in needed] for library in LIBRARIES}


def test_what_a_command_needs_is_reported_in_one_line(server, world):
    """Every library once, by the last of the uses that need it; the whole table is gone through below."""
    for library, uses in CASES.items():
        for use in uses[-1:]:
            check(server, world, library, use, USES[use])


def test_what_cannot_be_imported_is_reported_in_one_line(server, world):
    for library in ("safetensors", "sentencepiece", "pyarrow", "matplotlib", "bson"):
        said = tried(server, world, library, CASES[library][0], "broken")
        package = PACKAGES.get(library, library)
        assert re.search(
            f"needs the library '{library}', which is installed but cannot be imported \\(libparts.so.1: cannot open "
            f"shared object file: No such file or directory\\): pip install --upgrade --force-reinstall '{package}'$",
            said,
        ), said


@pytest.fixture(scope="module")
def looked_for(world):
    """Per use the libraries that are looked for when none is missing: no others can be missed."""
    found = {}
    with contextlib.closing(missing.Server(bare=True)) as bare:
        for use in USES | HEAVY_USES:
            code, said = bare.run(None, [word.replace("$", str(world)) for word in use.split()], "noted")
            assert code == 0, (use, said)
            found[use] = set(said.splitlines()[-1].split())
            clear(world)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_command_without_a_library(server, world, looked_for, library):
    for use, needed in (USES | HEAVY_USES).items():
        if library in OF_TRANSFORMERS and "transformers" in needed:
            assert "needs the library 'transformers'" in tried(server, world, library, use)
        elif library in looked_for[use]:
            check(server, world, library, use, needed)
        else:
            assert library not in needed, use
