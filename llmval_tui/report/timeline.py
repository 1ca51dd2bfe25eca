"""The events of a run over time: phases, live metrics and warnings; and the time axis that all its plots share."""

from dataclasses import dataclass, field
from typing import Any

from llmval_tui.foundation.files import read_lines
from llmval_tui.foundation.text import clean_line
from llmval_tui.report.downsample import DownsampledSeries
from llmval_tui.runs.store import Run

MEASURE = "measure"
LIVE_GAP_S = 10.0  # the runners write metrics twice a second; a longer silence breaks the line
_MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase, in seconds on the run's axis."""

    name: str
    start_s: float
    end_s: float
    message: str = ""


@dataclass(slots=True)
class Timeline:
    """The run over time. Zero is the first event or sample, whichever is earlier, on the monotonic clock."""

    zero_ns: int = 0
    zero_utc_ns: int | None = None  # wall clock at zero; None if nothing was recorded
    end_s: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    live: dict[str, DownsampledSeries] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problems_total: int = 0

    def seconds(self, mono_ns: int) -> float:
        return (mono_ns - self.zero_ns) / 1e9

    @property
    def measured(self) -> list[tuple[float, float]]:
        """The measured windows, as (start, end) in seconds."""
        return [(phase.start_s, phase.end_s) for phase in self.phases if phase.name == MEASURE]

    @property
    def measured_ns(self) -> tuple[int | None, int | None]:
        """Start of the first and end of the last measured window on the monotonic clock, ns; None without a window."""
        windows = self.measured
        if not windows:
            return None, None
        return self.zero_ns + int(windows[0][0] * 1e9), self.zero_ns + int(windows[-1][1] * 1e9)

    def is_measured(self, time_s: float) -> bool:
        return any(start <= time_s <= end for start, end in self.measured)


def read_timeline(run: Run, first_sample: tuple[int, int] | None) -> Timeline:
    """The timeline of a run.

    Args:
        first_sample: monotonic and wall time of the first telemetry sample, in ns.
    """
    events = [event for event in read_lines(run.events) if _is_event(event)]
    stamps = [(event["mono_ns"], event["t_ns"]) for event in events]
    if first_sample is not None:
        stamps.append(first_sample)
    line = Timeline()
    if not stamps:
        return line
    line.zero_ns, line.zero_utc_ns = min(stamps)
    line.end_s = line.seconds(max(stamps)[0])
    open_phase: tuple[str, float, str] | None = None
    for event in sorted(events, key=lambda item: int(item["mono_ns"])):
        time_s, data = line.seconds(event["mono_ns"]), event["data"]
        match event["kind"]:
            case "phase" if event.get("rank", 0) == 0:
                if open_phase is not None:
                    line.phases.append(Phase(open_phase[0], open_phase[1], time_s, open_phase[2]))
                name, message = clean_line(str(data.get("name", ""))), clean_line(str(data.get("message") or ""))
                open_phase = (name, time_s, message)
            case "metrics":
                for name, value in data.items():
                    series = line.live.setdefault(clean_line(str(name)), DownsampledSeries(gap_s=LIVE_GAP_S))
                    series.add(time_s, _number(value))
            case "warning" | "error":
                line.problems_total += 1
                text = clean_line(str(data.get("message") or data.get("code") or ""))
                line.problems.append(f"{event['kind']} at {time_s:.1f} s, rank {event.get('rank')}: {text}")
    del line.problems[_MAX_PROBLEMS:]
    if open_phase is not None:
        line.phases.append(Phase(open_phase[0], open_phase[1], line.end_s, open_phase[2]))
    return line


def _is_event(event: dict[str, Any]) -> bool:
    return (
        isinstance(event.get("data"), dict)
        and isinstance(event.get("mono_ns"), int)
        and isinstance(event.get("t_ns"), int)
        and isinstance(event.get("kind"), str)
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
