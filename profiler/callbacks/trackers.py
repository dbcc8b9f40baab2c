"""Numbers, a picture and a page for a tracker, by what it can do: none is a dependency.

===================  ===============  =============  ================
tracker              numbers          picture        page
===================  ===============  =============  ================
``SummaryWriter``    ``add_scalar``   ``add_image``  its path as text
``mlflow``           ``log_metric``   ``log_image``  ``log_artifact``
W&B, trackio         ``log``          ``Image``      ``Html``
Lightning's loggers  ``log_metrics``  as the ``experiment`` has it
===================  ===============  ===============================
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PICTURE, PAGE = "profiler/picture", "profiler/timeline"


def send(
    tracker: Any, step: int, scalars: Mapping[str, float], image: Image.Image, page: Path
) -> None:
    """Log a step.

    Args:
        tracker: as the module says; of one with several, such as Lightning's ``CSVLogger``, what
            it cannot keep is left out.
        step: of the training.
        scalars: by name.
        image: one picture.
        page: an HTML file.

    Raises:
        TypeError: it is no tracker that is known.
    """
    if hasattr(tracker, "experiment") and hasattr(tracker, "log_metrics"):  # Lightning's
        tracker.log_metrics(dict(scalars), step=step)
        _media(tracker.experiment, step, {}, image, page, getattr(tracker, "run_id", None))
    elif not _media(tracker, step, scalars, image, page, None):
        raise TypeError(f"{type(tracker).__name__} has no method to log with")


def _media(
    tracker: Any,
    step: int,
    scalars: Mapping[str, float],
    image: Image.Image,
    page: Path,
    run_id: str | None,
) -> bool:
    """Log with what a tracker has; whether it has anything."""
    if hasattr(tracker, "add_scalar"):
        for name, value in scalars.items():
            tracker.add_scalar(name, value, step)
        tracker.add_image(PICTURE, np.asarray(image), step, dataformats="HWC")
        tracker.add_text(PAGE, str(page.resolve()), step)
        tracker.flush()
    elif hasattr(tracker, "log_artifact") and hasattr(tracker, "log_metric"):  # MLflow
        # The client that Lightning keeps is told the run, the module knows it.
        own = () if run_id is None else (run_id,)
        for name, value in scalars.items():
            tracker.log_metric(*own, name, value, step=step)
        tracker.log_image(*own, image, key=PICTURE.replace("/", "-"), step=step)
        tracker.log_artifact(*own, str(page), artifact_path="profiler")
    elif hasattr(tracker, "log"):  # W&B, trackio, and their runs
        kinds = _kinds_of(tracker)
        media = {PICTURE: kinds.Image(image), PAGE: kinds.Html(str(page))} if kinds else {}
        tracker.log({**scalars, **media}, step=step)
    else:
        return False
    return True


def _kinds_of(tracker: Any) -> Any:
    """The module with the kinds of media that a tracker takes: the one that it is from, or is."""
    module = getattr(tracker, "__name__", type(tracker).__module__)
    found = sys.modules.get(module.partition(".")[0])
    return found if hasattr(found, "Image") and hasattr(found, "Html") else None
