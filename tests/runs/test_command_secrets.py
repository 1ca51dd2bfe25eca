"""Secrets in a command: the process gets them, no file of the run folder keeps them."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from llmval_tui.foundation import redaction
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs import client
from llmval_tui.runs.command_secrets import FILE, MASK, keep_secrets, with_secrets
from llmval_tui.runs.records import Command, FrozenScript
from llmval_tui.runs.store import Run

SECRET = "correct-horse-battery"


def commands() -> list[Command]:
    script = FrozenScript("main.sh", f"export HF_TOKEN={SECRET}\n", "0")
    return [
        Command("main", ["serve", "--token", SECRET, "--port", "1"], f"HF_TOKEN={SECRET} serve --token {SECRET}",
                env={"HF_TOKEN": SECRET, "MODE": "fast"}, script=script),
        Command("main2", ["true"], "true"),
    ]  # fmt: skip


def test_the_record_has_a_mask_and_only_the_owner_may_read_the_words(tmp_path: Path) -> None:
    shown = keep_secrets(tmp_path, commands())
    assert SECRET not in repr(shown)
    assert shown[0].argv == ["serve", "--token", MASK, "--port", "1"]
    assert shown[0].env == {"HF_TOKEN": MASK, "MODE": "fast"}
    assert shown[1] == commands()[1]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    restored = with_secrets(tmp_path, shown[0])
    assert (restored.argv, restored.env) == (commands()[0].argv, commands()[0].env)
    assert with_secrets(tmp_path, shown[1]) == shown[1]
    assert MASK == redaction.MASK


def test_a_command_without_a_secret_needs_no_file(tmp_path: Path) -> None:
    assert keep_secrets(tmp_path, commands()[1:]) == commands()[1:]
    assert not (tmp_path / FILE).exists()


def test_words_that_are_gone_are_not_replaced_by_their_mask(tmp_path: Path) -> None:
    shown = keep_secrets(tmp_path, commands())
    (tmp_path / FILE).unlink()
    with pytest.raises(Refused, match="run the item again"):
        with_secrets(tmp_path, shown[0])


def test_a_run_gets_its_secrets_and_keeps_none(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """The hash of what the process received is in its output; the secret itself is in no file of the run."""
    words = ["bash", "-c", 'printf %s "$HF_TOKEN" > got']
    run = make_run(Command("c0", words, f"HF_TOKEN={SECRET} x", env={"HF_TOKEN": SECRET}))
    before = {path.name: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert [name for name, data in before.items() if SECRET.encode() in data] == [FILE]
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    client.start(run)
    assert client.wait(run, 180)
    assert (tmp_path / "got").read_text() == SECRET
    left = [path.name for path in run.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []
    assert json.loads((run.folder / "run.json").read_text())["commands"][0]["env"] == {"HF_TOKEN": MASK}
