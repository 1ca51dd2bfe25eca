"""The manifest of an archive: an in-toto statement with a test-result predicate.

Its subjects are the files of the archive with their SHA-256, its lists of tests are the items by their verdicts. See
https://github.com/in-toto/attestation, spec/v1/statement.md and spec/predicates/test-result.md (v0.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from llmval_tui import __version__
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import to_json
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome, Verdict
from llmval_tui.runs.store import Run

STATEMENT = "statement.json"  # in the archive
SIGNATURE = "statement.json.sig"  # of the statement's bytes, by `ssh-keygen -Y sign`
SEAL = b"sha256:"  # and 64 hex digits: the comment of the ZIP file
SEAL_BYTES = len(SEAL) + 64
FORMAT = 1  # of the archive; higher if an older llmval would misread it
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file of an archive."""

    name: str  # relative to the workspace; `foundation.paths.recorded_name` if it is not UTF-8
    sha256: str
    bytes: int
    masked: int = 0  # places where a secret was overwritten
    original_sha256: str | None = None  # hash before that; None if nothing was overwritten


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, read."""

    files: dict[str, ArchivedFile]  # name in the archive → file
    runs: list[str]  # ids, oldest first
    result: str  # PASSED, WARNED or FAILED
    tests: dict[str, list[str]] = field(default_factory=dict)  # result → names of tests


def make_statement(runs: Sequence[Run], files: Sequence[ArchivedFile], lists: Sequence[str]) -> bytes:
    """The statement about these runs and files, as the bytes that are signed.

    The same runs and files give the same bytes: it holds no time of its making.

    Args:
        runs: in any order; a run without a verdict counts as failed.
        lists: names of the files that are checklists.
    """
    ordered = sorted(runs, key=lambda run: run.order)
    return to_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [_subject(one) for one in sorted(files, key=lambda one: one.name)],
            "predicateType": PREDICATE_TYPE,
            "predicate": _predicate(ordered, {one.name: one for one in files}, lists),
        },
        indent=True,
    )


def _subject(one: ArchivedFile) -> dict[str, Any]:
    notes: dict[str, Any] = {"bytes": one.bytes}
    if one.masked:
        notes |= {"masked": one.masked, "original_sha256": one.original_sha256}
    return {"name": one.name, "digest": {"sha256": one.sha256}, "annotations": notes}


def _predicate(runs: Sequence[Run], files: Mapping[str, ArchivedFile], lists: Sequence[str]) -> dict[str, Any]:
    tests = results_of(runs)
    result = FAILED if tests[FAILED] or not runs else WARNED if tests[WARNED] else PASSED
    configuration: list[dict[str, Any]] = [
        {
            "name": "llmval",
            "uri": f"pkg:pypi/llmval-tui@{__version__}",
            "annotations": {"version": __version__, "format": FORMAT},
        }
    ]
    configuration += [{"name": name, "digest": {"sha256": files[name].sha256}} for name in lists]
    for run in runs:
        name = f"artifacts/runs/{run.id}/run.json"
        verdict, host = run.verdict(), run.intent.host.get("name")
        notes = {
            "run_id": run.id,
            "item": run.intent.step.number,
            "host": None if host is None else str(host),
            "created_utc": run.intent.created_utc,
            "outcome": verdict.outcome.value if verdict is not None else None,
            "deviations": run.intent.deviations,
        }
        configuration.append({"name": name, "digest": {"sha256": files[name].sha256}, "annotations": notes})
    return {
        "result": result,
        "configuration": configuration,
        "passedTests": tests[PASSED],
        "warnedTests": tests[WARNED],
        "failedTests": tests[FAILED],
    }


def results_of(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The names of the tests by result: the newest run of each item on each host counts, the others are history.

    A pass that is not as written (a deviation, or a preset) is a pass with a warning.

    Args:
        runs: oldest first.
    """
    newest = {(run.intent.host.get("name"), _item(run)): run for run in runs}
    found: dict[str, list[str]] = {PASSED: [], WARNED: [], FAILED: []}
    for run in newest.values():
        found[_result(run, run.verdict())].append(test_name(run))
    return found


def _item(run: Run) -> tuple[str, str, str, int]:
    ref = run.intent.step
    return ref.checklist, ref.section, ref.text, ref.occurrence


def test_name(run: Run) -> str:
    """The name of a run's test: number and text of the item, and the run."""
    # As in the archived files. Imported here, because to verify an archive needs no patterns of secrets.
    from llmval_tui.foundation.redaction import redact_text

    return clean_line(redact_text(f"{run.intent.step.number} {run.intent.step.text} [{run.id}]".replace("\n", " ")))


def _result(run: Run, verdict: Verdict | None) -> str:
    if verdict is None or verdict.outcome is not Outcome.PASS:
        return FAILED
    return WARNED if verdict.deviations or run.intent.deviations or run.intent.preset else PASSED


def read_statement(data: bytes, source: str) -> Statement:
    """The statement in these bytes.

    Raises:
        Refused: they are no such statement, or a newer llmval wrote them; the message names `source`.
    """
    try:
        value = orjson.loads(data)
        predicate = value["predicate"]
        if value["_type"] != STATEMENT_TYPE or value["predicateType"] != PREDICATE_TYPE:
            raise ValueError("it is another kind of statement")
        written = _format(predicate["configuration"])
        files = {one.name: one for one in map(_file, value["subject"])}
        tests = {
            result: [str(name) for name in predicate.get(key) or []]
            for result, key in ((PASSED, "passedTests"), (WARNED, "warnedTests"), (FAILED, "failedTests"))
        }
        notes = [one.get("annotations") or {} for one in predicate["configuration"]]
        runs = [str(one["run_id"]) for one in notes if "run_id" in one]
        result = str(predicate["result"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a JSON error is a ValueError
        raise Refused(
            f"{source}: its {STATEMENT} is damaged or not a manifest of llmval: ask its sender for the archive again."
        ) from error
    if written > FORMAT:
        raise Refused(
            f"{source} was written by a newer llmval (format {written}; this one reads up to {FORMAT}): "
            "update llmval and read it again."
        )
    return Statement(files, runs, result, tests)


def _format(configuration: Sequence[Mapping[str, Any]]) -> int:
    number = next((one["annotations"]["format"] for one in configuration if one.get("name") == "llmval"), None)
    if type(number) is not int or number < 1:
        raise ValueError("its format is not a number")
    return number


def _file(subject: Mapping[str, Any]) -> ArchivedFile:
    notes = subject["annotations"]
    name, sha256, size = subject["name"], subject["digest"]["sha256"], notes["bytes"]
    masked, original = notes.get("masked", 0), notes.get("original_sha256")
    if not (isinstance(name, str) and isinstance(sha256, str) and type(size) is int and type(masked) is int):
        raise TypeError("a subject has a value of another type")
    return ArchivedFile(name, sha256, size, masked, original if isinstance(original, str) else None)
