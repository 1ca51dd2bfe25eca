"""The gates on the exit codes of a run's commands and ranks."""

import signal
from dataclasses import replace

from llmval_tui.actions.command.runner_catalog import RUNNERS, runner_of
from llmval_tui.foundation.files import read_json
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.runs.command_end import code_text, failed_ranks, failure_of, succeeded
from llmval_tui.runs.records import Command, CommandStatus, Gate, Outcome, Status
from llmval_tui.runs.store import Run

_TAIL_BYTES = 8192
_BOUND = "exit code 0"
_UNDECIDED = 3  # of our runners: measured, but invalid or inconclusive


def exit_gates(run: Run) -> list[Gate]:
    """One gate for each command, one more for a cancelled run. An unknown end is inconclusive, never a pass."""
    status = run.status()
    gates = [_command_gate(run, status, command) for command in run.intent.commands]
    # A server ends when it is told to, with any code: its own gates judge its end. Only the frozen intent says that the
    # run is one: a damaged status must not cost the gates of another run.
    if run.intent.server is not None and status.server is not None:
        gates = []
    elif not gates:
        gates.append(Gate("commands", Outcome.INCONCLUSIVE, "none", "at least one command", "nothing was run"))
    if status.cancelled:
        gates.append(
            Gate("not cancelled", Outcome.INCONCLUSIVE, f"cancelled by {status.cancelled}", "ran to its own end")
        )
    return gates


def retry_sentence(run: Run) -> str:
    """How often the run's commands failed before their last attempt: "attempt 3, after 2 failed attempts (exit 1)"."""
    retried = [item for item in run.status().commands if item.failed_attempts]
    several = len(run.intent.commands) > 1
    return "; ".join(
        f"{item.label + ': ' if several else ''}attempt {len(item.failed_attempts) + 1}, after {_failures(item)}"
        for item in retried
    )


def _failures(status: CommandStatus) -> str:
    count = len(status.failed_attempts)
    ways = ", ".join(dict.fromkeys(status.failed_attempts))
    return f"{count} failed attempt{'s' if count > 1 else ''} ({ways})"


def _command_gate(run: Run, status: Status, command: Command) -> Gate:
    known = next((item for item in status.commands if item.label == command.label), None)
    gate = _gate_of_end(run, status, command, known)
    if known is not None and known.failed_attempts:
        gate = replace(gate, measured=f"{gate.measured}, after {_failures(known)}")
    return replace(gate, line=command.line)


def _gate_of_end(run: Run, status: Status, command: Command, known: CommandStatus | None) -> Gate:
    name = f"exit: {command.label}"
    if known is None:
        failed = next((item.label for item in status.commands if not _succeeded(run, item)), None)
        reason = f"{failed} did not succeed" if failed is not None and command.needs_success else "it did not start"
        return Gate(name, Outcome.INCONCLUSIVE, "not started", _BOUND, reason)
    if known.timed_out:
        reason = last_error_line(run, command.label, None)
        return Gate(name, Outcome.FAIL, failure_of(command, known), f"{_BOUND} within {command.timeout_s:g} s", reason)
    ranks = known.ranks or run.recorded_ranks(command.label)
    code = known.exit_code
    bad = failed_ranks(ranks)
    if code == _UNDECIDED and not status.cancelled and _is_ours(run) and code not in _findings(run, command):
        reason = "the runner calls its own measurement invalid or inconclusive"
        return Gate(name, Outcome.INCONCLUSIVE, code_text(code), _BOUND, reason)
    if status.cancelled and (code != 0 or bad):
        # A cancelled command may end in any way.
        return Gate(name, Outcome.INCONCLUSIVE, code_text(code), _BOUND, "the run was cancelled")
    if bad:
        measured = ", ".join(f"rank {rank}: {code_text(value)}" for rank, value in bad.items())
        first = _first_failure(run, command.label)
        rank = first if first in ranks and ranks[first] != 0 else next(iter(bad))
        reason = _killed(known, ranks[rank]) or last_error_line(run, command.label, rank)
        return Gate(name, Outcome.FAIL, measured, _BOUND, reason)
    if code is None:
        if command.nproc is not None and len(ranks) == command.nproc:
            return Gate(
                name,
                Outcome.PASS,
                f"{counted(len(ranks), 'rank')}: exit 0",
                _BOUND,
                "from the ranks; torchrun's end was not observed",
            )
        return Gate(name, Outcome.INCONCLUSIVE, "unknown", _BOUND, "its end was not observed")
    if code in _findings(run, command):
        reason = "a finding, described in the result"
        return Gate(name, Outcome.PASS, code_text(code), f"{_BOUND}, or {code} with a finding", reason)
    if code != 0:
        reason = _killed(known, code) or last_error_line(run, command.label, None)
        return Gate(name, Outcome.FAIL, code_text(code), _BOUND, reason)
    return Gate(name, Outcome.PASS, f"exit 0, {counted(len(ranks), 'rank')}" if ranks else "exit 0", _BOUND)


def _killed(status: CommandStatus, code: int) -> str | None:
    """Why a process was killed by SIGKILL; None if it was not. Its own last line says nothing about that."""
    if code not in (-signal.SIGKILL, 128 + signal.SIGKILL):  # the second one is a shell's report of a killed child
        return None
    return status.out_of_memory or "the kernel reports no lack of memory: somebody else sent SIGKILL"


def _succeeded(run: Run, status: CommandStatus) -> bool:
    command = next((item for item in run.intent.commands if item.label == status.label), None)
    return command is not None and succeeded(command, status) is True


def _findings(run: Run, command: Command) -> list[int]:
    """The exit codes that are findings. Runs of an older llmval record only the runner, not its exit codes."""
    return command.findings or list(runner_of(run.intent.params.get("runner")).findings)


def _is_ours(run: Run) -> bool:
    return run.intent.params.get("runner") in RUNNERS


def _first_failure(run: Run, label: str) -> str | None:
    """The rank that failed first, as seen by the launcher; the others often fail only because of it."""
    value = read_json(run.folder / f"ranks.{label}.json")
    first = value.get("first_failure") if isinstance(value, dict) else None
    return str(first.get("rank")) if isinstance(first, dict) else None


def last_error_line(run: Run, label: str, rank: str | int | None) -> str:
    """The last line that a command or rank wrote to standard error, which usually names the cause."""
    wanted = None if rank is None else int(rank)
    logs = [log for log in run.logs() if log.label == label and log.stream == _error_stream(run, label)]
    # A rank's own message is closer to the cause than the agent's report about it.
    for log in sorted(logs, key=lambda log: (log.rank != wanted, log.rank is None)):
        with log.path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = [clean_line(line) for line in file.read().decode("utf-8", "replace").split("\n")]
        written = [line.strip() for line in lines if line.strip()]
        if written:
            return written[-1][:300]
    return ""


def _error_stream(run: Run, label: str) -> str:
    """The stream with the command's error messages: with `2>&1` they are in its standard output."""
    merged = any(command.merge_stderr for command in run.intent.commands if command.label == label)
    return "stdout" if merged else "stderr"
