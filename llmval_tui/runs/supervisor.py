"""The process that owns one run: `python -m llmval_tui.runs.supervisor RUN`.

It starts the run's commands one after the other, keeps the telemetry recorder alive beside them, writes `status.json`,
terminates the command on a cancel, and leaves no process behind. It does not judge the run.

It runs in its own session, ignores SIGHUP and SIGPIPE, and writes only to files. It therefore outlives the terminal,
the dashboard and the plan. If it is killed itself, the command goes on and holds `command.lock`; a new supervisor for
the same run takes the command over.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import artifact_snapshot, out_of_memory, termination
from llmval_tui.runs.command_end import failure_of, set_aside, succeeded, write_output
from llmval_tui.runs.command_secrets import forget_secrets, with_secrets
from llmval_tui.runs.command_start import log_of, start_command
from llmval_tui.runs.hindrances import LOOK_S, stopped_processes
from llmval_tui.runs.log_times import LogTimesWriter
from llmval_tui.runs.owner import own_run, record_end
from llmval_tui.runs.records import Command, CommandStatus, Intent, ServerStatus, State, Status
from llmval_tui.runs.run_recorder import RunRecorder
from llmval_tui.runs.server_life import ServerLife, Stop
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import RunProcesses

_POLL_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Carries one run from its frozen intent to `finished`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.intent: Intent = run.intent
        self.status: Status = run.status()
        self._stop_signal: str | None = None
        self._unsaved = False
        self._look_due_s = 0.0  # monotonic clock
        self._stopped: set[str] = set()  # sentences about stopped processes that are noted already
        self._log_times = LogTimesWriter(run)
        self._processes = RunProcesses(run.folder)
        self._self = Identity.of(os.getpid())
        self._server: ServerLife | None = None  # of a run that starts a server
        # The runs whose servers this run rests on.
        self._servers = [Run(run.folder.parent / run_id) for run_id in self.intent.servers]
        self._recorder = RunRecorder(run, self.intent, self._servers, self._note)

    def supervise(self) -> None:
        """Carry out the run, or the rest of it.

        Raises:
            Refused: nothing can be recorded; nothing was started.
        """
        self.status.state = State.RUNNING
        self.status.supervisor = self._self
        self.status.started_utc = self.status.started_utc or utc_iso()
        if not self.status.commands:
            artifact_snapshot.record_before(self.run)
        self._processes.record(self._self)
        write_json(self._status_file, self.status)
        try:
            for command in self.intent.commands:
                if not self._is_unfinished(command):
                    continue
                if self._status_of(command) is None and (reason := self._not_started(command)):
                    self._note(reason)
                    break
                self._run_command(command)
                if self.status.cancelled:
                    break
        except (OSError, Refused) as error:
            self._note(f"the supervisor stopped early: {error}")
        except Exception as error:  # noqa: BLE001  (the run ends here in any case, and its record must say why)
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"
            self._note(f"the supervisor stopped on an internal error ({failed}): see supervisor.log")
        finally:
            for line in termination.kill_leftovers(self._processes, self._recorder.pids):
                self._note(line)
            self._recorder.end()
            self.status.state = State.FINISHED
            self.status.ended_utc = utc_iso()
            self._stop_signal = None  # from here on, a signal ends the wait
            record_end(
                self.run,
                self._record_end,
                lambda: self._stop_signal is not None,
                clock=time.monotonic,
                sleep=time.sleep,
            )

    def ask_to_stop(self, number: int, _frame: object) -> None:
        """Signal handler: a signal to the supervisor cancels the run; repeated signals change nothing."""
        self._stop_signal = signal.Signals(number).name

    def _is_unfinished(self, command: Command) -> bool:
        status = self._status_of(command)
        return status is None or status.ended_utc is None

    def _status_of(self, command: Command) -> CommandStatus | None:
        return next((item for item in self.status.commands if item.label == command.label), None)

    def _not_started(self, command: Command) -> str | None:
        """Why a command does not start: the run was cancelled, or an earlier command that it needs did not succeed."""
        if requester := self._cancelled_by():
            self.status.cancelled = requester
            return f"{command.label} was not started: the run was cancelled"
        if not command.needs_success or self.run.command_alive():  # a command that runs already is adopted
            return None
        for earlier in self.intent.commands[: self.intent.commands.index(command)]:
            status = self._status_of(earlier)
            success = succeeded(earlier, status) if status is not None else None
            if not success:
                ended = "failed" if success is False else "ended unobserved"
                return f"{command.label} was not started: {earlier.label} {ended}"
        return None

    def _run_command(self, command: Command) -> None:
        """Carry out one command, and again after a failure as often as it may; adopts one that is running."""
        status = self._status_of(command)
        if status is None:
            status = CommandStatus(command.label)
            self.status.commands.append(status)
        while True:
            self._attempt(command, status)
            self._save()
            if self.status.cancelled or succeeded(command, status) is not False:
                return
            if len(status.failed_attempts) >= command.retries:
                return
            if requester := self._cancelled_by():
                self.status.cancelled = requester
                return
            self._prepare_retry(command, status)

    def _attempt(self, command: Command, status: CommandStatus) -> None:
        child: subprocess.Popen[bytes] | None = None
        kills = out_of_memory.kills()
        if status.identity is None:  # otherwise an earlier supervisor started it
            status.started_utc = utc_iso()
            status.identity = self._running_command()
        if status.identity is None and log_of(self.run, command, "stdout").exists():
            # An earlier supervisor was killed while it started it, and it has ended since: it must not run twice.
            status.ended_utc = utc_iso()
            self._note(f"the end of {command.label} was not observed: its supervisor was killed while it started it")
            return
        if status.identity is None:
            try:
                self._recorder.wait_for_first_sample()
                child = start_command(self.run, command, self._servers)
            except OSError as error:
                status.exit_code, status.ended_utc = 127, utc_iso()
                self._note(f"{command.argv[0]} could not be started: {error.strerror}")
                return
            status.identity = Identity.of(child.pid)
        self._begin_server(command, status.identity)
        self._save()
        self._wait(command, status)
        self._log_times.note_now(time.time_ns())
        status.exit_code = _exit_code(child)
        status.ended_utc = utc_iso()
        status.out_of_memory = out_of_memory.kills().since(kills)
        if self._server is not None:
            if not self.status.cancelled:
                self._server.ended(status)
            self._save()  # at once: the items that rest on it look at this
        status.ranks = self.run.recorded_ranks(command.label)
        left = termination.kill_leftovers(self._processes, self._recorder.pids)
        for line in left:
            self._note(line)
        if self._server is not None:
            known = self._server.status
            known.stop += left
            known.forced |= termination.had_to_kill(left)
            known.left_behind = termination.outlived(known.stop)
        try:
            write_output(self.run, command)
        except OSError as error:
            self._note(f"the output could not be copied to {command.tee}: {error.strerror or error}")

    def _begin_server(self, command: Command, process: Identity | None) -> None:
        if self.intent.server is None or process is None:
            return
        self.status.server = self.status.server or ServerStatus()
        real = with_secrets(self.run.folder, command)
        self._server = ServerLife(self.run, self.intent.server, self.status.server, real)
        self._server.begin(process)

    def _stop_of_server(self, process: Identity) -> Stop | None:
        """Why the server must end now; saves what is new about it."""
        if self._server is None:
            return None
        if self._server.look(process):
            self._save()
        return self._server.must_stop()

    def _end_server(self, process: Identity, stop: Stop) -> None:
        assert self._server is not None
        known = self._server.status
        known.stopped = stop.by if known.problem is None else None
        self.status.state = State.CANCELLING
        self._save()
        end = termination.kill_and_watch if stop.kill else termination.terminate
        known.stop = end(self._processes, process, self._recorder.pids)
        known.forced = termination.had_to_kill(known.stop, on_purpose=stop.kill)
        known.left_behind = termination.outlived(known.stop)
        for line in known.stop:
            self._note(line)

    def _prepare_retry(self, command: Command, status: CommandStatus) -> None:
        """Record the failed attempt and make room for the next; saved before that starts, so that it can be adopted."""
        status.failed_attempts.append(failure_of(command, status))
        attempt = len(status.failed_attempts)
        self._note(f"{command.label} failed ({status.failed_attempts[-1]}): attempt {attempt + 1} starts")
        try:
            set_aside(self.run, command, attempt)
        except OSError as error:
            self._note(f"the logs of attempt {attempt} could not be renamed: {error.strerror}")
        # A file of the failed attempt must not count as written by the next one.
        artifact_snapshot.record_before_retry(self.run, self.intent.params.get("outputs", {}).get(command.label, ()))
        status.identity = status.started_utc = status.ended_utc = status.exit_code = None
        status.timed_out, status.ranks, status.out_of_memory = False, {}, None
        self._save()

    def _running_command(self) -> Identity | None:
        """The command, if its supervisor was killed after it started the command and before it recorded that."""
        if not self.run.command_alive():
            return None
        found = self._processes.own(self._recorder.pids)
        return min(found, key=lambda identity: identity.start_ticks, default=None)

    def _wait(self, command: Command, status: CommandStatus) -> None:
        """Wait for the command to end; terminate it, once, on a cancel or when its time is up."""
        identity = status.identity
        if identity is None:
            return
        try:
            descriptor = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return
        try:
            if not identity.alive():  # checked after opening: the pid may be reused
                return
            while not select.select([descriptor], [], [], _POLL_S)[0]:
                self._recorder.ensure()
                self._log_times.note(time.monotonic(), time.time_ns())
                self._note_stopped()
                self._processes.update(self._self, self._recorder.pids)
                if self._unsaved:
                    self._save()
                if requester := self._cancelled_by():
                    self.status.state, self.status.cancelled = State.CANCELLING, requester
                # Measured from the start of the process, so that a new supervisor does not grant the time again.
                elif command.timeout_s is not None and identity.age_s() >= command.timeout_s:
                    status.timed_out = True
                    self._note(f"{command.label} timed out after {command.timeout_s:g} s")
                elif stop := self._stop_of_server(identity):
                    self._end_server(identity, stop)
                    return
                else:
                    continue
                self._save()
                for line in termination.terminate(self._processes, identity, self._recorder.pids):
                    self._note(line)
                return
        finally:
            os.close(descriptor)

    def _note_stopped(self) -> None:
        """Note each process of the run that was stopped: the record must say why a figure is bad or a run was slow."""
        if time.monotonic() < self._look_due_s:
            return
        self._look_due_s = time.monotonic() + LOOK_S
        for hindrance in stopped_processes(self.run):
            if hindrance.sentence not in self._stopped:
                self._stopped.add(hindrance.sentence)
                self._note(hindrance.sentence)

    def _cancelled_by(self) -> str | None:
        if self.status.cancelled:  # an earlier supervisor of this run got the request
            return self.status.cancelled
        if self._stop_signal:
            return f"{self._stop_signal} to the supervisor"
        return self.run.cancelled_by()

    def _note(self, line: str) -> None:
        self.status.notes.append(f"{utc_iso()} {line}")
        self._save()

    @property
    def _status_file(self) -> Path:
        return self.run.folder / "status.json"

    def _save(self) -> None:
        """Write the status. If that fails, go on and write it later: a full disk must not end a long run."""
        try:
            write_json(self._status_file, self.status)
            self._unsaved = False
        except Refused as refusal:
            if not self._unsaved:
                self.status.notes.append(f"{utc_iso()} {refusal}")
            self._unsaved = True

    def _record_end(self) -> None:
        """Remove the secrets, and write the final snapshot and status."""
        forget_secrets(self.run.folder)
        artifact_snapshot.record_after(self.run)
        write_json(self._status_file, self.status)


def _exit_code(child: subprocess.Popen[bytes] | None) -> int | None:
    """The command's exit code; None if it is not a child of this process, or hangs in the kernel."""
    try:
        return child.wait(30) if child is not None else None
    except subprocess.TimeoutExpired:
        return None


def _supervisor(run: Run) -> Supervisor:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print("cannot become a subreaper: orphaned ranks may be found late", file=sys.stderr)
    return Supervisor(run)


def main(arguments: list[str] | None = None) -> int:
    """Take the run's lock and supervise it; returns 2 if another supervisor holds the lock."""
    return own_run(arguments, _supervisor, "supervisor")


if __name__ == "__main__":
    raise SystemExit(main())
