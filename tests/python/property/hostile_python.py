"""Values for the parameters of Python functions, by annotation: ordinary ones and odd ones."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Iterable as IterableType
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

import lockstep
from hypothesis import strategies as st
from lockstep._functions import WorkflowFunction
from lockstep._manage_calls import Nothing
from lockstep._options import ConfiguredWorkflow
from lockstep._retry import Retry

app = lockstep.App()


@app.workflow
def send(*args: Any, **named_args: Any) -> None:
    """Do nothing."""


class Unspeakable:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class Odd:
    """A value that is passed instead of this; what it is made of need not be printable."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        try:
            return repr(self.value)[:200]
        except Exception as error:
            return f"<{type(self.value).__name__}: {type(error).__name__}>"


def _circular() -> Any:
    values: dict[str, Any] = {}
    values["itself"] = [values]
    return values


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


TEXTS = [
    *("", " ", "a\0b", "a\ud800b", "\udfff", "q" * 513, "q" * 1_000_000, "'; --", "%s", "%(a)s"),
    *("\N{RIGHT-TO-LEFT OVERRIDE}x", "\N{PILE OF POO}" * 512, "İ", "\x1b[2J", "{}", "infinity"),
]
INTEGERS = [0, -1, 2**15, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, 10**400, True]
DURATIONS = [
    *(timedelta(0), timedelta(microseconds=-1), timedelta.min, timedelta.max),
    *(timedelta(days=365_250), timedelta(days=-1), timedelta(microseconds=1)),
]
MOMENTS = [
    *(datetime.min, datetime.max, datetime(2026, 1, 1), date(2026, 1, 1)),
    *(datetime.max.replace(tzinfo=zone) for zone in (timezone.utc, timezone(timedelta(hours=-23)))),
    *(datetime.min.replace(tzinfo=zone) for zone in (timezone.utc, timezone(timedelta(hours=23)))),
    datetime(2026, 3, 29, 2, 30, tzinfo=timezone.utc),
]
MAPPINGS = [
    *({}, {"": ""}, {1: 2}, {None: 1}, {"a\0": 1}, {"a": "\0"}, {"\ud800": 1}, {(1, 2): 3}),
    *(
        {"max_attempts": -1},
        {"max_attempts": 2**40},
        {"max_attempts": "3"},
        {"delay": timedelta.max},
    ),
    *({"delay": math.nan}, {"delay": math.inf}, {"backoff": 0}, {"jitter": 7}, {"tries": 1}),
    *({"a": object()}, {"a": math.nan}, {"a": 10**400}, _circular(), {"a": _deep(300)}),
    *(types.MappingProxyType({"a": 1}), {"$lockstep": "x", "data": "y"}),
]
OBJECTS = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        math.nan,
        math.inf,
        10**400,
        Decimal("NaN"),
        1j,
        "",
        "x",
        b"\xff",
        (),
    ),
    *([], {}, {1, 2}, object(), Unspeakable(), _circular(), _deep(300), _deep(5000), print, type),
    *(timedelta(1), datetime(2026, 1, 1), range(3), memoryview(b"x"), ValueError("x"), ...),
]

_BY_TYPE: dict[Any, list[Any]] = {
    str: TEXTS,
    int: INTEGERS,
    bool: [0, 2, "yes", []],
    timedelta: DURATIONS,
    datetime: MOMENTS,
    WorkflowFunction: [
        *(
            send,
            send.options(delay=timedelta.max),
            send.options(priority=2**40),
            "",
            "a\0",
            send.function,
        ),
        send.options(run_at=datetime(2026, 1, 1)),
    ],
    ConfiguredWorkflow: [send.options(queue_name=""), send.options(retries=7)],  # type: ignore[arg-type]
    Retry: [Retry(retry_on=ValueError), Retry(delay=timedelta.max)],
}


def hostile(annotation: Any) -> st.SearchStrategy[Odd]:
    """Return values for a parameter: of its type as far out as it goes, and of any other."""
    return st.one_of(
        *(st.sampled_from(each).map(Odd) for each in (*_odd(annotation), OBJECTS) if each)
    )


def _odd(annotation: Any) -> list[list[Any]]:
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return [values for each in get_args(annotation) for values in _odd(each)]
    if origin is Literal:
        return [TEXTS]
    if origin is Mapping:
        return [MAPPINGS]
    if origin in (Sequence, IterableType):
        (element,) = get_args(annotation)
        inside = [value for values in _odd(element) for value in values]
        return [[[value] for value in inside], [{"a": 1}, "text", ["x", None], [["x"]]]]
    if origin in (type(None), Any, list, Nothing):
        return []
    return [_BY_TYPE[origin]]


def ordinary(name: str, annotation: Any, named: Callable[[str], list[Any]]) -> list[Any]:
    """Return values of a parameter that are accepted: those of its name, or of its type."""
    return named(name) or _ordinary(annotation)


def _ordinary(annotation: Any) -> list[Any]:
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return [value for each in get_args(annotation) for value in _ordinary(each)]
    if origin is Literal:
        return list(get_args(annotation))
    by_type: dict[Any, list[Any]] = {
        str: ["some"],
        int: [1, 2],
        bool: [True, False],
        timedelta: [timedelta(minutes=1)],
        datetime: [datetime(2026, 1, 1, tzinfo=timezone.utc)],
        Mapping: [{"order_id": 1}],
        WorkflowFunction: [send],
        ConfiguredWorkflow: [send.options(priority=3)],
        Retry: [Retry(max_attempts=2)],
        type(None): [None],
        list: [[]],
        Any: [{"a": [1]}, None],
    }
    if origin in (Sequence, IterableType):
        (element,) = get_args(annotation)
        return [[value] for value in _ordinary(element)]
    return by_type[origin]
