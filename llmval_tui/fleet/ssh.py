"""A run's nodes over ssh: asks them, starts their agents detached, follows their heartbeats, fetches what they wrote.

Plain `ssh`, several at a time. clush and pdsh would start the same ssh, and report only the largest exit code.
A connection may break at any time: the agents go on, and the next connection hears of them again.
"""

import json
import re
import select
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from llmval_tui import __version__
from llmval_tui.fleet.heartbeat import HEARTBEAT_FILE, Pulse, lines_of
from llmval_tui.fleet.launch import FleetLaunch
from llmval_tui.fleet.manifest import check_manifest
from llmval_tui.fleet.probe import NodeProbe
from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.command_secrets import FILE, PARAMETERS
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import NODES_FOLDER

# An unknown host key or a password is a refusal, never a question. ssh takes the first value of an option that it
# finds, so this one stands before the site's own words.
_NO_QUESTION = ("-o", "BatchMode=yes")
# A node that does not answer is known after 15 s.
OPTIONS = (
    "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
    "-T",
)  # fmt: skip
# What ssh and shells say on the way to a reason.
_NO_REASON = re.compile(r"(?i)^(?:\S+ )?warning:|^load key |setlocale:|^identity file |^\*\* ")
AT_ONCE = 32
_CALL_S = 60.0
_LEFTOVERS_S = 90.0  # a supervisor that is asked to end its part may have a record to write
_RETRY_S = 3.0
STALLED_S = 120.0  # a node that sends nothing of its files for so long is given up: its disk may hang


def check_program(words: Sequence[str]) -> None:
    """Whether this machine can reach nodes.

    Raises:
        Refused: it has no such ssh.
    """
    if shutil.which(words[0]) is None:
        raise Refused(
            f"{words[0]} is not on PATH, and the nodes are to be reached by it: install it, or correct [fleet]."
        )


def words(launch: FleetLaunch, node: str, command: str) -> list[str]:
    """The command line that runs a shell command on a node. No option of the site's ssh lets it ask for a password."""
    site = list(launch.ssh or ["ssh"])
    after = next((place for place, word in enumerate(site, 1) if PurePosixPath(word).name == "ssh"), len(site))
    return [*site[:after], *_NO_QUESTION, *site[after:], *OPTIONS, node, command]


