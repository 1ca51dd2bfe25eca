"""The head of a run on several nodes: `python -m llmval_tui.fleet.head RUN`.

It takes the place of the supervisor on the machine where the run was asked for: it submits the job or starts the
agents, follows them, passes on a cancel, names nodes that fall silent, and fetches what they wrote. It runs nothing on
a GPU, and may die at any moment: the nodes go on, and whoever looks next starts another head for the same run.
"""

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from llmval_tui.fleet import slurm
from llmval_tui.fleet.compare import ask_for_repeat, nodes_to_repeat
from llmval_tui.fleet.heartbeat import SILENT_S, Pulse
from llmval_tui.fleet.launch import Launcher, launch_of
from llmval_tui.fleet.part import RESULTS_FOLDER, node_folder
from llmval_tui.fleet.preflight import REFUSED_FILE
from llmval_tui.fleet.record import node_names
from llmval_tui.fleet.transport import GRACE_S, Transport, transport_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import open_output, read_json, write_json
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.command_secrets import forget_secrets
from llmval_tui.runs.owner import own_run, record_end
from llmval_tui.runs.records import JobStatus, Outcome, State, Status
from llmval_tui.runs.store import Run

POLL_S = 0.5
LOST_S = 30.0  # a node that is silent for so long holds nobody up
MOST_CRASHES = 3  # a head that stops on an internal error is started again so often
PEERS_S = 60.0  # after one node of a collective has failed, the others end by themselves, or are cancelled


def deliver(run: Run) -> list[str]:
    """Copy the result of a collective from the first node's folder to the paths that the item names.

    Returns a sentence for each file that could not be written; the evidence is the file in the node's folder.
    """
    said: list[str] = []
    names = node_names(run)
    if not names:
        return said
    results = node_folder(run, names[0]) / RESULTS_FOLDER
    for file in sorted(results.rglob("*")) if results.is_dir() else ():
        target = run.workspace / file.relative_to(results)
        if not file.is_file() or file.is_symlink():
            continue
        try:
            target = inside(run.workspace, file.relative_to(results))
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, open_output(target) as out:
                shutil.copyfileobj(source, out)
        except (OSError, Refused) as error:
            said.append(f"{target} could not be written: {error}")
    return said


