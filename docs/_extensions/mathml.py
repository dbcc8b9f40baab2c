"""Formulas as MathML, which browsers draw by themselves: a page loads nothing to show them."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

FENCES = re.compile(r'<mo(?: class="mathopen")?>(?=[‖⟨⟩]</mo>)')
"""Of which TeX makes large ones only after ``\\left`` and ``\\right``."""


def _mathml(node, as_block=False):
    return FENCES.sub('<mo stretchy="false">', tex2mathml(node.astext(), as_block=as_block))


def _inline(translator, node):
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="formula">{_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    """Offer it as ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
