"""`help TOPIC`: prints a section of the documents, so that there is one text for each thing."""

import argparse
import re
import textwrap
from typing import NamedTuple

from llmval_tui.console.options import print_object
from llmval_tui.console.parser import EXIT_CODES, parser
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.paths import bundled

WIDTH = 80


class Topic(NamedTuple):
    """A section of a document."""

    about: str
    document: str = ""  # in docs/
    heading: str = ""


TOPICS = {
    "lists": Topic("how an item of a list is read", "checklists.md", "How an item is read"),
    "comment": Topic("what the llmval comment of an item can say", "checklists.md", "Naming the action"),
    "commands": Topic("what a command in a list may be", "checklists.md", "What a command may be"),
    "review": Topic("what is asked before the first run", "checklists.md", "Before the first run"),
    "settings": Topic("the TOML file beside a list", "checklists.md", "Site settings"),
    "criteria": Topic("how to demand something of a result", "checklists.md", "Criteria"),
    "metrics": Topic("the names of metrics for criteria", "tools.md", "Metrics for criteria"),
    "servers": Topic("items that start, load and end a server", "checklists.md", "Servers"),
    "plan": Topic("what a plan does with each item", "checklists.md", "What a plan will do"),
    "torch": Topic("which Python the runners get", "how_to/without_internet.md", "Which torch it takes"),
    "cache": Topic("where the bundle unpacks itself", "how_to/without_internet.md", "Where it unpacks itself"),
    "containers": Topic("command lines for Docker, pyxis, enroot, Apptainer", "how_to/without_internet.md",
                        "In a container"),
    "exit-codes": Topic("what the exit code says"),
}  # fmt: skip


def help_topic(options: argparse.Namespace) -> int:
    """Print a topic, the help of a command, or the list of both."""
    commands = _commands(parser())
    if options.topic is None:
        return _print_topics(options, commands)
    if options.topic in commands:
        commands[options.topic].print_help()
        return ExitCode.PASSED
    if options.topic not in TOPICS:
        from difflib import get_close_matches

        near = get_close_matches(options.topic, [*TOPICS, *commands], 1)
        hint = f"did you mean llmval help {near[0]}?" if near else "llmval help lists them."
        raise Refused(f"there is no topic {options.topic!r}: {hint}")
    text = topic_text(options.topic)
    if options.json:
        print_object("help", topic=options.topic, text=text)
    else:
        print(text)
    return ExitCode.PASSED


def _commands(main: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (one for one in main._actions if isinstance(one, argparse._SubParsersAction))
    return dict(found.choices)


def _print_topics(options: argparse.Namespace, commands: dict[str, argparse.ArgumentParser]) -> int:
    if options.json:
        print_object("help", topics={name: topic.about for name, topic in TOPICS.items()}, commands=list(commands))
        return ExitCode.PASSED
    width = max(len(name) for name in TOPICS)
    print("\n".join(f"{name:<{width}}  {topic.about}" for name, topic in TOPICS.items()))
    print(f"\nllmval help COMMAND shows the options and examples of a command:\n{_filled(' '.join(commands))}")
    return ExitCode.PASSED


def topic_text(name: str) -> str:
    """The text of a topic for a terminal.

    Raises:
        Refused: the installation does not have the document.
    """
    topic = TOPICS[name]
    if not topic.document:
        return EXIT_CODES.replace("exit codes: ", "").replace(" · ", "\n")
    try:
        text = (bundled("docs") / topic.document).read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"this installation has no {topic.document} ({error.strerror}): reinstall llmval.") from error
    found = _section(text, topic.heading)
    if found is None:
        raise Refused(f"{topic.document} has no section “{topic.heading}”: reinstall llmval.")
    return f"{topic.heading}\n\n{_plain(found)}"


def _section(text: str, heading: str) -> str | None:
    """What stands between a heading of the second level and the next one; a fenced block has no headings."""
    lines: list[str] | None = None
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            if lines is not None:
                break
            lines = [] if line == f"## {heading}" else None
        elif lines is not None:
            lines.append(line)
    return None if lines is None else "\n".join(lines).strip()


def _plain(markdown: str) -> str:
    """Markdown for a terminal: paragraphs filled, links as their texts; code and tables as they are."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    shown = []
    for part in parts:
        if part.startswith("```"):
            shown.append(textwrap.indent("\n".join(part.splitlines()[1:-1]), "    "))
            continue
        text = re.sub(r"(?<!!)\[([^\]]+)\]\([^)]*\)", r"\1", part).replace("**", "")
        shown += [_block(block) for block in re.split(r"\n\s*\n", text.strip()) if block]
    return "\n\n".join(shown)


def _block(block: str) -> str:
    if block.startswith("|"):
        return _table(block)
    if block.startswith("- "):
        return "\n".join(_filled(item, "  ") for item in re.split(r"\n(?=- )", block))
    return _filled(block)


def _table(block: str) -> str:
    """A table as one entry a row: the first cell, and the others indented below it."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in block.splitlines()]
    entries = []
    for cells in rows[2:]:
        first, *rest = (cell.strip().replace("\\|", "|") for cell in cells)
        entries.append("\n".join([_filled(first, "  "), *(_filled(cell, "    ", "    ") for cell in rest if cell)]))
    return "\n".join(entries)


def _filled(text: str, later: str = "", first: str = "") -> str:
    one_line = " ".join(text.split())
    return textwrap.fill(
        one_line, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
