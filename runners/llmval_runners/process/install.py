"""What to do about a package that the Python of the runners lacks."""

import shlex
import sys
from importlib.util import find_spec


def how_to_install(*packages: str) -> str:
    """What to do, as the end of a sentence: "run `/opt/venv/bin/python -m pip install triton`"."""
    if find_spec("pip") is None:  # made by uv, or of a container
        return f"use a Python that has {' and '.join(packages)} ({sys.executable} has no pip)"
    return f"run `{sys.executable} -m pip install {' '.join(map(shlex.quote, packages))}`"
