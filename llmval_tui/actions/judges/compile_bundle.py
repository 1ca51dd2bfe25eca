"""The packed bundle of a compile study, checked against its manifest. Reads only."""

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.actions.command.runner_catalog import ARCHIVE, COMPILE_REPRO, COMPILE_SCHEMA, MANIFEST, RESULT
from llmval_tui.foundation.files import read_json, sha256_of
from llmval_tui.runs.store import Run

_RECORD = "run.json"  # of the study: a folder without it holds no study and cannot be packed


@dataclass(frozen=True, slots=True)
class Packed:
    """The content of an archive (file → SHA-256), and the SHA-256 of the archive."""

    files: dict[str, str]
    sha256: str
    problem: str  # "" if archive and manifest agree


def packed(folder: Path) -> Packed:
    """The bundle in a folder; `problem` is the reason if it cannot be handed on."""
    manifest, archive = read_json(folder / MANIFEST), folder / ARCHIVE
    if not archive.is_file() or not isinstance(manifest, dict):
        return Packed({}, "", f"there is no {ARCHIVE} with its {MANIFEST}")
    named = {str(item["path"]): str(item["sha256"]) for item in manifest.get("files", [])}
    found: dict[str, str] = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                content = opened.extractfile(member) if member.isfile() else None
                if content is not None:
                    found[member.name.partition("/")[2]] = hashlib.sha256(content.read()).hexdigest()
    except (tarfile.TarError, OSError, EOFError) as error:
        return Packed(found, "", f"{ARCHIVE} cannot be read: {error}")
    found.pop(MANIFEST, None)
    other = sorted(name for name in named.keys() | found.keys() if named.get(name) != found.get(name))
    problem = f"{ARCHIVE} and {MANIFEST} differ in {', '.join(other[:4])}" if other else ""
    return Packed(found, sha256_of(archive), problem)


def bundles_of(run: Run, workspace: Path) -> dict[str, str]:
    """The existing bundle folders of a run, by the label of the command that made each."""
    if run.intent.params.get("runner") != COMPILE_REPRO:
        return {}
    found = {}
    for label, paths in run.intent.params.get("outputs", {}).items():
        results = {item.path for item in run.intent.artifacts if item.schema == COMPILE_SCHEMA}
        for path in paths:
            folder = path.removesuffix(f"/{RESULT}")
            if path in results and (workspace / folder / _RECORD).is_file():
                found[label] = folder
    return found
