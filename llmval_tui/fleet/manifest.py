"""The files of one node's part with their SHA-256, written on the node and checked where they were fetched to."""

from pathlib import Path

from llmval_tui.fleet.heartbeat import HEARTBEAT_FILE
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_json

MANIFEST_FILE = "manifest.json"
# Files that change after the manifest was written.
_NOT_LISTED = (MANIFEST_FILE, HEARTBEAT_FILE, "agent.log", "supervisor.log")


def write_manifest(folder: Path) -> str:
    """Hash every file of the folder; returns the SHA-256 of the manifest itself.

    Raises:
        Refused: it cannot be written.
        OSError: a file cannot be read.
    """
    files = {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix != ".lock" and path.name not in _NOT_LISTED
    }
    write_json(folder / MANIFEST_FILE, {"v": 1, "files": files})
    return sha256_of(folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> dict[str, str]:
    """SHA-256 by path below the folder; {} if the node wrote none."""
    value = read_json(folder / MANIFEST_FILE)
    files = value.get("files") if isinstance(value, dict) else None
    return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}


def check_manifest(folder: Path, node: str, manifest_sha256: str) -> None:
    """Compare fetched files with what the node said of them.

    Raises:
        Refused: the manifest is another one, or a file is missing or differs; the message names it.
    """
    try:
        if sha256_of(folder / MANIFEST_FILE) != manifest_sha256:
            raise Refused(f"{MANIFEST_FILE} of {node} is not the one that the node announced: fetch it again.")
    except OSError as error:
        raise Refused(f"{MANIFEST_FILE} of {node} did not arrive: fetch it again.") from error
    for path, digest in read_manifest(folder).items():
        file = folder / path
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise Refused(f"{MANIFEST_FILE} of {node} names {path}, which is outside of its folder.")
        if not file.is_file():
            raise Refused(f"{path} of {node} did not arrive: fetch it again.")
        if sha256_of(file) != digest:
            raise Refused(f"{path} of {node} arrived with other bytes than the node wrote: fetch it again.")
