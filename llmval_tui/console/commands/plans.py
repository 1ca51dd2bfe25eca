"""Commands that start, follow and stop plans."""

import argparse

from llmval_tui.console.commands.command import PLACE, RUNNERS, SCREEN, Command

_PRESET = "smoke: seconds instead of minutes; only the demo ticks"


def _plan_flags(parser: argparse.ArgumentParser, *more: str) -> None:
    parser.add_argument(
        "--preset",
        choices=["smoke", *more],
        help=_PRESET + ("; none: as written" if more else ""),
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="fit the command to fewer GPUs, and record the change",
    )


def _open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checklist_file",
        nargs="?",
        metavar="CHECKLIST",
        help="Markdown checklist (default: docs/llm_validation_checklist.md)",
    )
    parser.add_argument(
        "--replay",
        metavar="RUN",
        help="play back a recorded run (its id, its folder, or an archive of it) or a telemetry.jsonl",
    )
    _plan_flags(parser, "none")  # `none` switches off the preset of config.toml


def _value_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="the value of a placeholder such as <NAME>"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("steps", nargs="*", metavar="STEP", help="number (1.2) or text of a step")
    parser.add_argument("--section", metavar="N", help="run every unticked step of section N")
    parser.add_argument("--all", action="store_true", help="run every unticked step of the checklist")
    parser.add_argument("--detach", action="store_true", help="return at once; llmval attach shows the progress")
    parser.add_argument("--fail-fast", action="store_true", help="start no further step after one has failed")
    parser.add_argument("--no-tick", action="store_true", help="run and judge, but do not tick")
    parser.add_argument(
        "--yardstick",
        action="store_true",
        help="then compare the servers with our own engine",
    )
    parser.add_argument("--nodes", metavar="LIST", help="run on these nodes: n[1-64], n1,n2, ./hosts or @group")
    parser.add_argument(
        "--launcher",
        choices=["slurm", "ssh"],
        help="what starts the nodes (default: slurm if it is installed and no ssh is set)",
    )
    parser.add_argument(
        "--slurm-option",
        action="append",
        default=[],
        metavar="OPT",
        help="an option of the job: --slurm-option=--partition=gpu",
    )
    parser.add_argument("--same-machine", action="store_true", help="allow several nodes on one machine: a deviation")
    parser.add_argument("--dry-run", action="store_true", help="print what each step would do; start nothing")
    _value_flag(parser)
    parser.add_argument("--skip-unreviewed", action="store_true", help="leave out the steps that have an open question")
    parser.add_argument(
        "--confirm",
        action="append",
        default=[],
        metavar="CODE",
        help="answer yes to the question with this code, once",
    )
    _plan_flags(parser)


def _review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checklist_file", nargs="?", metavar="LIST", help="Markdown checklist")
    _value_flag(parser)
    parser.add_argument(
        "--answer",
        action="append",
        default=[],
        metavar="CODE=DECISION",
        help="answer the open question with this code: run, manual or skip",
    )
    parser.add_argument(
        "--again", action="append", default=[], metavar="STEP", help="forget the answer of this step and ask anew"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the answers into the list as comments, not into the file beside it"
    )


def _cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="run id or a part of it (default: everything that is running)"
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", metavar="DIR", help="workspace of the demo (default: ~/.local/state/llmval/demo)")
    parser.add_argument("--headless", action="store_true", help="no dashboard: run the load test and print the table")
    parser.add_argument(
        "--reset", action="store_true", help="start over: delete the runs of the demo and restore its documents"
    )


PLANS = (
    Command(
        "open",
        "dashboard:dashboard",
        "open the dashboard (the same as llmval [CHECKLIST])",
        f"{PLACE} readonly {RUNNERS} {SCREEN}",
        (
            ("llmval", "the dashboard on the list of this folder"),
            ("llmval --replay 20261126T224645Z-1.2-2a2399", "play back a run"),
        ),
        _open,
    ),
    Command(
        "run",
        "run:run",
        "run steps: execute, judge, tick, record",
        f"{PLACE} readonly {RUNNERS} ascii json",
        (
            ("llmval run --all --dry-run", "say what each item would do; start nothing"),
            ("llmval run 1.2 4.1", "run two items, judge them and tick them"),
        ),
        _run,
    ),
    Command(
        "review",
        "review:review",
        "answer what items ask before their first run",
        f"{PLACE} readonly {RUNNERS} json",
        (
            ("llmval review node7.md", "walk through the open questions"),
            ("llmval review node7.md --set qps=4", "give the value of the placeholder <qps>"),
        ),
        _review,
    ),
    Command(
        "attach",
        "attach:attach",
        "watch the running plan",
        f"{PLACE} ascii json",
        (
            ("llmval attach", "follow the running plan; Ctrl-C stops it (llmval watch only looks)"),
            ("llmval attach --json", "wait for its end, and print its results"),
        ),
    ),
    Command(
        "cancel",
        "attach:cancel",
        "stop one run, or everything that is running",
        f"{PLACE} readonly json",
        (
            ("llmval cancel", "stop the plan and all that it runs"),
            ("llmval cancel 2a2399", "stop one run, by a part of its id"),
        ),
        _cancel,
    ),
    Command(
        "demo",
        "demo:demo",
        "open the dashboard on a demo workspace with a tiny model",
        f"readonly {RUNNERS} {SCREEN} json",
        (
            ("llmval demo", "the dashboard on a workspace of its own, with a tiny model"),
            ("llmval demo --headless --dir /tmp/demo", "its load test alone, without a terminal"),
        ),
        _demo,
    ),
)
