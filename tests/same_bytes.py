"""Whether two versions of the program write the same files: byte by byte, but for times and ports.

::

    for version in before after; do
        (cd $version && python tests/tour.py /tmp/tour) && mv /tmp/tour /tmp/$version
    done
    python tests/same_bytes.py /tmp/before /tmp/after

Both tours run in a folder of one name, since commands name their files in what they write. How
long a stage took, when a label was rated and at which port a server listened are left out.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

MASKED = (
    (rb"http://127\.0\.0\.1:\d+", b"http://server"),
    (rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", b"then"),
)
SECONDS = {"timings", "seconds"}
"""What JSON calls the time that something took."""
SECONDS_IN_PAGES = rb'<dd>(?:images|words) [^<]*|(?<=<td class="figure-end">)\d+\.\d\d(?=</td>)'
NOT_COMPARED = {"cache.db"}
"""SQLite's file has pages in the order in which threads wrote them."""


def masked(path: Path) -> bytes:
    """A file's content, without what differs from run to run."""
    content = path.read_bytes()
    for pattern, text in MASKED:
        content = re.sub(pattern, text, content)
    if path.suffix == ".json":
        content = json.dumps(without_seconds(json.loads(content))).encode()
    if path.suffix == ".html":
        content = re.sub(SECONDS_IN_PAGES, b"", content)
    return content


def without_seconds(value: Any) -> Any:
    """JSON without what tells how long something took."""
    if isinstance(value, dict):
        return {key: without_seconds(v) for key, v in value.items() if key not in SECONDS}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def files(folder: Path) -> set[Path]:
    """Every file in a folder, relative to it."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in NOT_COMPARED
    }


def main() -> None:
    """Compare two folders; the exit status is 1 if they differ."""
    before, after = map(Path, sys.argv[1:3])
    one, other = files(before), files(after)
    lines = [f"only in {before}: {path}" for path in sorted(one - other)]
    lines += [f"only in {after}: {path}" for path in sorted(other - one)]
    shared = sorted(one & other)
    differ = [path for path in shared if masked(before / path) != masked(after / path)]
    lines += [f"differs: {path}" for path in differ]
    print(*lines, f"{len(shared) - len(differ)} of {len(one | other)} files are the same", sep="\n")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
