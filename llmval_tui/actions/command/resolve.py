"""The scripts and documents in a step: the workspace's own, or the ones that llmval brings."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.actions.command.runner_catalog import RUNNERS
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.paths import bundled, inside


@dataclass(frozen=True, slots=True)
class Script:
    """The script that a command runs."""

    path_in_command: str
    path: Path
    runner: str | None  # the runner's name if it is llmval's own code; None for any other script
    note: str  # one line for the operator


def resolve_script(word: str, workspace: Path, folder: str | None = None) -> Script:
    """The script at `word`: the workspace's file, else the bundled runner of that name.

    `word` is relative to `folder`, and `folder` to the workspace.

    Raises:
        Refused: it is outside the workspace, does not exist, or is a runner that this version does not bring.
    """
    name = Path(word).name
    runners = bundled("runners")
    path = workspace / (folder or "") / word
    if path.is_file() and path.resolve().is_relative_to(runners.resolve()):
        return Script(word, path.resolve(), name if name in RUNNERS else None, f"runs {word}, llmval's own runner")
    if path.is_file():
        path = inside(workspace, path)
        if _is_ours(path, runners):
            return Script(word, path, name, f"runs {word} of the workspace, identical to llmval's own runner")
        return Script(word, path, None, f"runs {word} of the workspace")
    if name in RUNNERS:
        bundled_path = runners / name
        if bundled_path.is_file():
            return Script(
                str(bundled_path), bundled_path, name, f"{word} is not in the workspace: runs llmval's own {name}"
            )
        raise Refused(f"this version of llmval does not include {name}, so it cannot run or tick the item.")
    where = "" if Path(word).is_absolute() else f" in {workspace / (folder or '')}"
    raise Refused(f"there is no {word}{where}, and llmval brings no runner called {name}: correct the path.")


def _is_ours(path: Path, runners: Path) -> bool:
    """Whether a script of the workspace is llmval's own: the same bytes, or in a checkout's `runners/`."""
    if path.name not in RUNNERS:
        return False
    if (path.parent / "llmval_runners").is_dir():
        return True
    original = runners / path.name
    return original.is_file() and sha256_of(original) == sha256_of(path)


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a step."""

    name: str  # as written in the step
    path: Path  # in the workspace; the file may not exist
    text: str  # "" if absent
    source: str  # "workspace", "bundled" (llmval's own document of the same name) or "absent"

    @property
    def workspace_text(self) -> str:
        """The text of the workspace's own file; "" if it does not exist."""
        return self.text if self.source == "workspace" else ""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the workspace's own file; None if it does not exist."""
        return hashlib.sha256(self.text.encode()).hexdigest() if self.source == "workspace" else None


def resolve_document(name: str, workspace: Path) -> Document:
    """The document of this name: the workspace's, else llmval's own, which is only read.

    Raises:
        Refused: it is outside the workspace, a folder, or not readable as UTF-8 text.
    """
    path = inside(workspace, name)
    if path.is_file():
        return Document(name, path, _read(path, name), "workspace")
    if path.exists():
        raise Refused(f"{name} is not a file: name the document to use.")
    try:
        own = bundled("docs") / Path(name).name
    except FileNotFoundError:
        own = path
    if own.is_file():
        return Document(name, path, _read(own, name), "bundled")
    return Document(name, path, "", "absent")


def _read(path: Path, name: str) -> str:
    try:
        # Read bytes: universal newlines would change the line endings of a CRLF document when it is written back.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise Refused(f"{name} cannot be read ({error.strerror}): make it readable.") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is not UTF-8 at byte {error.start}: convert it to UTF-8 first.") from error
