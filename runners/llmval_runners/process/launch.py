"""torchrun with records: a file with the output of each rank, and the exit codes of all ranks as JSON.

    python launch.py --logs DIR --label main --exit-codes FILE -- <torchrun arguments>

Over several nodes it is started once on each, with its own --logs and --exit-codes:

    … -- --nnodes=2 --node-rank=0 --rdzv-endpoint=10.0.0.1:29500 --rdzv-id=WORD --nproc-per-node=8 script.py

torchrun itself exits with 1 for any failed rank and forgets which one and how. It nests its logs three folders deep,
and further signals during its shutdown leave ranks running. This uses torchrun's own parser, configuration and agent.
It adds a place for the logs, the exit codes, and a shutdown that cannot be interrupted. After a failed launch it runs
the command that a rank has registered (`on_failure.py`): a dead rank 0 cannot save its own record.

Exit code: 0; 1 if a rank failed; 2 if the arguments make no launch, or if the first rank that failed refused its own
arguments (exit code 2); 3 if it called its measurement invalid or inconclusive (3); 128 + signal if a signal ended it.
"""

import argparse
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

LAUNCH = Path(__file__).resolve()
if __name__ == "__main__":
    # Python puts the folder of a script first on sys.path, so torch could import our modules in place of others.
    sys.path[:] = [
        str(LAUNCH.parents[2]), *(entry for entry in sys.path if Path(entry or ".").resolve() != LAUNCH.parent)
    ]  # fmt: skip

from llmval_runners.process import on_failure  # noqa: E402  (sys.path must be right first)
from llmval_runners.process.errors import UNDECIDED_EXIT, USAGE_EXIT, ended_by  # noqa: E402, ended_by
from llmval_runners.process.files import write_json  # noqa: E402
from llmval_runners.process.rendezvous import NoRendezvous, node_count, one_node, several_nodes  # noqa: E402
from llmval_runners.process.shutdown import SAVING_S, is_saving  # noqa: E402

SHUTDOWN_S = 5  # from the signal to SIGKILL of ranks that ignore it; torchrun's default is 30
RECOVERY_S = 300.0
OWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class Ended(SystemExit):
    """A signal came before the ranks were started."""


def launch_command(
    logs: Path, exit_codes: Path, torchrun: Sequence[str], label: str | None = None, *, quiet: bool = False
) -> list[str]:
    """The command line for this module. `torchrun`: torchrun's flags, then the script and its flags."""
    named = ["--label", label] if label is not None else []
    own = ["--logs", str(logs), *named, "--exit-codes", str(exit_codes), *(["--quiet"] if quiet else [])]
    return [sys.executable, str(LAUNCH), *own, "--", *torchrun]


def main(argv: list[str]) -> int:
    """Launch, keep the record, and return the exit code."""
    own, torchrun = _split(argv)
    record: dict[str, Any] = {"ranks": {}, "first_failure": None}
    for number in _signals_in_use():  # until torchrun installs its own handlers
        signal.signal(number, _end)
    registered = own.logs / f"{own.label}.on_failure.json"
    on_failure.take(registered)  # of an earlier launch that was killed
    os.environ[on_failure.VARIABLE] = str(registered)
    code = 1  # if the launch itself raises
    try:
        code = _launch(own, torchrun, record)
    finally:
        try:
            write_json(own.exit_codes, record)
        finally:  # the record of a dead rank is worth more than the exit codes, for which the disk may have no room
            _run_registered(registered, record, code)
    return code


