-- Built by make from sql/. Do not edit.
\echo Use "ALTER EXTENSION lockstep UPDATE" to load this file. \quit

-- sql/95_update/10_owner.sql

-- Opens every update, and the adoption of a plain-SQL install.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Whoever runs it owns what it creates, and runs what is there: it has to be the
-- owner. A superuser's new functions would run with a superuser's rights for everybody who
-- may call them, and what others put into the schema could stand in for ours.
DO $$
DECLARE
    v_owner constant name := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
    v_foreign text := (
        SELECT format('%s of %s', pg_describe_object(o.class_id, o.object_id, 0), pg_get_userbyid(o.owner_id))
        FROM (
            SELECT 'pg_catalog.pg_class'::regclass AS class_id, c.oid AS object_id, c.relowner AS owner_id
            FROM pg_catalog.pg_class AS c
            WHERE c.relnamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_proc'::regclass, p.oid, p.proowner
            FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typowner
            FROM pg_catalog.pg_type AS t
            WHERE t.typnamespace = 'lockstep'::regnamespace
        ) AS o
        WHERE pg_get_userbyid(o.owner_id) <> v_owner
        ORDER BY o.object_id
        LIMIT 1
    );
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'lockstep belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Do this as its owner: SET ROLE %I.', v_owner);
    ELSIF v_foreign IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" holds what others own'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('There is %s.', v_foreign),
                  HINT = 'Drop it, and let nobody else create objects in the schema.';
    END IF;
END
$$;

-- sql/95_update/20_before.sql

-- What is there before an update, for its end.

DO $$
BEGIN
    PERFORM set_config(
        'lockstep.before_update',
        (
            SELECT json_object_agg(o.object_id, true)::text
            FROM (
                SELECT p.oid AS object_id
                FROM pg_catalog.pg_proc AS p
                WHERE p.pronamespace = 'lockstep'::regnamespace
                UNION ALL
                SELECT c.oid
                FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = 'lockstep'::regnamespace
            ) AS o
        ),
        true
    );
END
$$;

-- Who holds a capability whole, by its functions as they are before the update: a role that
-- was denied one of them gets no new ones either.
DO $$
BEGIN
    PERFORM set_config(
        'lockstep.holders_before_update',
        (
            WITH capability_object AS (
                SELECT c.capability, p.oid AS object_id, p.proowner AS owner_id, p.proacl AS acl, 'EXECUTE' AS privilege
                FROM lockstep._capabilities() AS c
                INNER JOIN pg_catalog.pg_proc AS p ON p.proname = c.function_name
                WHERE p.pronamespace = 'lockstep'::regnamespace
                UNION ALL
                SELECT 'viewer', c.oid, c.relowner, c.relacl, 'SELECT'
                FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = 'lockstep'::regnamespace
                    AND c.relkind IN ('r', 'v')
            ),

            capability_size AS (
                SELECT o.capability, count(*) AS object_count
                FROM capability_object AS o
                GROUP BY o.capability
            ),

            holder AS (
                SELECT o.capability, a.grantee, count(DISTINCT o.object_id) AS object_count
                FROM capability_object AS o
                CROSS JOIN LATERAL aclexplode(o.acl) AS a
                WHERE a.privilege_type = o.privilege
                    AND a.grantee NOT IN (0, o.owner_id)
                GROUP BY o.capability, a.grantee
            )

            SELECT coalesce(json_agg(json_build_array(h.capability, h.grantee::regrole::text)), '[]')::text
            FROM holder AS h
            INNER JOIN capability_size AS s USING (capability, object_count)
        ),
        true
    );
END
$$;

-- sql/95_update/0.1.0--0.2.0.sql

-- By hand: what changed in the tables of 0.1.0, and what went. New tables, and all
-- functions and views, are added by make.

ALTER TABLE lockstep.executor ADD COLUMN timeline int, ADD COLUMN table_id oid;
COMMENT ON COLUMN lockstep.executor.timeline IS
    'Timeline of the server at the registration: after a failover the executor is dead; NULL where it is not told.';
COMMENT ON COLUMN lockstep.executor.table_id IS
    'This table at the registration: after a restore from a dump, which makes another one, the executor is dead.';

-- sql/00_prelude/30_timeline.sql

