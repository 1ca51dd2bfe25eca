"""The window's requests in a file while it runs: what is left when rank 0, which has them, is killed."""

import base64
import fcntl
import json
import os
import sys
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmval_runners.engine.request import Request
from llmval_runners.process.errors import Refused

FLUSH_S = 1.0


def journal_path(path: Path) -> Path:
    """Beside the result: `x.json` → `x.partial.jsonl`. It is there only while the load test runs, or where it died."""
    return path.with_name(f"{path.stem}.partial.jsonl")


class Journal:
    """Appended to once a second by a thread of its own; locked as long as its writer lives, and removed at its end."""

    def __init__(self, path: Path) -> None:
        """Raises Refused where another load test has it, whose lines stay as they are."""
        self.path = path
        self._file = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel, whatever ends the process
        except BlockingIOError:
            self._file.close()
            raise Refused(f"another load test writes {path}: pass another --output-json.") from None
        self._file.truncate(0)
        self._sent: Sequence[Request] = []
        self._told = 0
        self._broken = False
        self._ended: deque[Request] = deque()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def begin(self, header: dict[str, Any], sent: Sequence[Request]) -> None:
        """A new window: the file begins anew. `sent` is appended to by whoever sends, and only read here.

        `header` needs `run`, by which the other ranks know the journal as their own.
        """
        with self._lock:
            self._file.truncate(0)
            self._sent, self._told = sent, 0
            self._ended.clear()
            self._write([{"window": header}])

    def ended(self, request: Request) -> None:
        """A request has its last token."""
        self._ended.append(request)

    def remove(self) -> None:
        """The record is written elsewhere: the journal has done its work."""
        self._over.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)  # before the lock is let go
        self._file.close()

    def _run(self) -> None:
        while not self._over.wait(FLUSH_S):
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        # Before `fresh` is taken: what has ended by now was sent before, so its index line is there or is in `fresh`.
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        fresh = self._sent[self._told :]
        lines: list[dict[str, Any]] = [
            {
                "index": request.index,
                "due": request.intended_s,
                "sent": request.dispatch_s,
                "prompt": len(request.prompt),
                "output": request.output_tokens,
            }
            for request in fresh
        ]
        self._told += len(fresh)
        for request in ended:
            times = base64.b64encode(request.token_times.tobytes()).decode()
            lines.append({"index": request.index, "tokens": times})
        if lines:
            self._write(lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self._broken:
            return
        try:
            self._file.write(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
        except OSError as error:  # a full disk: the measurement goes on, and its result may find room again
            self._broken = True
            print(f"warning: {self.path} cannot be written any more ({error.strerror})", file=sys.stderr, flush=True)


def left_behind(path: Path, run: int) -> tuple[dict[str, Any], list[Request]] | None:
    """The header and the requests of a journal whose writer is dead; None where it lives, or left none of this `run`.

    A request that had not ended has no tokens here: its times were only in the memory of the process that died.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # removed meanwhile: its writer has written the record
                return None
            lines = [json.loads(line) for line in file if line.endswith(b"\n")]
    except (BlockingIOError, FileNotFoundError):
        return None
    if not lines or lines[0]["window"].get("run") != run:  # of an earlier run, that lost all its ranks
        return None
    found: dict[int, Request] = {}
    for line in lines[1:]:
        if "tokens" in line:
            found[line["index"]].token_times = array("d", base64.b64decode(line["tokens"]))
        else:
            found[line["index"]] = Request(
                line["index"], [0] * line["prompt"], line["output"], line["due"], line["sent"]
            )
    return lines[0]["window"], list(found.values())
