"""Commands that read what runs have left."""

import argparse

from llmval_tui.console.commands.command import PLACE, Command, count, seconds


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run id, a part of it, or a step number; a folder or an archive (default: the newest run of each step)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="output file (default: report.html; all others go to standard output)"
    )
    parser.add_argument(
        "--format",
        choices=["html", "md", "json", "junit", "prometheus"],
        help="default: from the file's suffix (.html, .md, .json, .xml, .prom), else html",
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "a",
        metavar="A",
        help="run id, folder or archive (of several runs: ARCHIVE:RUN); half of a paired run: RUN:with, RUN:without",
    )
    parser.add_argument("b", metavar="B", help="the run to compare with A")
    parser.add_argument(
        "--anyway", action="store_true", help="show the figures, without a verdict, if the runs are not comparable"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="output file (default: standard output)")
    parser.add_argument(
        "--format", choices=["text", "md", "html", "json"], help="default: from the file's suffix, else text"
    )


def _sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="run id, folder or archive (default: the runs of the workspace)"
    )
    parser.add_argument("--item", metavar="STEP", help="only runs of this step: its number, or a part of its text")


def _runs(parser: argparse.ArgumentParser) -> None:
    _sources(parser)
    parser.add_argument(
        "--outcome",
        choices=["pass", "fail", "inconclusive", "invalid", "refused", "none"],
        help="only these; none: not judged",
    )
    parser.add_argument("--host", metavar="NAME", help="only runs of this host")
    parser.add_argument("--since", metavar="DATE", help="only runs since this date or time (UTC)")
    parser.add_argument("--last", type=count, metavar="N", help="only the newest N")


def _history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("metric", nargs="?", metavar="METRIC", help="its name or a part of it (default: list them)")
    _sources(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run id, a part of it, or a step number (its newest)")
    parser.add_argument("--all", action="store_true", help="every run that has ended, and the record of all ticks")
    parser.add_argument("-o", "--output", metavar="FILE", help="the archive (default: llmval-HOST-TIME.zip)")
    parser.add_argument("--sign", metavar="KEY", help="sign the manifest with this SSH key, by ssh-keygen -Y sign")
    parser.add_argument("--dry-run", action="store_true", help="say what the archive would hold; write nothing")


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run id, folder or archive; of an ended run, its records are printed (default: all that is running)",
    )
    parser.add_argument(
        "--every", type=seconds, default=10.0, metavar="S", help="seconds between progress lines (default: 10)"
    )


RECORDS = (
    Command(
        "report",
        "report:report",
        "write runs into one file: verdicts, figures, plots, evidence",
        f"{PLACE} readonly json",
        (
            ("llmval report", "the newest run of each item, in report.html"),
            ("llmval report acceptance.zip -o verdicts.xml", "of an archive, as JUnit"),
        ),
        _report,
    ),
    Command(
        "compare",
        "report:compare",
        "show what is better or worse in run B than in run A",
        f"{PLACE} readonly json",
        (
            ("llmval compare 2a2399 7be01f", "what the second run does better or worse"),
            ("llmval compare 2a2399 7be01f -o change.html", "the same as a page"),
        ),
        _compare,
    ),
    Command(
        "runs",
        "runs:runs",
        "list the runs: item, when, duration, outcome, figures",
        f"{PLACE} ascii json",
        (
            ("llmval runs", "every run: item, when, duration, outcome, figures"),
            ("llmval runs --outcome fail --last 5", "the newest five that failed"),
        ),
        _runs,
    ),
    Command(
        "history",
        "runs:history",
        "plot a metric over runs and hosts",
        f"{PLACE} ascii json",
        (
            ("llmval history ttft_p99_ms", "a figure over the runs of this workspace"),
            ("llmval history ttft_p99_ms node1.zip node2.zip", "over two archives"),
        ),
        _history,
    ),
    Command(
        "export",
        "export:export",
        "write runs into one archive, to be verified anywhere",
        f"{PLACE} readonly json",
        (
            ("llmval export --all", "every run in one archive"),
            ("llmval export 2a2399 -o node7.zip --sign ~/.ssh/id_ed25519", "one run, signed"),
        ),
        _export,
    ),
    Command(
        "watch",
        "watch:watch",
        "print what happens as plain lines, for pipes and screen readers",
        f"{PLACE} ascii json",
        (
            ("llmval watch", "a line for whatever happens, until Ctrl-C"),
            ("llmval watch --every 60", "a progress line each minute"),
        ),
        _watch,
    ),
)