-- Returns the timeline that the server writes: a promotion or a restore to a moment begins a
-- new one.
--
-- The control file has it too, but only after the first checkpoint of the new timeline.
-- The planner inlines it.
CREATE FUNCTION lockstep._timeline()
RETURNS int
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int; -- noqa: LT01
END;
COMMENT ON FUNCTION lockstep._timeline() IS
    'Returns the timeline that the server writes.';

-- sql/20_tables/90_pending_grant.sql

-- GRANTs that an update leaves for the end of its transaction; empty at all other times.
-- What the script of an extension grants itself belongs to the extension: pg_dump leaves it
-- out, and before Postgres 17 a role that is dropped leaves a trace in pg_init_privs.
CREATE TABLE lockstep.pending_grant (
    grant_statement text NOT NULL,

    CONSTRAINT pending_grant_pkey PRIMARY KEY (grant_statement),

    CONSTRAINT pending_grant_is_a_grant_check CHECK (grant_statement LIKE 'GRANT %')
);

COMMENT ON TABLE lockstep.pending_grant IS
    'Grants that an update has left for the end of its transaction.';
COMMENT ON COLUMN lockstep.pending_grant.grant_statement IS
    'The GRANT, whole.';

-- sql/30_internal/enqueue_compensations.sql

-- Enqueues the compensation of workflows that failed or were cancelled.
--
-- A step named "compensate" holds an undo step that the workflow registered:
-- {"step", "positionalArgs", "namedArgs"}. They become the argument of one workflow
-- "lockstep.compensate", which every worker knows, the last one first. It is never older
-- than the start of the run that it undoes, by which _rerun_problem() knows it, also if
-- the clock was set back.
CREATE OR REPLACE FUNCTION lockstep._enqueue_compensations(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_queues text[];
BEGIN
    WITH enqueued AS (
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, inputs, priority, queue_partition_key, app_version,
            created_at, parent_workflow_id, enqueued_by, headers
        )
        SELECT
            'lockstep.compensate', w.queue_name,
            jsonb_build_object('positionalArgs', jsonb_build_array(u.undo_steps), 'namedArgs', '{}'::jsonb),
            w.priority, w.queue_partition_key, w.app_version,
            greatest(clock_timestamp(), w.started_at), w.workflow_id, w.enqueued_by, w.headers
        FROM lockstep.workflow_status AS w
        CROSS JOIN LATERAL (
            SELECT jsonb_agg(o.output ORDER BY o.completed_at DESC, o.step_id DESC) AS undo_steps
            FROM lockstep.operation_outputs AS o
            WHERE o.workflow_id = w.workflow_id
                AND o.step_name = 'compensate'
                AND o.completed_at IS NOT NULL
        ) AS u
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
            AND u.undo_steps IS NOT NULL
        RETURNING queue_name
    )

    SELECT array_agg(DISTINCT e.queue_name)
    INTO v_queues
    FROM enqueued AS e;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_compensations(text[]) IS
    'Enqueues the compensation of workflows that failed or were cancelled.';

-- sql/30_internal/hold_executor.sql

-- Holds the caller's lease until its transaction ends.
--
-- Locks the executor row FOR KEY SHARE: a heartbeat does not wait for it, but
-- recover_workflows(), which needs the row FOR UPDATE, cannot declare the
-- executor dead while a write of it is under way. A failover declares it dead too
-- (_is_alive()). First lock of every
-- function that writes for an executor. The other lock tells _await_writes() that
-- a write is under way.
CREATE OR REPLACE FUNCTION lockstep._hold_executor(p_executor_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('writes of ' || p_executor_id, 0));

    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id
        AND lockstep._is_alive(e)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        RAISE EXCEPTION 'executor "%" has lost its lease', p_executor_id
            USING ERRCODE = 'WF001',
                  DETAIL = CASE
                      WHEN EXISTS (
                          SELECT
                          FROM lockstep.executor AS e
                          WHERE e.executor_id = p_executor_id
                              AND e.expires_at > '-infinity'
                      ) THEN 'The server was promoted or restored since it registered.'
                      ELSE 'Its workflows belong to other executors now.'
                  END,
                  HINT = 'Drop what is running and call register_executor() again.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._hold_executor(text) IS
    'Holds an executor''s lease until the transaction ends, or raises WF001.';

-- sql/30_internal/is_alive.sql

