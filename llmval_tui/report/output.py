"""Writes a report to standard output or to a file. Only a report is overwritten."""

import sys
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_atomic
from llmval_tui.foundation.paths import user_path
from llmval_tui.foundation.redaction import redact_text
from llmval_tui.report.pages import html_page, markdown_page

SUFFIXES = {
    ".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".json": "json", ".xml": "junit",
    ".prom": "prometheus",
}  # fmt: skip
# A file is overwritten only if its beginning contains one of these. Comparisons in Markdown, and JUnit XML, have the
# marker of a report in Markdown.
MARKERS = (
    html_page.MARKER,
    markdown_page.MARKER,
    "# llmval report",
    '"kind": "llmval_report"',
    '"kind": "llmval_compare"',
)
_HEAD_BYTES = 4096


def format_for(target: str | None, requested: str | None, default: str) -> str:
    """The format from `--format`, else from the file's suffix, else `default`.

    Raises:
        Refused: the suffix contradicts `--format`.
    """
    from_suffix = SUFFIXES.get(Path(target).suffix.lower()) if target and target != "-" else None
    if requested and from_suffix and requested != from_suffix:
        raise Refused(f"--format {requested} and the file name {target} do not agree: leave one of the two out.")
    return requested or from_suffix or default


def deliver(text: str, target: str | None) -> Path | None:
    """Write the text without secrets to a file and return its path; to standard output if `target` is None or `-`.

    Raises:
        Refused: the file exists and is not a report, or its folder does not exist.
    """
    text = redact_text(text)  # an item, a command or a line of a log may hold a secret
    if target is None or target == "-":
        sys.stdout.write(text)
        return None
    path = user_path(target)
    if path.is_dir():
        raise Refused(f"{path} is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise Refused(f"the folder {path.parent} does not exist: create it, or name another file with -o.")
    if path.exists() and not _is_report(path):
        raise Refused(f"{path} exists and is not a report of llmval: name another file with -o.")
    write_atomic(path, text.encode())
    return path


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): name another file with -o.") from error
    # An empty file may be replaced: mktemp or a shell's redirection makes one.
    return not head or any(marker.encode() in head for marker in MARKERS)
