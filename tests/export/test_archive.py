"""An archive of runs: what is in it, that every change is seen, and that hostile ones leave nothing behind."""

import argparse
import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.console.export import Progress, export
from llmval_tui.console.report import compare, report
from llmval_tui.console.verify import verify
from llmval_tui.console.watch import watch
from llmval_tui.export import open as opening
from llmval_tui.export import pack
from llmval_tui.export.open import INTACT, Archive
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.sources import Sources
from llmval_tui.export.statement import FAILED, PASSED, SEAL_BYTES, STATEMENT, WARNED
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.foundation.redaction import redact
from llmval_tui.runs.records import Outcome, State, Status
from llmval_tui.runs.store import RUNS_FOLDER
from tests.report.conftest import Workspace, result_json

TOKEN = "hf_" + "a1B2c3D4" * 4


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "ws").mkdir()
    return Workspace(tmp_path / "ws")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder without a workspace, as the current one; TMPDIR is the folder `tmp` in it."""
    folder = tmp_path / "elsewhere"
    (folder / "tmp").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


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


def test_an_archive_is_read_where_there_is_no_workspace(
    workspace: Workspace, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        workspace.run(result_json(seed=seed))
    assert export(options(workspace=str(workspace.folder), all=True, output="a.zip")) == 0
    shutil.rmtree(workspace.folder)
    assert verify(options(runs=["a.zip"])) == 0
    assert "a.zip: intact; 2 runs" in capsys.readouterr().out
    assert report(options(runs=["a.zip"], output="r.html")) == 0
    page = Path("r.html").read_text()
    assert "abc002" in page and "a.zip" in page and "missing" not in page
    assert compare(options(a="a.zip:abc001", b="a.zip:abc002")) in (0, 1)
    assert watch(options(runs=["a.zip:abc001"])) == 0
    assert "verdict pass" in capsys.readouterr().out
    with pytest.raises(Refused, match=r"a\.zip has 2 runs: say which, as in a\.zip:2026"):
        compare(options(a="a.zip", b="a.zip:abc002"))
    assert names_in(elsewhere) == ["a.zip", "r.html", "tmp"] and names_in(elsewhere / "tmp") == []


def test_a_run_folder_and_an_unpacked_archive_are_read_as_well(
    workspace: Workspace, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = small(workspace)
    with zipfile.ZipFile(archive) as file:
        file.extractall("unpacked")
    assert verify(options(runs=["unpacked"])) == 0
    run = next(iter(workspace.store.runs()))
    shutil.copytree(run.folder, elsewhere / "copied")
    assert verify(options(runs=["copied"])) == 1  # its result was not copied
    assert "missing    artifacts/r1.json" in capsys.readouterr().out
    assert report(options(runs=["copied", "unpacked"], output="r.html")) == 0
    record = json.loads((elsewhere / "copied" / "run.json").read_text())
    (elsewhere / "copied" / "run.json").write_text(json.dumps(record | {"host": {"name": "node2"}}))
    assert report(options(runs=["copied", "unpacked"], output="r.html")) == 0
    page = Path("r.html").read_text()
    assert "Validation of node2, node1" in page and "1.1 on node2" in page and "1.1 on node1" in page
    (elsewhere / "unpacked" / "artifacts" / "r1.json").write_text("{}")
    assert verify(options(runs=["unpacked"])) == 1
    assert "changed    artifacts/r1.json" in capsys.readouterr().out


def test_the_same_runs_give_the_same_bytes(workspace: Workspace) -> None:
    first = small(workspace).read_bytes()
    os.utime(workspace.folder / "artifacts" / "r1.json")
    again = workspace.folder.parent / "again.zip"
    write_archive(content_of(workspace.store, workspace.store.runs(), whole=True), again)
    assert again.read_bytes() == first
    with pytest.raises(Refused, match="exists"):
        write_archive(content_of(workspace.store, workspace.store.runs(), whole=True), again)


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


def test_secrets_are_masked_and_the_evidence_says_so(
    workspace: Workspace, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct horse")
    run = workspace.run(result_json(3, note=f"token {TOKEN}"))
    (run.folder / "logs" / "main.stdout.log").write_text("login with correct horse\n")
    (run.folder / "logs" / "trace.bin").write_bytes(b"\0" + TOKEN.encode())
    (run.folder / "commands.secret.json").write_text("{}")
    (run.folder / "supervisor.lock").touch()
    (run.folder / "logs" / "link.log").symlink_to("/etc/hostname")
    assert export(options(workspace=str(workspace.folder), runs=[run.id], output="a.zip")) == 0
    said = capsys.readouterr()
    assert "2 secrets in artifacts/r1.json" in said.out and "trace.bin" in said.out
    assert "link.log is a link" in said.err and "before packing" in said.err
    with zipfile.ZipFile("a.zip") as file:
        names = " ".join(file.namelist())
        everything = b"".join(file.read(name) for name in file.namelist() if not name.endswith(".bin"))
    assert TOKEN.encode() not in everything and b"correct horse" not in everything
    assert "secret.json" not in names and ".lock" not in names and "link.log" not in names
    assert verify(options(runs=["a.zip"], json=True)) == 0
    (one,) = json.loads(capsys.readouterr().out)["checked"]
    assert [item["state"] for item in one["evidence"]] == ["masked"]
    assert report(options(runs=["a.zip"], output="r.html")) == 0
    assert "Latency of 3 completed requests" in Path("r.html").read_text()  # the figures of a masked file are read


def test_a_private_key_is_masked_wherever_the_parts_of_a_file_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "QUJDREVGR0hJSktM\n" * 20 + "-----END OPENSSH PRIVATE KEY-----\n"
    log = tmp_path / "log"
    log.write_text("before\n" * 10 + block + "after\n" * 10)
    for part in range(60, 500, 23):
        monkeypatch.setattr(pack, "PART", part)
        parts = list(pack._parts(log))
        assert b"".join(parts) == log.read_bytes()
        assert len(parts) > 1 or part > 400
        assert not any(b"QUJD" in redact(one, set())[0] for one in parts), part


def test_evidence_that_changed_is_named_when_it_is_sent(
    workspace: Workspace, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = workspace.run(result_json(3))
    (workspace.folder / "artifacts" / "r1.json").write_text("{}")
    assert export(options(workspace=str(workspace.folder), runs=[run.id], output="a.zip")) == 0
    assert f"artifacts/r1.json was changed since {run.id} was judged" in capsys.readouterr().err
    assert verify(options(runs=["a.zip"])) == 1
    assert "changed    artifacts/r1.json" in capsys.readouterr().out


@pytest.mark.parametrize("nameless", [True, False])
def test_a_full_disk_leaves_nothing(
    workspace: Workspace, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    run = workspace.run(result_json(3))
    if not nameless:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT)  # refused, as by a file system without it
    assert export(options(workspace=str(workspace.folder), runs=[run.id], output="a.zip")) == 0
    monkeypatch.setattr(pack, "_seal", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(Refused, match=r"b\.zip cannot be written \(No space left\)"):
        export(options(workspace=str(workspace.folder), runs=[run.id], output="b.zip"))
    assert names_in(elsewhere) == ["a.zip", "tmp"]


def test_what_counts_as_passed(workspace: Workspace, tmp_path: Path) -> None:
    """The newest run of an item counts; a pass that is not as written is a warning."""
    workspace.run(result_json(3), outcome=Outcome.FAIL)
    for outcome, deviations, result in [
        (Outcome.PASS, [], PASSED),
        (Outcome.PASS, ["4 GPUs"], WARNED),
        (Outcome.INVALID, [], FAILED),
    ]:
        run = workspace.run(result_json(3), outcome=outcome, deviations=deviations)
        target = tmp_path / f"{run.id}.zip"
        write_archive(content_of(workspace.store, workspace.store.runs(), whole=True), target)
        with Archive(target) as archive:
            assert archive.statement.result == result
            assert [name for names in archive.statement.tests.values() for name in names] == [
                f"1.1 Run: `python load.py` [{run.id}]"
            ]


def test_a_run_that_is_running_is_not_exported(workspace: Workspace) -> None:
    run = workspace.run(outcome=None)
    write_json(run.folder / "status.json", Status(state=State.RUNNING))
    lock = take_lock(run.supervisor_lock)
    assert lock is not None
    with pytest.raises(Refused, match="is still running"):
        content_of(workspace.store, [run], whole=False)
    os.close(lock)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_a_signature_is_checked_by_the_allowed_signers(
    workspace: Workspace, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("vendor", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name], check=True)
        Path(f"{name}.signers").write_text(f"{name}@example.org {Path(f'{name}.pub').read_text()}")
    run = workspace.run(result_json(3))
    assert export(options(workspace=str(workspace.folder), runs=[run.id], output="a.zip", sign="vendor")) == 0
    assert verify(options(runs=["a.zip"], signers="vendor.signers")) == 0
    assert "Signed by vendor@example.org with the ED25519 key SHA256:" in capsys.readouterr().out
    assert verify(options(runs=["a.zip"])) == 0
    assert "Whose key that is stays open" in capsys.readouterr().out
    assert verify(options(runs=["a.zip"], signers="stranger.signers")) == 1
    assert "stranger.signers has no line for that key" in capsys.readouterr().out
    export(options(workspace=str(workspace.folder), runs=[run.id], output="plain.zip"))
    assert verify(options(runs=["plain.zip"], signers="vendor.signers")) == 1

    def other_item(value: dict[str, Any]) -> None:
        value["predicate"]["configuration"][1]["annotations"] = {}

    rewritten(Path("a.zip"), other_item)
    assert verify(options(runs=["evil.zip"])) == 1
    assert "The signature is not valid" in capsys.readouterr().out
    with pytest.raises(Refused, match="nowhere does not exist: name an SSH key"):
        export(options(workspace=str(workspace.folder), runs=[run.id], output="b.zip", sign="nowhere"))
    with pytest.raises(Refused, match="cannot sign with"):
        export(options(workspace=str(workspace.folder), runs=[run.id], output="b.zip", sign="a.zip"))
    assert not Path("b.zip").exists() and not list(elsewhere.glob(".llmval*"))


def test_names_lead_to_one_place(workspace: Workspace, elsewhere: Path) -> None:
    run = workspace.run(result_json(3))
    with Sources(workspace.folder) as sources:
        for name in (run.id, "last", "1.1", str(run.folder), f"{workspace.folder}:1.1"):
            source, found = sources.run(name)
            assert source.own and found.id == run.id, name
        assert sources.half(f"{run.folder}:with") == (sources.own.store, f"{run.id}:with")
        with pytest.raises(Refused, match="does not exist"):
            sources.run("/nowhere/a.zip")
        Path("1.1").write_text("a file whose name is a step's number")
        assert sources.run("1.1")[1].id == run.id
        Path("x.tar.gz").write_bytes(b"\x1f\x8b")
        with pytest.raises(Refused, match="no archive of llmval export"):
            sources.run("x.tar.gz")
    assert (workspace.folder / RUNS_FOLDER).is_dir()


class _Stream(io.StringIO):
    def __init__(self, live: bool) -> None:
        super().__init__()
        self._live = live

    def isatty(self) -> bool:
        return self._live


@pytest.mark.parametrize("live", [True, False])
def test_a_long_export_says_how_far_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    monkeypatch.setattr(pack, "PART", 1000)
    run = workspace.run(result_json(3))
    (run.folder / "logs" / "main.stdout.log").write_text("line of a log\n" * 1000)
    content = content_of(workspace.store, [run], whole=True)
    seconds = itertools.count(0, 1)
    out = _Stream(live)
    progress = Progress(content.bytes, out, clock=lambda: float(next(seconds)))
    heard: list[tuple[str, int]] = []

    def hear(name: str, done: int) -> None:
        heard.append((name, done))
        progress.report(name, done)

    write_archive(content, workspace.folder.parent / "long.zip", None, hear)
    progress.clear()
    assert [done for _, done in heard] == sorted(done for _, done in heard) and heard[-1][1] < content.bytes
    assert sum(name.endswith("main.stdout.log") for name, _ in heard) > 10, "also between the parts of one file"
    text = out.getvalue()
    assert "searched for secrets and packed; artifacts/" in text
    if live:
        assert text.startswith("\r\x1b[K0 B of ") and text.endswith("\r\x1b[K") and "\n" not in text
    else:
        lines = text.splitlines()
        assert "\x1b" not in text and 0 < len(lines) <= len(heard) // 10 + 1
