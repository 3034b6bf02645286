"""Models in archives: read as if unpacked, and nothing of a hostile one ever leaves the private directory."""

import gc
import gzip
import io
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import making
import pytest
from conftest import tree

from converters import archives, convert
from converters.errors import AlbertError, CheckpointError, CorruptError, FormatError

ROOT = Path(__file__).parents[1]
LIGHT = [
    name
    for name, module in convert.formats().items()
    if hasattr(module, "read") and hasattr(module, "write") and name not in making.BY_TENSORFLOW
]
PACKINGS = [".tar", ".tar.gz", ".tgz", ".zip", "stored.zip"]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """The folder that private directories are made in, for this process and its children."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left(temporary):
    """The private directories that are still there."""
    gc.collect()  # an error caught by the test may still hold one
    return list(temporary.glob("albert-archive-*"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model in each format; those of TensorFlow are made by hand, without its import."""
    folder = tmp_path_factory.mktemp("models")
    for form in LIGHT:
        convert.save(making.model(), folder / ("npz.npz" if form == "npz" else form), format=form)
    making.tf1(folder / "albert_base")
    making.hub_module(folder / "saved-model")
    return folder


@pytest.fixture
def base(models):
    return models / "albert_base"


def pack(path, *sources, at=None):
    """Archive files and directories by their own names, or one directory's contents at `at`."""
    if path.suffix == ".zip":
        kind = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", kind) as archive:
            for source in sources:
                for file in [source, *sorted(source.rglob("*"))] if source.is_dir() else [source]:
                    archive.write(file, Path(source.name if at is None else at) / file.relative_to(source))
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for source in sources:
                archive.add(source, source.name if at is None else at)
    return path


def write_tar(path, *members):
    """A .tar of (name or TarInfo, bytes) pairs, whatever the names."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def contents(folder, prefix=""):
    return [(prefix + str(file.relative_to(folder)), file.read_bytes()) for file in sorted(folder.rglob("*"))]


# --- read as if unpacked


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", ["albert_base", "saved-model", *LIGHT])
def test_a_model_in_an_archive(models, tmp_path, temporary, form, packing):
    source = models / ("npz.npz" if form == "npz" else form)
    checkpoint = convert.load(pack(tmp_path / f"model{packing}", source))
    assert checkpoint.where.startswith(f"{tmp_path / f'model{packing}'}/{source.name}")
    assert making.same(checkpoint, convert.load(source)) is True
    assert len(list(temporary.iterdir())) == 1
    del checkpoint
    assert not left(temporary)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("at", [".", "", "a/b/c"])
def test_where_in_the_archive_it_lies(base, tmp_path, packing, at):
    """At the root, as TF-Hub's archives have it, or deep inside."""
    if not at and "tar" in packing:
        at = "./"
    assert making.same(convert.load(pack(tmp_path / f"x{packing}", base, at=at)), convert.load(base)) is True


