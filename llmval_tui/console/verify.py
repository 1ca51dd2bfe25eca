"""`verify`: hashes evidence again, of all ticks of the workspace, or of a run, a folder or an archive from anywhere."""

import argparse
from pathlib import Path
from typing import Any

from llmval_tui.actions.step_state import StepState, StepStatus, step_statuses, tick_counts, unreadable_records
from llmval_tui.checklist.model import Checklist, load
from llmval_tui.console.options import checklist_path, config_folder, print_object, workspace_of
from llmval_tui.export.open import CHANGED, INTACT, Archive, CheckedEntry
from llmval_tui.export.signature import Signed, check
from llmval_tui.export.sources import Source, Sources
from llmval_tui.export.statement import SIGNATURE, STATEMENT, Statement, read_statement, results_of
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.paths import named_path, user_path
from llmval_tui.foundation.text import clean_line
from llmval_tui.report.facts import ArtifactFacts, artifacts_of
from llmval_tui.runs.evidence import ARCHIVED, MASKED, CheckedFile, check_ledger
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.runs.tick_ledger import TickLine

SIGNERS = "allowed_signers"  # in the folder of config.toml
GOOD = (INTACT, ARCHIVED, MASKED)


def verify(options: argparse.Namespace) -> int:
    """Hash evidence again. Exit code 1: it changed, is missing, or is not signed as asked; 3: a tick is doubtful."""
    signers = _signers(options)
    if options.runs:
        return _verify_named(options, signers)
    if options.signers:
        raise Refused("--signers checks an archive or an unpacked one: name it.")
    return _verify_ticks(options)


def _signers(options: argparse.Namespace) -> Path | None:
    if options.signers:
        return user_path(options.signers)
    own = config_folder() / SIGNERS
    return own if own.is_file() else None


def _verify_named(options: argparse.Namespace, signers: Path | None) -> int:
    reports = []
    with Sources(workspace_of(options)) as sources:
        for name in options.runs:
            path = user_path(name)
            if path.is_file():
                reports.append(_archive(path, name, sources, signers))
            elif (path / STATEMENT).is_file():
                reports.append(_unpacked(path, name, sources, signers))
            else:
                source, runs = sources.runs(name)
                report = _Report(name, source, runs)
                if not report.artifacts:
                    raise Refused(f"{name} has no file of evidence, so there is nothing to verify: {_without(runs)}.")
                reports.append(report)
        required = bool(options.signers)
        if options.json:
            checked = [one.as_json(required) for one in reports]
            print_object("verify", ok=all(one.ok(required) for one in reports), checked=checked)
        else:
            for one in reports:
                one.print(required)
    return ExitCode.PASSED if all(one.ok(required) for one in reports) else ExitCode.FAILED


def _without(runs: list[Run]) -> str:
    judged = sum(run.verdict() is not None for run in runs)
    if judged == len(runs):
        return "its verdict rests on no file"
    return "it has no verdict yet" if len(runs) == 1 else f"{judged} of its {len(runs)} runs have a verdict"