def _run_registered(file: Path, record: dict[str, Any], code: int) -> None:
    """All ranks have ended: run the commands that some of them left."""
    commands = on_failure.take(file)
    if not commands or code == 0:
        return
    for number in OWN_SIGNALS:  # its time is limited, and a second signal must not cost the record
        signal.signal(number, signal.SIG_IGN)
    first = record["first_failure"]
    why = f"the launch ended with {code}"
    if first or code > 128:
        why = f"rank {first['rank']} ended first: {first['how']}" if first else ended_by(code - 128)
    for command in commands:
        try:
            subprocess.run([*command, why], check=False, timeout=RECOVERY_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{command[0]} could not save the record of the dead rank: {error}", file=sys.stderr)


def _launch(own: argparse.Namespace, torchrun: list[str], record: dict[str, Any]) -> int:
    from torch.distributed import run
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    # It warns of every rank that it ends, and logs the path of Python and the number of the process that failed.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # It warns that a signal came, which ends the launch and is said below.
    logging.getLogger("torch.distributed.elastic.agent.server.api").setLevel(logging.ERROR)

    class RankLogs(LogsSpecs):
        """Writes `DIR/<label>.rank<N>.stdout.log` and `.stderr.log`."""

        @property
        def root_log_dir(self) -> str:
            return str(own.logs)

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            def paths(ending: str) -> dict[int, str]:
                return {local: str(own.logs / f"{own.label}.rank{env['RANK']}.{ending}") for local, env in envs.items()}

            _check_world(envs, record)
            errors = paths("error.json")  # written by ranks that use torch's @record
            for local, env in envs.items():
                env["TORCHELASTIC_ERROR_FILE"] = errors[local]
                record["ranks"][env["RANK"]] = None
            return LogsDest(stdouts=paths("stdout.log"), stderrs=paths("stderr.log"), error_files=errors)

    def processes(context: Any) -> dict[int, Any]:
        """The started ranks by local rank. Torch's types do not state that they are processes."""
        handlers: dict[int, Any] = getattr(context, "subprocess_handlers", {})
        return handlers

    class Agent(LocalElasticAgent):
        """Records how every rank ended, also after a signal, which torchrun does not report."""

        def _start_workers(self, worker_group: Any) -> dict[int, Any]:
            started: dict[int, Any] = super()._start_workers(worker_group)
            for handler in processes(self._pcontext).values():
                for log in (handler._stdout, handler._stderr):  # the ranks share the open file, and so the flag
                    fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
            return started

        def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, *_: Any, **__: Any) -> None:
            # A second signal would interrupt the loop that ends the ranks. They would go on in their own sessions.
            for number in OWN_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            if self._pcontext is not None:
                _end_ranks([handler.proc for handler in processes(self._pcontext).values()], death_sig)
                self._pcontext.close(signal.SIGKILL, timeout=SHUTDOWN_S)  # the remaining ranks
            super()._shutdown(death_sig)
            for local, handler in processes(self._pcontext).items():
                assert self._pcontext is not None
                record["ranks"][self._pcontext.envs[local]["RANK"]] = handler.proc.poll()

    args = _parsed(run.get_args_parser(), torchrun)
    config, command, arguments = run.config_from_args(args)
    nodes = node_count(args.nnodes)
    record["nodes"], record["world_size"] = nodes, nodes * config.nproc_per_node  # as asked for
    config.logs_specs = RankLogs()
    config.local_addr = args.local_addr
    if not isinstance(command, str):
        _refuse("--run-path runs the script inside torchrun's own children: leave it out.")
    if hasattr(config, "signals_to_handle"):
        config.signals_to_handle = ",".join(number.name for number in _signals_in_use())
    setattr(api, "LocalElasticAgent", Agent)  # noqa: B010  (launch_agent has no parameter for it, and mypy no export)
    try:
        api.elastic_launch(config, command)(*arguments)
    except ChildFailedError as error:
        rank, first = _first(error.failures)
        how = signal.Signals(-first.exitcode).name if first.exitcode < 0 else f"exit code {first.exitcode}"
        record["first_failure"] = {"rank": rank, "exit_code": first.exitcode, "how": how}
        if not own.quiet:
            print(f"{first_failure_in_words(record)}; its output is in {own.logs}", file=sys.stderr)
        return first.exitcode if first.exitcode in (USAGE_EXIT, UNDECIDED_EXIT) else 1
    except SignalException as error:
        print(f"ended by {error.sigval.name}", file=sys.stderr)
        return 128 + error.sigval
    return 0


