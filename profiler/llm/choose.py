"""From the text of ``--llm`` to a language model."""

from pathlib import Path

from profiler.errors import UsageError
from profiler.llm.base import LLM
from profiler.llm.openai_compatible import OpenAICompatible
from profiler.llm.prices import Price
from profiler.llm.scripted import Recording, Scripted


def open_llm(
    spec: str,
    *,
    base_url: str | None = None,
    cache_dir: Path | None = None,
    refresh: bool = False,
    timeout: float = 120.0,
    max_attempts: int = 6,
    total_time: float = 600.0,
    price: Price | None = None,
    record: Path | None = None,
) -> LLM | None:
    """``none`` gives None, ``scripted:FILE`` the stand-in, anything else is a model's name.

    ``cache_dir`` is the folder of accepted replies; ``record`` a file to which every reply is
    written for later replay with ``scripted:FILE``.

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
    llm = OpenAICompatible(
        spec,
        base_url,
        cache_dir=cache_dir,
        refresh=refresh,
        timeout=timeout,
        max_attempts=max_attempts,
        total_time=total_time,
        price=price,
    )
    return llm if record is None else Recording(llm, record)
