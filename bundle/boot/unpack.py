"""Unpacks the bundle once into a cache, as a virtual environment (PEP 405), and becomes the llmval in it.

llmval's own processes (plan, supervisor, recorder) are started by `sys.executable` and outlive the command. So they
need real files that stay, and must not find their packages by PYTHONPATH, which would reach the runners too.
"""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from platform import machine
from typing import NoReturn
from zlib import crc32

from facts import DIGEST, VERSION, WHEELS  # written by bundle.build

CACHE_VARIABLE = "LLMVAL_CACHE"
BUNDLE_VARIABLE = "LLMVAL_BUNDLE"
STARTED_BY_VARIABLE = "LLMVAL_STARTED_BY"  # the interpreter that started the bundle: it may have torch


class NoPlace(Exception):
    """There is nowhere to unpack the bundle; the message says what to do."""


def start(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the llmval in the cache; unpack it before the first use.

    Raises:
        NoPlace: it is in no cache, and no folder can take it.
    """
    python = os.path.join(_environment(), "bin", "python")
    os.environ[BUNDLE_VARIABLE] = os.path.abspath(sys.argv[0])
    os.environ[STARTED_BY_VARIABLE] = sys.executable
    os.execv(python, [python, "-P", "-m", "llmval_tui", *arguments])


def _environment() -> str:
    """The folder of the virtual environment of this bundle and this interpreter."""
    name = os.path.join(f"{VERSION}-{DIGEST[:12]}", _key())
    places = list(_places())
    for place in places:
        if _is_trusted(place) and os.path.exists(os.path.join(place, name, "bin", "python")):
            return os.path.join(place, name)
    reasons = []
    for place in places:
        try:
            return _unpack(place, name)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
    raise NoPlace(
        f"it must be unpacked once, and no folder can take its 25 MB ({'; '.join(reasons)}): set {CACHE_VARIABLE} to a "
        "folder where you may write and start programs."
    )


def _key() -> str:
    """Nodes and containers that share a home folder differ in their machine, and in the Python and its place."""
    python = os.path.abspath(_base_python())
    return f"cp{sys.version_info[0]}{sys.version_info[1]}-{machine()}-{crc32(os.fsencode(python)):08x}"


def _base_python() -> str:
    """The interpreter outside of any virtual environment: one environment cannot rest on another."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _places() -> Iterator[str]:
    """Folders for the cache, the best first."""
    if named := os.environ.get(CACHE_VARIABLE):
        yield os.path.abspath(named)
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(cache):
        yield os.path.join(cache, "llmval")
    for folder in dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/var/tmp", "/dev/shm")):
        yield os.path.join(folder, f"llmval-{os.getuid()}")


def _is_trusted(folder: str) -> bool:
    """Whether nobody else could have put a program there: the folders of temporary files belong to everybody."""
    if os.environ.get(CACHE_VARIABLE):
        return True
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _unpack(place: str, name: str) -> str:
    """Make the environment beside its place and move it there at once: other nodes may do the same at this moment.

    Raises:
        OSError: the folder cannot take it.
    """
    import shutil
    import tempfile

    os.makedirs(place, 0o700, exist_ok=True)
    if not _is_trusted(place):
        raise OSError(f"{place} is not yours alone")
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise OSError("it is mounted with noexec")
    final = os.path.join(place, name)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    work = tempfile.mkdtemp(prefix=".unpacking-", dir=place)
    try:
        _fill(work)
        os.chmod(work, 0o755)
        try:
            os.rename(work, final)
        except OSError:
            if not os.path.exists(os.path.join(final, "bin", "python")):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def _fill(folder: str) -> None:
    from io import BytesIO
    from zipfile import ZipFile

    python = os.path.abspath(_base_python())
    version = "python%d.%d" % sys.version_info[:2]
    packages = os.path.join(folder, "lib", version, "site-packages")
    os.makedirs(packages)
    os.makedirs(os.path.join(folder, "bin"))
    with open(os.path.join(folder, "pyvenv.cfg"), "w") as file:
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")
    for link in ("python", "python3", version):
        os.symlink(python, os.path.join(folder, "bin", link))
    tag = "cp%d%d-" % sys.version_info[:2] + machine()
    with ZipFile(sys.argv[0]) as bundle:
        for wheel in WHEELS["any"] + WHEELS[tag]:
            with ZipFile(BytesIO(bundle.read(f"wheels/{wheel}"))) as opened:
                opened.extractall(packages, [name for name in opened.namelist() if ".data/" not in name])
