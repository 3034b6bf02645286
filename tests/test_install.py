"""What an installation brings: a base that does its work, extras that say what they are for, pins for every Python."""

import ast
import contextlib
import json
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import missing
import pytest
import tuning
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from albert_cli.main import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = {
    "Linux x86-64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux aarch64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS arm64": {"sys_platform": "darwin", "platform_machine": "arm64"},
    "macOS Intel": {"sys_platform": "darwin", "platform_machine": "x86_64"},
    "Windows": {"sys_platform": "win32", "platform_machine": "AMD64"},
}
# Of each extra what needs it, the libraries that it brings as Python calls them, and what to install of them.
USES = {
    "julia": ("convert $/model $/out.tfbson", "bson", "'pymongo'"),
    "onnx": ("convert $/model $/out.onnx", "onnx,onnxruntime,onnxscript", "'onnx' 'onnxruntime' 'onnxscript'"),
    "plots": ("similarity one two --model $/model --plot $/out.png", "matplotlib,PIL", "'matplotlib'"),
    "ray": ("embed --in $/t.txt --model $/model --out $/out.parquet --engine ray", "ray", "'ray[data]'"),
    "serve": ("serve --model $/model --port 0", "starlette,uvicorn", "'starlette' 'uvicorn'"),
    "teacher": (
        "pretrain --corpus $/c.txt --init $/model --steps 1 --hold-out 4 --teacher $/model --out $/out",
        "transformers,sentence_transformers",
        "'transformers'",
    ),
    "tensorboard": (
        "finetune csv --train $/train.csv --model $/model --steps 1 --tensorboard --out $/out",
        "tensorboard",
        "'tensorboard'",
    ),
    "tensorflow": ("convert $/model $/out --to saved-model", "tensorflow,keras", "'tensorflow-cpu'"),
}
# What none of the usual uses needs, and other libraries that happen to be there may bring.
NOT_NEEDED = ",".join([*(libraries for _, libraries, _ in USES.values()), "scipy", "sklearn", "pandas", "polars"])
USUAL = [
    "tokenize text --model $/model",
    "embed --in $/t.txt --model $/model --out $/out.parquet",
    "similarity one two --model $/model",
    "fill-mask [MASK] --model $/model",
    "score text --model $/model",
    "convert $/model $/out --to tf",
    "convert $/model $/out.npz",
    "inspect $/model",
    "models",
    "init $/out --preset tiny",
    "evaluate --sts $/sts.tsv --model $/model",
    "finetune csv --train $/train.csv --model $/model --steps 1 --max-length 16 --out $/out",
    "pretrain --corpus $/c.txt --init $/model --steps 1 --max-length 16 --hold-out 4 --out $/out",
]


