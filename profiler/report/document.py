"""One self-contained HTML file from a template, the shared style and script, and data blocks.

Nothing is loaded from anywhere: the Content-Security-Policy of the page allows the one style
sheet and the one script by their hashes, pictures from ``data:`` URIs, and nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from profiler.report import text

TEMPLATES = Path(__file__).parent / "templates"
"""What all reports share; a story's own files lie with the story: ``compare/compare.html``."""
PLACES = (TEMPLATES, Path(__file__).parents[1])
"""Where a name of a template, a stylesheet or a script is looked up."""

MEGABYTE = 1_000_000


def render(template: str, *, extra: Sequence[str] = (), **context: Any) -> str:
    """Render a page of the report family.

    ``template`` extends ``base.html``; ``context["page"]`` has what every report says: title,
    examined, summary, summary_author, command, provenance, limits and warnings. ``extra`` names
    pairs of a stylesheet and a script that only some reports need.
    """
    style = "".join(map(_asset, ["style.css", *(f"{name}.css" for name in extra)]))
    script = "".join(
        map(_asset, ["script.js", "take.js", *(f"{name}.js" for name in extra), "start.js"])
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    html = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704 our own file
            script=Markup(script),  # noqa: S704 our own file
            policy=Markup(policy),  # noqa: S704 fixed text and hashes
            **context,
        )
    )
    # A file name that is not valid UTF-8 must not make the page impossible to write.
    return html.encode("utf-8", "replace").decode("utf-8")


def fragment(template: str, **context: Any) -> str:
    """Render a piece of markup that stands for itself, without style sheet or script."""
    return _environment().get_template(template).render(**context)


def size(html: str) -> int:
    """Bytes of the page on disk."""
    return len(html.encode("utf-8", "replace"))


def json_block(data: Any) -> Markup:
    r"""Write JSON that may stand inside ``<script type="application/json">``.

    Nothing in it can end the block, open a comment or break a line of script.

    >>> str(json_block(["</script><!--"]))
    '["\\u003c/script\\u003e\\u003c!--"]'
    """
    dumped = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return Markup(dumped)  # noqa: S704 escaped just above


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PLACES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=text.count,
        coord=lambda value: f"{value:.3f}".rstrip("0").rstrip("."),
        json_block=json_block,
        count_of=len,
    )
    environment.globals.update(share_of=text.share_of, percent=text.percent, plural=text.plural)
    return environment


@cache
def _asset(name: str) -> str:
    return next(p / name for p in PLACES if (p / name).exists()).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
