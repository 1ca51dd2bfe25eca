"""`python -m benchmarks [NAME…]`: measures on this machine and prints each result beside its bound."""

import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TypeAlias

from benchmarks.report import Row

Benchmark: TypeAlias = Callable[[], Row | Iterable[Row]]


def lazy(module: str, function: str, *args: object, **kwargs: object) -> Benchmark:
    """A benchmark that imports its module when it runs: not every host has the packages of all benchmarks."""
    return lambda: getattr(import_module(f"benchmarks.{module}"), function)(*args, **kwargs)


BENCHMARKS: dict[str, Benchmark] = {
    "demo": lazy("headless", "demo"),
    "tick": lazy("headless", "one_byte"),
    "paint": lazy("dashboard", "first_paint"),
    "start": lazy("dashboard", "start_and_dialog"),
    "slow": lazy("lines", "over", "20 kbit/s", bits_per_s=20_000),
    "slower": lazy("lines", "over", "9.6 kbit/s", bits_per_s=9600),
    "far": lazy("lines", "over", "300 ms", round_trip_s=0.3),
    "lossy": lazy("lines", "over", "300 ms, 2 % loss", round_trip_s=0.3, loss=0.02),
    "farslow": lazy("lines", "over", "300 ms, 2 % loss, 20 kbit/s", round_trip_s=0.3, loss=0.02, bits_per_s=20_000),
    "frozen": lazy("lines", "frozen"),
    "dead": lazy("lines", "dead"),
    "keys": lazy("dashboard", "key_latency"),
    "keys5000": lazy("dashboard", "key_latency", rate=5000, bound_ms=30, cpu_bound=20),
    "line": lazy("dashboard", "survival", "line"),
    "kill": lazy("dashboard", "survival", "kill"),
    "replay1": lazy("dashboard", "load_over_the_line"),
    "replay200": lazy("dashboard", "largest_telemetry"),
    "replay2": lazy("dashboard", "load_over_the_line", hertz=2, cpu_bound=14),
    "log": lazy("hours", "gigabyte_log"),
    "hours": lazy("hours", "eight_hours"),
    "sampling": lazy("sampling", "sampling"),
    "nvitop": lazy("peers", "first_paint_beside_nvitop"),
    "monitors": lazy("peers", "live_monitors"),
    "aiperf": lazy("peers", "aiperf_dashboard"),
    "client": lazy("openai_clients", "against_what_it_did"),
    "client1": lazy("openai_clients", "one_core"),
    "streams": lazy("openai_clients", "many_streams"),
    "clients": lazy("openai_clients", "highest_rates"),
    "outliers": lazy("fleet_outliers", "rule"),
    "fleet": lazy("fleet_pane", "judging"),
    "fleet512": lazy("fleet_pane", "keys"),
    "fleet64": lazy("fleet_pane", "keys", 64, 80, 24),
    "exporters": lazy("fleet_pane", "exporters"),
    "runs": lazy("many_runs", "rows"),
    "watching": lazy("watching", "row"),
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all. Returns 1 if a bound was missed or a benchmark failed; the others still run."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(
            f"no benchmark is called {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}", file=sys.stderr
        )
        return 2
    # Operators have what pip compiled; with this variable each start would compile for half a second.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.setswitchinterval(0.0005)  # the reading thread must not wait for the drawing one
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    print("\n| | measured | bound | |\n|---|---|---|---|")
    missed = False
    for name in names or BENCHMARKS:
        try:
            rows = BENCHMARKS[name]()
            for row in [rows] if isinstance(rows, Row) else rows:
                print(row, flush=True)
                missed = missed or row.reached is False
        except Exception as error:  # noqa: BLE001  (a failure must not end the other benchmarks)
            traceback.print_exc()
            reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]]).rstrip(":")
            print(Row(name, f"failed: {reason}", "–", None), flush=True)
            missed = True
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
