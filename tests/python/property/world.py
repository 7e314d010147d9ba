"""A database with workflows in every status, and what must be true after any call."""

from __future__ import annotations

import json
from typing import Any

import psycopg

NAMES: dict[Any, list[Any]] = {
    "workflow_id": ["enqueued", "pending", "waiting", "delayed", "done", "failed", "parent"],
    "executor_id": ["busy"],
    "queue_name": ["mail", "parts", "free", "paused"],
    "workflow_name": ["send", "charge"],
    "child_id": ["child", "fresh-1", "fresh-2"],
    "new_workflow_id": ["fork-1", "done"],
    "destination_id": ["pending", "waiting", "done"],
    "awaited_id": ["enqueued", "done", "waiting"],
    "parent_workflow_id": ["parent"],
    "before_id": ["done", "enqueued"],
    "id_prefix": ["p", "d"],
    "error_text": ["no"],
    "attempt": [1],
    "attempts": [1, 2],
    "step_id": [1, 2, 3, 7],
    "step_ids": [[1], [2, 3]],
    "from_step": [1, 2],
    "step_name": ["pay", "compensate", "sleep", "receive"],
    "topics": [["approval"], [""]],
    "topic": ["approval", "other"],
    "key": ["progress", "lines", "approval"],
    "event_key": ["progress"],
    "stream_key": ["lines"],
    "outcome": ["received"],
    "idempotency_key": ["once", "twice"],
    "deduplication_id": ["order-1", "order-2"],
    "queue_partition_key": ["tenant-1", "tenant-2"],
    "on_duplicate": ["raise", "return"],
    "capability": ["client", "worker"],
    "role": ["postgres", "pg_monitor"],
    "format": ["text", "mermaid"],
    "channel": ["lockstep_" + "0f" * 16],
    "schedule_name": ["nightly", "new"],
    "cron": ["0 3 * * *", "*/5 * * * * *", "@daily"],
    "time_zone": ["UTC", "Europe/Berlin"],
    "on_missed": ["skip", "latest", "all"],
    "engine": ["workers"],
    "time_arg": ["scheduled_at"],
    "revision": [1],
    "ticks": [["2026-11-21 03:00+00"]],
    "problem": ["no such zone"],
    "retries": [
        '{"max_attempts": 3}',
        '{"max_attempts": 3, "delay": 1, "backoff": 2, "jitter": 0.1}',
    ],
    "headers": ['{"trace": "1"}'],
    "positional_args": ["[]", '[1, "two"]'],
    "named_args": ["{}", '{"order_id": 1}'],
    "inputs": ['{"positionalArgs": [], "namedArgs": {}}'],
    "filter": ["{}", '{"status": "ERROR"}', '{"queue_name": "mail"}', '{"workflow_name": "send"}'],
    "error": ['{"type": "ValueError", "message": "no"}'],
    "low_water": ["[]", '[{"queue_name": "mail", "priority": 0, "available_at": "2020-01-01"}]'],
    "awaits": ['[{"awaited_id": "enqueued", "key": null}]', "[]"],
    "changes": ["{}"],
    "reset": [["concurrency"], []],
    "status": [["ERROR", "SUCCESS"], ["PENDING"]],
    "schedules": [
        '[{"schedule_name": "new", "cron": "@daily", "workflow_name": "a", "queue_name": "b"}]',
        "[]",
    ],
    "queues": [["mail", "free"]],
    "workflow_names": [["send", "charge"]],
    "lease_duration": ["30 s"],
    "rate_period": ["1 s"],
    "partition_rate_period": ["1 s"],
    "machine_name": ["order"],
    "version": [1],
    "state": ["new"],
    "from_state": ["new", "paid"],
    "to_state": ["paid", "shipped"],
    "event": ["pay", "ship"],
    "operation": ["INSERT", "UPDATE", "DELETE"],
    "table_name": ["shop.orders", "shop.plain", "shop.keyless"],
    "p_table": ["shop.orders", "shop.plain"],
    "state_column": ["state"],
    "version_column": ["state_version"],
    "search_path": ["public"],
    "condition": ["new.id > 0"],
    "p_condition": ["new.id > 0"],
    "p_search_path": ["public"],
    "previous_key": ['{"id": 1}'],
    "events": [["INSERT"], ["INSERT", "UPDATE"]],
    "p_events": [["INSERT"]],
    "columns": [["id"]],
    ("enqueue_workflows", "named_args"): [["{}", '{"order_id": 1}'], ["{}"]],
    ("enqueue_workflows", "positional_args"): [["[]", "[1]"], ["[]"]],
    ("attach_workflow", "search_path"): [["public"]],
    ("attach_workflow", "named_args"): ["to_jsonb(new)"],
    ("attach_workflow", "workflow_id"): ["new.id::text"],
    ("attach_workflow", "deduplication_id"): ["new.id::text"],
    ("attach_workflow", "queue_partition_key"): ["new.id::text"],
    ("record_transition", "key"): ['{"id": 1}'],
    ("record_move", "key"): ['{"id": 2}'],
    "oid": ["0", "1"],
    "bytea": ["\\x6100", "\\x7b7d00"],
    "regclass": ["shop.orders", "shop.plain", "shop.keyless", "shop.view", "pg_class", "0", None],
    "anyelement": ["shop.orders", "shop.plain"],
    "text": ["some"],
    "name": ["some"],
    "text[]": [["some"]],
    "name[]": [["some"]],
    "jsonb": ['{"a": [1]}', "null", '"x"'],
    "jsonb[]": [["{}"], ["{}", "{}"]],
    "integer": [1, 2],
    "integer[]": [[1]],
    "bigint": [0, 1],
    "numeric": ["1"],
    "double precision": ["0", "1.5"],
    "boolean": [True, False],
    "interval": ["1 minute"],
    "timestamp with time zone": ["2026-11-21 03:00+00", "2030-01-01 00:00+00"],
}

_SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, state text NOT NULL, state_version int NOT NULL);
CREATE TABLE shop.plain (id int PRIMARY KEY, state text);
CREATE TABLE shop.keyless (id int, state text);
CREATE VIEW shop.view AS SELECT id FROM shop.plain;
SELECT lockstep.create_state_machine('order');
SELECT lockstep.add_transition('order', NULL, 'create', 'new');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'charge');
SELECT lockstep.add_transition('order', 'paid', 'ship', 'shipped');
SELECT lockstep.attach_state_machine('shop.orders', 'state', 'order', 'state_version');
SELECT lockstep.attach_workflow('shop.plain', 'send', 'mail');
INSERT INTO shop.orders (id, state) VALUES (1, 'new'), (2, 'new');
SELECT lockstep.create_queue('mail', concurrency => 50, rate_limit => 1000, rate_period => '1 s');
SELECT lockstep.create_queue('parts', partition_concurrency => 5);
SELECT lockstep.create_queue('paused');
SELECT lockstep.pause_queue('paused');
SELECT lockstep.schedule_workflow('nightly', '0 3 * * *', 'send', 'mail', engine => 'workers');
"""
_RUNNING = ("pending", "waiting", "done", "failed", "parent", "sleeping", "healthy-running")


def create_world(dsn: str) -> None:
    """Fill a database with workflows in every status, and all else that calls may name."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_SHOP)

        def call(function: str, *arguments: Any, **named: Any) -> Any:
            values = ", ".join(["%s"] * len(arguments) + [f"{name} => %s" for name in named])
            query = f"SELECT lockstep.{function}({values})"
            return connection.execute(query, [*arguments, *named.values()]).fetchone()

        for name in _RUNNING:
            call("enqueue_workflow", "send", "setup", workflow_id=name)
        for executor_id, queues in (
            ("busy", ["setup", "mail"]),
            ("dead", ["none"]),
            ("healthy", ["healthy"]),
        ):
            (made,) = call("register_executor", queues, ["send", "charge"])
            connection.execute(
                "UPDATE lockstep.executor SET executor_id = %s, lease_duration = '1 day',"
                " expires_at = CASE WHEN %s THEN '-infinity' ELSE now() + interval '1 day' END"
                " WHERE executor_id = %s",
                (executor_id, executor_id == "dead", made),
            )
        call("claim_workflows", "busy", 100)
        changes = {
            "steps": [
                {
                    "workflow_id": name,
                    "attempt": 1,
                    "step_id": step_id,
                    "step_name": "pay",
                    "output": 1,
                }
                for name in _RUNNING
                for step_id in (1, 2)
            ],
            "events": [
                {
                    "workflow_id": "pending",
                    "attempt": 1,
                    "step_id": 3,
                    "key": "progress",
                    "value": 1,
                }
            ],
            "streams": [
                {"workflow_id": "pending", "attempt": 1, "step_id": 4, "key": "lines", "value": 1}
            ],
            "children": [
                {
                    **{"workflow_id": "parent", "attempt": 1, "step_id": 3, "step_name": "send"},
                    **{"workflow_name": "send", "queue_name": "free", "child_id": "child"},
                    **{"inputs": {"positionalArgs": [], "namedArgs": {}}, "priority": 0},
                }
            ],
            "receives": [
                {"workflow_id": "waiting", "attempt": 1, "step_id": 3, "topic": "approval"}
            ],
            "timers": [
                {
                    "workflow_id": "sleeping",
                    "attempt": 1,
                    "step_id": 3,
                    "step_name": "sleep",
                    "delay": 9e4,
                }
            ],
            "outcomes": [
                {"workflow_id": "done", "attempt": 1, "output": {"sum": 3}},
                {"workflow_id": "failed", "attempt": 1, "error": {"type": "E", "message": "no"}},
            ],
            "suspensions": [
                {"workflow_id": "waiting", "attempt": 1, "step_ids": [3], "topics": ["approval"]},
                {"workflow_id": "sleeping", "attempt": 1, "step_ids": [3]},
            ],
        }
        call("advance_workflows", "busy", json.dumps(changes))
        connection.execute(
            "UPDATE lockstep.workflow_status SET executor_id = 'healthy'"
            " WHERE workflow_id = 'healthy-running'"
        )
        call("send_message", "pending", "1", "approval", idempotency_key="once")
        call("enqueue_workflow", "send", "mail", workflow_id="enqueued", deduplication_id="order-1")
        call(
            "enqueue_workflow", "send", "parts", workflow_id="part", queue_partition_key="tenant-1"
        )
        call("enqueue_workflow", "send", "mail", workflow_id="delayed", delay="1 day")
        call("enqueue_workflow", "send", "healthy", workflow_id="healthy-enqueued")
        call("enqueue_workflow", "send", "healthy-cancelled", workflow_id="healthy-cancelled")
        call("cancel_workflow", "healthy-cancelled")
        statuses = connection.execute(
            "SELECT DISTINCT status FROM lockstep.workflow_status"
        ).fetchall()
        assert len(statuses) == 7, statuses


