"""Every command of the guide is one that llmval understands, and its check without llmval works."""

import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from llmval_tui.cli import find_command
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.parser import parser, value_options
from llmval_tui.export.pack import content_of, write_archive
from tests.report.conftest import Workspace, result_json

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "how_to" / "results_that_travel.md").read_text()
README = (ROOT / "README.md").read_text().split("## Results that travel")[1].split("\n## ")[0]
LINES = re.findall(r"(?m)^    (.+)$", GUIDE + README)
OURS = sorted({line for line in LINES if line.startswith("llmval ")})


@pytest.mark.parametrize("line", OURS)
def test_a_command_of_the_guide_is_understood(line: str) -> None:
    assert len(OURS) > 15
    words = shlex.split(line, comments=True)[1:]
    parser().parse_args(find_command(words, COMMANDS, value_options))


@pytest.mark.skipif(not all(map(shutil.which, ("ssh-keygen", "jq", "sha256sum"))), reason="no ssh-keygen or jq")
def test_the_check_without_llmval(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "ws").mkdir()
    workspace = Workspace(tmp_path / "ws")
    run = workspace.run(result_json(3))
    write_archive(content_of(workspace.store, [run], whole=True), tmp_path / "a.zip", tmp_path / "key")
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        file.extractall(tmp_path / "unpacked")
    signers = f"vendor@example.org {(tmp_path / 'key.pub').read_text()}"
    (tmp_path / "allowed_signers").write_text(signers)
    checks = [line for line in LINES if line.startswith(("ssh-keygen", "jq"))]
    assert len(checks) == 2
    for line in checks:
        subprocess.run(line, shell=True, check=True, cwd=tmp_path / "unpacked", capture_output=True)
    (tmp_path / "unpacked" / "artifacts" / "r1.json").write_text("{}")
    assert subprocess.run(checks[1], shell=True, cwd=tmp_path / "unpacked", capture_output=True).returncode