@pytest.fixture(scope="module")
def bare():
    with contextlib.closing(missing.Server()) as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, texts and tables."""
    root = tmp_path_factory.mktemp("world")
    tuning.write_model(root / "model")
    tuning.write_csv(root / "train.csv", tuning.reviews(24))
    (root / "t.txt").write_text("a film\nthe story\n")
    rows = [f"{text}\t{text} film\t{number % 5}" for number, (text, _) in enumerate(tuning.reviews(8))]
    (root / "sts.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")
    (root / "c.txt").write_text("\n\n".join(f"{text}.\n{text}." for text, _ in tuning.reviews(24)))
    return root


def words(use, world):
    return [word.replace("$", str(world)) for word in use.split()]


def cleared(world):
    for path in world.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_every_extra_is_tried_and_all_has_every_one():
    assert set(EXTRAS) == set(USES) | {"all", "dev", "docs"}
    assert {extra for item in EXTRAS["all"] for extra in item.extras} == set(USES)
    assert {extra for item in EXTRAS["dev"] for extra in item.extras} == {"all"}


@pytest.mark.parametrize("extra", USES)
def test_without_an_extra_its_use_says_in_one_line_what_to_install(bare, world, extra):
    use, libraries, packages = USES[extra]
    code, said = bare.run(libraries, words(use, world))
    left = list(world.glob("out*"))
    cleared(world)
    said = [line for line in said.splitlines() if not line.startswith("albert: note: ")]
    assert (code, len(said)) == (1, 1), said
    found = re.fullmatch(r"albert: .* needs the library '(\w+)', which is not installed: pip install (.*)", said[0])
    assert found, said
    assert found[1] in libraries.split(",")
    if extra != "tensorflow" or sys.platform == "linux":
        assert found[2] == packages
    assert left == []
    names = {canonicalize_name(item.name) for item in EXTRAS[extra]}
    assert {canonicalize_name(name.partition("[")[0]) for name in re.findall("'(.*?)'", found[2])} <= names


@pytest.mark.parametrize("use", USUAL)
def test_the_base_does_its_work_without_any_extra(bare, world, use):
    code, said = bare.run(NOT_NEEDED, words(use, world))
    made = [path.name for path in world.glob("out*/*")]
    cleared(world)
    assert code == 0, said
    if use.startswith(("finetune", "pretrain")):
        assert "note: the run will have no pictures, which need matplotlib: pip install 'matplotlib'\n" in said
        assert "metrics.jsonl" in made
        assert not [name for name in made if name.endswith(".png")]


def test_what_is_installed_by_default_depends_on_the_machine():
    def brought(requirements, machine):
        return {item.name for item in requirements if item.marker is None or item.marker.evaluate(machine)}

    found = {name: brought(BASE, machine) for name, machine in MACHINES.items()}
    always = set.intersection(*found.values())
    heavy = {"matplotlib", "scipy", "scikit-learn", "pymongo", "transformers", "onnx", "ray", "tensorflow"}
    assert not always & heavy
    assert {"torch", "numpy", "pyarrow", "tokenizers"} <= always
    assert {name: names - always for name, names in found.items()} == {
        name: {"tensorflow-cpu"} if name == "Linux x86-64" else set() for name in MACHINES
    } or sys.version_info < (3, 11)  # where tomli is one more
    assert {name: brought(EXTRAS["tensorflow"], machine) for name, machine in MACHINES.items()} == {
        "Linux x86-64": {"tensorflow-cpu"},
        "Linux aarch64": {"tensorflow"},
        "macOS arm64": {"tensorflow"},
        "macOS Intel": set(),
        "Windows": {"tensorflow-cpu"},
    }


def test_every_dependency_is_pinned_once_on_every_python():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wanted = [item for items in (BASE, *EXTRAS.values()) for item in items if item.name != PROJECT["name"]]
    for python in PYTHONS:
        machine = MACHINES["Linux x86-64"] | {"python_version": python}
        for item in wanted:
            if item.marker and not item.marker.evaluate(machine):
                continue
            found = [
                pin
                for pin in pins
                if canonicalize_name(pin.name) == canonicalize_name(item.name)
                and (pin.marker is None or pin.marker.evaluate(machine))
            ]
            assert len(found) == 1, (python, str(item), list(map(str, found)))
            (version,) = (part.version for part in found[0].specifier)
            assert item.specifier.contains(version, prereleases=True), (python, str(item), version)


def test_what_is_pinned_and_installed_is_for_every_python_of_its_pin():
    checked = 0
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        try:
            of = metadata.metadata(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(of["Version"], prereleases=True):
            continue
        allowed = SpecifierSet(of.get("Requires-Python") or "")
        for python in PYTHONS:
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                assert allowed.contains(f"{python}.99"), (python, line, str(allowed))
                checked += 1
    assert checked > len(BASE)


def test_the_image_runs_the_server_as_a_user_of_its_own():
    """Whatever the Dockerfile copies is there, and its command is one that this program understands."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    last = steps[max(number for number, step in enumerate(steps) if step[0] == "FROM") :]
    assert dict(map(tuple, last))["USER"] not in ("root", "0")
    copied = {name for kind, rest in steps if kind == "COPY" and "--from" not in rest for name in rest.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    needed = {"albert_cli", "converters", "pyproject.toml", "constraints.txt", PROJECT["readme"]}
    assert needed | set(PROJECT["license-files"]) <= copied
    entry, command = (json.loads(dict(map(tuple, last))[kind]) for kind in ("ENTRYPOINT", "CMD"))
    assert entry == ["albert"]
    # With an address that is none it ends after its options are read.
    tried = [*command[: command.index("--host")], "--host", "a" * 64, *command[command.index("--host") + 2 :]]
    result = CliRunner().invoke(app, tried)
    assert "no address of this machine" in str(result.exception)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not copied & set(ignored)
    assert ".git" in ignored


def test_no_module_needs_what_the_base_lacks():
    """What is imported where a module begins is in the base, but for the modules that are there for an extra."""
    names = {canonicalize_name(item.name).replace("-", "_") for item in BASE}
    ours = {"albert_cli", "converters"}
    python = {"bson": "pymongo", "google": "protobuf", "google_crc32c": "google_crc32c", "yaml": "pyyaml"}
    found = set()
    for path in [*(ROOT / "albert_cli").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ours and python.get(top, top) not in names:
                    found.add((path.relative_to(ROOT).as_posix(), top))
    plots = {"pictures.py", "training/figures.py", "pretraining/figures.py", "scoring/bars.py", "embedding/heat_map.py"}
    allowed = {(f"albert_cli/{name}", "matplotlib") for name in plots}
    allowed |= {("albert_cli/serving/app.py", name) for name in ("anyio", "starlette")}
    allowed |= {("albert_cli/serving/server.py", "uvicorn")}
    assert {item for item in found - allowed if "exporters" not in item[0] and "/onnx/" not in item[0]} == set()
