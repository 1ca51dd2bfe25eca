"""How a command ended, and what its end leaves in the run folder."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

from llmval_tui.foundation.files import open_output
from llmval_tui.runs.log_times import times_path
from llmval_tui.runs.records import Command, CommandStatus, State
from llmval_tui.runs.store import Run


def succeeded(command: Command, status: CommandStatus) -> bool | None:
    """Whether the command did its work; None if its end was not observed."""
    if status.timed_out or any(code != 0 for code in status.ranks.values()):
        return False
    if status.exit_code is None:
        # The ranks' exit codes are recorded by torchrun's agent, also if its own end was not observed.
        return True if command.nproc is not None and len(status.ranks) == command.nproc else None
    return status.exit_code == 0 or status.exit_code in command.findings


def end_unseen(run: Run) -> bool:
    """Whether the run was lost with its node in the middle of its work: no command failed, and one has no known end."""
    status = run.status()
    if status.state is State.FINISHED:
        return False
    known = {item.label: item for item in status.commands}
    ends = []
    for command in run.intent.commands:
        item = known.get(command.label)
        if item is not None and not item.ranks:
            item = replace(item, ranks=run.recorded_ranks(command.label))
        ends.append(None if item is None else succeeded(command, item))
    return None in ends and False not in ends


def failure_of(command: Command, status: CommandStatus) -> str:
    """How a failed command ended: "timed out after 30 s", "rank 2: exit 1", "killed by SIGKILL"."""
    if status.timed_out:
        return f"timed out after {command.timeout_s:g} s"
    if bad := failed_ranks(status.ranks):
        return ", ".join(f"rank {rank}: {code_text(code)}" for rank, code in bad.items())
    return code_text(status.exit_code)


def failed_ranks(ranks: dict[str, int]) -> dict[str, int]:
    """The ranks that failed, by rank. torchrun ends the others with SIGTERM, so these count only if no rank failed."""
    bad = {rank: ranks[rank] for rank in sorted(ranks, key=int) if ranks[rank] != 0}
    return {rank: code for rank, code in bad.items() if code != -signal.SIGTERM} or bad


def code_text(code: int | None) -> str:
    """An exit code for people: `exit 1`, `killed by SIGKILL`, `unknown`."""
    if code is None:
        return "unknown"
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def limits_of(command: Command) -> list[str]:
    """The limits of a command, one line each, for people: "fails after 30 s"."""
    lines = [f"fails after {command.timeout_s:g} s"] if command.timeout_s is not None else []
    if command.retries:
        lines.append(f"is started again up to {command.retries} time{'s' if command.retries > 1 else ''} if it fails")
    return lines


def write_output(run: Run, command: Command) -> None:
    """Write `tee`: the command's standard output, then the ranks'; with `merge_stderr` also the standard error.

    With `append`, the bytes go first into `appended_file`, which is the evidence: nobody can tell from the file itself
    which of its bytes this run wrote.

    Raises:
        OSError: a file cannot be written.
    """
    if command.tee is None:
        return
    target = Path(run.intent.cwd) / command.tee
    target.parent.mkdir(parents=True, exist_ok=True)
    streams = ("stdout", "stderr") if command.merge_stderr else ("stdout",)
    own = run.folder / command.appended_file if command.appended_file else target
    with open_output(own) as out:
        for log in run.logs():
            if log.label == command.label and log.stream in streams:
                with log.path.open("rb") as file:
                    shutil.copyfileobj(file, out)
    if own != target:
        with own.open("rb") as file, open_output(target, append=True) as out:
            shutil.copyfileobj(file, out)


def set_aside(run: Run, command: Command, attempt: int) -> None:
    """Rename the logs of a failed attempt, so that the next one has its own: `main` becomes `main-attempt1`.

    Raises:
        OSError: a file cannot be renamed.
    """
    label = f"{command.label}-attempt{attempt}"
    for log in run.logs():
        if log.label == command.label:
            if (times := times_path(log.path)).exists():
                times.rename(times.with_name(label + times.name.removeprefix(command.label)))
            log.path.rename(log.path.with_name(label + log.path.name.removeprefix(command.label)))
    codes = run.folder / f"ranks.{command.label}.json"
    if codes.exists():
        codes.rename(codes.with_name(f"ranks.{label}.json"))
