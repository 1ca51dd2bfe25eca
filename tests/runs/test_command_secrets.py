"""Secrets in a command: the process gets them, no file of the run folder keeps them."""

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.foundation import redaction
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import MASK
from llmval_tui.runs import client
from llmval_tui.runs.command_secrets import (
    FILE,
    PARAMETERS,
    forget_parameters,
    forget_secrets,
    keep_parameters,
    keep_secrets,
    with_secrets,
    write_script,
)
from llmval_tui.runs.create import write_run
from llmval_tui.runs.records import Command, FrozenScript
from llmval_tui.runs.store import RUNS_FOLDER, Run, intact

SECRET = "correct-horse-battery"


def commands() -> list[Command]:
    text = f"export HF_TOKEN={SECRET}\n"
    script = FrozenScript("main.sh", text, hashlib.sha256(text.encode()).hexdigest())
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
    assert replace(restored, display="") == replace(commands()[0], display="")
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


def test_a_script_is_masked_after_the_run_and_still_is_the_one_that_was_frozen(make_run: Callable[..., Run]) -> None:
    text = f'export HF_TOKEN={SECRET}\nprintf %s "$HF_TOKEN" > got\n'
    script = FrozenScript("main.sh", text, hashlib.sha256(text.encode()).hexdigest())
    run = make_run(Command("main", ["bash", "{run}/main.sh"], "bash main.sh", script=script))
    client.start(run)
    assert client.wait(run, 180)
    assert (run.workspace / "got").read_text() == SECRET
    shown = run.intent.commands[0].script
    assert shown is not None and SECRET not in shown.text
    assert (run.folder / "main.sh").read_text() == shown.text
    assert stat.S_IMODE((run.folder / "main.sh").stat().st_mode) == 0o500
    assert intact(run, shown, masked_too=True)
    assert not intact(run, shown)
    with pytest.raises(Refused, match="run the item again"):
        with_secrets(run.folder, run.intent.commands[0])


def test_a_killed_process_leaves_no_script_unmasked(tmp_path: Path) -> None:
    (script,) = (one.script for one in commands() if one.script is not None)
    write_script(tmp_path / script.name, script.text)
    write_script(tmp_path / f".{script.name}", script.text)  # it was killed while it wrote the masked one
    keep_secrets(tmp_path, commands())
    forget_secrets(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [script.name]
    assert SECRET not in (tmp_path / script.name).read_text()
    forget_secrets(tmp_path)


def test_what_an_item_demands_is_known_until_the_run_is_judged(make_run: Callable[..., Run]) -> None:
    intent = make_run(Command("main", ["true"], "true")).intent
    params = {"criteria": [{"text": f"token={SECRET}"}], "number": 1}
    run = write_run(Path(intent.cwd) / RUNS_FOLDER / "another", replace(intent, run_id="another", params=params))
    recorded = json.loads((run.folder / "run.json").read_text())["params"]
    assert recorded == {"criteria": [{"text": f"token={MASK}"}], "number": 1}
    assert stat.S_IMODE((run.folder / PARAMETERS).stat().st_mode) == 0o600
    assert Run(run.folder).intent.params["criteria"] == [{"text": f"token={SECRET}"}]
    forget_parameters(run.folder)
    assert Run(run.folder).intent.params == recorded
    assert keep_parameters(run.folder, {"plain": 1}) == {"plain": 1}
    assert not (run.folder / PARAMETERS).exists()
