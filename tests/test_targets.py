"""Where a model is written: refusals, and that a target is never half-written, whatever stops the writing."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import making
import pytest
from conftest import tree
from forking import NOBODY, ROOT, Server
from programs import Program

from converters import convert, staging
from converters.errors import AlbertError, TargetError

WRITABLE = [name for name, module in convert.formats().items() if hasattr(module, "write") and hasattr(module, "read")]
LIGHT = [name for name in WRITABLE if name not in making.BY_TENSORFLOW]  # without its import


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two different models: `a` with a tokenizer and optimizer slots, `b` with neither."""
    folder = tmp_path_factory.mktemp("models")
    convert.save(making.model(seed=1, optimizer=True), folder / "a")
    convert.save(making.model(seed=2, files=making.TokenizerFiles(), step=None), folder / "b")
    making.tf1(folder / "tf")
    return folder


@pytest.fixture(scope="module")
def server():
    with contextlib.closing(Server()) as running:
        yield running


@pytest.fixture(scope="module")
def second_server():
    with contextlib.closing(Server()) as running:
        yield running


@pytest.fixture
def a(models, tmp_path):
    shutil.copytree(models / "a", tmp_path / "a")
    return tmp_path / "a"


def place(form):
    """A target's name for a format."""
    return {"safetensors": "hf", "npz": "x.npz"}.get(form, f"target-{form}")


def strays(folder):
    return [path for path in folder.rglob("*") if ".albert-" in path.name]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def inventory(path):
    """A model's files, whether it is one file or a directory."""
    return tree(path) if path.is_dir() else path.read_bytes()


# --- the target exists


@pytest.mark.parametrize("form", LIGHT)
def test_existing_target_is_refused_and_replaced_by_force(a, models, tmp_path, albert, refused, form):
    target = tmp_path / place(form)
    assert albert("convert", a, target, "--to", form, "--keep-optimizer")[0] == 0
    replaced = "the model in it" if target.is_dir() else "it"
    assert refused("convert", models / "b", target, "--to", form) == (
        f"{target}: exists already; --force replaces {replaced}"
    )
    assert albert("convert", models / "b", target, "--to", form, "--force")[0] == 0
    assert making.same(convert.load(target), convert.load(models / "b")) is True
    assert not strays(tmp_path)


@pytest.mark.parametrize("swap", [True, False], ids=["in one step", "file by file"])
@pytest.mark.parametrize("folder", [True, False], ids=["with a subdirectory", "with files only"])
def test_force_touches_our_files_only(a, models, tmp_path, albert, monkeypatch, swap, folder):
    target = tmp_path / "out"
    assert albert("convert", a, target, "--to", "safetensors", "--keep-optimizer")[0] == 0
    assert (target / "optimizer.safetensors").exists()
    (target / "model-00001-of-00002.safetensors").write_text("left by an older model")
    theirs = {"README.md": "mine", ".hidden": "too", "model.safetensors.bak": "also", "config.json.orig": "and this"}
    for name, text in theirs.items():
        (target / name).write_text(text)
    (target / "link").symlink_to("README.md")
    (target / "lost").symlink_to("/nonexistent")
    if folder:
        (target / "checkpoint-500").mkdir()
        (target / "checkpoint-500" / "model.safetensors").write_text("not to be touched")
    target.chmod(0o750)
    if not swap:
        monkeypatch.setattr(staging, "_exchange", lambda one, other: False)
    inode = (target / "README.md").stat().st_ino
    assert albert("convert", models / "b", target, "--to", "safetensors", "--force")[0] == 0
    found = tree(target)
    for name, text in theirs.items():
        assert (target / name).read_text() == text
    assert (found.pop("link"), found.pop("lost")) == ("-> README.md", "-> /nonexistent")
    if folder:
        assert (target / "checkpoint-500" / "model.safetensors").read_text() == "not to be touched"
        del found["checkpoint-500"], found["checkpoint-500/model.safetensors"]
    assert set(found) == {*theirs, "config.json", "model.safetensors"}
    assert (target / "README.md").stat().st_ino == inode
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert making.same(convert.load(target), convert.load(models / "b")) is True
    assert not strays(tmp_path)


