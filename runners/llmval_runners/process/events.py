"""Progress of a runner: event lines for the dashboard, or one line on the terminal for a person."""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

from llmval_runners.process.errors import Refused
from llmval_runners.process.output import Report, say

VARIABLE = "LLMVAL_EVENTS"
VERSION = 1
HEARTBEAT_S = 1.0
DEFAULT_WIDTH = 80  # columns of a terminal that does not report its width
PLAIN_INTERVAL_S = 5.0  # between progress lines if standard error is not a terminal
EVERY_RANK = ("error", "heartbeat")


class EventLog:
    """Events of one rank. The first rank of a node writes all kinds; the others only `error` and `heartbeat`.

    Each node has a file of its own: on several, the first rank of each tells what its node does.

    If `LLMVAL_EVENTS` is set, each event is one JSON line, appended by one `write` to an O_APPEND descriptor, so that
    lines of several ranks never mix. Otherwise rank 0 shows its progress on standard error.
    """

    def __init__(
        self, rank: int, path: str | None = None, terminal: TextIO | None = None, report: Report | None = None
    ) -> None:
        """Raises Refused if the file of events cannot be written."""
        self.rank = rank
        self._tells = rank == 0 or os.environ.get("LOCAL_RANK") == "0"
        self.report = report or Report()
        self.phase_name = "setup"
        self.step: int | None = None
        path = os.environ.get(VARIABLE) if path is None else path
        self._descriptor = _open(path) if path else None
        self._terminal = _Terminal(terminal or sys.stderr, quiet=self.report.quiet) if not path and rank == 0 else None
        self._broken = False  # a write has failed, and this was said
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def start(self) -> "EventLog":
        """Start the heartbeats, one per second. They show that the process lives; a growing `step` shows progress."""
        if self._descriptor is not None:
            self._beat = threading.Thread(target=self._heartbeats, name="heartbeat", daemon=True)
            self._beat.start()
        return self

    @property
    def recording(self) -> bool:
        """Whether events are written to a file."""
        return self._descriptor is not None

    def phase(self, name: str, message: str | None = None) -> None:
        self.phase_name = name
        self._emit("phase", {"name": name} | ({"message": message} if message else {}))

    def progress(self, done: float, total: float | None, unit: str, label: str | None = None) -> None:
        self._emit("progress", {"done": done, "total": total, "unit": unit} | ({"label": label} if label else {}))

    def metrics(self, values: dict[str, float | None]) -> None:
        self._emit("metrics", dict(values))

    def result(self, path: str, *, shown: bool = True) -> None:
        """A result was written. `shown`: also say so on the terminal."""
        self._emit("result", {"path": path}, shown=shown)

    def say(self, text: str) -> None:
        """Print lines on rank 0: not with `--quiet`, and on standard error where standard output is for the record."""
        if self.rank == 0 and not self.report.quiet:
            self.clear()
            say(text, to_stderr=self.report.as_json)

    def clear(self) -> None:
        """Remove the progress line from the terminal, so that other output begins on a line of its own."""
        if self._terminal is not None:
            self._terminal.end()

    def warning(self, code: str, message: str) -> None:
        self._emit("warning", {"code": code, "message": message})

    def error(self, code: str, message: str) -> None:
        self._emit("error", {"code": code, "message": message})

    def close(self) -> None:
        """Stop the heartbeats and finish the terminal line."""
        self._closed.set()
        if self._beat is not None:
            self._beat.join()
        if self._terminal is not None:
            self._terminal.end()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _heartbeats(self) -> None:
        while True:
            self._emit("heartbeat", {"phase": self.phase_name} | ({} if self.step is None else {"step": self.step}))
            if self._closed.wait(HEARTBEAT_S):
                return

    def _emit(self, kind: str, data: dict[str, Any], *, shown: bool = True) -> None:
        if not self._tells and kind not in EVERY_RANK:
            return
        if self._terminal is not None and shown:
            self._terminal.show(kind, data)
        if self._descriptor is not None:
            event = {
                "v": VERSION, "t_ns": time.time_ns(), "mono_ns": time.monotonic_ns(), "rank": self.rank, "kind": kind,
                "data": data,
            }  # fmt: skip
            try:
                os.write(self._descriptor, json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n")
            except OSError as error:  # a full disk: the measurement goes on without events
                if not self._broken:
                    self._broken = True
                    say(f"warning: an event could not be written ({error.strerror})", to_stderr=True)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refused(
            f"{VARIABLE}={path} cannot be written ({error.strerror}): name a file in a folder that you may write, or "
            f"unset {VARIABLE}."
        ) from None


class _Terminal:
    """One line on standard error: redrawn in place on a terminal, printed every few seconds to a file or a pipe."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        """`quiet`: only warnings and errors."""
        self.stream, self.quiet = stream, quiet
        self.is_terminal = stream.isatty()
        self.phase = ""
        self.progress = ""
        self.metrics = ""
        self.printed_at = float("-inf")

    def show(self, kind: str, data: dict[str, Any]) -> None:
        if self.quiet and kind not in ("warning", "error"):
            return
        with suppress(OSError):  # nobody reads it any more: the run goes on
            self._show(kind, data)

    def _show(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "phase":
            self.end()
            self.phase, self.progress, self.metrics = data["name"], data.get("message", ""), ""
            self.printed_at = float("-inf")
        elif kind == "progress":
            total = "" if data["total"] is None else f"/{data['total']:g}"
            self.progress = f"{data['done']:.0f}{total} {data['unit']}"
        elif kind == "metrics":
            shown = [f"{key} {value:.4g}" for key, value in data.items() if value is not None and key in _SHOWN]
            self.metrics = "  ".join(shown)
        elif kind in ("warning", "error"):
            self.end()
            self.stream.write(f"{kind}: {data['message']}\n")
            self.stream.flush()
            if self.quiet:
                return
        elif kind == "result":
            self.end()
            self.stream.write(f"result: {data['path']}\n")
            return
        now = time.monotonic()
        if kind != "heartbeat" and (self.is_terminal or now - self.printed_at >= PLAIN_INTERVAL_S):
            self.printed_at = now
            line = f"{self.phase:8} {self.progress}  {self.metrics}".rstrip()
            if self.is_terminal:
                line = _fitted(line, self._width())
            self.stream.write(f"\r\x1b[2K{line}" if self.is_terminal else f"{line}\n")
            self.stream.flush()

    def end(self) -> None:
        """Remove the progress line: what is written next begins on a line of its own."""
        if self.is_terminal and self.phase:
            with suppress(OSError):
                self.stream.write("\r\x1b[2K")
                self.stream.flush()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or DEFAULT_WIDTH
        except (OSError, ValueError):  # not a terminal after all, or closed
            return DEFAULT_WIDTH


def _fitted(line: str, width: int) -> str:
    """The line without what does not fit; a line of the full width would wrap on some terminals."""
    return line if len(line) < width else f"{line[: max(width - 2, 0)]}…"


_SHOWN = ("offered_qps", "completed_qps", "output_tokens_per_s", "running", "queued", "ttft_p50_ms", "ttft_p99_ms")