def _end_ranks(ranks: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Signal the ranks and wait `SHUTDOWN_S` for their end, or longer while one of them writes its record."""
    for rank in ranks:
        if rank.poll() is None:
            os.killpg(rank.pid, number)  # each is the leader of its own session
    began = time.monotonic()
    last_saving = began
    while any(rank.poll() is None for rank in ranks):
        now = time.monotonic()
        if now - began < SAVING_S and any(is_saving(rank.pid) for rank in ranks):
            last_saving = now
        if now - last_saving >= SHUTDOWN_S:
            return
        time.sleep(0.05)


def _first(failures: dict[int, Any]) -> tuple[int, Any]:
    """The failure that explains the others.

    torchrun's times are whole seconds, and the peers of a killed rank fail within milliseconds. So in the first second
    of failures a signal comes before an exit code. SIGTERM comes last: torchrun ends the remaining ranks with it, and a
    runner that receives one from elsewhere exits with 143.
    """
    start = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, Any]) -> tuple[bool, bool, bool]:
        code = item[1].exitcode
        return code == -signal.SIGTERM, item[1].timestamp > start + 1, code >= 0

    return min(failures.items(), key=order)


def first_failure_in_words(record: dict[str, Any]) -> str:
    """Which rank ended the launch, and what that means: two exit codes say no failure."""
    first = record["first_failure"]
    meanings = {USAGE_EXIT: "refused to run", UNDECIDED_EXIT: "called its measurement invalid or inconclusive"}
    code, how = first["exit_code"], first["how"]
    return f"rank {first['rank']} {f'{meanings[code]} ({how})' if code in meanings else f'failed first: {how}'}"


def _check_world(envs: dict[int, dict[str, str]], record: dict[str, Any]) -> None:
    """Refuse to start ranks of a world that was not asked for: a node that starts fewer ranks would go unnoticed."""
    asked = record["world_size"]
    for env in envs.values():
        if int(env["WORLD_SIZE"]) != asked:
            _refuse(
                f"the nodes formed a world of {env['WORLD_SIZE']} ranks, and {record['nodes']} nodes with "
                f"{env['LOCAL_WORLD_SIZE']} ranks each make {asked}: start the same number on every node."
            )


def _parsed(parser: argparse.ArgumentParser, torchrun: list[str]) -> argparse.Namespace:
    """Parse torchrun's arguments, and settle where its agents meet; without restarts."""
    args = parser.parse_args(torchrun)
    if args.max_restarts:
        _refuse("--max-restarts hides the cause of a failure, and a validation must find it: leave it out.")
    try:
        nodes = node_count(args.nnodes)
        if nodes == 1:
            one_node(args)
        else:
            several_nodes(args, nodes)
    except NoRendezvous as refusal:
        _refuse(str(refusal))
    args.log_dir = os.devnull  # else torchrun makes a temporary folder and leaves it
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
    parser.add_argument("--quiet", action="store_true", help="leave it to the record which rank failed first")
    if "--" not in argv:
        parser.error("put torchrun's arguments after `--`")
    place = argv.index("--")
    own = parser.parse_args(argv[:place])
    own.logs = own.logs.absolute()
    own.logs.mkdir(parents=True, exist_ok=True)
    own.exit_codes.parent.mkdir(parents=True, exist_ok=True)
    if taken := next(own.logs.glob(f"{own.label}.rank*.log"), None):
        _refuse(f"{taken} already exists: pass another --label or --logs, so that no output is lost.")
    return own, argv[place + 1 :]


def _signals_in_use() -> list[signal.Signals]:
    """The signals that cancel a launch. An ignored SIGHUP stays ignored (nohup)."""
    return [number for number in OWN_SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def _end(number: int, _frame: object) -> NoReturn:
    raise Ended(128 + number)


def _refuse(sentence: str) -> NoReturn:
    print(f"refused: {sentence}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
