"""The documents: every command in them is understood, every link leads somewhere, every reference page is up to date.

`UPDATE_DOCS=1 pytest tests/packaging/test_documentation.py` writes the pages that are made from the code.
"""
# ruff: noqa: E501  (the pages below have lines as long as the other documents)

import argparse
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.checklist.model import parse
from llmval_tui.cli import find_command
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.parser import EXIT_CODES, parser, value_options
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs import definitions
from llmval_tui.runs.definitions import define

ROOT = Path(__file__).parents[2]
# Not the lab book and the records: they quote what was typed then.
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"),
                *(ROOT / "docs" / "how_to").glob("*.md"), *(ROOT / "docs" / "lists").glob("*.md")])  # fmt: skip
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# What may stand before llmval in a documented line: a container, another host's shell.
_LAUNCHERS = ("docker", "srun", "enroot", "apptainer", "ssh", "watch")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block, and of each block that is indented by four blanks."""
    text = page.read_text()
    yield from ((found[2], found[3]) for found in _FENCE.finditer(text))
    outside = _FENCE.sub("", text)
    yield "", "\n".join(re.findall(r"^    (?! )(.+)$", outside, re.MULTILINE))


def commands() -> list[tuple[str, str]]:
    """Page and line of every documented command; a line that ends with a backslash goes on."""
    found = []
    for page in PAGES:
        for language, text in blocks(page):
            if language not in ("", "bash", "sh", "console"):
                continue
            for line in text.replace("\\\n", " ").splitlines():
                line = re.sub(r"^\s*\$ ", "", line.strip())
                if line and not line.startswith("#"):
                    found.append((str(page.relative_to(ROOT)), line))
    return found


def words_of(line: str) -> list[list[str]]:
    """The words after `llmval` in a line, for each llmval that it starts."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    nested = [inner for word in words if word.startswith("cd ") or " && llmval" in word for inner in words_of(word)]
    starts = [index for index, word in enumerate(words) if re.fullmatch(r"(?:[^:]*/)?llmval(?:-[\d.]+\.pyz)?", word)]
    if not starts or (
        starts[0] and words[0] not in (*_LAUNCHERS, ".", "cd") and "&&" not in words and "python" not in words[0]
    ):
        return nested
    rest = words[starts[-1] + 1 :]
    end = next((index for index, word in enumerate(rest) if word in ("|", ">", "&&", ";", "&")), len(rest))
    return [*nested, rest[:end]]


OURS = sorted({(page, line) for page, line in commands() if words_of(line)})


def test_the_documents_have_commands() -> None:
    assert len(OURS) > 60
    assert {"README.md", "docs/tutorial.md", "docs/how_to/own_list.md"} <= {page for page, _ in OURS}


@pytest.mark.parametrize(("page", "line"), OURS)
def test_a_documented_command_is_understood(page: str, line: str) -> None:
    for words in words_of(line):
        if words not in (["--version"], ["--help"]):
            parser().parse_args(find_command(words, COMMANDS, value_options))


def test_every_documented_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for _, line in commands() for target in re.findall(r"^make ([a-z]+)", line)}
    assert named and named <= targets