@pytest.mark.parametrize("swap", [True, False], ids=["in one step", "file by file"])
def test_an_empty_directory_stays(tmp_path, monkeypatch, swap):
    """Also where it is named as one that the format fills, but this model does not."""
    target = tmp_path / "out"
    (target / "assets").mkdir(parents=True)
    (target / "weights").write_text("old")
    if not swap:
        monkeypatch.setattr(staging, "_exchange", lambda one, other: False)
    with staging.atomic_write(target, force=True, ours=re.compile(r"weights|assets(/vocab)?")) as beside:
        (beside / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert names(target) == ["assets", "weights"]
    assert not strays(tmp_path)


def test_a_directory_of_other_files_is_no_model(a, tmp_path, albert):
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    assert albert("convert", a, target, "--to", "safetensors")[0] == 0
    assert (target / "notes.txt").read_text() == "mine"
    assert making.same(convert.load(target), convert.load(a)) != []


def test_the_working_directory_as_target(a, models, tmp_path, albert, monkeypatch):
    """It stays the directory that a shell is in."""
    target = tmp_path / "out"
    assert albert("convert", a, target, "--to", "safetensors")[0] == 0
    monkeypatch.chdir(target)
    inode = target.stat().st_ino
    assert albert("convert", models / "b", ".", "--to", "safetensors", "--force")[0] == 0
    assert target.stat().st_ino == inode
    assert not strays(tmp_path)
    assert making.same(convert.load(target), convert.load(models / "b")) is True


def test_a_file_that_appears_meanwhile_is_not_replaced(a, tmp_path):
    checkpoint = convert.load(a)
    target = tmp_path / "x.npz"

    def appears(stage, done, total):
        target.write_text("another program's")

    with pytest.raises(TargetError, match="exists already; --force replaces it"):
        convert.write_proved(checkpoint, target, convert.formats()["npz"], progress=appears)
    assert target.read_text() == "another program's"
    assert not strays(tmp_path)


def test_a_directory_that_appears_meanwhile_is_not_replaced(a, models, tmp_path):
    checkpoint = convert.load(models / "b")
    target = tmp_path / "out"

    def appears(stage, done, total):
        if not target.exists():
            shutil.copytree(a, target)

    with pytest.raises(TargetError, match="exists already; --force replaces the model in it"):
        convert.write_proved(checkpoint, target, convert.formats()["safetensors"], progress=appears)
    assert tree(target) == tree(a)
    assert not strays(tmp_path)


# --- the target is the source


@pytest.mark.parametrize("way", ["same", "link", "dots", "trailing", "to npz"])
def test_target_is_the_source(a, tmp_path, refused, way):
    (tmp_path / "link").symlink_to(a)
    source, target = {
        "same": (a, a),
        "link": (a, tmp_path / "link"),
        "dots": (a, a / ".." / "a"),
        "trailing": (f"{a}/", f"{a}/."),
        "to npz": (tmp_path / "link", a),
    }[way]
    for arguments in ([], ["--force"]):
        for form in ("safetensors", "npz"):
            message = refused("convert", source, target, "--to", form, *arguments)
            assert "the target is the source itself" in message or "names another" in message


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_a_file_of_the_source_as_target(a, models, tmp_path, refused, form):
    shutil.copytree(models / "tf", tmp_path / "tf")
    if form == "npz":
        for source, target in (
            (a, a / "model.safetensors"),
            (a / "model.safetensors", a / "config.json"),
            (tmp_path / "tf", tmp_path / "tf" / "30k-clean.model"),
            (tmp_path / "tf" / "model.ckpt-best", tmp_path / "tf" / "model.ckpt-best.index"),
        ):
            assert refused("convert", source, target, "--to", form, "--force") == (
                f"{target}: the target is the source itself ({target}); name another target"
            )
    else:
        assert refused("convert", a / "model.safetensors", a, "--to", form, "--force").startswith(
            f"{a}: the target is the source itself ("
        )


@pytest.mark.parametrize("name", ["model.ckpt-best", "model.ckpt-best.index", ""])
def test_a_checkpoint_over_itself(models, tmp_path, refused, name):
    shutil.copytree(models / "tf", tmp_path / "tf")
    for target in (tmp_path / "tf", tmp_path / "tf" / "model.ckpt-best"):
        message = refused("convert", tmp_path / "tf" / name, target, "--to", "tf", "--force")
        assert message.startswith(f"{tmp_path / 'tf'}: the target is the source itself (")


def test_npz_over_itself_through_links(models, tmp_path, albert, refused):
    path = tmp_path / "x.npz"
    assert albert("convert", models / "a", path)[0] == 0
    (tmp_path / "soft.npz").symlink_to(path)
    (tmp_path / "hard.npz").hardlink_to(path)
    for target in (path, tmp_path / "soft.npz", tmp_path / "hard.npz"):
        assert refused("convert", path, target, "--force") == (
            f"{target}: the target is the source itself ({path}); name another target"
        )


def test_beside_the_source_is_no_fault(a, tmp_path, albert):
    """An .npz in the source's own directory, and back into the directory of the .npz, twice."""
    for _ in range(2):
        code, _, err = albert("convert", a, a / "x.npz", "--force")
        assert (code, err) == (0, "")
    (tmp_path / "only").mkdir()
    shutil.move(a / "x.npz", tmp_path / "only")
    for _ in range(2):
        code, _, err = albert(
            "convert", tmp_path / "only" / "x.npz", tmp_path / "only", "--to", "safetensors", "--force"
        )
        assert (code, err) == (0, "")
    assert names(tmp_path / "only") == sorted({*names(a), "x.npz", "README.md"} - {"optimizer.safetensors"})


# --- links, and things that are no place for a model


def test_through_a_link_to_a_directory(a, models, tmp_path, albert):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "out", tmp_path / "link"
    assert albert("convert", a, real, "--to", "safetensors")[0] == 0
    link.symlink_to("real/out")
    assert albert("convert", models / "b", link, "--to", "safetensors", "--force")[0] == 0
    assert link.is_symlink()
    assert making.same(convert.load(real), convert.load(models / "b")) is True
    assert not strays(tmp_path)


def test_through_a_link_to_a_file(a, models, tmp_path, albert, refused):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "x.npz", tmp_path / "link.npz"
    assert albert("convert", a, real)[0] == 0
    link.symlink_to("real/x.npz")
    assert refused("convert", models / "b", link) == f"{link}: exists already; --force replaces it"
    assert albert("convert", models / "b", link, "--force")[0] == 0
    assert link.is_symlink()
    assert making.same(convert.load(real), convert.load(models / "b")) is True
    assert not strays(tmp_path)


@pytest.mark.parametrize("aim", ["nothing", "link"])
def test_a_link_to_nothing(a, tmp_path, refused, aim):
    link = tmp_path / "link"
    link.symlink_to(aim)
    assert refused("convert", a, link, "--to", "npz") == (
        f"{link}: a symbolic link to nothing; remove it or name another target"
    )


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_a_pipe_or_device_as_target(a, tmp_path, refused, kind, form, force):
    target = tmp_path / "special"
    if kind == "pipe":
        os.mkfifo(target)
    else:
        try:
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("device files can be made by root alone")
    assert refused("convert", a, target, "--to", form, *force) == (
        f"{target}: a pipe or device, not a place for a model; name another target"
    )


def test_kinds_that_do_not_fit(a, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    assert refused("convert", a, tmp_path / "folder", "--to", "npz", "--force") == (
        f"{tmp_path / 'folder'}: a directory, where this format writes one file; name a file"
    )
    assert refused("convert", a, tmp_path / "file", "--to", "safetensors", "--force") == (
        f"{tmp_path / 'file'}: a file, where this format writes a directory; name a directory"
    )
    assert refused("convert", a, tmp_path / "file" / "x.npz") == (
        f"{tmp_path / 'file'}: a file, so {tmp_path / 'file' / 'x.npz'} cannot be made below it"
    )


def test_a_name_that_is_too_long(a, tmp_path, refused):
    name = "x" * 300
    assert refused("convert", a, tmp_path / name, "--to", "npz") == f"{tmp_path / name}: File name too long"
    assert refused("inspect", tmp_path / name) == f"{tmp_path / name}: File name too long"


def test_a_name_that_is_not_text(a, tmp_path, albert):
    target = tmp_path / os.fsdecode(b"na\xffme.npz")
    code, out, err = albert("convert", a, target, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["out"] == str(target)
    code, out, err = albert("inspect", target)
    assert (code, err) == (0, "")
    assert r"na\udcffme.npz" in out


@pytest.mark.parametrize("deep", ["x/y/z", "x"])
def test_parents_are_made_and_unmade(a, tmp_path, albert, refused, deep):
    assert albert("convert", a, tmp_path / "new" / deep / "hf", "--to", "safetensors")[0] == 0
    (a / "model.safetensors").write_bytes((a / "model.safetensors").read_bytes()[:-1])
    refused("convert", a, tmp_path / "newer" / deep / "x.npz")


def test_parents_are_unmade_when_writing_fails(a, tmp_path):
    checkpoint = convert.load(a)
    (a / "model.safetensors").write_bytes((a / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(AlbertError, match="was changed or replaced since it was opened"):
        convert.save(checkpoint, tmp_path / "new" / "deep" / "x.npz")
    assert not (tmp_path / "new").exists()


# --- hostile inputs that never end


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("form", [None, *convert.formats()])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom", "/dev/null"])
def test_pipe_or_device_as_source(tmp_path, refused, kind, form):
    source = tmp_path / "pipe" if kind == "pipe" else Path(kind)
    if kind == "pipe":
        os.mkfifo(source)
    message = refused("convert", source, tmp_path / "out", *(["--from", form] if form else []))
    assert str(source) in message or "no config.json beside the weights" in message


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize(
    ("model", "name"),
    [
        *(("a", name) for name in ("config.json", "model.safetensors", "spiece.model", "tokenizer_config.json")),
        ("a", "optimizer.safetensors"),
        *(("tf", name) for name in ("albert_config.json", "model.ckpt-best.index", "30k-clean.vocab")),
        ("tf", "model.ckpt-best.data-00000-of-00001"),
    ],
)
def test_pipe_inside_a_model(models, tmp_path, refused, model, name):
    shutil.copytree(models / model, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    os.mkfifo(tmp_path / "model" / name)
    message = refused("inspect", tmp_path / "model")
    assert message.startswith(str(tmp_path / "model" / name))
    assert "a pipe or device, not a regular file" in message or "truncated; tensor" in message


@pytest.mark.usefixtures("in_time")
def test_links_to_endless_devices_inside_a_model(a, refused):
    (a / "config.json").unlink()
    (a / "config.json").symlink_to("/dev/zero")
    assert refused("inspect", a) == f"{a / 'config.json'}: a pipe or device, not a regular file"


@pytest.mark.usefixtures("in_time")
def test_init_from_endless_files(tmp_path, refused):
    assert refused("init", tmp_path / "out", "--model-config", "/dev/zero") == (
        "/dev/zero: a pipe or device, not a regular file"
    )
    assert refused("init", tmp_path / "out", "--preset", "tiny", "--tokenizer", "/dev/urandom") == (
        "/dev/urandom: a pipe or device, not a regular file"
    )


def test_source_is_a_link(a, tmp_path, albert):
    """A link to a model is the model, and so are links to its files (as Hugging Face's cache holds them)."""
    (tmp_path / "cache").mkdir()
    for file in a.iterdir():
        (tmp_path / "cache" / file.name).symlink_to(file)
    (tmp_path / "link").symlink_to("cache")
    for source in ("link", "cache"):
        assert albert("diff", a, tmp_path / source)[0] == 0


# --- permissions, checked as an unprivileged user


@pytest.fixture
def open_folder(models):
    """A folder that any user can enter, with a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(models / "a", folder / "a")
        yield folder


def test_read_only_directory(server, open_folder):
    before = tree(open_folder)
    for target in ("x.npz", "new/x.npz", "hf", "new/hf"):
        answer = server.convert(open_folder / "a", open_folder / target, uid=NOBODY, target_as="npz")
        assert answer == {"error": "TargetError", "message": f"{open_folder}: no permission to write there"}
    assert tree(open_folder) == before


def test_writable_directory_in_a_read_only_one(server, open_folder, models):
    """The usual place of a container's volume: nothing may be made beside it, so it is built inside."""
    target = open_folder / "volume"
    target.mkdir()
    target.chmod(0o777)
    for source in (open_folder / "a", models / "b"):
        shutil.copytree(source, open_folder / "source")
        answer = server.convert(
            open_folder / "source", target, uid=NOBODY, target_as="safetensors", force=True, keep_optimizer=True
        )
        assert answer == {"done": True}
        assert making.same(convert.load(target), convert.load(source)) is True
        shutil.rmtree(open_folder / "source")
        assert not strays(open_folder)


def test_read_only_target(server, open_folder):
    target = open_folder / "mine"
    shutil.copytree(open_folder / "a", target)
    target.chmod(0o755)
    answer = server.convert(open_folder / "a", target, uid=NOBODY, target_as="safetensors", force=True)
    assert answer == {"error": "TargetError", "message": f"{target}: no permission to write there"}


def test_unreadable_source(server, open_folder):
    (open_folder / "a" / "model.safetensors").chmod(0)
    (open_folder / "free").mkdir()
    (open_folder / "free").chmod(0o777)
    answer = server.convert(open_folder / "a", open_folder / "free" / "x.npz", uid=NOBODY)
    assert answer["message"] == f"{open_folder / 'a' / 'model.safetensors'}: permission denied"
    (open_folder / "a").chmod(0)
    answer = server.convert(open_folder / "a", open_folder / "free" / "x.npz", uid=NOBODY)
    (open_folder / "a").chmod(0o755)
    assert answer["message"].startswith(str(open_folder / "a"))
    assert answer["message"].endswith(": permission denied")
    assert not list((open_folder / "free").iterdir())


# --- the disk


@contextlib.contextmanager
def mounted(folder, *options):
    """A small file system of its own, where the system lets us have one."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None or os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def on_a_disk(form, size):
    """What TensorFlow writes takes seconds: one size is quickly tried, and all in time."""
    return pytest.param(form, size, marks=[pytest.mark.slow] if form in making.BY_TENSORFLOW and size != "8k" else [])


@pytest.mark.parametrize(("form", "size"), [on_a_disk(form, size) for form in WRITABLE for size in ("4k", "8k", "12k")])
def test_full_disk(models, tmp_path, albert, form, size):
    disk = tmp_path / "disk"
    with mounted(disk, "-o", f"size={size},nr_inodes=50"):
        (disk / "mine").write_text("kept")
        code, out, err = albert("convert", models / "a", disk / place(form), "--to", form, "--keep-optimizer")
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert err.startswith(f"albert: {disk / place(form)}")
        assert "the disk is full; free some space and try again" in err or "No space left on device" in err
        assert tree(disk) == {"mine": tree(disk)["mine"]}


@pytest.mark.parametrize("form", LIGHT)
def test_full_disk_keeps_the_old_target(models, tmp_path, albert, form):
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "size=40k"):
        target = disk / place(form)
        assert albert("convert", models / "b", target, "--to", form)[0] == 0
        before = inventory(target)
        code, _, err = albert("convert", models / "a", target, "--to", form, "--keep-optimizer", "--force")
        assert (code, err) == (1, f"albert: {target}: the disk is full; free some space and try again\n")
        assert inventory(target) == before
        assert not strays(disk)


def test_the_target_is_a_mount(models, tmp_path, albert):
    disk = tmp_path / "disk"
    with mounted(disk):
        for source in ("a", "b"):
            code, _, err = albert("convert", models / source, disk, "--to", "safetensors", "--force")
            assert (code, err) == (0, "")
        assert making.same(convert.load(disk), convert.load(models / "b")) is True
        assert not strays(disk)


def test_link_into_another_file_system(models, tmp_path, albert):
    disk, link = tmp_path / "disk", tmp_path / "link"
    with mounted(disk):
        link.symlink_to("disk/out")
        (disk / "out").mkdir()
        for source in ("a", "b"):
            assert albert("convert", models / source, link, "--to", "safetensors", "--force")[0] == 0
        assert making.same(convert.load(disk / "out"), convert.load(models / "b")) is True
        assert names(disk) == ["out"]


def test_read_only_file_system(models, tmp_path, refused):
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "ro"):
        assert refused("convert", models / "a", disk / "x.npz") == f"{disk}: no permission to write there"


@pytest.mark.parametrize("form", LIGHT)
@pytest.mark.parametrize("size", [0, 100, 4096, 9000])
def test_file_size_limit(server, models, tmp_path, form, size):
    target = tmp_path / place(form)
    answer = server.convert(models / "a", target, target_as=form, fsize=size)
    assert answer["error"] == "FileError"
    assert answer["message"].startswith(f"{target}")
    assert answer["message"].endswith(": the file would exceed the size limit set for this process")
    assert not list(tmp_path.iterdir())


def command(*arguments, before=()):
    return subprocess.run(
        [*before, sys.executable, "-m", "albert_cli.main", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_file_size_limit_on_tensorflow(models, tmp_path):
    limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh"]
    done = command("convert", models / "a", tmp_path / "out", "--to", "saved-model", before=limited)
    assert done.returncode == 1
    assert done.stdout == ""
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"albert: {tmp_path / 'out'}")
    assert "File too large" in message or "size limit" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", LIGHT)
def test_io_error_at_the_end(models, tmp_path, refused, monkeypatch, form):
    """Disks report a failed write when asked to sync."""

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    target = tmp_path / place(form)
    assert refused("convert", models / "a", target, "--to", form) == f"{target}: Input/output error"


def traced(server, source, target, *options, **job):
    """A conversion under strace, where it is there and allowed; what became of it."""
    program = shutil.which("strace")
    start = [program, "-f", "-o", os.devnull]
    if program is None or subprocess.run([*start, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace is not installed or may not trace")
    pid = server.start(source, target, stop=True, **job)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    with subprocess.Popen([*start, "-p", str(pid), *options], stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        answer = server.finish()
    if "attached" not in said:
        pytest.skip(f"strace may not trace another process: {said.strip()}")
    return answer


@pytest.mark.parametrize("form", LIGHT)
@pytest.mark.parametrize("call", ["fsync", "read"])
def test_io_errors_of_the_system(server, models, tmp_path, form, call):
    """Every sync fails, or every read of the source's weights."""
    target = tmp_path / "out" / place(form)
    target.parent.mkdir()
    source = tmp_path / "a"
    shutil.copytree(models / "a", source)
    only = ["-P", source / "model.safetensors"] if call == "read" else []
    fault = ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO", *only]
    message = traced(server, source, target, *fault, target_as=form)["message"]
    assert message.count("\n") == 0
    assert message.endswith(": Input/output error")
    assert not list(target.parent.iterdir())


def test_output_that_cannot_be_written(models):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "albert_cli.main", "inspect", models / "a", "--json"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "albert: output: No space left on device\n"


# --- Ctrl-C


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Big enough (60 MB) to be caught in the act."""
    path = tmp_path_factory.mktemp("larger") / "hf"
    config = dataclasses.replace(making.TINY, vocab_size=250_000, embedding_size=60)
    convert.save(making.model(config, without=("qa", "classifier", "sop", "mlm")), path)
    return path


@pytest.mark.parametrize(
    ("form", "old", "number", "code"),
    [
        *((form, False, signal.SIGINT, 130) for form in LIGHT),
        *((form, True, signal.SIGINT, 130) for form in ("npz", "safetensors")),  # a file and a directory
        *((form, True, signal.SIGTERM, 143) for form in ("npz", "safetensors")),
    ],
)
def test_interrupted(larger, models, tmp_path, form, old, number, code):
    target = tmp_path / "deep" / place(form)
    if old:
        convert.convert(models / "a", target, target_as=form)
    before = tree(tmp_path)
    with Program("convert", larger, target, "--to", form, "--force") as process:
        while not strays(tmp_path):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        assert process.wait() == code
    assert process.said() == "albert: interrupted; nothing was left half-written, and there is nothing to resume\n"
    assert tree(tmp_path) == before


# --- kill -9


@pytest.fixture(scope="module")
def versions(tmp_path_factory, server):
    """Two models of 2 MB in each light format: the old one and the new one, and the source of the new."""
    folder = tmp_path_factory.mktemp("versions")
    config = dataclasses.replace(making.TINY, vocab_size=20_000, embedding_size=24)
    for seed in (1, 2):
        convert.save(making.model(config, seed=seed, step=seed), folder / f"source{seed}")
        for form in LIGHT:
            assert server.convert(folder / f"source{seed}", folder / f"{form}{seed}", target_as=form) == {"done": True}
    return folder


@pytest.mark.parametrize(
    ("form", "points"),
    [
        *((form, 15) for form in LIGHT),
        *(pytest.param(form, 500, marks=pytest.mark.slow) for form in LIGHT),
    ],
)
def test_killed_at_many_points(server, versions, tmp_path, form, points):
    """Old-complete or new-complete, whenever it dies; the next run removes what the dead one left."""
    old, new = inventory(versions / f"{form}1"), inventory(versions / f"{form}2")
    folder = tmp_path / "x"
    target = folder / place(form)
    folder.mkdir()
    (folder / "mine").write_text("kept")

    def run(seed, delay=None):
        pid = server.start(versions / f"source{seed}", target, target_as=form, force=True)
        if delay is not None:
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return server.finish()

    def undisturbed():
        started = time.monotonic()
        assert run(1) == {"done": True}
        return time.monotonic() - started

    length = undisturbed()
    chance = random.Random(form)
    outcomes = {"killed, old": 0, "killed, new": 0, "finished": 0}
    for _ in range(points):
        answer = run(2, chance.uniform(0, length))
        found = inventory(target)
        assert found in (old, new)
        if answer == {"done": True}:
            assert found == new
        key = "finished" if "done" in answer else "killed, old" if found == old else "killed, new"
        outcomes[key] += 1
        length = undisturbed()  # anew each time: the machine may have become busier or idler
        assert inventory(target) == old
        assert names(folder) == sorted(["mine", target.name])
    assert outcomes["killed, old"] >= points // 10, outcomes
    assert (folder / "mine").read_text() == "kept"


@pytest.mark.parametrize(
    ("form", "call"),
    [
        *(("npz", call) for call in ("rename", "unlinkat", "rmdir")),
        *(("safetensors", call) for call in ("linkat", "renameat2", "unlinkat", "rmdir")),
    ],
)
def test_killed_at_the_calls_that_replace(server, versions, tmp_path, form, call):
    """The narrow moments that chance would miss: at each call that links, renames or removes."""
    old, new = inventory(versions / f"{form}1"), inventory(versions / f"{form}2")
    target = tmp_path / place(form)
    killed = 0
    for number in (1, 2, 3):
        convert.convert(versions / "source1", target, target_as=form, force=True)
        if isinstance(old, dict):
            (target / "mine").write_text("kept")
            old["mine"] = new["mine"] = tree(target)["mine"]
        assert inventory(target) == old
        kill = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
        done = traced(server, versions / "source2", target, *kill, target_as=form, force=True)
        found = inventory(target)
        assert found in (old, new)
        if done == {"done": True}:
            assert found == new
            break
        killed += 1
    convert.convert(versions / "source1", target, target_as=form, force=True)
    assert inventory(target) == old
    assert not strays(tmp_path)
    assert killed, "the call was not met"


# --- two writers at once


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("form", LIGHT)
@pytest.mark.parametrize("attempts", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_two_writers_at_once(server, second_server, versions, tmp_path, form, force, attempts):
    complete = [inventory(versions / f"{form}{seed}") for seed in (1, 2)]
    for attempt in range(attempts):
        target = tmp_path / str(attempt) / place(form)
        start = time.time() + 0.05
        for seed, running in ((1, server), (2, second_server)):
            running.start(versions / f"source{seed}", target, target_as=form, force=force, start=start)
        answers = [server.finish(), second_server.finish()]
        assert inventory(target) in complete
        assert [path.name for path in target.parent.iterdir()] == [target.name]
        if force:
            assert answers == [{"done": True}] * 2
        else:
            lost = [answer for answer in answers if "done" not in answer]
            assert len(lost) == 1
            assert lost[0]["error"] == "TargetError"
            assert lost[0]["message"].startswith(f"{target}: exists already; --force replaces ")


def test_leftovers_of_the_living_stay(a, tmp_path, albert):
    """Only what nobody holds is swept, and only what bears this target's name."""
    target = tmp_path / "x.npz"
    left = [tmp_path / f".x.npz.albert-{name}" for name in ("0123abcd", "4567cdef")]
    kept = [tmp_path / f"{name}-0123abce" for name in (".x.npz.albert", ".y.npz.albert", ".x.npz.albert-1", "x.npz")]
    for path in (*left, *kept):
        path.mkdir()
        (path / "new").write_text("half")
    (left[0] / "lock").touch()  # the other was killed before it had one
    with open(kept[0] / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert albert("convert", a, target)[0] == 0
    assert not any(path.exists() for path in left)
    assert all((path / "new").exists() for path in kept)


BUILDS = """
import os, sys, time
from pathlib import Path
from converters.scratch import temporary_directory
from converters.staging import atomic_write
assert os.getpid() == 1
with temporary_directory("albert-archive-"), atomic_write(Path(sys.argv[1]), force=True, ours=None) as beside:
    beside.write_text("half")
    if len(sys.argv) > 2:
        print("building", flush=True)
        time.sleep(600)
"""


def test_what_was_killed_as_process_1_of_a_container_is_removed_by_the_next_process_1(tmp_path):
    (tmp_path / "tmp").mkdir()
    container = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process-id namespace can be made here (unshare --pid)")
    command = [*container, sys.executable, "-c", BUILDS, tmp_path / "x.txt"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen([*command, "wait"], stdout=subprocess.PIPE, env=environment) as killed:
        assert killed.stdout.readline() == b"building\n"
        killed.kill()
        killed.stdout.read()  # until its child has ended too
    assert len(names(tmp_path)) == len(names(tmp_path / "tmp")) + 1 == 2
    subprocess.run(command, check=True, env=environment)
    assert names(tmp_path) == ["tmp", "x.txt"]
    assert names(tmp_path / "tmp") == []


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "é" * 125 + ".txt"])
def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path, albert, letter_model, name):
    code, _, err = albert("tokenize", "a film", "--model", letter_model, "--out", tmp_path / name)
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == [name]