class _Report:
    """What was found in one place."""

    def __init__(
        self,
        name: str,
        source: Source | None,
        runs: list[Run],
        *,
        entries: list[CheckedEntry] | None = None,
        statement: Statement | None = None,
        signed: Signed | None = None,
        problems: list[str] | None = None,
    ) -> None:
        self.name = name
        self.entries = entries or []
        self.statement = statement
        self.signed = signed
        self.problems = problems or []
        self.runs = runs
        self.artifacts: list[tuple[Run, ArtifactFacts]] = []
        if source is not None:
            for run in runs:
                verdict = run.verdict()
                found = artifacts_of(run, verdict, source.store.workspace) if verdict is not None else []
                self.artifacts += [(run, item) for item in found if item.sha256 is not None]

    @property
    def wrong_entries(self) -> list[CheckedEntry]:
        return [one for one in self.entries if one.state != INTACT]

    @property
    def wrong_artifacts(self) -> list[tuple[Run, ArtifactFacts]]:
        return [(run, item) for run, item in self.artifacts if item.state not in GOOD]

    def ok(self, required: bool) -> bool:
        """Whether all is as recorded. Args: required: the operator named the allowed signers, so it must be one."""
        if self.wrong_entries or self.wrong_artifacts or self.problems:
            return False
        if self.signed is None:
            return not required
        return self.signed.state != "bad" and not (required and self.signed.state != "good")

    def print(self, required: bool) -> None:
        for entry in self.wrong_entries:
            print(clean_line(f"{entry.state:<10} {entry.path}  {(entry.sha256 or '')[:12]}"))
        for run, item in self.wrong_artifacts:
            print(clean_line(f"{item.state:<10} {item.path}  {(item.sha256 or '')[:12]}  evidence of {run.id}"))
        for problem in self.problems:
            print(clean_line(problem))
        if self.signed is not None:
            print(clean_line(self.signed.sentence))
        elif required:
            print(clean_line(f"{self.name} has no manifest, so nobody can have signed it."))
        masked = sum(item.state == MASKED for _, item in self.artifacts)
        parts = []
        if self.statement is not None:
            right = len(self.entries) - len(self.wrong_entries)
            parts.append(f"{right} of {len(self.entries)} files as the manifest says")
        right = len(self.artifacts) - len(self.wrong_artifacts)
        part = f"{right} of {len(self.artifacts)} files of evidence as judged"
        parts.append(part + (f" ({masked} with masked secrets)" if masked else "") if self.runs else "no run was read")
        state = "intact" if self.ok(required) else "NOT intact"
        if not self.wrong_entries and not self.wrong_artifacts and not self.problems and state != "intact":
            state = "intact, but not signed as asked"
        count = [f"{len(self.runs)} {'run' if len(self.runs) == 1 else 'runs'}"] if self.runs else []
        print(clean_line(f"{self.name}: {state}; {', '.join([*count, *parts])}."))

    def as_json(self, required: bool) -> dict[str, Any]:
        """By docs/schemas/verify.schema.json."""
        return {
            "name": self.name,
            "ok": self.ok(required),
            "runs": [run.id for run in self.runs],
            "result": self.statement.result if self.statement is not None else None,
            "signature": self.signed,
            "problems": self.problems,
            "files": self.entries,
            "evidence": [
                {"run_id": run.id, "path": item.path, "sha256": item.sha256, "state": item.state}
                for run, item in self.artifacts
            ],
        }


def _archive(path: Path, name: str, sources: Sources, signers: Path | None) -> _Report:
    """Check an archive; its runs are only looked at if all its files are as the manifest says."""
    with Archive(path, name) as archive:
        entries = list(archive.check())
        signed = check(archive.statement_bytes, archive.signature, signers)
        problems = []
        if (problem := archive.seal_problem()) is not None:
            problems.append(
                f"{name}: {problem}{'' if any(e.state != INTACT for e in entries) else ', outside its files'}."
            )
        statement = archive.statement
    return _with_runs(name, sources, entries, statement, signed, problems)


def _unpacked(folder: Path, name: str, sources: Sources, signers: Path | None) -> _Report:
    """Check an archive that was unpacked: its manifest lies in the folder."""
    data = (folder / STATEMENT).read_bytes()
    statement = read_statement(data, name)
    entries = []
    for one in statement.files.values():
        relative = Path(named_path(one.name))
        if relative.is_absolute() or ".." in relative.parts:
            raise Refused(f"{name}: its manifest names {clean_line(one.name)}, which lies outside the folder.")
        path = folder / relative
        state = "missing" if not path.is_file() else INTACT if sha256_of(path) == one.sha256 else CHANGED
        entries.append(CheckedEntry(one.name, state, one.sha256))
    signature = folder / SIGNATURE
    signed = check(data, signature.read_bytes() if signature.is_file() else None, signers)
    return _with_runs(name, sources, entries, statement, signed, [])


def _with_runs(
    name: str,
    sources: Sources,
    entries: list[CheckedEntry],
    statement: Statement,
    signed: Signed,
    problems: list[str],
) -> _Report:
    if any(one.state != INTACT for one in entries):
        return _Report(name, None, [], entries=entries, statement=statement, signed=signed, problems=problems)
    source, runs = sources.runs(name)
    # The hashes bind the records; what the manifest says of them is said again by the records themselves.
    found = results_of(sorted(runs, key=lambda run: run.order))
    if found != statement.tests or sorted(run.id for run in runs) != sorted(statement.runs):
        problems = [*problems, f"{name}: the verdicts that its manifest lists are not those of its runs."]
    return _Report(name, source, runs, entries=entries, statement=statement, signed=signed, problems=problems)


