"""
Whatever is passed to a public SQL function, it succeeds or refuses with a documented state.

HOSTILE_EXAMPLES sets how many calls of each function are made, HOSTILE_SEED from where on.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from property.catalog import Function, public_functions
from property.hostile import hostile, ordinary
from property.world import BYSTANDERS, HEALTH, create_world
from servers import Cluster

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "8"))
SEED = int(os.environ.get("HOSTILE_SEED", "6"))
ERRORS = Path(__file__).parents[3] / "docs" / "errors.md"
# what they change is chosen by a filter or an age, and may be any workflow
FOR_MANY = {
    *("cancel_workflows", "resume_workflows", "restart_workflows", "set_priorities"),
    *("move_workflows", "purge_workflows"),
}
# what only their triggers can pass
NEVER_REACHED = {"record_move"}


@functools.cache
def documented(caller: str) -> set[str]:
    """Return the states that the table in docs/errors.md has for a kind of caller."""
    rows = re.findall(r"^\| `(\w{5})` \| ([^|]*) \|", ERRORS.read_text(), re.M)
    assert len(rows) > 10
    return {state for state, callers in rows if caller in callers or "anyone" in callers}


@pytest.fixture(scope="module")
def connection(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of its own with workflows in every status."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE hostile")
        create_world(cluster.dsn("hostile"))
        with psycopg.connect(cluster.dsn("hostile")) as connection:
            yield connection
        admin.execute("DROP DATABASE hostile WITH (FORCE)")


@pytest.fixture(scope="module")
def functions(connection: psycopg.Connection[Any]) -> dict[str, Function]:
    return {function.name: function for function in public_functions(connection)}


def written(function: Function, arguments: dict[str, Any]) -> tuple[str, list[Any]]:
    types = {field.name: field.type_name for field in function.arguments}
    parts, values = [], []
    for name, value in arguments.items():
        if types[name] == "anyelement":
            table = value or "shop.orders"
            row = f"(SELECT t FROM {table} AS t LIMIT 1)" if value else f"NULL::{table}"
            parts.append(f"{name} => {row}")
        else:
            parts.append(f"{name} => %s::{types[name]}")
            values.append(value)
    return f"SELECT * FROM lockstep.{function.name}({', '.join(parts)})", values


def check(
    connection: psycopg.Connection[Any], function: Function, arguments: dict[str, Any]
) -> bool:
    """Make a call; its state must be documented, and all else be as before. Tell if it went."""
    takes_documents = function.capability == "worker" or function.documents
    allowed = documented("worker" if takes_documents else "application")
    query, values = written(function, arguments)
    before = connection.execute(BYSTANDERS).fetchone()
    try:
        try:
            connection.execute(query, values).fetchall()
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as error:
            if error.sqlstate in allowed:
                return False
            raise AssertionError(f"{error.sqlstate}: {error}") from error
        if function.name not in FOR_MANY:
            assert connection.execute(BYSTANDERS).fetchone() == before
            connection.execute(HEALTH)
    finally:
        connection.rollback()
    return True


def arguments_of(function: Function, odd_count: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Return arguments of which at most two are hostile."""

    @st.composite
    def some(draw: st.DrawFn) -> dict[str, Any]:
        names = [field.name for field in function.arguments]
        odd = draw(st.sets(st.sampled_from(names), max_size=odd_count)) if names else set()
        return {
            field.name: draw(
                hostile(field.type_name) if field.name in odd else ordinary(function, field)
            )
            for field in function.arguments
            if field.name in odd or not field.is_optional or draw(st.integers(0, 2)) == 0
        }

    return some()


def call_with(
    connection: psycopg.Connection[Any],
    function: Function,
    arguments: st.SearchStrategy[dict[str, Any]],
    count: int,
) -> list[bool]:
    """Call a function with some arguments of a strategy; return which calls went."""
    went = []

    @seed(SEED)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments)
    def call(values: dict[str, Any]) -> None:
        went.append(check(connection, function, values))

    call()
    return went


@pytest.mark.timeout(0)
def test_every_call_succeeds_or_is_refused_with_a_documented_state(
    connection: psycopg.Connection[Any], functions: dict[str, Function]
) -> None:
    problems = []
    for function in functions.values():
        try:
            went = call_with(connection, function, arguments_of(function), EXAMPLES)
            if not any(went):
                went = call_with(connection, function, arguments_of(function, odd_count=0), 30)
            if not any(went) and function.name not in NEVER_REACHED:
                problems.append(f"{function.name}: each call was refused")
        except Exception as error:
            problems.append(f"{function.name}: {error} {''.join(error.__notes__)[:2000]}")
    assert not problems, "\n".join(problems)


@pytest.mark.timeout(0)
def test_null_is_taken_or_refused_in_each_position(
    connection: psycopg.Connection[Any], functions: dict[str, Function]
) -> None:
    problems = []
    for function in functions.values():
        for field in function.arguments:
            others = {
                other.name: ordinary(function, other)
                for other in function.arguments
                if not other.is_optional
            }
            arguments = st.fixed_dictionaries({**others, field.name: st.none()})
            try:
                call_with(connection, function, arguments, 1)
            except Exception as error:
                problems.append(f"{function.name}({field.name} => NULL): {error}")
    assert not problems, "\n".join(problems)
