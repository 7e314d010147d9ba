"""With a codec no table tells what an application writes, and everything works as without."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg
import pytest
from cryptography.fernet import Fernet, MultiFernet
from harness import Database, WorkerProcess, stopped_at_end, until_status
from lockstep.testing import AsyncWorkflowEnvironment, create_database
from servers import Cluster

RunWorker = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]

SECRET = "4711-secret"
OLD, NEW, OTHER = Fernet.generate_key(), Fernet.generate_key(), Fernet.generate_key()
EXAMPLE = Path(__file__).parents[3] / "examples" / "encrypted"


class Vault:
    def __init__(self, *keys: bytes, name: str = "vault") -> None:
        self.name = name
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def encode(self, data: bytes) -> bytes:
        return self._fernet.encrypt(data)

    def decode(self, data: bytes) -> bytes:
        return self._fernet.decrypt(data)


def app_with(codec: lockstep.PayloadCodec | None) -> lockstep.App:
    app = lockstep.App(codec=codec)
    tries: list[int] = []

    @app.step
    async def echo(value: str) -> str:
        return value

    @app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(seconds=0.01)))
    async def fails_once(value: str) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError(value)
        return value

    @app.step
    def fails(value: str) -> None:
        raise KeyError(value)

    @app.step(name="undo")
    async def undo(value: str) -> None:
        assert value == SECRET

    @app.transaction
    async def book(connection: psycopg.AsyncConnection[Any], value: str) -> str:
        return value

    @app.step(commits_itself=True)
    async def books_itself(value: str) -> str:
        scope = lockstep._scope.current_scope_or_step("test")
        dsn = scope.run.worker._dsn
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(*lockstep.checkpoint(value))
        return value

    @app.workflow
    async def child(value: str) -> str:
        return value

    @app.workflow
    async def failing_child(value: str) -> str:
        raise ValueError(value)

    @app.workflow
    async def publishes(value: str, other: str = "") -> str:
        await lockstep.set_event("state", value)
        await lockstep.write_stream("words", value)
        assert await lockstep.receive("go") == value
        return value

    @app.workflow
    def plain(value: str) -> str:
        with contextlib.suppress(KeyError):
            fails(value)
        lockstep.sync.set_event("state", value)
        return value

    @app.workflow
    async def everything(value: str, *, named: str) -> list[Any]:
        values = [
            await echo(value),
            await fails_once(named),
            await book(value),
            await books_itself(value),
            await child(value),
            await lockstep.poll(echo, value, interval=timedelta(seconds=1)),
            await (await lockstep.start_workflow(child, value)).result(),
            await (await lockstep.start_workflow(plain, value)).result(),
        ]
        with pytest.raises(KeyError, match=SECRET):
            await fails.in_thread(value)
        with pytest.raises(lockstep.WorkflowFailed, match=SECRET):
            await failing_child(value)
        handle = await lockstep.start_workflow(publishes, value)
        values.append(await lockstep.get_event(handle.workflow_id, "state"))
        await lockstep.send(handle.workflow_id, value, "go")
        values.append(await handle.result())
        return values

    @app.workflow
    async def comes_to_nothing(value: str) -> None:
        await lockstep.compensate(undo, value)
        raise ValueError(value)

    return app


def assert_nothing_is_told(cluster: Cluster, database: Database) -> None:
    dump = cluster.run("pg_dump", "--data-only", "--inserts", database.dsn)
    assert "$lockstep" in dump
    assert SECRET not in dump


@pytest.fixture
async def client(database: Database) -> Any:
    async with lockstep.AsyncClient(database.dsn, codec=Vault(OLD)) as client:
        yield client


async def test_no_table_tells_what_workflows_write(
    database: Database, cluster: Cluster, client: lockstep.AsyncClient, run_worker: RunWorker
) -> None:
    app = app_with(Vault(OLD))
    async with run_worker(app):
        workflow_id = await client.enqueue(app.workflows["everything"], SECRET, named=SECRET)
        assert await client.result(workflow_id, timeout=timedelta(seconds=60)) == [SECRET] * 10

        published = await client.enqueue("publishes", SECRET, named_args={"other": SECRET})
        assert await client.get_event(published, "state", timeout=timedelta(seconds=20)) == SECRET
        await client.send_many([published], [SECRET], "go")
        assert [word async for word in client.read_stream(published, "words")] == [SECRET]
        assert await client.get_event(published, "state") == SECRET

        undone = await client.enqueue("comes_to_nothing", SECRET)
        with pytest.raises(lockstep.WorkflowFailed, match=SECRET):
            await client.result(undone)
        (undoing,) = await client.list(parent_workflow_id=undone)
        assert await client.result(undoing.workflow_id) is None

        debounced = await client.enqueue(
            "child", SECRET, deduplication_id="d", debounce=timedelta(milliseconds=50)
        )
        (many,) = await client.enqueue_many("child", [(SECRET,)])
        for each in (debounced, many):
            assert await client.result(each) == SECRET
        forked = await client.fork(workflow_id, 3)
        assert (await client.result(forked))[:2] == [SECRET] * 2

        info = await client.get(undone)
        assert info.inputs == {"positionalArgs": [SECRET], "namedArgs": {}}
        assert info.error is not None
        assert info.error["message"] == SECRET
        assert SECRET in info.error["traceback"]
        steps = {step.step_name: step for step in await client.steps(workflow_id)}
        assert steps["book"].output == SECRET
        assert steps["fails"].error is not None
        assert SECRET in steps["fails"].error["message"]
    assert_nothing_is_told(cluster, database)


async def test_replay_reads_what_was_sealed(
    database: Database, cluster: Cluster, client: lockstep.AsyncClient, run_worker: RunWorker
) -> None:
    app = app_with(Vault(OLD))
    workflow_id = await client.enqueue("everything", SECRET, named_args={"named": SECRET})
    async with run_worker(app, concurrency=3):
        await until_status(client, workflow_id, "SUCCESS")
    for from_step in range(1, len(await client.steps(workflow_id)) + 1):
        await client.fork(workflow_id, from_step, new_workflow_id=f"from {from_step}")
    async with run_worker(app_with(Vault(NEW, OLD))):
        for info in await client.list(id_prefix="from "):
            assert (
                await lockstep.AsyncClient(database.dsn, codec=Vault(NEW, OLD)).result(
                    info.workflow_id, timeout=timedelta(seconds=60)
                )
                == [SECRET] * 10
            )
    assert_nothing_is_told(cluster, database)


@pytest.mark.parametrize("codec", [Vault(OTHER), Vault(OLD, name="other"), None])
async def test_workflow_waits_for_a_worker_that_can_read_it(
    client: lockstep.AsyncClient,
    database: Database,
    run_worker: RunWorker,
    codec: lockstep.PayloadCodec | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    workflow_id = await client.enqueue("child", SECRET)
    async with run_worker(app_with(codec)):
        await until_status(client, workflow_id, "DELAYED")
    assert f'workflow "{workflow_id}" is tried again later' in caplog.text
    assert SECRET not in caplog.text
    assert database.value("SELECT error ->> 'type' FROM lockstep.workflow_status") == "PayloadError"

    async with run_worker(app_with(Vault(NEW, OLD))):
        async with lockstep.AsyncClient(database.dsn, codec=Vault(NEW, OLD)) as rotated:
            assert await rotated.result(workflow_id, timeout=timedelta(seconds=30)) == SECRET
        with pytest.raises(lockstep.PayloadError, match="cannot read"):
            await client.result(workflow_id)


class Jammed(Vault):
    """Fails to write, as long as it is jammed; what it says then is a secret, too."""

    is_jammed = True

    def encode(self, data: bytes) -> bytes:
        if self.is_jammed:
            raise OSError(SECRET)
        return super().encode(data)


@pytest.mark.parametrize("name", ["child", "failing_child", "plain", "swallows"])
async def test_workflow_waits_for_a_codec_that_can_write(
    client: lockstep.AsyncClient, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    codec = Jammed(OLD)
    app = app_with(codec)

    @app.workflow
    async def swallows(value: str) -> str:
        with contextlib.suppress(Exception):
            await lockstep.set_event("state", value)
        return await app.workflows["child"](value)  # type: ignore[no-any-return]

    workflow_id = await client.enqueue(name, SECRET)
    async with run_worker(app):
        await until_status(client, workflow_id, "DELAYED")
        info = await client.get(workflow_id)
        assert info.error == {
            "type": "PayloadError",
            "message": 'the codec "vault" cannot write a payload: OSError',
        }
        codec.is_jammed = False
        await until_status(client, workflow_id, "ERROR" if name == "failing_child" else "SUCCESS")
        if name in ("plain", "swallows"):
            assert await client.get_event(workflow_id, "state") == SECRET
    assert "is tried again later" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("codec", [Vault(OLD), None])
async def test_error_that_looks_sealed_is_an_error_as_any_other(
    database: Database, run_worker: RunWorker, codec: lockstep.PayloadCodec | None
) -> None:
    app = app_with(codec)
    text = '{"$lockstep": is not what it seems'

    @app.step
    async def fails_for_good(value: str) -> None:
        raise ValueError(value)

    @app.workflow
    async def goes_on(value: str) -> str:
        with pytest.raises(ValueError, match="is not what it seems"):
            await fails_for_good(value)
        await lockstep.set_event("state", "failed")
        await lockstep.receive("go")
        return value

    async with lockstep.AsyncClient(database.dsn, codec=codec) as client:
        workflow_id = await client.enqueue("goes_on", text)
        async with run_worker(app):
            await until_status(client, workflow_id, "WAITING")
            failed = await client.enqueue("failing_child", text)
            with pytest.raises(lockstep.WorkflowFailed, match="is not what it seems"):
                await client.result(failed)
            assert len(await client.list()) == 2
            assert len(await client.steps(workflow_id)) > 0
        async with run_worker(app):
            await client.send(workflow_id, "go", "go")
            assert await client.result(workflow_id, timeout=timedelta(seconds=30)) == text


async def test_plain_and_sealed_values_stand_beside_each_other(
    database: Database, client: lockstep.AsyncClient, run_worker: RunWorker
) -> None:
    async with run_worker(app_with(Vault(OLD))):
        plain_id = database.enqueue("publishes", positional_args=json.dumps(["plain"]))
        database.rows("SELECT lockstep.send_message(%s, '\"plain\"', 'go')", plain_id)
        assert await client.result(plain_id) == "plain"
    stored = database.value("SELECT output FROM lockstep.workflow_status")
    assert stored.keys() == {"$lockstep", "data"}
    assert stored["$lockstep"] == "vault"


async def test_client_without_the_codec_shows_envelopes(
    database: Database, client: lockstep.AsyncClient, run_worker: RunWorker
) -> None:
    async with run_worker(app_with(Vault(OLD))), lockstep.AsyncClient(database.dsn) as stranger:
        workflow_id = await client.enqueue("child", SECRET)
        assert (await stranger.result(workflow_id)).keys() == {"$lockstep", "data"}
        failed = await client.enqueue("failing_child", SECRET)
        with pytest.raises(lockstep.WorkflowFailed, match=r"ValueError: .*\$lockstep"):
            await stranger.result(failed)
    done = subprocess.run(
        [sys.executable, "-m", "lockstep.cli", "get", workflow_id, "--dsn", database.dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "$lockstep" in done.stdout


async def test_testing_helpers_use_the_codec_of_the_app(cluster: Cluster) -> None:
    app = app_with(Vault(OLD))
    with create_database(cluster.dsn()) as dsn:
        async with AsyncWorkflowEnvironment(app, dsn) as env:
            assert await env.run(app.workflows["child"], SECRET) == SECRET
        assert_nothing_is_told(cluster, Database(dsn))


def test_example_tells_the_database_nothing(
    database: Database, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("VAULT_KEYS", f"{NEW.decode()} {OLD.decode()}")
    worker = WorkerProcess(database, "clinic:app", tmp_path)
    with stopped_at_end([worker]):
        worker.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "reception.py"],
            cwd=EXAMPLE,
            env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "finding: Ada has a cough and should rest",
        "result: Ada has a cough and should rest; consent: yes, signed by Ada",
        "stranger: visit SUCCESS ['complaint']",
        "stranger: ['$lockstep', 'data'] vault",
    ]
    dump = cluster.run("pg_dump", "--data-only", database.dsn)
    assert "Ada" not in dump
    assert "cough" not in dump
