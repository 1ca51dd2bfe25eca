"""When Python collects garbage: never while the dashboard opens, and later only among young objects.

A full collection over the modules and widgets of a dashboard takes 50 ms of CPU, several times a minute, and may delay
a key. Everything that exists once the screen is complete stays until the end, so `gc.freeze` excludes it from later
collections. The thresholds stay as they are: with higher ones, memory grows over hours.
"""

import gc


def pause_gc() -> None:
    """Stop collecting: objects made while a program starts are not garbage."""
    gc.disable()


def freeze_gc() -> None:
    """Collect again, without the objects that exist now."""
    gc.freeze()
    gc.enable()
