"""Paths: bundled folders, and paths of an operator that must stay inside the workspace."""

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from llmval_tui.foundation.errors import Refused

_PACKAGE = Path(__file__).parents[1]
_ESCAPED = "file:"


def bundled(name: str) -> Path:
    """The folder `runners`, `themes`, `docs` or `docs/schemas`, from a wheel, an editable install or a checkout.

    Raises:
        FileNotFoundError: the installation does not have it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"this installation of llmval has no {name} folder: reinstall it")


def inside(workspace: Path, path: str | Path) -> Path:
    """Resolve `path` relative to the workspace, following symbolic links; it need not exist.

    Raises:
        Refused: the path leads outside the workspace (also by `..`, a symbolic link or as an absolute path), or it is
            not a valid path.
    """
    if not str(path).strip():
        raise Refused("The path is empty: name a file in the workspace.")
    try:
        root = workspace.resolve()
        found = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
        raise Refused(f"“{str(path)[:200]}” is not a valid path: name a file in the workspace.") from error
    if not found.is_relative_to(root):
        raise Refused(f"“{path}” leads outside of the workspace {root}: name a path inside it.")
    return found


def user_path(text: str | Path) -> Path:
    """A path as a person gave it, absolute; `~` and `~name` are replaced. It need not exist.

    Raises:
        Refused: there is no such user, the links go round in a circle, or the path is not UTF-8 (it could be in no
            record).
    """
    shown = str(text).encode("utf-8", "backslashreplace").decode()[:200]
    try:
        path = Path(text).expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no such user, a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(f"“{shown}” cannot be used as a path ({reason}): name another one.") from error
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        whole = str(path).encode("utf-8", "backslashreplace").decode()
        raise Refused(f"{whole} is not UTF-8, so it can be in no record: rename it, or name another path.") from error
    return path


def recorded_name(path: str) -> str:
    """A path as a record holds it: as it is, or `file:` and percent escapes if it is not UTF-8. See `named_path`."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ESCAPED + quote(os.fsencode(path))
    return _ESCAPED + quote(path) if path.startswith(_ESCAPED) else path


def named_path(recorded: str) -> str:
    """The inverse of `recorded_name`."""
    if not recorded.startswith(_ESCAPED):
        return recorded
    return os.fsdecode(unquote_to_bytes(recorded.removeprefix(_ESCAPED)))
