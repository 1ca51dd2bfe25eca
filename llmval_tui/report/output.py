"""Where a report goes: standard output, or a file that is new or a report already."""

import sys
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_atomic
from llmval_tui.report.pages import html_page, markdown_page

SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".json": "json"}
# What a file must have near its beginning to be replaced; a comparison's Markdown begins like a report's.
MARKERS = (html_page.MARKER, markdown_page.MARKER, '"kind": "llmval_report"', '"kind": "llmval_compare"')
_BEGINNING = 4096


def format_for(target: str | None, asked: str | None, otherwise: str) -> str:
    """The format by `--format`, else by the file's ending, else `otherwise`.

    Raises:
        Refused: the ending says another format than `--format`.
    """
    ending = SUFFIXES.get(Path(target).suffix.lower()) if target and target != "-" else None
    if asked and ending and asked != ending:
        raise Refused(f"--format {asked} and the file name {target} do not agree: leave one of the two out.")
    return asked or ending or otherwise


def deliver(text: str, target: str | None) -> Path | None:
    """Write `text` to the file, or to standard output where that is None or `-`; returns the file's path.

    Raises:
        Refused: the file is something else than a report, its folder is missing, or it cannot be written.
    """
    if target is None or target == "-":
        sys.stdout.write(text)
        return None
    path = Path(target).expanduser().absolute()
    if path.is_dir():
        raise Refused(f"{path} is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise Refused(f"the folder {path.parent} is not there: make it, or name another file with -o.")
    if path.exists() and not _is_report(path):
        raise Refused(f"{path} is there already and is not a report of llmval: name another file with -o.")
    write_atomic(path, text.encode())
    return path


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): name another file with -o.") from error
    # An empty file holds nothing that could be lost (mktemp, a shell's redirection).
    return not beginning or any(marker.encode() in beginning for marker in MARKERS)