def test_every_list_and_setting_in_the_documents_can_be_read(tmp_path: Path) -> None:
    count = 0
    for page in PAGES:
        for language, text in blocks(page):
            if language == "markdown":
                checklist = parse(text.encode(), tmp_path / "list.md")
                count += len(checklist.steps)
            elif language == "toml":
                tomllib.loads(text)
    assert count > 12


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in re.findall(r"(?<!`)\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_no_picture_names_a_folder_of_the_machine_that_drew_it() -> None:
    pictures = sorted((ROOT / "docs/images").rglob("*.svg"))
    assert len(pictures) >= 7
    for picture in pictures:
        assert not re.findall(r"/(?:tmp|home|root|Users)/\S*", picture.read_text()), picture


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    # Lists are offered by `llmval new`, and the operator's documents by their list.
    hidden = {"README.md", "TODO.md", "llm_validation_checklist.md"}
    pages = [page for page in PAGES if (ROOT / "docs") in page.parents and page.parent.name != "lists"]
    missing = [str(page.relative_to(ROOT / "docs")) for page in pages if page.name not in hidden]
    assert [name for name in missing if f"({name})" not in index] == []


def metrics_page() -> str:
    """docs/metrics.md, from the definitions that reports and comparisons use."""
    rows = [(name, define(name)) for name in definitions._BASE]
    for name, text in definitions._LATENCY.items():
        of_all = replace(define(f"{name}_p50_ms"), text=f"percentiles of {text}")
        rows.append((f"{name}_p50_ms, {name}_p99_ms …", of_all))
    for ending, *_ in definitions._COLLECTIVE:
        name = f"all_reduce{ending}" if ending.startswith("_") else ending
        rows.append((f"OPERATION{ending}" if ending.startswith("_") else ending, define(name)))
    table = "\n".join(
        f"| `{name}` | {one.unit} | {one.better or '–'} | {one.text.replace('|', chr(92) + '|')} |"
        for name, one in rows
    )
    return f"""# Metrics

The names are those of verdicts, reports, `llmval history` and `expect="result NAME …"`. The unit is at the end of the name. This page is made from `llmval_tui/runs/definitions.py`.

s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens of one request.

| metric | unit | better is | definition and source |
|---|---|---|---|
{table}

In a paired run each name has the prefix `with_` or `without_`. Other names are defined by the artifact that they come from ([schemas](schemas/README.md)); the results of other tools have the names of
[tools.md](tools.md#metrics-for-criteria). Samples of the hardware are in [telemetry.md](telemetry.md), the gates on a load test in [report.md](report.md#how-a-load-test-is-judged).
"""


def commands_page() -> str:
    """docs/commands.md, from the parser."""
    (subparsers,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    rows = "\n".join(f"| `{name}` | {spec.text} | `{spec.examples[0][0]}` |" for name, spec in COMMANDS.items())
    shown: dict[str, str] = {}
    for command in subparsers.choices.values():
        for action in command._action_groups[-1]._group_actions:
            if action.help != argparse.SUPPRESS and action.help:
                shown.setdefault(", ".join(action.option_strings), action.help)
    options = "\n".join(f"| `{names}` | {text} |" for names, text in shown.items())
    codes = EXIT_CODES.removeprefix("exit codes: ").replace(" · ", ", ")
    return f"""# Commands

`llmval COMMAND --help` has the options and two examples, [llmval.1](llmval.1) all of them, `llmval help TOPIC` explains. `llmval [CHECKLIST]` is `llmval open`. This page is made from the parser.

| command | does | for example |
|---|---|---|
{rows}

Options of most commands, before or after their words:

| option | |
|---|---|
{options}

Exit codes: {codes}. With `--json` every command prints one object ([schemas](schemas/README.md)), also for a refusal: `"ok": false` and a `message`.

Completion: `llmval completion bash`, `zsh` or `fish` prints a script that needs no llmval while the shell completes. For zsh write it to `_llmval` in a folder of `$fpath`.

Environment: `LLMVAL_CACHE` is where the bundle unpacks itself; `XDG_CONFIG_HOME`, `XDG_STATE_HOME` and `XDG_CACHE_HOME` move the settings, the state and the cache; `NO_COLOR` and `COLUMNS` are heeded.
"""


@pytest.mark.parametrize(("name", "render"), [("metrics.md", metrics_page), ("commands.md", commands_page)])
def test_a_page_that_is_made_from_the_code_is_up_to_date(name: str, render) -> None:
    path = ROOT / "docs" / name
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(render())
    assert path.read_text() == render(), "UPDATE_DOCS=1 pytest tests/packaging/test_documentation.py writes it"
    assert all(line == clean_line(line) for line in path.read_text().splitlines())
