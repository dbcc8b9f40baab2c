#!/usr/bin/env bash
# The image pass on a GPU, in under five minutes and without a network: the fast tests of networks
# and passes, images a second, memory, and whether labels are those of the CPU.
#
#     benchmarks/gpu.sh [FOLDER OF PHOTOGRAPHS]
#
# Needs a Python with torch for CUDA; packages that it lacks are installed from wheels in $WHEELS, if
# that is set, and from nowhere else. Ends with status 0 if all of it holds, 3 without a GPU.
# DEVICE=cpu in place of cuda tries the script itself where there is no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON="${PYTHON:-python3}"
PHOTOS="${1:-synthetic}"
OUT="${OUT:-$(mktemp -d)}"
DEVICE="${DEVICE:-cuda}"
export OUT DEVICE PROFILER_CACHE_DIR="$OUT/cache" HF_HUB_OFFLINE=1

if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m venv --system-site-packages "$OUT/venv"
    PYTHON="$OUT/venv/bin/python"
    "$PYTHON" -m pip install --quiet --no-index --find-links "$WHEELS" --editable '.[offline]' pytest hypothesis
fi

[ "$DEVICE" = cpu ] || "$PYTHON" - <<'END' || exit 3
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("there is no CUDA device")
about = torch.cuda.get_device_properties(0)
print(f"{about.name}, {about.total_memory >> 30} GiB, torch {torch.__version__}")
END

echo "== tests"
PROFILER_TEST_DEVICE="$DEVICE" timeout 120 "$PYTHON" -m pytest -q -x -p no:cacheprovider \
    -m "not slow and not browser" tests/activations

echo "== one profile on each device"
for name in reference "$DEVICE"; do
    "$PYTHON" - "$name" "$PHOTOS" "$OUT" <<'END'
import sys, time
import torch
from pathlib import Path
from profiler.api.objects import open_inputs
from profiler.core.store import Store
from profiler.models.subject.loading import load_subject
from profiler.profile.run import ProfileOptions, profile
from profiler.session import Provenance, Reading, Services

name, photos, out = sys.argv[1:]
device = torch.device("cpu" if name == "reference" else name)
subject = load_subject("efficientnet_lite0", device)
probe, concepts, vlm = open_inputs(photos, "visual", "conse:objects", device, limit=512)
eyes = vlm()
options = ProfileOptions(
    reading=Reading(batch_size=64, workers=8), scenes=0, provenance=Provenance(date="2026-01-01")
)
services = Services(store=Store(Path(out, "cache", name)))
start = time.perf_counter()
run = profile(subject, eyes, probe, concepts, Path(out, name), options, services)
spent = run.record.timings["images"]
print(f"{name}: {len(probe.names) / spent:.0f} images/s in the pass, {time.perf_counter() - start:.0f} s in all")
if device.type == "cuda":
    print(f"peak of GPU memory: {torch.cuda.max_memory_allocated() >> 20} MiB")
END
done

echo "== labels"
"$PYTHON" - <<'END'
import csv, os, sys
rows = []
for name in ("reference", os.environ["DEVICE"]):
    with open(os.path.join(os.environ["OUT"], name, "descriptions.csv"), encoding="utf-8") as file:
        rows.append([(row["layer"], row["unit"], row["description"]) for row in csv.DictReader(file)])
same = sum(one == other for one, other in zip(*rows, strict=True))
print(f"{same} of {len(rows[0])} labels are the same on both devices")
# Activations differ in their last bits, so a unit between two words may take either.
sys.exit(same < 0.99 * len(rows[0]))
END
