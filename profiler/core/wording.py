"""Small pieces of English for texts written by template."""

from collections.abc import Sequence


def are(count: int) -> str:
    """Agree with a count.

    >>> are(1), are(2), are(0)
    ('is', 'are', 'are')
    """
    return "is" if count == 1 else "are"


def counted(count: int, one: str, many: str = "") -> str:
    """Put a count before its noun.

    >>> counted(1, "unit"), counted(1200, "unit"), counted(0, "category", "categories")
    ('1 unit', '1,200 units', '0 categories')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def joined(parts: Sequence[str]) -> str:
    """Join a list as in a sentence.

    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def named(name: str) -> str:
    """Quote a name of a layer, class, category or concept."""
    return f"“{name}”"


def sentence_case(text: str) -> str:
    """Raise the first letter; a quoted name keeps its own.

    >>> sentence_case("the early layers"), sentence_case("“conv1” responds")
    ('The early layers', '“conv1” responds')
    """
    return text[:1].upper() + text[1:]
