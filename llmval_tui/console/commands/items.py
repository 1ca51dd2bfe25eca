"""Commands about the items of a list, and what their ticks rest on."""

import argparse

from llmval_tui.console.commands.command import PLACE, Command


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", action="store_true", help="also show the nodes of each step's newest run")


def _tick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", metavar="STEP", help="number (1.2) or text of a step")
    parser.add_argument("--note", required=True, metavar="TEXT", help="why the step is done; kept in docs/TODO.md")


def _accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or a part of it")
    parser.add_argument("--link", metavar="URL", help="link to your report, if the run asks for one")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run id, folder or archive (default: the evidence of every tick)"
    )
    parser.add_argument(
        "--signers",
        metavar="FILE",
        help="one of these must have signed: allowed signers, see ssh-keygen(1) (default: allowed_signers beside "
        "config.toml, if it exists)",
    )


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="which list; without it, their names are printed")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where in the workspace (default: NAME.md, or the operator's path)"
    )


ITEMS = (
    Command(
        "status",
        "status:status",
        "show the state of every step",
        f"{PLACE} readonly ascii json",
        (
            ("llmval status", "the state of every item and what its tick rests on"),
            ("llmval status --json", "the same for a program"),
        ),
        _status,
    ),
    Command(
        "tick",
        "status:tick",
        "tick a step yourself, with a note",
        f"{PLACE} readonly json",
        (
            ('llmval tick 2.4 --note "PyTorch report 12345 filed"', "tick item 2.4"),
            ('llmval tick 2.4 --note "closed by them" --json', "add a second note"),
        ),
        _tick,
    ),
    Command(
        "accept",
        "status:accept",
        "accept the change that a run proposes, or give the link it needs",
        f"{PLACE} readonly json",
        (
            ("llmval accept 2a2399", "accept the change that this run proposes"),
            ("llmval accept 2a2399 --link https://example.org/report", "give the link that it needs"),
        ),
        _accept,
    ),
    Command(
        "verify",
        "verify:verify",
        "check that the evidence of every tick, or of an archive, is unchanged",
        f"{PLACE} readonly ascii json",
        (
            ("llmval verify", "hash the evidence of every tick again"),
            ("llmval verify acceptance.zip", "check an archive, anywhere"),
        ),
        _verify,
    ),
    Command(
        "new",
        "new:new",
        "write a ready list and its documents into the workspace",
        "workspace readonly json",
        (
            ("llmval new", "the names of the ready lists"),
            ("llmval new node_acceptance", "write that list and its documents; replace nothing"),
        ),
        _new,
    ),
)
