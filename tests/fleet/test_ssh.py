"""Nodes over ssh, with ssh replaced by a script that runs the command here."""

import io
import json
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.fleet import ssh
from llmval_tui.fleet.heartbeat import Pulse
from llmval_tui.fleet.launch import FleetLaunch, Launcher, LaunchKind, launch_of
from llmval_tui.fleet.manifest import write_manifest
from llmval_tui.fleet.ssh import extract
from llmval_tui.runs.command_secrets import FILE, PARAMETERS

FAKE = """#!/bin/bash
# the last two words: node and command; the folder of a node that shares nothing is REMOTE/NODE/<path>
node=${@: -2:1}; command=${@: -1}
[ -f %(folder)s/$node.fails ] && { cat %(folder)s/$node.fails >&2; exit 255; }
exec bash -c "$(printf %%s "$command" | sed "s#%(run)s#%(folder)s/$node#g")"
"""


@pytest.fixture
def remote(tmp_path: Path, make_fleet_run):
    """A run on n1 and n2 that share nothing with this machine; `remote/NODE` stands for the node's run folder."""
    run = make_fleet_run(launcher=Launcher.SSH, launch={"ssh": [str(tmp_path / "fake_ssh")]})
    folder = tmp_path / "remote"
    folder.mkdir()
    (tmp_path / "fake_ssh").write_text(FAKE % {"folder": folder, "run": run.folder})
    (tmp_path / "fake_ssh").chmod(0o755)
    return run, folder, ssh.Nodes(run, launch_of(run.intent), ["n1", "n2"], {"n1": False, "n2": False})


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (255, "ssh: Could not resolve hostname n9: Name or service not known", "n9 does not resolve"),
        (255, "Host key verification failed.", "the host key of n9 is not known"),
        (255, "root@n9: Permission denied (publickey).", "asks for a password"),
        (255, "ssh: connect to host n9 port 22: Connection refused", "n9 cannot be reached"),
        (127, "bash: /opt/v/bin/python: No such file or directory", "n9 has no llmval at /opt/v/bin/python"),
        (1, "/opt/v/bin/python: No module named llmval_tui", "n9 has no llmval at /opt/v/bin/python"),
        (
            1,
            "python: Error while finding module spec for 'llmval_tui.fleet.probe' (No module named 'llmval_tui.fleet')",
            "n9 has another llmval than this one",
        ),
        # The reason is not always the first words that look like one.
        (255, "Warning: Identity file /k not accessible: No such file or directory.\nConnection refused", "be reached"),
        (255, 'Load key "/k": Permission denied\nssh: connect to host n9 port 22: Connection timed out', "be reached"),
        (255, "Received disconnect: Too many authentication failures\nDisconnected", "asks for a password"),
        (255, "Access denied by pam_slurm_adopt: you have no active jobs\nConnection closed", "use --launcher slurm"),
        (1, "mkdir: cannot create directory '/w': No such file or directory", "n9 refused (mkdir: cannot"),
        (126, "bash: line 1: /opt/v/bin/python: Permission denied", "n9 refused (bash: line 1"),
        (1, "\x1b[31m" + "x" * 5000, "xxx…)"),
    ],
)
def test_why_a_node_cannot_be_used_is_one_sentence_with_a_remedy(code, said, words):
    done = subprocess.CompletedProcess(["ssh"], code, b"", f"{said}\r\n".encode())
    reason = ssh.why_not("n9", done, SITE)
    assert words in reason and "\n" not in reason and ":" in reason
    assert "ssh n9" not in reason, "the command by hand has the words of the site's own ssh"
    if "reached" in words or "host key" in words or "password" in words:
        assert "ssh -F 'a b' n9" in reason


SITE = FleetLaunch(Launcher.SSH, LaunchKind.EACH, 2, "/opt/v/bin/python", ssh=["ssh", "-F", "a b"])


