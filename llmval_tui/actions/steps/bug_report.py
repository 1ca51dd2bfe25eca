"""Write a bug report with PyTorch's issue template from the section's newest runs; the operator files it."""

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.api import Condition, Context, Judgement, Need, NotYet, Proposal
from llmval_tui.actions.command.runner_catalog import ARCHIVE, COMPILE_SCHEMA, REPORT
from llmval_tui.actions.judges.compile_bundle import bundles_of, packed
from llmval_tui.actions.judges.compile_study import DID_NOT_REPRODUCE, HANG, TIMEOUT, finding, read_study
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, command_of, ended_runs, inherited, perform_command
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of, write_atomic
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Artifact, Gate, Outcome, Verdict
from llmval_tui.runs.store import Run, RunStore

_TAIL_BYTES, _TAIL_LINES = 32_768, 40
_SECTIONS = ("### 🐛 Describe the bug", "### Versions")  # the headings of PyTorch's bug-report template
_ORDER = {HANG: 0, TIMEOUT: 1, DID_NOT_REPRODUCE: 3}  # by outcome; a failed study comes before one without a hang


@dataclass(frozen=True, slots=True)
class Study:
    """A bundle for a report."""

    run_id: str
    folder: str  # relative to the workspace
    outcome: str
    finding: str
    command: str  # for a shell


