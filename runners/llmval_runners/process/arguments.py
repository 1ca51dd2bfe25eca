"""The argument parser of all runners, and types for its flags."""

import argparse
from typing import NoReturn

from llmval_runners.process.errors import Refused


class Parser(argparse.ArgumentParser):
    """A parser that raises Refused for a wrong command line, in place of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}: see --help for the flags and their values.")


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share above 0 and up to 1")
    return value


def natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value
