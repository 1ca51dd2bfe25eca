"""When the bytes of a log were written: notes of 16 bytes (time, size) beside each log, at most one a second.

A line has no time of its own. The supervisor notes the size of each log that has grown; a line that begins before a
noted size was there at the noted time, at most `NOTE_S` after it was written. Old runs have no notes: no time is known.
"""

import struct
from bisect import bisect_right
from pathlib import Path

from llmval_tui.runs.store import Run

NOTE_S = 1.0
_NOTE = struct.Struct("<qq")  # wall clock in ns, size of the log in bytes
_SUFFIX = ".times"


def times_path(log: Path) -> Path:
    """The file with the notes of a log: `main.stdout.log.times`."""
    return log.with_name(log.name + _SUFFIX)


class LogTimesWriter:
    """Notes the sizes of the logs of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sizes: dict[Path, int] = {}
        self._due_s = 0.0

    def note(self, now_s: float, wall_ns: int) -> None:
        """Note each log that has grown, at most once in `NOTE_S`; `now_s` is a monotonic clock.

        A disk that is full costs the times of some lines, never the run.
        """
        if now_s < self._due_s:
            return
        self._due_s = now_s + NOTE_S
        for log in self._run.logs():
            try:
                size = log.path.stat().st_size
                if size > self._sizes.get(log.path, 0):
                    with times_path(log.path).open("ab", buffering=0) as out:
                        out.write(_NOTE.pack(wall_ns, size))
                self._sizes[log.path] = size
            except OSError:
                continue

    def note_now(self, wall_ns: int) -> None:
        """Note the last bytes of a command that has ended."""
        self._due_s = 0.0
        self.note(0.0, wall_ns)
        self._due_s = 0.0


class LogTimes:
    """The notes of one log, read again when they have grown."""

    def __init__(self, log: Path) -> None:
        self._path = times_path(log)
        self._read = 0
        self._sizes: list[int] = []
        self._times: list[float] = []

    def poll(self) -> None:
        """Read new notes. A note that is cut off is read once it is complete."""
        try:
            if self._path.stat().st_size < self._read + _NOTE.size:
                return
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read(1 << 22)
        except OSError:
            return
        whole = len(data) // _NOTE.size * _NOTE.size
        for time_ns, size in _NOTE.iter_unpack(data[:whole]):
            # A log that begins anew begins its notes anew.
            if self._sizes and size <= self._sizes[-1]:
                kept = bisect_right(self._sizes, 0)
                del self._sizes[kept:], self._times[kept:]
            self._sizes.append(size)
            self._times.append(time_ns / 1e9)
        self._read += whole

    def at(self, offset: int) -> float | None:
        """When the byte at this offset was there, in seconds since the epoch; None if that was not noted."""
        index = bisect_right(self._sizes, offset)
        return self._times[index] if index < len(self._times) else None

    def size_at(self, time_s: float) -> int | None:
        """The size of the log at that time, in bytes; None if the log has no notes."""
        if not self._times:
            return None
        index = bisect_right(self._times, time_s)
        return self._sizes[index - 1] if index else 0
