"""Where a runner's words and record go: the file, standard output, and the file of events."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llmval_runners.process.arguments import count, natural, positive, share
from llmval_runners.process.errors import Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import check_writable, make_folder, write_json
from llmval_runners.process.output import OutputFile, Report, move_aside
from llmval_runners.process.rank_main import check_place
from llmval_runners.process.screen import WIDTH, Screen, figure

RUNNERS = Path(__file__).parents[3] / "runners"
TINY = ["--model", "tiny", "--device", "cpu"]
LOAD_TEST = [str(RUNNERS / "inference_server_load_test.py"), *TINY, "--target-qps", "4", "--duration", "2"]


def run(*argv: str, shell: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *argv]
    command = ["bash", "-c", f'"$@" {shell}', "bash", *words] if shell else words
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=600, check=False)


def test_an_earlier_record_is_moved_aside_and_a_partial_one_goes_with_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    file = OutputFile(path)
    file.write_partial({"n": 1})
    assert json.loads(file.partial.read_text()) == {"n": 1}
    file.write({"n": 2})
    assert not file.partial.exists() and file.moved is None
    file.release()
    again = OutputFile(path)
    again.write({"n": 3})
    again.release()
    assert again.moved is not None and json.loads(again.moved.read_text()) == {"n": 2}
    assert json.loads(path.read_text()) == {"n": 3}
    assert sorted(found.name for found in path.parent.iterdir()) == sorted([again.moved.name, "r.json"])


def test_a_second_run_on_the_same_file_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("{}")
    first = OutputFile(path)
    with pytest.raises(Refused, match=r"another run writes .*r\.json now: pass another --output-json"):
        OutputFile(path)
    first.release()
    OutputFile(path).release()
    assert [found.name for found in tmp_path.iterdir()] == ["r.json"] and path.read_text() == "{}"


def test_two_earlier_records_of_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for text in ("1", "2"):
        path.write_text(text)
        os.utime(path, (1e9, 1e9))
        move_aside(path)
        path.unlink()
    assert sorted(found.read_text() for found in tmp_path.glob("r.earlier-*.json")) == ["1", "2"]


@pytest.mark.parametrize("place", ["afile/r.json", "folder"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "afile").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match="--output-json"):
        OutputFile(tmp_path / place)


def test_events_that_cannot_be_written_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    with pytest.raises(Refused, match=r"LLMVAL_EVENTS=.* cannot be written .*unset LLMVAL_EVENTS"):
        EventLog(0, path=str(tmp_path / "afile" / "events"))
    for runner in ("inference_server_load_test.py", "engine_benchmark.py"):
        ended = run(str(RUNNERS / runner), *TINY, LLMVAL_EVENTS=str(tmp_path / "afile" / "events"))
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1 and ended.stderr.startswith("refused: LLMVAL_EVENTS=")


@pytest.mark.parametrize("shell", [">&-", ">/dev/full", "| true; exit ${PIPESTATUS[0]}"])
def test_a_standard_output_that_nobody_reads_loses_no_record(tmp_path: Path, shell: str) -> None:
    path = tmp_path / "r.json"
    ended = run(*LOAD_TEST, "--output-json", str(path), shell=shell)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == json.loads(path.read_text())["llmval"]["verdict"]["exit_code"]


def test_the_record_on_standard_output_is_all_that_is_printed_there() -> None:
    ended = run(*LOAD_TEST, "--json", "-")
    record = json.loads(ended.stdout)
    assert ended.returncode == record["llmval"]["verdict"]["exit_code"]
    lost = run(*LOAD_TEST, "--json", "-", shell=">/dev/full")
    assert lost.returncode == 1, "the record was for standard output and is lost"


@pytest.mark.parametrize(
    "command",
    [[*LOAD_TEST, "--json", "-"], [str(RUNNERS / "power_efficiency_analyzer.py"), "no.json", "--output", "-"]],
    ids=["load test", "analyzer"],
)
def test_a_record_for_a_closed_standard_output_is_refused_before_the_measurement(command: list[str]) -> None:
    closed = run(*command, shell=">&-")
    assert closed.returncode == 2 and closed.stderr.count("\n") == 1
    assert "prints the record on standard output, which is closed: pass a file" in closed.stderr


def test_quiet_prints_the_verdict_alone() -> None:
    ended = run(*LOAD_TEST, "--quiet")
    assert ended.stdout.count("\n") == 1 and ended.stderr == ""


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog(0, path="", report=Report(quiet=True))
    log.phase("load")
    log.say("a row")
    log.warning("code", "what happened")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "warning: what happened\n")


def test_a_screen_is_at_most_eighty_columns_wide_and_breaks_no_path() -> None:
    screen = Screen("failed: " + "why " * 40)
    columns = ("a", "b", "c", "d", "e")
    screen.table("title", columns, [("a label that is longer than its column", ["1,234,567.89"] * 5)])
    screen.table("none", columns, [])
    screen.row("label", *["part"] * 30, None)
    screen.row("nothing")
    lines = screen.text().splitlines()
    assert "none" not in screen.text() and lines[-1].split() == ["nothing", "n/a"]
    assert all(len(line) <= WIDTH for line in lines if "label that" not in line)
    long = "/a/very/long/path/" + "x" * 100
    screen.row("record", long)
    assert any(long in line for line in screen.text().splitlines())


def test_an_unknown_figure_is_not_zero() -> None:
    assert [figure(None), figure(0.0), figure(-0.001), figure(1234.5)] == ["n/a", "0.00", "0.00", "1,234.50"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(2, "ended by SIGINT"), (9, "ended by SIGKILL"), (255, "ended by signal 255"), (None, "ended by a signal")],
)
def test_a_signal_is_named(number: int | None, words: str) -> None:
    assert ended_by(number) == words


def test_what_is_not_a_file_is_never_replaced(tmp_path: Path) -> None:
    """As root, a record written to /dev/null would replace the device by a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.json").symlink_to(tmp_path / "pipe")
    for path, kind in (
        (Path("/dev/null"), "a device"),
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "link.json", "pipe"),
    ):
        with pytest.raises(Refused, match=kind):
            check_writable(path, "--output-json")
    with pytest.raises(OSError, match="it is a pipe, not a file"):
        write_json(tmp_path / "link.json", {})
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link.json").is_symlink()


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "x.json").symlink_to("there/x.json")
    for value in (1, 2):
        write_json(tmp_path / "x.json", value)
    assert (tmp_path / "x.json").is_symlink() and (tmp_path / "there" / "x.json").read_text() == "2\n"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="File name too long"):
        check_writable(tmp_path / ("x" * 250), "--output-json")  # the file beside it that is locked has a longer name
    with pytest.raises(Refused, match="File name too long"):
        check_writable(tmp_path / ("x" * 300), "--output-json")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "abc", "RANK": "0"}, "WORLD_SIZE is 'abc'"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "1", "RANK": "3"}, "rank 3 of 1"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR is not set"),
    ],
)
def test_a_wrong_place_among_ranks_is_refused(environment, words, monkeypatch, capsys) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        check_place()
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_a_terminal_without_our_signs_loses_the_sign_and_not_the_run() -> None:
    code = "from llmval_runners.process.output import guard_streams, say; guard_streams(); say('a … b')"
    done = run("-c", code, PYTHONPATH=str(RUNNERS), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "a ? b\n")


