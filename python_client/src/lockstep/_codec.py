"""Python values to JSON that Postgres can hold, and back by annotation."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic_core import PydanticSerializationError, from_json, to_json

from ._errors import InvalidInput, StepFailed, Unserializable

_JSON_TYPES = (None, type(None), bool, int, float, str, Any, inspect.Signature.empty)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SIZE_LIMIT = 16 * 2**20
"""Bytes of one value, as what enqueue_workflow() and send_message() take."""
_MESSAGE_LIMIT = 10_000
_TRACEBACK_LIMIT = 20_000


def encode(value: object) -> str:
    """Return the value as JSON text; raise Unserializable if it has none in Postgres."""
    if value is None:
        return "null"
    try:
        encoded = to_json(value, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise Unserializable(f"cannot store {_describe(value)} as JSON: {error}") from error
    if len(encoded) > _SIZE_LIMIT:
        raise Unserializable(
            f"cannot store {_describe(value)}: it takes {len(encoded) / 2**20:.1f} MB as JSON,"
            " more than 16 MB; keep large data elsewhere and pass its key"
        )
    text = encoded.decode()
    if "\\u0000" in text and _NUL.search(text):
        raise Unserializable(
            f"cannot store {_describe(value)}: JSON in Postgres has no NUL character"
        )
    return text


def decode_json(text: str | None) -> Any:
    """Return the value of a JSON text; raise Unserializable where jsonb holds more than Python."""
    try:
        return None if text is None else from_json(text)
    except ValueError as error:
        raise Unserializable(
            f"cannot read a JSON value of {len(text or '')} characters: {error}"
        ) from error


class UnreadableJson(str):
    """
    The text of a JSON value that Python's parser refuses, in the place of the value.

    jsonb holds values that are nested more deeply, and numbers with more digits. Whoever
    lists workflows still sees that they are there.
    """

    __slots__ = ()


def decode_if_readable(text: str | None) -> Any:
    """Return the value of a JSON text, or the text as UnreadableJson."""
    try:
        return decode_json(text)
    except Unserializable:
        return UnreadableJson(text)


def _describe(value: object) -> str:
    return f"a value of type {type(value).__qualname__}"


class ReturnCodec:
    """Encodes what a function returns and restores it by the return annotation."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        # the return annotation alone: that of a parameter may name what is not imported
        function = inspect.unwrap(self._function)
        alone = SimpleNamespace(
            __annotations__={"return": function.__annotations__.get("return", Any)}
        )
        annotation = get_type_hints(alone, function.__globals__, include_extras=True)["return"]
        return None if annotation in _JSON_TYPES else TypeAdapter(annotation)

    def encode(self, value: object) -> tuple[str, Any]:
        """
        Return the value as JSON text, and as replay will see it.

        The workflow goes on with the latter, so that it sees the same before and after
        a crash: a tuple that nothing annotates is a list both times.
        """
        text = encode(value)
        if self._adapter is None and (value is None or type(value) in (bool, str)):
            return text, value
        return text, self.decode(decode_json(text))

    def decode(self, value: object) -> Any:
        """Return the recorded JSON value as the annotation wants it."""
        return value if self._adapter is None else self._adapter.validate_python(value)


class ArgumentCodec:
    """Fits the inputs of a workflow row to the function's signature."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function

    @functools.cached_property
    def _validate(self) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
        def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args, kwargs

        return validate_call(functools.wraps(self._function)(capture))

    def takes(self, name: str) -> bool:
        """Tell whether the function can be called with an argument of the name."""
        parameters = inspect.signature(self._function).parameters
        return name in parameters or any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
        )

    def decode(self, inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        Return the arguments to call the function with.

        ``inputs`` is ``{"positionalArgs": [...], "namedArgs": {...}}``. Raises InvalidInput,
        with the validation's own text, before any user code runs.
        """
        try:
            return self._validate(*inputs["positionalArgs"], **inputs["namedArgs"])
        except ValidationError as error:
            raise InvalidInput(f'inputs do not fit "{self._name}": {error}') from error


def encode_error(error: BaseException) -> str:
    """
    Return the exception as ``{"type", "message", "traceback", "args"}`` in JSON text.

    ``args`` is left out where it is no JSON, or long.
    """
    cls = type(error)
    try:
        message = str(error)
        lines = "".join(traceback.format_exception(cls, error, error.__traceback__))
    except Exception as broken:  # the exception's own __str__ fails
        message = f"<its message cannot be shown: {type(broken).__name__}>"
        lines = "".join(traceback.format_tb(error.__traceback__))
    name = cls.__qualname__
    if cls.__module__ not in ("builtins", "lockstep._errors"):
        name = f"{cls.__module__}.{name}"
    document: dict[str, Any] = {
        "type": name,
        "message": _storable(message)[:_MESSAGE_LIMIT],
        "traceback": _storable(lines)[-_TRACEBACK_LIMIT:],
    }
    with contextlib.suppress(Unserializable):
        text = encode({**document, "args": error.args})
        if len(text) < 2 * _TRACEBACK_LIMIT:
            return text
    return encode(document)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def decode_error(document: dict[str, Any]) -> Exception:
    """
    Return an exception that the same ``except`` clauses catch as the recorded one.

    Its class is looked up among the loaded modules, never imported; the instance is made
    without calling ``__init__``, so it has its ``args`` and no further attributes.
    """
    type_name, message = document["type"], document["message"]
    cls = _find_class(type_name)
    if isinstance(cls, type) and issubclass(cls, Exception):
        try:
            error = cls.__new__(cls, message)
        except TypeError:
            return StepFailed(type_name, message)
        error.args = tuple(document.get("args", (message,)))
        return error
    return StepFailed(type_name, message)


def _find_class(type_name: str) -> Any:
    """Return what a recorded type names in a loaded module, nested classes included."""
    parts = type_name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:count]))
        if found is not None:
            for name in parts[count:]:
                found = getattr(found, name, None)
            return found
    return getattr(builtins, type_name, getattr(sys.modules["lockstep._errors"], type_name, None))
