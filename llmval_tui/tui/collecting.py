"""When Python looks for garbage: never while the dashboard opens, and later only among what is young.

A full collection over the modules and widgets of a dashboard takes 50 ms of CPU, several times a minute: each is a key
press that waits. What is there once the screen stands stays until the end, so it is taken out of every later
collection (`gc.freeze`); what is made afterwards is mostly freed by reference counting.
"""

import gc

YOUNG = 10_000  # new containers between two looks at the young ones; Python's own 700 come with every painted pane


def pause() -> None:
    """No collection from now on: nothing that is made while a program starts is garbage."""
    gc.disable()


def settle() -> None:
    """Collect again, leaving out all that is there by now."""
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
    gc.enable()
