"""Collect the logs of a section's newest runs into the folder of its reproduction bundle, with a manifest of hashes."""

import shutil
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.common import (
    COMMAND_ACTIONS,
    newest_of_each_step,
    perform_command,
    section_runs,
    workspace_of,
)
from llmval_tui.checklist.paths import inside
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_json
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.records import Artifact, Gate, Outcome, State
from llmval_tui.runs.store import Run, RunStore


class CollectLogs:
    """Standard output and error of every command and rank, copied and hashed; nothing is moved."""

    name = "collect_logs"
    title = "collect logs"
    about = "Copies the logs of the section's newest runs into its bundle folder, with their SHA-256."

    def propose(self, context: Context) -> Proposal:
        runs, folder = _sources(context)
        target = f"{folder}/logs"
        return Proposal(
            action=self.name,
            summary=f"Copies the logs of {len(runs)} run{'s' if len(runs) > 1 else ''} into {target}.",
            details=(
                *(f"from run {run.id}: {len(run.logs())} logs" for run in runs),
                f"writes {target}/manifest.json with the SHA-256 of each",
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"{target}/manifest.json"),),
            params={"runs": [run.id for run in runs], "target": target},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        workspace = workspace_of(run)
        store = RunStore(workspace)
        target = inside(workspace, run.intent.params["target"])
        manifest: list[dict[str, Any]] = []
        for run_id in run.intent.params["runs"]:
            source = store.get(run_id)
            folder = target / run_id
            folder.mkdir(parents=True, exist_ok=True)
            for log in source.logs():
                copy = folder / log.path.name
                shutil.copy2(log.path, copy)
                entry = {"path": f"{run_id}/{log.path.name}", "bytes": copy.stat().st_size, "sha256": sha256_of(copy)}
                manifest.append(entry)
                print(f"{entry['sha256'][:12]}  {entry['path']}  {entry['bytes']} bytes")
        write_json(target / "manifest.json", {"v": 1, "collected_utc": utc_iso(), "files": manifest})
        return 0

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        target = workspace_of(run) / run.intent.params["target"]
        manifest = read_json(target / "manifest.json")
        files: list[dict[str, Any]] = manifest.get("files", []) if isinstance(manifest, dict) else []
        wrong = [entry["path"] for entry in files if not _intact(target / entry["path"], entry["sha256"])]
        total = sum(entry["bytes"] for entry in files)
        ok = bool(files) and total > 0 and not wrong
        reason = f"changed or gone: {', '.join(wrong[:4])}" if wrong else "" if ok else "there was no output to collect"
        gate = Gate(
            "logs",
            Outcome.PASS if ok else Outcome.FAIL,
            f"{len(files)} logs, {total} bytes",
            "at least one log with output, each as its hash says",
            reason,
        )
        return (
            [gate],
            {"logs": float(len(files)), "log_bytes": float(total)},
            f"{len(files)} logs in {target.name}",
            None,
        )


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _sources(context: Context) -> tuple[list[Run], str]:
    """The runs whose logs to collect, and the bundle folder.

    Raises:
        Refused: no ended command run in the section, or none of them has an output folder.
    """
    runs = newest_of_each_step(section_runs(context.store, context.step.section, COMMAND_ACTIONS))
    ended = [run for run in runs if run.state() in (State.FINISHED, State.LOST)]
    if not ended:
        raise Refused("no run of this section has ended yet, so there are no logs to collect: run its command first.")
    folder = context.step.directives.get("bundle")
    if folder is None:
        folders = [name for run in ended for name in run.intent.params.get("output_folders", [])]
        if not folders:
            raise Refused(
                "none of the section's runs wrote a bundle folder (--output-dir): name one by "
                "<!-- llmval: bundle=artifacts/NAME --> behind the item's text."
            )
        folder = folders[0]
    return ended, str(inside(context.workspace, folder).relative_to(context.workspace.resolve()))
