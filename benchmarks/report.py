"""The result of a benchmark beside its bound."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure as a row of the table.

    `reached` is None if the benchmark cannot run here; `measured` then says why. A figure without a bound is for the
    record: `reached` is True once it is measured.
    """

    name: str
    measured: str
    bound: str | None
    reached: bool | None

    def __str__(self) -> str:
        word = {True: "reached" if self.bound else "measured", False: "NOT REACHED", None: "not measured"}[self.reached]
        return f"| {self.name} | {self.measured} | {self.bound or 'for the record'} | {word} |"