def test_every_command_takes_one(models, base, tmp_path, temporary, albert):
    archive, other = pack(tmp_path / "albert_base_v2.tar.gz", base), pack(tmp_path / "hf.zip", models / "safetensors")
    code, out, err = albert("convert", archive, tmp_path / "out", "--to", "safetensors")
    assert (code, err) == (0, "")
    assert out.startswith(
        f"converted  {archive}/albert_base/model.ckpt-best (tf) -> {tmp_path / 'out'} (safetensors)\n"
    )
    code, out, err = albert("inspect", archive, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == f"{archive}/albert_base/model.ckpt-best"
    assert albert("diff", archive, base)[:2] == albert("diff", base, archive)[:2]
    assert albert("diff", archive, base)[0] == 0
    assert albert("diff", other, tmp_path / "out")[0] == 1
    assert not left(temporary)


def test_as_the_model_of_a_command(letter_model, tmp_path, temporary, albert, monkeypatch):
    archive = pack(tmp_path / "letters.tgz", letter_model)
    (tmp_path / "t.txt").write_text("a b\nc\n")
    code, out, err = albert("tokenize", "a b", "--model", archive, "--format", "ids")
    assert (code, err) == (0, "")
    assert out == albert("tokenize", "a b", "--model", letter_model, "--format", "ids")[1]
    monkeypatch.chdir(tmp_path)  # where the name looks like a repository of the Hub
    for name in (archive, "letters.tgz/hf"):
        code, _, err = albert("embed", "--in", tmp_path / "t.txt", "--model", name, "--threads", "1", "--force")
        assert code == 0, err
    assert not left(temporary)


def test_the_format_may_be_reported(models, base, tmp_path):
    archive = pack(tmp_path / "two.zip", base, models / "safetensors")
    assert convert.load(archive, format="tf").format == "tf"
    assert convert.load(archive, format="safetensors").format == "safetensors"


def test_several_models(models, base, tmp_path, refused, albert):
    archive = pack(tmp_path / "two.zip", base, models / "safetensors", models / "npz.npz")
    assert refused("inspect", archive) == (
        f"{archive}: holds 3 models; name one of {archive}/albert_base, {archive}/npz.npz, {archive}/safetensors"
    )
    for name in ("albert_base", "albert_base/model.ckpt-best", "npz.npz"):
        code, out, err = albert("inspect", archive / name, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["path"].startswith(f"{archive}/{name}")


@pytest.mark.parametrize("name", ["nothing", "albert_base/nothing", "../albert_base"])
def test_a_place_that_is_not_there(base, tmp_path, refused, name):
    archive = pack(tmp_path / "x.zip", base)
    assert refused("inspect", f"{archive}/{name}").endswith("no such file, directory or checkpoint")


def test_litter_is_left_out(base, tmp_path):
    """What macOS adds, which looks like a second checkpoint."""
    litter = [(f"__MACOSX/._{name}", data) for name, data in contents(base, "albert_base/")]
    more = [(f"albert_base/._{name}", data) for name, data in contents(base)]
    making.write_zip(tmp_path / "x.zip", [*contents(base, "albert_base/"), *litter, *more, (".DS_Store", b"")])
    assert making.same(convert.load(tmp_path / "x.zip"), convert.load(base)) is True


def test_an_archive_of_an_archive_is_not_opened(base, tmp_path, refused):
    inner = pack(tmp_path / "inner.zip", base)
    outer = pack(tmp_path / "outer.tar.gz", inner)
    known = ", ".join(name for name, module in convert.formats().items() if hasattr(module, "read"))
    assert refused("inspect", outer) == f"{outer}: an archive that holds no model of a known format ({known})"


def test_the_formats_that_are_zip_archives_are_no_archives(models, tmp_path):
    """Whatever they are called."""
    for source in (models / "npz.npz", models / "torch/pytorch_model.bin"):
        name = tmp_path / f"{source.stem}.zip"
        name.write_bytes(source.read_bytes())
        (tmp_path / "config.json").write_bytes((models / "torch/config.json").read_bytes())
        assert convert.load(name).where == str(name)


def test_a_folder_called_weights(models, tmp_path):
    making.write_zip(tmp_path / "x.zip", contents(models / "safetensors", "weights/"))
    assert convert.load(tmp_path / "x.zip").format == "safetensors"


def test_advice_names_the_archive(base, tmp_path, refused):
    for file in base.glob("model.ckpt-best.*"):
        (tmp_path / "ckpt").mkdir(exist_ok=True)
        for name in ("one", "two"):
            (tmp_path / "ckpt" / f"{name}{file.suffix}").write_bytes(file.read_bytes())
    archive = pack(tmp_path / "x.zip", tmp_path / "ckpt")
    assert refused("inspect", archive) == (
        f"{archive}/ckpt: holds several checkpoints (one, two); name one, as {archive}/ckpt/one"
    )


def test_what_is_reported_of_a_tokenizer_names_the_archive(models, tmp_path, temporary):
    folder = tmp_path / "hf"
    shutil.copytree(models / "safetensors", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"novelty": 1}))
    (note,) = convert.load(archive := pack(tmp_path / "x.zip", folder)).tokenizer.notes
    assert (
        note == f"{archive}/hf: the tokenizer's novelty of tokenizer_config.json is not known here, so it has no effect"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    fault = convert.load(archive := pack(tmp_path / "y.zip", folder)).tokenizer.fault
    assert fault.startswith(f"{archive}/hf/tokenizer_config.json: tokenizer_class is 'T5Tokenizer', whose ids differ")


# --- the target


def test_over_itself(base, tmp_path, refused):
    archive = pack(tmp_path / "x.npz.tar", base).rename(tmp_path / "x.npz")
    assert refused("convert", archive, archive, "--force").startswith(f"{archive}: ")


def test_into_the_directory_it_lies_in(base, models, tmp_path, albert):
    archive = pack(tmp_path / "x.tgz", base)
    for _ in range(2):
        code, _, err = albert("convert", archive, tmp_path, "--to", "safetensors", "--force")
        assert (code, err) == (0, "")
    assert making.same(convert.load(tmp_path), convert.load(base)) is True


# --- the private directory goes


def test_errors_leave_nothing(base, tmp_path, temporary):
    (archive := tmp_path / "x.tar").write_bytes(pack(tmp_path / "y.tar", base).read_bytes()[:3000])
    for _ in range(2):
        with pytest.raises(CorruptError):
            convert.load(archive)
    write_tar(archive, *(member for member in contents(base) if member[0] != "albert_config.json"))
    with pytest.raises(CheckpointError, match=r"x\.tar: no albert_config\.json beside model\.ckpt-best"):
        convert.load(archive)
    assert not left(temporary)


def test_errors_on_reading_speak_of_the_archive(base, tmp_path, temporary):
    checkpoint = convert.load(pack(tmp_path / "x.tar", base))
    for file in temporary.rglob("*.data-*"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        next(iter(checkpoint.tensors.values())).read()
    assert str(error.value).startswith(f"{tmp_path / 'x.tar'}/albert_base/model.ckpt-best.data-00000-of-00001: ")


def test_it_is_private(base, tmp_path, temporary):
    checkpoint = convert.load(pack(tmp_path / "x.tar", base))
    (made,) = temporary.iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert checkpoint.tensors


def test_a_tensor_keeps_it(base, tmp_path, temporary):
    """And a forked process that ends does not take it away."""
    name = "albert.pooler.weight"
    tensor = convert.load(pack(tmp_path / "x.tar", base)).tensors[name]
    if (pid := os.fork()) == 0:
        del tensor
        os._exit(0)
    os.waitpid(pid, 0)
    assert tensor.read().shape == convert.load(base).tensors[name].shape
    del tensor
    assert not left(temporary)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path, temporary, number, code):
    write_tar(tmp_path / "x.tar", ("big", random.Random(0).randbytes(1000) * 100_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "albert_cli.main", "inspect", tmp_path / "x.tar"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(temporary.rglob("big")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (
        code,
        "albert: interrupted; nothing was left half-written, and there is nothing to resume\n",
    )
    assert not left(temporary)


def test_no_room(base, tmp_path, temporary):
    archive = pack(tmp_path / "x.tgz", base)
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", sys.executable, "-m", "albert_cli.main", "inspect", archive],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"albert: {temporary} (the temporary directory; TMPDIR names another one): the file would exceed the size "
        "limit set for this process\n"
    )
    assert not left(temporary)


# --- hostile names and kinds


@pytest.mark.parametrize("packing", ["x.tar", "x.zip"])
@pytest.mark.parametrize("name", ["../out", "/out", "albert_base/../../out", "..", "a\\..\\..\\out", "C:\\out"])
def test_names_that_lead_elsewhere(base, tmp_path, temporary, refused, packing, name):
    write = write_tar if packing.endswith("tar") else lambda path, *members: making.write_zip(path, members)
    name = name.replace("/out", f"{tmp_path}/out") if name.startswith("/") else name
    write(tmp_path / packing, *contents(base), (name, b"mine"))
    assert refused("inspect", tmp_path / packing) == (
        f"{tmp_path / packing}: member {name!r} lies outside the archive, so nothing of it is read"
    )
    assert not left(temporary)


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.SYMTYPE, "../../.."),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "albert_config.json"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (b"Z", ""),
    ],
)
def test_links_and_devices_are_never_made(base, tmp_path, temporary, kind, link):
    """A file below the name of a link is a file in a directory of that name."""
    archive = write_tar(
        tmp_path / "x.tar", special("a", kind, link), *contents(base), ("a/passwd", b"x"), special("b", kind, link)
    )
    checkpoint = convert.load(archive)
    assert making.same(checkpoint, convert.load(base)) is True
    (made,) = temporary.iterdir()
    assert set(tree(made).values()) & {"special"} == set()
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in made.rglob("*") if path.is_file())
    assert (made / "new/a/passwd").read_bytes() == b"x"


