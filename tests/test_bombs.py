"""Small files that would become large, or take forever: each is refused in one line, in little time and memory.

Every case is a file of less than a megabyte, run through a command in a process of its own.
"""

import gzip
import io
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import making
import numpy as np
import pytest
from making import TINY, varint

MOST_MB, LIBRARIES_MB, MOST_SECONDS = 700, 300, 20
_LIMITS = f'ulimit -t {MOST_SECONDS} -f 1048576; exec "$0" "$@"'
LISTS = b"[" + b"[]," * 20_000_000 + b"0]"
OBJECTS = b'{"a":[' + b'{"b":0},' * 6_000_000 + b"0]}"


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory):
    """A sound model as a Hugging Face directory."""
    from converters import convert

    source = making.tf1(tmp_path_factory.mktemp("tf1") / "tf1")
    target = tmp_path_factory.mktemp("hf") / "hf"
    convert.convert(source, target)
    return target


def run(*arguments, cwd):
    """The exit code, what was printed, and the peak of memory (MB); killed after MOST_SECONDS of processor time."""
    with open(cwd / "out", "w+b") as out:
        process = subprocess.Popen(
            ["bash", "-c", _LIMITS, sys.executable, "-m", "albert_cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
        )
        peak = 0
        while process.poll() is None:  # not that of getrusage, which begins with the memory of this process
            peak = max(peak, _peak(process.pid))
            time.sleep(0.02)
        out.seek(0)
        return process.returncode, out.read().decode(), peak


def _peak(pid):
    """The peak of a process's memory so far (MB); 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0


def packed(folder, replaced, directory):
    """An archive of a model's directory, with files replaced or added by name."""
    target = folder / "model.tgz"
    with tarfile.open(target, "w:gz", compresslevel=9) as archive:
        for path in sorted(directory.rglob("*")):
            if path.is_file() and path.name not in replaced:
                archive.add(path, f"m/{path.relative_to(directory)}")
        for name, content in replaced.items():
            info = tarfile.TarInfo(f"m/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target


def npz(folder, **members):
    target = folder / "model.npz"
    texts = {name: np.frombuffer(content, np.uint8) for name, content in members.items()}
    making.write_npz(target, making.npz_members() | texts, compression=zipfile.ZIP_DEFLATED)
    return target


def torch_file(folder, directory, payload, name="pytorch_model.bin"):
    target = folder / "m"
    shutil.copytree(directory, target)
    (target / "model.safetensors").unlink()
    with zipfile.ZipFile(target / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return target


def repeated(count):
    """A tensor of `count` values, all of which are one."""
    import torch

    file = io.BytesIO()
    name = "albert.embeddings.word_embeddings.weight"
    torch.save({name: torch.zeros(1).expand(count, TINY.embedding_size)}, file)
    return file.getvalue()


def tf_index(folder, blocks):
    directory = making.tf1(folder / "tf")
    (directory / "model.ckpt-best.index").write_bytes(making.table(blocks))
    return directory


def growing_keys(pack=None):
    """Keys that share nearly all of their bytes: n entries of 5 bytes stand for n²/2."""
    body = b"".join(varint(number) + b"\1\0a" for number in range(60_000))
    return making.sealed(body + b"\0\0\0\0\1\0\0\0", pack)


def snappy(data):
    import pyarrow

    return bytes(pyarrow.Codec("snappy").compress(data, asbytes=True))


def zeros(size):
    """Snappy of `size` zeros: three bytes for 64 of them."""
    return making.sealed(b"", lambda _: varint(size) + b"\0\0" + (b"\xfe\1\0" * ((size - 1) // 64)))


BOMBS = {
    "JSON lists in a config": lambda folder, hf: packed(folder, {"config.json": LISTS}, hf),
    "JSON objects in a config": lambda folder, hf: packed(folder, {"config.json": OBJECTS}, hf),
    "JSON lists in tokenizer_config.json": lambda folder, hf: packed(folder, {"tokenizer_config.json": LISTS}, hf),
    "JSON lists in tokenizer.json": lambda folder, hf: packed(
        folder, {"tokenizer.json": LISTS, "spiece.model": b""}, hf
    ),
    "JSON lists in modules.json": lambda folder, hf: packed(folder, {"modules.json": LISTS}, hf),
    "JSON lists in added_tokens.json": lambda folder, hf: packed(folder, {"added_tokens.json": LISTS}, hf),
    "empty pieces of SentencePiece": lambda folder, hf: packed(folder, {"spiece.model": b"\n\0" * 2**24}, hf),
    "empty words": lambda folder, hf: packed(folder, {"vocab.txt": b"\n" * 2**25, "spiece.model": b""}, hf),
    "JSON lists in a npz": lambda folder, hf: npz(folder, config=LISTS),
    "lines of a vocabulary in a npz": lambda folder, hf: npz(folder, vocab=b"a\t0\n" * 2**23),
    "empty pieces in a npz": lambda folder, hf: npz(folder, spiece=b"\n\0" * 2**24),
    "keys of a TensorFlow index": lambda folder, hf: tf_index(folder, [growing_keys()]),
    "packed keys of a TensorFlow index": lambda folder, hf: tf_index(folder, [growing_keys(snappy)]),
    "zeros in a TensorFlow index": lambda folder, hf: tf_index(folder, [zeros(2**24) for _ in range(1)]),
    "a bytearray in a pickle": lambda folder, hf: torch_file(
        folder, hf, b"\x80\5cbuiltins\nbytearray\n\x8a\4\0\0\0\x7f\x85R."
    ),
    "a list in a pickle": lambda folder, hf: torch_file(folder, hf, b"\x80\2]" + b"2" * 40_000_000 + b"."),
}


def written(name, content):
    """A file of what `content` makes."""

    def write(folder, hf):
        path = folder / name
        path.write_bytes(content())
        return path

    return write


def zipped(name, content):
    return written(name, lambda: gzip.compress(content(), 6))


def parquet(folder, hf):
    """A column of one text of 64 MB, 40 times, which a dictionary holds once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "m.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int32()), pa.array(["a" * (2**26 + 1)]))
    pq.write_table(pa.table({"text": texts, "label": texts}), path, compression="zstd")
    return path


def safetensors(folder, hf):
    """A header of many empty objects."""
    return packed(
        folder, {"model.safetensors": making.safetensors_bytes(b'{"a":{' + b'"b":{},' * 10_000_000 + b"}}")}, hf
    )


def groups(folder, hf):
    """A module whose variables name group 4,000,000,000."""
    path = making.hub_module(folder / "module")
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes())
    shutil.rmtree(path / "variables")
    variables = {
        name.replace("group_0/", "group_4000000000/"): array for name, array in making.google_variables(TINY).items()
    }
    (path / "variables").mkdir()
    making.write_bundle(path / "variables/variables", variables)
    return path


MORE = {
    "dotted keys of TOML": (written("s.toml", lambda: b"a." * 400_000 + b"a=1\n"), ["finetune", "csv", "--config"]),
    "tables of TOML": (
        written("s.toml", lambda: b"".join(b"[a%d]\n" % n for n in range(100_000))),
        ["finetune", "csv", "--config"],
    ),
    "lists of TOML": (written("s.toml", lambda: b"a=" + b"[" * 400_000), ["finetune", "csv", "--config"]),
    "settings of pretraining": (written("s.toml", lambda: b"a." * 400_000 + b"a=1\n"), ["pretrain", "--config"]),
    "JSON lines": (zipped("a.jsonl.gz", lambda: b'{"text":"' + b"a" * 2**28 + b'"}\n'), ["embed", "--in"]),
    "values of JSON lines": (
        zipped("a.jsonl.gz", lambda: b'{"text":"a","b":' + LISTS[: 2**26] + b"0]}\n"),
        ["embed", "--in"],
    ),
    "a line of text": (zipped("a.txt.gz", lambda: b"a" * 2**28), ["embed", "--in"]),
    "a field of CSV": (zipped("a.csv.gz", lambda: b'text\n"' + b"a" * 2**28), ["embed", "--in"]),
    "fields of CSV": (zipped("a.csv.gz", lambda: b"text\n" + b"," * 2**27), ["embed", "--in"]),
    "a header of CSV": (zipped("a.csv.gz", lambda: b"a," * 2**26), ["embed", "--in"]),
    "texts of Parquet": (parquet, ["embed", "--in"]),
    "rows of Parquet for training": (parquet, ["finetune", "csv", "--train"]),
    "a header of safetensors": (safetensors, ["inspect"]),
    "a group in a name": (groups, ["inspect"]),
    "JSON lists in tokenizer.json": (
        lambda folder, hf: packed(folder, {"tokenizer.json": LISTS, "spiece.model": b""}, hf),
        ["tokenize", "a", "--model"],
    ),
    "a tokenizer.json alone": (written("tokenizer.json", lambda: LISTS[: 2**19]), ["tokenize", "a", "--model"]),
    "a dictionary of fairseq": (
        lambda folder, hf: packed(folder, {"dict.txt": b"a 1\n" * 2**24, "model.pt": b"PK"}, hf),
        ["inspect"],
    ),
    "merges": (
        lambda folder, hf: packed(
            folder, {"merges.txt": b"a b\n" * 2**24, "vocab.json": b'{"a":0}', "spiece.model": b""}, hf
        ),
        ["tokenize", "a", "--model"],
    ),
}


# In the fast tests one of each kind: a document, a vocabulary, a table, settings.
QUICK = ("JSON lists in a config", "empty pieces of SentencePiece", "values of JSON lines", "dotted keys of TOML")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*BOMBS, *MORE)]
)
def test_bomb_is_refused(tmp_path, hugging_face, name):
    make, command = MORE.get(name) or (BOMBS[name], ["inspect"])
    path = make(tmp_path, hugging_face)
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    assert size < 2**20, size
    with_torch = command[0] in ("embed", "finetune")
    model = ["--model", hugging_face] if with_torch else []
    code, out, peak = run(*command, path, *model, cwd=tmp_path)
    assert code == 1, (code, out)
    assert out.startswith("albert: ")
    assert out.count("\n") == 1, out
    assert peak < MOST_MB + (LIBRARIES_MB if with_torch else 0)