@pytest.mark.parametrize(("kind", "text"), [(natural, "0.5"), (count, "0x10"), (positive, "inf"), (share, "much")])
def test_a_wrong_number_is_named_in_plain_words(kind, text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a (whole |finite )?number"):
        kind(text)


@pytest.mark.parametrize("runner", ["collective_bandwidth.py", "engine_benchmark.py"])
def test_a_runner_that_starts_torchrun_needs_no_standard_output(runner: str) -> None:
    done = run(str(RUNNERS / runner), "--no-such-flag", shell=">&-")
    assert done.returncode == 2 and "refused" in done.stderr
    done = run(str(RUNNERS / runner), WORLD_SIZE="abc")
    assert done.returncode == 2 and "WORLD_SIZE is 'abc'" in done.stderr


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, words in (("file", "is a file"), ("file/x", "Not a directory"), ("x" * 300, "File name too long")):
        for only_check in (False, True):
            if (folder, only_check) != ("file/x", True):
                with pytest.raises(Refused, match=words):
                    make_folder(tmp_path / folder, only_check=only_check)
    make_folder(tmp_path / "a" / "b", only_check=True)
    assert not (tmp_path / "a").exists()
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("rank", "local", "told"), [(0, None, True), (0, "0", True), (8, "0", True), (9, "1", False), (1, None, False)]
)
def test_the_first_rank_of_each_node_tells_what_its_node_does(tmp_path, monkeypatch, rank, local, told):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    log = EventLog(rank, path=str(tmp_path / "events"))
    log.metrics({"completed_qps": 7.0})
    log.error("x", "every rank says what is wrong")
    log.close()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "events").read_text().splitlines()]
    assert kinds == (["metrics", "error"] if told else ["error"])
