"""The first thing that runs in the bundle. Every Python back to 2.7 can run it, to be refused in one sentence."""

import os
import platform
import sys

from facts import MACHINES, PYTHONS  # written by bundle.build


def refuse(reason):
    """End with exit code 2 and one sentence on stderr, or JSON on stdout with --json, as llmval itself does."""
    if "--json" in sys.argv:
        import json

        sys.stdout.write(json.dumps({"ok": False, "message": reason}) + "\n")
    else:
        sys.stderr.write("llmval: " + reason + "\n")
    sys.exit(2)


def wrong_python():
    """Why this Python cannot run the bundle; None if it can."""
    version = "%d.%d" % sys.version_info[:2]
    name = platform.python_implementation()
    if name != "CPython" or version not in PYTHONS:
        found = name + " " + version
    elif "t" in getattr(sys, "abiflags", ""):
        found = "the free-threaded Python " + version
    elif not sys.platform.startswith("linux") or platform.machine() not in MACHINES:
        return "this is %s on %s, and the bundle is for Linux on %s: install llmval there from its wheel with pip." % (
            sys.platform,
            platform.machine(),
            " and ".join(MACHINES),
        )
    else:
        return None
    folders = os.environ.get("PATH", "").split(os.pathsep)
    names = ["python" + one for one in reversed(PYTHONS)]
    better = [one for one in names if any(os.access(os.path.join(folder, one), os.X_OK) for folder in folders)]
    return "%s cannot run it, only CPython %s to %s can: %s." % (
        found,
        PYTHONS[0],
        PYTHONS[-1],
        "start it as %s %s" % (better[0], sys.argv[0])
        if better
        else "name another interpreter, as in python%s %s (this PATH has none)" % (PYTHONS[-1], sys.argv[0]),
    )


reason = wrong_python()
if reason:
    refuse(reason)

from unpack import NoPlace, start  # noqa: E402  (a Python that is too old cannot even compile it)

try:
    start(sys.argv[1:])
except NoPlace as error:
    refuse(str(error))
