"""Where a log has lines with WARN or ERROR."""

from pathlib import Path

from llmval_tui.tui.data.log_file import LogWindowFile
from llmval_tui.tui.data.log_level import Level
from llmval_tui.tui.data.log_lines import lines_before, lines_from
from llmval_tui.tui.data.log_problems import LogProblems
from llmval_tui.tui.data.log_reader import LogRequest


def test_places_are_found_block_by_block_and_in_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    lines = [b"WARN first\n", b"fine\n" * 100_000, b"E0612 03:04:05.1 x] bad\n", b"ValueError: y\n", b"cut ERR"]
    path.write_bytes(b"".join(lines))
    file, problems = LogWindowFile(path), LogProblems()
    file.poll()
    while not problems.feed(file, budget=1 << 16):
        pass
    bad = len(lines[0]) + len(lines[1])
    assert problems.counts == {Level.WARN: 1, Level.ERROR: 2}
    assert problems.after(-1) == 0 and problems.after(0) == bad and problems.after(bad + 30) is None
    assert problems.before(bad) == 0 and problems.before(bad, Level.ERROR) is None
    assert problems.last(5, Level.ERROR) == [bad, bad + len(lines[2])] and problems.first(1, Level.WARN, 1) == [bad]
    with path.open("ab") as out:
        out.write(b"OR\n")
    file.poll()
    assert problems.feed(file) and problems.counts[Level.ERROR] == 3
    path.write_bytes(b"ERROR anew\n")
    file.poll()
    assert problems.feed(file) and problems.counts == {Level.WARN: 0, Level.ERROR: 1}


def test_equal_lines_are_one_and_the_window_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"".join(b"line %d\n" % (number // 10) for number in range(300)))
    file = LogWindowFile(path)
    file.poll()
    window = lines_before(file, file.size, 5, LogRequest("end", 5, fold=True))
    assert [(line.text, line.repeats) for line in window.lines] == [(f"line {n}", 10) for n in range(25, 30)]
    window = lines_from(file, 0, 3, LogRequest("from", 3, fold=True))
    assert [(line.text, line.repeats) for line in window.lines] == [(f"line {n}", 10) for n in range(3)]
    assert file.forward(window.end, 1).lines[0].text == "line 3"
    assert [line.repeats for line in lines_before(file, file.size, 5, LogRequest("end", 5)).lines] == [1] * 5
