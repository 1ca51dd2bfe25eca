"""`python -m benchmarks [NAME…]`: measure on this machine and print each figure beside its bound."""

import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from benchmarks.report import Row


def late(module: str, function: str, *given: Any, **named: Any) -> Callable[[], Row | Iterable[Row]]:
    """A benchmark whose module is imported when it is run: on a GPU host not everything is installed."""
    return lambda: getattr(import_module(f"benchmarks.{module}"), function)(*given, **named)


BENCHMARKS: dict[str, Callable[[], Row | Iterable[Row]]] = {
    "demo": late("headless", "demo"),
    "tick": late("headless", "one_byte"),
    "paint": late("dashboard", "first_paint"),
    "keys": late("dashboard", "key_latency"),
    "keys5000": late("dashboard", "key_latency", rate=5000, bound_ms=60, cpu_bound=20),
    "line": late("dashboard", "survival", "line"),
    "kill": late("dashboard", "survival", "kill"),
    "replay1": late("dashboard", "load_over_the_line"),
    "replay2": late("dashboard", "load_over_the_line", hertz=2, cpu_bound=14),
    "log": late("hours", "gigabyte_log"),
    "hours": late("hours", "eight_hours"),
    "sampling": late("sampling", "sampling"),
    "nvitop": late("peers", "first_paint_beside_nvitop"),
    "aiperf": late("peers", "aiperf_dashboard"),
    "watching": late("watching", "row"),
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; 1 where a bound was not reached or a benchmark broke, which ends no other."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr
        )
        return 2
    sys.setswitchinterval(0.0005)  # the thread that notes when bytes come must not wait for the one that draws them
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    print("\n| | measured | bound | |\n|---|---|---|---|")
    missed = False
    for name in names or BENCHMARKS:
        try:
            found = BENCHMARKS[name]()
            for row in [found] if isinstance(found, Row) else found:
                print(row, flush=True)
                missed = missed or row.reached is False
        except Exception as error:  # noqa: BLE001  (whatever broke, the figures of the others are wanted)
            traceback.print_exc()
            words = ": ".join([type(error).__name__, *str(error).splitlines()[:1]]).rstrip(":")
            print(Row(name, f"it broke: {words}", "–", None), flush=True)
            missed = True
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
