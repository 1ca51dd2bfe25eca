"""The life of a server, as its run's supervisor carries it: until it is ready, until somebody ends it, to its end."""

import time
from contextlib import suppress
from dataclasses import dataclass

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import is_locked, read_json, write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.command_end import failure_of
from llmval_tui.runs.records import Command, CommandStatus, ServerSpec, ServerStatus
from llmval_tui.runs.server_log import cause_of_end
from llmval_tui.runs.store import Run, RunStore, plan_lock

_ORPHAN_LOOK_S = 1.0
KILL = "KILL"  # the signal of a stop request that kills the server as a crash would


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a server must end now, and how."""

    by: str
    kill: bool = False


def request_stop(run: Run, by: str, *, kill: bool = False) -> None:
    """Ask the supervisor of a server's run to end the server; repeated requests change nothing.

    Raises:
        Refused: the request cannot be written.
    """
    if not run.stop_file.exists():
        write_json(run.stop_file, {"by": by, "utc": utc_iso(), "signal": KILL if kill else None})


class ServerLife:
    """One server. Its process is started and ended by the supervisor.

    Args:
        command: with its real words: the API key is among them.
    """

    def __init__(self, run: Run, spec: ServerSpec, status: ServerStatus, command: Command) -> None:
        self._run = run
        self._spec = spec
        self._command = command
        self._orphan_due_s = 0.0  # monotonic clock
        self.status = status

    def begin(self, process: Identity) -> None:
        """Start to ask whether it is ready, unless it was already when an earlier supervisor died."""
        from llmval_tui.runs.server_probe import Probe, api_key_of  # the HTTP client takes 60 ms to import

        self._probe = Probe(self._spec, api_key_of(self._command.argv, self._command.env), process.age_s)
        if self.status.ready_s is None:
            self._probe.start()

    def look(self, process: Identity) -> bool:
        """Take over what is known now; returns whether the status changed."""
        if self.status.ready_s is not None:
            return False
        probe, before = self._probe, self.status.waits_for
        if probe.ready_s is not None:
            self.status.ready_s, self.status.ready_utc = round(probe.ready_s, 3), utc_iso()
            self.status.model, self.status.version, self.status.waits_for = probe.model, probe.version, None
            return True
        self.status.waits_for = probe.waits_for
        if probe.failure is not None:
            self.status.problem = probe.failure
        elif process.age_s() >= self._spec.ready_within_s:
            waits = f", it still waited for {probe.waits_for}" if probe.waits_for else ""
            words = cause_of_end(self._run)
            self.status.problem = (
                f"it was not ready within {self._spec.ready_within_s:g} s{waits}"
                f"{f'; its log says: {words}' if words else ''} (ready= in its item gives it more time)"
            )
        return before != self.status.waits_for or self.status.problem is not None

    def must_stop(self) -> Stop | None:
        """Why it must end now; None if it lives on."""
        if self.status.problem is not None:
            return Stop("llmval, because it was not ready")
        if self.status.stopped is not None:  # an earlier supervisor died while it ended the server
            return Stop(self.status.stopped)
        request = read_json(self._run.stop_file)
        if isinstance(request, dict):
            return Stop(str(request.get("by", "somebody")), request.get("signal") == KILL)
        if time.monotonic() >= self._orphan_due_s:
            self._orphan_due_s = time.monotonic() + _ORPHAN_LOOK_S
            if self._is_abandoned():
                return Stop("its supervisor, because its plan has ended")
        return None

    def ended(self, status: CommandStatus) -> None:
        """Record why it ended, unless somebody ended it."""
        if self.status.stopped is not None or self.status.problem is not None:
            return
        how = "its end was not observed" if status.exit_code is None else failure_of(self._command, status)
        when = "while it served" if self.status.ready_s is not None else "before it was ready"
        words = status.out_of_memory or cause_of_end(self._run)
        self.status.problem = f"it ended {when} ({how}){f': {words}' if words else ''}"

    def _is_abandoned(self) -> bool:
        """Whether its plan is gone, and no run that rests on it is alive."""
        plan_id = self._run.intent.plan_id
        if plan_id is None or is_locked(plan_lock(self._run.workspace, plan_id)):
            return False
        with suppress(Refused, OSError):
            return not any(self._run.id in run.intent.servers for run in RunStore(self._run.workspace).active())
        return False


def sentence(run: Run) -> str:
    """A server in one line, for lists: `starting`, `serving tiny, ready in 61 s, on …`, `dead: …`, `ended by …`."""
    status, where = run.status(), url_of(run)
    known = status.server or ServerStatus()
    ended = bool(status.commands and status.commands[-1].ended_utc)
    if known.problem is not None:
        return f"dead: {known.problem}"
    if known.stopped is not None:
        return f"{'ended' if ended else 'ending'} by {known.stopped}"
    if ended or not run.alive():
        return "dead: it ended, and its end was not observed"
    if known.ready_s is None:
        return f"starting on {where}" + (f", waits for {known.waits_for}" if known.waits_for else "")
    return f"serving {known.model}, ready in {known.ready_s:.0f} s, on {where}"


def running_servers(store: RunStore) -> list[Run]:
    """The runs whose servers have not ended, oldest first."""
    return [run for run in reversed(store.runs()) if run.intent.server is not None and not run.judged() and run.alive()]


def server_lines(store: RunStore) -> list[str]:
    """One line for each server that has not ended: `server of 2.1: serving tiny, ready in 61 s, on …`."""
    return [f"server of {run.intent.step.number}: {sentence(run)}" for run in running_servers(store)]


def is_serving(run: Run) -> bool:
    """Whether the server is ready and its process alive."""
    status = run.status()
    known = status.server
    if known is None or known.ready_s is None or known.problem is not None or known.stopped is not None:
        return False
    process = status.commands[-1].identity if status.commands else None
    return process is not None and status.commands[-1].ended_utc is None and process.alive()


def url_of(run: Run) -> str:
    """Where the server of this run answers; "" if the run has none."""
    return run.intent.server.url if run.intent.server is not None else ""


def environment_of(run: Run) -> dict[str, str]:
    """The variables that tell a command where the server of this run answers, and which model it serves."""
    known = run.status().server
    found = {"LLMVAL_SERVER_URL": url_of(run)}
    return found | ({"LLMVAL_SERVER_MODEL": known.model} if known is not None and known.model else {})
