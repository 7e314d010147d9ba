"""
Write docs/reference.md from the catalog of a database that has Lockstep installed.

Starts an embedded Postgres, so the page shows what CREATE EXTENSION makes and nothing
else. With ``--check`` it writes nothing and fails if the committed page differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from lockstep._embedded import EmbeddedServer
from psycopg.rows import class_row

PAGE = Path(__file__).parent / "reference.md"

Connection = psycopg.Connection[Any]

# the order of the matrix in sql/80_admin/30_capabilities.sql; a function that is not in
# it, or a second one of the same name, must not go missing here without a word
FUNCTIONS = r"""
SELECT
    c.capability,
    p.proname::text AS name,
    coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '') AS comment,
    pg_catalog.pg_get_function_result(p.oid) AS result,
    ARRAY(
        SELECT
            CASE coalesce(p.proargmodes[a.place], 'i') WHEN 'o' THEN 'OUT ' ELSE '' END
            || p.proargnames[a.place] || ' ' || pg_catalog.format_type(a.type, NULL)
            -- the catalog repeats the type as a cast, as in '[]'::jsonb
            || coalesce(
                ' DEFAULT ' || regexp_replace(
                    pg_catalog.pg_get_function_arg_default(p.oid, a.place::int), '::[a-z ]+(\[\])?$', ''
                ),
                ''
            )
        FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (type, place)
        WHERE coalesce(p.proargmodes[a.place], 'i') <> 't'
        ORDER BY a.place
    ) AS arguments,
    ARRAY(
        SELECT p.proargnames[a.place] || ' ' || pg_catalog.format_type(a.type, NULL)
        FROM unnest(p.proallargtypes) WITH ORDINALITY AS a (type, place)
        WHERE p.proargmodes[a.place] = 't'
        ORDER BY a.place
    ) AS result_columns
FROM pg_catalog.pg_proc AS p
LEFT JOIN lockstep._capabilities() WITH ORDINALITY AS c (capability, function_name, place)
    ON c.function_name = p.proname
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND p.proname !~ '^_'
ORDER BY c.place, p.oid
"""  # noqa: E501 - SQL keeps its own line length

RELATIONS = """
SELECT
    r.relname::text AS name,
    r.relkind = 'v' AS is_view,
    coalesce(pg_catalog.obj_description(r.oid, 'pg_class'), '') AS comment,
    ARRAY(
        SELECT ARRAY[
            a.attname::text,
            pg_catalog.format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN 'not null' ELSE '' END,
            coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''),
            coalesce(pg_catalog.col_description(r.oid, a.attnum), '')
        ]
        FROM pg_catalog.pg_attribute AS a
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = r.oid
            AND a.attnum > 0
            AND NOT a.attisdropped
        ORDER BY a.attnum
    ) AS columns
FROM pg_catalog.pg_class AS r
WHERE r.relnamespace = 'lockstep'::regnamespace
    AND r.relkind IN ('r', 'p', 'v')
ORDER BY r.relkind = 'v', r.oid
"""

INTRODUCTION = """\
# Reference

This page lists what Lockstep {version} puts into schema `lockstep`. It is written from the
database's own catalog by `make docs`; do not edit it. [concepts.md](concepts.md) says what the
functions guarantee, [security.md](security.md) who may call them.

