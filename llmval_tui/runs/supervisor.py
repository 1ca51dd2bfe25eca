"""The process that owns one run: `python -m llmval_tui.runs.supervisor RUN`.

It starts the run's commands one after the other, keeps the telemetry recorder alive beside them, writes `status.json`,
terminates the command on a cancel, and leaves no process behind. It does not judge the run.

It runs in its own session, ignores SIGHUP and SIGPIPE, and writes only to files. It therefore outlives the terminal,
the dashboard and the plan. If it is killed itself, the command goes on and holds `command.lock`; a new supervisor for
the same run takes the command over.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import artifact_snapshot, out_of_memory, termination
from llmval_tui.runs.command_end import failure_of, set_aside, succeeded, write_output
from llmval_tui.runs.command_secrets import forget_secrets, with_secrets
from llmval_tui.runs.hindrances import LOOK_S, stopped_processes
from llmval_tui.runs.log_times import LogTimesWriter
from llmval_tui.runs.records import Command, CommandStatus, Intent, ServerStatus, State, Status, engine_url_of
from llmval_tui.runs.server_life import ServerLife, Stop, environment_of
from llmval_tui.runs.store import Run, intact
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE, RunProcesses
from llmval_tui.telemetry.recorder_process import Restarts, recorder_argv

TELEMETRY_INTERVAL_S = 1.0
# For the energy counter, which costs 3.7 ms per GPU. Runners measure tokens per joule with their own meter, so the
# recording does not need a value in every sample; each value has its own time stamp.
ENERGY_INTERVAL_S = 5.0
FIRST_SAMPLE_S = 5.0
FINAL_SAVE_S = 600.0  # how long the final status waits for space on a full disk
_POLL_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Carries one run from its frozen intent to `finished`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.intent: Intent = run.intent
        self.status: Status = run.status()
        self._recorder: subprocess.Popen[bytes] | None = None
        self._recorder_restarts = Restarts()
        self._recorder_started_s = 0.0  # monotonic clock
        self._recorder_due_s: float | None = 0.0  # monotonic clock; None: not started again
        self._stop_signal: str | None = None
        self._unsaved = False
        self._look_due_s = 0.0  # monotonic clock
        self._stopped: set[str] = set()  # sentences about stopped processes that are noted already
        self._log_times = LogTimesWriter(run)
        self._processes = RunProcesses(run.folder)
        self._self = Identity.of(os.getpid())
        self._server: ServerLife | None = None  # of a run that starts a server

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
        finally:
            for line in termination.kill_leftovers(self._processes, self._recorder_pids()):
                self._note(line)
            self._end_recorder()
            self.status.state = State.FINISHED
            self.status.ended_utc = utc_iso()
            self._save_final()

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
                ended = "failed" if success is False else "ended in a way that nobody saw"
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
        if status.identity is None and self._log(command, "stdout").exists():
            # An earlier supervisor was killed while it started it, and it has ended since: it must not run twice.
            status.ended_utc = utc_iso()
            self._note(f"nobody saw how {command.label} ended: its supervisor was killed while it started the command")
            return
        if status.identity is None:
            try:
                child = self._start(command)
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
        left = termination.kill_leftovers(self._processes, self._recorder_pids())
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
        known.stop = end(self._processes, process, self._recorder_pids())
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
        found = self._processes.own(self._recorder_pids())
        return min(found, key=lambda identity: identity.start_ticks, default=None)

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        self._wait_for_first_sample()
        for artifact in self.intent.artifacts:  # so that a command may write into a new folder
            (Path(self.intent.cwd) / artifact.path).parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self.run.command_lock)
        if lock is None:
            raise OSError(0, "another command of this run is still running")
        if command.script is not None and not intact(self.run, command.script):
            raise OSError(0, f"{command.script.name} in the run folder is not the script that was frozen")
        command = with_secrets(self.run.folder, command)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
        environment |= command.env
        environment |= {
            RUN_ID_VARIABLE: self.intent.run_id,
            "LLMVAL_EVENTS": str(self.run.events),
            "LLMVAL_RUN_FOLDER": str(self.run.folder),
            "PYTHONUNBUFFERED": "1",
        }
        for server in self._servers():  # of several, the one that was started last
            environment |= environment_of(server)
        with self._log(command, "stdout").open("ab") as out, self._log(command, "stderr").open("ab") as err:
            try:
                return subprocess.Popen(
                    command.argv,
                    cwd=Path(self.intent.cwd) / (command.cwd or ""),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out if command.merge_stderr else err,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            finally:
                os.close(lock)  # the command's inherited copy keeps it

    def _log(self, command: Command, stream: str) -> Path:
        return self.run.logs_folder / f"{command.label}.{stream}.log"

    def _servers(self) -> list[Run]:
        """The runs whose servers this run rests on."""
        return [Run(self.run.folder.parent / run_id) for run_id in self.intent.servers]

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
                self._ensure_recorder()
                self._log_times.note(time.monotonic(), time.time_ns())
                self._note_stopped()
                self._processes.update(self._self, self._recorder_pids())
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
                for line in termination.terminate(self._processes, identity, self._recorder_pids()):
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

    def _ensure_recorder(self) -> None:
        """Start the recorder, and start it again with growing delays after a crash: a driver may kill its caller."""
        if not self.intent.telemetry or (self._recorder is not None and self._recorder.poll() is None):
            return
        if self._recorder is not None:
            code, self._recorder = self._recorder.returncode, None
            self._recorder_failed(f"ended with code {code}")
        if self._recorder_due_s is None or time.monotonic() < self._recorder_due_s:
            return
        self._recorder_started_s = time.monotonic()
        try:
            self._recorder = self._start_recorder()
        except OSError as error:  # the gates report missing telemetry; it does not end the command
            self._recorder_failed(f"could not be started: {error.strerror}")

    def _recorder_failed(self, how: str) -> None:
        now = time.monotonic()
        delay_s = self._recorder_restarts.next_delay_s(now - self._recorder_started_s)
        self._recorder_due_s = None if delay_s is None else now + delay_s
        next_start = "not started again" if delay_s is None else f"started again in {delay_s:.0f} s"
        self._note(f"the telemetry recorder {how}; it is {next_start}")

    def _start_recorder(self) -> subprocess.Popen[bytes]:
        argv = recorder_argv(
            self.run.telemetry,
            interval_s=TELEMETRY_INTERVAL_S,
            energy_interval_s=ENERGY_INTERVAL_S,
            folder=Path(self.intent.cwd),
            # GPU processes that belong neither to the run nor to a server that it rests on are recorded as foreign.
            own=[self.run.folder, *(server.folder for server in self._servers())],
            engine_url=engine_url_of(self.intent),
        )
        with (self.run.folder / "recorder.log").open("ab") as log:
            return subprocess.Popen(
                [*argv, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for_first_sample(self) -> None:
        """Delay the command until the first sample, so that even a short run has telemetry."""
        if not self.intent.telemetry:
            return
        deadline = time.monotonic() + FIRST_SAMPLE_S
        while time.monotonic() < deadline:
            self._ensure_recorder()  # one that was killed is started again
            if self.run.telemetry.exists() and self.run.telemetry.stat().st_size > 0:
                return
            if self._recorder is None and self._recorder_due_s is None:
                break
            time.sleep(0.02)
        if self._recorder is not None or self._recorder_due_s is not None:  # otherwise a note says that it is given up
            self._note(f"no telemetry sample came within {FIRST_SAMPLE_S:.0f} s; the command was started without it")

    def _end_recorder(self) -> None:
        if self._recorder is None or self._recorder.poll() is not None:
            return
        self._recorder.terminate()
        try:
            self._recorder.wait(5)
        except subprocess.TimeoutExpired:  # stuck in a driver call
            self._recorder.kill()

    def _recorder_pids(self) -> frozenset[int]:
        return frozenset({self._recorder.pid}) if self._recorder is not None else frozenset()

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

    def _save_final(self) -> None:
        """Remove the secrets, write the final snapshot and status; waits until the disk takes it."""
        deadline = time.monotonic() + FINAL_SAVE_S
        self._stop_signal = None  # from here on, a signal ends the wait
        while True:
            try:
                forget_secrets(self.run.folder)
                artifact_snapshot.record_after(self.run)
                write_json(self._status_file, self.status)
                return
            except (Refused, OSError) as error:
                if time.monotonic() >= deadline or self._stop_signal:
                    raise Refused(f"the end of {self.run.id} cannot be recorded: {error}") from error
            time.sleep(1)


def _exit_code(child: subprocess.Popen[bytes] | None) -> int | None:
    """The command's exit code; None if it is not a child of this process, or hangs in the kernel."""
    try:
        return child.wait(30) if child is not None else None
    except subprocess.TimeoutExpired:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Take the run's lock and supervise it; returns 2 if another supervisor holds the lock."""
    parser = argparse.ArgumentParser(prog="python -m llmval_tui.runs.supervisor")
    parser.add_argument("run", type=Path)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    run = Run(options.run)
    lock = take_lock(run.supervisor_lock)
    if lock is None:
        print(f"{run.id} already has a supervisor", file=sys.stderr)
        return 2
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print("cannot become a subreaper: orphaned ranks may be found late", file=sys.stderr)
    supervisor = Supervisor(run)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, supervisor.ask_to_stop)
    if supervisor.status.state is State.FINISHED or run.verdict() is not None:
        return 0  # finished, or judged as lost before this process started
    try:
        supervisor.supervise()
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
