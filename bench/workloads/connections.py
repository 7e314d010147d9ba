"""Claim and finish from one queue over 4, 16 and 64 connections, ten workflows a call."""

from __future__ import annotations

from ..cluster import pgbench, run_sql
from ..peers.lockstep import Lockstep
from ..session import Session

CLIENTS = (4, 16, 64)
BATCH = 10

# A session keeps in a setting what it claimed, and its next call finishes that: the loop
# of a worker without the worker.
CREATE_CLIENTS = """
CREATE TABLE client AS
SELECT
    number,
    lockstep.register_executor('{default}', '{noop}', lease_duration => '1 day') AS executor_id
FROM generate_series(0, 63) AS number;

CREATE OR REPLACE FUNCTION advance_client(client_number int, batch int)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_executor_id text := current_setting('bench.executor_id', true);
    v_claimed json;
BEGIN
    IF coalesce(v_executor_id, '') = '' THEN
        SELECT c.executor_id INTO v_executor_id FROM client AS c WHERE c.number = client_number;
        PERFORM set_config('bench.executor_id', v_executor_id, false);
        PERFORM set_config('bench.changes', '{}', false);
        PERFORM set_config('bench.low_water', '[]', false);
    END IF;
    v_claimed := lockstep.advance_workflows(
        v_executor_id, current_setting('bench.changes')::jsonb, batch,
        current_setting('bench.low_water')::jsonb
    ) -> 'claimed';
    IF v_claimed IS NULL OR json_typeof(v_claimed) = 'null' THEN
        RAISE EXCEPTION 'the backlog is exhausted';
    END IF;
    -- as a worker whose claims are slow begins where its last one got to
    PERFORM set_config('bench.low_water', jsonb_build_array(v_claimed -> -1)::text, false);
    PERFORM set_config(
        'bench.changes',
        (
            SELECT json_build_object('outcomes', json_agg(json_build_object(
                'workflow_id', c ->> 'workflow_id', 'attempt', c -> 'attempt', 'output', 1
            )))
            FROM json_array_elements(v_claimed) AS c
        )::text,
        false
    );
END
$$;
"""


def run(session: Session) -> None:
    """Measure the throughput of all connections together."""
    scale = session.scale
    peer = Lockstep()
    peer.install()
    for repetition in range(1, scale.repetitions + 1):
        peer.reset()
        run_sql(peer.database, "DROP TABLE IF EXISTS client")
        run_sql(peer.database, CREATE_CLIENTS)
        peer.enqueue("noop", scale.connections_backlog)
        peer.analyze()
        for clients in CLIENTS:
            reference = session.yardstick(clients).per_second
            result = pgbench(
                peer.database,
                f"SELECT advance_client(:client_id, {BATCH})",
                clients,
                seconds=scale.connections_seconds,
            )
            session.add(
                "connections",
                "lockstep",
                variant=f"{clients} connections",
                repetition=repetition,
                per_second=result.per_second * BATCH,
                yardstick_per_second=reference,
                ratio=result.per_second * BATCH / reference,
            )
