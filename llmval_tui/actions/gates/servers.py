"""The gate on the servers that a run rests on, and the record of them in its evidence.

`servers.json` is written when the run is settled, before its verdict: the server lives on, so its logs grow and its
end is not known yet. The hashes are of the bytes that the logs had then.
"""

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from llmval_tui.foundation.files import sha256_of, write_json
from llmval_tui.foundation.record import read_record
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.records import Evidence, Gate, Outcome, ServerStatus
from llmval_tui.runs.server_life import is_serving
from llmval_tui.runs.server_log import cause_of_end
from llmval_tui.runs.store import Run

FILE = "servers.json"
_PATIENCE_S = 15.0  # a server that no longer answers may need some seconds to end and to say why


@dataclass(frozen=True, slots=True)
class LogPart:
    """The beginning of a log, as it was."""

    path: str  # relative to the workspace
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server, at the end of a run that rested on it."""

    run_id: str
    number: str  # number of the item that started it
    command: str
    url: str
    model: str | None
    version: str | None  # version that the server reports
    versions: dict[str, str]  # versions of the software around the server
    started_utc: str | None
    ready_utc: str | None
    ready_s: float | None
    served_to_the_end: bool
    problem: str | None  # why it did not serve to the end, with a line of its log
    exit_code: int | None
    run_json_sha256: str
    logs: list[LogPart] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ServersRecord:
    """`servers.json`."""

    v: int
    recorded_utc: str
    servers: list[ServerRecord]


def record_servers(run: Run) -> None:
    """Write `servers.json` of a run that has ended, unless it is there, or the run rests on no server.

    A server that is still there is asked whether it answers.

    Raises:
        Refused: it cannot be written, or a server's record is damaged.
    """
    path = run.folder / FILE
    if not run.intent.servers or path.exists():
        return
    servers = [_record_of(run, Run(run.folder.parent / run_id)) for run_id in run.intent.servers]
    write_json(path, ServersRecord(1, utc_iso(), servers))


def server_gates(run: Run) -> tuple[list[Gate], list[Evidence]]:
    """One gate for each server that the run rests on, and the record as evidence."""
    if not run.intent.servers:
        return [], []
    record = read_record(ServersRecord, run.folder / FILE)
    if record is None:
        missing = f"{FILE} is missing: nothing is known about the server"
        return [Gate("server", Outcome.INCONCLUSIVE, "unknown", "it served to the run's end", missing)], []
    gates = [_gate(server) for server in record.servers]
    return gates, [evidence_of((run.folder / FILE).resolve(), run.workspace.resolve())]


def _gate(server: ServerRecord) -> Gate:
    name, bound = f"server: {server.number}", "it served to the run's end"
    if server.served_to_the_end:
        ready = f"ready in {server.ready_s:.1f} s, " if server.ready_s is not None else ""
        return Gate(name, Outcome.PASS, f"{ready}run {server.run_id}", bound)
    return Gate(name, Outcome.FAIL, f"run {server.run_id}", bound, server.problem or "it ended")


def _record_of(run: Run, server: Run) -> ServerRecord:
    problem = _problem(run, server)
    status, intent = server.status(), server.intent
    known = status.server or ServerStatus()
    command = status.commands[-1] if status.commands else None
    workspace = server.workspace.resolve()
    return ServerRecord(
        run_id=server.id,
        number=intent.step.number,
        command=intent.commands[0].display,
        url=intent.server.url if intent.server is not None else "",
        model=known.model,
        version=known.version,
        versions=intent.versions,
        started_utc=command.started_utc if command else None,
        ready_utc=known.ready_utc,
        ready_s=known.ready_s,
        served_to_the_end=problem is None,
        problem=problem,
        exit_code=command.exit_code if command else None,
        run_json_sha256=sha256_of(server.folder / "run.json"),
        logs=[_log_part(log.path.resolve(), workspace) for log in server.logs()],
    )


def _problem(run: Run, server: Run) -> str | None:
    """Why the server did not serve to the end of the run; None if it did."""
    from llmval_tui.runs.server_probe import answers  # the HTTP client takes 60 ms to import

    silent: str | None = None
    deadline = time.monotonic() + _PATIENCE_S
    while is_serving(server) and server.intent.server is not None:
        silent = answers(server.intent.server)
        if silent is None:
            return None
        if time.monotonic() >= deadline:
            words = cause_of_end(server)
            return f"it no longer answers: {silent}" + (f"; its log says: {words}" if words else "")
        time.sleep(0.5)
    status = server.status()
    known = status.server or ServerStatus()
    if known.problem is not None:
        return known.problem
    ended_utc = status.commands[-1].ended_utc if status.commands else None
    of_run = run.status().ended_utc
    # The run is judged late. Its server was ended after it, unless the times say otherwise; they are whole seconds.
    if known.stopped is not None and (ended_utc is None or of_run is None or ended_utc >= of_run):
        return None
    if known.stopped is not None:
        return f"it was ended by {known.stopped} at {ended_utc}, before the run's end at {of_run}"
    if status.cancelled:
        return f"it was cancelled by {status.cancelled}"
    words = cause_of_end(server)
    return "it ended, and its end was not observed" + (f"; its log says: {words}" if words else "")


def _log_part(path: Path, workspace: Path) -> LogPart:
    """The log as it is now; it may grow meanwhile, so only the bytes that it has at first count."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size = os.fstat(file.fileno()).st_size
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
    return LogPart(str(path.relative_to(workspace)), size - left, digest.hexdigest())
