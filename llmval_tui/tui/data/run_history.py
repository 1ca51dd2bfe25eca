"""The runs of a step, and what the list says of each step. Used in the watcher's thread only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmval_tui.actions.headline import Figure, headline
from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.actions.tick_basis import Key
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.store import Run
from llmval_tui.terminal.format import parse_utc

TREND = 8  # newest runs whose figure the list shows
LONGEST = 200  # runs of a step that are listed


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run."""

    id: str
    state: State
    outcome: Outcome | None  # None: not judged
    began_s: float | None  # seconds since the epoch, as all times here
    ended_s: float | None  # None: it runs, or its end was not observed
    judged_s: float | None
    figures: tuple[Figure, ...] = ()
    gates: tuple[int, int] | None = None  # passed, all
    gpus: int | None = None  # 0: on the CPU
    reason: str = ""  # why it did not pass
    preset: str | None = None

    @property
    def took_s(self) -> float | None:
        return None if self.began_s is None or self.ended_s is None else max(0.0, self.ended_s - self.began_s)

    @property
    def alive(self) -> bool:
        return self.outcome is None and self.state not in (State.FINISHED, State.LOST)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the list says of one step besides its state."""

    moment_s: float | None  # of the tick; else of the verdict or the start of the newest run
    newest: RunRow | None
    by: str  # who ticked or ran it; "" if nobody did
    trend: tuple[float | None, ...] = ()  # the first figure of the newest judged runs, oldest first

    @property
    def figure(self) -> Figure | None:
        return self.newest.figures[0] if self.newest is not None and self.newest.figures else None


class RunHistory:
    """Makes rows of runs; those of judged runs are kept, as long as their verdict stays."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Verdict, RunRow]] = {}
        self._read: set[str] = set()  # ids of the runs that trends have read
        self._new_rows = 0

    def row(self, run: Run) -> RunRow:
        """The row of a run. A damaged record is named as its reason."""
        try:
            verdict = run.verdict()
            if verdict is not None:
                known = self._rows.get(run.id)
                if known is None or known[0] is not verdict:
                    known = self._rows[run.id] = verdict, self._make(run, verdict)
                return known[1]
            return self._make(run, None)
        except Refused as refusal:
            return RunRow(run.id, State.LOST, None, _began(run), None, None, reason=str(refusal))

    def rows(self, runs: Sequence[Run]) -> tuple[RunRow, ...]:
        """The rows of a step's runs, newest first, at most `LONGEST`."""
        return tuple(self.row(run) for run in runs[:LONGEST])

    def _make(self, run: Run, verdict: Verdict | None) -> RunRow:
        intent, status = run.intent, run.status()
        indices = intent.params.get("gpu_indices")
        ranks = [command.nproc for command in intent.commands if command.nproc]
        gpus = len(indices) if isinstance(indices, list) else max(ranks, default=None)  # []: on the CPU
        state = run.state() if verdict is None else status.state
        began = seconds(status.started_utc) or _began(run)
        if verdict is None:
            return RunRow(run.id, state, None, began, seconds(status.ended_utc), None, gpus=gpus, preset=intent.preset)
        passed = sum(gate.outcome is Outcome.PASS for gate in verdict.gates)
        return RunRow(
            run.id,
            state,
            verdict.outcome,
            began,
            seconds(status.ended_utc),
            seconds(verdict.judged_utc),
            headline(verdict.metrics),
            (passed, len(verdict.gates)),
            gpus,
            "" if verdict.outcome is Outcome.PASS else verdict.summary,
            intent.preset,
        )

    def _may_read(self, runs: Sequence[Run]) -> bool:
        unread = [run.id for run in runs[1:] if run.id not in self._read]  # a run without a verdict has no kept row
        if len(unread) > self._new_rows:
            return False
        self._new_rows -= len(unread)
        self._read.update(unread)
        return True

    def facts(
        self, statuses: Sequence[StepStatus], runs: Mapping[Key, Sequence[Run]], *, new_rows: int
    ) -> dict[StepKey, StepFacts]:
        """The facts of each step.

        Args:
            new_rows: how many runs may be read for the trends, besides the newest run of each step. A step whose runs
                would be more has no trend yet; the next call goes on with it.
        """
        self._new_rows = new_rows
        return {status.step.key: self._facts(status, runs.get(status.step.key, ())) for status in statuses}

    def _facts(self, status: StepStatus, runs: Sequence[Run]) -> StepFacts:
        newest = self.row(runs[0]) if runs else None
        basis = status.basis
        ticked = basis is not None and status.state not in (StepState.RUNNING, StepState.JUDGING)
        if ticked and basis is not None:
            moment = seconds(basis.utc)
        else:
            moment = (newest.judged_s or newest.began_s) if newest is not None else None
        note = basis.notes[-1] if basis is not None and ticked and basis.notes else None
        by = (note.by or note.host or "somebody") if note is not None else "llmval" if newest is not None else ""
        trend: tuple[float | None, ...] = ()
        if newest is not None and self._may_read(runs[:TREND]):
            judged = [row for row in map(self.row, runs[:TREND]) if row.outcome is not None]
            name = next((row.figures[0].name for row in judged if row.figures), None)
            if name is not None:
                trend = tuple(figure_value(row, name) for row in reversed(judged))
        return StepFacts(moment, newest, by, trend)


def figure_value(row: RunRow, name: str) -> float | None:
    """A figure of a run by its metric's name; None if the run has none."""
    return next((figure.value for figure in row.figures if figure.name == name), None)


def seconds(utc: str | None) -> float | None:
    """A recorded time in seconds since the epoch."""
    moment = parse_utc(utc)
    return moment.timestamp() if moment is not None else None


def _began(run: Run) -> float | None:
    return seconds(run.intent.created_utc)
