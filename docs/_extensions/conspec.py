"""Colours for specifications: the words of the language, and what is quoted."""

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Text, Whitespace

from profiler.spec.language.tokens import KEYWORDS

ATOMS = ("predict", "hasCon")


class ConspecLexer(RegexLexer):
    """Con_spec."""

    name = "Con_spec"
    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Whitespace),
            (r"#.*$", Comment),
            (r'"[^"\n]*"', String),
            (words(ATOMS, r"\b", r"\b"), Name.Builtin),
            (words(sorted({*KEYWORDS} - {*ATOMS}), r"\b", r"\b"), Keyword),
            (r"\d+(\.\d+)?%?", Number),
            (r"=>|->|>=|[⇒→∀∃∈∧∨¬>=&|!]", Operator),
            (r"[\w-]+|.", Text),
        ]
    }


def setup(app):
    """Blocks of Markdown that are called ``conspec``."""
    app.add_lexer("conspec", ConspecLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
