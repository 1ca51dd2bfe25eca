"""Programs that only read: the diagnostics that start without a question.

The tables list what is known to be harmless, by program and by subcommand or flags; anything else asks. A program with
an option that starts another program (`find -exec`) or that reads such a program from a file of the workspace (`git`)
is not listed, or not with that option. Options are listed by what is allowed: a list of what is forbidden misses
`sort --compress-prog=./x`, because GNU's programs take every unambiguous beginning of a long option.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.actions.review.wrappers import name_of, names

SYSTEM_FOLDERS = re.compile(r"/(?:usr/)?(?:local/)?s?bin|/usr/local/cuda[^/]*/bin|/opt/(?:mellanox|slurm|nvidia)/.*bin")

# With any arguments.
ANY = names(
    "arch cat cmp cut df du echo egrep false fgrep fi_info findmnt free getconf getent grep groups head "
    "ibdev2netdev ibstat ibstatus ibv_devices ibv_devinfo id jq ls lsblk lscpu lsmem lsmod lsns lspci lsusb "
    "md5sum modinfo nproc numastat pgrep printenv printf ps pwd readlink realpath sacct sha1sum sha256sum "
    "sha512sum sinfo sleep sprio squeue sshare stat tail test tr true ucx_info uname uptime wc whereis which "
    "whoami"
)
# Only to report a version.
VERSION = names(
    "python python3 nvcc gcc g++ cmake docker podman kubectl helm git pip pip3 make bash torchrun vllm dcgmi nsys "
    "ncu mpirun srun conda uv go rustc node npm perf nv-fabricmanager aiperf genai-perf trtllm-serve ofed_info"
)
_VERSION_WORDS = {"--version", "-V", "-version"}


@dataclass(frozen=True, slots=True)
class Verbs:
    """The subcommands that only read, and the options with a value that may stand before or between their words.

    A subcommand that ends with `$` is the whole command but for options: `addr` shows, `addr del` does not.
    """

    verbs: tuple[str, ...]
    values: frozenset[str] = frozenset()
    never: re.Pattern[str] | None = None  # an option that makes it something else
    only: re.Pattern[str] | None = None  # every option must be one of these


# Before the subcommand: options of one letter, and these. Others choose the program that does the work
# (`pip --python=`, `docker --config=`, `virsh --connect=qemu+ext:`).
_BEFORE_VERB = re.compile(
    r"-\w|-br|-json|--(?:no-pager|no-legend|user|system|plain|all|json|disable-pip-version-check)"
)
_KUBE = frozenset(["-n", "--namespace", "--context", "--cluster", "--user", "-s", "--server", "--request-timeout"])
_KUBE_NEVER = re.compile(
    r"--kube(?:config|rc)|--output-directory|--raw|--post-renderer|--token|--profile|--cache-dir|--kustomize|-k"
)
_DOCKER = Verbs(
    ("ps", "images", "image ls", "inspect", "info", "version", "port", "container ls"), frozenset(["-c", "--context"]),
    only=re.compile(r"-[acflnqs]+|--(?:all|context|digests|filter|format|last|latest|no-trunc|quiet|size|type)(?:=.*)?"),
)  # fmt: skip
_PIP = Verbs(("list", "show", "freeze", "check"), never=re.compile(r"--(?:local-)?log|--py|--cache"))
_APT = re.compile(r"-[oc]|--(?:opt|conf)")
VERBS: dict[str, Verbs] = {
    "kubectl": Verbs(
        ("get", "describe", "logs", "top", "version", "api-resources", "api-versions", "explain", "wait",
         "cluster-info", "rollout status", "rollout history", "config view", "config current-context",
         "config get-contexts", "auth can-i"), _KUBE, _KUBE_NEVER,
    ),
    "oc": Verbs(("get", "describe", "logs", "version", "whoami", "status"), _KUBE, _KUBE_NEVER),
    "helm": Verbs(("list", "ls", "status", "history", "get", "version"),
                  frozenset(["-n", "--namespace", "--kube-context"]), _KUBE_NEVER),
    "docker": _DOCKER,
    "podman": _DOCKER,
    "scontrol": Verbs(("show", "ping", "version", "listpids")),
    "sacctmgr": Verbs(("show", "list")),
    "systemctl": Verbs(("status", "is-active", "is-enabled", "is-failed", "list-units", "list-unit-files", "show",
                        "cat", "list-dependencies", "list-timers")),
    "pip": _PIP,
    "pip3": _PIP,
    "apt": Verbs(("list", "show", "policy"), never=_APT),
    "apt-cache": Verbs(("show", "policy", "search", "depends"), never=_APT),
    "dcgmi": Verbs(("discovery", "topo", "nvlink", "modules -l", "group -l"), never=re.compile(r"-[sed]$|--set")),
    "ipmitool": Verbs(
        ("sdr$", "sdr list", "sdr elist", "sdr type", "sdr get", "sdr entity", "sdr info",
         "sensor list", "sensor get", "fru print", "sel list", "sel elist", "sel info", "chassis status",
         "mc info", "lan print", "power status", "chassis power status"),
        frozenset(["-I", "-H", "-U", "-P", "-L", "-p", "-t"]),
    ),
    "ip": Verbs(("addr$", "addr show", "address show", "a$", "a show", "link$", "link show", "route$",
                 "route show", "neigh$", "neigh show")),
    "rdma": Verbs(("link$", "link show", "dev$", "dev show", "statistic show")),
    "mst": Verbs(("status",)),
    "mlxconfig": Verbs(("query", "q"), frozenset(["-d"])),
    "lfs": Verbs(("getstripe", "df", "quota", "osts", "mdts", "check")),
    "lctl": Verbs(("get_param", "list_nids")),
    "nvme": Verbs(("list", "smart-log", "id-ctrl", "id-ns", "error-log")),
    "cpupower": Verbs(("frequency-info", "idle-info"), frozenset(["-c"])),
    "timedatectl": Verbs(("status", "show")),
    "chronyc": Verbs(("sources", "tracking", "sourcestats")),
    "loginctl": Verbs(("list-sessions", "list-users")),
    "conda": Verbs(("list", "info", "env list")),
    "virsh": Verbs(("list", "nodeinfo")),
}  # fmt: skip

# All words must match; the words after a flag in the pattern's own value position are free.
ONLY: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "date": r"\+.*|-u|--utc|-I\w*|-R|--iso-8601.*|--rfc-.*",
        "hostname": r"-[fsidAIy]|--(?:fqdn|long|short|ip-address|all-ip-addresses|domain)",
        "dmesg": r"-[THkxrtuLePwW]+|--(?:level|facility|ctime|human|kernel|decode|time-format|since|until)(?:=.*)?"
        r"|[a-z,]+",
        "mount": r"-l",
        "swapon": r"--show(?:=.*)?|-s",
        "numactl": r"-H|--hardware|-s|--show",
        "sysctl": r"-[an]|[a-z0-9_][a-z0-9_./-]*",
        "ethtool": r"-[iSkgclamTxnPd]|--(?:driver|statistics|show-\w[\w-]*|module-info)|[a-z][\w.@-]*",
        "ibnetdiscover": r"(?!--c).*",
        "iblinkinfo": r"(?!--c).*",
        "perfquery": r"-[xaCPlG]|--(?:extended|all_ports)|\w+",
        "dpkg": r"-[lLsS]|--(?:list|status|listfiles|search)|[\w.+:*/][\w.+:*/-]*",
        "rpm": r"-q\w*|--(?:query|qf|queryformat)(?:=(?!.*expand).*)?|[\w.+*/][\w.+*/-]*",
        "lsof": r"-[ipunPcdt].*|[/\w].*",
        "nvtop": r"--version",
        "smartctl": r"-[aixHAc]|-l|--(?:all|info|health|attributes|xall|json)(?:=.*)?|(?:error|selftest)|/dev/[\w/]+",
        "find": r"(?!-(?:exec|ok|delete|fprint|fls)).*",
        "sort": r"-[bcdfghimnrsuvzCMRV]*|-[kt].*|[^-].*"
        r"|--(?:check|field-separator|human-numeric-sort|key|numeric-sort|reverse|stable|unique|version-sort)(?:=.*)?",
        "diff": r".*",
        "journalctl": r"-\w.*|[^-].*|--(?:all|boot|case-sensitive|disk-usage|dmesg|facility|grep|header|identifier|"
        r"lines|list-boots|merge|no-full|no-hostname|no-pager|no-tail|output|priority|quiet|reverse|since|system|unit|until|"
        r"user|user-unit|utc)(?:=.*)?",
        "ss": r"(?!-\w*[KD])-\w+|[^-].*|--(?:all|extended|info|ipv4|ipv6|listening|memory|no-header|numeric|options|"
        r"processes|summary|tcp|udp|unix)",
    }.items()
}
# nvidia-smi: queries. The words of `topo`, `nvlink`, `mig` and `dmon` follow their own flags.
_SMI = re.compile(
    r"-L|-q|-x|-h|-B|-[di]|-l|-lms|-u|--(?:list-gpus|query|xml-format|help|list-excluded-gpus|version|id|display|unit|"
    r"query-[\w-]+|format|loop|loop-ms|help-query-[\w-]+)(?:=.*)?|--version"
)
_SMI_VALUES = frozenset(["-i", "--id", "-d", "--display", "-l", "--loop", "-lms", "--loop-ms", "--format"])
_SMI_SUBCOMMANDS = {
    "topo": re.compile(r"-m|-mp|-c|-n|-p2p|-i|-g|--matrix|--p2p|[\w,]+"),
    "nvlink": re.compile(r"-[sceihRp]|--(?:status|capabilities|errorcounters|id|remotelinkinfo|pcibusid)|[\d,]+"),
    "mig": re.compile(r"-lgip|-lgi|-lcip|-lci|-lgipp|-i|-gi|--(?:list-[\w-]+|id)|[\d,]+"),
    "dmon": re.compile(r"-[siocdg]|--(?:select|count|delay|id|gpm-metrics)|[\w,.]+"),
    "pmon": re.compile(r"-[siocd]|[\w,.]+"),
    "c2c": re.compile(r"-s|-l|--status"),
    "vgpu": re.compile(r"-q|-s|-c|--query"),
    "clocks": re.compile(r"-q"),
}  # fmt: skip
_DCGMI_HEALTH = re.compile(r"health|-[cfgj]|--(?:check|fetch|group|json)|\d+")


# Variables that cannot change which code a program runs. `PATH`, `LD_PRELOAD`, `PYTHONPATH`, `KUBECONFIG` … can.
_HARMLESS_VARIABLE = re.compile(
    r"(?:NCCL|CUDA|TORCH|OMP|MKL|NVSHMEM|UCX|LC|HF_HUB|VLLM|NVIDIA|GLOO|TF32)_\w+|LANG|TZ|TERM|COLUMNS|LINES|NO_COLOR"
)


# Variables of the same programs that name a file: code that they load (`NCCL_CONF_FILE` may name a plugin), or a file
# that they write.
_NAMES_A_FILE = re.compile(
    r"_(?:PLUGINS?|PATH|PRELOAD|LIB|LIBRARIES|FILE|DIR|HOME|ROOT|FOLDER|CONFIG|TRACE|OUT|PROGRAM|COMMAND)$"
)


# The variables of the site settings are trusted more than those of an item, but not with these.
_CODE_VARIABLE = re.compile(
    r"PATH|LD_\w+|DYLD_\w+|PYTHON\w*|PERL\w*|RUBY\w*|NODE_\w+|JAVA_\w+|BASH_ENV|ENV|IFS|SHELLOPTS|BASHOPTS|HOME|XDG_\w+"
    r"|KUBECONFIG|DOCKER_\w+|GIT_\w+|SSH_\w+|\w*PAGER|\w*EDITOR|LESSOPEN|GCONV_PATH|GLIBC_TUNABLES|\w*PRELOAD\w*"
    r"|\w*PLUGIN\w*|\w*INJECTION\w*|VIRTUAL_ENV|CONDA_\w+|NCCL_CONF_FILE|OMP_TOOL_LIBRARIES|UCX_MODULE_DIR|CUDA_HOME"
    r"|TORCH_EXTENSIONS_DIR"
)


def may_change_code(name: str) -> bool:
    """Whether a variable of this name is known to change which code a program runs."""
    return _CODE_VARIABLE.fullmatch(name) is not None


def is_harmless_variable(name: str) -> bool:
    """Whether a variable of this name may be set for a command that starts without a question."""
    return _HARMLESS_VARIABLE.fullmatch(name) is not None and _NAMES_A_FILE.search(name) is None


def is_read_only(argv: Sequence[str], workspace: Path, found: str | None) -> bool:
    """Whether the command is a known diagnostic that changes nothing.

    Args:
        found: the path of the program that would start; None if it is not installed.
    """
    program, words = argv[0], list(argv[1:])
    if not _is_of_the_system(program, workspace, found):
        return False
    name = name_of(program)
    if name in ANY:
        return True
    if name in VERSION and len(words) == 1 and words[0] in _VERSION_WORDS:
        return True
    if name in ("docker", "kubectl", "helm", "podman") and words[:1] == ["version"]:
        return True
    if name == "nvidia-smi":
        return _smi_reads(words)
    if name == "dcgmi" and "health" in words[:1]:
        return bool({"-c", "--check", "-f", "--fetch"} & set(words)) and all(map(_DCGMI_HEALTH.fullmatch, words))
    if name in ONLY:
        return all(ONLY[name].fullmatch(word) for word in words)
    return name in VERBS and _verb_reads(words, VERBS[name])


def _is_of_the_system(program: str, workspace: Path, found: str | None) -> bool:
    """Whether the name means the known program: not a file of that name in the workspace."""
    if "/" in program:
        return SYSTEM_FOLDERS.fullmatch(str(Path(program).parent)) is not None and ".." not in Path(program).parts
    if found is None:
        return True  # it cannot start, so the name alone is judged
    return not Path(found).absolute().is_relative_to(workspace.absolute())


def _smi_reads(words: list[str]) -> bool:
    if words and (pattern := _SMI_SUBCOMMANDS.get(words[0])):
        return all(pattern.fullmatch(word) for word in words[1:])
    index = 0
    while index < len(words):
        if not _SMI.fullmatch(words[index]):
            return False
        index += 2 if words[index] in _SMI_VALUES else 1
    return True


def _verb_reads(words: list[str], spec: Verbs) -> bool:
    options = [word for word in words if word.startswith("-")]
    if spec.never and any(spec.never.match(word) for word in options):
        return False
    if spec.only and not all(spec.only.fullmatch(word) for word in options):
        return False
    said: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word in spec.values:
            index += 1
        elif not word.startswith("-"):
            said.append(word)
        elif not said and word.partition("=")[0] not in spec.values and not _BEFORE_VERB.fullmatch(word):
            return False
        elif len(said) == 1:
            said.append(word)
        index += 1
    text = " ".join(said)
    bare = " ".join(word for word in said if not word.startswith("-"))
    return any(bare == verb[:-1] if verb.endswith("$") else f"{text} ".startswith(f"{verb} ") for verb in spec.verbs)