class Head:
    """Follows one run from its start to the end of its last node."""

    def __init__(
        self,
        run: Run,
        transport: Transport | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.run = run
        self._clock, self._sleep = clock, sleep
        self.launch = launch_of(run.intent)
        self.status: Status = run.status()
        self.transport = transport or transport_of(run, self.launch)
        self.pulses: dict[str, Pulse] = {}
        self._stop: str | None = None
        self._cancelled_s: float | None = None
        self._began_s = clock()
        self._failed_s: float | None = None  # since when a node of a collective has failed
        self._saved = b""

    def ask_to_stop(self, number: int, _frame: object) -> None:
        """Signal handler: a signal to the head cancels the run, as one to a supervisor does."""
        self._stop = f"{signal.Signals(number).name} to the head"

    def supervise(self) -> None:
        """Carry out the run, or follow one that an earlier head started.

        Raises:
            Refused: nothing can be recorded.
        """
        self.status.supervisor = Identity.of(os.getpid())
        self.status.started_utc = self.status.started_utc or utc_iso()
        job = self.status.job
        begun = job is not None and job.state not in (None, "SUBMITTING", "STARTING")
        try:
            if begun or self._start(job or JobStatus()):
                self.status.state = State.RUNNING
                self._save()
                self._follow()
        except Exception as error:  # also a refusal: nodes have begun, so nobody may say that nothing was started
            if not self._gives_up(error):
                raise
        self.status.state, self.status.ended_utc = State.FINISHED, utc_iso()
        self._stop = None  # from here on, a signal ends the wait
        record_end(self.run, self._record_end, lambda: self._stop is not None, clock=self._clock, sleep=self._sleep)

    def _record_end(self) -> None:
        """Remove the secrets, and write the final status."""
        if not nodes_to_repeat(self.run):  # whoever measures again needs them
            forget_secrets(self.run.folder)
        write_json(self._status_file, self.status)

    def _gives_up(self, error: Exception) -> bool:
        """Record an internal error. After some of them the run is cancelled: nobody follows it any more."""
        traceback.print_exc()
        job = self.status.job = self.status.job or JobStatus()
        job.crashes += 1
        self._note(f"the head stopped on an internal error ({type(error).__name__}: {error}): see supervisor.log")
        if job.crashes < MOST_CRASHES:
            return False
        by = f"its head, after {job.crashes} internal errors, at last {type(error).__name__}: {error}; see "
        self.status.cancelled = self._cancelled_by() or by + str(self.run.folder / "supervisor.log")
        with suppress(Exception):  # as far as it goes: the nodes' own records stay in any case
            self._end_unfollowed(job, self.status.cancelled)
        return True

    def _end_unfollowed(self, job: JobStatus, by: str) -> None:
        """Cancel a run that nobody can follow, and wait for the nodes whose files are here."""
        if not self.run.cancel_file.exists():
            write_json(self.run.cancel_file, {"by": by, "utc": utc_iso()})
        self.transport.cancel(job, 0.0, taken=False)
        pulses = [Pulse(node_folder(self.run, name)) for name in job.nodes]
        until = self._clock() + GRACE_S
        while self._clock() < until:
            for pulse in pulses:
                pulse.look(self._clock())
            if all(one.ended or one.seen_s is None or (one.silent_s(self._clock()) or 0) > SILENT_S for one in pulses):
                return
            self._sleep(POLL_S)

    @property
    def _status_file(self) -> Path:
        return self.run.folder / "status.json"

    def _start(self, job: JobStatus) -> bool:
        """Start the nodes; False if that was refused, and nothing was started."""
        self.status.job = job
        try:
            self._submit(job)
        except Refused as refusal:
            job.refused, job.state = str(refusal), job.state or "REFUSED"
            self._note(str(refusal))
            return False
        return True

    def _submit(self, job: JobStatus) -> None:
        if by := self._cancelled_by():
            self.status.cancelled = by
            raise Refused("the run was cancelled before it began.")
        if job.nodes == []:
            job.nodes = list(self.run.intent.nodes)
        if self.launch.launcher is Launcher.SLURM:
            job.state = "SUBMITTING"
            self.status.state = State.RUNNING
            self._save()  # before the job exists: another head then looks for it by its name
        self.transport.start(job)

    def _follow(self) -> None:
        job = self.status.job
        assert job is not None
        while True:
            now = self._clock()
            for name in job.nodes:
                self.pulses.setdefault(name, Pulse(node_folder(self.run, name)))
            self.transport.look(job, self.pulses, now)
            self._name_silent(job, now)
            if by := self._cancelled_by() or self._end_by_slurm(job) or self._end_of_collective(now):
                self._climb(job, by, now)
            if self._all_over(job, now):
                break
            self._save()
            self._sleep(POLL_S)
        refused = read_json(self.run.folder / REFUSED_FILE)
        if isinstance(refused, dict):
            job.refused = str(refused.get("reason"))
        for line in self.transport.finish(job, self.pulses, forced=self._cancelled_s is not None):
            self._note(line)
        for name, pulse in self.pulses.items():
            if pulse.ended and pulse.outcome is None and pulse.reason:
                job.lost[name] = f"its agent ended early: {pulse.reason}"
        if self._cancelled_s is None and job.refused is None and (again := ask_for_repeat(self.run, self.launch, job)):
            self._note(f"{', '.join(again)} are measured again: among them are outliers")
        if self.launch.collective and job.refused is None:
            for line in deliver(self.run):
                self._note(line)

    def _name_silent(self, job: JobStatus, now: float) -> None:
        for name, pulse in self.pulses.items():
            silent = pulse.silent_s(now)
            if silent is not None and silent > SILENT_S:
                if name not in job.lost:
                    job.lost[name] = f"nothing has come from it for {silent:.0f} s"
                    self._note(f"{name}: {job.lost[name]}")
            elif name in job.lost and (pulse.ended or (silent is not None and self.launch.launcher is Launcher.SSH)):
                del job.lost[name]
                self._note(f"{name} answers again")

    def _end_by_slurm(self, job: JobStatus) -> str | None:
        """Who ends a run that Slurm itself has ended, or wants to start a second time."""
        if job.restarts and job.state not in slurm.OVER:
            return "Slurm, which wanted to start the job again"
        if job.state in ("CANCELLED", "PREEMPTED", "TIMEOUT", "DEADLINE"):
            return f"Slurm (the job is {job.state})"
        return None

    def _end_of_collective(self, now: float) -> str | None:
        """Who ends a collective of which one node has failed: nobody waits for ranks that will never come."""
        if not self.launch.collective or self._cancelled_s is not None:
            return None
        job = self.status.job
        assert job is not None
        bad = [name for name, pulse in self.pulses.items() if pulse.ended and pulse.outcome != "pass"]
        bad += list(job.lost)
        if not bad:
            self._failed_s = None
            return None
        self._failed_s = self._failed_s or now
        # The peers of a dead rank usually end by themselves, with the better message.
        return f"the end of {bad[0]}" if now - self._failed_s >= PEERS_S else None

    def _climb(self, job: JobStatus, by: str, now: float) -> None:
        if self._cancelled_s is None:
            self._cancelled_s = now
            job.failed = [name for name, pulse in self.pulses.items() if pulse.ended and pulse.outcome == Outcome.FAIL]
            self.status.state, self.status.cancelled = State.CANCELLING, by
            if not self.run.cancel_file.exists():
                write_json(self.run.cancel_file, {"by": by, "utc": utc_iso()})
        taken = all(self._has_taken(name) for name, pulse in self.pulses.items() if not pulse.ended)
        if step := self.transport.cancel(job, now - self._cancelled_s, taken=taken):
            self._note(step)

    def _has_taken(self, name: str) -> bool:
        """Whether a node has seen the request; one that does not share our files is believed to."""
        try:
            part = Run(node_folder(self.run, name)).status()
        except Refused:
            return False
        return part.state is not State.RUNNING or part.cancelled is not None

    def _all_over(self, job: JobStatus, now: float) -> bool:
        if self.transport.over(job):
            for pulse in self.pulses.values():  # the last lines may have come after the last look
                pulse.look(now)
            return True
        if not self.pulses or self.launch.launcher is Launcher.SLURM:
            return False  # a job ends by itself: its script goes on after the agents
        waits = [name for name, pulse in self.pulses.items() if not pulse.ended and not self._given_up(name, now)]
        return not waits

    def _given_up(self, name: str, now: float) -> bool:
        """Whether a node that has not reported holds nobody up: it is lost, or never began."""
        pulse = self.pulses[name]
        job = self.status.job
        assert job is not None
        since = pulse.seen_s if pulse.seen_s is not None else self._began_s
        patience = LOST_S if pulse.seen_s is not None else 2 * LOST_S
        if now - since < patience:
            return False
        job.lost.setdefault(name, "its agent wrote nothing")
        # Over ssh a cut line looks like a dead node: while others work, it may come back.
        return all(one.ended or one.silent_s(now) is None or (one.silent_s(now) or 0) > LOST_S
                   for other, one in self.pulses.items() if other != name)  # fmt: skip

    def _cancelled_by(self) -> str | None:
        return self.status.cancelled or self._stop or self.run.cancelled_by()

    def _note(self, line: str) -> None:
        self.status.notes.append(f"{utc_iso()} {line}")
        self._save()

    def _save(self) -> None:
        """Write the status if it has changed; a full disk must not end a run that goes on elsewhere."""
        now = repr(asdict(self.status)).encode()
        if now == self._saved:
            return
        try:
            write_json(self._status_file, self.status)
            self._saved = now
        except Refused as refusal:
            print(refusal, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Take the run's lock and follow it; returns 2 if another head holds the lock."""
    return own_run(arguments, Head, "head")


if __name__ == "__main__":
    raise SystemExit(main())