- [Functions for applications](#functions-for-applications)
- [Functions for operators](#functions-for-operators)
- [Functions for workers](#functions-for-workers)
- [Tables](#tables)
- [Views](#views)
- [Error codes](#error-codes)

Call functions with named arguments (`queue_name => 'mail'`): the names never change, and later
versions may add arguments at the end.
"""

# in reading order, which is not the order in which one capability includes another
CHAPTERS = {
    "client": """\
## Functions for applications

Capability `client`. Each of these functions is part of the transaction that calls it.
""",
    "admin": """\
## Functions for operators

Capability `admin`, which includes `client`, `worker` and `viewer`.
""",
    "worker": """\
## Functions for workers

Capability `worker`, which includes `client`. This is the protocol that a worker speaks; an
application does not need it. Functions in the plural take a JSON array and treat all of its
elements in one commit; [internals.md](internals.md) explains the protocol, and the head of each
function's file under `sql/` lists the keys of an element.
""",
}

TABLES = """\
## Tables

Capability `viewer` may SELECT from every table and view. Write through functions; one exception is
`INSERT INTO lockstep.workflow_status (workflow_name, queue_name) VALUES (…)` by the owner, which
enqueues a workflow that workers find when they poll.
"""

VIEWS = """\
## Views
"""

ERROR_CODES = """\
## Error codes

| SQLSTATE | Python class | Raised when |
|---|---|---|
| `22023` | `InvalidArgument` | an argument has a value that the function cannot take |
| `P0002` | `WorkflowNotFound` | no workflow has the id; \
from `unpause_queue()`, no queue has the name; from functions of state machines, \
there is no such machine, version, event or row |
| `23505` | `DuplicateWorkflow` | a workflow of another name or queue has the id, \
or an unfinished one has the deduplication id |
| `55000` | `WrongState` | the workflow has ended, so it cannot be cancelled or resumed |
| `23514` | | a state machine does not allow the move of a row, or does not know its state |
| `42704` | | the role that `grant_usage()` names does not exist |
| `55P03` | | a worker's call met a row that stayed locked; the worker tries again |
| `WF001` | `LeaseLost` | the executor lost its lease, or the workflow to another attempt |
| `WF002` | `WorkflowCancelled` | `record_step()`: the workflow was cancelled |
| `WF003` | `StepMismatch` | raised by the Python worker only: \
the code calls another step than the recorded one |
| `WF004` | | `record_step()`: the step is recorded already; \
the worker takes the recorded outcome |

Python raises the class for the code, with the message, detail and hint of the database. A code
without a class stays a `psycopg.Error`.
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A public function, and the capability that may execute it."""

    capability: str | None
    name: str
    comment: str
    result: str | None
    arguments: list[str]
    result_columns: list[str]

    def signature(self) -> str:
        """Return the function's declaration, one argument a line where there are many."""
        head = f"lockstep.{self.name}({_listed(self.arguments)})"
        if self.result_columns:
            return f"{head}\nRETURNS TABLE ({_listed(self.result_columns)})"
        has_out = any(argument.startswith("OUT ") for argument in self.arguments)
        return head if has_out and self.result == "record" else f"{head}\nRETURNS {self.result}"

    def as_markdown(self) -> str:
        """Return the function's paragraph."""
        return f"### `{self.name}`\n\n{self.comment}\n\n```sql\n{self.signature()}\n```\n"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view; a column is its name, type, nullability, default and comment."""

    name: str
    is_view: bool
    comment: str
    columns: list[list[str]]

    def as_markdown(self) -> str:
        """Return the relation's paragraph, with a table of its columns."""
        lines = [f"### `{self.name}`", "", self.comment, ""]
        if self.is_view:
            lines += ["| Column | Type | Meaning |", "|---|---|---|"]
        else:
            lines += ["| Column | Type | Default | Meaning |", "|---|---|---|---|"]
        for name, type_name, nullability, default, comment in self.columns:
            cells = [f"`{name}`", f"{type_name} {nullability}".strip()]
            if not self.is_view:
                cells.append(f"`{default}`" if default else "")
            cells.append(comment)
            escaped = (cell.replace("|", "\\|") for cell in cells)
            lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in escaped) + "|")
        return "\n".join([*lines, ""])


def _listed(items: list[str]) -> str:
    """Join declarations: on one line if they are few, else each on its own."""
    joined = ", ".join(items)
    if len(joined) <= 60:
        return joined
    return "\n    " + ",\n    ".join(items) + "\n"


def _fetch_functions(connection: Connection) -> list[Function]:
    with connection.cursor(row_factory=class_row(Function)) as cursor:
        functions = cursor.execute(FUNCTIONS).fetchall()
    homeless = sorted({f.name for f in functions if f.capability not in CHAPTERS})
    if homeless:
        raise SystemExit(f"functions without a known capability: {', '.join(homeless)}")
    return functions


def _fetch_relations(connection: Connection) -> list[Relation]:
    with connection.cursor(row_factory=class_row(Relation)) as cursor:
        return cursor.execute(RELATIONS).fetchall()


def _paragraphs(connection: Connection) -> Iterator[str]:
    row = connection.execute("SELECT lockstep.version()").fetchone()
    yield INTRODUCTION.format(version=row[0] if row else "")
    functions = _fetch_functions(connection)
    for capability, chapter in CHAPTERS.items():
        yield chapter
        yield from (f.as_markdown() for f in functions if f.capability == capability)
    relations = _fetch_relations(connection)
    yield TABLES
    yield from (r.as_markdown() for r in relations if not r.is_view)
    yield VIEWS
    yield from (r.as_markdown() for r in relations if r.is_view)
    yield ERROR_CODES


def generate() -> str:
    """Return the reference of a fresh installation."""
    with EmbeddedServer() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION lockstep")
        return "\n".join(_paragraphs(connection))


def main() -> int:
    """Write the page, or check that it is what would be written."""
    parser = argparse.ArgumentParser(description="Write docs/reference.md from the database.")
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    is_check = parser.parse_args().check
    text = generate()
    if not is_check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/reference.md is not what the database says: run make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
