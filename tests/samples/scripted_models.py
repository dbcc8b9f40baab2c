"""Scripted models that answer at a server, to be asked about a profile.

A model is a list of steps; each looks up the ids of facts in what it was told, as a real one does.
"""

import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from llm_server import Behaviour, Body, Fail, Say, message

Step = Callable[["Model", Body], Behaviour]
FORMS = ("tools", "json_schema", "json_object", "text")


class Model:
    """What answers at the server: steps in order, in the form that the server takes."""

    def __init__(self, *steps: Step, form: str = "tools") -> None:
        self.steps = deque(steps)
        self.form = form

    def __call__(self, body: Body) -> Behaviour:
        asked = (
            "tools" if "tools" in body else body.get("response_format", {"type": "text"})["type"]
        )
        if FORMS.index(asked) < FORMS.index(self.form):
            what = "tools" if asked == "tools" else "response_format"
            return Fail(400, f"{what} is not supported")
        return self.steps.popleft()(self, body)

    def calls(self, *calls: tuple[str, Any]) -> Behaviour:
        """Ask for calls, each with arguments as an object or as text."""
        if self.form != "tools":
            actions = [{"tool": name, "arguments": given} for name, given in calls]
            return Say("\n".join(map(json.dumps, actions)))
        listed = [
            {
                "id": f"c{place}",
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": given if isinstance(given, str) else json.dumps(given),
                },
            }
            for place, (name, given) in enumerate(calls)
        ]
        return message(None, "tool_calls", tool_calls=listed)


def call(name: str, **arguments: Any) -> Step:
    return lambda model, _: model.calls((name, arguments))


def submit(*sentences: str, missing: str = "") -> Step:
    """Submit sentences in which <what a fact is> stands for its id."""

    def step(model: Model, body: Body) -> Behaviour:
        told = known(body)
        filled = [re.sub(r"<([^<>]+)>", lambda m: "{" + found(told, m[1]) + "}", each)
                  for each in sentences]  # fmt: skip
        return model.calls(("submit", {"sentences": filled, "missing": missing}))

    return step


def known(body: Body) -> dict[str, str]:
    """What the conversation says that each id is, and how it is stated."""
    text = "\n".join(str(each.get("content")) for each in body["messages"])
    return {line[2]: line[1] for line in re.finditer(r"^\{([a-z]{8})\} (.+)$", text, re.MULTILINE)}


def found(told: dict[str, str], what: str) -> str:
    return next(number for line, number in told.items() if what in line)


def raw(behaviour: Behaviour) -> Step:
    return lambda *_: behaviour


RIGHT = submit("In late <interpretable units in “late”> are interpretable.")
PRINTED = "In late 3 of 4 units (75.0 %) [1] are interpretable."
LOOK = call("layer_profile", layers="late")
"""A look, a right answer, and how that is printed."""