@pytest.mark.parametrize(
    ("site", "start"),
    [
        ([], ["ssh"]),
        (["ssh", "-o", "BatchMode=no"], ["ssh"]),
        (["env", "A=1", "/usr/bin/ssh", "-oBatchMode=no", "-F", "x"], ["env", "A=1", "/usr/bin/ssh"]),
        (["site-login", "--fast"], ["site-login", "--fast"]),
    ],
)
def test_no_option_of_the_site_lets_ssh_ask_for_a_password(site: list[str], start: list[str]) -> None:
    launch = FleetLaunch(Launcher.SSH, LaunchKind.EACH, 2, "/opt/v/bin/python", ssh=site)
    line = ssh.words(launch, "n1", "true")
    assert line[: len(start) + 2] == [*start, "-o", "BatchMode=yes"], "ssh takes the first value that it finds"
    assert line[-2:] == ["n1", "true"] and all(word in line for word in site)


def part(folder: Path, node: str) -> tuple[Path, str]:
    own = folder / node / "nodes" / node
    (own / "results").mkdir(parents=True)
    (own / "results" / "x.json").write_text('{"a": 1}')
    (own / "verdict.json").write_text("{}")
    return own, write_manifest(own)


def test_what_a_node_wrote_is_fetched_and_its_hashes_are_checked(remote):
    run, folder, nodes = remote
    _, digest = part(folder, "n1")
    assert nodes.fetch("n1", digest) is None
    assert (run.folder / "nodes/n1/results/x.json").read_text() == '{"a": 1}'
    own, digest = part(folder, "n2")
    (own / "results" / "x.json").write_text('{"a": 2}')
    assert "results/x.json of n2 arrived with other bytes" in nodes.fetch("n2", digest)
    assert not (run.folder / "nodes/n2/verdict.json").exists(), "what did not arrive whole is not taken"
    write_manifest(own)
    assert "not the one that the node announced" in nodes.fetch("n2", digest)


def test_secrets_that_came_with_the_intent_do_not_stay_on_a_node(remote):
    run, folder, nodes = remote
    assert nodes.forget_secrets() == [], "no node is asked if there are none"
    for home in (run.folder, folder / "n1", folder / "n2"):
        home.mkdir(parents=True, exist_ok=True)
        for name in (FILE, PARAMETERS, "main.sh", "env.json"):
            (home / name).write_text("{}")
    (folder / "n2.fails").write_text("Connection refused")
    (said,) = nodes.forget_secrets()
    assert f"still on n2: delete {FILE} and {PARAMETERS} in {run.folder} there" in said
    assert sorted(one.name for one in (folder / "n1").iterdir()) == ["env.json"]
    assert (run.folder / FILE).exists(), "whoever measures again needs them"


def test_nobody_vouches_for_the_verdict_of_an_agent_that_died(remote):
    run, folder, nodes = remote
    part(folder, "n1")
    assert nodes.fetch("n1", None) is None
    assert (run.folder / "nodes/n1/results/x.json").exists() and not (run.folder / "nodes/n1/verdict.json").exists()


AGENT = """#!/bin/bash
# for RUN and NAME of the real agent
for word; do [ -d "$word" ] && run=$word; name=$word; done
echo '{"ended": true, "outcome": "pass", "manifest_sha256": "m"}' >> $run/nodes/$name/heartbeat.jsonl
"""


def test_a_part_whose_agent_was_killed_is_judged_on_its_node(remote, tmp_path):
    """There the files are those that it left. A part that has not begun is not started by it."""
    run, folder, _ = remote
    (tmp_path / "agent").write_text(AGENT)
    (tmp_path / "agent").chmod(0o755)
    launch = replace(launch_of(run.intent), python=str(tmp_path / "agent"))
    nodes = ssh.Nodes(run, launch, ["n1", "n2", "n3"], {"n1": False, "n2": False, "n3": True})
    for name in ("n1", "n2"):
        own, _ = part(folder, name)
        (own / "heartbeat.jsonl").write_text('{"t_ns": 1}\n')
    (folder / "n1/nodes/n1/status.json").write_text("{}")
    found = nodes.judge_there(["n1", "n2", "n3"])
    assert found == {"n1": [{"ended": True, "outcome": "pass", "manifest_sha256": "m"}], "n2": [{"t_ns": 1}]}


