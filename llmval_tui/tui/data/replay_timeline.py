"""A recording to be played: the clock of the replay, and its lines by time."""

import re
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

SPEEDS = (1, 2, 5, 10, 20, 50, 100)
SECOND_NS = 1_000_000_000
# Both formats write the time near the start of the line; other lines are skipped.
_TIME = re.compile(rb'"t_ns":\s*(\d{1,19})')
_LONGEST_LINE = 4 << 20


class Timeline:
    """The clock of a replay: recorded time that can be paused, sped up and set. Thread-safe."""

    def __init__(self, start_ns: int, end_ns: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.start_ns, self.end_ns = start_ns, max(start_ns, end_ns)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._speed: float = 1
        self._paused = False
        self._from_ns, self._from_s = start_ns, monotonic()

    @property
    def now_ns(self) -> int:
        """The shown moment of the recording (Unix time in ns)."""
        with self._lock:
            return self._now()

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def ended(self) -> bool:
        return self.now_ns >= self.end_ns

    @property
    def fraction(self) -> float:
        """The part that has been played, 0 to 1."""
        length = self.end_ns - self.start_ns
        return (self.now_ns - self.start_ns) / length if length else 1.0

    def toggle_pause(self) -> None:
        """Pause or go on; at the end, start again."""
        with self._lock:
            now = self._now()
            if now >= self.end_ns:
                now, self._paused = self.start_ns, False
            else:
                self._paused = not self._paused
            self._anchor(now)

    def seek(self, seconds: float) -> None:
        """Go forward (or back if negative) by recorded seconds."""
        with self._lock:
            self._anchor(self._now() + round(seconds * SECOND_NS))

    def seek_tenths(self, tenths: int) -> None:
        """Go forward (or back if negative) by tenths of the recording."""
        self.seek(tenths * (self.end_ns - self.start_ns) / 10 / SECOND_NS)

    def change_speed(self, steps: int) -> None:
        """Go up in `SPEEDS`, or down if negative."""
        with self._lock:
            now = self._now()
            index = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - self._speed))
            self._speed = SPEEDS[max(0, min(index + steps, len(SPEEDS) - 1))]
            self._anchor(now)

    def _anchor(self, now_ns: int) -> None:
        self._from_ns, self._from_s = max(self.start_ns, min(now_ns, self.end_ns)), self._monotonic()

    def _now(self) -> int:
        if self._paused:
            return self._from_ns
        return min(self.end_ns, self._from_ns + round((self._monotonic() - self._from_s) * self._speed * SECOND_NS))


class TimedLines:
    """The lines of a JSON-lines recording by their `t_ns`. Only times and offsets are in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._times = array("q")  # never decreasing: if the clock was set back, the time stands still
        self._offsets = array("q")  # one more than times: the end of the last line
        offset, latest = 0, 0
        try:
            with path.open("rb") as file:
                for line in file:
                    match = _TIME.search(line, 0, 256)
                    if match is not None and line.endswith(b"\n"):
                        latest = max(latest, int(match[1]))
                        self._times.append(latest)
                        self._offsets.append(offset)
                    offset += len(line)
        except FileNotFoundError:
            pass
        self._offsets.append(offset)

    def __len__(self) -> int:
        return len(self._times)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """The times of the first and the last line; None without lines."""
        return (self._times[0], self._times[-1]) if self._times else None

    def between(self, after_ns: int, until_ns: int, limit: int | None = None) -> list[bytes]:
        """The lines with `after_ns` < time ≤ `until_ns`, at most the first `limit`.

        Raises:
            OSError: the file cannot be read any more.
        """
        start, end = bisect_right(self._times, after_ns), bisect_right(self._times, until_ns)
        if limit is not None:
            end = min(end, start + limit)
        if start >= end:
            return []
        with self.path.open("rb") as file:
            found = []
            for index in range(start, end):
                file.seek(self._offsets[index])
                found.append(file.readline(_LONGEST_LINE))
        return found
