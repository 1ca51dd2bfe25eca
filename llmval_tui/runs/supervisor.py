"""The process that owns one run: `python -m llmval_tui.runs.supervisor RUN`.

It starts the run's commands one after the other, keeps the telemetry recorder alive beside them, writes `status.json`,
climbs the cancel ladder when asked, and leaves no process behind. It judges nothing.

It runs in a session of its own with SIGHUP and SIGPIPE ignored and writes only to files, so that it outlives the
terminal, the dashboard and the plan. If it is killed itself, the command goes on, holding `command.lock`, and a new
supervisor, started for the same run, takes it over.
"""

import argparse
import ctypes
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, take_lock, write_json
from llmval_tui.foundation.process import Identity, processes_with
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import artifact_snapshot, termination
from llmval_tui.runs.records import Command, CommandStatus, Intent, State, Status
from llmval_tui.runs.store import Run

CANCEL_FILE = "cancel.json"  # made by whoever wants the run stopped; {"by": …}
# Waiting times before the recorder is started again: a driver that has just died answers nobody for a while, and each
# attempt costs the host a start of Python beside the measurement. After the last one it is left alone.
RECORDER_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
RECORDER_STEADY_S = 60.0  # one that recorded for so long begins with the first waiting time again
TELEMETRY_INTERVAL_S = 1.0
# Of the energy counter, which costs 3.7 ms a GPU. Every figure of tokens a joule is made by its runner's own meter; in
# the recording the counter stands for whoever reads it later, each value with its time.
ENERGY_INTERVAL_S = 5.0
FIRST_SAMPLE_S = 5.0
LAST_WORD_S = 600.0  # how long the end of a run waits to be written where the disk is full
_POLL_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Carries one run from its frozen intent to `finished`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.intent: Intent = run.intent
        self.status: Status = run.status()
        self._recorder: subprocess.Popen[bytes] | None = None
        self._recorder_failures = 0
        self._recorder_began = 0.0  # monotonic, as is the next
        self._recorder_due = 0.0
        self._stop_signal: str | None = None
        self._unsaved = False

    def supervise(self) -> None:
        """Do the run, or what is left of it.

        Raises:
            Refused: nothing can be recorded, so nothing was started.
        """
        self.status.state = State.RUNNING
        self.status.supervisor = Identity.of(os.getpid())
        self.status.started_utc = self.status.started_utc or utc_iso()
        if not self.status.commands:
            artifact_snapshot.record_before(self.run)
        write_json(self._status_file, self.status)
        try:
            for command in self.intent.commands:
                if not self._wanted(command):
                    continue
                if self._of(command) is None and (asker := self._cancel_asked()):
                    self.status.cancelled = asker
                    break
                self._carry_out(command)
                if self.status.cancelled:
                    break
        except (OSError, Refused) as error:
            self._note(f"the supervisor stopped early: {error}")
        finally:
            for line in termination.kill_leftovers(self.intent.run_id, self._spare()):
                self._note(line)
            self._end_recorder()
            self.status.state = State.FINISHED
            self.status.ended_utc = utc_iso()
            self._save_at_last()

    def ask_to_stop(self, number: int, _frame: object) -> None:
        """Signal handler: a signal to the supervisor means to cancel the run, however often it comes."""
        self._stop_signal = signal.Signals(number).name

    def _wanted(self, command: Command) -> bool:
        status = self._of(command)
        return status is None or status.ended_utc is None

    def _of(self, command: Command) -> CommandStatus | None:
        return next((item for item in self.status.commands if item.label == command.label), None)

    def _carry_out(self, command: Command) -> None:
        status = self._of(command) or self._unrecorded(command)
        child: subprocess.Popen[bytes] | None = None
        if status is None:  # else: an adopted command, started by a supervisor that is gone
            status = CommandStatus(command.label, started_utc=utc_iso())
            self.status.commands.append(status)
            try:
                child = self._start(command)
            except OSError as error:
                status.exit_code, status.ended_utc = 127, utc_iso()
                self._note(f"{command.argv[0]} could not be started: {error.strerror}")
                self._save()
                return
            status.identity = Identity.of(child.pid)
            self._save()
        self._wait(status)
        status.exit_code = _exit_code(child)
        status.ended_utc = utc_iso()
        status.ranks = self.run.recorded_ranks(command.label)
        for line in termination.kill_leftovers(self.intent.run_id, self._spare()):
            self._note(line)
        self._tee(command)
        self._save()

    def _unrecorded(self, command: Command) -> CommandStatus | None:
        """A command that the supervisor before this one started, and was killed before it could write that down."""
        if not self.run.command_alive():
            return None
        found = processes_with(termination.RUN_ID_VARIABLE, self.intent.run_id)
        if not found:
            return None
        first = min(found, key=lambda identity: identity.start_ticks)
        self.status.commands.append(CommandStatus(command.label, identity=first, started_utc=utc_iso()))
        self._save()
        return self.status.commands[-1]

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        self._await_recorder()
        for artifact in self.intent.artifacts:  # a command that writes into a new folder need not make it itself
            (Path(self.intent.cwd) / artifact.path).parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self.run.command_lock)
        if lock is None:
            raise OSError(0, "another command of this run is still running")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
        environment |= command.env
        environment |= {
            termination.RUN_ID_VARIABLE: self.intent.run_id,
            "LLMVAL_EVENTS": str(self.run.events),
            "LLMVAL_RUN_FOLDER": str(self.run.folder),
            "PYTHONUNBUFFERED": "1",
        }
        logs = self.run.logs_folder
        with (
            (logs / f"{command.label}.stdout.log").open("ab") as out,
            (logs / f"{command.label}.stderr.log").open("ab") as err,
        ):
            try:
                return subprocess.Popen(
                    command.argv,
                    cwd=self.intent.cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            finally:
                os.close(lock)  # the command's inherited copy keeps it

    def _wait(self, status: CommandStatus) -> None:
        """Wait for the command to end; climb the ladder, once, when a stop is asked for."""
        identity = status.identity
        if identity is None:
            return
        try:
            descriptor = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return
        try:
            if not identity.alive():  # asked after opening: the pid may be another's by now
                return
            while not select.select([descriptor], [], [], _POLL_S)[0]:
                self._keep_recorder()
                if self._unsaved:
                    self._save()
                if asker := self._cancel_asked():
                    self.status.state, self.status.cancelled = State.CANCELLING, asker
                    self._save()
                    for line in termination.terminate(self.intent.run_id, identity, self._spare()):
                        self._note(line)
                    return
        finally:
            os.close(descriptor)

    def _cancel_asked(self) -> str | None:
        if self.status.cancelled:  # by way of a supervisor that is gone
            return self.status.cancelled
        if self._stop_signal:
            return f"{self._stop_signal} to the supervisor"
        request = read_json(self.run.folder / CANCEL_FILE)
        return str(request.get("by", "somebody")) if isinstance(request, dict) else None

    def _tee(self, command: Command) -> None:
        """What `| tee PATH` asks for: the command's standard output, the ranks' after the agent's."""
        if command.tee is None:
            return
        target = Path(self.intent.cwd) / command.tee
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                for log in self.run.logs():
                    if log.label == command.label and log.stream == "stdout":
                        with log.path.open("rb") as file:
                            shutil.copyfileobj(file, out)
        except OSError as error:
            self._note(f"the output could not be copied to {command.tee}: {error.strerror}")

    def _keep_recorder(self) -> None:
        """Start the recorder, and start it again when it died, later and later: a driver may kill who asks it."""
        if not self.intent.telemetry or (self._recorder is not None and self._recorder.poll() is None):
            return
        if self._recorder is not None:
            code, self._recorder = self._recorder.returncode, None
            self._recorder_failed(f"ended with code {code}")
        if time.monotonic() < self._recorder_due:
            return
        self._recorder_began = time.monotonic()
        try:
            self._recorder = self._start_recorder()
        except OSError as error:  # no telemetry is a finding of the gates, no reason to end the command
            self._recorder_failed(f"could not be started: {error.strerror}")

    def _recorder_failed(self, how: str) -> None:
        now = time.monotonic()
        if now - self._recorder_began > RECORDER_STEADY_S:
            self._recorder_failures = 0
        if self._recorder_failures == len(RECORDER_PAUSES_S):
            self._recorder_due = math.inf
            self._note(f"the telemetry recorder {how}; it is not started again")
            return
        pause = RECORDER_PAUSES_S[self._recorder_failures]
        self._recorder_failures += 1
        self._recorder_due = now + pause
        self._note(f"the telemetry recorder {how}; it is started again in {pause:.0f} s")

    def _start_recorder(self) -> subprocess.Popen[bytes]:
        with (self.run.folder / "recorder.log").open("ab") as log:
            options = ["--interval", str(TELEMETRY_INTERVAL_S), "--energy-interval", str(ENERGY_INTERVAL_S)]
            options += ["--folder", self.intent.cwd]
            # GPU processes that do not carry the run's id are somebody else's, and are recorded as such.
            options += ["--mark", f"{termination.RUN_ID_VARIABLE}={self.intent.run_id}"]
            options += ["--parent", str(os.getpid())]
            return subprocess.Popen(
                [sys.executable, "-m", "llmval_tui.telemetry.recorder", "--out", str(self.run.telemetry), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _await_recorder(self) -> None:
        """Start the command only after the first sample: even a short run then has its telemetry."""
        self._keep_recorder()
        deadline = time.monotonic() + FIRST_SAMPLE_S
        while self._recorder is not None and self._recorder.poll() is None and time.monotonic() < deadline:
            if self.run.telemetry.exists() and self.run.telemetry.stat().st_size > 0:
                return
            time.sleep(0.02)
        if self._recorder is not None:
            self._note(f"no telemetry sample came within {FIRST_SAMPLE_S:.0f} s; the command was started all the same")

    def _end_recorder(self) -> None:
        if self._recorder is None or self._recorder.poll() is not None:
            return
        self._recorder.terminate()
        try:
            self._recorder.wait(5)
        except subprocess.TimeoutExpired:  # stuck in a driver call
            self._recorder.kill()

    def _spare(self) -> frozenset[int]:
        return frozenset({self._recorder.pid}) if self._recorder is not None else frozenset()

    def _note(self, line: str) -> None:
        self.status.notes.append(f"{utc_iso()} {line}")
        self._save()

    @property
    def _status_file(self) -> Path:
        return self.run.folder / "status.json"

    def _save(self) -> None:
        """Write the status; where that fails, go on and write it later: a full disk must not end an hour's run."""
        try:
            write_json(self._status_file, self.status)
            self._unsaved = False
        except Refused as refusal:
            if not self._unsaved:
                self.status.notes.append(f"{utc_iso()} {refusal}")
            self._unsaved = True

    def _save_at_last(self) -> None:
        """The last word, and what was left behind; waits for room on the disk."""
        deadline = time.monotonic() + LAST_WORD_S
        self._stop_signal = None  # from here on a signal means to wait no longer
        while True:
            try:
                artifact_snapshot.record_after(self.run)
                write_json(self._status_file, self.status)
                return
            except (Refused, OSError):
                if time.monotonic() >= deadline or self._stop_signal:
                    raise
            time.sleep(1)


def _exit_code(child: subprocess.Popen[bytes] | None) -> int | None:
    """The command's exit code; None where it is not this process' child, or hangs in the kernel and cannot end."""
    try:
        return child.wait(30) if child is not None else None
    except subprocess.TimeoutExpired:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Take the run's lock and supervise it; 2 where another supervisor has it."""
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
        print("cannot become a subreaper: orphaned ranks are found by their environment alone", file=sys.stderr)
    supervisor = Supervisor(run)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, supervisor.ask_to_stop)
    if supervisor.status.state is State.FINISHED or run.verdict() is not None:
        return 0  # over, or given up for lost and judged before this process came up
    try:
        supervisor.supervise()
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
