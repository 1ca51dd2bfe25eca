"""`python -m fuzzing [TARGET…] [--share S] [--seed N] [--guided SECONDS]`: hostile input for every reader.

Without `--guided` the cases come from random numbers, so a seed makes the same cases again. With it, atheris chooses
the inputs by the code that they reach, each target for that many seconds.
"""

import argparse
import platform
import re
import subprocess
import sys
from pathlib import Path

from fuzzing import archives, checkpoints, commands, documents, folders, readers, results
from fuzzing.target import BytesAsRandom, Done, Target, fuzz

_ALL = (
    commands.TARGET,
    documents.TARGET,
    folders.TARGET,
    *readers.TARGETS,
    *results.TARGETS,
    checkpoints.TARGET,
    archives.TARGET,
)
TARGETS = {target.name: target for target in _ALL}


def main(arguments: list[str] | None = None) -> int:
    """Fuzz the named targets, or all; returns 1 if something was found."""
    options = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    options.add_argument("names", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    options.add_argument("--share", type=float, default=1.0, help="of the cases of the long run (default: 1)")
    options.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case (default: 0)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--guided", type=int, metavar="SECONDS", help="let atheris choose the inputs, for so long each"
    )
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # the process that atheris takes over
    chosen = options.parse_args(arguments)
    if unknown := set(chosen.names) - set(TARGETS):
        options.error(f"no target is called {', '.join(sorted(unknown))}; choose from {', '.join(TARGETS)}")
    if chosen.inside:
        _guided(TARGETS[chosen.names[0]], chosen.guided, chosen.seed)
    print(f"Linux {platform.release()}, Python {platform.python_version()}, seed {chosen.seed}\n")
    print("| input, and what must hold | cases | wrong | seconds | outcomes |\n|---|---|---|---|---|")
    failed = False
    for target in (TARGETS[name] for name in chosen.names or TARGETS):
        if reason := target.needs():
            print(f"| {target.what} | 0 | – | – | not tried: {reason} |", flush=True)
            continue
        if chosen.guided:
            done = _under_atheris(target, chosen.guided, chosen.seed)
        else:
            done = fuzz(target, max(1, round(target.cases * chosen.share)), chosen.seed, first=chosen.first)
        failed |= done.failed > 0
        outcomes = ", ".join(f"{count:,} {word}" for word, count in done.outcomes.most_common())
        print(f"| {target.what} | {done.cases:,} | {done.failed} | {done.seconds:.0f} | {outcomes} |", flush=True)
    return int(failed)


def _under_atheris(target: Target, seconds: int, seed: int) -> Done:
    """Run atheris in a process of its own, because it takes over its process."""
    argv = [sys.executable, "-m", "fuzzing", target.name, "--guided", str(seconds), "--seed", str(seed), "--inside"]
    ended = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    done = Done(failed=int(ended.returncode != 0), seconds=seconds)
    if found := re.search(r"Done (\d+) runs in (\d+) second", ended.stderr):
        done.cases, done.seconds = int(found[1]), int(found[2])
    if ended.returncode:
        print(ended.stderr[-4000:], file=sys.stderr)
    return done


def _guided(target: Target, seconds: int, seed: int) -> None:
    import atheris

    for package in target.packages:
        for name, module in list(sys.modules.items()):
            if name.startswith(package):
                _instrument(atheris, module)
    atheris.Setup(
        ["fuzzing", f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=1024", "-rss_limit_mb=4096"],
        lambda data: target.case(BytesAsRandom(data)),
    )
    atheris.Fuzz()


def _instrument(atheris: object, module: object) -> None:
    """Let atheris count the branches of a module that is imported already."""
    instrument = getattr(atheris, "instrument_func")  # noqa: B009  (atheris has no types)
    for value in list(vars(module).values()):
        owned = getattr(value, "__module__", None) == getattr(module, "__name__", "")
        if owned and isinstance(value, type):
            for name, method in list(vars(value).items()):
                if callable(method) and hasattr(method, "__code__"):
                    setattr(value, name, instrument(method))
        elif owned and hasattr(value, "__code__"):
            setattr(module, value.__name__, instrument(value))


if __name__ == "__main__":
    raise SystemExit(main())
