"""The words that ask for one of llmval's own actions, and the lists on which they do.

On somebody else's list, "Collect the logs" is a task of a person. So the words count only if the item's section has one
of llmval's runners, or if the item has `<date>` or names a document of llmval's: one with its markers, or with the name
of one that llmval brings.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from llmval_tui.actions.reading.words import documents, flag_spans
from llmval_tui.checklist.model import Section, Step

# The file names of the bundled runners; a test holds them equal to `command/runner_catalog.py`.
RUNNER_NAMES = (
    "inference_server_load_test.py",
    "openai_load_test.py",
    "torch_compile_repro.py",
    "precision_power_sweep.py",
    "power_efficiency_analyzer.py",
    "long_context_validation.py",
    "collective_bandwidth.py",
    "capture_fp8_flexattention_traces.sh",
)
# Documents that llmval reads by their markers or its own tables, or writes.
OWN_DOCUMENTS = frozenset(
    {
        "nvlink_pcie_playbook.md", "performance_baseline.md", "TODO.md", "power_efficiency_baselines.md",
        "long_context_playbook.md",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """The words that ask for an action."""

    action: str
    test: Callable[[Step, bool], str | None]  # the recognised words; the flag: whether the item has a command
    with_command: bool = False  # it does its work with the item's command


def _says(
    pattern: str, *needs: Callable[[Step], str | None], command: bool = False
) -> Callable[[Step, bool], str | None]:
    compiled = re.compile(pattern, re.IGNORECASE)

    def test(step: Step, has_command: bool) -> str | None:
        match = compiled.search(" ".join(step.prose.split()))
        found = [need(step) for need in needs]
        if match is None or not all(found) or (command and not has_command):
            return None
        return " and ".join(
            [f"says “{match[0]}”", *(one for one in found if one), *(["has a command"] if command else [])]
        )

    return test


def _document(step: Step) -> str | None:
    found = documents(step)
    return f"names {found[0]}" if found else None


def _todo(step: Step) -> str | None:
    return next((f"names {name}" for name in documents(step) if "todo" in name.lower()), None)


def _flags(step: Step) -> str | None:
    found = flag_spans(step)
    return f"has the flags “{found[0]}”" if found else None


WORDS: tuple[Words, ...] = (
    Words("env_export", _says(r"\b(?:export|source|apply|set)\b[^.;]*\b(?:env|environment|variables?)\b", _document)),
    Words(
        "trace_capture",
        _says(
            r"\b(?:capture|record|collect|take)\b[^.;]*\b(?:traces?|profiles?|timelines?|nsys|nsight)\b", command=True
        ),
        with_command=True,
    ),
    Words("baseline_drift", _says(r"\b(?:drift\w*|regress\w*|deviat\w*)\b", _document)),
    Words("paired_run", _says(r"\bwith(?: and |/)without\b", _flags), with_command=True),
    Words("collect_logs", _says(r"\b(?:collect|gather|attach|bundle)\b[^.;]*\b(?:logs?|stdout|stderr)\b")),
    Words("bug_report", _says(r"\b(?:file|open|update|submit|report)\b[^.;]*\b(?:bug|issue|ticket)s?\b")),
    Words("summary", _says(r"\b(?:summari[sz]e|aggregate|analy[sz]e)\b", command=True), with_command=True),
    Words("table_update", _says(r"\b(?:update|refresh|rewrite)\b[^.;]*\btables?\b", _document)),
    Words("findings_note", _says(r"\b(?:add|append|note|write|record)\b[^.;]*\bfindings?\b", _document)),
    Words(
        "gated_todo",
        _says(
            r"\b(?:once|after|when|only if)\b[^.;]*\b(?:pass(?:es|ed)?|succeeds?|completes?|are done"
            r"|is done)\b",
            _todo,
        ),
    ),
)


def builtins_of(step: Step, has_command: bool) -> list[tuple[Words, str]]:
    """The actions that the item's words ask for, with the words."""
    return [(words, reason) for words in WORDS if (reason := words.test(step, has_command)) is not None]


def is_ours(step: Step, section: Section) -> bool:
    """Whether the item stands on a list that llmval's own actions can work on."""
    if "<date>" in step.text or any(PurePosixPath(name).name in OWN_DOCUMENTS for name in documents(step)):
        return True
    texts = (block.text for one in section.steps for block in one.blocks)
    return any(name in text for text in texts for name in RUNNER_NAMES)
