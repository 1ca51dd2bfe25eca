"""Names of nodes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.fleet.node_list import expand, fold, parse_nodes
from llmval_tui.foundation.errors import Refused


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[01-03,7]", ["n01", "n02", "n03", "n7"]),
        ("n[1,3]-ib,m1 m2", ["n1-ib", "n3-ib", "m1", "m2"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[1, 3]-ib, m1", ["n1-ib", "n3-ib", "m1"]),
        ("n1\nn2\n", ["n1", "n2"]),
        ("n1:8,m[1-2]:4", ["n1", "m1", "m2"]),
    ],
)
def test_a_list_is_expanded_in_its_order(text, names):
    assert parse_nodes(text) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the node list “” has no name"),
        ("fe80::1", "give an IPv6 address a name in ~/.ssh/config"),
        ("n[1-", "bracket too many"),
        ("n[3-1]", "is not a range"),
        ("n[a-c]", "is not a range"),
        ("n1,n1", "names n1 twice"),
        ("-oProxyCommand=x", "not the name of a node"),
        ("n1;reboot", "not the name of a node"),
        ("n[1-99999]", "more than 10000"),
        ("n[1-9999][1-9999][1-9999]", "more than 10000"),
        (f"n[1-{'9' * 5000}]", "more than 10000"),
        (f"n[{'x' * 5000}]", "x…” in the node list"),
        ("fe80::1", "not the name of a node"),
        ("root@n1", "ssh/config"),
        ("n" * 300, "not the name of a node"),
        ("./no-such-file", "cannot be read"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_sentence(text, words, tmp_path):
    with pytest.raises(Refused, match=words):
        parse_nodes(text, tmp_path)


def test_a_hostfile_may_have_slots_and_comments(tmp_path):
    (tmp_path / "hosts").write_text("# the rack\nn1 slots=8\n\nn2  # spare\nm[1-2]\n")
    assert parse_nodes("./hosts", tmp_path) == ["n1", "n2", "m1", "m2"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1:8\nn2:8\n", ["n1", "n2"]),  # MPICH
        ("n1 slots = 8 max_slots=16\r\nn2\tslots=8\r\n", ["n1", "n2"]),  # Open MPI, written elsewhere
        ("\ufeffn1 8\nn2 8\n", ["n1", "n2"]),
        ("n1 n2 n3\n", ["n1", "n2", "n3"]),  # no name is dropped
        ("n1, n2\nn[3, 5] slots=4\n", ["n1", "n2", "n3", "n5"]),
    ],
)
def test_hostfiles_of_other_programs_are_read(text, names, tmp_path):
    (tmp_path / "hosts").write_text(text)
    assert parse_nodes("./hosts", tmp_path) == names


@pytest.mark.parametrize("line", ["rank 0=n1 slot=0", "n1 ansible_host=10.0.0.1", "- n1", "[gpu]", "; n1"])
def test_a_line_that_means_something_else_is_refused(line, tmp_path):
    (tmp_path / "hosts").write_text(f"{line}\n")
    with pytest.raises(Refused, match="in the node list"):
        parse_nodes("./hosts", tmp_path)


def test_a_group_needs_clustershell(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="group of ClusterShell"):
        parse_nodes("@gpu")
    (tmp_path / "nodeset").write_text('#!/bin/sh\n[ "$2" = @gpu ] && echo n1 n2 && exit\necho "no group" >&2; exit 1\n')
    (tmp_path / "nodeset").chmod(0o755)
    assert parse_nodes("@gpu") == ["n1", "n2"]
    with pytest.raises(Refused, match="no group"):
        parse_nodes("@other")


@given(st.lists(st.tuples(st.sampled_from(["n", "gpu-", "x0y"]), st.integers(0, 1200)), min_size=1, unique=True))
def test_a_folded_list_expands_to_itself(parts):
    names = [f"{prefix}{number}" for prefix, number in parts]
    assert expand(fold(names)) == names


def test_neighbours_are_folded():
    assert fold(["n1", "n2", "n3", "m1"]) == "n[1-3],m1"
    assert fold(["n08", "n09", "n10"]) == "n[08-10]"
