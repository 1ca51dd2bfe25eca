"""Programs that can damage a node or the work of others: they ask each time, whatever was answered before."""

import re
from collections.abc import Sequence

from llmval_tui.actions.review.wrappers import name_of

ALWAYS = frozenset(
    [
        # files and disks
        "rm", "rmdir", "unlink", "shred", "dd", "truncate", "wipefs", "fdisk", "sfdisk", "gdisk", "sgdisk", "parted",
        "blkdiscard", "mkswap", "swapoff", "umount", "mount", "tune2fs", "resize2fs", "fsck", "hdparm", "lvremove",
        "vgremove", "pvremove", "cryptsetup", "mdadm", "zpool", "srm",
        # the machine
        "reboot", "shutdown", "poweroff", "halt", "init", "telinit", "kexec", "rmmod", "insmod", "modprobe",
        "setpci", "flint", "nvflash", "fwupdmgr", "efibootmgr", "grub-install", "update-grub", "dracut",
        "powerprofilesctl", "nvidia-uninstall",
        # processes and users
        "kill", "pkill", "killall", "killall5", "skill", "xkill", "scancel", "useradd", "userdel", "usermod",
        "groupdel", "passwd", "chpasswd", "visudo",
        # network
        "iptables", "ip6tables", "nft", "ufw", "firewall-cmd", "ifdown", "ifup",
        # package managers: what they do depends on a server
        "apt", "apt-get", "aptitude", "dnf", "yum", "microdnf", "zypper", "pacman", "apk", "snap", "flatpak", "brew",
        "port", "npm", "yarn", "pnpm", "gem", "twine", "unattended-upgrade",
    ]
)  # fmt: skip
_ALWAYS_PATTERN = re.compile(r"(?:mkfs|fsck|swapoff)(?:\..+)?")

# Subcommands. The first word is looked for anywhere after the program, because it may follow options with values.
VERBS: dict[str, frozenset[str]] = {
    name: frozenset(verbs.split())
    for names, verbs in {
        "systemctl": "stop restart try-restart reload-or-restart disable mask kill isolate halt poweroff reboot "
        "suspend hibernate kexec set-default revert daemon-reexec emergency rescue edit clean start enable",
        "service rc-service": "stop restart reload start",
        "scontrol": "update reconfigure reconfig shutdown takeover delete suspend resume requeue requeuehold hold "
        "uhold release reboot reboot_nodes cancel_reboot setdebug create power abort completing",
        "sacctmgr": "add create modify delete remove dump load archive clear shutdown",
        "kubectl oc": "delete drain apply cordon uncordon taint replace patch scale autoscale rollout edit create "
        "label annotate set expose run certificate",
        "helm": "install upgrade uninstall delete rollback push",
        "docker podman nerdctl": "rm rmi kill stop restart prune push down volume",
        "crictl": "rm rmi rmp stop stopp",
        "git": "push reset clean filter-branch rebase checkout restore rm gc prune",
        "pip pip3": "install uninstall download",
        "conda mamba micromamba": "install remove update uninstall create clean",
        "uv": "sync publish add remove",
        "poetry": "install update publish add remove",
        "pipx": "install uninstall upgrade",
        "cargo": "install publish uninstall yank",
        "ipmitool": "power reset raw clear set bootdev activate",
        "nvme": "format sanitize fw-download fw-commit fw-activate write-zeroes write delete-ns create-ns reset",
        "ip": "set add del delete change replace flush up down",
        "zfs": "destroy rollback create set",
        "btrfs": "delete device balance",
        "cpupower": "frequency-set idle-set set",
        "mlxconfig": "set reset -y",
        "mlxfwreset": "reset",
        "mst": "start stop restart",
        "terraform tofu": "apply destroy import",
        "lctl": "set_param conf_param dk",
        "lfs": "setstripe migrate mirror setquota rm_entry hsm_remove hsm_release",
        "crontab": "-r -e",
        "nmcli": "down delete modify up",
        "tc": "add del change replace",
        "tuned-adm": "profile off auto_profile",
        "dcgmi": "config policy group fieldgroup",
        "timedatectl": "set-time set-timezone set-ntp",
        "hostnamectl": "set-hostname hostname",
        "loginctl": "terminate-session terminate-user kill-session kill-user",
        "rdma": "set add del",
        "amd-smi": "set reset",
        "make ninja": "install uninstall publish deploy",
    }.items()
    for name in names.split()
}

