"""What `--help` shows of each command: two examples, and those of the common options that it heeds."""

from typing import NamedTuple

EXIT_CODES = (
    "exit codes: 0 all passed · 1 something failed · 2 usage or refused · 3 inconclusive or invalid · 130 interrupted"
)
_PLACE = "workspace checklist"
_RUN = "gpus runner-python"
_SCREEN = "theme interval charts mouse ascii"


class Usage(NamedTuple):
    """The help of one command."""

    examples: tuple[tuple[str, str], tuple[str, str]]  # a command line and what it does
    common: str  # names of common options, separated by blanks


USAGE = {
    "open": Usage(
        (
            ("llmval", "the dashboard on the list of this folder"),
            ("llmval --replay 20261126T224645Z-1.2-2a2399", "play back a run"),
        ),
        f"{_PLACE} readonly {_RUN} {_SCREEN}",
    ),
    "run": Usage(
        (
            ("llmval run --all --dry-run", "say what each item would do; start nothing"),
            ("llmval run 1.2 4.1", "run two items, judge them and tick them"),
        ),
        f"{_PLACE} readonly {_RUN} ascii json",
    ),
    "review": Usage(
        (
            ("llmval review node7.md", "walk through the open questions"),
            ("llmval review node7.md --set qps=4", "give the value of the placeholder <qps>"),
        ),
        f"{_PLACE} readonly {_RUN} json",
    ),
    "status": Usage(
        (
            ("llmval status", "the state of every item and what its tick rests on"),
            ("llmval status --json", "the same for a program"),
        ),
        f"{_PLACE} readonly ascii json",
    ),
    "fleet": Usage(
        (
            ("llmval fleet", "the nodes of the newest run on several nodes"),
            ("llmval fleet --nodes n[1-64] --json", "64 nodes without a run, for a program"),
        ),
        "workspace ascii json",
    ),
    "attach": Usage(
        (
            ("llmval attach", "follow the plan that is running; Ctrl-C ends only the following"),
            ("llmval attach --json", "wait for its end, and print its results"),
        ),
        f"{_PLACE} ascii json",
    ),
    "cancel": Usage(
        (
            ("llmval cancel", "stop the plan and all that it runs"),
            ("llmval cancel 2a2399", "stop one run, by a part of its id"),
        ),
        "workspace checklist readonly json",
    ),
    "tick": Usage(
        (
            ('llmval tick 2.4 --note "PyTorch report 12345 filed"', "tick item 2.4"),
            ('llmval tick 2.4 --note "closed by them" --json', "add a second note"),
        ),
        f"{_PLACE} readonly json",
    ),
    "accept": Usage(
        (
            ("llmval accept 2a2399", "accept the change that this run proposes"),
            ("llmval accept 2a2399 --link https://example.org/report", "give the link that it needs"),
        ),
        f"{_PLACE} readonly json",
    ),
    "verify": Usage(
        (
            ("llmval verify", "hash the evidence of every tick again"),
            ("llmval verify acceptance.zip", "check an archive, anywhere"),
        ),
        f"{_PLACE} readonly ascii json",
    ),
    "doctor": Usage(
        (
            ("llmval doctor", "what this node has, and what is missing"),
            ("llmval doctor --checkpoint /models/llama-3.1-8b", "whether the runners can serve it"),
        ),
        "workspace runner-python ascii json",
    ),
    "new": Usage(
        (
            ("llmval new", "the names of the ready lists"),
            ("llmval new node_acceptance", "write that list and its documents; replace nothing"),
        ),
        "workspace readonly json",
    ),
    "demo": Usage(
        (
            ("llmval demo", "the dashboard on a workspace of its own, with a tiny model"),
            ("llmval demo --headless --dir /tmp/demo", "its load test alone, without a terminal"),
        ),
        f"readonly {_RUN} {_SCREEN} json",
    ),
    "report": Usage(
        (
            ("llmval report", "the newest run of each item, in report.html"),
            ("llmval report acceptance.zip -o verdicts.xml", "of an archive, as JUnit"),
        ),
        f"{_PLACE} readonly json",
    ),
    "compare": Usage(
        (
            ("llmval compare 2a2399 7be01f", "what the second run does better or worse"),
            ("llmval compare 2a2399 7be01f -o change.html", "the same as a page"),
        ),
        f"{_PLACE} readonly json",
    ),
    "runs": Usage(
        (
            ("llmval runs", "every run: item, when, duration, outcome, figures"),
            ("llmval runs --outcome fail --last 5", "the newest five that failed"),
        ),
        "workspace checklist ascii json",
    ),
    "history": Usage(
        (
            ("llmval history ttft_p99_ms", "a figure over the runs of this workspace"),
            ("llmval history ttft_p99_ms node1.zip node2.zip", "over two archives"),
        ),
        "workspace checklist ascii json",
    ),
    "export": Usage(
        (
            ("llmval export --all", "every run in one archive"),
            ("llmval export 2a2399 -o node7.zip --sign ~/.ssh/id_ed25519", "one run, signed"),
        ),
        "workspace checklist readonly json",
    ),
    "watch": Usage(
        (
            ("llmval watch", "a line for whatever happens, until Ctrl-C"),
            ("llmval watch --every 60", "a progress line each minute"),
        ),
        f"{_PLACE} ascii json",
    ),
    "locate": Usage(
        (
            ("llmval locate runners", "the folder of the runners"),
            ("llmval locate config --json", "where config.toml belongs"),
        ),
        "workspace json",
    ),
    "completion": Usage(
        (
            (
                'eval "$(llmval completion bash)"',
                "in this shell or ~/.bashrc; with zsh, after compinit",
            ),
            ("llmval completion fish | source", "in this fish, or in config.fish"),
        ),
        "",
    ),
    "help": Usage(
        (
            ("llmval help", "the topics"),
            ("llmval help criteria", "how a criterion is written"),
        ),
        "",
    ),
}


def epilog_of(command: str) -> str:
    """The examples, which stand below the options, for 80 columns."""
    examples = USAGE[command].examples
    width = max(len(line) for line, _ in examples)
    beside = all(width + len(about) <= 74 for _, about in examples)
    lines = [f"  {line:<{width}}  {about}" if beside else f"  {line}\n      {about}" for line, about in examples]
    return "\n".join(["examples:", *lines])


def is_shown(command: str, option: str) -> bool:
    """Whether the help of a command shows this common option (`--gpus`); every command takes all of them."""
    return option.lstrip("-") in USAGE[command].common.split()
