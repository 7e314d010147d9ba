from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from lockstep import InvalidInput, StepFailed, Unserializable
from lockstep._codec import ArgumentCodec, ReturnCodec, decode_error, encode, encode_error
from pydantic import BaseModel


class Order(BaseModel):
    id: int
    placed_at: datetime


class PaymentDeclined(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"declined with code {code}")


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "ü", [1, "a"], {"k": [None]}])
def test_json_values_are_stored_as_they_are(value: Any) -> None:
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("value", [object(), {"k": {1: object()}}, "\x00", {"\x00": 1}, "\ud800"])
def test_what_postgres_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(Unserializable):
        encode(value)


def test_backslash_u0000_as_text_is_no_nul() -> None:
    assert json.loads(encode("\\u0000")) == "\\u0000"
    with pytest.raises(Unserializable):
        encode("\\\x00")


def test_not_a_number_is_stored_as_text() -> None:
    assert encode([float("nan"), float("inf")]) == '["NaN","Infinity"]'


def test_return_annotation_restores_the_value() -> None:
    def load() -> Order: ...  # type: ignore[empty-body]

    order = Order(id=1, placed_at=datetime(2026, 1, 2, tzinfo=timezone.utc))
    text, seen = ReturnCodec(load).encode(order)
    assert seen == order
    assert ReturnCodec(load).decode(json.loads(text)) == order


def test_unannotated_value_looks_the_same_before_and_after_a_crash() -> None:
    def load():  # type: ignore[no-untyped-def]
        ...

    codec = ReturnCodec(load)
    text, seen = codec.encode((1, Point(2, 3)))
    assert seen == [1, {"x": 2, "y": 3}] == codec.decode(json.loads(text))


def test_inputs_become_what_the_annotations_say() -> None:
    def workflow(order: Order, key: UUID, *, when: datetime, note: str = "-") -> None: ...

    args, kwargs = ArgumentCodec("workflow", workflow).decode(
        {
            "positionalArgs": [{"id": "7", "placed_at": "2026-01-02T00:00:00Z"}],
            "namedArgs": {
                "key": "12345678-1234-5678-1234-567812345678",
                "when": "2026-01-02T00:00:00Z",
            },
        }
    )
    bound = {**dict(zip(("order", "key"), args, strict=False)), **kwargs}
    assert isinstance(bound["order"], Order)
    assert isinstance(bound["key"], UUID)
    assert isinstance(bound["when"], datetime)


@pytest.mark.parametrize(
    ("positional", "named", "text"),
    [
        (["x"], {}, "valid integer"),
        ([], {}, "Missing required argument"),
        ([1, 2], {}, "Unexpected positional argument"),
        ([1], {"other": 1}, "Unexpected keyword argument"),
    ],
)
def test_inputs_that_do_not_fit_say_why(
    positional: list[Any], named: dict[str, Any], text: str
) -> None:
    def workflow(number: int) -> None: ...

    with pytest.raises(InvalidInput, match=text):
        ArgumentCodec("workflow", workflow).decode(
            {"positionalArgs": positional, "namedArgs": named}
        )


def test_unannotated_functions_still_check_their_arguments() -> None:
    def workflow(a, b=1):  # type: ignore[no-untyped-def]
        ...

    codec = ArgumentCodec("workflow", workflow)
    assert codec.decode({"positionalArgs": [5], "namedArgs": {"b": 6}})
    with pytest.raises(InvalidInput):
        codec.decode({"positionalArgs": [], "namedArgs": {}})


@pytest.mark.parametrize("error", [ValueError("no"), PaymentDeclined(5), InvalidInput("bad")])
def test_recorded_error_is_caught_as_its_own_class(error: Exception) -> None:
    again = decode_error(json.loads(encode_error(error)))
    assert type(again) is type(error)
    assert str(again) == str(error)


class Outer:
    class Missing(Exception):
        pass


def test_error_of_a_nested_class_is_found() -> None:
    again = decode_error(json.loads(encode_error(Outer.Missing("gone"))))
    assert type(again) is Outer.Missing


def test_annotated_scalar_is_what_the_annotation_says_at_once() -> None:
    def load() -> UUID: ...  # type: ignore[empty-body]

    _, seen = ReturnCodec(load).encode("12345678-1234-5678-1234-567812345678")
    assert isinstance(seen, UUID)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(10**5000, id="digits"),
        pytest.param(json.loads("[" * 250 + "]" * 250), id="deep"),
    ],
)
def test_value_that_could_not_be_read_again_is_refused(value: Any) -> None:
    def load():  # type: ignore[no-untyped-def]
        ...

    with pytest.raises(Unserializable):
        ReturnCodec(load).encode(value)


def test_error_of_an_unknown_class_is_a_step_failure() -> None:
    again = decode_error({"type": "gone.module.Error", "message": "m"})
    assert isinstance(again, StepFailed)
    assert (again.type, again.message) == ("gone.module.Error", "m")


def test_type_that_is_no_exception_is_not_raised() -> None:
    assert isinstance(decode_error({"type": "os.system", "message": "m"}), StepFailed)
    assert isinstance(decode_error({"type": "print", "message": "m"}), StepFailed)


def test_unstorable_characters_of_an_error_are_replaced() -> None:
    document = json.loads(encode_error(ValueError("a\x00b\ud800c")))
    assert document["message"] == "a\N{REPLACEMENT CHARACTER}b?c"
    assert "ValueError" in document["traceback"]


def test_parameter_may_be_annotated_with_what_is_not_imported() -> None:
    def load(connection: NotImported) -> UUID: ...  # type: ignore[name-defined]  # noqa: F821

    _, seen = ReturnCodec(load).encode("12345678-1234-5678-1234-567812345678")
    assert isinstance(seen, UUID)
