"""Databases of other encodings and collations: what works in them, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from servers import Cluster

SOON = timedelta(seconds=60)
EMOJI = "\N{PILE OF POO}"


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.step
    async def echo(value: Any) -> Any:
        return value

    @app.workflow
    async def says(value: Any) -> Any:
        await lockstep.set_event("said", value)
        return [await echo(value), await lockstep.receive("topic", timeout=SOON)]

    @app.workflow
    async def returns_what_latin1_lacks() -> str:
        return EMOJI

    @app.workflow
    async def fails_with_what_latin1_lacks() -> None:
        raise ValueError(EMOJI)

    return app


@pytest.fixture
def create_database(cluster: Cluster, request: pytest.FixtureRequest) -> Any:
    """Create a database with options of its own; dropped when the test ends."""
    name = "of_another_encoding"

    def create(options: str) -> Database:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            try:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as error:
                pytest.skip(f"this server has no ICU: {error}")
        return Database(cluster.dsn(name))

    yield create
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'und'", f"İstanbul {EMOJI}"),
        ("ENCODING 'LATIN1' LOCALE 'C'", "Grüße"),
    ],
    ids=["a collation of ICU", "LATIN1"],
)
async def test_workflows_run_in_a_database_with(
    create_database: Any, run_worker: Any, options: str, word: str
) -> None:
    database = create_database(options)
    database.rows("CREATE EXTENSION lockstep")
    async with (
        run_worker(build_app(), dsn=database.dsn),
        lockstep.AsyncClient(database.dsn) as client,
    ):
        workflow_id = await client.enqueue("says", word, workflow_id=f"{word}_1")
        await client.send(workflow_id, {word: word}, "topic")
        assert await client.result(workflow_id, timeout=SOON) == [word, {word: word}]
        assert await client.get_event(workflow_id, "said") == word
        listed = await client.list(id_prefix=word[:3])
        assert [info.workflow_id for info in listed] == [workflow_id]
        assert word in await client.explain(workflow_id, "mermaid")


async def test_a_character_that_the_database_lacks_fails_its_workflow_alone(
    create_database: Any, run_worker: Any
) -> None:
    database = create_database("ENCODING 'LATIN1' LOCALE 'C'")
    database.rows("CREATE EXTENSION lockstep")
    async with (
        run_worker(build_app(), dsn=database.dsn),
        lockstep.AsyncClient(database.dsn) as client,
    ):
        for name in ("returns_what_latin1_lacks", "fails_with_what_latin1_lacks"):
            with pytest.raises(lockstep.WorkflowFailed, match="has no equivalent in encoding"):
                await client.result(await client.enqueue(name), timeout=SOON)
        with pytest.raises(lockstep.InvalidArgument, match="has no equivalent in encoding"):
            await client.enqueue("says", EMOJI)


def test_a_database_without_an_encoding_is_refused(create_database: Any) -> None:
    database = create_database("ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="SQL_ASCII"):
        database.rows("CREATE EXTENSION lockstep")