def test_a_model_of_links(base, tmp_path, refused):
    """As a tar of the Hub's cache is, whose files are links to others."""
    links = [special(name, tarfile.SYMTYPE, f"../../blobs/{number}") for number, (name, _) in enumerate(contents(base))]
    archive = write_tar(tmp_path / "x.tar", *links)
    known = ", ".join(name for name, module in convert.formats().items() if hasattr(module, "read"))
    assert refused("inspect", archive) == (
        f"{archive}: an archive that holds no model of a known format ({known}) ({len(links)} links or special files "
        "in it are never followed)"
    )


def test_links_in_a_zip(base, tmp_path, temporary):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in contents(base):
            archive.writestr(name, data)
        for name, kind in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    checkpoint = convert.load(tmp_path / "x.zip")
    assert not [path for path in temporary.rglob("*") if path.name in ("link", "pipe")]
    assert making.same(checkpoint, convert.load(base)) is True


def test_a_sparse_file(base, tmp_path, refused):
    info, _ = special("hole", tarfile.GNUTYPE_SPARSE)
    archive = write_tar(tmp_path / "x.tar", *contents(base), (info, b""))
    assert refused("inspect", archive) == f"{archive}: member 'hole' is a sparse file, which no model's is"


@pytest.mark.parametrize(
    "names",
    [["a/config.json", "a/config.json"], ["a", "a/b"], ["a/b", "a"], ["./a", "a"], ["a/b/c", "a//b"]],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("packing", ["x.tar", "x.zip"])
def test_names_that_occur_twice(base, tmp_path, refused, packing, names):
    write = write_tar if packing.endswith("tar") else lambda path, *members: making.write_zip(path, members)
    write(tmp_path / packing, *contents(base), *((name, b"x") for name in names))
    assert refused("inspect", tmp_path / packing) == f"{tmp_path / packing}: member {names[1]!r} occurs twice"


@pytest.mark.parametrize("name", ["x" * 300, "/".join("x" * 17), "\udcff", "a\nb"])
def test_odd_names(base, tmp_path, name):
    archive = write_tar(tmp_path / "x.tar", *contents(base, "base/"), (name, b"x"))
    if len(name) > 30:
        with pytest.raises(AlbertError, match=r"File name too long|more than 16 directories deep"):
            convert.load(archive)
    else:
        assert making.same(convert.load(archive), convert.load(base)) is True


def test_a_pipe_called_tar(tmp_path, refused):
    os.mkfifo(tmp_path / "x.tar.gz")
    assert str(tmp_path / "x.tar.gz") in refused("inspect", tmp_path / "x.tar.gz")


# --- hostile sizes


def most(path):
    """What an archive of this size may unpack to."""
    return 50 * path.stat().st_size + 64 * 2**20


@pytest.mark.usefixtures("in_time")
def test_a_million_members(tmp_path, temporary, refused):
    header = tarfile.TarInfo("x").tobuf()
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(header * 1000) * 1000)
    assert refused("inspect", tmp_path / "x.tar.gz").endswith(": member 'x' occurs twice")
    folder = tarfile.TarInfo("x")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(folder.tobuf() * 1000) * 1000)
    assert refused("inspect", tmp_path / "x.tar.gz") == (
        f"{tmp_path / 'x.tar.gz'}: holds more than 10000 members, which no model does"
    )
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    directory = entry * 10**6
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 4, 0)
    (tmp_path / "x.zip").write_bytes(b"PK\3\4" + directory + end)
    assert refused("inspect", tmp_path / "x.zip") == (
        f"{tmp_path / 'x.zip'}: holds a list or name longer than 4194304 bytes; no model does"
    )
    making.write_zip(tmp_path / "x.zip", [(f"{number}", b"") for number in range(10_001)])
    assert refused("inspect", tmp_path / "x.zip") == (
        f"{tmp_path / 'x.zip'}: holds more than 10000 members, which no model does"
    )
    assert not left(temporary)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("where", ["member", "after the end", "long name", "pax header", "skipped"])
