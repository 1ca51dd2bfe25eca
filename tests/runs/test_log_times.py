"""When the bytes of a log were written."""

from pathlib import Path

from llmval_tui.runs.log_times import LogTimes, LogTimesWriter, times_path
from llmval_tui.runs.store import Run


def test_a_line_has_the_time_of_the_first_look_that_saw_it(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "main.rank0.stdout.log"
    writer, times = LogTimesWriter(Run(tmp_path)), LogTimes(log)
    assert times.at(0) is None, "nothing is noted yet"
    log.write_bytes(b"one\n")
    writer.note(0.0, 100_000_000_000)
    log.write_bytes(b"one\ntwo\n")
    writer.note(0.5, 100_500_000_000)  # too early for another note
    writer.note(1.0, 101_000_000_000)
    writer.note(2.0, 102_000_000_000)  # it has not grown
    times.poll()
    assert [times.at(offset) for offset in (0, 3, 4, 7, 8)] == [100.0, 100.0, 101.0, 101.0, None]
    assert times_path(log).stat().st_size == 32
    assert [one.path for one in Run(tmp_path).logs()] == [log], "the notes are no log"
    with log.open("ab") as out:
        out.write(b"three\n")
    writer.note_now(103_000_000_000)
    with times_path(log).open("ab") as out:
        out.write(b"cut off")
    times.poll()
    assert times.at(8) == 103.0 and times.at(99) is None


def test_a_log_that_begins_anew_and_notes_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "main.stdout.log"
    writer, times = LogTimesWriter(Run(tmp_path)), LogTimes(log)
    log.write_bytes(b"x" * 100)
    writer.note(0.0, 1_000_000_000)
    log.write_bytes(b"new\n")
    writer.note(2.0, 2_000_000_000)
    with log.open("ab") as out:
        out.write(b"more\n")
    writer.note(4.0, 4_000_000_000)
    times.poll()
    assert times.at(5) == 4.0 and times.at(50) is None
    times_path(log).unlink()
    times_path(log).mkdir()
    log.write_bytes(b"x" * 200)
    writer.note(6.0, 6_000_000_000)  # a folder is in its place: the run goes on
