"""The gates on the files of a run: present, not empty, written by this run, valid by their schema. Hashes them too."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
import orjson

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json
from llmval_tui.foundation.paths import bundled, inside
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.file_origin import FileOrigin, file_origin, files_in
from llmval_tui.runs.records import Artifact, Evidence, Gate, Outcome
from llmval_tui.runs.store import Run

_CHANGED_SINCE = "it was changed after the run ended, so it is not the file that this run left"


def artifact_gates(run: Run) -> tuple[list[Gate], list[Evidence]]:
    """One gate for each artifact, and the evidence: every new file among them."""
    workspace = run.workspace
    origin = file_origin(run)
    gates: list[Gate] = []
    evidence: dict[str, Evidence] = {}
    for artifact in run.intent.artifacts:
        try:
            path = inside(workspace, artifact.path)
        except Refused as refusal:  # a symbolic link was made meanwhile
            gates.append(_gate(artifact, Outcome.FAIL, "outside the workspace", str(refusal)))
            continue
        gate, files = _judge(artifact, path, origin.of(run, artifact))
        gates.append(gate)
        for file in files:
            found = evidence_of(file, workspace, run.cancelled_by)
            evidence[found.path] = found
    return gates, list(evidence.values())


def log_evidence(run: Run, *, empty_too: bool = False) -> list[Evidence]:
    """The logs of the run that are not empty; with `empty_too` all of them, if silence is what the item demands.

    The first one is named beside the tick, so output comes before errors, and an empty file last.
    """
    logs = sorted(run.logs(), key=lambda log: (log.path.stat().st_size == 0, log.stream != "stdout"))
    paths = [log.path.resolve() for log in logs]
    return [evidence_of(path, run.workspace) for path in paths if empty_too or path.stat().st_size]


def _judge(artifact: Artifact, path: Path, origin: FileOrigin) -> tuple[Gate, list[Path]]:
    if path.is_dir():
        files = files_in(path)
        new = [file for file in files if not origin.existed_before(file) and file.stat().st_size > 0]
        own = [file for file in new if not origin.modified_after(file)]
        if not new:
            reason = f"all {len(files)} files are empty or older than the run" if files else "the folder is empty"
            return _gate(artifact, Outcome.FAIL, "nothing new", reason), []
        if not own:
            return _gate(artifact, Outcome.INVALID, "changed since the run", _CHANGED_SINCE), []
        return _gate(artifact, Outcome.PASS, f"{len(own)} new files"), own
    if not path.is_file():
        return _gate(artifact, Outcome.FAIL, "missing", "the command did not write it"), []
    if origin.existed_before(path):
        return _gate(artifact, Outcome.FAIL, "older than the run", "an earlier run wrote it, not this one"), []
    if origin.modified_after(path):
        return _gate(artifact, Outcome.INVALID, "changed since the run", _CHANGED_SINCE), []
    stat = path.stat()
    if stat.st_size == 0:
        return _gate(artifact, Outcome.FAIL, "empty"), []
    if artifact.schema is None:
        return _gate(artifact, Outcome.PASS, f"{stat.st_size:,} bytes"), [path]
    problem = schema_problem(path, artifact.schema)
    if problem is not None:
        return _gate(artifact, Outcome.FAIL, f"{stat.st_size:,} bytes, not valid", problem), [path]
    return _gate(artifact, Outcome.PASS, f"{stat.st_size:,} bytes, valid"), [path]


def _gate(artifact: Artifact, outcome: Outcome, measured: str, reason: str = "") -> Gate:
    bound = "present, new, not empty" + (f", valid by {artifact.schema}.schema.json" if artifact.schema else "")
    return Gate(f"artifact: {artifact.path}", outcome, measured, bound, reason)


def schema_problem(path: Path, schema: str) -> str | None:
    """The reason why a JSON file is not valid by a schema of `docs/schemas`; None if it is valid."""
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        return f"it is not JSON: {error}"
    try:
        _validator(schema)(value)
    except fastjsonschema.JsonSchemaValueException as error:
        # Without the value: it may be a list of a thousand requests.
        return f"{error.name}: {error.rule} {error.rule_definition!s:.80}"
    except FileNotFoundError as error:
        return str(error)
    return None


def read_valid(path: Path, schema: str) -> dict[str, Any] | None:
    """The JSON object in a file; None if it is missing or not valid by a schema of `docs/schemas`."""
    value = read_json(path) if path.is_file() else None
    return value if isinstance(value, dict) and schema_problem(path, schema) is None else None


def unreadable(artifact: Artifact, name: str, bound: str, problem: str = "not in the format") -> Gate:
    """The gate of a result that `read_valid` cannot read."""
    reason = f"{artifact.path} is missing, or {problem}"
    return Gate(name, Outcome.INVALID, "not readable", bound, reason)


@cache
def _validator(schema: str) -> Callable[[Any], Any]:
    path = bundled("docs/schemas") / f"{schema}.schema.json"
    value = read_json(path)
    if value is None:
        raise FileNotFoundError(f"this installation of llmval lacks {path.name}: reinstall it")
    validator: Callable[[Any], Any] = fastjsonschema.compile(value)
    return validator
