"""
Payloads that only the application can read: what a codec does to values on their way.

A sealed value is JSON as any other, ``{"$lockstep": "name of the codec", "data": base64}``,
so that sealed and plain ones may stand beside each other: a trigger or psql knows no codec.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

from ._codec import decode_if_readable, decode_json, encode
from ._errors import PayloadError

_MARK = "$lockstep"


class PayloadCodec(Protocol):
    """
    Turns payloads into bytes that only the application can read, and back.

    ``name`` stands beside each sealed value in the database: another codec refuses it.
    Both raise any Exception for what they cannot read or write. They are called on the event
    loop and, for plain functions, on threads.
    """

    @property
    def name(self) -> str: ...
    def encode(self, data: bytes, /) -> bytes: ...
    def decode(self, data: bytes, /) -> bytes: ...


class Payloads:
    """What a worker or client does to each value that it writes or reads."""

    def __init__(
        self,
        codec: PayloadCodec | None,
        *,
        is_strict: bool = False,
        on_failure: Callable[[PayloadError], None] | None = None,
    ) -> None:
        self._codec = codec
        self._is_strict = is_strict  # a worker: no user code may get a sealed value for a plain one
        self._on_failure = on_failure

    def seal(self, text: str) -> str:
        """Return the JSON text of a value as it is stored."""
        if self._codec is None:
            return text
        try:
            data = base64.b64encode(self._codec.encode(text.encode())).decode()
        except Exception as error:
            raise self._failure("write", error) from error
        return encode({_MARK: self._codec.name, "data": data})

    def store(self, value: Any) -> str:
        """Return the JSON text of a value as it is stored."""
        return self.seal(encode(value))

    def store_all(self, values: Sequence[Any]) -> str:
        """Return the JSON text of positional arguments, each stored by itself."""
        if self._codec is None:
            return encode(list(values))
        return f"[{','.join(map(self.store, values))}]"

    def store_named(self, values: Mapping[str, Any]) -> str:
        """Return the JSON text of named arguments, each stored by itself."""
        if self._codec is None:
            return encode(dict(values))
        pairs = (f"{encode(str(name))}:{self.store(value)}" for name, value in values.items())
        return f"{{{','.join(pairs)}}}"

    def store_inputs(self, args: Sequence[Any], named_args: Mapping[str, Any]) -> str:
        """Return the JSON text of the inputs of a workflow."""
        named = self.store_named(named_args)
        return f'{{"positionalArgs":{self.store_all(args)},"namedArgs":{named}}}'

    def open(self, value: Any) -> Any:
        """Return a stored value as it was; raise PayloadError if it cannot be read."""
        if not _is_sealed(value) or (self._codec is None and not self._is_strict):
            return value
        if self._codec is None or value[_MARK] != self._codec.name:
            own = "none" if self._codec is None else f'"{self._codec.name}"'
            raise self._noted(f'a payload needs the codec "{value[_MARK]}", and this one has {own}')
        try:
            return decode_json(self._codec.decode(base64.b64decode(value["data"])).decode())
        except Exception as error:
            raise self._failure("read", error) from error

    def _failure(self, what: str, error: Exception) -> PayloadError:
        name = None if self._codec is None else self._codec.name
        return self._noted(f'the codec "{name}" cannot {what} a payload: {type(error).__name__}')

    def _noted(self, message: str) -> PayloadError:
        error = PayloadError(message)
        if self._on_failure is not None:
            self._on_failure(error)
        return error

    def load(self, text: str | None) -> Any:
        """Return the value of a stored JSON text."""
        return self.open(decode_json(text))

    def load_if_readable(self, text: str | None) -> Any:
        """Return the value of a stored JSON text, or that as UnreadableJson."""
        return self.open(decode_if_readable(text))

    def load_error(self, text: str | None) -> Any:
        """Return a stored error document as it was, or its text as UnreadableJson."""
        document = decode_if_readable(text)
        return self.open_error(document) if isinstance(document, dict) else document

    def load_inputs(self, text: str | None) -> Any:
        """Return the stored inputs of a workflow as they were, or their text as UnreadableJson."""
        inputs = decode_if_readable(text)
        return self.open_inputs(inputs) if isinstance(inputs, dict) else inputs

    def open_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a workflow as they were."""
        return {
            **inputs,
            "positionalArgs": [self.open(value) for value in inputs["positionalArgs"]],
            "namedArgs": {name: self.open(value) for name, value in inputs["namedArgs"].items()},
        }

    def seal_error(self, text: str) -> str:
        """Return an error document as it is stored: its type can be read, and nothing else."""
        if self._codec is None:
            return text
        return encode({"type": decode_json(text)["type"], "message": self.seal(text)})

    def open_error(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return an error document as it was, with what the database added to it."""
        message = document.get("message")
        if not isinstance(message, str) or not message.startswith(f'{{"{_MARK}":'):
            return document
        sealed = decode_if_readable(message)
        if not _is_sealed(sealed):
            return document  # what user code raised only looks like it
        opened = self.open(sealed)
        return (
            {**document, **opened, "type": document["type"]} if opened is not sealed else document
        )


def _is_sealed(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.keys() == {_MARK, "data"}


PLAIN = Payloads(None)
