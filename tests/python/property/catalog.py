"""The public SQL functions as the database's catalog has them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import psycopg


@dataclass(frozen=True)
class Field:
    """An argument of a function, or a field of a JSON document that it takes."""

    name: str
    type_name: str
    is_optional: bool = False


@dataclass(frozen=True)
class Function:
    """
    A public function.

    ``documents`` has the fields that it reads of its JSON arguments, ``parts`` the function
    that reads each part of its argument "changes".
    """

    name: str
    arguments: tuple[Field, ...]
    capability: str = ""
    documents: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    parts: dict[str, Function] = field(default_factory=dict)


_FUNCTIONS = """
SELECT
    c.capability, p.proname, p.prosrc, p.pronargs - p.pronargdefaults,
    ARRAY(
        SELECT format_type(a.type, NULL)
        FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
        ORDER BY a.place
    ),
    p.proargnames
FROM lockstep._capabilities() AS c
INNER JOIN pg_proc AS p ON p.proname = c.function_name
WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prorettype <> 'trigger'::regtype
ORDER BY p.proname
"""
_DOCUMENT = re.compile(r"jsonb_to_recordset\((\w+)\.(\w+)\)\s*AS\s*\w*\s*\(([^)]*)\)")
_PART = re.compile(r"lockstep\.(\w+)\(\s*\w+\.executor_id, \w+\.changes -> '(\w+)'")
_SYNONYMS = {"int": "integer", "timestamptz": "timestamp with time zone"}


def public_functions(connection: psycopg.Connection[Any]) -> list[Function]:
    """Return every function that some capability may execute."""
    found = connection.execute(_FUNCTIONS).fetchall()
    functions = {
        name: Function(
            name,
            tuple(
                Field(argument, type_name, is_optional=place >= required)
                for place, (argument, type_name) in enumerate(zip(names or (), types, strict=False))
            ),
            capability,
            _documents(source),
        )
        for capability, name, source, required, types, names in found
    }
    for _, name, source, *_ in found:
        functions[name].parts.update(
            {part: functions[called] for called, part in _PART.findall(source)}
        )
    return list(functions.values())


def _documents(source: str) -> dict[str, tuple[Field, ...]]:
    found: dict[str, dict[str, Field]] = {}
    for _, argument, columns in _DOCUMENT.findall(source):
        for column in columns.split(","):
            name, type_name = column.split(maxsplit=1)
            element = type_name.strip().removesuffix("[]")
            type_name = _SYNONYMS.get(element, element) + type_name.strip()[len(element) :]
            found.setdefault(argument, {})[name] = Field(name, type_name)
    return {argument: tuple(fields.values()) for argument, fields in found.items()}
