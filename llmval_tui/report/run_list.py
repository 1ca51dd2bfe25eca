"""The runs of a store as lines: item, time, duration, outcome, headline figures."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmval_tui.actions.headline import Figure, headline
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.store import Run
from llmval_tui.terminal.format import parse_utc

REFUSED = "refused"  # in place of an outcome: nothing was started on any of several nodes


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run. A value that is not known is None, with the reason in `problem` or in the state."""

    run_id: str
    source: str  # the workspace, folder or archive that it is in
    item: str
    section: str
    text: str
    checklist: str
    host: str | None
    created_utc: str
    started_utc: str | None
    ended_utc: str | None
    duration_s: float | None
    state: str
    outcome: str | None  # None: not judged; `REFUSED`: nothing was started
    preset: str | None
    deviations: list[str] = field(default_factory=list)
    figures: tuple[Figure, ...] = ()
    metrics: dict[str, float | None] = field(default_factory=dict)  # all of the verdict
    problem: str | None = None  # why a record cannot be read

    def as_json(self) -> dict[str, Any]:
        """The line by docs/schemas/runs.schema.json."""
        names = [name for name in self.__dataclass_fields__ if name not in ("figures", "metrics")]
        figures = [
            {"metric": one.name, "label": one.label, "unit": one.unit, "better": one.better or None, "value": one.value}
            for one in self.figures
        ]
        return {name: getattr(self, name) for name in names} | {"figures": figures}


def line_of(run: Run, source: str) -> RunLine:
    """The line of a run. A damaged status or verdict is named in `problem`."""
    intent, ref = run.intent, run.intent.step
    host = intent.host.get("name")
    fixed: dict[str, Any] = {
        "run_id": run.id,
        "source": source,
        "item": ref.number,
        "section": ref.section,
        "text": ref.text,
        "checklist": ref.checklist,
        "host": None if host is None else str(host),
        "created_utc": intent.created_utc,
        "preset": intent.preset,
        "deviations": intent.deviations,
    }
    try:
        status, verdict, state, refused = run.status(), run.verdict(), run.state(), run.refused()
    except Refused as refusal:
        nothing: dict[str, Any] = dict.fromkeys(("started_utc", "ended_utc", "duration_s", "outcome"))
        return RunLine(**fixed, **nothing, state="unreadable", problem=str(refusal))
    return RunLine(
        **fixed,
        started_utc=status.started_utc,
        ended_utc=status.ended_utc,
        duration_s=seconds_between(status.started_utc, status.ended_utc),
        state=state.value,
        outcome=REFUSED if refused is not None and verdict is not None else verdict.outcome.value if verdict else None,
        figures=headline(verdict.metrics) if verdict is not None else (),
        metrics=verdict.metrics if verdict is not None else {},
    )


def seconds_between(began_utc: str | None, ended_utc: str | None) -> float | None:
    """The length of a run; None if one of its ends is not recorded."""
    began, ended = parse_utc(began_utc), parse_utc(ended_utc)
    return max(0.0, (ended - began).total_seconds()) if began and ended else None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are shown; None: all."""

    item: str | None = None  # number, or a part of the text
    outcome: str | None = None  # "none": not judged
    host: str | None = None
    since: datetime | None = None
    last: int | None = None

    def of(self, lines: Iterable[RunLine]) -> list[RunLine]:
        """The lines that fit, in their order."""
        return [line for line in lines if self._fits(line)][: self.last]

    def _fits(self, line: RunLine) -> bool:
        if self.item is not None and line.item != self.item and self.item.casefold() not in line.text.casefold():
            return False
        if self.outcome is not None and (line.outcome or "none") != self.outcome:
            return False
        if self.host is not None and self.host != line.host:
            return False
        began = parse_utc(line.started_utc or line.created_utc)
        return self.since is None or (began is not None and began >= self.since)


def date_of(text: str) -> datetime:
    """A date or a time (UTC if it names no zone).

    Raises:
        Refused: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"--since {text} is not a date: write it as 2026-11-29 or 2026-11-29T14:00.") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
