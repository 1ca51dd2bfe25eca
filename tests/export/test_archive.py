"""An archive of runs: what is in it, what it says of its runs, and who signed it."""

import errno
import io
import itertools
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.console.export import Progress, export
from llmval_tui.console.report import compare, report
from llmval_tui.console.verify import verify
from llmval_tui.console.watch import watch
from llmval_tui.export import pack
from llmval_tui.export.open import Archive
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.sources import Sources
from llmval_tui.export.statement import FAILED, PASSED, WARNED
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.foundation.redaction import redact
from llmval_tui.runs.records import Outcome, State, Status
from llmval_tui.runs.store import RUNS_FOLDER
from tests.export.archives import names_in, options, rewritten, small
from tests.report.conftest import Workspace, result_json

TOKEN = "hf_" + "a1B2c3D4" * 4


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