def test_a_gzip_bomb(tmp_path, temporary, refused, where):
    """Ten gigabytes of zeros in ten megabytes: in a file, behind the end, as a name, in what is only skipped."""
    info = tarfile.TarInfo("zeros")
    info.size = 10**10
    if where in ("long name", "pax header"):
        info.type = tarfile.GNUTYPE_LONGNAME if where == "long name" else tarfile.XHDTYPE
    if where == "skipped":
        info.type = b"D"
    start = b"" if where == "after the end" else info.tobuf(tarfile.GNU_FORMAT)
    zeros = gzip.compress(bytes(10**7)) * 1000
    (tmp_path / "x.tgz").write_bytes(gzip.compress(start + bytes(1024)) + zeros)
    message = refused("inspect", tmp_path / "x.tgz")
    if where in ("long name", "pax header"):
        assert message == f"{tmp_path / 'x.tgz'}: holds a list or name longer than 4194304 bytes; no model does"
    else:
        assert message.startswith(f"{tmp_path / 'x.tgz'}: ")
        assert message.endswith(
            f"decompresses to more than the limit of {most(tmp_path / 'x.tgz')} bytes (decompression bomb?)"
        )
    assert not left(temporary)


@pytest.mark.usefixtures("in_time")
def test_a_zip_bomb(tmp_path, temporary, refused):
    making.write_zip(tmp_path / "x.zip", [("model.safetensors", bytes(10**8))], zipfile.ZIP_DEFLATED)
    assert refused("inspect", tmp_path / "x.zip") == (
        f"{tmp_path / 'x.zip'}: decompresses to 100000000 bytes, over the limit of {most(tmp_path / 'x.zip')} "
        "(decompression bomb?)"
    )
    content = bytearray((tmp_path / "x.zip").read_bytes())
    at = content.rindex(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 1000)  # says that it is small
    (tmp_path / "x.zip").write_bytes(content)
    assert "Bad CRC-32" in refused("inspect", tmp_path / "x.zip")
    assert not left(temporary)


