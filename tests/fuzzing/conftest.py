"""Folders of the fuzz targets are removed at the end: the processes of pytest-xdist end without doing that."""

from collections.abc import Iterator

import pytest

from fuzzing import commands
from fuzzing.target import remove_scratch


@pytest.fixture(scope="session", autouse=True)
def _scratch() -> Iterator[None]:
    yield
    commands.close()
    remove_scratch()
