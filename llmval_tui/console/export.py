"""`export`: one archive of runs, for another machine or another party."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from llmval_tui.console.options import print_result, workspace_of
from llmval_tui.console.stdio import terminal_of
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.sources import run_named
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.paths import user_path
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.terminal.format import size

SHOWN = 5  # names that a message lists


def export(options: argparse.Namespace) -> int:
    """Write the named runs, or all that have ended, into one archive."""
    if options.readonly and not options.dry_run:
        raise Refused("--readonly was given, but an export writes a file: leave out one of the two, or add --dry-run.")
    store = RunStore(workspace_of(options))
    runs, skipped = _chosen(store, options)
    content = content_of(store, runs, whole=options.all)
    newest = content.runs[-1]
    target = user_path(options.output or f"llmval-{_word(newest)}-{newest.id.partition('-')[0]}.zip")
    key = user_path(options.sign) if options.sign else None
    count = f"{len(content.runs)} {'run' if len(content.runs) == 1 else 'runs'}"
    for sentence in [*skipped, *content.left_out]:
        print(clean_line(sentence), file=sys.stderr)
    plan = f"{count}, {len(content.files)} files, {size(content.bytes)} before packing"
    if options.dry_run:
        more = {"runs": [run.id for run in content.runs], "files": list(content.files), "bytes": content.bytes}
        print_result(options, f"{plan}; would write {target}.", **more)
        return ExitCode.PASSED
    print(f"{plan} …", file=sys.stderr)
    progress = Progress(content.bytes, sys.stderr)
    try:
        written = write_archive(content, target, key, progress.report)
    finally:
        progress.clear()
    for sentence in written.not_as_judged:
        print(clean_line(sentence), file=sys.stderr)
    secrets = f" Overwritten: {counted(written.masked, 'secret')} in {_named(written.masked_files)}."
    masked = secrets if written.masked else ""
    binary = _named(written.unsearched)
    unsearched = f" Binary files were not searched for secrets: {binary}." if binary else ""
    signed = "signed" if written.signed else "not signed"
    message = f"{target}: {count}, {size(written.bytes)}, {signed}, SHA-256 {written.sha256}.{masked}{unsearched}"
    print_result(
        options,
        clean_line(message),
        path=target,
        runs=[run.id for run in content.runs],
        bytes=written.bytes,
        sha256=written.sha256,
        masked=written.masked,
        masked_files=written.masked_files,
        unsearched=written.unsearched,
        left_out=[*skipped, *content.left_out],
        not_as_judged=written.not_as_judged,
        signed=written.signed,
    )
    return ExitCode.PASSED


class Progress:
    """Says how far the archive is: on a terminal in one line that changes, else in a line every ten seconds."""

    def __init__(self, total: int, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._out, self._clock = total, out, clock
        self._live = out.isatty()
        self._every_s = 0.2 if self._live else 10.0
        self._due_s = clock() + (0.0 if self._live else self._every_s)
        self._shown = False

    def report(self, name: str, done: int) -> None:
        """Args: done: the bytes that are packed, before the next part of the file `name`."""
        if (now := self._clock()) < self._due_s:
            return
        self._due_s = now + self._every_s
        text = f"{size(done)} of {size(self._total)} searched for secrets and packed; {clean_line(name)}"
        if self._live:
            terminal_of(self._out).write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        else:
            self._out.write(f"{text}\n")
        self._out.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self._live and self._shown:
            terminal_of(self._out).write("\r\x1b[K")
            self._out.flush()


def _chosen(store: RunStore, options: argparse.Namespace) -> tuple[list[Run], list[str]]:
    """The runs to export, and a sentence for each that cannot be.

    Raises:
        Refused: none is named, or a name fits none or several.
    """
    every = store.runs()
    if options.all and options.runs:
        raise Refused("--all exports every run: leave out --all or the names.")
    if options.all:
        alive = [run for run in every if run.alive()]
        runs = [run for run in every if run not in alive]
        if not runs:
            raise Refused(f"there is no ended run in {store.root}: start one with llmval run.")
        return runs, [f"{run.id} is still running, so it is left out." for run in alive] + store.unreadable
    if not options.runs:
        raise Refused("name the runs to export (llmval runs lists them), or all of them by --all.")
    return list({run.id: run for run in (run_named(store, name) for name in options.runs)}.values()), []


def _word(run: Run) -> str:
    """The host's name as a part of a file's name."""
    host = str(run.intent.host.get("name") or "")
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in host).strip("-") or "runs"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
