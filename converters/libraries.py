"""Optional libraries: the error that says which one is missing, and how to install it."""

from __future__ import annotations

import importlib.util
import platform
import sys

from converters.errors import MissingLibraryError

# What pip calls the libraries that Python calls otherwise.
_PACKAGES = {
    "bson": "pymongo",
    "dateutil": "python-dateutil",
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "mpl_toolkits": "matplotlib",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "ray": "ray[data]",
    "tomli_w": "tomli-w",
    "unicode_segmentation_rs": "unicode-segmentation-rs",
    "yaml": "pyyaml",
}
# Libraries that one purpose takes together; in a checkout `pip install '.[onnx]'` installs the same.
_EXTRAS = (("onnx", "onnxruntime", "onnxscript"), ("starlette", "uvicorn"))
_TOGETHER = {name: names for names in _EXTRAS for name in names}


def require_library(module: str, purpose: str) -> None:
    """Raise MissingLibraryError with the pip command when `module` is not installed; its own ImportErrors pass."""
    if importlib.util.find_spec(module) is None:
        raise missing_library(module, purpose)


def missing_library(module: str, purpose: str) -> MissingLibraryError:
    """The error of a library that is not installed, with the command that does, in a package index's names."""
    if module == "tensorflow" and (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        return MissingLibraryError(
            f"{purpose} needs the library {module!r}, which does not exist for macOS on Intel; run it on another "
            "machine"
        )
    packages = " ".join(f"'{_package(name)}'" for name in _TOGETHER.get(module, (module,)))
    return MissingLibraryError(
        f"{purpose} needs the library {module!r}, which is not installed: pip install {packages}"
    )


def broken_library(module: str, purpose: str, reason: str) -> MissingLibraryError:
    """The error of a library that is installed but cannot be imported: part of it is missing, or versions clash."""
    return MissingLibraryError(
        f"{purpose} needs the library {module!r}, which is installed but cannot be imported ({reason}): "
        f"pip install --upgrade --force-reinstall '{_package(module)}'"
    )


def _package(library: str) -> str:
    """What pip calls a library; TensorFlow without GPU libraries where there is such a one, as in pyproject.toml."""
    if library == "tensorflow":
        small = sys.platform == "win32" or (sys.platform, platform.machine()) == ("linux", "x86_64")
        return "tensorflow-cpu" if small else library
    return _PACKAGES.get(library, library)
