"""Calls into NVML that return a value or raise `Fault`, whatever the cause."""

import ctypes
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The meaning of a failed call; also the `code` of its note."""

    NO_DRIVER = "no_driver"
    LIBRARY_NOT_FOUND = "library_not_found"
    VERSION_MISMATCH = "version_mismatch"
    NO_PERMISSION = "no_permission"
    NOT_SUPPORTED = "not_supported"
    GPU_LOST = "gpu_lost"
    RESET_REQUIRED = "reset_required"
    TIMEOUT = "timeout"
    FAILED = "read_failed"


# Return codes of nvml.h (nvmlReturn_t). All others are temporary failures of one call.
_KINDS = {
    2: Kind.NOT_SUPPORTED,  # INVALID_ARGUMENT: the driver does not know this field, link or metric of this GPU
    3: Kind.NOT_SUPPORTED,
    4: Kind.NO_PERMISSION,
    9: Kind.NO_DRIVER,  # DRIVER_NOT_LOADED
    10: Kind.TIMEOUT,
    12: Kind.LIBRARY_NOT_FOUND,
    13: Kind.NOT_SUPPORTED,  # FUNCTION_NOT_FOUND: a driver older than the call
    15: Kind.GPU_LOST,
    16: Kind.RESET_REQUIRED,
    18: Kind.VERSION_MISMATCH,  # LIB_RM_VERSION_MISMATCH
    25: Kind.NOT_SUPPORTED,  # ARGUMENT_VERSION_MISMATCH
    26: Kind.NOT_SUPPORTED,  # DEPRECATED
}
_FUNCTION_NOT_FOUND = 13
# A name that is not UTF-8; a library that cannot be mapped; an argument or an answer of another kind.
_OF_THE_BINDING = (ValueError, OSError, TypeError, AttributeError, ArithmeticError, ctypes.ArgumentError)


class Fault(Exception):
    """A failed NVML call: its name, NVML's return code, and the meaning."""

    def __init__(self, function: str, number: int, kind: Kind | None = None) -> None:
        self.function = function
        self.number = number
        self.kind = kind or _KINDS.get(number, Kind.FAILED)
        super().__init__(f"{function} returned {number}")

    def as_kind(self, kind: Kind) -> "Fault":
        """The same failure, where the circumstances give its code another meaning."""
        return Fault(self.function, self.number, kind)


class Calls:
    """The binding's functions by name.

    Every failure is a `Fault`. A function that an older binding does not have gives NVML's "function not found".
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding

    def __call__(self, function: str, *arguments: Any, **named: Any) -> Any:
        """The function's result.

        Raises:
            Fault: NVML, the binding or the decoding of the result failed.
        """
        target = getattr(self.binding, function, None)
        if target is None:
            raise Fault(function, _FUNCTION_NOT_FOUND)
        try:
            return target(*arguments, **named)
        except self.binding.NVMLError as error:
            raise Fault(function, int(error.value)) from error
        # A driver older than the call, for which the binding has an exception that is not an NVMLError.
        except getattr(self.binding, "NVMLLibraryMismatchError", ()) as error:
            raise Fault(function, _FUNCTION_NOT_FOUND) from error
        except _OF_THE_BINDING as error:
            raise Fault(function, 999) from error

    def optional(self, function: str, *arguments: Any) -> Any | None:
        """The function's result, or None if it failed: for values that are only displayed."""
        try:
            return self(function, *arguments)
        except Fault:
            return None


# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h); the last two need newer drivers.
_THROTTLE_BITS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}


def throttle_names(bits: int) -> list[str]:
    """The throttle reasons in NVML's mask, in bit order; an unknown bit is `bit_<n>`."""
    return [
        _THROTTLE_BITS.get(1 << position, f"bit_{position}")
        for position in range(bits.bit_length())
        if bits >> position & 1
    ]


_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t


def field_value(calls: Calls, handle: Any, field_id: int, scope: int = 0) -> float:
    """One field of nvmlDeviceGetFieldValues, in the field's own unit.

    Raises:
        Fault: the call failed, or the field has an error code.
    """
    return field_values(calls, handle, [(field_id, scope)])[0]


def field_values(calls: Calls, handle: Any, wanted: list[tuple[int, int]]) -> list[float]:
    """Several fields (id, scope) in one call; for NVLink counters a call takes 2.6 ms for any number of fields."""
    found = []
    for item in calls("nvmlDeviceGetFieldValues", handle, wanted):
        if item.nvmlReturn != 0:
            raise Fault(f"nvmlDeviceGetFieldValues({item.fieldId})", item.nvmlReturn)
        if not 0 <= item.valueType < len(_VALUE_MEMBERS):
            raise Fault(f"nvmlDeviceGetFieldValues({item.fieldId})", 999)
        found.append(getattr(item.value, _VALUE_MEMBERS[item.valueType]))
    return found
