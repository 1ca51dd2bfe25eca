"""A benchmark's outcome beside its bound."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `reached` is None where the benchmark could not be made here; `measured` then says why.

    A figure without a bound is for the record; `reached` then says that it was measured.
    """

    name: str
    measured: str
    bound: str | None
    reached: bool | None

    def __str__(self) -> str:
        word = {True: "reached" if self.bound else "measured", False: "NOT REACHED", None: "not measured"}[self.reached]
        return f"| {self.name} | {self.measured} | {self.bound or 'for the record'} | {word} |"
