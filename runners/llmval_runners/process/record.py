"""The record of a run is written once: complete at its end, or as far as it came if the run ends early."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmval_runners.process.events import EventLog
from llmval_runners.process.output import OutputFile
from llmval_runners.process.shutdown import StopSignals

Make = Callable[[], dict[str, Any]]


def _nothing() -> None:
    """Nothing is written beside the record."""


class RunRecord:
    """Writes the record into its file, if there is one, and reports its path.

    The main thread, the guard of the stop signals and the watch for hangs may all want to write the final record: the
    first of them does. While one writes, nobody takes the process for stuck.
    """

    def __init__(self, file: OutputFile | None, stop: StopSignals, events: EventLog) -> None:
        self._file, self._stop, self._events = file, stop, events
        self._lock = threading.Lock()
        self._ended = False

    def complete(self, make: Make, then: Callable[[], None] = _nothing) -> dict[str, Any]:
        """Write the complete record and return it. `then` runs after it is written, and before anybody else may.

        Raises OSError; the record so far can still be saved then.
        """
        with self._stop.protect_write():
            record = make()
            with self._lock:
                if self._file is not None:
                    self._file.write(record)
                self._ended = True
                then()
        if self._file is not None:
            self._events.result(str(self._file.path), shown=False)
        return record

    def so_far(self, make: Make) -> None:
        """Keep what is finished on the disk, in case that this process is killed. Raises OSError."""
        if self._file is not None:
            with self._lock:
                if not self._ended:
                    self._file.write_partial(make())

    def early(self, make: Make, then: Callable[[], None] = _nothing) -> tuple[dict[str, Any], Path | None] | None:
        """Write the final record of a run that ends early; a disk that takes nothing is reported.

        Returns the record and its path (None: there is no file, or it was not written), or None if the final record
        was written before.
        """
        path = None
        with self._stop.protect_write(), self._lock:
            if self._ended:
                return None
            self._ended = True
            record = make()
            if self._file is not None:
                try:
                    self._file.write_partial(record)
                    path = self._file.partial
                    then()
                except OSError as error:
                    self._events.error("record_lost", f"{self._file.partial} cannot be written ({error.strerror})")
        if path is not None:
            self._events.result(str(path), shown=False)
        return record, path
