"""Values for the arguments of SQL functions: such as callers pass, and such as break things."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from property.catalog import Field, Function
from property.world import NAMES

LONG = "q" * 513
NASTY_TEXTS = [
    *("", " ", "\t\n", "'", '"', "\\", "\\\\", "%", "%s%n", "%I", "_", "$1", "$$", "{}", "{", "}"),
    *(
        "null",
        "NULL",
        "a,b",
        "a:b",
        "a.b",
        "a/b",
        "../../x",
        "\x01\x1f\x7f",
        "\r\n",
        "-- x",
        "/* x",
    ),
    *("'; DROP TABLE lockstep.queue; --", '"; SELECT 1; --', "pg_temp.x", "*", "(SELECT 1)"),
    *("\N{RIGHT-TO-LEFT OVERRIDE}abc", "e\N{COMBINING ACUTE ACCENT}" * 20, "\N{PILE OF POO}" * 512),
    *("\N{ZERO WIDTH SPACE}", "\N{NO-BREAK SPACE}", "\ufeff", "\uffff", "\U0010ffff", "İıß"),
    *("q" * 63, "q" * 64, "q" * 512, LONG, "\N{PILE OF POO}" * 513, "q" * 10_000, "q" * 1_000_000),
]
NASTY_JSON = [
    *("null", "true", "0", '""', "[]", "{}", "[[]]", "[null]", "[1]", '["x"]', "[{}]", "[[{}]]"),
    *(
        '{"": ""}',
        '{"a": {"b": null}}',
        '{"positionalArgs": 1}',
        "1e400",
        "-1e-400",
        "NaN".join('""'),
    ),
    *('"\\ud83d\\ude00"', '"\\u0001"', "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900),
    *(
        json.dumps("q" * 70_000),
        json.dumps([{}] * 300),
        json.dumps({str(i): i for i in range(500)}),
    ),
]
INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
INTERVALS = [
    *(
        "0 s",
        "1 us",
        "-1 us",
        "1 s",
        "-1 s",
        "1 day",
        "1 month",
        "1 mon -30 days",
        "-1 mon 30 days",
    ),
    *("1000 years", "1000 years 1 us", "1001 years", "-1000 years", "-178000000 years"),
    *("178000000 years", "2147483647 days", "-2147483648 days", "2562047788:00:54.775807"),
    *("178000000 years 2147483647 days", "12 mons -359 days -23:59:59"),
]
MOMENTS = [
    *("infinity", "-infinity", "epoch", "4713-01-01 00:00 BC", "0001-01-01 00:00+00", "now"),
    *("294276-12-31 23:59:59.999999+00", "9999-12-31 23:59:59+00", "10000-01-01 00:00+00"),
    *("2000-02-29 00:00+00", "2026-03-29 02:30 Europe/Berlin", "tomorrow", "yesterday"),
]
FLOATS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e308",
    "-1e308",
    "1e-308",
    "0",
    "-0",
    "-1",
    "1e15",
    "0.5",
]

texts = st.one_of(
    st.sampled_from(NASTY_TEXTS),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
)
json_texts = st.one_of(
    st.sampled_from(NASTY_JSON),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
        )
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
)


def hostile(type_name: str) -> st.SearchStrategy[Any]:
    """Return values of a type as far out as the type goes, in the words of SQL."""
    if type_name.endswith("[]"):
        element = hostile(type_name[:-2])
        lists = st.lists(st.none() | element, max_size=4)
        shapes = ["{}", "{NULL}", "[0:0]={NULL}", "{{NULL,NULL},{NULL,NULL}}"]
        if type_name != "timestamp with time zone[]":
            shapes += ["[5:6]={1,2}", "{{1,2},{3,4}}"]
        return st.none() | lists | st.sampled_from(shapes)
    values: dict[str, st.SearchStrategy[Any]] = {
        "text": texts,
        "name": texts,
        "jsonb": json_texts,
        "boolean": st.booleans(),
        "double precision": st.sampled_from(FLOATS) | st.floats().map(repr),
        "numeric": st.sampled_from(["NaN", "0", "-1", "1e400", "-1e400", "0." + "0" * 300 + "1"]),
        "interval": st.sampled_from(INTERVALS),
        "timestamp with time zone": st.sampled_from(MOMENTS),
        "oid": st.sampled_from(["0", "4294967295"]),
        "bytea": st.binary(max_size=40).map(lambda data: "\\x" + data.hex()),
        "regclass": st.sampled_from(NAMES["regclass"]),
        "anyelement": st.sampled_from(NAMES["anyelement"]),
    }
    if type_name in INTEGERS:
        end = INTEGERS[type_name]
        return st.none() | st.sampled_from([0, 1, -1, end - 1, -end]) | st.integers(-end, end - 1)
    return st.none() | values[type_name]


def ordinary(function: Function, field: Field) -> st.SearchStrategy[Any]:
    """Return values of an argument that reach the deeper paths of the function."""
    if (function.name, field.name) in NAMES:
        return st.sampled_from(NAMES[function.name, field.name])
    if field.name in function.documents:
        return documents(function, field.name).map(json.dumps)
    if field.name == "changes" and function.parts:
        return changes(function)
    if field.name in NAMES:
        return st.sampled_from(NAMES[field.name])
    if field.type_name.endswith("[]"):
        name = field.name.removesuffix("s")
        alone = ordinary(function, Field(name, field.type_name[:-2], is_optional=True))
        return st.lists(alone, min_size=1, max_size=2)
    return st.sampled_from(NAMES[field.type_name])


@st.composite
def documents(draw: st.DrawFn, function: Function, argument: str) -> list[Any]:
    """Return a JSON document of the fields that the function reads, one or two of them hostile."""
    elements = []
    for _ in range(draw(st.integers(0, 3))):
        fields = function.documents[argument]
        odd = draw(st.sets(st.sampled_from([field.name for field in fields]), max_size=1))
        element = {}
        for field in fields:
            if field.name in odd:
                element[field.name] = draw(hostile_json(field.type_name))
            elif draw(st.integers(0, 5)):
                value = draw(ordinary(Function(function.name, ()), field))
                element[field.name] = json.loads(value) if field.type_name == "jsonb" else value
        elements.append(element)
    if elements and draw(st.integers(0, 3)) == 0:
        elements.append(elements[0])
    return elements


def changes(function: Function) -> st.SearchStrategy[str]:
    """Return the changes of a worker: some of the parts that the function knows."""
    parts = {
        part: documents(called, called.arguments[-1].name)
        for part, called in function.parts.items()
    }
    return st.fixed_dictionaries({}, optional=parts).map(json.dumps)


def hostile_json(type_name: str) -> st.SearchStrategy[Any]:
    """Return what may stand in a document where a value of the type is expected."""
    fitting = hostile(type_name)
    return (
        fitting.map(lambda text: None if text is None else json.loads(text))
        if type_name == "jsonb"
        else fitting
    ) | json_texts.map(json.loads)
