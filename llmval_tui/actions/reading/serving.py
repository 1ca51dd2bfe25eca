"""Commands that start a server which no list names: by the words "serve" and "server" in them, not by the program."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

_ENDS = {"deploy", "status", "config", "build", "shutdown", "stop", "delete", "list"}  # after "serve"
_NO_SERVER = {"--help", "-h", "--version"}
_MODULE = re.compile(
    r"(?:.*\.)?(?:serve|server|api_server|launch_server|openai_server|frontend|model_worker|controller)"
)
_DYNAMO = re.compile(r"dynamo\.(?:frontend|vllm|sglang|trtllm|mocker)")
_SCRIPT = re.compile(r"(?:.*_)?(?:serve|server)\.py|app\.py")
_IMAGE = re.compile(
    r"(?:.*/)?(?:vllm-openai|text-generation-inference|sglang|tritonserver|llama\.cpp|ollama|nim/[\w./-]+)(?::[\w.-]+)?"
)
_PERFTEST = re.compile(r"(?:ib|raw_ethernet)_(?:write|read|send|atomic)_(?:bw|lat)")
_PERFTEST_VALUE = re.compile(
    r"-[dxsnpqtimcDQSuwogrIl]|--(?:ib-dev|gid-index|size|iters|port|qp|tx-depth|duration|mtu|connection|use_cuda|ib-port"
    r"|sl|tclass)"
)


def serves(words: Sequence[str]) -> bool:
    """Whether a command, without what stands in front of it, starts a server that waits for others."""
    if _NO_SERVER & set(words) or len(words) < 2:
        return False
    program = PurePosixPath(words[0]).name
    if _PERFTEST.fullmatch(program):
        hosts = [
            word
            for at, word in enumerate(words[1:], 1)
            if not word.startswith("-") and not _PERFTEST_VALUE.fullmatch(words[at - 1])
        ]
        return not hosts
    if program == "python":
        if words[1] == "-m" and len(words) > 2:
            return bool(_MODULE.fullmatch(words[2]) or _DYNAMO.fullmatch(words[2])) or _says_serve(words[3:])
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        return _SCRIPT.fullmatch(PurePosixPath(script).name) is not None
    if program in ("docker", "podman", "nerdctl") and words[1] == "run":
        return _container_serves(words[2:])
    return _says_serve(words[1:]) or list(words[:2]) == ["serve", "run"]


def _says_serve(words: Sequence[str]) -> bool:
    """Whether "serve" is the first word behind a program: `lmdeploy serve …`; "-n serve" is only a name."""
    return list(words[:1]) == ["serve"] and not _ENDS & set(words[1:2])


def _container_serves(words: Sequence[str]) -> bool:
    """A server's image in the foreground, that publishes a port or uses the host's network."""
    flags = [word.partition("=")[0] for word in words]
    if {"-d", "--detach", "--entrypoint"} & set(flags):
        return False
    reached = {"-p", "-P", "--publish", "--publish-all", "--network", "--net"} & set(flags)
    image = next((at for at, word in enumerate(words) if _IMAGE.fullmatch(word)), None)
    if image is None or not reached:
        return False
    command = words[image + 1 : image + 2]
    return not command or command[0].startswith("-") or "serve" in " ".join(words[image + 1 :])