-- Tells whether an executor may write: nobody declared it dead, and the database is the one
-- where it registered, or has all that was committed there.
--
-- A promoted standby, a server restored to a moment, or a database restored from a dump may
-- lack the last commits that the executor knows of. What it runs has gone on from them: a later
-- step would be recorded, and its writes committed, without the earlier one. The first two are on
-- a timeline of their own, in the last the table is another one. The planner inlines it.
CREATE FUNCTION lockstep._is_alive(p_executor lockstep.executor)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT p_executor.expires_at > '-infinity' -- noqa: LT01
        AND CASE
            WHEN p_executor.timeline IS NULL THEN true
            ELSE p_executor.timeline = lockstep._timeline()
        END
        AND CASE
            WHEN p_executor.table_id IS NULL THEN true
            ELSE p_executor.table_id = 'lockstep.executor'::regclass
        END;
END;
COMMENT ON FUNCTION lockstep._is_alive(lockstep.executor) IS
    'Tells whether an executor may write: not declared dead, and no failover or restore since it registered.';

-- sql/45_executor/heartbeat.sql

-- Extends an executor's lease and says whether it is idle.
--
-- An idle executor is notified of new work on channel "lockstep". Returns the
-- names of waiting workflows that no live executor of their queue can run,
-- looking at the first 100 of each of the executor's queues, so that a name
-- nobody registered does not wait unseen.
--
-- Updates no key column: writers, which hold the row FOR KEY SHARE, do not
-- wait for it. An ended lease that nobody took over yet is revived; one that
-- was declared dead, or has outlived a failover, raises WF001.
CREATE OR REPLACE FUNCTION lockstep.heartbeat(
    executor_id text,
    is_idle boolean DEFAULT false,
    looks_for_unserved boolean DEFAULT true
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    r_executor record;
BEGIN
    UPDATE lockstep.executor AS e
    SET
        expires_at = clock_timestamp() + e.lease_duration,
        is_idle = heartbeat.is_idle
    WHERE e.executor_id = heartbeat.executor_id
        AND lockstep._is_alive(e)
    RETURNING e.queues, e.workflow_names
    INTO r_executor;

    IF NOT FOUND THEN
        PERFORM lockstep._hold_executor(heartbeat.executor_id);
    END IF;

    IF NOT heartbeat.looks_for_unserved THEN
        RETURN;
    END IF;

    RETURN QUERY
    SELECT DISTINCT waiting.workflow_name
    FROM unnest(r_executor.queues) AS q (queue_name)
    CROSS JOIN LATERAL (
        SELECT w.workflow_name
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = q.queue_name
            AND w.status = 'ENQUEUED'
        ORDER BY w.priority, w.available_at
        LIMIT 100
    ) AS waiting
    WHERE waiting.workflow_name <> ALL (r_executor.workflow_names)
        AND NOT EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE q.queue_name = ANY (e.queues)
                AND waiting.workflow_name = ANY (e.workflow_names)
                AND e.expires_at > clock_timestamp()
        );
END
$$;
COMMENT ON FUNCTION lockstep.heartbeat(text, boolean, boolean) IS
    'Extends an executor''s lease; returns names of waiting workflows that nobody can run.';

-- sql/45_executor/recover_workflows.sql

