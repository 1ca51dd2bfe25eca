"""Finds the Python of the runners. That of llmval may have no torch: in a bundle, or installed from the wheel alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# Where the images of NVIDIA, PyTorch, vLLM and SGLang keep theirs, if PATH does not name it.
_USUAL = ("/opt/venv/bin/python", "/opt/conda/bin/python", "/usr/local/bin/python3", "/usr/bin/python3")
_NAMES = ("python3", "python", "python3.14", "python3.13", "python3.12", "python3.11")
_OLDEST = (3, 11)  # the runners' syntax
CLIENT_PACKAGES = ("httptools", "uvloop")  # what openai_load_test.py needs
_ASKED_FOR = (*CLIENT_PACKAGES, "pip")
_FIND = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n) is None))"
_ASKED_AGAIN_S = 10.0  # so that an installed package is noticed, and a long list asks once


class Interpreter(NamedTuple):
    """A Python that has torch."""

    path: str
    python: str  # its version
    torch: str

    @property
    def is_too_old(self) -> bool:
        """Whether the runners cannot start in it."""
        parts = self.python.split(".")
        return not all(part.isdecimal() for part in parts[:2]) or tuple(int(part) for part in parts[:2]) < _OLDEST


def own_has_torch() -> bool:
    """Whether the Python that runs llmval has torch. Nothing is imported."""
    found = find_spec("torch")
    return found is not None and found.origin is not None  # a folder called torch beside the list is not a package


def missing_client_packages(python: str) -> tuple[str, ...]:
    """Those of `CLIENT_PACKAGES` that this Python does not have; () if it has all, or cannot be asked."""
    return tuple(name for name in _missing(python) if name in CLIENT_PACKAGES)


def how_to_install(packages: Iterable[str], python: str) -> str:
    """What to do so that the runners get these packages, if they are to run in this Python."""
    if "pip" in _missing(python):  # that of the bundle, or one made by uv
        return f"name a Python that has {' and '.join(packages)} with --runner-python ({python} has no pip)"
    return f"{python} -m pip install {' '.join(packages)}"


def _missing(python: str) -> tuple[str, ...]:
    if python == sys.executable:
        return tuple(name for name in _ASKED_FOR if find_spec(name) is None)
    return _missing_in(python, int(time.monotonic() // _ASKED_AGAIN_S))


@lru_cache(maxsize=4)
def _missing_in(python: str, _moment: int) -> tuple[str, ...]:
    argv = [python, "-c", _FIND, *_ASKED_FOR]
    try:  # in "/", because a folder's own uvloop.py must not answer
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, cwd="/", check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(name for name in _ASKED_FOR if name in done.stdout.split()) if done.returncode == 0 else ()


def runner_python_found() -> str | None:
    """The Python for the runners if nobody named one; None means the one that runs llmval.

    That is taken if it has torch, or if no Python is found that has.
    """
    if own_has_torch():
        return None
    return next((found.path for found in interpreters_with_torch() if not found.is_too_old), None)


def interpreters_with_torch(environment: Mapping[str, str] | None = None) -> Iterator[Interpreter]:
    """The interpreters that have torch, in the order in which they are taken; each is started to ask it."""
    from llmval_tui.runs.inventory import software_versions  # late: the first picture of the dashboard needs no psutil

    for path in _candidates(os.environ if environment is None else environment):
        try:
            versions = software_versions(path, cwd="/")  # a folder's own json.py must not answer
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if "torch" in versions:
            yield Interpreter(path, versions.get("python", "unknown"), versions["torch"])


def _candidates(environment: Mapping[str, str]) -> Iterator[str]:
    """Existing interpreters, each once: llmval's own, the one that started the bundle, the active environment, those of
    PATH in its order (also beside a `torchrun`), then the usual places of containers."""
    paths = [sys.executable, environment.get("LLMVAL_STARTED_BY", "")]
    active = (environment.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    paths += [f"{prefix}/bin/python" for prefix in active if prefix]
    for folder in environment.get("PATH", "").split(os.pathsep):
        if folder.startswith("/"):  # a relative one would depend on the current folder
            paths += [f"{folder}/{name}" for name in _NAMES]
    seen = set()
    for path in (*paths, *_USUAL):
        if not path or not os.access(path, os.X_OK):
            continue
        # python and python3 of a folder are the same; a virtual environment differs from its base by the folder alone.
        same = (Path(path).parent.resolve(), Path(path).resolve())
        if same not in seen:
            seen.add(same)
            yield path
