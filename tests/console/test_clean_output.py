"""Nothing that others wrote reaches the terminal as a control sequence or forges a line."""

import io
import json
import re

import pytest

from llmval_tui.console.stdio import CleanStream, clean_output, terminal_of
from llmval_tui.foundation.text import CONTROLS

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\u2028b\x00"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_stream_has_no_control_characters(as_json: bool) -> None:
    target = io.StringIO()
    text = json.dumps({"name": HOSTILE}, ensure_ascii=False) if as_json else HOSTILE
    CleanStream(target, as_json=as_json).write(f"{text}\n\tindented\n")
    written = target.getvalue()
    assert not CONTROLS.search(written.replace("\n", "").replace("\t", ""))
    assert written.endswith("\n\tindented\n")
    if as_json:
        assert json.loads(written.partition("\n")[0])["name"] == HOSTILE


def test_our_own_sequences_reach_the_terminal(capsys) -> None:
    import sys

    with clean_output(as_json=False):
        terminal_of(sys.stdout).write("\x1b[K")
        print("plain \x1b[31mtext")
    assert capsys.readouterr().out == "\x1b[Kplain text\n"


def test_a_refusal_does_not_echo_escape_sequences(workspace) -> None:
    done = workspace.llmval("run", "9.9\x1b[31m\n✓ 1.1 pass", check=2)
    assert "\x1b" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_name_of_evidence_cannot_forge_a_line(workspace) -> None:
    workspace.llmval("run", "1.1", check=0)
    ledger = workspace.store.ledger
    entry = json.loads(ledger.read_text())
    entry["evidence"][0]["path"] = "x\nintact   1.2  artifacts/never_made.json\x1b[8m"
    ledger.write_text(json.dumps(entry) + "\n")
    done = workspace.llmval("verify")
    assert "\x1b" not in done.stdout
    assert not any(re.match(r"intact +1\.2", line) for line in done.stdout.splitlines())


def test_the_text_of_a_gate_is_cleaned(workspace) -> None:
    program = workspace.folder / "ok.py"
    program.write_text("import pathlib; pathlib.Path('artifacts/ok.json').write_text('{}'); raise SystemExit(0)")
    workspace.checklist.write_text("## 1. A\n- [ ] Run: `python ok.py --output-json 'artifacts/ok.json'` \x1b[2Jnow\n")
    done = workspace.llmval("run", "1.1")
    shown = workspace.llmval("status", "--json")
    assert "\x1b" not in done.stdout + done.stderr + shown.stdout