def call(
    launch: FleetLaunch, node: str, command: str, *, data: bytes | None = None, timeout_s: float = _CALL_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command on a node; never raises for a node that cannot be reached (255, or 124 for no answer)."""
    line = words(launch, node, command)
    source: dict[str, Any] = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(line, capture_output=True, timeout=timeout_s, check=False, **source)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(line, 124, b"", f"no answer within {timeout_s:g} s".encode())
    except OSError as error:
        return subprocess.CompletedProcess(line, 127, b"", f"{line[0]}: {error.strerror}".encode())


def on_all(nodes: Sequence[str], work: Callable[[str], Any]) -> dict[str, Any]:
    """The result of `work` for each node; `AT_ONCE` at a time."""
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(nodes)))) as pool:
        return dict(zip(nodes, pool.map(work, nodes), strict=True))


def why_not(node: str, done: subprocess.CompletedProcess[bytes], launch: FleetLaunch) -> str:
    """Why a node did not do what it should, in one sentence with what to do."""
    python, by_hand = launch.python, shlex.join([*(launch.ssh or ["ssh"]), node])
    lines = [clean_line(line.strip()) for line in done.stderr.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not _NO_REASON.search(line)]
    last = _cut(lines[-1].rstrip(".")) if lines else f"exit {done.returncode}"
    said = " ".join(lines).casefold()
    if "pam_slurm" in said:
        return f"{node} accepts no login without a Slurm job there: use --launcher slurm."
    if done.returncode in (124, 255):
        return _not_reached(node, said, last, by_hand)
    if "no module named 'llmval_tui." in said or "no module named llmval_tui." in said:
        return f"{node} has another llmval than this one, {__version__}: install the same version on every node."
    if done.returncode == 127 or "no module named" in said or ("no such file" in last.casefold() and python in last):
        return f"{node} has no llmval at {python} ({last}): install it there at the same path."
    return f"{node} refused ({last}): look there ({by_hand}), or leave it out."


def _not_reached(node: str, said: str, last: str, by_hand: str) -> str:
    """The same for the exit codes that are ssh's own. `by_hand`: the command that reaches the node."""
    if "could not resolve hostname" in said:
        return f"{node} does not resolve: correct the name in the node list, or add it to ssh's config or /etc/hosts."
    if "host key" in said:
        return (
            f"the host key of {node} is not known, or is another than before: connect once by hand ({by_hand}) and "
            "check it."
        )
    if "permission denied" in last.casefold() or "too many authentication failures" in said:
        return f"{node} asks for a password: put a key there, so that {by_hand} works, or use ssh-agent."
    return f"{node} cannot be reached ({last}): see whether {by_hand} works, or leave it out."


def _cut(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def ask(run_folder: Path, launch: FleetLaunch, nodes: Sequence[str], checklist: Path | None) -> "Answers":
    """Ask all nodes who they are; nothing is written there."""
    look = f" --checklist {shlex.quote(str(checklist))}" if checklist is not None else ""

    def one(node: str) -> tuple[NodeProbe | None, str | None, int]:
        line = f"cd / && {shlex.quote(launch.python)} -m llmval_tui.fleet.probe {shlex.quote(str(run_folder))}"
        before = time.time_ns()
        done = call(launch, node, f"{line} --name {shlex.quote(node)}{look}")
        after = time.time_ns()
        if done.returncode != 0:
            return None, why_not(node, done, launch), after
        try:
            said = json.loads(done.stdout.splitlines()[-1])
            version = said["llmval"]
        except (ValueError, TypeError, KeyError, IndexError):
            return None, f"{node} answered with something else: see what its shell prints at login.", after
        try:
            found = decode(NodeProbe, said)
        except (ValueError, TypeError, AttributeError):
            other = f"{node} has llmval {version}, which answers in another way than {__version__}"
            return None, f"{other}: install the same version on every node.", after
        return found, None, min(max(found.wall_ns, before), after)

    answers = on_all(nodes, one)
    return Answers(
        {node: found for node, (found, _, _) in answers.items() if found is not None},
        {node: reason for node, (_, reason, _) in answers.items() if reason is not None},
        {node: clock for node, (_, _, clock) in answers.items()},
    )


class Answers:
    """What the nodes said; a node without an answer has a reason instead."""

    def __init__(self, probes: Mapping[str, NodeProbe], silent: Mapping[str, str], clock_ns: Mapping[str, int]) -> None:
        self.probes, self.silent, self.clock_ns = probes, silent, clock_ns


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack what a node sent; nothing lies outside the folder.

    Raises:
        tarfile.TarError: a member would.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    for member in archive:  # Python 3.11.0 to 3.11.3 have no filter
        path = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.ExtractError(f"{member.name} is not a file or folder of the run")
        archive.extract(member, folder)


class Nodes:
    """The nodes of one run, seen from the head."""

    def __init__(self, run: Run, launch: FleetLaunch, nodes: Sequence[str], shared: Mapping[str, bool]) -> None:
        self.run, self.launch, self.nodes = run, launch, nodes
        self._shared = shared  # whether a node sees the head's run folder
        self._ears: dict[str, _HeartbeatConnection] = {}

    def shares(self, node: str) -> bool:
        """Whether the node writes where this machine reads."""
        return self._shared[node]

    def start(self) -> dict[str, str]:
        """Bring the intent where it is not seen, and start the agents; returns a sentence for each that did not start.

        An agent that is there already is left alone.
        """
        return {node: reason for node, reason in on_all(self.nodes, self._start).items() if reason is not None}

    def _start(self, node: str) -> str | None:
        folder = shlex.quote(str(self.run.folder))
        own = f"{folder}/{NODES_FOLDER}/{shlex.quote(node)}"
        if not self._shared[node]:
            done = call(self.launch, node, f"mkdir -p {folder} && tar -C {folder} -xf -", data=self._bundle())
            if done.returncode != 0:
                return why_not(node, done, self.launch)
        line = self._agent(node)
        done = call(
            self.launch,
            node,
            f"mkdir -p {own} && cd / && (setsid nohup {line} >>{own}/agent.log 2>&1 </dev/null &)",
        )
        return why_not(node, done, self.launch) if done.returncode != 0 else None

    def _agent(self, node: str) -> str:
        words = [self.launch.python, "-m", "llmval_tui.plans.node_agent", str(self.run.folder)]
        return shlex.join([*words, "--nodes", ",".join(self.nodes), "--name", node])

    def judge_there(self, nodes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Let nodes whose agent was killed judge and hash a part that has ended; returns the end of each heartbeat.

        Only there can be told whether the files are those that the part left: a copy has other times and inodes. A part
        that never began is not started.
        """

        def one(node: str) -> list[dict[str, Any]]:
            own = shlex.quote(str(self.run.folder / NODES_FOLDER / node))
            line = f"cd / && test -e {own}/status.json && {self._agent(node)} >>{own}/agent.log 2>&1"
            done = call(self.launch, node, f"{line}; tail -n 1 {own}/{HEARTBEAT_FILE}", timeout_s=_LEFTOVERS_S)
            return lines_of(done.stdout)

        return on_all([node for node in nodes if not self._shared[node]], one)

    def _bundle(self) -> bytes:
        """What an agent needs: the intent, its scripts and secrets, and who the nodes are."""
        folder = self.run.folder
        paths = [path for path in folder.iterdir() if path.is_file() and path.suffix in (".json", ".sh")]
        paths = [path for path in paths if path.name not in ("status.json", "fleet.json", "verdict.json")]
        paths += [folder / NODES_FOLDER / node / "env.json" for node in self.nodes]
        names = [str(path.relative_to(folder)) for path in paths if path.exists()]
        return subprocess.run(["tar", "-C", str(folder), "-cf", "-", *names], capture_output=True, check=True).stdout

    def forget_secrets(self) -> list[str]:
        """Delete the secrets that came with the intent, after the run; a sentence for each node where that failed."""
        names = [name for name in (FILE, PARAMETERS) if (self.run.folder / name).exists()]
        far = [node for node in self.nodes if not self._shared[node]]
        if not names or not far:
            return []
        folder = str(self.run.folder)
        # The scripts with them: each part has its own, which its supervisor has masked.
        line = f"cd {shlex.quote(folder)} && rm -f {shlex.join(names)} ./*.sh"
        done = on_all(far, lambda node: call(self.launch, node, line))
        failed = [node for node, one in done.items() if one.returncode != 0]
        return [
            f"secrets of the run are still on {node}: delete {' and '.join(names)} in {folder} there."
            for node in failed
        ]

    def hear(self, pulses: Mapping[str, Pulse], now_s: float) -> None:
        """Take what came from the nodes that do not share our file system; keeps one connection open to each."""
        for node, pulse in pulses.items():
            if self._shared[node] or pulse.ended:
                continue
            ear = self._ears.setdefault(node, _HeartbeatConnection(self.launch, node, pulse.folder))
            pulse.hear(ear.take(now_s), now_s)

    def cancel(self) -> None:
        """Give the request to the nodes that do not see it."""
        far = [node for node in self.nodes if not self._shared[node]]
        text = self.run.cancel_file.read_bytes() if self.run.cancel_file.exists() else b'{"by": "the head"}'
        path = shlex.quote(str(self.run.cancel_file))
        on_all(far, lambda node: call(self.launch, node, f"cat > {path}", data=text))

    def fetch(self, node: str, manifest_sha256: str | None) -> str | None:
        """Bring one node's folder here, and check its hashes; a sentence if that failed."""
        if self._shared[node]:
            return None
        own = self.run.folder / NODES_FOLDER / node
        fresh = own.with_name(f".{node}.fetched")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        source = shlex.quote(str(own))
        line = words(self.launch, node, f"tar -C {source} --exclude=./*.lock -cf - .")
        try:
            self._unpack(line, fresh)
            if manifest_sha256 is None:  # its agent died before it hashed them: its verdict is not trusted
                (fresh / "verdict.json").unlink(missing_ok=True)
            else:
                check_manifest(fresh, node, manifest_sha256)
        except (OSError, tarfile.TarError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            return f"the files of {node} could not be fetched ({error})."
        except Refused as refusal:
            shutil.rmtree(fresh, ignore_errors=True)
            return str(refusal)
        shutil.rmtree(own, ignore_errors=True)
        fresh.rename(own)
        return None

    def _unpack(self, line: Sequence[str], folder: Path) -> None:
        """Unpack what an ssh sends; raises OSError with ssh's own words if it fails."""
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, bufsize=0
            ) as sender,
        ):
            assert sender.stdout is not None
            stream = _Stream(sender.stdout)
            problem: tarfile.TarError | None = None
            try:
                with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:  # which only reads
                    extract(archive, folder)
                while stream.read(1 << 16):  # the padding after the last file, or tar would die of SIGPIPE
                    pass
            except tarfile.TarError as error:
                problem = error
            except TimeoutError:
                sender.kill()
                raise
            finally:
                sender.stdout.close()
            if sender.wait() != 0:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise OSError(said[-1] if said else f"ssh ended with {sender.returncode}")
            if problem is not None:
                raise problem

    def look_for_leftovers(self, nodes: Sequence[str]) -> dict[str, str]:
        """End what a run has left on nodes; a sentence for each that could not be looked at."""
        line = shlex.join([self.launch.python, "-m", "llmval_tui.fleet.leftovers", str(self.run.folder)])
        done = on_all(
            nodes,
            lambda node: call(self.launch, node, f"cd / && {line} --name {shlex.quote(node)}", timeout_s=_LEFTOVERS_S),
        )
        return {node: why_not(node, one, self.launch) for node, one in done.items() if one.returncode != 0}

    def close(self) -> None:
        for ear in self._ears.values():
            ear.close()


class _Stream:
    """What an ssh sends, with a bound for how long nothing may come."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        """At least one byte, or b"" at the end; raises TimeoutError."""
        if not select.select([self._source], [], [], STALLED_S)[0]:
            raise TimeoutError(f"nothing came for {STALLED_S:g} s")
        return self._source.read(size)


class _HeartbeatConnection:
    """A connection that follows a node's heartbeat; opened again if it breaks."""

    def __init__(self, launch: FleetLaunch, node: str, folder: Path) -> None:
        self._line = words(launch, node, f"exec tail -n 2 -F {shlex.quote(str(folder / HEARTBEAT_FILE))} 2>/dev/null")
        self._ssh: subprocess.Popen[bytes] | None = None
        self._due_s = 0.0
        self._lines: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def take(self, now_s: float) -> list[dict[str, Any]]:
        if (self._ssh is None or self._ssh.poll() is not None) and now_s >= self._due_s:
            self._due_s = now_s + _RETRY_S
            try:
                self._ssh = subprocess.Popen(
                    self._line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError:
                self._ssh = None
            else:
                threading.Thread(target=self._read, args=(self._ssh,), daemon=True).start()
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def _read(self, ssh: subprocess.Popen[bytes]) -> None:
        assert ssh.stdout is not None
        for line in ssh.stdout:
            with self._lock:
                self._lines += lines_of(line)
        ssh.wait()

    def close(self) -> None:
        if self._ssh is not None and self._ssh.poll() is None:
            self._ssh.terminate()
