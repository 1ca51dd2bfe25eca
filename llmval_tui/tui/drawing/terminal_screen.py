"""The cells that the terminal shows, so that only cells that differ are sent.

Textual repaints whole widgets: the whole screen at the start and while a dialog is open. Most of these cells are
blank or already on the terminal.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress, groupby
from operator import ne

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style
from textual.strip import Strip

from llmval_tui.terminal.cell_width import cell_len

_ATTRIBUTES = (
    ("bold", "1"),
    ("dim", "2"),
    ("italic", "3"),
    ("underline", "4"),
    ("blink", "5"),
    ("reverse", "7"),
    ("strike", "9"),
)
# By the name that a Rich console has for its colours. Any other name: no colours and no attributes.
COLOR_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}
RESET = "\x1b[0m"
SGR = tuple[str, str, str]  # attributes, foreground, background as SGR parameters
PLAIN: SGR = ("", "", "")
Cell = tuple[str, SGR]  # "" is the right half of a wide character
Span = tuple[int, int, Sequence[Cell]]  # row, first column, cells
BLANK: Cell = (" ", PLAIN)
UNKNOWN: Cell = ("\0", PLAIN)  # differs from every cell that is drawn
FEW = 12  # pieces of a picture
STYLES = 128  # at most this many are remembered, with at most 129 signs each
GAP = 4  # unchanged cells between two changed ones: sending them costs no more than moving the cursor
ERASE = "\x1b[K"  # to the end of the row
ERASE_FROM = 8  # blank cells at the end of a row from which on an erase is shorter


class TerminalScreen:
    """What the terminal shows, as far as it is known."""

    def __init__(self, *, erases_with_colour: bool = False) -> None:
        self.erases_with_colour = erases_with_colour  # terminfo's `bce`: an erased cell gets the background colour
        self._rows: list[list[Cell]] = []
        self._known = False

    def forget(self) -> None:
        """The terminal may show anything now; the next drawing sends every cell."""
        self._known = False

    def knows(self, size: tuple[int, int]) -> bool:
        """Whether the contents of the terminal are known, and it has this size (columns, rows)."""
        width, height = size
        return self._known and len(self._rows) == height and all(len(row) == width for row in self._rows[:1])

    def draw(self, size: tuple[int, int], spans: Iterable[Span]) -> str:
        """The bytes that make the terminal of this size (columns, rows) show the spans.

        If the terminal's contents are unknown, the spans must be the whole screen.
        """
        width, height = size
        spans = list(spans)
        start = ""
        state = PLAIN
        if not self.knows(size):
            state = self._commonest_background(spans)
            start = f"{RESET}{transition(PLAIN, state)}\x1b[2J"
            self._rows = [[(" ", state)] * width for _ in range(height)]
            self._known = True
        pieces = [
            piece
            for y, x, cells in spans
            if 0 <= y < height and x < width
            for piece in self._changed_pieces(y, x, cells[: width - x])
        ]
        # Colour by colour: moving the cursor is shorter than changing the colour. Of a few pieces, both are tried.
        by_colour = written(sorted(pieces, key=lambda piece: piece.style[::-1]), state, width)
        return start + (by_colour if len(pieces) > FEW else min(by_colour, written(pieces, state, width), key=len))

    def _commonest_background(self, spans: Sequence[Span]) -> SGR:
        """The style of most blank cells, if the terminal can erase with it."""
        if not self.erases_with_colour:
            return PLAIN
        count: dict[SGR, int] = {}
        for _, _, cells in spans:
            for (text, style), run in groupby(cells):
                if text == " " and not style[0]:
                    plain = ("", "", style[2])
                    count[plain] = count.get(plain, 0) + sum(1 for _ in run)
        return max(count, key=lambda style: count[style], default=PLAIN)

    def _changed_pieces(self, y: int, x: int, cells: Sequence[Cell]) -> list["Piece"]:
        """The cells of a row that differ, and remembers them as sent."""
        row = self._rows[y]
        wanted = list(cells)
        shown = row[x : x + len(wanted)]
        if wanted == shown:
            return []
        changed = list(compress(range(len(wanted)), map(ne, wanted, shown)))
        erased = self._erased_from(wanted, x, changed, len(row))
        pieces: list[Piece] = []
        last: Piece | None = None
        for index in changed:
            if index >= erased:
                break
            text, style = wanted[index]
            if last is not None and x + index == last.end:
                own = last.style
                if style is own or style == own or (text == " " and _same_blank(style, own)):
                    # No method, because most cells come here.
                    last.texts.append(text)
                    last.end += 1
                    last.blank = last.blank and text == " "
                    continue
            while index > 0 and not wanted[index][0]:
                index -= 1  # the left half of a wide character
            at = x + index
            if (
                last is not None
                and at - last.end <= GAP
                and (at < last.end or last.takes(wanted[last.end - x : index + 1]))
            ):
                continue
            last = Piece(y, x + index, wanted[index])
            pieces.append(last)
        if erased < len(wanted):
            pieces.append(Piece(y, x + erased, (ERASE, wanted[erased][1])))
        end = x + len(wanted)
        if shown[0][0] == "" and x > 0:
            row[x - 1] = UNKNOWN  # it was the left half of a wide character
        if end < len(row) and row[end][0] == "":
            row[end] = UNKNOWN
        row[x:end] = wanted
        return pieces

    def _erased_from(self, wanted: Sequence[Cell], x: int, changed: Sequence[int], width: int) -> int:
        """The first cell of the blank end of the row, if erasing it is shorter than writing it; else the row's end."""
        end = len(wanted)
        if x + end != width or wanted[-1][0] != " " or len(changed) < ERASE_FROM:
            return end
        style = wanted[-1][1]
        if style[0] or (style[2] and not self.erases_with_colour):
            return end
        first = end
        while first > 0 and wanted[first - 1] == wanted[-1]:
            first -= 1
        return first if sum(1 for index in changed if index >= first) >= ERASE_FROM else end


