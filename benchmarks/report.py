"""A benchmark's outcome beside its bound."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `reached` is None where the benchmark could not be made here; `measured` then says why."""

    name: str
    measured: str
    bound: str
    reached: bool | None

    def __str__(self) -> str:
        word = {True: "reached", False: "NOT REACHED", None: "not measured"}[self.reached]
        return f"| {self.name} | {self.measured} | {self.bound} | {word} |"