BYSTANDERS = """
SELECT md5(string_agg(line, E'\\n' ORDER BY line))
FROM (
    SELECT to_jsonb(w)::text FROM lockstep.workflow_status AS w WHERE workflow_id ~ '^healthy'
    UNION ALL
    SELECT to_jsonb(o)::text FROM lockstep.operation_outputs AS o WHERE workflow_id ~ '^healthy'
    UNION ALL
    SELECT to_jsonb(t)::text FROM shop.plain AS t
    UNION ALL
    SELECT to_jsonb(e)::text FROM lockstep.executor AS e WHERE executor_id = 'healthy'
) AS r (line)
"""

HEALTH = """
DO $$
DECLARE
    v_claimed text[];
BEGIN
    PERFORM * FROM lockstep.list_workflows();
    PERFORM * FROM lockstep.list_queues();
    PERFORM * FROM lockstep.list_schedules();
    PERFORM * FROM lockstep.unserved_workflows;
    PERFORM * FROM lockstep.attachments;
    PERFORM * FROM lockstep.attached_state_machines;
    PERFORM lockstep.list_steps(w.workflow_id) FROM lockstep.workflow_status AS w;
    PERFORM lockstep.explain_workflow(w.workflow_id)
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'pending';
    PERFORM * FROM lockstep.due_schedules();
    PERFORM * FROM lockstep.pulse('healthy', true);
    PERFORM * FROM lockstep.pulse('busy') WHERE EXISTS (
        SELECT
        FROM lockstep.executor AS e
        WHERE e.executor_id = 'busy'
            AND e.expires_at > '-infinity'
    );
    v_claimed := ARRAY(SELECT workflow_id FROM lockstep.claim_workflows('healthy', 1000));
    IF NOT 'healthy-enqueued' = ANY (v_claimed) THEN
        RAISE EXCEPTION 'the healthy executor claimed %', v_claimed;
    END IF;
    PERFORM lockstep.finish_workflows(
        'healthy', '[{"workflow_id": "healthy-enqueued", "attempt": 1, "output": 1}]'
    );
    PERFORM * FROM lockstep.get_workflow('healthy-enqueued') WHERE status = 'SUCCESS';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the healthy workflow did not end';
    END IF;
    PERFORM lockstep.purge_workflows('1 day');
END
$$
"""
