"""The events of a run: its phase, progress and live metrics."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.tail import LineTail
from llmval_tui.foundation.text import clean_line


@dataclass(slots=True)
class Progress:
    """The state after all events so far; unknown values are None."""

    phase: str | None = None
    phase_index: int | None = None
    phase_total: int | None = None
    done: float | None = None
    total: float | None = None  # None: unknown
    unit: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # warnings and errors, newest last
    last_t_ns: int | None = None

    @property
    def fraction(self) -> float | None:
        """The finished share, 0 to 1."""
        if self.done is None or not self.total or self.total <= 0:
            return None
        return min(1.0, max(0.0, self.done / self.total))


class EventFollower:
    """Follows `events.jsonl`; lines that are not events are skipped. `backlog_bytes`: see `LineTail`."""

    def __init__(self, path: Path, *, backlog_bytes: int | None = None) -> None:
        self._tail = LineTail(path, backlog_bytes=backlog_bytes)
        self.progress = Progress()

    def poll(self) -> list[dict[str, Any]]:
        """The new events, already applied to `progress`; a file that cannot be read is one of its problems."""
        try:
            return self._apply_lines(self._tail.poll())
        except OSError as error:
            problem = f"{self._tail.path} cannot be read ({error.strerror})"
            if problem not in self.progress.problems:
                self.progress.problems.append(problem)
            return []

    def _apply_lines(self, lines: Iterable[bytes]) -> list[dict[str, Any]]:
        found = []
        for line in lines:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict) and isinstance(event.get("data"), dict):
                found.append(event)
                self._apply(event)
        return found

    def _apply(self, event: dict[str, Any]) -> None:
        progress, data = self.progress, event["data"]
        if isinstance(event.get("t_ns"), int):
            progress.last_t_ns = event["t_ns"]
        match event.get("kind"):
            case "phase":
                progress.phase = clean_line(str(data.get("name", "")))
                progress.phase_index, progress.phase_total = data.get("index"), data.get("total")
                progress.done = progress.total = None
            case "progress":
                progress.done, progress.total = _number(data.get("done")), _number(data.get("total"))
                progress.unit = clean_line(str(data.get("unit", "")))
            case "metrics":
                progress.metrics |= {clean_line(str(name)): _number(value) for name, value in data.items()}
            case "warning" | "error":
                rank = event.get("rank")
                progress.problems.append(clean_line(f"rank {rank}: {data.get('message', data.get('code', ''))}"))
                del progress.problems[:-20]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
