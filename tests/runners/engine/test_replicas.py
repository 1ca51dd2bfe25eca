"""What the leaders of several replicas tell each other. All of them share one store in this process."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from llmval_runners.engine import replicas
from llmval_runners.engine.replicas import Replicas
from llmval_runners.process.errors import RankLost, Refused
from llmval_runners.process.placement import Placement
from torch import distributed


@pytest.fixture
def leaders(monkeypatch):
    """Makes unconnected leaders of replicas with two ranks each, and closes them."""
    store = distributed.HashStore()  # type: ignore[attr-defined]  # torch has no export for it
    monkeypatch.setattr(replicas, "_connected", lambda prefix: distributed.PrefixStore(prefix, store))
    monkeypatch.setattr(replicas, "BEAT_S", 0.01)
    monkeypatch.setattr(replicas, "POLL_S", 0.001)
    made: list[Replicas] = []

    def make(count: int) -> list[Replicas]:
        made.extend(Replicas(Placement(index, count, index, 1, 1)) for index in range(count))
        for index, one in enumerate(made):
            one.node = f"n{index}"
        return made

    yield make
    for one in made:
        one._closed.set()


def at_once(leaders: list[Replicas], what: Callable[[Replicas], object]) -> list[object]:
    with ThreadPoolExecutor(len(leaders)) as pool:
        return list(pool.map(what, leaders))


def fails(what: Callable[[], object]) -> Exception:
    """The error that comes sooner or later."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            what()
        except (RankLost, Refused) as error:
            return error
        time.sleep(0.01)
    raise AssertionError("nothing was noticed")


def test_one_replica_connects_to_nothing(monkeypatch):
    monkeypatch.setattr(replicas, "_connected", lambda prefix: pytest.fail("connected"))
    alone = Replicas(Placement(1, 4, 1, 4, 4))
    alone.start()
    alone.meet("x")
    alone.tell("x", 1)
    alone.end("why")
    alone.check()
    assert alone.take_early("x") == {} and alone.store_for_ranks() is None
    alone.close()


def test_leaders_meet_and_rank_0_takes_what_they_give(leaders, monkeypatch):
    monkeypatch.setattr(replicas, "PART_BYTES", 3)
    came = threading.Barrier(3)

    def work(one: Replicas) -> object:
        one.start()
        came.wait(60)
        one.meet("window")
        if one.place.rank:
            one.give("samples", b"0123456789" * one.place.rank)
            return one.hear("saved")
        taken = [one.take("samples", other) for other in one.others()]
        one.tell("saved", {"by": 0})
        return taken

    found = at_once(leaders(3), work)
    assert found == [[b"0123456789", b"0123456789" * 2], {"by": 0}, {"by": 0}]


def test_the_first_to_end_is_named_and_all_others_end(leaders):
    made = leaders(3)
    at_once(made, lambda one: one.start())
    made[2].end("ended by SIGINT")
    made[1].end("it lost another rank")
    for one in made[:2]:
        error = fails(one.check)
        assert isinstance(error, RankLost) and str(error) == "replica 2 (rank 2 on n2): ended by SIGINT"
    made[2].check()  # it knows its own reason


def test_whoever_waits_for_a_replica_that_has_ended_stops_waiting(leaders):
    made = leaders(2)
    at_once(made, lambda one: one.start())
    made[1].end("the cache does not fit", refused=True)
    with pytest.raises(Refused, match=r"replica 1 \(rank 1 on n1\): the cache does not fit"):
        made[0].meet("window")


def test_what_was_measured_comes_with_an_early_end(leaders, monkeypatch):
    monkeypatch.setattr(replicas, "EARLY_S", 60.0)
    made = leaders(2)
    at_once(made, lambda one: one.start())
    made[0].end("ended by SIGTERM")
    assert isinstance(fails(made[1].check), RankLost)
    made[1].give("early", b"half a window", asked=False)
    assert made[0].take_early("early") == {1: b"half a window"}


def test_a_silent_replica_is_named(leaders, monkeypatch):
    monkeypatch.setattr(replicas, "SILENT_S", 0.2)
    made = leaders(2)
    at_once(made, lambda one: one.start())
    made[1]._closed.set()  # its process is stopped, or its node has no power
    deadline = time.monotonic() + 60
    while not made[0].over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(RankLost, match=r"replica 1 \(rank 1 on n1\): no sign of life for"):
        made[0].check()


def test_a_store_that_is_gone_is_rank_0s_node(leaders):
    made = leaders(2)
    at_once(made, lambda one: one.start())

    class Gone:
        def __getattr__(self, name: str) -> Callable[..., object]:
            def fail(*_: object) -> object:
                raise RuntimeError("Connection reset by peer\nC++ stack")

            return fail

    made[1]._store = Gone()
    with pytest.raises(RankLost, match=r"the store at rank 0's node does not answer \(Connection reset by peer\)$"):
        made[1].hear("saved")
    made[1].end("why")  # raises nothing


def test_nodes_with_other_ranks_are_refused_by_name(leaders):
    made = leaders(2)
    made[1].place = Placement(1, 2, 0, 2, 1)

    def start(one: Replicas) -> str:
        with pytest.raises(Refused) as refused:
            one.start()
        return str(refused.value)

    for said in at_once(made, start):
        assert str(said).startswith("rank 1 on n1 is one of 2 ranks of its node and shares a replica of 1, and rank 0")


def test_a_node_that_never_comes_is_waited_for_only_so_long(leaders, monkeypatch):
    monkeypatch.setattr(replicas, "JOIN_S", 0.05)
    with pytest.raises(RankLost, match="rank 1 did not answer within 0 s: its own output says why"):
        leaders(2)[0].start()


def test_a_node_that_refuses_to_start_is_named_at_once(leaders, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    made = leaders(2)
    made[1].refuse("8 ranks need 8 GPUs, and 7 can be used")
    with pytest.raises(Refused, match=r"replica 1 \(rank 1 on n1\): 8 ranks need 8 GPUs, and 7 can be used"):
        made[0].start()
