"""The definition of a stall."""

from llmval_runners.compile_study.watch.progress import Progress


def test_one_rank_that_moves_keeps_all_alive() -> None:
    progress = Progress(10.0)
    for now in range(0, 40, 5):
        progress.observe(0, "waits", "compile", float(now))
        progress.observe(1, now, "compile", float(now))
        assert not progress.stalled(float(now))
    progress.observe(1, 35, "compile", 46.0)
    assert progress.stalled(46.0) and progress.idle(1, 46.0) == 11.0 and progress.idle(0, 46.0) == 46.0


def test_ranks_that_have_ended_are_not_waited_for() -> None:
    progress = Progress(10.0)
    progress.observe(0, 1, "done", 0.0)
    progress.observe(1, 1, "compile", 0.0)
    assert progress.unfinished == [1]
    progress.mark_ended(1)
    assert not progress.stalled(100.0)
