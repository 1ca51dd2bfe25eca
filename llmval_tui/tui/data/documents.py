"""The document that the pane Document shows: the list, docs/TODO.md, or one that the chosen step names."""

import os
from pathlib import Path

from llmval_tui.checklist.model import Checklist
from llmval_tui.foundation.text import clean_line
from llmval_tui.tui.data.snapshot import Document, Selection

LARGEST = 2 << 20  # bytes of a document that are shown


def document_of(workspace: Path, checklist: Checklist, selection: Selection) -> Document:
    """The chosen document, or why it cannot be read."""
    step = checklist.find(selection.key) if selection.key is not None else None
    paths = [checklist.path, workspace / "docs" / "TODO.md"]
    for span in step.spans if step else ():
        named = workspace / span
        if span.endswith(".md") and named not in paths and named.is_file():
            paths.append(named)
    path = paths[selection.document % len(paths)]
    names = tuple(p.name for p in paths)
    mark = step.line if step and path == checklist.path else None
    if path == checklist.path:
        data = checklist.source
    else:
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST)
        except OSError as error:
            why = f"{path}: {os.strerror(error.errno or 0)}"
            if isinstance(error, FileNotFoundError) and path == paths[1]:
                why = "docs/TODO.md is not there yet: the first tick writes it."
            return Document(path.name, (), None, names, why)
    return Document(path.name, _lines(data), mark, names)


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(clean_line(line) for line in data.decode("utf-8", "replace").split("\n"))
