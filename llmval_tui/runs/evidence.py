"""Whether the files that back ticks are still what they were."""

from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.files import read_lines, sha256_of
from llmval_tui.runs.store import RunStore


@dataclass(frozen=True, slots=True)
class Finding:
    """One file that backs a tick, looked at again."""

    number: str  # of the step, when it was ticked
    run_id: str
    path: str
    sha256: str  # as recorded
    state: str  # "intact", "changed", "missing"


def state_of(path: Path, sha256: str) -> str:
    """Whether a file still has the hash that was recorded: "intact", "changed" or "missing"."""
    if not path.is_file():
        return "missing"
    return "intact" if sha256_of(path) == sha256 else "changed"


def check_ledger(store: RunStore) -> list[Finding]:
    """Hash every file that the newest tick of each item names.

    A later tick of the same item replaces an earlier one: only the evidence that the tick stands on counts.
    """
    newest: dict[tuple[object, ...], dict[str, object]] = {}
    for line in read_lines(store.ledger):
        newest[line.get("checklist"), line.get("section"), line.get("text"), line.get("occurrence")] = line
    findings = []
    for line in newest.values():
        evidence = line.get("evidence")
        for item in evidence if isinstance(evidence, list) else []:
            path = store.workspace / item["path"]
            state = state_of(path, item["sha256"])
            findings.append(
                Finding(str(line.get("number")), str(line.get("run_id")), item["path"], item["sha256"], state)
            )
    return findings