class _ItemsOfLists:
    """The item of a line of the ledger, by its list: an older llmval recorded the secrets of an item, too."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._lists: dict[str, Checklist | None] = {}

    def __call__(self, line: TickLine) -> object:
        name = line.checklist or ""
        if name not in self._lists:
            try:
                self._lists[name] = load(self._workspace / name) if name else None
            except Refused:  # it is gone: then its items are those of the ledger
                self._lists[name] = None
        checklist = self._lists[name]
        return line.checklist, *(checklist.key_of(line.key) if checklist is not None else line.key)


def _verify_ticks(options: argparse.Namespace) -> int:
    """Hash the evidence of all ticks again.

    Exit code 3 if a tick has no record, its item was edited, or a newer run failed. A file that was overwritten later
    still counts if the run's own copy is unchanged.

    Raises:
        Refused: nothing is ticked and no tick is on record. Nothing was checked then, so nothing is proved.
    """
    workspace = workspace_of(options)
    store = RunStore(workspace)
    findings = check_ledger(store, remember=not options.readonly, item_of=_ItemsOfLists(workspace))
    kept = [finding for finding in findings if finding.state in (ARCHIVED, MASKED)]
    stale = [finding for finding in findings if finding.state not in GOOD]
    statuses = _statuses(options, store)
    doubtful = [line for item in statuses if (line := _doubt(item))]
    unreadable = unreadable_records(statuses, store)
    if not findings and not unreadable and not any(item.step.checked for item in statuses):
        raise Refused(
            f"there is nothing to verify in {workspace}: no item is ticked, and no tick is on record. "
            "Name the folder with --workspace, the list with --checklist, or a run or an archive."
        )
    ok = not stale and not doubtful and not unreadable
    if options.json:
        unbacked = [line for line in doubtful if line.startswith("unbacked")]
        others = [line for line in doubtful if line not in unbacked]
        print_object("verify_ticks", ok=ok, files=findings, unbacked=unbacked, doubtful=others, unreadable=unreadable)
    else:
        for finding in findings:
            print(clean_line(_finding_line(finding)))
        for line in [*doubtful, *unreadable]:
            print(clean_line(line))
        if statuses:
            print(tick_counts(statuses))
        intact = len(findings) - len(stale) - len(kept)
        copies = f"{len(kept)} intact only as a copy in the run folder, " if kept else ""
        files = "file" if len(findings) == 1 else "files"
        closed = sum(finding.state == "unreadable" for finding in findings)
        unreadable_files = f", {closed} unreadable for you" if closed else ""
        gone = f"{len(stale) - closed} changed or missing{unreadable_files}"
        print(f"{len(findings)} {files} of evidence: {intact} intact, {copies}{gone}.")
    if any(finding.state != "unreadable" for finding in stale):
        return ExitCode.FAILED
    return ExitCode.PASSED if ok else ExitCode.UNDECIDED


def _finding_line(finding: CheckedFile) -> str:
    where = f"  in {finding.copy}" if finding.copy else ""
    return clean_line(f"{finding.state:<8} {finding.number}  {finding.path}  {finding.sha256[:12]}{where}")


def _statuses(options: argparse.Namespace, store: RunStore) -> list[StepStatus]:
    try:
        path = checklist_path(options)
    except Refused:
        if options.checklist:
            raise
        return []  # without a checklist only the ledger is verified
    return step_statuses(load(path), store)


def _doubt(item: StepStatus) -> str | None:
    """What makes a tick doubtful besides its files, which have lines of their own."""
    if item.state is StepState.TICKED:
        number = item.step.number
        return (
            f"unbacked {number} is ticked, but llmval has no record of it: "
            f"run it, or say why with llmval tick {number} --note TEXT"
        )
    basis = item.basis
    if basis is not None and basis.contradicted:
        return f"contradicted {item.step.number}  {basis.contradicted}"
    if basis is not None and basis.was_edited:
        return f"edited   {item.step.number}  the item's text was edited since it was ticked"
    return None
