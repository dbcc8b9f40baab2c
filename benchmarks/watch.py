"""What a step of the callback costs, as a multiple of the network's own forward passes.

    python benchmarks/watch.py PHOTOS [--network efficientnet_lite0] [--limit 1000] [--steps 3]

The network is watched by ``profiler.callbacks.Watch``, which profiles all of its layers in the
words of common-3k as read by ConSE, and writes the run and the timeline. Before each step its
weights are moved a little, as training does. After each step the network alone runs over as many
prepared images, in the batches of a profile. Both are timed in seconds of CPU on one thread, which
other processes of a shared machine disturb less than seconds on the wall; the ratio is that of the
medians over all steps but the first, which decodes and embeds the images.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

import profiler as pf
from profiler.activations.collect import AUTO_BATCH
from profiler.callbacks import Watch


def main() -> None:
    """Print a line for each step, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    subject = pf.load_model(chosen.network, device="cpu")
    model = subject.model
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(
            model,
            images=chosen.photos,
            preprocess=subject.preprocess,
            vlm="conse",
            concepts="common-3k",
            limit=chosen.limit,
            max_seconds=None,
            out=Path(folder, "profiles"),
            on_error="raise",
            device="cpu",
            cache=Path(folder, "cache"),
        )
        steps, passes = [], []
        for step in range(chosen.steps + 1):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += torch.randn_like(parameter) * parameter.abs().mean() * 0.02 * step
            start = time.process_time()
            watch(step)
            steps.append(time.process_time() - start)
            passes.append(alone(watch, model))
            print(f"step {step}: {steps[-1]:.1f} s, forward passes {passes[-1]:.1f} s", flush=True)
    ratio = statistics.median(steps[1:]) / statistics.median(passes)
    print(f"a step after the first: {ratio:.2f} times the forward passes")


@torch.inference_mode()
def alone(watch: Watch, model: torch.nn.Module) -> float:
    """Seconds of CPU for the forward passes over the images that the watch keeps prepared."""
    images = watch._images
    batch = [images.prepared(i) for i in range(AUTO_BATCH)]  # in memory before the clock starts
    part = torch.stack(batch).contiguous(memory_format=torch.channels_last)
    start = time.process_time()
    for lo in range(0, len(images.names), AUTO_BATCH):
        model(part[: len(images.names) - lo])
    return time.process_time() - start


if __name__ == "__main__":
    main()