class Piece:
    """Cells of a row that follow each other and have one style."""

    __slots__ = ("blank", "end", "style", "texts", "x", "y")

    def __init__(self, y: int, x: int, cell: Cell) -> None:
        self.y, self.x = y, x
        self.texts, self.style = [cell[0]], cell[1]
        self.end = x + 1
        self.blank = cell[0] == " " and not cell[1][0]  # so far it has any colour of letters

    def takes(self, cells: Sequence[Cell]) -> bool:
        """Append the cells after the end, if all of them have the style and those before the last are few."""
        if len(cells) - 1 > GAP:
            return False
        style, blank = self.style, self.blank
        for text, wanted in cells:
            if wanted == style or (text == " " and _same_blank(wanted, style)):
                blank = blank and text == " "
            elif blank and _same_blank(style, wanted):
                style, blank = wanted, text == " " and not wanted[0]
            else:
                return False
        self.style, self.blank = style, blank
        self.texts += [text for text, _ in cells]
        self.end += len(cells)
        return True


def written(pieces: Iterable[Piece], state: SGR, width: int) -> str:
    """The bytes that write the pieces in this order, from a style in which the terminal is."""
    out: list[str] = []
    y = x = -1  # where the cursor is; -1: not known
    for piece in pieces:
        if piece.y != y:
            out.append(f"\x1b[{piece.y + 1};{piece.x + 1}H")
        elif piece.x != x:
            out.append(f"\x1b[{piece.x + 1}G")
        if piece.style != state:
            out.append(transition(state, piece.style))
            state = piece.style
        out += piece.texts
        y, x = piece.y, piece.end if piece.end < width and piece.texts[0] != ERASE else -1
    if state != PLAIN:
        out.append(RESET)
    return "".join(out)


@lru_cache(maxsize=64)
def _marks_blanks(attributes: str) -> bool:
    """Whether a blank with these attributes is not blank: underlined, reversed or struck through."""
    return not {"4", "7", "9"}.isdisjoint(attributes.split(";"))


@lru_cache(maxsize=4096)
def _same_blank(wanted: SGR, state: SGR) -> bool:
    """Whether a blank written in the style `state` looks like one in the style `wanted`."""
    return wanted[2] == state[2] and not wanted[0] and not _marks_blanks(state[0])


def cells_of(strip: Strip, console: Console) -> list[Cell]:
    """The cells of a strip in the colours of the console."""
    system = COLOR_SYSTEMS.get(console.color_system or "")
    cells: list[Cell] = []
    for text, style, control in strip:
        if control or not text:
            continue
        signs = _signs(PLAIN if style is None or system is None else sgr_codes(style, system))
        if text.isascii():
            cells += map(signs.__getitem__, text)
            continue
        for character in text:
            width = cell_len(character)
            if width == 0 and cells:
                cells[-1] = (cells[-1][0] + character, cells[-1][1])
                continue
            cells.append(signs[character])
            if width == 2:
                cells.append(signs[""])
    return cells


class _Signs(dict[str, Cell]):
    """The cells of one style, each made once.

    A frame has 8,000 cells. As new objects they would start the collection of garbage within the frame, for 1 to 30 ms.
    """

    def __init__(self, codes: SGR) -> None:
        super().__init__()
        self._codes = codes
        # A blank looks the same in every weight and colour of letters.
        self[" "] = (" ", codes if _marks_blanks(codes[0]) else ("", "", codes[2]))

    def __missing__(self, sign: str) -> Cell:
        cell = sign, self._codes
        if sign.isascii():  # those of charts are many, so that the memory would grow for hours
            self[sign] = cell
        return cell


_signs = lru_cache(maxsize=STYLES)(_Signs)


@lru_cache(maxsize=4096)
def sgr_codes(style: Style, system: ColorSystem) -> SGR:
    """A style as its SGR parameters: attributes, foreground, background (ECMA-48, 8.3.117)."""
    attributes = ";".join(code for name, code in _ATTRIBUTES if getattr(style, name))
    return attributes, _colour(style.color, system, True), _colour(style.bgcolor, system, False)


def _colour(colour: Color | None, system: ColorSystem, foreground: bool) -> str:
    if colour is None or colour.is_default:
        return ""
    return ";".join(colour.downgrade(system).get_ansi_codes(foreground=foreground))


@lru_cache(maxsize=16384)
def transition(before: SGR, after: SGR) -> str:
    """The shortest sequence that turns one style into another."""
    if before == after:
        return ""
    if before[0] != after[0] or any(old and not new for old, new in zip(before[1:], after[1:], strict=True)):
        # An attribute or a colour is removed: reset first.
        rest = ";".join(part for part in after if part)
        return f"\x1b[0;{rest}m" if rest else RESET
    return f"\x1b[{';'.join(new for old, new in zip(before, after, strict=True) if new != old)}m"