# `nvidia-smi nvlink` reads capabilities, error counters and bus ids by flags that set something without `nvlink`.
_NVLINK_READS = ("-c", "-e", "-p")
# Flags that change something; matched at the beginning of a word.
FLAGS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "nvidia-smi": r"(?:-r|-pl|-lgc|-rgc|-lmc|-rmc|-lmcd|-rmcd|-ac|-rac|-acp|-pm|-mig|-c|-e|-p|-am|-caa|-cc|-fdm"
        r"|-gtt|-vm|-dm|-lpc|-jpc)(?:$|=|\d)|--(?:gpu-reset|power-limit|lock-gpu|reset-gpu|lock-memory|reset-memory|"
        r"applications-clocks|reset-applications|persistence-mode|multi-instance|compute-mode|ecc-config|reset-ecc|"
        r"accounting-mode|clear-accounted|cuda-clocks|driver-model|gom|virt-mode|gpu-target-temp|auto-boost)|"
        r"(?:-?-?(?:cgi|dgi|cci|dci)$)|--(?:create|destroy)-|(?:drain|boost-slider|power-profiles|conf-compute|"
        r"power-smoothing|compute-policy)$",
        "find": r"-delete$|-fprint|-fls",
        "dpkg": r"-(?:i|r|P)$|--(?:install|remove|purge|configure|unpack)",
        "rpm": r"-[ieUFV]|--(?:install|erase|upgrade|rebuilddb|import)",
        "rsync": r"--(?:delete|remove-source)",
        "sysctl": r"-[wp]|--(?:write|load|system)|[^-][^=]*=",
        "ethtool": r"-[sKAGCLXENWUrpf]|--(?:change|set|config|reset|flash|pause|offload|coalesce|features|identify)",
        "hostname": r"[^-]|-F",
        "date": r"-s|--set|\d{6,}(?:\.\d+)?$",
        "dmesg": r"-[cC]|--(?:clear|read-clear)",
        "journalctl": r"--(?:rotate|vacuum)",
        "fuser": r"-[a-zA-Z]*k",
        "perfquery": r"-[rR]",
        "ibportstate": r"(?:disable|reset)$",
        "sed": r"-i|--in-place",
        "chmod": r"-R|--recursive",
        "chown": r"-R|--recursive",
        "tar": r"--remove-files",
        "tee": r"/(?:proc|sys|etc|dev|boot)/",
        "cp": r"/(?:proc|sys|etc|dev|boot)/",
        "mv": r"/(?:proc|sys|etc|dev|boot)/",
        "swapon": r"/|-a",
        "nvidia-settings": r"-a|--assign",
        "rocm-smi": r"--(?:set|reset|gpureset)",
        "curl": r"(?:-X|--request=)?(?:DELETE|PUT|PATCH)$|-T|--upload-file",
        "stress-ng": r"--(?:hdd|unlink)",
    }.items()
}

# In code of another language, or code that cannot be split into words.
_WORDS = re.compile(
    r"\b(?:rm|rmdir|dd|mkfs\w*|shred|wipefs|reboot|shutdown|poweroff|halt|kill|pkill|killall|scancel|umount|modprobe|"
    r"rmmod|rmtree|unlink|removedirs|killpg|truncate|apt|apt-get|dnf|yum|drop_caches)\b|os\.(?:remove|rename|replace|kill)"
)


def destructive_reason(argv: Sequence[str]) -> str | None:
    """The part of the command that can damage something, such as `kubectl delete`; None if none is known.

    Only the first word is taken for a program; see `programs.py` for wrappers.
    """
    name = name_of(argv[0])
    if name in ALWAYS or _ALWAYS_PATTERN.fullmatch(name):
        return name
    verbs = VERBS.get(name)
    if verbs and (verb := next((word for word in argv[1:] if word in verbs), None)):
        return f"{name} {verb}"
    flags = FLAGS.get(name)
    words = list(argv[1:])
    if name == "nvidia-smi" and words[:1] == ["nvlink"]:
        words = [word for word in words if word not in _NVLINK_READS]
    if flags and (flag := next((word for word in words if flags.match(word)), None)):
        return f"{name} {flag}"
    return None


def destructive_word(code: str) -> str | None:
    """The first destructive word of code that cannot be looked through; None if there is none."""
    found = _WORDS.search(code)
    return found[0] if found else None
