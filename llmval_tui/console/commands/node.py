"""Commands about this node, several nodes, and llmval itself."""

import argparse

from llmval_tui.console.commands.command import Command


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="also say whether the runners can serve this Hugging Face folder"
    )
    parser.add_argument("--nodes", metavar="LIST", help="check these nodes over ssh, and compare them: n[1-64]")


def _fleet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="run id or a part of it (default: the newest run on several nodes)"
    )
    parser.add_argument("--figure", metavar="NAME", help="compare the nodes by this figure, such as ttft_sched_p99_ms")
    parser.add_argument("--nodes", metavar="LIST", help="without a run: watch these nodes, such as n[1-64]")
    parser.add_argument(
        "--exporter",
        metavar="URL",
        help="dcgm-exporter of each node: http://{node}:9400/metrics, or http://localhost:9400/metrics by ssh",
    )


def _locate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["artifacts", "config", "runners", "themes"], help="the folder to print")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that reads the script")


def _help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help="a topic or a command; without it, all are listed")


NODE = (
    Command(
        "doctor",
        "doctor:doctor",
        "check what this node has and what is missing",
        "workspace runner-python ascii json",
        (
            ("llmval doctor", "what this node has, and what is missing"),
            ("llmval doctor --checkpoint /models/llama-3.1-8b", "whether the runners can serve it"),
        ),
        _doctor,
    ),
    Command(
        "fleet",
        "fleet:fleet",
        "show all nodes of a run on one screen",
        "workspace ascii json",
        (
            ("llmval fleet", "the nodes of the newest run on several nodes"),
            ("llmval fleet --nodes n[1-64] --json", "64 nodes without a run, for a program"),
        ),
        _fleet,
    ),
    Command(
        "locate",
        "status:locate",
        "print where a folder of llmval is",
        "workspace json",
        (
            ("llmval locate runners", "the folder of the runners"),
            ("llmval locate config --json", "where config.toml belongs"),
        ),
        _locate,
    ),
    Command(
        "completion",
        "completion:completion",
        "print the completion script of a shell",
        "",
        (
            ('eval "$(llmval completion bash)"', "in this shell or ~/.bashrc; with zsh, after compinit"),
            ("llmval completion fish | source", "in this fish, or in config.fish"),
        ),
        _completion,
    ),
    Command(
        "help",
        "topics:help_topic",
        "explain a topic or a command",
        "",
        (
            ("llmval help", "the topics"),
            ("llmval help criteria", "how a criterion is written"),
        ),
        _help,
    ),
)
