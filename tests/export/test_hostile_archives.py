"""Damaged, tampered and hostile archives: every change is seen, and nothing is left behind."""

import hashlib
import io
import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.console.report import report
from llmval_tui.console.verify import verify
from llmval_tui.console.watch import watch
from llmval_tui.export import open as opening
from llmval_tui.export.open import Archive
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.statement import SEAL_BYTES, STATEMENT
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome
from tests.export.archives import names_in, options, problems_of, rewritten, small
from tests.report.conftest import Workspace


def test_every_flipped_byte_is_seen_and_one_in_a_file_is_named(workspace: Workspace, tmp_path: Path) -> None:
    whole = small(workspace).read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        spans = {
            info.filename: (info.header_offset + 30 + len(info.filename), info.compress_size)
            for info in file.infolist()
        }
    flipped = tmp_path / "flipped.zip"
    places = {start + size // 2: name for name, (start, size) in spans.items()}
    for at in sorted({*range(0, len(whole), 41), *places}):
        data = bytearray(whole)
        data[at] ^= 0x10
        flipped.write_bytes(data)
        found = problems_of(flipped)
        assert found, f"byte {at} of {len(whole)}"
        if (name := places.get(at)) is not None and name != STATEMENT:
            assert name in found


def test_a_truncated_archive_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    whole = small(workspace).read_bytes()
    cut = tmp_path / "cut.zip"
    for size in (0, 1, 30, len(whole) // 2, len(whole) - SEAL_BYTES - 30, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(Refused, match="is truncated, damaged or no archive"):
            Archive(cut)


def _entry(name: str, kind: int = stat.S_IFREG, **values: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename, info.external_attr = name, (kind | 0o644) << 16
    info.compress_type = values.get("method", zipfile.ZIP_DEFLATED)
    return info


HOSTILE: dict[str, tuple[list[tuple[zipfile.ZipInfo, bytes]], str]] = {
    "up": ([(_entry("artifacts/../../x"), b"x")], "leads out of the archive"),
    "absolute": ([(_entry("/etc/cron.d/x"), b"x")], "is an absolute path"),
    "drive": ([(_entry("C:/x"), b"x")], "is an absolute path"),
    "backslash": ([(_entry("a\\..\\..\\x"), b"x")], "is not a plain path"),
    "escaped": ([(_entry("file:..%2F..%2Fx"), b"x")], "leads out of the archive"),
    "link": ([(_entry("artifacts/x", stat.S_IFLNK), b"/etc/passwd")], "is a link"),
    "device": ([(_entry("artifacts/x", stat.S_IFCHR), b"")], "is a device"),
    "fifo": ([(_entry("artifacts/x", stat.S_IFIFO), b"")], "special file"),
    "twice": ([(_entry("a"), b"1"), (_entry("a"), b"2")], "has a twice"),
    "in a file": ([(_entry("a"), b"1"), (_entry("a/b"), b"2")], "a/b lies in a file"),
    "method": ([(_entry("a", method=zipfile.ZIP_BZIP2), b"1")], "packed by another method"),
    "no manifest": ([(_entry("a"), b"1")], r"has no statement\.json"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(kind: str, elsewhere: Path) -> None:
    members, reason = HOSTILE[kind]
    with zipfile.ZipFile("evil.zip", "w") as file:
        for info, data in members:
            file.writestr(info, data)
    for command in (report, verify, watch):
        with pytest.raises(Refused, match=reason):
            command(options(runs=["evil.zip"], output="r.html"))
    assert names_in(elsewhere) == ["evil.zip", "tmp"] and names_in(elsewhere / "tmp") == []


def test_a_bomb_is_refused(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ALWAYS_ALLOWED", 1 << 20)
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(STATEMENT, b"{}")
        file.writestr("zeros", b"\0" * (20 << 20))
    with pytest.raises(Refused, match=r"bytes would unpack to 20,971,522"):
        Archive(Path("bomb.zip"))


def test_files_that_share_bytes_are_refused(elsewhere: Path) -> None:
    with zipfile.ZipFile("overlap.zip", "w") as file:
        file.writestr("a", b"x" * 100)
        file.writestr("b", b"y" * 100)
        for info in file.filelist[1:]:
            info.header_offset = 10
    with pytest.raises(Refused):
        Archive(Path("overlap.zip"))


def test_a_tampered_file_is_not_shown(workspace: Workspace, elsewhere: Path) -> None:
    archive = small(workspace)
    with zipfile.ZipFile(archive) as file, zipfile.ZipFile("evil.zip", "w") as other:
        for info in file.infolist():
            data = file.read(info)
            other.writestr(info.filename, data.replace(b'"pass"', b'"fail"') if "verdict" in info.filename else data)
    assert verify(options(runs=["evil.zip"])) == 1
    with pytest.raises(Refused, match=r"verdict\.json was changed since the export, so nothing of it is shown"):
        report(options(runs=["evil.zip"], output="r.html"))
    assert not Path("r.html").exists() and names_in(elsewhere / "tmp") == []


def test_a_newer_archive_and_a_newer_run_are_one_sentence(workspace: Workspace, elsewhere: Path) -> None:
    archive = small(workspace)

    def newer(value: dict[str, Any]) -> None:
        value["predicate"]["configuration"][0]["annotations"]["format"] = 2

    rewritten(archive, newer)
    with pytest.raises(Refused, match=r"written by a newer llmval \(format 2; this one reads up to 1\)"):
        verify(options(runs=["evil.zip"]))
    run = next(iter(workspace.store.runs()))
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(record | {"v": 2}))
    for command in (report, verify, watch):
        with pytest.raises(Refused, match=r"run\.json was written by a newer llmval \(version 2; .* update llmval"):
            command(options(runs=[str(run.folder)], output="r.html"))
    shutil.copytree(run.folder, elsewhere / "copied")
    with pytest.raises(Refused, match="newer llmval"):
        report(options(runs=["copied"], output="r.html"))
    with zipfile.ZipFile(archive) as file, zipfile.ZipFile("newer.zip", "w") as other:
        statement = json.loads(file.read(STATEMENT))
        for info in file.infolist():
            data = file.read(info)
            if info.filename.endswith("run.json"):
                data = json.dumps(record | {"v": 2}).encode()
                (entry,) = [one for one in statement["subject"] if one["name"] == info.filename]
                entry["digest"]["sha256"] = hashlib.sha256(data).hexdigest()
                entry["annotations"]["bytes"] = len(data)
            if info.filename != STATEMENT:
                other.writestr(info.filename, data)
        other.writestr(STATEMENT, json.dumps(statement))
    for command in (report, verify, watch):
        with pytest.raises(Refused, match=r"newer\.zip/artifacts/runs/.*/run\.json was written by a newer llmval"):
            command(options(runs=["newer.zip"], output="r.html"))
    assert names_in(elsewhere / "tmp") == []


def test_a_manifest_that_names_a_file_outside_makes_none(workspace: Workspace, elsewhere: Path) -> None:
    archive = small(workspace)

    def outside(value: dict[str, Any]) -> None:
        value["subject"].append(value["subject"][0] | {"name": "../planted/file"})

    rewritten(archive, outside)
    with pytest.raises(Refused, match=r"\.\./planted/file is missing, so nothing of it is shown"):
        report(options(runs=["evil.zip"], output="r.html"))
    assert verify(options(runs=["evil.zip"])) == 1
    assert names_in(elsewhere / "tmp") == [] and not (elsewhere / "planted").exists()


def test_a_manifest_that_contradicts_its_runs_is_named(
    workspace: Workspace, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = small(workspace, outcome=Outcome.FAIL)

    def better(value: dict[str, Any]) -> None:
        predicate = value["predicate"]
        predicate["passedTests"], predicate["failedTests"] = predicate["failedTests"], []

    rewritten(archive, better)
    assert verify(options(runs=["evil.zip"])) == 1
    assert "the verdicts that its manifest lists are not those of its runs" in capsys.readouterr().out


def test_records_that_name_a_file_outside_are_refused(workspace: Workspace, elsewhere: Path) -> None:
    archive = small(workspace)
    run = next(iter(workspace.store.runs()))
    record = json.loads((run.folder / "verdict.json").read_text())
    record["evidence"][0]["path"] = "../../../../etc/hostname"
    (run.folder / "verdict.json").write_text(json.dumps(record))
    shutil.copytree(run.folder, elsewhere / "copied")
    with pytest.raises(Refused, match="lies outside the workspace"):
        report(options(runs=["copied"], output="r.html"))
    archive.unlink()
    write_archive(content_of(workspace.store, [run], whole=False), archive)
    with pytest.raises(Refused, match="lies outside the workspace"):
        report(options(runs=[str(archive)], output="r.html"))