def test_weights_of_zeros_are_no_bomb(tmp_path):
    """A new model's optimizer slots, say."""
    model = making.model()
    for tensor in model.tensors.values():
        tensor.read()[...] = 0
    convert.save(model, tmp_path / "zeros", format="safetensors")
    assert making.same(convert.load(pack(tmp_path / "zeros.tgz", tmp_path / "zeros")), model) is True


# --- damaged


def test_a_zip_that_cannot_be_read(base, tmp_path, refused):
    path = pack(tmp_path / "x.zip", base)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2", content.index(b"albert_base/albert_config.json"))
    while b"albert_config.json" not in content[at : at + 100]:
        at = content.index(b"PK\1\2", at + 1)
    sound = bytes(content)
    content[at + 8] |= 1
    path.write_bytes(content)
    name = "albert_base/albert_config.json"
    assert refused("inspect", path) == f"{path}: member {name!r} is encrypted; save it without a password"
    content = bytearray(sound)
    content[at + 10] = 14  # LZMA
    path.write_bytes(content)
    assert refused("inspect", path) == (
        f"{path}: member {name!r} is compressed by another method than deflate; save it with that"
    )


@pytest.mark.parametrize("packing", PACKINGS)
def test_truncated_anywhere(base, tmp_path, packing):
    path = pack(tmp_path / f"x{packing}", base)
    whole = path.read_bytes()
    end = len(whole) if packing != ".tar" else whole.rindex(b"\1") // 512 * 512 + 512  # padding follows
    for size in [0, 1, 3, 100, *range(512, end, max(512, end // 60 // 512 * 512)), end - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as error:
            convert.load(path)
        assert str(error.value).startswith(f"{path}: "), size


@pytest.mark.parametrize("packing", PACKINGS[1:])
def test_a_changed_byte_is_reported(base, tmp_path, packing):
    """By the checksums of gzip and zip."""
    path = pack(tmp_path / f"x{packing}", base)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptError):
        convert.load(path)


def test_a_damaged_header_is_not_the_end(base, tmp_path, refused):
    path = pack(tmp_path / "x.tar", base)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"albert_base/")] ^= 1
    path.write_bytes(content)
    assert refused("inspect", path).startswith(f"{path}: not a sound archive, or a truncated one (")


@pytest.mark.parametrize("content", [b"", b"x" * 1000, gzip.compress(b"text", mtime=0), b"PK\3\4" + bytes(100)])
@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar", "x.zip"])
def test_no_archive_at_all(tmp_path, refused, name, content):
    (tmp_path / name).write_bytes(content)
    assert refused("inspect", tmp_path / name).startswith(
        f"{tmp_path / name}: not a sound archive, or a truncated one ("
    )


def test_is_archive_goes_by_contents(base, tmp_path):
    path = pack(tmp_path / "x.tgz", base).rename(tmp_path / "blob")
    assert archives.is_archive(path)
    assert convert.load(path).format == "tf"
    (tmp_path / "text").write_text("no archive")
    assert not archives.is_archive(tmp_path / "text")
    assert not archives.is_archive(tmp_path)
    with pytest.raises(FormatError):
        convert.load(tmp_path / "text")
