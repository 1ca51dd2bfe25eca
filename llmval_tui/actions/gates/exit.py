"""The gates on the exit codes of a run's commands and ranks."""

import signal

from llmval_tui.actions.command.runner_catalog import COMPILE_REPRO
from llmval_tui.foundation.files import read_json
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Command, Gate, Outcome, Status
from llmval_tui.runs.store import Run

_TAIL_BYTES = 8192
_BOUND = "exit code 0"
# The exit codes that mean a finding instead of a failure; the gates of the result judge it.
_FINDINGS = {COMPILE_REPRO: {3: "it hung or ran out of time: a finding, described in the result"}}


def exit_gates(run: Run) -> list[Gate]:
    """One gate for each command, one more for a cancelled run. An unknown end is inconclusive, never a pass."""
    status = run.status()
    gates = [_command_gate(run, status, command) for command in run.intent.commands]
    if not gates:
        gates.append(Gate("commands", Outcome.INCONCLUSIVE, "none", "at least one command", "nothing was run"))
    if status.cancelled:
        gates.append(
            Gate("not cancelled", Outcome.INCONCLUSIVE, f"cancelled by {status.cancelled}", "ran to its own end")
        )
    return gates


def _command_gate(run: Run, status: Status, command: Command) -> Gate:
    name = f"exit: {command.label}"
    known = next((item for item in status.commands if item.label == command.label), None)
    ranks = (known.ranks if known else {}) or run.recorded_ranks(command.label)
    code = known.exit_code if known else None
    bad = {rank: value for rank, value in ranks.items() if value != 0}
    if status.cancelled and (code != 0 or bad):
        # A cancelled command may end in any way.
        return Gate(name, Outcome.INCONCLUSIVE, _ended(code), _BOUND, "the run was cancelled")
    if bad:
        # torchrun ends the remaining ranks with SIGTERM, so the other ones failed first.
        root = {rank: value for rank, value in bad.items() if value != -signal.SIGTERM} or bad
        measured = ", ".join(f"rank {rank}: {_ended(value)}" for rank, value in sorted(root.items(), key=_by_rank))
        first = _first_failure(run, command.label)
        rank = first if first in bad else min(root, key=int)
        return Gate(name, Outcome.FAIL, measured, _BOUND, last_error_line(run, command.label, rank))
    if code is None:
        if command.nproc is not None and len(ranks) == command.nproc:
            return Gate(
                name,
                Outcome.PASS,
                f"{len(ranks)} ranks: exit 0",
                _BOUND,
                "from the ranks; torchrun's end was not observed",
            )
        reason = "it did not start" if known is None else "its end was not observed"
        return Gate(name, Outcome.INCONCLUSIVE, "unknown", _BOUND, reason)
    finding = _FINDINGS.get(str(run.intent.params.get("runner")), {}).get(code)
    if finding is not None:
        return Gate(name, Outcome.PASS, _ended(code), f"{_BOUND}, or {code} with a finding", finding)
    if code != 0:
        return Gate(name, Outcome.FAIL, _ended(code), _BOUND, last_error_line(run, command.label, None))
    return Gate(name, Outcome.PASS, f"exit 0, {len(ranks)} ranks" if ranks else "exit 0", _BOUND)


def _by_rank(item: tuple[str, int]) -> int:
    return int(item[0])


def _first_failure(run: Run, label: str) -> str | None:
    """The rank that failed first, as seen by the launcher; the others often fail only because of it."""
    value = read_json(run.folder / f"ranks.{label}.json")
    first = value.get("first_failure") if isinstance(value, dict) else None
    return str(first.get("rank")) if isinstance(first, dict) else None


def _ended(code: int | None) -> str:
    if code is None:
        return "unknown"
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_error_line(run: Run, label: str, rank: str | int | None) -> str:
    """The last line that a command or rank wrote to standard error, which usually names the cause."""
    wanted = None if rank is None else int(rank)
    logs = [log for log in run.logs() if log.label == label and log.stream == "stderr"]
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
