"""Help, completion, topics and man page: each shows every option that a command heeds, and nothing is out of date."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from llmval_tui.cli import find_command, main
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.completion import script
from llmval_tui.console.parser import parser, value_options
from llmval_tui.console.topics import TOPICS, topic_text

ROOT = Path(__file__).parents[2]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(found.choices)


def shown_options(command: argparse.ArgumentParser) -> set[str]:
    """The long options that the help of a command shows."""
    return {
        name
        for action in command._actions
        if action.help != argparse.SUPPRESS
        for name in action.option_strings
        if name.startswith("--")
    }


def test_every_command_has_examples_and_its_common_options() -> None:
    common = {action.option_strings[0].lstrip("-") for action in subparsers()["open"]._action_groups[-1]._group_actions}
    for command in COMMANDS.values():
        assert set(command.common.split()) <= common, command.name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_help_of_a_command_fits_on_a_screen(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parser(command)._actions[-1].choices[command].format_help()  # type: ignore[index]
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: llmval {command}") and "examples:" in lines


@pytest.mark.parametrize("line", [line for command in COMMANDS.values() for line, _ in command.examples])
def test_every_example_is_understood(line: str) -> None:
    evaluated = re.fullmatch(r'eval "\$\((.+)\)"', line)
    words = shlex.split(evaluated[1] if evaluated else re.split(r" [>|] ", line)[0])
    assert words[0] == "llmval"
    parser().parse_args(find_command(words[1:], COMMANDS, value_options))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_completes(shell: str) -> None:
    text = script(parser(), shell)
    for name, command in subparsers().items():
        assert name in text
        for option in shown_options(command):
            wanted = f"-l {option.removeprefix('--')}" if shell == "fish" else option
            assert wanted in text, f"{name} {option}"
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (["run", "--pre"], ["--preset"]),
        (["run", "--preset", ""], ["smoke"]),
        (["rep"], ["report"]),
        (["completion", "z"], ["zsh"]),
        (["new", "node"], ["node_acceptance"]),
        (["help", "crit"], ["criteria"]),
        (["status", "--the"], []),
    ],
)
def test_bash_completes(tmp_path: Path, typed: list[str], wanted: list[str]) -> None:
    words = " ".join(f"'{word}'" for word in ["llmval", *typed])
    code = f"""{script(parser(), "bash")}
COMP_WORDS=({words}); COMP_CWORD={len(typed)}
"$(complete -p llmval | sed -E 's/.*-F ([^ ]+).*/\\1/')" llmval "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash"], input=code, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert [word.strip() for word in done.stdout.split()] == wanted, done.stderr


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_every_topic_has_a_text_for_a_terminal(name: str) -> None:
    text = topic_text(name)
    assert len(text) > 60
    code = re.compile(r"^    |`|^\S+$")  # code, and entries of tables, are as they are
    assert all(len(line) <= 80 for line in text.splitlines() if not code.search(line))
    assert "](" not in text


def test_help_explains_topics_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0 and "criteria" in capsys.readouterr().out
    assert main(["help", "run"]) == 0 and "--fail-fast" in capsys.readouterr().out
    assert main(["help", "exit-codes"]) == 0 and "3 inconclusive or invalid" in capsys.readouterr().out
    assert main(["help", "critera"]) == 2 and "llmval help criteria" in capsys.readouterr().err


def test_the_man_page_has_every_option() -> None:
    """`make man` writes it."""
    page = (ROOT / "docs" / "llmval.1").read_text().replace("\\-", "-")
    for name, command in subparsers().items():
        assert f"llmval {name}" in page, "run make man"
        assert {option for option in shown_options(command) if option not in page} == set(), f"{name}: run make man"
    known = set().union(*(shown_options(command) for command in subparsers().values())) | {"--version"}
    assert set(re.findall(r"\\fB(--[a-z-]+)", page)) <= known, "run make man"


@pytest.mark.parametrize("line", ["status --js", "runs --outcom fail", "--reado"])
def test_options_are_not_abbreviated(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script with an abbreviation would mean something else after the next option that begins so."""
    assert main(line.split()) == 2
    command = line.split()[0] if not line.startswith("-") else "open"
    assert f"; llmval {command} --help lists the options." in capsys.readouterr().err


def test_attach_says_that_ctrl_c_stops_the_plan() -> None:
    """`console/follow.py` does so: a person who wants to look only must know before."""
    assert "Ctrl-C stops it (llmval watch only looks)" in dict(COMMANDS["attach"].examples)["llmval attach"]
