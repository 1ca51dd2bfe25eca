"""`new`: writes a ready list and the documents that it names into the workspace, and never replaces a file."""

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.console.options import print_object, refuse_readonly, workspace_of
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import stage
from llmval_tui.foundation.paths import bundled, inside

OPERATORS_LIST = "llm_validation"  # the one that llmval opens if nobody names another
_DOCUMENT = re.compile(r"docs/[A-Za-z0-9_]+\.md")


@dataclass(frozen=True, slots=True)
class ReadyList:
    """A list that comes with llmval."""

    name: str
    source: Path
    target: str  # where it belongs in the workspace

    @property
    def about(self) -> str:
        """Its first paragraph's first sentence."""
        paragraphs = self.source.read_text().split("\n\n")
        text = " ".join(next(part for part in paragraphs if not part.startswith("#")).split())
        return re.split(r"(?<=[.?])\s", text)[0]

    def documents(self) -> list[Path]:
        """The documents of llmval that the list names."""
        names = sorted(set(_DOCUMENT.findall(self.source.read_text())))
        paths = [bundled("docs").parent / name for name in names]
        return [path for path in paths if path.is_file() and path != self.source]


def ready_lists() -> dict[str, ReadyList]:
    """The lists by their names, the operator's first."""
    docs = bundled("docs")
    own = f"{OPERATORS_LIST}_checklist.md"
    found = [ReadyList(OPERATORS_LIST, docs / own, f"docs/{own}")]
    found += [ReadyList(path.stem, path, path.name) for path in sorted((docs / "lists").glob("*.md"))]
    return {one.name: one for one in found}


def new(options: argparse.Namespace) -> int:
    """Write the list of this name and its documents, or print the names."""
    lists = ready_lists()
    if options.name is None:
        return _print_names(options, lists)
    refuse_readonly(options)
    chosen = lists.get(options.name.removesuffix(".md").removesuffix("_checklist"))
    if chosen is None:
        raise Refused(f"there is no ready list {options.name!r}: take one of {', '.join(lists)}.")
    workspace = workspace_of(options)
    target = inside(workspace, options.output or chosen.target)
    name = str(target.relative_to(workspace))
    if target.exists() and target.read_bytes() != chosen.source.read_bytes():
        raise Refused(f"{target} exists already and is yours: give the new list another name with --output FILE.")
    written: list[str] = []
    kept: list[str] = []
    # The list comes last: a list is not there without its documents.
    for source, path in [*((one, f"docs/{one.name}") for one in chosen.documents()), (chosen.source, name)]:
        is_new = _write_new(inside(workspace, path), source.read_bytes())
        (written if is_new else kept).append(path)
    # llmval finds the operator's list by itself.
    run = "llmval" if name == lists[OPERATORS_LIST].target else f"llmval {name}"
    if options.json:
        print_object("message", ok=True, message=f"{name} is there", list=name, written=written, kept=kept)
        return ExitCode.PASSED
    for path in written:
        print(f"wrote  {path}")
    for path in kept:
        print(f"kept   {path}, which was there")
    print(f"\n{run} opens it; llmval run --all --dry-run --checklist {name} says what each item would do.")
    return ExitCode.PASSED


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet; False if it is, whatever it is.

    Raises:
        Refused: the folder cannot be written.
    """
    if os.path.lexists(path):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = stage(path.parent, data, lambda inode: f".{path.name}.{inode:x}")
        try:
            os.link(staged, path)  # unlike a rename it replaces nothing
        finally:
            staged.unlink()
    except FileExistsError:
        return False
    except OSError as error:
        raise Refused(
            f"{path} cannot be written ({error.strerror}): choose another folder with --workspace."
        ) from error
    return True


def _print_names(options: argparse.Namespace, lists: dict[str, ReadyList]) -> int:
    if options.json:
        print_object("ready_lists", lists=[{"name": one.name, "about": one.about} for one in lists.values()])
        return ExitCode.PASSED
    width = max(len(name) for name in lists)
    for one in lists.values():
        print(f"{one.name:<{width}}  {one.about}")
    print("\nllmval new NAME writes one into this folder with its documents.")
    return ExitCode.PASSED
