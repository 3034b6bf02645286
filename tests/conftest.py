import hashlib
import signal
import sys
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input beside the project; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the sample data is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def albert(capsys, monkeypatch):
    """Run the `albert` command in this process; returns (exit code, stdout, stderr)."""
    from albert_cli.main import main

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["albert", *map(str, arguments)])
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
