"""Where the agents of a launch over several nodes meet is checked before anything starts."""

import argparse
import os
import socket

import pytest
from llmval_runners.process import rendezvous
from llmval_runners.process.rendezvous import NoRendezvous, node_count, several_nodes


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    """A network of fixed names, and a node whose own address is 10.0.0.2 on eth7."""
    names = {"n1": "10.0.0.1", "n2": "10.0.0.2", "localhost": "127.0.0.1", "vm": "127.0.1.1", "any": "0.0.0.0"}

    def resolve(host, port, **_):
        if host not in names and not host[0].isdigit():
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names.get(host, host), port))]

    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(rendezvous, "own_address", lambda towards: "10.0.0.2")
    monkeypatch.setattr(rendezvous, "interface_of", lambda address: "eth7")
    monkeypatch.setattr(rendezvous, "_is_free", lambda address, port: True)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "x")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")


def arguments(**given):
    known = {
        "standalone": False, "rdzv_backend": "static", "rdzv_endpoint": "", "rdzv_id": "none", "rdzv_conf": "",
        "node_rank": 0, "master_addr": None, "master_port": None, "local_addr": None,
    }  # fmt: skip
    return argparse.Namespace(**{**known, **given})


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("4", 4), ("2:2", 2)])
def test_the_number_of_nodes(text, count):
    assert node_count(text) == count


@pytest.mark.parametrize("text", ["1:2", "0", "two", ""])
def test_a_range_of_nodes_is_refused(text):
    with pytest.raises(NoRendezvous, match="not one number"):
        node_count(text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "need an address"),
        ({"master_addr": "127.0.0.1"}, "need an address"),
        ({"standalone": True}, "--standalone is for one node"),
        ({"rdzv_endpoint": "localhost:29500"}, "no other node can reach"),
        ({"rdzv_endpoint": "vm:29500"}, "127.0.1.1 on this node, which no other node can reach"),
        ({"rdzv_endpoint": "any:29500"}, "no other node can reach"),
        ({"rdzv_endpoint": "nowhere:29500"}, "does not resolve"),
        ({"rdzv_endpoint": "n1:0"}, "no port"),
        ({"rdzv_endpoint": "n1:29500", "node_rank": 2}, "not below --nnodes 2"),
        ({"rdzv_endpoint": "n1:29500", "rdzv_backend": "etcd"}, "not known here"),
        ({"rdzv_endpoint": "n1:29500", "rdzv_backend": "c10d"}, "--rdzv-id is missing"),
    ],
)
def test_what_makes_no_launch_is_refused(given, words):
    with pytest.raises(NoRendezvous, match=words):
        several_nodes(arguments(**given), 2)


def test_a_fixed_order_of_nodes():
    args = arguments(rdzv_endpoint="n1:4711", node_rank=1)
    several_nodes(args, 2)
    assert (args.rdzv_endpoint, args.local_addr) == ("10.0.0.1:4711", "10.0.0.2")
    assert args.rdzv_conf == f"timeout={rendezvous.JOIN_S}"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7", "never lo: the other node must reach it"


def test_any_order_of_nodes_and_the_host_is_the_one_with_the_address():
    other, own = arguments(rdzv_endpoint="n1:4711"), arguments(rdzv_endpoint="n2:4711")
    for args in (other, own):
        args.rdzv_backend, args.rdzv_id = "c10d", "word"
        several_nodes(args, 2)
    assert other.rdzv_conf.endswith("is_host=0") and own.rdzv_conf.endswith("is_host=1")


def test_what_the_operator_chose_for_gloo_stays(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    several_nodes(arguments(master_addr="n1", master_port=4711), 2)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
