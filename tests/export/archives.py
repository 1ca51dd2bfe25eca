"""What the tests of archives share: the options of the commands, small archives and changed ones."""

import argparse
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmval_tui.export.open import INTACT, Archive
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.statement import STATEMENT
from llmval_tui.foundation.errors import Refused
from tests.report.conftest import Workspace, result_json


def options(**values: Any) -> argparse.Namespace:
    defaults: dict[str, Any] = {
        "workspace": None, "checklist": None, "readonly": False, "json": False, "ascii": False, "runs": [],
        "all": False, "output": None, "sign": None, "signers": None, "dry_run": False, "format": None,
        "anyway": False, "every": 0.1,
    }  # fmt: skip
    return argparse.Namespace(**defaults | values)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def small(workspace: Workspace, **intent: Any) -> Path:
    """An archive of one run with a small result."""
    workspace.run(result_json(3), **intent)
    target = workspace.folder.parent / "small.zip"
    write_archive(content_of(workspace.store, workspace.store.runs(), whole=True), target)
    return target


def problems_of(path: Path) -> list[str]:
    """The paths that are not intact, and "seal" if the archive's own bytes are not; "refused" if it cannot be read."""
    try:
        with Archive(path) as archive:
            wrong = [one.path for one in archive.check() if one.state != INTACT]
            return wrong + (["seal"] if archive.seal_problem() else [])
    except Refused:
        return ["refused"]


def rewritten(archive: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """`evil.zip`: the archive with a changed manifest, and a seal that fits none."""
    with zipfile.ZipFile(archive) as file, zipfile.ZipFile("evil.zip", "w") as other:
        for info in file.infolist():
            data = file.read(info)
            if info.filename == STATEMENT:
                value = json.loads(data)
                change(value)
                data = json.dumps(value).encode()
            other.writestr(info.filename, data)
