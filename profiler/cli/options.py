"""Options that several commands share: declared once, as a dataclass, and received as one object.

::

    @dataclass(frozen=True)
    class Loading:
        partial: Partial = False
        preprocess: PreprocessText = None

    @app.command()
    @grouped()
    def debug(context: typer.Context, *, out: OutFolder = None, loading: Loading) -> None: ...

On the command line, and in a file of options, nothing is to be seen of it.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command: a parameter that is a dataclass stands for an option a field.

    Args:
        without: fields that are no options of this command; they keep their defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options: list[inspect.Parameter] = []
        groups: dict[str, tuple[type, list[str]]] = {}
        for own in inspect.signature(command).parameters.values():
            if not is_dataclass(own.annotation):
                options.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            types = get_type_hints(own.annotation, include_extras=True)
            shared = [
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=types[field.name],
                )
                for field in fields(own.annotation)
                if field.name not in without
            ]
            options += shared
            groups[own.name] = own.annotation, [each.name for each in shared]  # type: ignore[assignment]

        @wraps(command)
        def call(**given: Any) -> None:
            for name, (kind, names) in groups.items():
                given[name] = kind(**{each: given.pop(each) for each in names})
            command(**given)

        # Where typer looks for the options.
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in options}
        return call

    return decorate
