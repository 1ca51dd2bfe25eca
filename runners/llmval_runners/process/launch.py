"""torchrun with a record: every rank's output straight into its own file, and every rank's exit code as JSON.

    python launch.py --logs DIR --label main --exit-codes FILE -- <torchrun arguments>

Why not torchrun itself: it exits with 1 for any failed rank and forgets which and how, nests its logs three folders
deep, and further signals while it shuts down leave ranks running. This is torchrun's own parser, configuration and
agent, with a place for the logs, one more thing remembered, and a shutdown that cannot be interrupted.

Exit code: 0, 1 where a rank failed, 2 where the arguments make no launch or the ranks refused theirs (exit code 2 of
the first that failed), 128 + signal where one ended it.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

REFUSED = 2
SHUTDOWN_S = 5  # from the signal to SIGKILL of ranks that ignore it; torchrun's default is 30
SAVING, SAVING_S = "llmval-saving", 60.0  # a rank of this name writes its record (stop.py) and is given so long
OWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class Ended(SystemExit):
    """A signal came before there were ranks."""


def main(argv: list[str]) -> int:
    own, torchrun = _split(argv)
    record = {"ranks": {}, "first_failure": None}
    for number in _heard():  # until torchrun installs its own
        signal.signal(number, _end)
    try:
        return _launch(own, torchrun, record)
    finally:
        _write(own.exit_codes, record)


def _launch(own: argparse.Namespace, torchrun: list[str], record: dict[str, Any]) -> int:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    class RankLogs(LogsSpecs):
        """`DIR/<label>.rank<N>.stdout.log` and `.stderr.log`."""

        @property
        def root_log_dir(self) -> str:
            return str(own.logs)

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            def paths(ending: str) -> dict[int, str]:
                return {local: str(own.logs / f"{own.label}.rank{env['RANK']}.{ending}") for local, env in envs.items()}

            errors = paths("error.json")  # written by ranks that use torch's @record
            for local, env in envs.items():
                env["TORCHELASTIC_ERROR_FILE"] = errors[local]
                record["ranks"][env["RANK"]] = None
            return LogsDest(stdouts=paths("stdout.log"), stderrs=paths("stderr.log"), error_files=errors)

    class Agent(api.LocalElasticAgent):
        """Remembers how every rank ended, also after a signal, when torchrun tells nobody."""

        def _start_workers(self, worker_group: Any) -> dict[int, Any]:
            started = super()._start_workers(worker_group)
            for handler in self._pcontext.subprocess_handlers.values():
                for log in (handler._stdout, handler._stderr):  # the flag belongs to the description that both share
                    fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
            return started

        def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, *_: Any, **__: Any) -> None:
            # A second signal would break off the very loop that ends the ranks, which are in sessions of their own.
            for number in OWN_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            if self._pcontext is not None:
                _end_ranks([handler.proc for handler in self._pcontext.subprocess_handlers.values()], death_sig)
                self._pcontext.close(signal.SIGKILL, timeout=SHUTDOWN_S)  # those that are left
            super()._shutdown(death_sig)
            for local, handler in getattr(self._pcontext, "subprocess_handlers", {}).items():
                record["ranks"][self._pcontext.envs[local]["RANK"]] = handler.proc.poll()

    config, command, arguments = run.config_from_args(_single_node(run.get_args_parser(), torchrun))
    config.logs_specs = RankLogs()
    config.local_addr = config.local_addr or "127.0.0.1"
    if not isinstance(command, str):
        _refuse("--run-path runs the script inside torchrun's own children: leave it out.")
    if hasattr(config, "signals_to_handle"):
        config.signals_to_handle = ",".join(number.name for number in _heard())
    api.LocalElasticAgent = Agent  # launch_agent has no parameter for it
    try:
        api.elastic_launch(config, command)(*arguments)
    except ChildFailedError as error:
        rank, first = _first(error.failures)
        how = signal.Signals(-first.exitcode).name if first.exitcode < 0 else f"exit code {first.exitcode}"
        record["first_failure"] = {"rank": rank, "exit_code": first.exitcode, "how": how}
        print(f"rank {rank} failed first: {how}; its output is in {own.logs}", file=sys.stderr)
        return REFUSED if first.exitcode == REFUSED else 1
    except SignalException as error:
        print(f"ended by {error.sigval.name}", file=sys.stderr)
        return 128 + error.sigval
    return 0


def _end_ranks(ranks: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Signal the ranks and wait for their end: `SHUTDOWN_S`, and longer as long as one of them writes its record."""
    for rank in ranks:
        if rank.poll() is None:
            os.killpg(rank.pid, number)  # each is the leader of its own session
    began = time.monotonic()
    saved = began  # when one was last seen to write
    while any(rank.poll() is None for rank in ranks):
        now = time.monotonic()
        if now - began < SAVING_S and any(_saves(rank.pid) for rank in ranks):
            saved = now
        if now - saved >= SHUTDOWN_S:
            return
        time.sleep(0.05)