class BugReport:
    """Writes the report. The operator files it and enters its link."""

    name = "bug_report"
    title = "write a bug report"
    about = "Writes a bug report from the section's newest runs and asks for the link of the filed issue."
    needs = (Need(COMMAND_ACTIONS, Condition.ENDS),)

    def propose(self, context: Context) -> Proposal:
        ended = ended_runs(context)
        if not ended:
            raise NotYet("no run of this section has ended yet, so there is nothing to report: run its command first.")
        studies = studies_of(ended, context.workspace)
        if not studies and any(bundles_of(run, context.workspace) for run in ended):
            raise Refused("the section's bundles have an injected hang or no result: run the study without injection.")
        summary = f"Writes a bug report from {len(ended)} run{'s' if len(ended) > 1 else ''} and asks for its link."
        if studies:
            summary = f"Takes the bug report of {studies[0].folder} and asks for the link of the filed issue."
        return Proposal(
            action=self.name,
            summary=summary,
            details=(
                *(f"run {study.run_id}, {study.folder}: {study.finding}" for study in studies),
                *(f"from run {run.id}" for run in ended if not studies),
                *(["reports the most informative bundle, and names the others in it"] if studies[1:] else []),
                "sends nothing: you file the text and enter the link of the issue",
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{REPORT}"),),
            deviations=inherited(ended),
            params={
                "runs": [run.id for run in ended],
                "title": context.step.section,
                "studies": [asdict(study) for study in studies],
            },
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        store = RunStore(run.workspace)
        params = run.intent.params
        if params.get("studies"):
            text = study_report([Study(**study) for study in params["studies"]], run.workspace)
        else:
            text = report([store.get(run_id) for run_id in params["runs"]], params["title"])
        write_atomic(run.folder / REPORT, text.encode())
        print(f"wrote {run.folder / REPORT}, {len(text.splitlines())} lines")
        return 0

    def judge(self, run: Run) -> Judgement:
        path = run.folder / REPORT
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        missing = [heading for heading in _SECTIONS if heading not in text]
        gate = Gate(
            "report",
            Outcome.FAIL if missing else Outcome.PASS,
            f"{len(text.splitlines())} lines",
            "a report with every section of the template",
            f"{', '.join(missing)} missing" if missing else "",
        )
        answer = accepted(run)
        if missing:
            return [gate], {}, "the report is incomplete", None
        if answer is not None:
            link = str(answer.get("link"))
            filed = Gate("filed", Outcome.PASS, link, "the link of the filed report", f"given by {answer.get('by')}")
            return [gate, filed], {}, f"filed as {link}", None
        waiting = Gate(
            "filed", Outcome.INCONCLUSIVE, "not yet", "the link of the filed report", "waits for you to file it"
        )
        studies = [Study(**study) for study in run.intent.params.get("studies", [])]
        question = {
            "kind": "link",
            "text": _what_to_file(studies[0] if studies else None),
            "file": str(path.absolute().relative_to(run.workspace)),
        }
        return [gate, waiting], {}, "a bug report to file", question


def _what_to_file(study: Study | None) -> str:
    where = "https://github.com/pytorch/pytorch/issues/new/choose"
    if study is None:
        return f"File this report at {where} (or update an existing issue), then give its link."
    attach = f"attach {study.folder}/{ARCHIVE}"
    if study.outcome in (HANG, TIMEOUT):
        return f"File this report at {where} (or update an existing issue), {attach}, then give its link."
    return (
        f"Nothing hung here. If an issue exists, add this report to it and {attach}, then give its link; if not, "
        f"tick the item by hand with a note."
    )


def studies_of(runs: list[Run], workspace: Path) -> list[Study]:
    """The bundles of the runs, the most informative first, without those of an injected hang."""
    found = []
    for run in runs:
        folders = set(bundles_of(run, workspace).values())
        for artifact in run.intent.artifacts:
            folder = str(Path(artifact.path).parent)
            result = read_study(run, artifact) if artifact.schema == COMPILE_SCHEMA and folder in folders else None
            if result is not None and result["injected"] is None:
                display = command_of(run, artifact).display
                found.append(Study(run.id, folder, result["outcome"], finding(result), display))
    return sorted(found, key=lambda study: _ORDER.get(study.outcome, 2))


def study_report(studies: list[Study], workspace: Path) -> str:
    """The report in the bundle of the first study, with a line for each of the other studies.

    Raises:
        Refused: the report is missing, or differs from the packed one.
    """
    first, *others = studies
    folder = workspace / first.folder
    path, archive = folder / REPORT, packed(folder)
    if archive.problem:
        raise Refused(f"{first.folder}: {archive.problem}. Attach the logs again to pack it, or run the study again.")
    if not path.is_file() or archive.files.get(REPORT) != sha256_of(path):
        raise Refused(f"{first.folder}/{REPORT} differs from the one in {ARCHIVE}: attach the logs again to pack it.")
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n"
    if others:
        lines = [f"- {clean_line(other.finding)}: `{clean_line(other.command).replace('`', ' ')}`" for other in others]
        text += "\nAlso run on this node:\n\n" + "\n".join(lines) + "\n"
    return text


def report(runs: list[Run], title: str) -> str:
    """The report of runs without a compile study, as Markdown."""
    lines = [f"# {title}", "", _SECTIONS[0], ""]
    for run in runs:
        verdict = run.verdict()
        lines += [f"**Item {run.intent.step.number}**, run `{run.id}`: {_outcome_line(verdict)}", ""]
        for deviation in run.intent.deviations:
            lines.append(f"- deviates from the item: {deviation}")
        for command in run.intent.commands:
            lines += ["", _fenced(command.display, "bash")]
        if verdict:
            lines += [f"- {gate.name}: {gate.outcome}, {gate.measured} (required: {gate.bound}) {gate.reason}".rstrip()
                      for gate in verdict.gates if gate.outcome is not Outcome.PASS]  # fmt: skip
        for log in run.logs():
            if log.stream == "stderr" and (tail := _tail(log.path.read_bytes()[-_TAIL_BYTES:])):
                rank = "" if log.rank is None else f", rank {log.rank}"
                lines += ["", f"End of the standard error of `{log.label}`{rank}:", "", _fenced(tail, "text")]
        lines.append("")
    lines += [_SECTIONS[1], ""]
    first = runs[0].intent
    lines += [f"- {name}: {value}" for name, value in sorted(first.versions.items())]
    lines += [
        f"- {name}: {value}" for name, value in sorted(first.host.items()) if isinstance(value, str | int | float)
    ]
    if first.environment:
        lines += ["", "Environment (allow-listed):", ""]
        lines.append(_fenced("\n".join(f"{name}={value}" for name, value in sorted(first.environment.items())), "text"))
    from llmval_tui.foundation.redaction import redact_text, secrets_of  # slow to import, and no other step needs it

    return redact_text("\n".join(lines) + "\n", secrets_of(os.environ)[0])


def _outcome_line(verdict: Verdict | None) -> str:
    return f"{verdict.outcome}. {verdict.summary}" if verdict else "ended, not judged"


def _tail(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").split("\n")
    return "\n".join([clean_line(line) for line in lines if line.strip()][-_TAIL_LINES:])


def _fenced(text: str, language: str) -> str:
    """A code block; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
