"""When Python looks for garbage: never while the dashboard opens, and later only among what is young.

A full collection over the modules and widgets of a dashboard takes 50 ms of CPU, several times a minute: each is a key
press that waits. What is there once the screen stands stays until the end, so it is taken out of every later
collection (`gc.freeze`). The thresholds stay as they are: with higher ones memory is not flat over hours.
"""

import gc


def pause_gc() -> None:
    """No collection from now on: nothing that is made while a program starts is garbage."""
    gc.disable()


def freeze_gc() -> None:
    """Collect again, leaving out all that is there by now."""
    gc.freeze()
    gc.enable()
