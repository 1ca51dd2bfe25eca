"""Packs the bundle: redacts the files, and writes the manifest and the archive.

The folder is readable at any moment; the archive is written last.
"""

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle.layout import ARCHIVE, MANIFEST, PARTIAL, PRIVATE, Layout
from llmval_runners.compile_study.bundle.redact import redact_files
from llmval_runners.process.files import read_json, replace_bytes, write_json
from llmval_runners.process.redaction import redact, secrets_of


def pack(
    layout: Layout, *, include_model_code: bool, partial: bool = False, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Redact the files and pack them. Returns the manifest. Can be called again, for example after logs were added.

    `partial`: the study has not ended, so the archive contains PARTIAL.txt.

    Raises:
        ValueError: a file name contains the value of a secret variable, and would go into the archive; or redaction
            would break a JSON file.
    """
    environment = os.environ if environment is None else environment
    files = members(layout, include_model_code=include_model_code)
    if partial and layout.partial.is_file():
        files.append(layout.partial)
    secrets, _ = secrets_of(environment)
    for path in files:
        if redact(str(path.relative_to(layout.root)).encode(), secrets)[1]:
            raise ValueError("a file name in the bundle contains a secret: rename it and pack again with --repack")
    scan = redact_files(layout.root, files, environment)
    before = (read_json(layout.root / MANIFEST) or {}).get("redacted", {})
    manifest = {
        "v": 1,
        "packed_t_ns": time.time_ns(),
        "model_code_included": include_model_code,
        "left_out": []
        if include_model_code
        else [f"{PRIVATE}/: compile traces, which contain model code (--include-model-code packs them)"],
        "redacted": {**before, **scan.redacted},
        "secrets_too_short_to_search": scan.too_short,
        "files": [
            {"path": str(path.relative_to(layout.root)), "bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in files
        ],
    }
    write_json(layout.root / MANIFEST, manifest, indent=1)
    replace_bytes(layout.archive, _archive(layout.root, [*files, layout.root / MANIFEST]))
    return manifest


def members(layout: Layout, *, include_model_code: bool) -> list[Path]:
    """Regular files of the bundle and its ablations, without archives and the manifest; `private/` only by consent."""
    found = []
    for path in sorted(layout.root.rglob("*")):
        relative = path.relative_to(layout.root)
        if not path.is_file() or path.is_symlink() or path.name.startswith(".part-"):
            continue
        if (
            path.name in (ARCHIVE, PARTIAL)
            or path == layout.root / MANIFEST
            or (PRIVATE in relative.parts and not include_model_code)
        ):
            continue
        found.append(path)
    return found


def _archive(root: Path, files: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in files:
            archive.add(
                path, arcname=f"{root.resolve().name}/{path.relative_to(root)}", recursive=False, filter=_anonymous
            )
    return buffer.getvalue()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
