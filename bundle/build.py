"""Builds the bundle: a zip file with a shell script in front, the boot code, and wheels for every Python and machine.

`pip` downloads the wheels by the hashes of requirements-hashed.txt; nothing is compiled here.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
BOOT = Path(__file__).with_name("boot")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
# glibc 2.28 is that of RHEL 8 and of every newer system; pip takes wheels for an older one too.
_GLIBC = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010", "manylinux_2_5")
_OPTIONAL = re.compile(r"\.data/(?:scripts|data/share/man)/")
_HEADER = """#!/bin/sh
# llmval. A Python of the versions below runs the rest of this file, which is a zip file: ./{name} or python3 {name}
for python in python3 {names}; do
  if "$python" -IS -c 'import sys; sys.exit(sys.version_info[:2] not in ({versions}))' 2>/dev/null; then
    exec "$python" "$0" "$@"
  fi
done
echo "llmval: it needs CPython {first} to {last}, and PATH has none: start it as /path/to/python{last} $0." >&2
exit 2
"""


def download(folder: Path, pythons: Sequence[str] = PYTHONS, machines: Sequence[str] = MACHINES) -> None:
    """The pinned wheels of the dashboard's dependencies for every Python and machine.

    Raises:
        subprocess.CalledProcessError: there is no such wheel, or its hash is another one.
    """
    for python in pythons:
        for machine in machines:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            pins = ["--require-hashes", "-r", str(ROOT / "requirements-hashed.txt"), "-d", str(folder)]
            target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
            for glibc in _GLIBC:
                target += ["--platform", f"{glibc}_{machine}"]
            subprocess.run([*pip, *pins, *target], check=True)


def own_wheel(folder: Path) -> None:
    """llmval's own wheel.

    Raises:
        subprocess.CalledProcessError: the build failed.
    """
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "-w"]
    subprocess.run([*build, str(folder), str(ROOT)], check=True)


def sorted_wheels(
    names: Iterable[str], pythons: Sequence[str] = PYTHONS, machines: Sequence[str] = MACHINES
) -> dict[str, list[str]]:
    """The wheels for every interpreter (`any`), and those for one Python and machine (`cp311-x86_64`).

    Raises:
        ValueError: a wheel fits none of them, or a package has no wheel for one of them.
    """
    parsed = {name: parse_wheel_filename(name) for name in sorted(names)}
    pure = [name for name, (_, _, _, tags) in parsed.items() if Tag("py3", "none", "any") in tags]
    found = {"any": pure}
    packages = {package for package, *_ in parsed.values()}
    for python in pythons:
        for machine in machines:
            version = tuple(int(part) for part in python.split("."))
            platforms = [f"{glibc}_{machine}" for glibc in _GLIBC]
            fits = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}
            own = [name for name, (_, _, _, tags) in parsed.items() if name not in pure and tags & fits]
            here = [parsed[name][0] for name in (*pure, *own)]
            if set(here) != packages or len(here) != len(packages):
                missing = ", ".join(sorted(packages.symmetric_difference(here)))
                raise ValueError(f"CPython {python} on {machine}: {missing or 'a package twice'}")
            found[f"cp{python.replace('.', '')}-{machine}"] = own
    if unused := set(parsed) - {name for own in found.values() for name in own}:
        raise ValueError(f"nothing needs {', '.join(sorted(unused))}")
    return found


def assemble(wheels: Path, output: Path, pythons: Sequence[str] = PYTHONS, machines: Sequence[str] = MACHINES) -> Path:
    """Write the bundle from a folder of wheels; the same wheels make the same bytes.

    Raises:
        ValueError: the wheels do not fit the interpreters, or one of them needs more than to be unpacked.
    """
    paths = {path.name: path for path in sorted(wheels.glob("*.whl"))}
    chosen = sorted_wheels(paths, pythons, machines)
    (own,) = (name for name in chosen["any"] if name.startswith("llmval_tui-"))
    digest = hashlib.sha256()
    for path in paths.values():
        with ZipFile(path) as opened:
            # Scripts and man pages may be left out: nothing in the bundle needs them.
            data = [name for name in opened.namelist() if ".data/" in name and not _OPTIONAL.search(name)]
            if data:
                raise ValueError(f"{path.name} has files for other folders than its packages: {data[0]}")
        digest.update(path.read_bytes())
    boot = {path.name: path.read_text() for path in sorted(BOOT.glob("*.py"))}
    digest.update("".join(boot.values()).encode())
    facts = {
        "VERSION": str(parse_wheel_filename(own)[1]),
        "DIGEST": digest.hexdigest(),
        "PYTHONS": tuple(pythons),
        "MACHINES": tuple(machines),
        "WHEELS": chosen,
    }
    boot["facts.py"] = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
    with output.open("wb") as file:
        file.write(_header(output.name, pythons).encode())
        with ZipFile(file, "a") as bundle:
            for name, text in boot.items():
                bundle.writestr(_entry(name), text, ZIP_DEFLATED)
            for name, path in paths.items():  # as they are: a wheel is compressed
                bundle.writestr(_entry(f"wheels/{name}"), path.read_bytes(), ZIP_STORED)
    output.chmod(0o755)
    return output


def _header(name: str, pythons: Sequence[str]) -> str:
    versions = ", ".join(f"({python.replace('.', ', ')})" for python in pythons)
    names = " ".join(f"python{python}" for python in reversed(pythons))
    return _HEADER.format(name=name, names=names, versions=f"{versions},", first=pythons[0], last=pythons[-1])


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    return entry


def main() -> None:
    """`python -m bundle.build`: download, build, assemble."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output-dir", type=Path, default=ROOT / "dist")
    folder: Path = options.parse_args().output_dir
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch)
        own_wheel(wheels)
        download(wheels)
        (own,) = wheels.glob("llmval_tui-*.whl")
        bundle = assemble(wheels, folder / f"llmval-{parse_wheel_filename(own.name)[1]}.pyz")
    print(f"{bundle}: {bundle.stat().st_size / 1e6:.1f} MB, SHA-256 {hashlib.sha256(bundle.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
