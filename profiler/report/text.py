"""Numbers as text, the same way on every page."""

import math
import re

THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def count(value: int) -> str:
    """Write an integer with its thousands set apart.

    >>> count(1690).replace(THIN, " ")
    '1 690'
    """
    return f"{value:,}".replace(",", THIN)


def percent(part: float, whole: float, digits: int = 0) -> str:
    """Write a share in per cent; something never rounds to nothing, nor a part to the whole.

    >>> [percent(part, 1000).replace(THIN, " ") for part in (0, 1, 424, 999, 1000)]
    ['0 %', '<1 %', '42 %', '>99 %', '100 %']
    >>> [percent(part, 1000, digits=1).replace(THIN, " ") for part in (0, 4)]
    ['0 %', '0.4 %']
    """
    if not whole:
        return NOTHING
    if not part:
        return f"0{THIN}%"
    step = 10.0**-digits
    share = 100.0 * part / whole
    if 0 < share < step / 2:
        return f"<{step:.{digits}f}{THIN}%"
    if part < whole and share >= 100 - step / 2:
        return f">{100 - step:.{digits}f}{THIN}%"
    return f"{math.floor(share / step + 0.5) * step:.{digits}f}{THIN}%"


def share_of(part: int, whole: int) -> str:
    """Write a share with the counts behind it.

    >>> share_of(1690, 2048).replace(THIN, " ")
    '83 %, 1 690 of 2 048'
    """
    return f"{percent(part, whole)}, {count(part)} of {count(whole)}"


def number(value: float, digits: int = 3) -> str:
    """Write a real number with a fixed count of decimals; an en dash where there is none.

    >>> number(-0.5), number(float("nan")), number(float("inf"))
    ('−0.500', '–', '∞')
    """
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def probability(value: float) -> str:
    """Write a p-value.

    >>> probability(0.0312), probability(0.0002), probability(float("nan"))
    ('0.031', '<0.001', '–')
    """
    return "<0.001" if value < 0.001 else number(value, 3)


def plural(value: int, one: str, many: str = "") -> str:
    """Write a count with its noun.

    >>> plural(1, "unit"), plural(3, "unit")
    ('1 unit', '3 units')
    """
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def decimals(spread: float) -> int:
    """Choose how many decimals tell apart values that lie this far apart: three or more.

    >>> decimals(3.7), decimals(0.4), decimals(0.02)
    (3, 3, 4)
    """
    if not (spread > 0 and math.isfinite(spread)):
        return 3
    return min(max(2 - math.floor(math.log10(spread)), 3), 6)


def typeset(text: str) -> str:
    """Numbers as the pages write them: thin spaces in thousands and before the per cent sign.

    >>> typeset("1,690 of 2,048 units (82.5 %, or 83%)").replace(THIN, "_")
    '1_690 of 2_048 units (82.5_%, or 83_%)'
    """
    text = re.sub(r"(?<=\d)[, ](?=\d{3}(?!\d))", THIN, text)
    return re.sub(r"(?<=\d) ?%", f"{THIN}%", text)


def signed(share: float, digits: int = 1) -> str:
    """Write a difference of shares in percentage points, with its sign.

    >>> signed(0.0712), signed(-0.03), signed(0.0), signed(-0.0001)
    ('+7.1', '−3.0', '0.0', '0.0')
    """
    points = round(100 * share, digits)
    text = number(points, digits)
    return f"+{text}" if points > 0 else text
