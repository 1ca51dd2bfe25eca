"""Attach the logs of a section's newest runs to its bundles, with a manifest of hashes, and pack the bundles again."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, NotYet, Proposal
from llmval_tui.actions.command.freeze import runner_python
from llmval_tui.actions.command.runner_catalog import ARCHIVE, COMPILE_REPRO, RESULT
from llmval_tui.actions.judges.compile_bundle import bundles_of, packed
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, ended_runs, inherited, perform_command
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_atomic, write_json
from llmval_tui.foundation.paths import bundled, inside
from llmval_tui.foundation.text import clean_line, utc_iso
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import LogFile, Run, RunStore

LOG_MANIFEST = "logs/manifest.json"
REPACK_S = 600.0


@dataclass(frozen=True, slots=True)
class _Target:
    """A folder that gets logs: run and label of each part (label None: all logs), and whether to pack it."""

    folder: str
    parts: list[tuple[str, str | None]] = field(default_factory=list)
    study: bool = False


class CollectLogs:
    """Copies and hashes standard output and error of every command and rank."""

    name = "collect_logs"
    title = "collect logs"
    about = (
        "Copies the logs of the section's newest runs into the bundle folder, with their SHA-256, and packs it again."
    )
    directives = frozenset({"bundle"})
    needs = (Need(COMMAND_ACTIONS, Condition.ENDS),)

    def propose(self, context: Context) -> Proposal:
        runs = ended_runs(context)
        targets = _targets(context, runs)
        studies = [target.folder for target in targets if target.study]
        packs = f" and packs {len(studies)} bundle{'s' if len(studies) > 1 else ''} again" if studies else ""
        folders = ", ".join(f"{target.folder}/logs" for target in targets)
        manifests = [Artifact(f"{target.folder}/{LOG_MANIFEST}") for target in targets]
        return Proposal(
            action=self.name,
            summary=f"Copies the logs of {len(runs)} run{'s' if len(runs) > 1 else ''} into {folders}{packs}.",
            details=(
                *(f"from run {run.id} (item {run.intent.step.number}): {len(run.logs())} logs" for run in runs),
                *(f"writes {manifest.path} with the SHA-256 of each" for manifest in manifests),
                *(f"overwrites likely secrets in {folder}, then replaces {folder}/{ARCHIVE}" for folder in studies),
            ),
            commands=(perform_command(context),),
            artifacts=(*(Artifact(f"{folder}/{ARCHIVE}") for folder in studies), *manifests),
            deviations=inherited(runs),
            params={
                "targets": [
                    {"folder": target.folder, "parts": [list(part) for part in target.parts], "study": target.study}
                    for target in targets
                ],
                "python": runner_python(context),
            },
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        workspace = run.workspace
        store = RunStore(workspace)
        for target in run.intent.params["targets"]:
            folder = inside(workspace, target["folder"])
            copies = [
                (log, _copy(log, folder / "logs" / run_id))
                for run_id, label in target["parts"]
                for log in store.get(run_id).logs()
                if label is None or log.label == label
            ]
            # Packing overwrites secrets in the copies. So pack before hashing too: then the hashes stay true.
            if target["study"]:
                _repack(folder, run.intent.params["python"])
            _write_manifest(folder, copies)
            if target["study"]:
                _repack(folder, run.intent.params["python"])
                print(f"packed {folder.name}/{ARCHIVE} again")
        return 0

    def judge(self, run: Run) -> Judgement:
        gates, total, size = [], 0, 0
        for target in run.intent.params["targets"]:
            folder = run.workspace / target["folder"]
            manifest = read_json(folder / LOG_MANIFEST)
            files: list[dict[str, Any]] = manifest.get("files", []) if isinstance(manifest, dict) else []
            gates.append(_logs_gate(folder, files))
            if target["study"]:
                gates.append(_archive_gate(folder, files))
            total, size = total + len(files), size + sum(entry["bytes"] for entry in files)
        metrics: dict[str, float | None] = {"logs": float(total), "log_bytes": float(size)}
        where = ", ".join(Path(target["folder"]).name for target in run.intent.params["targets"])
        return gates, metrics, f"{total} logs attached to {where}", None


def _copy(log: LogFile, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / log.path.name
    from llmval_tui.foundation.redaction import redact, secrets_of  # slow to import, and no other step needs it

    secrets, _ = secrets_of(os.environ)
    write_atomic(copy, redact(log.path.read_bytes(), secrets)[0])
    shutil.copystat(log.path, copy)
    return copy


def _write_manifest(folder: Path, copies: list[tuple[LogFile, Path]]) -> None:
    logs = folder / "logs"
    files = []
    for log, copy in copies:
        entry = {
            "path": str(copy.relative_to(logs)),
            "bytes": copy.stat().st_size,
            "sha256": sha256_of(copy),
            "redacted": sha256_of(copy) != sha256_of(log.path),
        }
        files.append(entry)
        redacted = ", secrets overwritten" if entry["redacted"] else ""
        print(f"{str(entry['sha256'])[:12]}  {entry['path']}  {entry['bytes']} bytes{redacted}")
    write_json(folder / LOG_MANIFEST, {"v": 1, "collected_utc": utc_iso(), "files": files})


def _repack(folder: Path, python: str) -> None:
    script = bundled("runners") / COMPILE_REPRO
    command = [python, str(script), "--repack", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REPACK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{folder.name} could not be packed again ({error}): the logs are in its logs/.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Refused(
            f"{folder.name} could not be packed again: {clean_line(lines[-1]) if lines else 'no reason given'}"
        )


def _logs_gate(folder: Path, files: list[dict[str, Any]]) -> Gate:
    wrong = [entry["path"] for entry in files if not _intact(folder / "logs" / entry["path"], entry["sha256"])]
    total = sum(entry["bytes"] for entry in files)
    ok = total > 0 and not wrong
    reason = f"changed or missing: {', '.join(wrong[:4])}" if wrong else "" if ok else "the commands had no output"
    return Gate(
        f"logs: {folder.name}",
        Outcome.PASS if ok else Outcome.FAIL,
        f"{len(files)} logs, {total} bytes",
        "at least one log with output, all with the recorded hash",
        reason,
    )


def _archive_gate(folder: Path, files: list[dict[str, Any]]) -> Gate:
    found = packed(folder)
    lacking = [entry["path"] for entry in files if found.files.get(f"logs/{entry['path']}") != entry["sha256"]]
    problem = found.problem or (f"it lacks {', '.join(lacking[:4])}" if lacking else "")
    result = read_json(folder / RESULT)
    injected = isinstance(result, dict) and result.get("injected") is not None
    if injected and not problem:
        problem = "its hang was injected, so it is not evidence"
    return Gate(
        f"bundle: {folder.name}",
        Outcome.PASS if not problem else Outcome.INVALID if injected else Outcome.FAIL,
        f"{len(found.files)} files, SHA-256 {found.sha256[:12]}" if found.sha256 else "none",
        "an archive with every log, with the recorded hash",
        problem,
    )


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _targets(context: Context, runs: list[Run]) -> list[_Target]:
    """The folders for the logs: a study's own bundle, and the newest bundle for all other logs.

    Raises:
        Refused: no run of the section has ended, or none has an output folder.
    """
    if not runs:
        raise NotYet("no run of this section has ended yet, so there are no logs to collect: run its command first.")
    stated = context.step.directives.get("bundle")
    if stated is not None:
        folder = str(inside(context.workspace, stated).relative_to(context.workspace.resolve()))
        return [_Target(folder, [(run.id, None) for run in runs], (context.workspace / folder / "run.json").is_file())]
    bundles = [(run, bundles_of(run, context.workspace)) for run in runs]
    targets = {folder: _Target(folder, study=True) for _, found in bundles for folder in found.values()}
    if not targets:
        if any(run.intent.params.get("runner") == COMPILE_REPRO for run in runs):
            raise NotYet("none of the section's studies left a bundle: run the item of the study again.")
        folders = [name for run in runs for name in run.intent.params.get("output_folders", [])]
        if not folders:
            raise Refused(
                "none of the section's runs wrote a bundle folder (--output-dir): name one by "
                "<!-- llmval: bundle=artifacts/NAME --> after the item's text."
            )
        main = str(inside(context.workspace, folders[0]).relative_to(context.workspace.resolve()))
        return [_Target(main, [(run.id, None) for run in runs])]
    first = next(iter(targets.values()))
    for run, found in bundles:
        for label, folder in found.items():
            targets[folder].parts.append((run.id, label))
        first.parts.extend((run.id, command.label) for command in run.intent.commands if command.label not in found)
    return list(targets.values())