def test_a_node_that_cannot_be_reached_is_said(remote):
    _, folder, nodes = remote
    (folder / "n2.fails").write_text("ssh: connect to host n2 port 22: No route to host")
    assert "could not be fetched (ssh: connect to host n2" in nodes.fetch("n2", None)
    assert "n2 cannot be reached" in nodes.look_for_leftovers(["n2"])["n2"]


def test_a_node_whose_disk_hangs_holds_nobody_up(remote, monkeypatch, tmp_path):
    """Its sshd lives, so ssh itself would wait for ever."""
    _, folder, nodes = remote
    part(folder, "n1")
    monkeypatch.setattr(ssh, "STALLED_S", 0.5)
    (tmp_path / "fake_ssh").write_text("#!/bin/bash\nprintf begun; exec sleep 1000\n")
    assert "the files of n1 could not be fetched (nothing came for 0.5 s)" in (nodes.fetch("n1", None) or "")


def test_files_that_end_in_the_middle_are_not_taken(remote, tmp_path):
    run, folder, nodes = remote
    _, digest = part(folder, "n1")
    (tmp_path / "fake_ssh").write_text(
        (tmp_path / "fake_ssh").read_text().replace("exec bash -c", "bash -c") + " | head -c 2000\n"
    )
    assert nodes.fetch("n1", digest) is not None
    assert not (run.folder / "nodes/n1/verdict.json").exists() and not list(run.folder.glob("nodes/.*fetched"))


def test_a_node_with_an_older_llmval_is_told_to_get_the_same(remote, tmp_path):
    run, _, _ = remote
    answer = json.dumps({"v": 0, "llmval": "0.0.1", "hostname": "n1"})
    (tmp_path / "fake_ssh").write_text(f"#!/bin/bash\necho welcome; echo '{answer}'\n")
    found = ssh.ask(run.folder, launch_of(run.intent), ["n1"], None)
    assert "n1 has llmval 0.0.1" in found.silent["n1"] and "install the same version" in found.silent["n1"]


def test_the_heartbeat_comes_over_the_connection(remote):
    run, folder, nodes = remote
    own, _ = part(folder, "n1")
    (own / "heartbeat.jsonl").write_text(json.dumps({"t_ns": 1}) + "\n")
    pulses = {"n1": Pulse(run.folder / "nodes/n1")}
    try:
        for turn in range(3_000):  # at most a minute on a machine that is ten times slower
            nodes.hear(pulses, float(turn))
            if turn and pulses["n1"].seen_s is not None and not (own / "done").exists():
                (own / "done").touch()
                with (own / "heartbeat.jsonl").open("a") as file:
                    file.write(json.dumps({"ended": True, "outcome": "pass", "manifest_sha256": "m"}) + "\n")
            if pulses["n1"].ended:
                break
            subprocess.run(["sleep", "0.01"], check=True)
    finally:
        nodes.close()
    assert (pulses["n1"].outcome, pulses["n1"].manifest_sha256) == ("pass", "m")


@pytest.mark.parametrize("name", ["../x", "{outside}/x", "a/../../x"])
@pytest.mark.parametrize("with_filter", [True, False])
def test_nothing_that_a_node_sends_lies_outside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, with_filter: bool
) -> None:
    if not with_filter:  # as in Python 3.11.0 to 3.11.3
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filter")
    data, outside = io.BytesIO(), tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for one in ("logs/good", name.format(outside=outside)):
            member = tarfile.TarInfo(one)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"1"))
    data.seek(0)
    (tmp_path / "part").mkdir()
    with tarfile.open(fileobj=data, mode="r|") as archive, suppress(tarfile.TarError):
        extract(archive, tmp_path / "part")
    assert (tmp_path / "part/logs/good").read_bytes() == b"1"
    assert not (tmp_path / "x").exists() and not (outside / "x").exists()