-- Puts back what dead executors held; any worker may call it at any time.
--
-- Returns how many workflows it put back, with the seconds until the next
-- lease ends, NULL when there is none. A workflow whose executor died under it
-- max_attempts times goes to the dead letter; from the fourth death on it also
-- waits before it runs again, 1 s, 2 s, 4 s and so on up to a minute, so that
-- a workflow which kills its worker cannot spin. An executor from before a failover is
-- dead at once (_is_alive()).
--
-- A lease that ends later than its length from now was given before the clock was set
-- back. It is cut to that length, or a dead executor's would last until the clock is there
-- again.
--
-- First the lease is ended for good: -infinity, under FOR UPDATE, which no
-- write of the executor survives (_hold_executor). Its workflows follow; one
-- that a client holds locked is skipped and found again by a later call, as the
-- executor row goes only when it holds nothing, and so is one that goes to the dead
-- letter while the row of who waits for it is locked. Lock order: executor rows, then
-- workflow rows, skipping locked ones of both.
CREATE OR REPLACE FUNCTION lockstep.recover_workflows(
    OUT recovered_count int,
    OUT next_expiry_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_dead text[];
    v_queues text[];
    v_held text[];
    v_given_up text[];
    v_blocked text[];
BEGIN
    -- more than a second, because heartbeats come after v_now
    UPDATE lockstep.executor AS e
    SET expires_at = v_now + e.lease_duration
    WHERE e.executor_id = ANY (
        ARRAY(
            SELECT l.executor_id
            FROM lockstep.executor AS l
            WHERE l.expires_at > v_now + l.lease_duration + interval '1 s'
            FOR NO KEY UPDATE SKIP LOCKED
        )
    );

    v_dead := ARRAY(
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at <= v_now
            OR NOT lockstep._is_alive(e)
        FOR UPDATE SKIP LOCKED
    );

    IF cardinality(v_dead) > 0 THEN
        UPDATE lockstep.executor AS e
        SET expires_at = '-infinity', is_idle = false
        WHERE e.executor_id = ANY (v_dead)
            AND e.expires_at > '-infinity';

        SELECT
            array_agg(h.workflow_id),
            coalesce(array_agg(h.workflow_id) FILTER (WHERE h.is_last_attempt), '{}')
        INTO v_held, v_given_up
        FROM (
            SELECT w.workflow_id, w.attempts >= w.max_attempts AS is_last_attempt
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.executor_id = ANY (v_dead)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS h;

        v_blocked := lockstep._awaited_by_held(v_given_up);

        WITH recovered AS (
            UPDATE lockstep.workflow_status AS w
            SET
                status = CASE
                    WHEN w.attempts >= w.max_attempts THEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
                    WHEN w.attempts > 3 THEN 'DELAYED'
                    ELSE 'ENQUEUED'
                END,
                error = CASE
                    WHEN w.attempts >= w.max_attempts
                        THEN lockstep._error_document(
                            'MaxRecoveryAttemptsExceeded',
                            format('its executor died under each of its %s attempts', w.attempts)
                        )
                    ELSE w.error
                END,
                completed_at = CASE WHEN w.attempts >= w.max_attempts THEN v_now END,
                available_at = CASE
                    WHEN w.attempts > 3
                        THEN v_now + least(interval '1 s' * 2 ^ least(w.attempts - 4, 10), interval '1 min')
                    ELSE v_now
                END,
                executor_id = CASE WHEN w.attempts >= w.max_attempts THEN w.executor_id END
            FROM unnest(v_held) AS h (workflow_id)
            WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
                AND w.workflow_id <> ALL (v_blocked)
            RETURNING w.workflow_id, w.queue_name, w.completed_at IS NOT NULL AS is_given_up
        )

        SELECT
            count(*)::int, array_agg(DISTINCT r.queue_name),
            array_agg(r.workflow_id) FILTER (WHERE r.is_given_up)
        INTO recovered_count, v_queues, v_given_up
        FROM recovered AS r;

        DELETE FROM lockstep.executor AS e
        WHERE e.executor_id = ANY (v_dead)
            AND NOT EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.status = 'PENDING'
                    AND w.executor_id = e.executor_id
            );

        IF v_given_up IS NOT NULL THEN
            PERFORM lockstep._settle_ended(v_given_up, v_given_up);
        END IF;

        IF v_queues IS NOT NULL THEN
            PERFORM lockstep._ring_doorbell(v_queues);
        END IF;
    END IF;

    recovered_count := coalesce(recovered_count, 0);

    -- an executor that could not be dealt with now is looked at again in a second
    SELECT extract(EPOCH FROM min(greatest(e.expires_at, v_now + interval '1 s')) - v_now)::double precision
    INTO next_expiry_in
    FROM lockstep.executor AS e;
END
$$;
COMMENT ON FUNCTION lockstep.recover_workflows() IS
    'Puts back what dead executors held.';

-- sql/45_executor/register_executor.sql

-- Registers a worker process and returns its executor id.
--
-- The id is new at each call: a worker whose lease ended registers again and
-- starts with nothing.
CREATE OR REPLACE FUNCTION lockstep.register_executor(
    queues text[],
    workflow_names text[],
    lease_duration interval DEFAULT '30 seconds',
    app_version text DEFAULT NULL,
    host text DEFAULT NULL,
    pid int DEFAULT NULL,
    client_version text DEFAULT NULL,
    pins_version boolean DEFAULT false
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_executor_id constant text := lockstep._generate_id();
    v_timeline int;
BEGIN
    IF coalesce(cardinality(register_executor.queues), 0) = 0 THEN
        RAISE EXCEPTION 'queues must name at least one queue'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the queues that the worker claims from.';
    ELSIF register_executor.lease_duration IS NULL
        OR register_executor.lease_duration NOT BETWEEN interval '1 s' AND interval '1 day'
    THEN
        RAISE EXCEPTION 'lease_duration must be between 1 second and 1 day, not %',
            coalesce(register_executor.lease_duration::text, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A dead worker''s workflows run elsewhere when its lease has ended.';
    ELSIF register_executor.pins_version AND register_executor.app_version IS NULL THEN
        RAISE EXCEPTION 'pins_version needs an app_version'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the version that started workflows shall stay with.';
    END IF;

    -- a server whose storage is not Postgres' own, such as Aurora, does not tell, or only with
    -- wal_level = logical; its failover loses no commit
    BEGIN
        v_timeline := lockstep._timeline();
    EXCEPTION
        WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
            v_timeline := NULL;
    END;

    INSERT INTO lockstep.executor (
        executor_id, queues, workflow_names, app_version, pins_version, host, pid, client_version,
        lease_duration, expires_at, timeline, table_id
    )
    VALUES (
        v_executor_id,
        ARRAY(SELECT DISTINCT q.queue_name FROM unnest(register_executor.queues) AS q (queue_name)),
        coalesce(register_executor.workflow_names, '{}'), register_executor.app_version,
        coalesce(register_executor.pins_version, false),
        register_executor.host, register_executor.pid, register_executor.client_version,
        register_executor.lease_duration,
        clock_timestamp() + register_executor.lease_duration,
        v_timeline,
        'lockstep.executor'::regclass
    );

    RETURN v_executor_id;
END
$$;
COMMENT ON FUNCTION lockstep.register_executor(text[], text[], interval, text, text, int, text, boolean) IS
    'Registers a worker process and returns its executor id.';

-- sql/50_step/record_step.sql

-- Records the outcome of one step inside the transaction that did its work.
--
-- The writes of the step and its checkpoint commit together: exactly once,
-- whatever crashes when. Call it last, just before COMMIT. Raises WF001 when
-- the workflow is another executor's now, WF002 when it was cancelled, and
-- WF004 when the step is recorded already (read it with get_step()); each of
-- them rolls the step's writes back.
--
-- Locks the new row, and the workflow row FOR KEY SHARE, which only restart_workflow()
-- and purge_workflows() wait for or skip: they delete steps, and must not miss one. So a
-- client that stops before its COMMIT does not hold up recovery, and lets the server
-- end the transaction when the COMMIT does not come within five seconds. The primary
-- key closes the race with a successor: of two transactions that record one step, the
-- second waits here for the first and then fails.
CREATE OR REPLACE FUNCTION lockstep.record_step(
    executor_id text,
    workflow_id text,
    attempt int,
    step_id int,
    step_name text,
    output jsonb DEFAULT NULL,
    attempts int DEFAULT 1,
    duration double precision DEFAULT 0
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- the plan must stay at the primary keys, also if it was made when the tables were empty
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_status text;
BEGIN
    -- only COMMIT follows: a client that stops before it must not hold up its successor
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);

    INSERT INTO lockstep.operation_outputs AS o (
        workflow_id, step_id, step_name, output, attempts, started_at, completed_at
    )
    SELECT
        w.workflow_id, record_step.step_id, record_step.step_name, record_step.output,
        record_step.attempts, v_now - make_interval(secs => record_step.duration), v_now
    FROM lockstep.workflow_status AS w
    INNER JOIN lockstep.executor AS e ON e.executor_id = w.executor_id
    WHERE w.workflow_id = record_step.workflow_id
        AND (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', record_step.executor_id, record_step.attempt)
        AND lockstep._is_alive(e)
    FOR KEY SHARE OF w
    ON CONFLICT (workflow_id, step_id) DO UPDATE
    SET
        output = excluded.output,
        error = NULL,
        attempts = excluded.attempts,
        started_at = excluded.started_at,
        completed_at = excluded.completed_at
    WHERE o.completed_at IS NULL;

    IF FOUND THEN
        RETURN;
    END IF;

    IF lockstep._is_held(record_step.executor_id, record_step.workflow_id, record_step.attempt)
        AND EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.executor_id = record_step.executor_id
                AND lockstep._is_alive(e)
        )
    THEN
        RAISE EXCEPTION 'step % of workflow "%" is recorded already', record_step.step_id, record_step.workflow_id
            USING ERRCODE = 'WF004',
                  HINT = 'Roll back and take the recorded outcome from get_step().';
    END IF;

    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = record_step.workflow_id;

    IF v_status = 'CANCELLED' THEN
        RAISE EXCEPTION 'workflow "%" was cancelled', record_step.workflow_id
            USING ERRCODE = 'WF002', HINT = 'Roll back and drop the workflow.';
    END IF;

    RAISE EXCEPTION 'executor "%" has lost workflow "%"', record_step.executor_id, record_step.workflow_id
        USING ERRCODE = 'WF001',
              DETAIL = format('The workflow is %s.', coalesce(v_status, 'gone')),
              HINT = 'Roll back and drop the workflow.';
END
$$;
COMMENT ON FUNCTION lockstep.record_step(text, text, int, int, text, jsonb, int, double precision) IS
    'Records the outcome of one step inside the transaction that did its work.';

-- sql/70_queue/pull_back_starts.sql

-- Moves what a queue started in the future to now: the clock was set back since.
--
-- Else a rate limit would count these starts, and start nothing more, until the clock has
-- come to them. They become one row: as if all had started now, so that they are counted
-- for one period more at the most. The caller holds the queue row.
CREATE FUNCTION lockstep._pull_back_starts(p_queue_name text, p_now timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- _log_starts() itself puts starts some microseconds after each other
    IF NOT EXISTS (
        SELECT
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.is_partition = ANY ('{t,f}')
            AND s.started_at > p_now + interval '1 s'
    ) THEN
        RETURN;
    END IF;

    WITH removed AS (
        DELETE FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.started_at > p_now
        RETURNING s.is_partition, s.partition_key, s.count_before, s.count_after
    )

    INSERT INTO lockstep.queue_start (
        queue_name, is_partition, partition_key, started_at, count_before, count_after
    )
    SELECT
        p_queue_name, r.is_partition, r.partition_key, p_now, min(r.count_before), max(r.count_after)
    FROM removed AS r
    GROUP BY r.is_partition, r.partition_key;
END
$$;
COMMENT ON FUNCTION lockstep._pull_back_starts(text, timestamptz) IS
    'Moves what a queue started in the future to now: the clock was set back since.';

-- sql/70_queue/ready_in_limited_queue.sql

-- Locks the workflows of a limited queue that may start now.
--
-- The caller holds the queue's row until the claim commits, so the counts that it starts
-- from stay true: what runs can only become less meanwhile. Claims of one limited queue
-- follow each other, other queues do not notice. look_again_in: seconds until a rate
-- limit lets the next start, if one keeps workflows back.
--
-- Every execution that begins counts for a rate: the first, and each that follows a
-- wait, a retry or a recovery, for each may call what the limit protects.
--
-- Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_limited_queue(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_room int := p_max_count;
    r_running record;
    r_rate record;
BEGIN
    ready := ARRAY[]::tid[];

    -- A window has one length, with months of 30 days and days of 24 hours. By the calendar a
    -- start of January 31st would be waited for until February 28th, and count until March 1st.
    p_queue.rate_period := make_interval(secs => extract(EPOCH FROM p_queue.rate_period)::double precision);
    p_queue.partition_rate_period := make_interval(
        secs => extract(EPOCH FROM p_queue.partition_rate_period)::double precision
    );

    IF num_nonnulls(p_queue.rate_limit, p_queue.partition_rate_limit) > 0 THEN
        PERFORM lockstep._pull_back_starts(p_queue.queue_name, p_now);
    END IF;

    IF p_queue.concurrency IS NOT NULL OR p_queue.worker_concurrency IS NOT NULL THEN
        SELECT count(*) AS of_all, count(*) FILTER (WHERE w.executor_id = p_executor.executor_id) AS of_this
        INTO r_running
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.queue_name = p_queue.queue_name;

        v_room := least(
            v_room, p_queue.concurrency - r_running.of_all, p_queue.worker_concurrency - r_running.of_this
        )::int;
    END IF;

    IF p_queue.rate_limit IS NOT NULL THEN
        r_rate := lockstep._rate_room(
            p_queue.queue_name, false, '', p_queue.rate_limit, p_queue.rate_period, p_now
        );
        v_room := least(v_room, r_rate.room);
        look_again_in := r_rate.next_in;
    END IF;

    IF v_room <= 0 THEN
        RETURN;
    ELSIF p_queue.partition_concurrency IS NOT NULL OR p_queue.partition_rate_limit IS NOT NULL THEN
        SELECT r.ready, r.look_again_in
        INTO ready, look_again_in
        FROM lockstep._ready_in_partitions(p_queue, p_executor, v_room, p_now) AS r;
    ELSE
        ready := lockstep._ready_in_queues(ARRAY[p_queue.queue_name], p_executor, v_room, NULL);
    END IF;

    IF p_queue.rate_limit IS NOT NULL AND cardinality(ready) > 0 THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, false, ARRAY[''], ARRAY[cardinality(ready)], p_queue.rate_period, p_now
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_limited_queue(lockstep.queue, lockstep.executor, int, timestamptz) IS
    'Locks the workflows of a limited queue that may start now.';

-- sql/80_admin/10_version.sql

-- Tells the version of Lockstep in this database, also without the extension.
-- The column has a name, so that a restored function reads as the dumped one.
CREATE OR REPLACE FUNCTION lockstep.version()
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT '0.2.0' AS version;
END;
COMMENT ON FUNCTION lockstep.version() IS
    'Tells the version of Lockstep in this database.';

-- sql/80_admin/50_grant_at_commit.sql

-- Executes a pending grant, when the transaction of an update commits.
--
-- A deferred trigger is what runs after the script of the extension and in its transaction.
-- It grants as the owner, whoever commits. Nobody else can write to the table, and it is
-- empty when a dump is restored.
CREATE FUNCTION lockstep._grant_at_commit()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE new.grant_statement;

    DELETE FROM lockstep.pending_grant AS g
    WHERE g.grant_statement = new.grant_statement;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._grant_at_commit() IS
    'Executes a pending grant, when the transaction of an update commits.';

-- sql/80_admin/52_pending_grant_trigger.sql

-- The only trigger on a table of Lockstep: the table is empty outside of updates.
CREATE CONSTRAINT TRIGGER pending_grant_at_commit
AFTER INSERT ON lockstep.pending_grant
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW
EXECUTE FUNCTION lockstep._grant_at_commit();
COMMENT ON TRIGGER pending_grant_at_commit ON lockstep.pending_grant IS
    'Grants when the transaction of the update commits.';

-- sql/95_update/90_end.sql

-- Closes every update.

-- Nothing is PUBLIC's. Only what is new is touched: in an extension a REVOKE makes all
-- grants of the object part of the extension, and pg_dump would leave them out.
DO $$
DECLARE
    v_before constant jsonb := current_setting('lockstep.before_update');
    v_object text;
BEGIN
    FOR v_object IN
        SELECT format('FUNCTION %s', p.oid::regprocedure)
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND NOT v_before ? p.oid::text
        UNION ALL
        SELECT format('TABLE %s', c.oid::regclass)
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relkind IN ('r', 'v')
            AND NOT v_before ? c.oid::text
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM public', v_object);
    END LOOP;
END
$$;

-- Who held a capability holds it again with what is new in it, once this transaction commits.
INSERT INTO lockstep.pending_grant (grant_statement)
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', p.oid::regprocedure, h.holder ->> 1)
FROM json_array_elements(current_setting('lockstep.holders_before_update')::json) AS h (holder)
INNER JOIN lockstep._capabilities() AS c ON c.capability = h.holder ->> 0
INNER JOIN pg_catalog.pg_proc AS p ON p.proname = c.function_name
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND NOT current_setting('lockstep.before_update')::jsonb ? p.oid::text
UNION
SELECT format('GRANT SELECT ON TABLE %s TO %s', c.oid::regclass, h.holder ->> 1)
FROM json_array_elements(current_setting('lockstep.holders_before_update')::json) AS h (holder)
CROSS JOIN pg_catalog.pg_class AS c
WHERE h.holder ->> 0 = 'viewer'
    AND c.relnamespace = 'lockstep'::regnamespace
    AND c.relkind IN ('r', 'v')
    AND NOT current_setting('lockstep.before_update')::jsonb ? c.oid::text;

-- sql/90_extension.sql

SELECT pg_catalog.pg_extension_config_dump('lockstep.pending_grant', '');
