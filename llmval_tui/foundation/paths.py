"""Paths: bundled folders, and paths of an operator that must stay inside the workspace."""

from pathlib import Path

from llmval_tui.foundation.errors import Refused

_PACKAGE = Path(__file__).parents[1]


def bundled(name: str) -> Path:
    """The folder `runners`, `themes`, `docs` or `docs/schemas`; works from a wheel, an editable install and a checkout.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"this installation of llmval lacks its {name} folder: reinstall it")


def inside(workspace: Path, path: str | Path) -> Path:
    """`path`, taken from the workspace, as an absolute path with symbolic links followed; it need not exist.

    Raises:
        Refused: it lies outside of the workspace, also by way of `..`, a symbolic link or an absolute path, or it is no
            path at all.
    """
    if not str(path).strip():
        raise Refused("An empty path was given: name a file in the workspace.")
    try:
        root = workspace.resolve()
        found = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
        raise Refused(f"“{str(path)[:200]}” is not a path that can be used: name a file in the workspace.") from error
    if not found.is_relative_to(root):
        raise Refused(f"“{path}” leads outside of the workspace {root}: name a path inside it.")
    return found
