"""Tasks with `pydantic=True`: models among their arguments are validated, and one that they return is dumped."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from djtasks.serializers.optional import library

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Models:
    """What the annotations of a task's function say of models."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        bind: bool,
        strict: bool = False,
        context: Mapping[str, Any] | None = None,
        dump: Mapping[str, Any] | None = None,
        app: Callable[[], Any] = lambda: None,
    ) -> None:
        """Raises ImproperlyConfigured when pydantic is not installed."""
        self._base = library("pydantic", "pydantic").BaseModel
        self._function = function
        self._signature = inspect.signature(function)
        self._hints = _hints(function, self._signature)
        self._bind = bind
        self._name, self._strict, self._context, self._app = name, strict, dict(context or {}), app
        #: How a model is dumped.
        self._dump = {"mode": "json", **(dump or {})}

    def wrapped(self) -> Callable[..., Any]:
        """The function, which takes dicts for its models and returns one for a model that it returns."""
        function, signature, models = self._function, self._signature, self

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                model = models._model_of(name, value)
                if model is not None:
                    bound.arguments[name] = models._validated(model, value)
            answer = function(*bound.args, **bound.kwargs)
            if isinstance(answer, types.CoroutineType):
                return models._dumped_later(answer)
            return models._dumped_answer(answer)

        return wrapper

    def dump_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call with dicts for those models that the task can make again of them.

        What cannot be made again stays as it is, for the serializer to say so.
        """
        if not any(isinstance(value, self._base) for value in (*args, *kwargs.values())):
            return args, kwargs
        parameters = list(self._signature.parameters.values())[1 if self._bind else 0 :]
        names = [each.name for each in parameters if each.kind in _POSITIONAL]
        named = {each.name for each in parameters if each.kind in _NAMED}
        padded = [*names, *[None] * len(args)]
        return (
            tuple(self._dumped(name, value) for name, value in zip(padded, args, strict=False)),
            {key: self._dumped(key if key in named else None, value) for key, value in kwargs.items()},
        )

    def _model_of(self, name: str, value: Any) -> Any:
        """The model that the argument is annotated with; None when it is with none, or is None and may be."""
        hint = self._hints.get(name)
        inner = _inside_optional(hint)
        if inner is not None and value is not None:
            hint = inner
        return hint if isinstance(hint, type) and issubclass(hint, self._base) else None

    def _validated(self, model: Any, value: Any) -> Any:
        context = {**self._context, "celery_app": self._app(), "celery_task_name": self._name}
        return model.model_validate(value, strict=self._strict, context=context)

    async def _dumped_later(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self._dumped_answer(await answer)

    def _dumped_answer(self, value: Any) -> Any:
        if not isinstance(value, self._base):
            return value
        hint = self._hints.get("return")
        hint = _inside_optional(hint) or hint
        fits = isinstance(hint, type) and isinstance(value, hint)
        return value.model_dump(**self._dump) if fits else value

    def _dumped(self, name: str | None, value: Any) -> Any:
        if name is None or not isinstance(value, self._base) or hasattr(type(value), "__json__"):
            return value
        model = self._model_of(name, value)
        if model is None:
            return value
        try:
            dumped = value.model_dump(**self._dump)
            return dumped if self._validated(model, dumped) == value else value
        except Exception:
            # Its validators may work in a worker only.
            return value


def _hints(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, AttributeError, TypeError):
        # A name that only type checkers import.
        hints = {name: each.annotation for name, each in signature.parameters.items()}
        return {**hints, "return": signature.return_annotation}


def _inside_optional(hint: Any) -> Any:
    """X of `X | None`; None for anything else."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return None
    members = typing.get_args(hint)
    if len(members) != 2 or type(None) not in members:
        return None
    return members[0] if members[1] is type(None) else members[1]
