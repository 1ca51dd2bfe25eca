"""Where the torchrun agents of one launch meet: a loopback port on one node, or an address that all nodes reach.

Over several nodes torchrun trusts its arguments. With a loopback address, or one that a node cannot resolve, each node
waits for the others until a timeout, or forms a world of its own. So the address is checked before anything starts.
"""

import argparse
import fcntl
import ipaddress
import os
import socket
import struct
import uuid

DEFAULT_PORT = 29500  # torchrun's --master-port
JOIN_S = 300  # how long an agent waits for the others
_SIOCGIFADDR = 0x8915


class NoRendezvous(Exception):
    """The arguments make no launch; the message says what to write."""


def one_node(args: argparse.Namespace) -> None:
    """Meet on a free loopback port of this node."""
    args.standalone = True
    args.rdzv_backend, args.rdzv_endpoint, args.rdzv_id = "c10d", "localhost:0", str(uuid.uuid4())
    args.local_addr = args.local_addr or "127.0.0.1"


def node_count(nnodes: str) -> int:
    """The number of nodes of `--nnodes N` or `N:N`.

    Raises:
        NoRendezvous: it is not a number, or a range.
    """
    low, _, high = nnodes.partition(":")
    if not low.isdecimal() or int(low) < 1 or high not in ("", low):
        raise NoRendezvous(
            f"--nnodes {nnodes} is not one number: a validation needs to know how many nodes it ran on; write "
            "--nnodes N."
        )
    return int(low)


def several_nodes(args: argparse.Namespace, nodes: int) -> None:
    """Check where the agents of several nodes meet, and complete what they must not guess.

    The backends `static` (`--node-rank` and an address: rank 0 is on node 0) and `c10d` (`--rdzv-id` and an address:
    any order) are known. Gloo gets the interface of the route to that address: it would otherwise look up the host's
    name, which many nodes cannot resolve.

    Raises:
        NoRendezvous: there is no address, it does not resolve, it is a loopback address, or there is no id.
    """
    if args.standalone:
        raise NoRendezvous(
            f"--standalone is for one node, and --nnodes is {nodes}: write --rdzv-endpoint HOST:PORT instead."
        )
    if args.rdzv_backend not in ("static", "c10d"):
        raise NoRendezvous(f"--rdzv-backend {args.rdzv_backend} is not known here: use c10d or static.")
    static = args.rdzv_backend == "static"
    host, port = _endpoint(args)
    address = checked_address(host, port)
    if static and not 0 <= args.node_rank < nodes:
        raise NoRendezvous(
            f"--node-rank {args.node_rank} is not below --nnodes {nodes}: number the nodes from 0 to {nodes - 1}."
        )
    if not static and args.rdzv_id == "none":
        raise NoRendezvous(
            "--rdzv-id is missing: without it, another launch on the same port joins this one; write the same new "
            "word on every node."
        )
    args.rdzv_endpoint = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    own = own_address(address)
    key = "timeout" if static else "join_timeout"
    conf = [part for part in (args.rdzv_conf or "").split(",") if part]
    names = {part.partition("=")[0] for part in conf}
    conf += [f"{key}={JOIN_S}"] if key not in names else []
    # torch looks up this host's own name for that. It stops if the name does not resolve, and finds no host at all if
    # the name is a loopback address, as Debian writes it into /etc/hosts.
    if not static and "is_host" not in names:
        conf.append(f"is_host={int(own == address and _is_free(address, port))}")
    args.rdzv_conf = ",".join(conf)
    args.local_addr = args.local_addr or own
    interface = interface_of(own)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def _endpoint(args: argparse.Namespace) -> tuple[str, int]:
    text = args.rdzv_endpoint
    if not text and args.rdzv_backend == "static" and args.master_addr not in (None, "127.0.0.1", "localhost"):
        text = f"{args.master_addr}:{args.master_port or DEFAULT_PORT}"
    if not text:
        raise NoRendezvous(
            "several nodes need an address at which they meet: write --rdzv-endpoint HOST:PORT with the first node."
        )
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(DEFAULT_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise NoRendezvous(f"--rdzv-endpoint {text} has no port from 1 to 65535: write HOST:PORT.")
    return host.strip("[]"), int(port)


def checked_address(host: str, port: int) -> str:
    """The address of a host that other nodes can reach.

    Raises:
        NoRendezvous: it does not resolve, or is this machine only.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoRendezvous(
            f"the rendezvous host {host} does not resolve on this node ({error}): use a name that every node "
            "resolves, or an address."
        ) from error
    address = str(found[0][4][0])
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_loopback or parsed.is_unspecified:
        raise NoRendezvous(
            f"the rendezvous host {host} is {address} on this node, which no other node can reach: use the address of "
            "the network between the nodes."
        )
    return address


def _is_free(address: str, port: int) -> bool:
    """Whether no other agent of this machine holds the port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def own_address(towards: str) -> str:
    """The address that this node uses on the way to another one; nothing is sent.

    Raises:
        NoRendezvous: there is no route.
    """
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError as error:
            raise NoRendezvous(
                f"this node has no route to the rendezvous host {towards} ({error.strerror}): check its network."
            ) from error
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """The network interface with this IPv4 address; None if none has it."""
    if ":" in address:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