def _saves(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == SAVING
    except OSError:  # it has ended
        return False


def _first(failures: dict[int, Any]) -> tuple[int, Any]:
    """The failure that explains the others.

    torchrun's times are whole seconds, and a rank that is killed takes its peers along within milliseconds, so among
    the failures of the first second a signal comes before an exit code. SIGTERM comes last: with it torchrun ends the
    ranks that are left, and a runner that is sent one from elsewhere exits with 143.
    """
    start = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, Any]) -> tuple[bool, bool, bool]:
        code = item[1].exitcode
        return code == -signal.SIGTERM, item[1].timestamp > start + 1, code >= 0

    return min(failures.items(), key=order)


def _single_node(parser: argparse.ArgumentParser, torchrun: list[str]) -> argparse.Namespace:
    """torchrun's arguments, made a rendezvous of one node on a free loopback port, without restarts."""
    args = parser.parse_args(torchrun)
    if args.nnodes not in ("1", "1:1"):
        _refuse(f"--nnodes {args.nnodes} needs several nodes, and this launches on one: leave it out.")
    if args.max_restarts:
        _refuse("--max-restarts hides the cause of a failure, which is what a validation looks for: leave it out.")
    args.standalone = True
    args.rdzv_backend, args.rdzv_endpoint, args.rdzv_id = "c10d", "localhost:0", str(uuid.uuid4())
    args.log_dir = os.devnull  # or torchrun makes a temporary folder that stays behind
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, without its banner
    return args


def _split(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="launch.py", description="torchrun with logs and exit codes of every rank.", allow_abbrev=False
    )
    parser.add_argument("--logs", type=Path, required=True, metavar="DIR", help="folder of the ranks' output")
    parser.add_argument("--label", default="main", help="first part of the logs' names (default main)")
    parser.add_argument(
        "--exit-codes", type=Path, required=True, metavar="FILE", help="JSON with every rank's exit code"
    )
    if "--" not in argv:
        parser.error("put torchrun's arguments after `--`")
    place = argv.index("--")
    own = parser.parse_args(argv[:place])
    own.logs = own.logs.absolute()
    own.logs.mkdir(parents=True, exist_ok=True)
    own.exit_codes.parent.mkdir(parents=True, exist_ok=True)
    if taken := next(own.logs.glob(f"{own.label}.rank*.log"), None):
        _refuse(f"{taken} is there already: pass another --label or another --logs, so that no output is lost.")
    return own, argv[place + 1 :]


def _heard() -> list[signal.Signals]:
    """An ignored SIGHUP stays ignored (nohup); the others are how a run is cancelled."""
    return [number for number in OWN_SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def _end(number: int, _frame: object) -> NoReturn:
    raise Ended(128 + number)


def _refuse(sentence: str) -> NoReturn:
    print(f"refused: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def _write(path: Path, record: dict[str, Any]) -> None:
    """Atomically: a reader sees the whole record or none."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file)
        file.write("\n")
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    Path(temporary).replace(path)


if __name__ == "__main__":
    # Run by path, Python puts this folder first on the path, where torch would find our modules under common names.
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    sys.exit(main(sys.argv[1:]))
