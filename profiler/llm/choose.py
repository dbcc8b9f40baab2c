"""From the text of ``--llm`` to a language model."""

from pathlib import Path

from profiler.errors import UsageError
from profiler.llm.base import LLM
from profiler.llm.scripted import Scripted


def open_llm(
    spec: str,
    *,
    base_url: str | None = None,
    cache_dir: Path | None = None,
    refresh: bool = False,
) -> LLM | None:
    """``none`` gives None, ``scripted:FILE`` the stand-in, anything else is a model's name.

    ``cache_dir`` is the folder of accepted replies, which ``refresh`` does not read.

    >>> open_llm("none") is None
    True
    """
    spec = spec.strip()
    if not spec:
        raise UsageError("the LLM's name is empty; give a model's name, scripted:FILE or none")
    if spec == "none":
        return None
    if spec.startswith("scripted:"):
        return Scripted(spec.removeprefix("scripted:"))
    # Here, because the package of that name takes half a second.
    from profiler.llm.openai_compatible import OpenAICompatible

    return OpenAICompatible(spec, base_url, cache_dir=cache_dir, refresh=refresh)
