"""How many cells of the terminal a text takes, as Rich counts them. Rich is imported only for unusual characters.

Most texts have only characters of one cell, so most commands print without importing Rich.
"""

# One cell each in every Unicode version: Latin, Greek, Cyrillic, dashes and quotes, and our own signs.
_RANGES = (
    (0x20, 0x7E), (0xA0, 0xAC), (0xAE, 0x2FF), (0x370, 0x482), (0x2010, 0x2027), (0x2030, 0x205E), (0x2190, 0x2199),
    (0x2200, 0x22FF), (0x2500, 0x25FC), (0x2713, 0x2713), (0x2717, 0x2717), (0x276F, 0x276F), (0x2800, 0x28FF),
)  # fmt: skip
# Whether a text has only characters of one cell each, so that its width is its length.
is_narrow = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1)).issuperset


def cell_len(text: str) -> int:
    """The width of a text in cells."""
    if is_narrow(text):
        return len(text)
    from rich import cells

    return cells.cell_len(text)


def set_cell_size(text: str, total: int) -> str:
    """The text cut or padded with spaces to exactly `total` cells."""
    if is_narrow(text):
        return text[: max(0, total)].ljust(total)
    from rich import cells

    return cells.set_cell_size(text, total)
