"""A file with the requests of a running window, because they are lost from memory if rank 0 is killed.

`python -m llmval_runners.load_test.recovery` makes a partial record from the file.
"""

import base64
import fcntl
import json
import os
import sys
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from llmval_runners.engine.request import Request
from llmval_runners.process.errors import Refused

FLUSH_S = 1.0


def journal_path(path: Path) -> Path:
    """The journal for the result `x.json` is `x.partial.jsonl`. It exists during the load test and after a kill."""
    return path.with_name(f"{path.stem}.partial.jsonl")


class Journal:
    """A file that a thread extends once per second. It is locked while its writer is alive, and removed at the end."""

    def __init__(self, path: Path) -> None:
        """Raises Refused, without changing the file, if another load test writes it."""
        self.path = path
        self._file = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it however the process ends
        except BlockingIOError:
            self._file.close()
            raise Refused(f"another load test writes {path}: pass another --output-json.") from None
        self._file.truncate(0)
        self._sent: Sequence[Request] = []
        self._written = 0
        self._broken = False
        self._ended: deque[Request] = deque()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def begin(self, header: dict[str, Any], sent: Sequence[Request]) -> None:
        """Empty the file and begin a window. `sent` grows while requests are sent; the journal only reads it.

        `header` is the record without the requests, for `recovery.py`.
        """
        with self._lock:
            self._file.truncate(0)
            self._sent, self._written = sent, 0
            self._ended.clear()
            self._write([{"window": header}])

    def ended(self, request: Request) -> None:
        """Note that a request has its last token."""
        self._ended.append(request)

    def remove(self) -> None:
        """Remove the file, because the whole record is written elsewhere."""
        self._stop.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)  # before the lock is released
        self._file.close()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        # Taken before `fresh`: a request that has ended was sent earlier, so its index line is written or in `fresh`.
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        fresh = self._sent[self._written :]
        lines = [line_of(request) for request in fresh]
        self._written += len(fresh)
        lines += [line_of_tokens(request) for request in ended]
        if lines:
            self._write(lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self._broken:
            return
        try:
            self._file.write(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
        except OSError as error:  # a full disk: the measurement goes on, and there may be room for its result
            self._broken = True
            print(f"warning: {self.path} cannot be written any more ({error.strerror})", file=sys.stderr, flush=True)


def read_dead_journal(path: Path) -> tuple[dict[str, Any], list[Request]] | None:
    """Read the header and requests of a dead writer's journal. None if the writer is alive or began no window.

    A request that had not ended has no tokens here: their times were only in the memory of the dead process.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # removed just now: its writer has written the record
                return None
            lines = [json.loads(line) for line in file if line.endswith(b"\n")]
    except (BlockingIOError, FileNotFoundError):
        return None
    if not lines:
        return None
    return lines[0]["window"], requests_in(lines[1:])


def line_of(request: Request) -> dict[str, Any]:
    """A request that was sent, without its tokens."""
    return {
        "index": request.index,
        "due": request.intended_s,
        "sent": request.dispatch_s,
        "prompt": request.input_tokens,
        "output": request.output_tokens,
    }


def line_of_tokens(request: Request) -> dict[str, Any]:
    """The times of a request's tokens."""
    return {"index": request.index, "tokens": base64.b64encode(request.token_times.tobytes()).decode()}


def requests_in(lines: Iterable[dict[str, Any]]) -> list[Request]:
    """The requests of such lines. Their prompts have the right lengths and no content."""
    found: dict[int, Request] = {}
    for line in lines:
        if "tokens" in line:
            found[line["index"]].token_times = array("d", base64.b64decode(line["tokens"]))
        else:
            found[line["index"]] = Request(
                line["index"], _prompt(line["prompt"]), line["output"], line["due"], line["sent"]
            )
    return list(found.values())


@cache
def _prompt(tokens: int) -> list[int]:
    return [0] * tokens


def remove_dead_journal(path: Path) -> None:
    """Remove the journal after its requests are saved, unless another load test has begun to write there."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
