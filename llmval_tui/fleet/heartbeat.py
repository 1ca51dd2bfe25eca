"""The sign of life of one node: a line every two seconds, appended to `heartbeat.jsonl` in the node's folder.

The head compares no clocks: a node is silent if its file has not grown for `SILENT_S` of the head's own clock. The last
line says that the part has ended, with the SHA-256 of the manifest.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.files import append_line, to_json

HEARTBEAT_FILE = "heartbeat.jsonl"
INTERVAL_S = 2.0
SILENT_S = 20.0  # so that a dead node is named within 30 s


class Heartbeat:
    """Writes the lines, in a thread, until `end`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / HEARTBEAT_FILE
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self, **words: Any) -> None:
        """Write the last line.

        Raises:
            Refused: it cannot be written.
        """
        self._stop.set()
        self._thread.join()
        append_line(self._file, {"t_ns": time.time_ns(), "ended": True, **words})  # synced: the others need not be

    def _beat(self) -> None:
        while not self._stop.is_set():
            # On a full disk the next beat may have space, so the node goes on. No lock and no sync: 512 nodes do this.
            with suppress(OSError), self._file.open("ab", buffering=0) as file:
                file.write(to_json({"t_ns": time.time_ns()}))
            self._stop.wait(INTERVAL_S)


@dataclass(slots=True)
class Pulse:
    """What the head knows of one node's heartbeat."""

    folder: Path
    size: int = -1
    seen_s: float | None = None  # monotonic clock of the last growth; None: it never began
    ended: bool = False
    outcome: str | None = None
    reason: str | None = None  # why it ended without an outcome
    manifest_sha256: str | None = None

    def look(self, now_s: float) -> None:
        """Read the file again, if it is on a file system that this machine sees."""
        try:
            # Opened, not only looked up: over NFS an open asks the server, a stat may answer from a cache.
            with (self.folder / HEARTBEAT_FILE).open("rb") as file:
                size = file.seek(0, 2)
                if size == self.size:
                    return
                file.seek(max(0, size - 4096))
                self.size = size
                self.hear(lines_of(file.read()), now_s)
        except OSError:
            return

    def hear(self, lines: list[dict[str, Any]], now_s: float) -> None:
        """Take lines, from the file or from the network."""
        for line in lines:
            self.seen_s = now_s
            if line.get("ended"):
                self.ended = True
                self.outcome, self.reason = line.get("outcome"), line.get("reason")
                self.manifest_sha256 = line.get("manifest_sha256")

    def silent_s(self, now_s: float) -> float | None:
        """For how long nothing came; None if it has ended or never began."""
        return None if self.ended or self.seen_s is None else now_s - self.seen_s


def lines_of(data: bytes) -> list[dict[str, Any]]:
    """The whole JSON lines in a piece of the file."""
    found = []
    for line in data.split(b"\n"):
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(line)
            found += [value] if isinstance(value, dict) else []
    return found
