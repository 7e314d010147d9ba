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

-- All that is altered, indexed or given policies below, at once: the fewer moments in
-- which the update has some of the locks and waits for others, the fewer transactions wait with it.
LOCK TABLE
    lockstep.workflow_status, lockstep.operation_outputs, lockstep.notifications,
    lockstep.workflow_events, lockstep.workflow_streams, lockstep.executor,
    lockstep.state_transition, lockstep.state_move
IN ACCESS EXCLUSIVE MODE;

ALTER TABLE lockstep.executor
ADD COLUMN timeline int,
ADD COLUMN table_id oid,
ADD COLUMN suspect_id text,
ADD COLUMN alone_until timestamptz,
ADD COLUMN system_id bigint,
ADD COLUMN server_started_at timestamptz,
ADD COLUMN connection_number int NOT NULL DEFAULT 0,
ADD CONSTRAINT executor_alone_with_a_suspect_check CHECK ((suspect_id IS NULL) = (alone_until IS NULL));
COMMENT ON COLUMN lockstep.executor.timeline IS
    'Timeline of the server at the registration: after a failover the executor is dead; NULL where it is not told.';
COMMENT ON COLUMN lockstep.executor.table_id IS
    'This table at the registration: after a restore from a dump, which makes another one, the executor is dead.';
COMMENT ON COLUMN lockstep.executor.suspect_id IS
    'Workflow that the worker runs alone, because workers died under it.';
COMMENT ON COLUMN lockstep.executor.alone_until IS
    'Until when the worker claims nothing beside that workflow while it runs.';
COMMENT ON COLUMN lockstep.executor.system_id IS
    'Server of the registration: on any other the executor is dead; NULL where it is not told.';
COMMENT ON COLUMN lockstep.executor.server_started_at IS
    'Start of the server that the executor was last heard by, where system_id was compared.';
COMMENT ON COLUMN lockstep.executor.connection_number IS
    'Connections that the worker had made when it last said what it runs: what comes from an earlier one is late.';

-- tables without a primary key, in databases that publish all tables
ALTER TABLE lockstep.state_transition REPLICA IDENTITY FULL;
ALTER TABLE lockstep.state_move REPLICA IDENTITY FULL;

-- internal functions that take another argument now: who was about to call the old ones waits for
-- executor before, and finds their callers replaced
DROP FUNCTION lockstep._ready_in_limited_queue(lockstep.queue, lockstep.executor, int, timestamptz);
DROP FUNCTION lockstep._ready_in_queues(text[], lockstep.executor, int, jsonb);

-- sql/00_prelude/30_is_suspect.sql

-- Tells whether a workflow that waits is suspected of killing its workers.
--
-- While it waits, attempts counts the workers that died under it, and perhaps under many
-- others at the same time. One is suspected from the third death on, and before its last
-- attempt in any case.
CREATE FUNCTION lockstep._is_suspect(p_attempts int, p_max_attempts int)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT p_attempts > 0 AND p_attempts >= least(3, p_max_attempts - 1);
END;
COMMENT ON FUNCTION lockstep._is_suspect(int, int) IS
    'Tells whether a workflow that waits is suspected of killing its workers.';

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

-- sql/00_prelude/32_system_id.sql

-- Returns the number that initdb drew for this server and its copies.
--
-- Reads a file: 20 us.
CREATE FUNCTION lockstep._system_id()
RETURNS bigint
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT c.system_identifier
    FROM pg_control_system() AS c;
END;
COMMENT ON FUNCTION lockstep._system_id() IS
    'Returns the number that initdb drew for this server and its copies.';

-- sql/20_tables/12_workflow_status_suspect_idx.sql

-- _turn_of_suspects() and claims find those under which workers died, whatever else waits. The
-- predicate is written so that no other query's condition implies it
CREATE INDEX workflow_status_suspect_idx
ON lockstep.workflow_status (queue_name, priority, available_at)
WHERE (status = 'ENQUEUED') IS TRUE AND lockstep._is_suspect(attempts, max_attempts);

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

-- sql/20_tables/90_tenant_isolation.sql

-- One row if clients are tenants that see their own workflows only; none if they see all.
CREATE TABLE lockstep.tenant_isolation (
    is_enabled boolean NOT NULL DEFAULT true,
    enabled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    enabled_by text NOT NULL DEFAULT current_user,

    CONSTRAINT tenant_isolation_pkey PRIMARY KEY (is_enabled),

    CONSTRAINT tenant_isolation_is_there_or_not_check CHECK (is_enabled)
);

COMMENT ON TABLE lockstep.tenant_isolation IS
    'One row if clients are tenants that see their own workflows only; none if they see all.';
COMMENT ON COLUMN lockstep.tenant_isolation.is_enabled IS 'Always true.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_at IS 'When tenants were isolated.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_by IS 'Role that did it.';

-- sql/30_internal/attachment_of.sql

-- Reads the arguments of a trigger that calls enqueue_rows().
--
-- All are NULL if attach_workflow() did not write them: whoever owns a table can create such a
-- trigger by hand, and must not break the view for everybody. Hence the exception block.
-- pg_trigger ends each argument with a zero byte; the hexadecimal form is cut there, two
-- digits at a time.
CREATE FUNCTION lockstep._attachment_of(
    p_arguments bytea,
    OUT settings jsonb,
    OUT columns text[],
    OUT primary_key text[],
    OUT priority int,
    OUT debounce interval,
    OUT debounce_max_delay interval
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    v_settings := (
        SELECT jsonb_object(
            array_agg(convert_from(decode(m.hex[1], 'hex'), getdatabaseencoding()) ORDER BY m.place)
        )
        FROM regexp_matches(encode(p_arguments, 'hex'), '((?:..)*?)00', 'g') WITH ORDINALITY AS m (hex, place)
    );
    columns := (v_settings ->> 'columns')::text[];
    primary_key := (v_settings ->> 'primary_key')::text[];
    priority := coalesce((v_settings ->> 'priority')::int, 0);
    debounce := (v_settings ->> 'debounce')::interval;
    debounce_max_delay := (v_settings ->> 'debounce_max_delay')::interval;
    settings := v_settings;
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._attachment_of(bytea) IS
    'Reads the arguments of a trigger that calls enqueue_rows(); NULL if they are malformed.';

-- sql/30_internal/await.sql

-- Enters a workflow as waiting for others; NULL, or why it cannot wait now.
--
-- p_awaits is [{"awaited_id", "key": of the event, or null for the end}, …]. Returns
-- "ready" when one of them is there already, or will not come because its workflow has
-- ended, "busy" when it may be coming at this moment. Locks the awaited rows FOR SHARE,
-- and skips those that are locked: such a lock may be their end.
CREATE OR REPLACE FUNCTION lockstep._await(p_workflow_id text, p_awaits jsonb)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_awaited text[] := ARRAY(
        SELECT DISTINCT a.awaited_id
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text)
    );
    v_unended_count bigint;
    v_locked_count bigint;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE w.completed_at IS NULL)
    INTO v_locked_count, v_unended_count
    FROM (
        SELECT w.completed_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_awaited)
        FOR SHARE SKIP LOCKED
    ) AS w;

    IF v_unended_count < v_locked_count THEN
        RETURN 'ready';
    ELSIF v_locked_count < cardinality(v_awaited) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE a.key IS NOT NULL
            AND lockstep._is_announced(a.awaited_id, 'event:' || a.key)
    ) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE (
            SELECT true
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = a.awaited_id
                AND v.key = a.key
            LIMIT 1  -- keeps it a look for each, where a join may read all events
        )
    ) THEN
        RETURN 'ready';
    END IF;

    -- an earlier wait's row is locked as a new one is: who ends the awaited workflow at
    -- this moment takes it away after this commits, and then finds the row WAITING
    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT a.awaited_id, coalesce('event:' || a.key, ''), false, p_workflow_id
    FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
    ON CONFLICT ON CONSTRAINT waiter_pkey DO UPDATE SET waiter = excluded.waiter;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._await(text, jsonb) IS
    'Enters a workflow as waiting for others; NULL, or why it cannot wait now.';

-- sql/30_internal/claim.sql

-- Claims workflows for an executor, as claim_workflows() and advance_workflows() describe it.
--
-- claimed: a JSON array of the workflows, what users wrote in it as JSON texts, NULL if
-- there is none; "priority" and "available_at", from which a caller makes its mark, only where
-- p_reports_places asks for them, the latter half a second old at the least: what became
-- available since then, such as a delay that ended, may not have been committed yet.
-- look_again_in: seconds after which a claim may bring what this one could not, if a
-- rate limit or another claim from the same queue is what kept it back.
--
-- What may have killed its workers runs alone, as _turn_of_suspects() describes it.
CREATE OR REPLACE FUNCTION lockstep._claim(
    p_executor_id text,
    p_max_count int,
    p_low_water jsonb,
    p_reports_places boolean,
    OUT claimed json,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- an ANALYZE of an empty table must not turn the claim into a scan and a sort
SET enable_seqscan = off
SET enable_bitmapscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ready tid[];
    v_is_alone boolean;
    v_reports_places boolean;
    r_executor lockstep.executor;
    r_turn record;
    r_ready record;
BEGIN
    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id;

    r_turn := lockstep._turn_of_suspects(r_executor, v_now);
    IF r_turn.turn = 'wait' THEN
        look_again_in := r_turn.look_again_in;
        RETURN;
    END IF;

    FOREACH v_is_alone IN ARRAY
        CASE r_turn.turn WHEN 'take' THEN '{t,f}' WHEN 'take last' THEN '{f,t}' ELSE '{f}' END::boolean[]
    LOOP
        r_ready := lockstep._ready(
            r_executor,
            CASE WHEN v_is_alone THEN 1 ELSE p_max_count END,
            CASE WHEN NOT v_is_alone THEN p_low_water END,
            v_is_alone
        );
        v_ready := r_ready.ready;
        look_again_in := least(look_again_in, r_ready.look_again_in);
        EXIT WHEN cardinality(v_ready) > 0;
    END LOOP;
    v_now := r_ready.taken_at;
    -- a suspect comes from wherever it waits: what others wait before it is not drained
    v_reports_places := p_reports_places AND NOT v_is_alone;

    IF v_is_alone AND cardinality(v_ready) > 0 THEN
        UPDATE lockstep.executor AS e
        SET
            suspect_id = w.workflow_id,
            alone_until = CASE
                WHEN w.attempts + 1 >= w.max_attempts THEN 'infinity'
                ELSE v_now + e.lease_duration
            END
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = v_ready[1]
            AND e.executor_id = p_executor_id;
    END IF;

    WITH claimed_row AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'PENDING',
            executor_id = p_executor_id,
            attempts = w.attempts + 1,
            started_at = coalesce(w.started_at, v_now),
            deadline_at = CASE
                WHEN w.started_at IS NULL THEN least(w.deadline_at, v_now + w.timeout)
                ELSE coalesce(w.deadline_at, v_now + w.timeout)
            END,
            app_version = CASE WHEN r_executor.pins_version THEN r_executor.app_version ELSE w.app_version END
        WHERE w.ctid = ANY (v_ready)
        RETURNING
            w.workflow_id, w.workflow_name, w.queue_name, w.inputs, w.headers, w.attempts,
            w.priority, w.available_at, w.deadline_at,
            w.started_at <> v_now OR w.forked_from IS NOT NULL AS has_history
    )

    SELECT json_agg(
        json_build_object(
            'workflow_id', c.workflow_id, 'workflow_name', c.workflow_name,
            'queue_name', c.queue_name, 'inputs', c.inputs::text, 'headers', c.headers::text,
            'attempt', c.attempts,
            'steps', CASE WHEN c.has_history THEN lockstep._recorded_steps(c.workflow_id) END,
            'deadline_in', extract(EPOCH FROM c.deadline_at - v_now),
            'priority', CASE WHEN v_reports_places THEN c.priority END,
            'available_at', CASE WHEN v_reports_places THEN least(c.available_at, v_now - interval '500 ms') END
        )
        ORDER BY c.priority, c.available_at
    )
    INTO claimed
    FROM claimed_row AS c;
END
$$;
COMMENT ON FUNCTION lockstep._claim(text, int, jsonb, boolean) IS
    'Claims workflows for an executor, for claim_workflows() and advance_workflows().';

-- sql/30_internal/debounce_workflows.sql

-- Enqueues workflows that start when calls for their deduplication id have paused;
-- returns their ids, in the order of the arrays.
--
-- A workflow that has the deduplication id and has not started takes everything from the
-- newest call, except its id and created_at, and starts p_debounce after that call, but
-- not later than p_max_delay after created_at. If the id is repeated in the arrays, the
-- last element is the newest call.
--
-- A workflow that has started has read its inputs, so it cannot take the newest ones, and
-- they must not be lost. Only one unfinished workflow may have the deduplication id, so
-- that one gives it up and runs on without, and a new workflow has it: later calls find
-- the one that can still take their inputs.
--
-- Lock order: the holders of the ids (FOR NO KEY UPDATE) and the new rows, in one statement,
-- by deduplication id: calls for the same ids do not deadlock. One that another
-- transaction holds, or is about to insert, is waited for. What INSERT does not change,
-- it has locked, so that nobody else takes the id between the two rounds of the loop.
CREATE OR REPLACE FUNCTION lockstep._debounce_workflows(
    p_workflow_name text,
    p_queue_name text,
    p_inputs jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_priority int,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval,
    p_max_delay interval
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_done jsonb := jsonb '{}';
    v_is_claimable boolean := false;
    v_open text[];
    r_rival record;
BEGIN
    IF p_workflow_ids IS NOT NULL THEN
        SELECT w.workflow_id, w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM unnest(p_workflow_ids, p_deduplication_ids) AS n (workflow_id, deduplication_id)
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = n.workflow_id
        WHERE (w.queue_name, w.deduplication_id, w.started_at, w.completed_at)
            IS DISTINCT FROM (p_queue_name, n.deduplication_id, NULL, NULL)
            OR NOT lockstep._may_see(w.enqueued_by)
        LIMIT 1;

        IF FOUND THEN
            RAISE EXCEPTION 'workflow "%" exists already', r_rival.workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Leave workflow_id out: with debounce, calls are told apart by deduplication_id.';
        END IF;
    END IF;

    LOOP
        WITH newest AS (
            SELECT DISTINCT ON (n.deduplication_id COLLATE "C")
                n.inputs, n.deduplication_id, n.queue_partition_key, n.place,
                first_value(n.workflow_id) OVER (PARTITION BY n.deduplication_id ORDER BY n.place) AS workflow_id
            FROM unnest(p_inputs, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys) WITH ORDINALITY
                AS n (inputs, workflow_id, deduplication_id, queue_partition_key, place)
            WHERE NOT v_done ? n.deduplication_id
            ORDER BY n.deduplication_id COLLATE "C", n.place DESC
        ),

        enqueued AS (
            INSERT INTO lockstep.workflow_status AS w (
                workflow_id, workflow_name, queue_name, status, inputs, priority,
                deduplication_id, queue_partition_key, app_version, max_attempts,
                created_at, available_at, deadline_at, timeout, enqueued_by, headers, retries
            )
            SELECT
                coalesce(n.workflow_id, lockstep._generate_id(v_now + n.place * interval '1 us')),
                p_workflow_name, p_queue_name, 'DELAYED', n.inputs, p_priority,
                n.deduplication_id, n.queue_partition_key, p_app_version, coalesce(p_max_attempts, 50),
                v_now + n.place * interval '1 us',
                v_now + least(p_debounce, p_max_delay) + n.place * interval '1 us',
                p_deadline, p_timeout, lockstep._caller(), p_headers, p_retries
            FROM newest AS n
            ORDER BY n.deduplication_id COLLATE "C"
            ON CONFLICT (queue_name, deduplication_id)
            WHERE deduplication_id IS NOT NULL AND completed_at IS NULL
            DO UPDATE SET
                status = CASE
                    WHEN w.created_at + p_max_delay <= v_now THEN 'ENQUEUED' ELSE 'DELAYED'
                END,
                inputs = excluded.inputs,
                priority = excluded.priority,
                queue_partition_key = excluded.queue_partition_key,
                app_version = excluded.app_version,
                -- a restarted workflow has used attempts
                max_attempts = least(w.attempts::bigint + excluded.max_attempts, 2147483647),
                available_at = least(excluded.available_at, w.created_at + p_max_delay),
                deadline_at = excluded.deadline_at,
                timeout = excluded.timeout,
                enqueued_by = excluded.enqueued_by,
                headers = excluded.headers,
                retries = excluded.retries
            WHERE w.workflow_name = excluded.workflow_name
                AND w.started_at IS NULL
                AND lockstep._may_see(w.enqueued_by)
            RETURNING w.deduplication_id, w.workflow_id, w.status
        )

        SELECT
            v_done || coalesce(jsonb_object_agg(e.deduplication_id, e.workflow_id), '{}'),
            v_is_claimable OR coalesce(bool_or(e.status = 'ENQUEUED'), false)
        INTO v_done, v_is_claimable
        FROM enqueued AS e;

        v_open := ARRAY(
            SELECT n.deduplication_id
            FROM unnest(p_deduplication_ids) AS n (deduplication_id)
            WHERE NOT v_done ? n.deduplication_id
        );
        EXIT WHEN v_open = '{}';

        SELECT w.workflow_id, w.deduplication_id
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL
            AND (w.workflow_name <> p_workflow_name OR NOT lockstep._may_see(w.enqueued_by))
        LIMIT 1;

        IF FOUND THEN
            PERFORM lockstep._refuse_rival(
                p_queue_name, r_rival.deduplication_id, r_rival.workflow_id,
                'Use another deduplication_id for another workflow_name.'
            );
        END IF;

        UPDATE lockstep.workflow_status AS w
        SET deduplication_id = NULL
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[p_queue_name], CASE WHEN v_is_claimable THEN '' ELSE 'due' END
    );

    RETURN ARRAY(
        SELECT v_done ->> n.deduplication_id
        FROM unnest(p_deduplication_ids) WITH ORDINALITY AS n (deduplication_id, place)
        ORDER BY n.place
    );
END
$$;
COMMENT ON FUNCTION lockstep._debounce_workflows(
    text, text, jsonb[], text[], text[], text[], int, interval, timestamptz, int, text, jsonb, jsonb,
    interval, interval
) IS
    'Enqueues workflows that start when calls for their deduplication id have paused.';

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

-- sql/30_internal/enqueue_many_problem.sql

-- Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and
-- hint, about the first element that is wrong.
CREATE OR REPLACE FUNCTION lockstep._enqueue_many_problem(
    p_named_args jsonb[],
    p_positional_args jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_debounce interval
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count constant int := cardinality(p_named_args);
    v_counts constant int[] := ARRAY[
        cardinality(p_positional_args), cardinality(p_workflow_ids),
        cardinality(p_deduplication_ids), cardinality(p_queue_partition_keys)
    ];
    v_problem text[];
BEGIN
    IF v_count IS NULL OR v_count <> ANY (v_counts) THEN
        RETURN ARRAY[
            'named_args must have one element per workflow, as every other array that is given',
            format(
                'named_args has %s, positional_args, workflow_ids, deduplication_ids and queue_partition_keys have %s.',
                coalesce(v_count::text, 'none'), array_to_string(v_counts, ', ', 'none')
            ),
            'Pass an empty object for a workflow without named arguments, and leave out an array that says nothing.'
        ];
    END IF;

    SELECT lockstep._enqueue_problem(
        'any', 'any', coalesce(n.positional_args, '[]'), coalesce(n.named_args, '{}'),
        n.workflow_id, n.deduplication_id, 'raise', 0, n.queue_partition_key,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, p_debounce
    )
    INTO v_problem
    FROM unnest(p_named_args, p_positional_args, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys)
        WITH ORDINALITY
        AS n (named_args, positional_args, workflow_id, deduplication_id, queue_partition_key, place)
    WHERE jsonb_typeof(n.named_args) <> 'object'
        OR jsonb_typeof(n.positional_args) <> 'array'
        OR lockstep._is_too_large(n.named_args) OR lockstep._is_too_large(n.positional_args)
        OR btrim(n.workflow_id) = '' OR length(n.workflow_id) > 512
        OR btrim(n.deduplication_id) = '' OR length(n.deduplication_id) > 512
        OR (p_debounce IS NOT NULL AND n.deduplication_id IS NULL)
        OR btrim(n.queue_partition_key) = '' OR length(n.queue_partition_key) > 512
    ORDER BY n.place
    LIMIT 1;

    RETURN v_problem;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_many_problem(jsonb[], jsonb[], text[], text[], text[], interval) IS
    'Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and hint.';

-- sql/30_internal/enqueue_problem.sql

-- Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.
--
-- Returns instead of raising, so that the error comes from the function that
-- the user called, without a page of context.
CREATE OR REPLACE FUNCTION lockstep._enqueue_problem(
    p_workflow_name text,
    p_queue_name text,
    p_positional_args jsonb,
    p_named_args jsonb,
    p_workflow_id text,
    p_deduplication_id text,
    p_on_duplicate text,
    p_priority int,
    p_queue_partition_key text,
    p_delay interval,
    p_run_at timestamptz,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval DEFAULT NULL,
    p_debounce_max_delay interval DEFAULT NULL
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_message text;
    v_detail text;
    v_hint text;
BEGIN
    IF p_workflow_name IS NULL OR btrim(p_workflow_name) = '' OR length(p_workflow_name) > 512 THEN
        RETURN lockstep._name_problem('workflow_name', p_workflow_name);
    ELSIF p_queue_name IS NULL OR btrim(p_queue_name) = '' OR length(p_queue_name) > 512 THEN
        RETURN lockstep._name_problem('queue_name', p_queue_name);
    ELSIF btrim(p_workflow_id) = '' OR length(p_workflow_id) > 512 THEN
        RETURN lockstep._name_problem('workflow_id', p_workflow_id);
    ELSIF btrim(p_deduplication_id) = '' OR length(p_deduplication_id) > 512 THEN
        RETURN lockstep._name_problem('deduplication_id', p_deduplication_id);
    ELSIF btrim(p_queue_partition_key) = '' OR length(p_queue_partition_key) > 512 THEN
        RETURN lockstep._name_problem('queue_partition_key', p_queue_partition_key);
    ELSIF btrim(p_app_version) = '' OR length(p_app_version) > 512 THEN
        RETURN lockstep._name_problem('app_version', p_app_version);
    ELSIF p_positional_args IS NULL OR jsonb_typeof(p_positional_args) <> 'array' THEN
        v_message := 'positional_args must be a JSON array';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_positional_args), 'null'));
        v_hint := 'Pass one element per argument, for example jsonb_build_array(1, ''two'').';
    ELSIF p_named_args IS NULL OR jsonb_typeof(p_named_args) <> 'object' THEN
        v_message := 'named_args must be a JSON object';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_named_args), 'null'));
        v_hint := 'Pass one key per argument, for example jsonb_build_object(''order_id'', 1).';
    ELSIF jsonb_typeof(p_headers) <> 'object' THEN
        v_message := 'headers must be a JSON object';
        v_detail := format('It is %s.', jsonb_typeof(p_headers));
        v_hint := 'Pass one key per header, or null.';
    ELSIF lockstep._is_too_large(p_positional_args) THEN
        RETURN lockstep._size_problem('positional_args', p_positional_args);
    ELSIF lockstep._is_too_large(p_named_args) THEN
        RETURN lockstep._size_problem('named_args', p_named_args);
    ELSIF lockstep._is_too_large(p_headers) THEN
        RETURN lockstep._size_problem('headers', p_headers);
    ELSIF p_on_duplicate IS NULL OR p_on_duplicate NOT IN ('raise', 'return') THEN
        v_message := 'on_duplicate must be ''raise'' or ''return''';
        v_detail := format('It is %s.', quote_nullable(left(p_on_duplicate, 40)));
        v_hint := '''return'' gives the id of the unfinished workflow with the same deduplication_id.';
    ELSIF p_priority IS NULL OR p_priority < 0 THEN
        v_message := 'priority must be 0 or greater';
        v_detail := format('It is %s.', coalesce(p_priority::text, 'null'));
        v_hint := '0 runs first, then 1, 2 and so on.';
    ELSIF p_max_attempts < 1 THEN
        v_message := 'max_attempts must be 1 or greater';
        v_detail := format('It is %s.', p_max_attempts);
        v_hint := 'It counts executions; leave it out for the default.';
    ELSIF p_delay IS NOT NULL AND p_run_at IS NOT NULL THEN
        v_message := 'delay and run_at exclude each other';
        v_detail := format('They are %s and %s.', p_delay, p_run_at);
        v_hint := 'Pass delay to start after a while, run_at to start at a time.';
    ELSIF p_delay NOT BETWEEN interval '0' AND interval '1000 years' THEN
        v_message := 'delay must not be negative, nor over 1000 years';
        v_detail := format('It is %s.', p_delay);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_run_at NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'run_at must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_run_at);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_timeout IS NOT NULL AND p_deadline IS NOT NULL THEN
        v_message := 'timeout and deadline exclude each other';
        v_detail := format('They are %s and %s.', p_timeout, p_deadline);
        v_hint := 'Pass timeout to limit the time from the first start, deadline to name a moment.';
    ELSIF p_timeout <= interval '0' OR p_timeout > interval '1000 years' THEN
        v_message := 'timeout must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_timeout);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_deadline NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'deadline must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_deadline);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_debounce IS NULL AND p_debounce_max_delay IS NOT NULL THEN
        v_message := 'debounce_max_delay needs a debounce';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Pass debounce, or leave both out.';
    ELSIF p_debounce IS NOT NULL AND p_deduplication_id IS NULL THEN
        v_message := 'debounce needs a deduplication_id';
        v_detail := format('debounce is %s, deduplication_id is null.', p_debounce);
        v_hint := 'Calls with the same queue and deduplication_id become one workflow.';
    ELSIF p_debounce IS NOT NULL AND num_nonnulls(p_delay, p_run_at) > 0 THEN
        v_message := 'debounce excludes delay and run_at';
        v_detail := format(
            'They are %s, %s and %s.', p_debounce,
            coalesce(p_delay::text, 'null'), coalesce(p_run_at::text, 'null')
        );
        v_hint := 'debounce itself says when the workflow starts.';
    ELSIF p_debounce <= interval '0' OR p_debounce > interval '1000 years' THEN
        v_message := 'debounce must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_debounce_max_delay <= interval '0' OR p_debounce_max_delay > interval '1000 years' THEN
        v_message := 'debounce_max_delay must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_retries IS NOT NULL THEN
        RETURN lockstep._retries_problem(p_retries);
    ELSE
        RETURN NULL;
    END IF;

    RETURN ARRAY[v_message, v_detail, v_hint];
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_problem(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.';

-- sql/30_internal/find_workflows.sql

-- Finds the newest workflows that meet a filter, of those statuses that are allowed.
--
-- Newest first by (created_at, workflow_id), after the workflow p_before_id if one is
-- given. The filter, which _checked_filter() has passed, has keys as list_workflows() has
-- parameters. Takes the shortest way to
-- candidates: the children of a parent; the ids with a prefix, if no more than 2000 have
-- it; else the newest by status, queue, name and time (_newest_workflows()). What that
-- way does not look at is tested on its candidates, in growing numbers of them until
-- p_count are found: an error text, headers, and the prefix if more ids have it.
CREATE OR REPLACE FUNCTION lockstep._find_workflows(
    p_filter jsonb,
    p_statuses text[],
    p_before_id text,
    p_count int
)
RETURNS TABLE (workflow_id text, created_at timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 100
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_max_candidates constant int := 2000;
    v_statuses text[] := coalesce(p_statuses, ARRAY[
        'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED',
        'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    ]);
    v_queue_name constant text := p_filter ->> 'queue_name';
    v_workflow_name constant text := p_filter ->> 'workflow_name';
    v_parent_id constant text := p_filter ->> 'parent_workflow_id';
    v_error_text constant text := lower(p_filter ->> 'error_text');
    v_headers constant jsonb := p_filter -> 'headers';
    v_from constant timestamptz := coalesce((p_filter ->> 'created_after')::timestamptz, '-infinity');
    v_to constant timestamptz := coalesce((p_filter ->> 'created_before')::timestamptz, 'infinity');
    v_pattern constant text := regexp_replace(p_filter ->> 'id_prefix', E'([\\\\%_])', E'\\\\\\1', 'g') || '%';
    v_before_at timestamptz := timestamptz 'infinity';
    v_before_id text := coalesce(p_before_id, '');
    v_chunk int := greatest(p_count, 100);
    v_left int := p_count;
    v_row_count int;
    v_prefixed_ids text[];
    v_ids text[];
    v_times timestamptz[];
BEGIN
    IF jsonb_typeof(p_filter -> 'status') = 'array' THEN
        v_statuses := ARRAY(
            SELECT DISTINCT s.status
            FROM jsonb_array_elements_text(p_filter -> 'status') AS s (status)
            WHERE s.status = ANY (v_statuses)
        );
    ELSIF p_filter ? 'status' THEN
        v_statuses := ARRAY(
            SELECT s.status FROM unnest(v_statuses) AS s (status) WHERE s.status = p_filter ->> 'status'
        );
    END IF;

    IF v_error_text IS NOT NULL THEN
        v_statuses := array_remove(v_statuses, 'SUCCESS');
    END IF;

    IF p_before_id IS NOT NULL THEN
        SELECT w.created_at
        INTO v_before_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_before_id;

        IF NOT FOUND THEN
            PERFORM lockstep._refuse_unknown_workflow(p_before_id);
        END IF;
    END IF;

    IF v_to <= v_before_at THEN
        v_before_at := v_to;
        v_before_id := '';  -- no id is smaller: created_before itself is left out
    END IF;

    IF v_parent_id IS NULL AND v_pattern IS NOT NULL THEN
        v_prefixed_ids := ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.workflow_id LIKE v_pattern
            UNION ALL
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.workflow_id LIKE v_pattern
            LIMIT v_max_candidates + 1
        );
    END IF;

    LOOP
        IF v_parent_id IS NOT NULL THEN
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM (
                SELECT w.workflow_id, w.created_at
                FROM lockstep.workflow_status AS w
                WHERE w.parent_workflow_id = v_parent_id
                    AND w.created_at >= v_from
                    AND w.created_at <= v_before_at
                    AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
                ORDER BY w.created_at DESC, w.workflow_id DESC
                LIMIT v_chunk
            ) AS c;
        ELSIF cardinality(v_prefixed_ids) <= v_max_candidates THEN
            v_ids := v_prefixed_ids;
            v_chunk := v_max_candidates + 1;
        ELSE
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM lockstep._newest_workflows(
                v_statuses, v_queue_name, v_workflow_name, v_from, v_before_at, v_before_id, v_chunk
            ) AS c;
        END IF;

        EXIT WHEN v_ids IS NULL;

        RETURN QUERY
        SELECT w.workflow_id, w.created_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_ids)
            AND w.status = ANY (v_statuses)
            AND w.created_at >= v_from
            AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
            AND (v_queue_name IS NULL OR w.queue_name = v_queue_name)
            AND (v_workflow_name IS NULL OR w.workflow_name = v_workflow_name)
            AND (v_pattern IS NULL OR w.workflow_id LIKE v_pattern)
            AND (v_headers IS NULL OR w.headers @> v_headers)
            AND (
                v_error_text IS NULL
                OR strpos(lower(concat(w.error ->> 'type', ': ', w.error ->> 'message')), v_error_text) > 0
            )
        ORDER BY w.created_at DESC, w.workflow_id DESC
        LIMIT v_left;

        GET DIAGNOSTICS v_row_count = ROW_COUNT;
        v_left := v_left - v_row_count;
        EXIT WHEN v_left = 0 OR cardinality(v_ids) < v_chunk;

        v_before_at := v_times[cardinality(v_ids)];
        v_before_id := v_ids[cardinality(v_ids)];
        v_chunk := least(4 * v_chunk, greatest(v_chunk, 10000));
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._find_workflows(jsonb, text[], text, int) IS
    'Finds the newest workflows that meet a filter, of those statuses that are allowed.';

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
-- a timeline of their own; in the last the table is another one, or the server is. Which server
-- it is, is read once after each start of it. The planner inlines this.
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
        END
        AND CASE
            WHEN p_executor.system_id IS NULL THEN true
            WHEN p_executor.server_started_at = pg_postmaster_start_time() THEN true
            ELSE p_executor.system_id = lockstep._system_id()
        END;
END;
COMMENT ON FUNCTION lockstep._is_alive(lockstep.executor) IS
    'Tells whether an executor may write: not declared dead, and no failover or restore since it registered.';

-- sql/30_internal/is_open_to_caller.sql

-- Tells whether the caller may see what another role enqueued.
--
-- Everything, unless enable_tenant_isolation() was called. Then a tenant sees what a role
-- enqueued whose rights it has. Who may claim any workflow, or read all tables, is no
-- tenant. What was enqueued by a role that was dropped since is theirs alone to see.
--
-- PL/pgSQL, because it keeps its plan (_is_held()). Asked about others' workflows only.
CREATE FUNCTION lockstep._is_open_to_caller(p_enqueued_by text)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_caller constant name := lockstep._caller()::name;
BEGIN
    RETURN NOT EXISTS (SELECT FROM lockstep.tenant_isolation)
        OR coalesce(pg_has_role(v_caller, to_regrole(quote_ident(p_enqueued_by)), 'USAGE'), false)
        OR has_table_privilege(v_caller, 'lockstep.executor', 'SELECT')
        OR has_function_privilege(v_caller, 'lockstep.claim_workflows(text, int, jsonb)', 'EXECUTE');
END
$$;
COMMENT ON FUNCTION lockstep._is_open_to_caller(text) IS
    'Tells whether the caller may see what another role enqueued.';

-- sql/30_internal/is_too_large.sql

-- Tells whether a JSON value is larger than what callers may store, 16 MB.
--
-- Postgres holds up to 256 MB, but a claim hands many workflows over in one answer, which
-- ends at 1 GB, and a worker makes objects of ten times the size of them. The size is that of
-- jsonb; what comes compressed out of a table counts as that. The planner inlines it.
CREATE FUNCTION lockstep._is_too_large(p_value jsonb)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT pg_column_size(p_value) > 16777216;
END;
COMMENT ON FUNCTION lockstep._is_too_large(jsonb) IS
    'Tells whether a JSON value is larger than what callers may store, 16 MB.';

-- sql/30_internal/may_see.sql

-- Tells whether the caller may see a workflow that this role enqueued.
--
-- What one enqueued oneself is seen at once: the planner inlines this, and who asks for its
-- own workflows, as nearly everybody does, pays for a comparison.
CREATE FUNCTION lockstep._may_see(p_enqueued_by text)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT p_enqueued_by = lockstep._caller() OR lockstep._is_open_to_caller(p_enqueued_by);
END;
COMMENT ON FUNCTION lockstep._may_see(text) IS
    'Tells whether the caller may see a workflow that this role enqueued.';

-- sql/30_internal/may_start_suspect.sql

-- Tells whether the rate limits of its queues let an executor start a suspect within a lease.
--
-- Of each queue the first thousand suspects are looked at.
CREATE FUNCTION lockstep._may_start_suspect(p_executor lockstep.executor, p_now timestamptz)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_soon constant double precision := extract(EPOCH FROM p_executor.lease_duration)::double precision;
BEGIN
    RETURN EXISTS (
        SELECT
        FROM unnest(p_executor.queues) AS n (queue_name)
        LEFT JOIN lockstep.queue AS q ON q.queue_name = n.queue_name
        CROSS JOIN LATERAL (
            SELECT w.queue_partition_key
            FROM lockstep.workflow_status AS w
            WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                AND lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.queue_name = n.queue_name
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS suspect
        WHERE q.is_paused IS NOT TRUE
            AND (
                q.rate_limit IS NULL
                OR coalesce(
                    (lockstep._rate_room(q.queue_name, false, '', q.rate_limit, q.rate_period, p_now)).next_in, 0
                ) <= v_soon
            )
            AND (
                q.partition_rate_limit IS NULL
                OR coalesce(
                    (
                        lockstep._rate_room(
                            q.queue_name, true, coalesce(suspect.queue_partition_key, ''),
                            q.partition_rate_limit, q.partition_rate_period, p_now
                        )
                    ).next_in,
                    0
                ) <= v_soon
            )
    );
END
$$;
COMMENT ON FUNCTION lockstep._may_start_suspect(lockstep.executor, timestamptz) IS
    'Tells whether the rate limits of its queues let an executor start a suspect within a lease.';

-- sql/30_internal/mermaid_text.sql

-- Escapes a text for a quoted label of Mermaid, whose entities begin with a number sign.
CREATE OR REPLACE FUNCTION lockstep._mermaid_text(p_text text)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT replace(replace(replace(replace(replace(replace(replace(
        p_text, '#', '#35;'), '&', '#amp;'), '"', '#quot;'), '<', '#lt;'), '>', '#gt;'), '`', '#96;'), E'\\', '#92;');
END;
COMMENT ON FUNCTION lockstep._mermaid_text(text) IS
    'Escapes a text for a quoted label of Mermaid.';

-- sql/30_internal/one_line.sql

-- Makes one line of a text of any origin, shortened to p_length characters.
--
-- Control characters and the line separators of Unicode become blanks, so that a name or a
-- message cannot look like lines of ours.
CREATE OR REPLACE FUNCTION lockstep._one_line(p_text text, p_length int DEFAULT 200)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN length(t.line) > p_length THEN left(t.line, p_length - 1) || '…'
        ELSE t.line
    END
    FROM (
        SELECT regexp_replace(
            p_text, E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]+', ' ', 'g'
        ) AS line
    ) AS t;
END;
COMMENT ON FUNCTION lockstep._one_line(text, int) IS
    'Makes one line of a text of any origin.';

-- sql/30_internal/ready.sql

-- Locks the workflows that an executor may start now, in the order of their queues.
--
-- Of several queues the one comes first whose first workflow comes first, so that none
-- starves behind the backlog of another; those without limits count as one. The rows of
-- limited queues are locked before the time is taken that counts for rate limits. A row
-- that is locked is not waited for but read as "nothing now": the client that changes the
-- queue in an open transaction must not stop a worker that serves others too.
--
-- Suspects are passed over, or, if p_is_alone, everything else is.
-- look_again_in as _claim() describes it.
CREATE FUNCTION lockstep._ready(
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean,
    OUT ready tid[],
    OUT taken_at timestamptz,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_limited text[];
    v_free text[];
    v_held lockstep.queue[];
    r_queue lockstep.queue;
    r_ready record;
BEGIN
    ready := ARRAY[]::tid[];
    taken_at := clock_timestamp();

    v_limited := ARRAY(
        SELECT q.queue_name
        FROM lockstep.queue AS q
        WHERE q.queue_name = ANY (p_executor.queues)
            AND (
                q.is_paused
                OR num_nonnulls(
                    q.concurrency, q.worker_concurrency, q.rate_limit,
                    q.partition_concurrency, q.partition_rate_limit
                ) > 0
            )
    );

    IF v_limited = '{}' THEN
        ready := lockstep._ready_in_queues(
            p_executor.queues, p_executor, p_max_count, p_low_water, p_is_alone
        );
    ELSE
        v_free := ARRAY(SELECT unnest(p_executor.queues) EXCEPT SELECT unnest(v_limited));
        v_held := ARRAY(
            SELECT q
            FROM lockstep.queue AS q
            WHERE q.queue_name = ANY (v_limited)
            ORDER BY q.queue_name
            FOR NO KEY UPDATE SKIP LOCKED
        );
        taken_at := clock_timestamp();
        -- counts in other isolation levels are as old as the snapshot: a row that has changed
        -- since fails the claim with 40001, where a row that was only locked would not
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            UPDATE lockstep.queue AS q
            SET is_paused = q.is_paused
            WHERE q.queue_name IN (SELECT h.queue_name FROM unnest(v_held) AS h);
        END IF;
        IF cardinality(v_held) < cardinality(v_limited) THEN
            look_again_in := 0.02 + 0.04 * random();
        END IF;

        FOR r_queue IN
            SELECT q.*
            FROM unnest(v_held || NULL::lockstep.queue) AS q  -- NULL stands for all without limits
            LEFT JOIN LATERAL (
                SELECT w.priority, w.available_at
                FROM lockstep._stretches(
                    CASE WHEN q.queue_name IS NULL THEN v_free ELSE ARRAY[q.queue_name] END,
                    -- those with limits per partition are not claimed in order
                    CASE
                        WHEN num_nonnulls(q.partition_concurrency, q.partition_rate_limit) = 0 THEN p_low_water
                    END
                ) AS s
                CROSS JOIN LATERAL (
                    SELECT w.priority, w.available_at
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = s.queue_name
                        AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                        AND w.priority <= s.to_priority
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.priority, w.available_at
                    LIMIT 1
                ) AS w
                ORDER BY w.priority, w.available_at
                LIMIT 1
            ) AS head ON true
            WHERE q.is_paused IS NOT TRUE
            ORDER BY head.priority, head.available_at
        LOOP
            EXIT WHEN cardinality(ready) >= p_max_count;

            IF r_queue.queue_name IS NULL THEN
                ready := ready || lockstep._ready_in_queues(
                    v_free, p_executor, p_max_count - cardinality(ready), p_low_water, p_is_alone
                );
            ELSE
                r_ready := lockstep._ready_in_limited_queue(
                    r_queue, p_executor, p_max_count - cardinality(ready), taken_at, p_low_water,
                    p_is_alone
                );
                ready := ready || r_ready.ready;
                look_again_in := least(look_again_in, r_ready.look_again_in);
            END IF;
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready(lockstep.executor, int, jsonb, boolean) IS
    'Locks the workflows that an executor may start now, in the order of their queues.';

-- sql/30_internal/ready_in_queues.sql

-- Locks the first workflows of some queues without limits, those that _ready() asks for.
--
-- p_low_water as claim_workflows() describes it. Reads the claim index from its head, or
-- the mark, and leaves it after n rows; suspects have an index of their own. Locks workflow
-- rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_queues(
    p_queues text[],
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_is_alone THEN
        RETURN ARRAY(
            SELECT suspect.row_id
            FROM unnest(p_queues) AS q (queue_name)
            CROSS JOIN LATERAL (
                SELECT w.ctid AS row_id, w.priority, w.available_at
                FROM lockstep.workflow_status AS w
                WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                    AND lockstep._is_suspect(w.attempts, w.max_attempts)
                    AND w.queue_name = q.queue_name
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                ORDER BY w.priority, w.available_at
                LIMIT p_max_count
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS suspect
            ORDER BY suspect.priority, suspect.available_at
            LIMIT p_max_count
        );
    END IF;

    RETURN ARRAY(
        SELECT ready.row_id
        FROM lockstep._stretches(p_queues, p_low_water) AS s
        CROSS JOIN LATERAL (
            SELECT w.ctid AS row_id, w.priority, w.available_at
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = s.queue_name
                AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                AND w.priority <= s.to_priority
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
            ORDER BY w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS ready
        ORDER BY ready.priority, ready.available_at
        LIMIT p_max_count
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_queues(text[], lockstep.executor, int, jsonb, boolean) IS
    'Locks the first workflows of some queues without limits.';

-- sql/30_internal/refuse_rival.sql

-- Raises the error for a deduplication id that an unfinished workflow has.
--
-- The hint is for a caller who may see that workflow. To another tenant it is not described.
CREATE OR REPLACE FUNCTION lockstep._refuse_rival(
    p_queue_name text,
    p_deduplication_id text,
    p_rival_id text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rival constant text := (
        SELECT format('It is workflow "%s", %s, and runs "%s".', w.workflow_id, w.status, w.workflow_name)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_rival_id
            AND lockstep._may_see(w.enqueued_by)
    );
BEGIN
    RAISE EXCEPTION 'queue "%" has an unfinished workflow with deduplication_id "%"',
        p_queue_name, p_deduplication_id
        USING ERRCODE = 'unique_violation',
              DETAIL = coalesce(v_rival, 'It is not visible to this role.'),
              HINT = CASE
                  WHEN v_rival IS NULL THEN 'Use another deduplication_id, or a queue of your own.'
                  ELSE p_hint
              END;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_rival(text, text, text, text) IS
    'Raises the error for a deduplication id that an unfinished workflow has.';

-- sql/30_internal/send_problem.sql

-- Says what send_message() cannot take: NULL, or message, detail and hint of the error.
CREATE OR REPLACE FUNCTION lockstep._send_problem(
    p_destination_id text,
    p_message jsonb,
    p_topic text,
    p_idempotency_key text
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_destination_id IS NULL OR btrim(p_destination_id) = '' OR length(p_destination_id) > 512 THEN
        RETURN lockstep._name_problem('destination_id', p_destination_id);
    ELSIF btrim(p_topic) = '' OR length(p_topic) > 512 THEN
        RETURN lockstep._name_problem('topic', p_topic);
    ELSIF btrim(p_idempotency_key) = '' OR length(p_idempotency_key) > 512 THEN
        RETURN lockstep._name_problem('idempotency_key', p_idempotency_key);
    ELSIF p_message IS NULL THEN
        RETURN ARRAY[
            'message must not be null', 'It is null.', 'Pass ''null''::jsonb to send a JSON null.'
        ];
    ELSIF lockstep._is_too_large(p_message) THEN
        RETURN lockstep._size_problem('message', p_message);
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._send_problem(text, jsonb, text, text) IS
    'Says what send_message() cannot take: NULL, or message, detail and hint of the error.';

-- sql/30_internal/size_problem.sql

-- Says that a JSON value is too large: message, detail and hint of the error.
CREATE FUNCTION lockstep._size_problem(p_argument text, p_value jsonb)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY[
        format('%s must not be larger than 16 MB', p_argument),
        format('It takes %s as jsonb.', pg_size_pretty(pg_column_size(p_value)::bigint)),
        'Keep large data where it is, in a table or an object store, and pass its key.'
    ];
END
$$;
COMMENT ON FUNCTION lockstep._size_problem(text, jsonb) IS
    'Says that a JSON value is too large: message, detail and hint of the error.';

-- sql/30_internal/state_machine_of.sql

-- Reads which state machine a trigger named lockstep_state_machine follows.
--
-- All are NULL if attach_state_machine() did not write it: whoever owns a table can create a
-- trigger of the name, and must not break the view for everybody. Hence the exception block.
CREATE FUNCTION lockstep._state_machine_of(
    p_function_id oid,
    p_arguments bytea,
    OUT machine_name text,
    OUT state_column text,
    OUT version_column text
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = p_function_id
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
    ) THEN
        RETURN;
    END IF;

    v_settings := convert_from(
        substr(p_arguments, 1, octet_length(p_arguments) - 1), getdatabaseencoding()
    )::jsonb;
    machine_name := v_settings ->> 'machine_name';
    state_column := v_settings ->> 'state_column';
    version_column := v_settings ->> 'version_column';
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._state_machine_of(oid, bytea) IS
    'Reads which state machine a trigger follows; NULL if none.';

-- sql/30_internal/stretches.sql

-- Returns where in the claim index workflows of some queues may stand that nobody has claimed.
--
-- Of each queue the whole, or, where p_low_water has a mark of it, what is more urgent than the
-- mark and what comes from the mark on: claim_workflows() says what a mark is. The planner
-- inlines this.
CREATE FUNCTION lockstep._stretches(p_queues text[], p_low_water jsonb)
RETURNS TABLE (queue_name text, from_priority int, from_time timestamptz, to_priority int)
LANGUAGE sql
STABLE
BEGIN ATOMIC
    WITH mark AS (
        SELECT m.queue_name, m.priority, m.available_at
        FROM jsonb_to_recordset(p_low_water)
            AS m (queue_name text, priority int, available_at timestamptz)
    )

    SELECT
        q.queue_name, 0 AS from_priority, timestamptz '-infinity' AS from_time,
        coalesce(m.priority - 1, 2147483647) AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    LEFT JOIN mark AS m ON q.queue_name = m.queue_name
    WHERE m.priority IS DISTINCT FROM 0
    UNION ALL
    SELECT m.queue_name, m.priority AS from_priority, m.available_at AS from_time, 2147483647 AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    INNER JOIN mark AS m ON q.queue_name = m.queue_name;
END;
COMMENT ON FUNCTION lockstep._stretches(text[], jsonb) IS
    'Returns where in the claim index workflows of some queues may stand that nobody has claimed.';

-- sql/30_internal/turn_of_suspects.sql

-- Tells what a claim of an executor does about workflows that may kill it.
--
-- A worker that dies takes all it runs with it, so its death says little of any one of
-- them. Therefore a suspect (_is_suspect()) runs alone: an executor that holds nothing
-- takes it and nothing else, for the time of a lease, and until its end if the attempt is
-- the last. So what ends in the dead letter died alone, and an innocent workflow is not
-- charged with more than the deaths that made it a suspect.
--
-- turn: 'take', a suspect waits and the executor holds nothing; 'take last', the same, but
-- what is not suspected comes first; 'wait', nothing may be claimed, because the executor
-- runs a suspect (look_again_in: for so many seconds more) or shall run dry for one; 'none'
-- otherwise. Where suspects wait for longer than a lease, half of the executors are there for
-- them: they claim nothing until they have run dry, unless a rate limit keeps the suspects back
-- for longer than a lease, and the others take a suspect only if nothing else waits. Then it is
-- the other half's turn; turns grow with the time that a suspect has waited. So it waits no
-- longer than a few times the longest execution, and the rest of the work goes on, however
-- many suspects there are.
CREATE FUNCTION lockstep._turn_of_suspects(
    p_executor lockstep.executor,
    p_now timestamptz,
    OUT turn text,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_since timestamptz;
    v_leases double precision;
    v_is_turn boolean;
BEGIN
    turn := 'none';

    IF p_executor.suspect_id IS NOT NULL THEN
        IF NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = p_executor.suspect_id
                AND (w.status, w.executor_id) IS NOT DISTINCT FROM ('PENDING', p_executor.executor_id)
        ) THEN
            UPDATE lockstep.executor AS e
            SET suspect_id = NULL, alone_until = NULL
            WHERE e.executor_id = p_executor.executor_id;
        ELSIF p_executor.alone_until > p_now THEN
            turn := 'wait';
            IF isfinite(p_executor.alone_until) THEN
                look_again_in := extract(EPOCH FROM p_executor.alone_until - p_now)::double precision;
            END IF;
            RETURN;
        END IF;
    END IF;

    v_since := (
        SELECT min(head.available_at)
        FROM unnest(p_executor.queues) AS n (queue_name)
        CROSS JOIN LATERAL (
            SELECT w.available_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                AND lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.queue_name = n.queue_name
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            ORDER BY w.priority, w.available_at
            LIMIT 1
        ) AS head
        WHERE NOT EXISTS (
            SELECT
            FROM lockstep.queue AS q
            WHERE q.queue_name = n.queue_name
                AND q.is_paused
        )
    );
    IF v_since IS NULL THEN
        RETURN;
    END IF;

    v_leases := (
        extract(EPOCH FROM p_now - v_since) / extract(EPOCH FROM p_executor.lease_duration)
    )::double precision;
    v_is_turn := CASE
        WHEN v_leases >= 1
            THEN floor(ln(v_leases) / ln(2))::int % 2 = abs(hashtext(p_executor.executor_id) % 2)
    END;

    IF NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = p_executor.executor_id
    ) THEN
        turn := CASE WHEN v_is_turn IS FALSE THEN 'take last' ELSE 'take' END;
    ELSIF v_is_turn AND lockstep._may_start_suspect(p_executor, p_now) THEN
        turn := 'wait';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._turn_of_suspects(lockstep.executor, timestamptz) IS
    'Tells what a claim of an executor does about workflows that may kill it.';

-- sql/30_internal/wait_for_standby.sql

-- Makes the commit wait for a synchronous standby though the transaction writes nothing.
--
-- For who answers that something is there already. It may have been committed just before a crash
-- of the server, which cut off the wait for the standby: then it is visible, and not replicated.
-- Postgres waits only for transactions that wrote WAL, so this writes a message that nobody reads.
CREATE FUNCTION lockstep._wait_for_standby()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'lockstep', '');
END
$$;
COMMENT ON FUNCTION lockstep._wait_for_standby() IS
    'Makes the commit wait for a synchronous standby though the transaction writes nothing.';

-- sql/40_workflow/cancel_workflow.sql

-- Cancels a workflow that has not ended, and its children that have not.
--
-- A running one stops at its next step boundary: the executor's next write for
-- it is refused. Returns true; false if the workflow was cancelled already.
--
-- Locks the workflow row, then those of its descendants; a finish_workflows() that
-- came first wins and the call fails with 55000, so CANCELLED never becomes
-- SUCCESS, nor the reverse.
CREATE OR REPLACE FUNCTION lockstep.cancel_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_status text;
BEGIN
    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = cancel_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(cancel_workflow.workflow_id);
    ELSIF v_status = 'CANCELLED' THEN
        RETURN false;
    ELSIF v_status IN ('SUCCESS', 'ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN
        RAISE EXCEPTION 'workflow "%" is % and cannot become CANCELLED', cancel_workflow.workflow_id, v_status
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Only a workflow that has not ended can be cancelled.';
    END IF;

    PERFORM lockstep._cancel_tree(ARRAY[cancel_workflow.workflow_id]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.cancel_workflow(text) IS
    'Cancels a workflow that has not ended, and its children; false if it was cancelled already.';

-- sql/40_workflow/enqueue_workflow.sql

-- Enqueues a workflow; durable when the caller's transaction commits.
--
-- workflow_id makes the call idempotent: a second call with the same id, name
-- and queue returns the id and changes nothing. deduplication_id allows one
-- unfinished workflow per queue. debounce delays the start until calls with the
-- deduplication_id have paused for so long, and the workflow runs with the
-- arguments of the last one (_debounce_workflows()); on_duplicate is for calls without.
--
-- Takes no lock beside the new row. A rival with the same workflow_id or
-- deduplication_id that has not committed yet is waited for inside the INSERT.
-- The loop runs again only if the rival vanished between the INSERT, which it
-- stopped, and the look at it.
CREATE OR REPLACE FUNCTION lockstep.enqueue_workflow(
    workflow_name text,
    queue_name text,
    positional_args jsonb DEFAULT '[]',
    named_args jsonb DEFAULT '{}',
    workflow_id text DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    on_duplicate text DEFAULT 'raise',
    priority int DEFAULT 0,
    queue_partition_key text DEFAULT NULL,
    delay interval DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    timeout interval DEFAULT NULL,
    deadline timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_available_at timestamptz;
    v_workflow_id text := enqueue_workflow.workflow_id;
    v_inputs jsonb;
    v_problem text[];
    v_is_awaited boolean;
    r_rival record;
BEGIN
    -- what to run, where and with what: most calls say no more, and pay for no more
    IF btrim(enqueue_workflow.workflow_name) <> '' AND length(enqueue_workflow.workflow_name) <= 512
        AND btrim(enqueue_workflow.queue_name) <> '' AND length(enqueue_workflow.queue_name) <= 512
        AND jsonb_typeof(enqueue_workflow.positional_args) = 'array'
        AND jsonb_typeof(enqueue_workflow.named_args) = 'object'
        AND NOT lockstep._is_too_large(enqueue_workflow.positional_args)
        AND NOT lockstep._is_too_large(enqueue_workflow.named_args)
        AND enqueue_workflow.on_duplicate = 'raise'
        AND enqueue_workflow.priority = 0
        AND num_nonnulls(
            enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
            enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ) = 0
    THEN
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, created_at, available_at, inputs, enqueued_by
        )
        VALUES (
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, v_now, v_now,
            jsonb_build_object(
                'positionalArgs', enqueue_workflow.positional_args,
                'namedArgs', enqueue_workflow.named_args
            ),
            lockstep._caller()
        )
        RETURNING workflow_status.workflow_id, EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.is_idle
                AND enqueue_workflow.queue_name = ANY (e.queues)
        )
        INTO v_workflow_id, v_is_awaited;

        -- _ring_doorbell(), without a call and a statement of its own
        IF v_is_awaited THEN
            PERFORM pg_notify('lockstep', '');
        END IF;

        RETURN v_workflow_id;
    END IF;

    v_problem := lockstep._enqueue_problem(
        enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
        enqueue_workflow.positional_args, enqueue_workflow.named_args,
        enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
        enqueue_workflow.on_duplicate, enqueue_workflow.priority,
        enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
        enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
        enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
        enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
    );
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    v_inputs := jsonb_build_object(
        'positionalArgs', enqueue_workflow.positional_args, 'namedArgs', enqueue_workflow.named_args
    );

    IF enqueue_workflow.debounce IS NOT NULL THEN
        RETURN (lockstep._debounce_workflows(
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, ARRAY[v_inputs],
            CASE WHEN v_workflow_id IS NOT NULL THEN ARRAY[v_workflow_id] END,
            ARRAY[enqueue_workflow.deduplication_id], ARRAY[enqueue_workflow.queue_partition_key],
            enqueue_workflow.priority, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ))[1];
    END IF;

    v_available_at := coalesce(
        enqueue_workflow.run_at, v_now + enqueue_workflow.delay, v_now
    );
    IF v_workflow_id IS NULL THEN
        v_workflow_id := lockstep._generate_id(v_now);
    END IF;

    LOOP
        INSERT INTO lockstep.workflow_status (
            workflow_id, workflow_name, queue_name, status, inputs, priority,
            deduplication_id, queue_partition_key, app_version, max_attempts,
            created_at, available_at, deadline_at, timeout, enqueued_by, headers,
            retries
        )
        VALUES (
            v_workflow_id, enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
            CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            v_inputs, enqueue_workflow.priority, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.app_version,
            coalesce(enqueue_workflow.max_attempts, 50), v_now, v_available_at,
            enqueue_workflow.deadline, enqueue_workflow.timeout,
            lockstep._caller(),
            enqueue_workflow.headers, enqueue_workflow.retries
        )
        ON CONFLICT DO NOTHING;

        EXIT WHEN FOUND;

        SELECT w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = v_workflow_id;

        IF FOUND THEN
            IF r_rival.is_visible
                AND r_rival.workflow_name = enqueue_workflow.workflow_name
                AND r_rival.queue_name = enqueue_workflow.queue_name
            THEN
                PERFORM lockstep._wait_for_standby();
                RETURN v_workflow_id;
            END IF;

            RAISE EXCEPTION 'workflow "%" exists already', v_workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Use another workflow_id for another workflow or queue.';
        END IF;

        SELECT w.workflow_id, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = enqueue_workflow.queue_name
            AND w.deduplication_id = enqueue_workflow.deduplication_id
            AND w.completed_at IS NULL;

        IF FOUND THEN
            IF r_rival.is_visible AND enqueue_workflow.on_duplicate = 'return' THEN
                PERFORM lockstep._wait_for_standby();
                RETURN r_rival.workflow_id;
            END IF;

            PERFORM lockstep._refuse_rival(
                enqueue_workflow.queue_name, enqueue_workflow.deduplication_id, r_rival.workflow_id,
                'Pass on_duplicate => ''return'' to get its id instead of this error.'
            );
        END IF;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[enqueue_workflow.queue_name], CASE WHEN v_available_at > v_now THEN 'due' ELSE '' END
    );
    RETURN v_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_workflow(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Enqueues a workflow and returns its id; durable when the transaction commits.';

-- sql/40_workflow/fail_too_large.sql

-- Fails the workflow that an executor would claim next if no answer can hold it.
--
-- A worker calls it when a claim of one workflow failed with 54000: what the steps of the
-- workflow recorded, or its inputs written out (a number of a few bytes may have 131,072 digits),
-- is more than the 1 GB of an answer. As the failed claim is rolled back, every next one would
-- meet it again. It ends in ERROR and has the type TooLarge; what it recorded stays. Takes
-- low_water as the claim did. Returns the ids of what it failed.
--
-- The limit is a quarter of an answer, as making one needs copies of it. The exception block is
-- for what cannot even be measured.
--
-- Lock order: as claim_workflows(), then as _settle_ended().
CREATE FUNCTION lockstep.fail_too_large(executor_id text, low_water jsonb DEFAULT NULL)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_is_alone boolean;
    v_size bigint;
    v_ended text[] := ARRAY[]::text[];
    r_executor lockstep.executor;
    r_workflow lockstep.workflow_status;
BEGIN
    PERFORM lockstep._hold_executor(fail_too_large.executor_id);

    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = fail_too_large.executor_id;

    -- the claim may have been one of a suspect
    FOREACH v_is_alone IN ARRAY '{t,f}'::boolean[]
    LOOP
        SELECT w.*
        INTO r_workflow
        FROM lockstep._ready(r_executor, 1, fail_too_large.low_water, v_is_alone) AS r
        INNER JOIN lockstep.workflow_status AS w ON w.ctid = r.ready[1];

        CONTINUE WHEN NOT FOUND;

        BEGIN
            v_size := (
                octet_length(r_workflow.inputs::text)::bigint
                + coalesce(octet_length(lockstep._recorded_steps(r_workflow.workflow_id)::text), 0)
            );
        EXCEPTION
            WHEN program_limit_exceeded THEN
                v_size := NULL;
        END;
        CONTINUE WHEN v_size < 268435456;

        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ERROR',
            error = lockstep._error_document(
                'TooLarge',
                format(
                    'its inputs and what its steps recorded take %s as text, more than a worker can be given',
                    coalesce(pg_size_pretty(v_size), 'more than 1 GB')
                )
            ),
            failures = w.failures + 1,
            completed_at = clock_timestamp()
        WHERE w.workflow_id = r_workflow.workflow_id;
        v_ended := v_ended || r_workflow.workflow_id;
    END LOOP;

    PERFORM lockstep._settle_ended(v_ended, v_ended);

    RETURN QUERY
    SELECT unnest(v_ended);
END
$$;
COMMENT ON FUNCTION lockstep.fail_too_large(text, jsonb) IS
    'Fails the workflow that an executor would claim next if no answer can hold it.';

-- sql/40_workflow/get_workflow.sql

-- Reads a workflow: all of its row, and how far it says that it has come.
CREATE OR REPLACE FUNCTION lockstep.get_workflow(workflow_id text)
RETURNS TABLE (
    workflow_name text,
    queue_name text,
    status text,
    output jsonb,
    error jsonb,
    attempts int,
    created_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    inputs jsonb,
    priority int,
    deduplication_id text,
    queue_partition_key text,
    app_version text,
    executor_id text,
    max_attempts int,
    failures int,
    available_at timestamptz,
    deadline_at timestamptz,
    waiting_for text[],
    parent_workflow_id text,
    forked_from text,
    enqueued_by text,
    headers jsonb,
    progress jsonb
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workflow_name, w.queue_name, w.status, w.output, w.error, w.attempts,
        w.created_at, w.started_at, w.completed_at, w.inputs, w.priority,
        w.deduplication_id, w.queue_partition_key, w.app_version, w.executor_id,
        w.max_attempts, w.failures, w.available_at, w.deadline_at, w.waiting_for,
        w.parent_workflow_id, w.forked_from, w.enqueued_by, w.headers,
        (
            SELECT v.value
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = get_workflow.workflow_id
                AND v.key = 'lockstep.progress'
        )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = get_workflow.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_workflow.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.get_workflow(text) IS
    'Reads a workflow: its status, how it ended and how far it has come.';

-- sql/40_workflow/promote_due_workflows.sql

-- Makes workflows claimable whose moment has come and cancels overdue ones.
--
-- Workers call it when the next one falls due. Handles up to max_count at a
-- time and returns how many, with the seconds until the next falls due: 0 when
-- there is more to do now, NULL when nothing is scheduled.
--
-- A child has its parent's deadline, or an earlier one, so it is overdue by itself.
-- Lock order: workflow rows, skipping locked ones, and overdue ones that somebody waits
-- for whose row is locked; those are looked at again in a second.
CREATE OR REPLACE FUNCTION lockstep.promote_due_workflows(
    max_count int DEFAULT 1000,
    OUT promoted_count int,
    OUT next_due_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_due tid[];
    v_overdue tid[];
    v_blocked text[];
    v_cancelled text[];
    v_queues text[];
BEGIN
    v_overdue := ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.deadline_at <= v_now
            AND w.completed_at IS NULL
        ORDER BY w.deadline_at
        LIMIT greatest(promote_due_workflows.max_count, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    );

    v_blocked := lockstep._awaited_by_held(
        ARRAY(SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.ctid = ANY (v_overdue))
    );

    WITH cancelled AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'CANCELLED',
            error = lockstep._error_document(
                'DeadlineExceeded', format('the workflow had not ended at its deadline, %s', w.deadline_at)
            ),
            completed_at = v_now,
            waiting_for = NULL
        WHERE w.ctid = ANY (v_overdue)
            AND w.workflow_id <> ALL (v_blocked)
        RETURNING w.workflow_id
    )

    SELECT array_agg(c.workflow_id)
    INTO v_cancelled
    FROM cancelled AS c;

    IF v_cancelled IS NOT NULL THEN
        PERFORM lockstep._settle_ended(v_cancelled, v_cancelled);
    END IF;

    v_due := ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.status IN ('DELAYED', 'WAITING')
            AND w.available_at <= v_now
        ORDER BY w.available_at
        LIMIT greatest(promote_due_workflows.max_count, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    );

    WITH promoted AS (
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL
        WHERE w.ctid = ANY (v_due)
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT p.queue_name)
    INTO v_queues
    FROM promoted AS p;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    promoted_count := cardinality(v_due) + cardinality(v_overdue) - cardinality(v_blocked);

    IF cardinality(v_due) = promote_due_workflows.max_count
        OR (cardinality(v_overdue) = promote_due_workflows.max_count AND v_blocked = '{}')
    THEN
        next_due_in := 0;
        RETURN;
    END IF;

    SELECT (extract(EPOCH FROM least(
        (
            SELECT min(w.available_at)
            FROM lockstep.workflow_status AS w
            WHERE w.status IN ('DELAYED', 'WAITING')
                AND w.available_at > v_now
        ),
        (
            SELECT min(w.deadline_at)
            FROM lockstep.workflow_status AS w
            WHERE w.deadline_at > v_now
                AND w.completed_at IS NULL
        ),
        -- what was skipped above is still due, and its holder may yet roll back
        CASE
            WHEN EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.status IN ('DELAYED', 'WAITING')
                    AND w.available_at <= v_now
            ) OR EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.deadline_at <= v_now
                    AND w.completed_at IS NULL
            ) THEN v_now + interval '1 s'
        END
    ) - v_now))::double precision
    INTO next_due_in;
END
$$;
COMMENT ON FUNCTION lockstep.promote_due_workflows(int) IS
    'Makes workflows claimable whose moment has come and cancels overdue ones.';

-- sql/40_workflow/resume_workflow.sql

-- Enqueues a workflow again that was cancelled, failed or in the dead letter.
--
-- It keeps its recorded steps and goes on after them; steps whose failure
-- ended the workflow run again. Attempts count on from where they were, with
-- room for as many more as before, failures count anew, and a deadline that has
-- passed is lifted. A workflow that has not ended is left alone: returns false. One
-- that was compensated cannot go on from steps that were undone: 55000.
--
-- Locks the workflow row. An attempt of a cancelled workflow that still runs
-- somewhere cannot write any more: the next claim counts one attempt higher.
CREATE OR REPLACE FUNCTION lockstep.resume_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = resume_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(resume_workflow.workflow_id);
    ELSIF r_workflow.status IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING') THEN
        RETURN false;
    ELSIF r_workflow.status = 'SUCCESS' THEN
        RAISE EXCEPTION 'workflow "%" is SUCCESS and cannot become ENQUEUED', resume_workflow.workflow_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'restart_workflow() runs it again from its beginning.';
    END IF;

    v_problem := lockstep._rerun_problem(resume_workflow.workflow_id, true);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    IF r_workflow.status = 'ERROR' THEN
        PERFORM lockstep._forget_failures(ARRAY[resume_workflow.workflow_id]);
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET
        status = 'ENQUEUED',
        executor_id = NULL,
        error = NULL,
        failures = 0,
        completed_at = NULL,
        available_at = v_now,
        max_attempts = least(w.attempts::bigint + w.max_attempts, 2147483647),
        deadline_at = CASE WHEN w.deadline_at > v_now THEN w.deadline_at END
    WHERE w.workflow_id = resume_workflow.workflow_id;

    PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.resume_workflow(text) IS
    'Enqueues a workflow again that was cancelled, failed or in the dead letter.';

-- sql/40_workflow/suspend_workflows.sql

-- Suspends workflows of an executor until what they wait for comes, or a moment.
--
-- suspensions: [{"workflow_id", "attempt", "step_ids": [int, …], "topics":
-- [text, …], "awaits": [{"awaited_id", "key"}, …]}, …]. The workflow waits for the
-- earliest available_at of the named steps (DELAYED), or for a message of the
-- topics, the end of a workflow or an event of it (WAITING). Returns for each how it
-- went: "suspended"; "ready" when something of it is there already, "busy" when an
-- open transaction may be bringing it (both: keep it and try again); "lost".
--
-- The execution is not counted as an attempt, and a suspect that began it alone is forgiven one
-- death: it need not kill. Else a workflow that lives for months would be suspected at each
-- waking, once workers have died under it for other reasons.
--
-- Closes the races with those who wake it. send_message() locks the workflow row FOR
-- KEY SHARE before it inserts, this locks it FOR UPDATE before it looks; who ends an
-- awaited workflow has its row locked, this locks it FOR SHARE; who sets an event
-- has announced it (_announce()). So either what came is visible to the look, or
-- its bringer comes later and finds the row WAITING. What somebody holds is not
-- waited for, as two executors might wait for each other: "busy".
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows, then waiter. The last
-- may be waited for, where somebody takes away the row of an earlier wait: gives up with
-- 55P03 when that takes long, as finish_workflows().
CREATE OR REPLACE FUNCTION lockstep.suspend_workflows(executor_id text, suspensions jsonb)
RETURNS TABLE (workflow_id text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_suspect_id text;
    v_available_at timestamptz;
    v_suspended text[] := ARRAY[]::text[];
    r_suspension record;
BEGIN
    PERFORM lockstep._hold_executor(suspend_workflows.executor_id);

    SELECT e.suspect_id
    INTO v_suspect_id
    FROM lockstep.executor AS e
    WHERE e.executor_id = suspend_workflows.executor_id;

    FOR r_suspension IN
        SELECT
            s.workflow_id, s.attempt, s.step_ids, coalesce(s.topics, '{}') AS topics,
            coalesce(s.awaits, '[]') AS awaits,
            cardinality(s.topics) > 0 OR jsonb_array_length(s.awaits) > 0 AS is_waiting
        FROM jsonb_to_recordset(suspend_workflows.suspensions)
            AS s (workflow_id text, attempt int, step_ids int[], topics text[], awaits jsonb)
    LOOP
        workflow_id := r_suspension.workflow_id;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = r_suspension.workflow_id
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', suspend_workflows.executor_id, r_suspension.attempt)
        FOR UPDATE SKIP LOCKED;

        IF NOT FOUND THEN
            outcome := CASE
                WHEN lockstep._is_held(suspend_workflows.executor_id, r_suspension.workflow_id, r_suspension.attempt)
                    THEN 'busy'
                ELSE 'lost'
            END;
            RETURN NEXT;
            CONTINUE;
        END IF;

        outcome := CASE
            WHEN EXISTS (
                SELECT
                FROM lockstep.notifications AS n
                WHERE n.destination_id = r_suspension.workflow_id
                    AND n.topic = ANY (r_suspension.topics)
                    AND n.consumed_at IS NULL
            ) THEN 'ready'
            WHEN r_suspension.awaits <> '[]'
                THEN lockstep._await(r_suspension.workflow_id, r_suspension.awaits)
        END;
        IF outcome IS NOT NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT min(o.available_at)
        INTO v_available_at
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = r_suspension.workflow_id
            AND o.step_id = ANY (r_suspension.step_ids)
            AND o.completed_at IS NULL;

        UPDATE lockstep.workflow_status AS w
        SET
            status = CASE WHEN r_suspension.is_waiting THEN 'WAITING' ELSE 'DELAYED' END,
            waiting_for = CASE
                WHEN r_suspension.is_waiting THEN ARRAY(
                    SELECT 'message:' || t.topic
                    FROM unnest(r_suspension.topics) AS t (topic)
                    UNION ALL
                    SELECT CASE
                        WHEN a.key IS NULL THEN 'workflow:' || a.awaited_id
                        ELSE format('event:%s of workflow:%s', a.key, a.awaited_id)
                    END
                    FROM jsonb_to_recordset(r_suspension.awaits) AS a (awaited_id text, key text)
                )
            END,
            available_at = CASE
                WHEN r_suspension.is_waiting THEN v_available_at
                ELSE coalesce(v_available_at, clock_timestamp())
            END,
            executor_id = NULL,
            attempts = w.attempts - 1 - (w.workflow_id IS NOT DISTINCT FROM v_suspect_id)::int
        WHERE w.workflow_id = r_suspension.workflow_id;

        v_suspended := v_suspended || r_suspension.workflow_id;
        outcome := 'suspended';
        RETURN NEXT;
    END LOOP;

    PERFORM lockstep._ring_for_free_places(v_suspended);
END
$$;
COMMENT ON FUNCTION lockstep.suspend_workflows(text, jsonb) IS
    'Suspends workflows of an executor until what they wait for comes, or a moment.';

-- sql/42_manage/fork_workflow.sql

-- Enqueues a new workflow that goes on where another one was before a step.
--
-- The source may be in any status and stays as it is. The fork has its name, arguments,
-- priority, partition, headers, retries, timeout and enqueued_by, so that the same tenant sees
-- it, and, unless they are given, its queue and app_version. It begins with the source's finished
-- steps before from_step: those whose place in the main branch, step_id % 65536, is smaller.
-- What was published before the first of the other steps began is copied too: events, of which
-- the last value is known and no earlier one, and streams. Not copied are messages, as what the
-- source received is in its steps; the deduplication id; the parent; and a deadline that has
-- passed or came from a timeout. Steps with an undo step are undone if the fork fails.
--
-- Returns the new id. The same call with the same new_workflow_id returns it again;
-- 23505 if another workflow has it. A source that was compensated cannot be forked after
-- a step that was undone: 55000.
--
-- Locks the source FOR KEY SHARE: it may go on, be claimed or finish meanwhile, but not be
-- restarted or purged.
CREATE OR REPLACE FUNCTION lockstep.fork_workflow(
    workflow_id text,
    from_step int,
    new_workflow_id text DEFAULT NULL,
    app_version text DEFAULT NULL,
    queue_name text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_new_id constant text := coalesce(fork_workflow.new_workflow_id, lockstep._generate_id(v_now));
    v_problem text[];
    v_undo_id text;
    v_first_left_out_at timestamptz;
    r_source record;
    r_rival record;
BEGIN
    IF btrim(v_new_id) = '' OR length(v_new_id) > 512 THEN
        v_problem := lockstep._name_problem('new_workflow_id', v_new_id);
    ELSIF btrim(fork_workflow.app_version) = '' OR length(fork_workflow.app_version) > 512 THEN
        v_problem := lockstep._name_problem('app_version', fork_workflow.app_version);
    ELSIF btrim(fork_workflow.queue_name) = '' OR length(fork_workflow.queue_name) > 512 THEN
        v_problem := lockstep._name_problem('queue_name', fork_workflow.queue_name);
    ELSIF fork_workflow.from_step IS NULL OR fork_workflow.from_step NOT BETWEEN 1 AND 65535 THEN
        v_problem := ARRAY[
            'from_step must be between 1 and 65535',
            format('It is %s.', coalesce(fork_workflow.from_step::text, 'null')),
            'Pass the step_id of the first step that is to run again; list_steps() lists them.'
        ];
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.*
    INTO r_source
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = fork_workflow.workflow_id
    FOR KEY SHARE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(fork_workflow.workflow_id);
    END IF;

    SELECT u.workflow_id
    INTO v_undo_id
    FROM lockstep.workflow_status AS u
    WHERE u.parent_workflow_id = fork_workflow.workflow_id
        AND u.workflow_name = 'lockstep.compensate'
        AND u.created_at >= r_source.started_at
        AND EXISTS (
            SELECT
            FROM lockstep.operation_outputs AS o
            WHERE o.workflow_id = fork_workflow.workflow_id
                AND o.step_name = 'compensate'
                AND o.completed_at IS NOT NULL
                AND o.step_id % 65536 < fork_workflow.from_step
        )
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION 'workflow "%" was compensated and cannot be forked from step %',
            fork_workflow.workflow_id, fork_workflow.from_step
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Workflow "%s" undoes steps before that one.', v_undo_id),
                  HINT = 'Fork it from a step before the first that was undone, such as 1.';
    END IF;

    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, inputs, priority, queue_partition_key,
        app_version, max_attempts, created_at, available_at, deadline_at, timeout,
        forked_from, enqueued_by, headers, retries
    )
    VALUES (
        v_new_id, r_source.workflow_name, coalesce(fork_workflow.queue_name, r_source.queue_name),
        r_source.inputs, r_source.priority, r_source.queue_partition_key,
        coalesce(fork_workflow.app_version, r_source.app_version), r_source.max_attempts,
        v_now, v_now,
        CASE WHEN r_source.timeout IS NULL AND r_source.deadline_at > v_now THEN r_source.deadline_at END,
        r_source.timeout, r_source.workflow_id, r_source.enqueued_by, r_source.headers, r_source.retries
    )
    ON CONFLICT DO NOTHING;

    IF NOT FOUND THEN
        SELECT w.workflow_name, w.forked_from
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = v_new_id;

        IF r_rival.forked_from = r_source.workflow_id THEN
            RETURN v_new_id;
        END IF;

        RAISE EXCEPTION 'workflow "%" exists already', v_new_id
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('It runs "%s" and is no fork of "%s".', r_rival.workflow_name, r_source.workflow_id),
                  HINT = 'Use another new_workflow_id, or leave it out.';
    END IF;

    INSERT INTO lockstep.operation_outputs (
        workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at,
        available_at, child_workflow_id
    )
    SELECT
        v_new_id, o.step_id, o.step_name, o.output, o.error, o.attempts, o.started_at, o.completed_at,
        o.available_at, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = fork_workflow.workflow_id
        AND o.completed_at IS NOT NULL
        AND o.step_id % 65536 < fork_workflow.from_step;

    SELECT coalesce(min(o.started_at), 'infinity')
    INTO v_first_left_out_at
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = fork_workflow.workflow_id
        AND NOT EXISTS (
            SELECT
            FROM lockstep.operation_outputs AS copied
            WHERE copied.workflow_id = v_new_id
                AND copied.step_id = o.step_id
        );

    INSERT INTO lockstep.workflow_events (workflow_id, key, value, updated_at)
    SELECT v_new_id, v.key, v.value, v.updated_at
    FROM lockstep.workflow_events AS v
    WHERE v.workflow_id = fork_workflow.workflow_id
        AND v.updated_at < v_first_left_out_at;

    INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value, is_end, written_at)
    SELECT v_new_id, s.key, s."offset", s.value, s.is_end, s.written_at
    FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = fork_workflow.workflow_id
        AND s.written_at < v_first_left_out_at;

    PERFORM lockstep._ring_doorbell(ARRAY[coalesce(fork_workflow.queue_name, r_source.queue_name)]);
    RETURN v_new_id;
END
$$;
COMMENT ON FUNCTION lockstep.fork_workflow(text, int, text, text, text) IS
    'Enqueues a new workflow that goes on where another one was before a step; returns its id.';

-- sql/42_manage/purge_workflows.sql

-- Deletes up to max_count workflows that ended longer ago than an interval.
--
-- With them go their steps, messages, events, streams and what is left of their waits.
-- Returns how many it deleted; call it until that is fewer than max_count, each time in
-- a transaction of its own, so that no call holds up vacuum or a restart. A child stays
-- while its parent, which may not have read its result yet, has not ended.
--
-- workflow_status_list_idx leads to them: of each status, queue and name the oldest first,
-- by the time they were enqueued, so that of those which ran for longer than the interval
-- more are looked at. Locks workflow rows FOR UPDATE, skipping locked ones, among them those
-- that record_step() in an open transaction holds (FOR KEY SHARE), and then waits for the
-- other writes of the executors that ran them (_await_writes()). So no step is left.
CREATE OR REPLACE FUNCTION lockstep.purge_workflows(older_than interval, max_count int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_ended_before timestamptz;
    v_ids text[] := ARRAY[]::text[];
    r_kind record;
BEGIN
    IF purge_workflows.older_than IS NULL
        OR purge_workflows.older_than NOT BETWEEN interval '0' AND interval '1000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 1000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_workflows.older_than::text, 'null')),
                  HINT = 'Pass how long workflows are kept after they ended, as interval ''30 days''.';
    END IF;
    PERFORM lockstep._checked_filter('{}', purge_workflows.max_count);
    v_ended_before := clock_timestamp() - purge_workflows.older_than;

    FOR r_kind IN
        WITH RECURSIVE kind AS (
            SELECT f.status, f.queue_name, f.workflow_name
            FROM unnest(ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']) AS s (status)
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = s.status
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS f
            UNION ALL
            SELECT n.status, n.queue_name, n.workflow_name
            FROM kind AS k
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = k.status
                    AND (w.queue_name, w.workflow_name) > (k.queue_name, k.workflow_name)
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS n
        )

        SELECT k.status, k.queue_name, k.workflow_name
        FROM kind AS k
    LOOP
        v_ids := v_ids || ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = r_kind.status
                AND w.queue_name = r_kind.queue_name
                AND w.workflow_name = r_kind.workflow_name
                AND w.created_at <= v_ended_before
                AND w.completed_at <= v_ended_before
                AND NOT EXISTS (
                    SELECT
                    FROM lockstep.workflow_status AS p
                    WHERE p.workflow_id = w.parent_workflow_id
                        AND p.completed_at IS NULL
                )
            ORDER BY w.created_at
            LIMIT purge_workflows.max_count - cardinality(v_ids)
            FOR UPDATE OF w SKIP LOCKED
        );
        EXIT WHEN cardinality(v_ids) = purge_workflows.max_count;
    END LOOP;

    PERFORM lockstep._await_writes(v_ids);

    -- a workflow that stopped waiting may have left its entry with what it waited for
    DELETE FROM lockstep.waiter AS e
    USING lockstep.operation_outputs AS o
    WHERE o.workflow_id = ANY (v_ids)
        AND o.child_workflow_id IS NOT NULL
        AND e.awaited_id = ANY (ARRAY[o.child_workflow_id])
        AND NOT e.is_client
        AND e.waiter = o.workflow_id;

    DELETE FROM lockstep.waiter AS e WHERE e.awaited_id = ANY (v_ids);
    DELETE FROM lockstep.operation_outputs AS o WHERE o.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_events AS v WHERE v.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_streams AS s WHERE s.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NULL;
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NOT NULL;
    DELETE FROM lockstep.workflow_status AS w WHERE w.workflow_id = ANY (v_ids);

    RETURN cardinality(v_ids);
END
$$;
COMMENT ON FUNCTION lockstep.purge_workflows(interval, int) IS
    'Deletes workflows that ended longer ago than an interval, with all that they recorded.';

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
        is_idle = coalesce(heartbeat.is_idle, false),
        server_started_at = pg_postmaster_start_time()
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

-- sql/45_executor/reconcile_workflows.sql

-- Hands back what an executor holds and its worker does not run, after a lost connection.
--
-- A claim whose answer never arrived would be stuck else. keep_ids: what the worker runs;
-- connection_number: how many connections it has made. Returns the number handed back; their
-- attempt is not counted.
--
-- A request that was under way on an earlier connection may come late. It knows nothing of what
-- was claimed and recorded since, and its executor and attempt may be those of what runs now. From
-- this commit on it does nothing: neither a reconciliation, nor a call of advance_workflows(), which
-- holds the executor row before it looks at the number.
--
-- Lock order: as release_workflows(). FOR UPDATE comes before the UPDATE: a claim under way holds the
-- row FOR KEY SHARE, may update it as well, and would wait for a weaker lock that waits for it.
CREATE FUNCTION lockstep.reconcile_workflows(
    executor_id text,
    connection_number int,
    keep_ids text[] DEFAULT '{}'
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = reconcile_workflows.executor_id
        AND e.connection_number <= reconcile_workflows.connection_number
    FOR UPDATE;

    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    UPDATE lockstep.executor AS e
    SET connection_number = reconcile_workflows.connection_number
    WHERE e.executor_id = reconcile_workflows.executor_id;

    RETURN lockstep.release_workflows(reconcile_workflows.executor_id, reconcile_workflows.keep_ids);
END
$$;
COMMENT ON FUNCTION lockstep.reconcile_workflows(text, int, text[]) IS
    'Hands back what an executor holds and its worker does not run, after a lost connection.';

-- sql/45_executor/recover_workflows.sql

-- Puts back what dead executors held; any worker may call it at any time.
--
-- Returns how many workflows it put back, with the seconds until the next
-- lease ends, NULL when there is none. A workflow whose executor died under it
-- max_attempts times goes to the dead letter; from the fourth death on it also
-- waits before it runs again, 1 s, 2 s, 4 s and so on up to a minute, so that
-- a workflow which kills its worker cannot spin. An executor from before a failover or a
-- restore is ended at once (_is_alive()), and no death is counted: nothing that it ran did that.
--
-- A lease that ends later than its length from now was given before the clock was set
-- back. It is cut to that length, or a dead executor's would last until the clock is there
-- again. And who was not heard since the server started has the length of its lease from then:
-- after an outage longer than all leases, whoever came back first would declare the others dead.
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
    v_moved_count int;
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

    SELECT sum(lockstep.unregister_executor(m.executor_id))::int
    INTO v_moved_count
    FROM (
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at > '-infinity'
            AND NOT lockstep._is_alive(e)
        FOR UPDATE SKIP LOCKED
    ) AS m;

    v_dead := ARRAY(
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at <= v_now
            AND (
                e.expires_at = '-infinity'
                OR coalesce(e.server_started_at = pg_postmaster_start_time(), true)
                OR v_now - pg_postmaster_start_time() NOT BETWEEN interval '0' AND e.lease_duration
            )
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

    recovered_count := coalesce(recovered_count, 0) + coalesce(v_moved_count, 0);

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
    v_system_id bigint;
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

    IF EXISTS (SELECT FROM lockstep.tenant_isolation)
        AND NOT (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = 'lockstep.workflow_status'::regclass)
    THEN
        PERFORM lockstep._switch_row_security(true);  -- after a restore
    END IF;

    -- a server whose storage is not Postgres' own, such as Aurora, does not tell, or only with
    -- wal_level = logical; its failover loses no commit
    BEGIN
        v_timeline := lockstep._timeline();
    EXCEPTION
        WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
            v_timeline := NULL;
    END;

    BEGIN
        v_system_id := lockstep._system_id();
    EXCEPTION
        WHEN feature_not_supported OR insufficient_privilege THEN
            v_system_id := NULL;
    END;

    INSERT INTO lockstep.executor (
        executor_id, queues, workflow_names, app_version, pins_version, host, pid, client_version,
        lease_duration, expires_at, timeline, table_id, system_id, server_started_at
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
        'lockstep.executor'::regclass,
        v_system_id,
        pg_postmaster_start_time()
    );

    RETURN v_executor_id;
END
$$;
COMMENT ON FUNCTION lockstep.register_executor(text[], text[], interval, text, text, int, text, boolean) IS
    'Registers a worker process and returns its executor id.';

-- sql/45_executor/release_workflows.sql

-- Hands back the workflows of an executor, except those that it keeps.
--
-- A clean stop keeps none, and other workers go on at once; for a lost connection there is
-- reconcile_workflows(). Returns the number handed back; their attempt is not counted.
--
-- Lock order: the executor row (FOR UPDATE: waits for a claim under way on a
-- dead connection, for up to a second), then workflow rows, skipping locked
-- ones: what a client holds stays with the executor.
CREATE OR REPLACE FUNCTION lockstep.release_workflows(executor_id text, keep_ids text[] DEFAULT '{}')
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '1s'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_released_count int;
    v_queues text[];
BEGIN
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = release_workflows.executor_id
    FOR UPDATE;

    WITH held AS MATERIALIZED (
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = release_workflows.executor_id
            AND w.workflow_id <> ALL (release_workflows.keep_ids)
        FOR NO KEY UPDATE SKIP LOCKED
    ),

    released AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ENQUEUED',
            executor_id = NULL,
            attempts = w.attempts - 1,
            available_at = v_now
        FROM held AS h
        WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
        RETURNING w.queue_name
    )

    SELECT count(*)::int, array_agg(DISTINCT r.queue_name)
    INTO v_released_count, v_queues
    FROM released AS r;

    IF v_released_count > 0 THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.release_workflows(text, text[]) IS
    'Hands back the workflows of an executor, except those that it keeps.';

-- sql/50_step/await_workflows.sql

-- Looks for what steps wait for: the end of a workflow, or an event of it.
--
-- awaits: [{"workflow_id", "attempt", "step_id", "step_name", "awaited_id", "key": of
-- the event, or null for the end, "timeout": seconds or null}, …]. Returns for
-- each step one of
--   ended      the workflow's output or error, or the event's value, is recorded as the
--              step's; an error has "workflow_id" and "status" beside "type" and "message";
--   timed_out  it did not come in time, or the workflow ended without the event,
--              recorded as no output and 0 attempts;
--   waiting    not yet; remaining has the seconds left, NULL for no timeout;
--   unknown    there is no such workflow; nothing is recorded;
--   lost       the executor had lost the workflow that waits.
-- The timeout runs from the first call, whatever crashes in between; a call sent
-- twice returns the outcome of the first.
--
-- Lock order: the executor row (FOR KEY SHARE).
CREATE OR REPLACE FUNCTION lockstep.await_workflows(executor_id text, awaits jsonb)
RETURNS TABLE (
    workflow_id text,
    step_id int,
    outcome text,
    output jsonb,
    error jsonb,
    remaining double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    PERFORM lockstep._hold_executor(await_workflows.executor_id);

    RETURN QUERY
    WITH call AS MATERIALIZED (
        SELECT
            a.workflow_id, a.attempt, a.step_id, a.step_name, a.awaited_id, a.timeout,
            w.workflow_id IS NOT NULL AS is_known,
            lockstep._is_held(await_workflows.executor_id, a.workflow_id, a.attempt) AS is_held,
            CASE WHEN a.key IS NULL THEN w.completed_at IS NOT NULL ELSE v.workflow_id IS NOT NULL END AS has_come,
            w.completed_at IS NOT NULL OR a.timeout <= 0 AS is_over,
            CASE WHEN a.key IS NULL THEN w.output ELSE v.value END AS output,
            CASE
                WHEN a.key IS NULL AND w.completed_at IS NOT NULL AND w.status <> 'SUCCESS'
                    THEN jsonb_build_object(
                        'type', coalesce(w.error ->> 'type', ''), 'message', coalesce(w.error ->> 'message', ''),
                        'workflow_id', w.workflow_id, 'status', w.status
                    )
            END AS error
        FROM jsonb_to_recordset(await_workflows.awaits) AS a (
            workflow_id text, attempt int, step_id int, step_name text, awaited_id text, key text,
            timeout double precision
        )
        LEFT JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.awaited_id])
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[a.awaited_id])
            AND v.key = ANY (ARRAY[a.key])
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at,
            available_at, child_workflow_id
        )
        SELECT
            c.workflow_id, c.step_id, c.step_name, CASE WHEN c.error IS NULL THEN c.output END, c.error,
            CASE WHEN c.has_come THEN 1 ELSE 0 END, v_now,
            CASE WHEN c.has_come OR c.is_over THEN v_now END,
            v_now + make_interval(secs => c.timeout), c.awaited_id
        FROM call AS c
        WHERE c.is_held AND c.is_known
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET
            output = excluded.output,
            error = excluded.error,
            attempts = excluded.attempts,
            available_at = coalesce(o.available_at, excluded.available_at),
            completed_at = CASE
                WHEN excluded.completed_at IS NOT NULL OR o.available_at <= v_now THEN v_now
            END
        WHERE o.completed_at IS NULL
            AND (
                excluded.completed_at IS NOT NULL
                OR o.available_at <= v_now
                OR (o.available_at IS NULL AND excluded.available_at IS NOT NULL)
            )
        RETURNING o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
    ),

    -- as it was before the call, where the call changed nothing
    unchanged AS (
        SELECT o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
        FROM call AS c
        INNER JOIN lockstep.operation_outputs AS o
            ON o.workflow_id = ANY (ARRAY[c.workflow_id])
            AND o.step_id = ANY (ARRAY[c.step_id])
        WHERE NOT EXISTS (
            SELECT
            FROM recorded AS r
            WHERE r.workflow_id = o.workflow_id AND r.step_id = o.step_id
        )
    )

    SELECT
        c.workflow_id, c.step_id,
        CASE
            WHEN NOT c.is_held THEN 'lost'
            WHEN s.completed_at IS NOT NULL THEN CASE WHEN s.attempts > 0 THEN 'ended' ELSE 'timed_out' END
            WHEN NOT c.is_known THEN 'unknown'
            ELSE 'waiting'
        END,
        s.output, s.error,
        CASE
            -- greatest() passes over NULL, which is no limit and not none left
            WHEN s.completed_at IS NULL AND s.available_at IS NOT NULL
                THEN greatest(extract(EPOCH FROM s.available_at - v_now), 0)::double precision
        END
    FROM call AS c
    LEFT JOIN (
        SELECT r.* FROM recorded AS r
        UNION ALL
        SELECT u.* FROM unchanged AS u
    ) AS s ON s.workflow_id = c.workflow_id AND s.step_id = c.step_id;
END
$$;
COMMENT ON FUNCTION lockstep.await_workflows(text, jsonb) IS
    'Looks for what steps wait for: the end of a workflow, or an event of it.';

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

-- sql/60_message/get_event.sql

-- Reads the value that a workflow published last under a key; NULL before that.
CREATE OR REPLACE FUNCTION lockstep.get_event(workflow_id text, key text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_value jsonb;
BEGIN
    SELECT v.value
    INTO v_value
    FROM lockstep.workflow_status AS w
    LEFT JOIN lockstep.workflow_events AS v
        ON v.workflow_id = get_event.workflow_id
        AND v.key = get_event.key
    WHERE w.workflow_id = get_event.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_event.workflow_id);
    END IF;

    RETURN v_value;
END
$$;
COMMENT ON FUNCTION lockstep.get_event(text, text) IS
    'Reads the value that a workflow published last under a key.';

-- sql/60_message/read_stream.sql

-- Reads values of a stream in their order, from an offset on.
--
-- Returns up to max_count rows; the row with is_end, without a value, is the last
-- of a stream that was closed. A workflow that ended writes no more, closed or not.
CREATE OR REPLACE FUNCTION lockstep.read_stream(
    workflow_id text,
    key text,
    from_offset bigint DEFAULT 0,
    max_count int DEFAULT 1000
)
RETURNS TABLE (value_offset bigint, value jsonb, is_end boolean, written_at timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    IF read_stream.max_count < 0 THEN
        RAISE EXCEPTION 'max_count must not be negative'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', read_stream.max_count),
                  HINT = 'Pass null to read all of the stream.';
    END IF;

    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = read_stream.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(read_stream.workflow_id);
    END IF;

    RETURN QUERY
    SELECT s."offset", s.value, s.is_end, s.written_at
    FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = read_stream.workflow_id
        AND s.key = read_stream.key
        AND s."offset" >= read_stream.from_offset
    ORDER BY s."offset"
    LIMIT read_stream.max_count;
END
$$;
COMMENT ON FUNCTION lockstep.read_stream(text, text, bigint, int) IS
    'Reads values of a stream in their order, from an offset on.';

-- sql/60_message/send_message.sql

-- Sends a message to a workflow; durable when the caller's transaction commits.
--
-- idempotency_key makes the call idempotent per destination: a second message
-- with the same key is not sent, and the id of the first is returned. A
-- workflow that waits for the topic becomes claimable; one that has ended keeps
-- the message unread, because a sender in a trigger cannot know that it ended.
--
-- Lock order: the workflow row (FOR KEY SHARE), then notifications, then the
-- workflow row again if it waits. The first lock closes the race with
-- suspend_workflows(): that function does not suspend a workflow while a sender
-- holds its row, and a sender that comes later finds it WAITING.
CREATE OR REPLACE FUNCTION lockstep.send_message(
    destination_id text,
    message jsonb,
    topic text DEFAULT NULL,
    idempotency_key text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_message_id text;
    v_topic constant text := coalesce(send_message.topic, '');
    v_problem text[];
    r_workflow record;
BEGIN
    IF send_message.destination_id IS NULL
        OR btrim(send_message.destination_id) = '' OR length(send_message.destination_id) > 512
        OR btrim(send_message.topic) = '' OR length(send_message.topic) > 512
        OR btrim(send_message.idempotency_key) = '' OR length(send_message.idempotency_key) > 512
        OR send_message.message IS NULL
        OR lockstep._is_too_large(send_message.message)
    THEN
        v_problem := lockstep._send_problem(
            send_message.destination_id, send_message.message, send_message.topic,
            send_message.idempotency_key
        );
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.queue_name, w.waiting_for
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = send_message.destination_id
        AND lockstep._may_see(w.enqueued_by)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(send_message.destination_id);
    END IF;

    INSERT INTO lockstep.notifications (destination_id, topic, message, idempotency_key)
    VALUES (send_message.destination_id, v_topic, send_message.message, send_message.idempotency_key)
    ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING message_id INTO v_message_id;

    IF v_message_id IS NULL THEN
        SELECT n.message_id
        INTO v_message_id
        FROM lockstep.notifications AS n
        WHERE n.destination_id = send_message.destination_id
            AND n.idempotency_key = send_message.idempotency_key;
        RETURN v_message_id;
    END IF;

    IF 'message:' || v_topic = ANY (r_workflow.waiting_for) THEN
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL, available_at = clock_timestamp()
        WHERE w.workflow_id = send_message.destination_id
            AND w.status = 'WAITING';

        PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    END IF;

    RETURN v_message_id;
END
$$;
COMMENT ON FUNCTION lockstep.send_message(text, jsonb, text, text) IS
    'Sends a message to a workflow and returns its id; durable when the transaction commits.';

-- sql/60_message/send_messages.sql

-- Sends many messages with one INSERT; returns their ids in order.
--
-- destination_ids and messages have one element per message, idempotency_keys as many or
-- is NULL; topic is that of all. Each message is treated as send_message() treats it; one
-- that it refuses refuses them all. Those for one workflow are received in the order
-- of the arrays.
--
-- Lock order: the workflow rows by id (FOR KEY SHARE), then notifications by destination
-- and key, then the rows of those that wait, by id: two calls for the same workflows do
-- not deadlock. Who holds a row FOR UPDATE, such as a restart, is waited for, and so is
-- another sender of the same key.
CREATE OR REPLACE FUNCTION lockstep.send_messages(
    destination_ids text[],
    messages jsonb[],
    topic text DEFAULT NULL,
    idempotency_keys text[] DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_topic constant text := coalesce(send_messages.topic, '');
    v_counts constant int[] := ARRAY[
        cardinality(send_messages.messages), cardinality(send_messages.idempotency_keys)
    ];
    v_problem text[];
    v_known text[];
    v_waiting text[];
    v_unknown text;
    v_ids text[];
    v_reached text[];
BEGIN
    IF send_messages.destination_ids IS NULL OR send_messages.messages IS NULL
        OR cardinality(send_messages.destination_ids) <> ANY (v_counts)
    THEN
        v_problem := ARRAY[
            'destination_ids and messages must have one element per message, and idempotency_keys if it is given',
            format(
                'destination_ids has %s, messages and idempotency_keys have %s.',
                coalesce(cardinality(send_messages.destination_ids)::text, 'none'),
                array_to_string(v_counts, ', ', 'none')
            ),
            'Repeat the id of a workflow that several messages are for.'
        ];
    ELSE
        SELECT lockstep._send_problem(n.destination_id, n.message, send_messages.topic, n.idempotency_key)
        INTO v_problem
        FROM unnest(send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (destination_id, message, idempotency_key, place)
        WHERE n.destination_id IS NULL OR btrim(n.destination_id) = '' OR length(n.destination_id) > 512
            OR btrim(send_messages.topic) = '' OR length(send_messages.topic) > 512
            OR btrim(n.idempotency_key) = '' OR length(n.idempotency_key) > 512
            OR n.message IS NULL OR lockstep._is_too_large(n.message)
        ORDER BY n.place
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    WITH held AS (
        SELECT w.workflow_id, w.waiting_for
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (send_messages.destination_ids)
            AND lockstep._may_see(w.enqueued_by)
        ORDER BY w.workflow_id
        FOR KEY SHARE
    )

    SELECT
        array_agg(h.workflow_id),
        array_agg(h.workflow_id) FILTER (WHERE 'message:' || v_topic = ANY (h.waiting_for))
    INTO v_known, v_waiting
    FROM held AS h;

    SELECT n.destination_id
    INTO v_unknown
    FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
    WHERE n.destination_id NOT IN (SELECT unnest(v_known))
    ORDER BY n.place
    LIMIT 1;

    IF FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(v_unknown);
    END IF;

    -- created_at is the same for all: they are received in the order of their ids
    v_ids := ARRAY(
        SELECT lockstep._generate_id(v_now + n.place * interval '1 us')
        FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
        ORDER BY n.place
    );

    WITH inserted AS (
        INSERT INTO lockstep.notifications AS m (
            message_id, destination_id, topic, message, idempotency_key, created_at
        )
        SELECT
            n.message_id, n.destination_id, v_topic, n.message, n.idempotency_key, v_now
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, message, idempotency_key, place)
        ORDER BY n.destination_id COLLATE "C", n.idempotency_key COLLATE "C", n.place
        ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING m.destination_id
    )

    SELECT array_agg(i.destination_id)
    INTO v_reached
    FROM inserted AS i;

    IF v_waiting IS NOT NULL THEN
        PERFORM lockstep._wake_workflows(ARRAY(
            SELECT r.workflow_id FROM unnest(v_reached) AS r (workflow_id)
            INTERSECT
            SELECT w.workflow_id FROM unnest(v_waiting) AS w (workflow_id)
        ));
    END IF;

    IF cardinality(v_reached) IS DISTINCT FROM cardinality(v_ids) THEN
        RETURN QUERY
        SELECT coalesce(m.message_id, n.message_id)
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, idempotency_key, place)
        LEFT JOIN lockstep.notifications AS m
            ON m.destination_id = n.destination_id
            AND m.idempotency_key = n.idempotency_key
        ORDER BY n.place;
    ELSE
        RETURN QUERY
        SELECT n.message_id
        FROM unnest(v_ids) AS n (message_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.send_messages(text[], jsonb[], text, text[]) IS
    'Sends many messages at once; returns their ids in order.';

-- sql/65_watch/check_watches.sql

-- Looks for what a client waits for, however many watches there are.
--
-- watches: as for watch_workflows(), where one of a stream may have "from_offset". Returns
-- a row, with the place of the watch in the array from 1, for each that is
--   published  the event is set, and output is its value; or the stream has values from
--              the offset on, for read_stream();
--   ended      nothing more will be published: the workflow has ended with status, and,
--              where the end itself is watched, with output or error; or the stream is
--              closed before the offset;
--   unknown    there is no such workflow, or it is another tenant's;
--   busy       it may be coming at this moment: look again soon (only with tells_busy).
-- Of the others nothing has come, and with tells_busy nothing that comes later is
-- missed by a watch that was committed before this call.
--
-- The reason: who ends a workflow, or publishes, looks for watches. If that look came
-- before the watch was committed, then what it did to the workflow's row, or the lock of
-- _announce(), was there before too, and is found here, unless it is committed or rolled
-- back by now, which the last statement sees. A lock left by one who is gone looks like one
-- of somebody at work, so such rows are locked FOR SHARE for a moment, skipping those that
-- are held: this function never waits. Rows without any are not touched, or a claim,
-- which skips locked rows, would pass over the workflows that are awaited most. Joins
-- and subqueries are written so that they can only look rows up (_is_held()).
CREATE OR REPLACE FUNCTION lockstep.check_watches(watches jsonb, tells_busy boolean DEFAULT false)
RETURNS TABLE (place int, outcome text, status text, output jsonb, error jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_changing text[] := ARRAY[]::text[];
    v_settled text[] := ARRAY[]::text[];
    v_announced int[] := ARRAY[]::int[];
BEGIN
    IF check_watches.tells_busy THEN
        v_changing := ARRAY(
            SELECT w.workflow_id
            FROM jsonb_to_recordset(check_watches.watches) AS a (workflow_id text)
            INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            WHERE w.completed_at IS NULL
                AND w.xmax <> 0
                AND lockstep._may_see(w.enqueued_by)
        );

        IF v_changing <> '{}' THEN
            v_settled := ARRAY(
                SELECT w.workflow_id
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = ANY (v_changing)
                FOR SHARE SKIP LOCKED
            );
        END IF;

        v_announced := ARRAY(
            WITH missing AS MATERIALIZED (
                SELECT
                    a.place, a.workflow_id,
                    coalesce('event:' || a.event_key, 'stream:' || a.stream_key) AS what
                FROM ROWS FROM (
                    jsonb_to_recordset(check_watches.watches)
                        AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
                ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
                WHERE num_nonnulls(a.event_key, a.stream_key) > 0
                    AND (
                        SELECT lockstep._may_see(w.enqueued_by)
                        FROM lockstep.workflow_status AS w
                        WHERE w.workflow_id = a.workflow_id
                    )
                    AND (
                        SELECT true
                        FROM lockstep.workflow_events AS v
                        WHERE v.workflow_id = a.workflow_id
                            AND v.key = a.event_key
                    ) IS NULL
                    AND (
                        SELECT true
                        FROM lockstep.workflow_streams AS s
                        WHERE s.workflow_id = a.workflow_id
                            AND s.key = a.stream_key
                            AND s."offset" >= coalesce(a.from_offset, 0)
                        LIMIT 1
                    ) IS NULL
            )

            SELECT m.place
            FROM missing AS m
            WHERE lockstep._is_announced(m.workflow_id, m.what)
        );
    END IF;

    RETURN QUERY
    WITH seen AS (
        SELECT
            a.place::int AS place, w.workflow_id, w.status, w.completed_at,
            a.event_key IS NULL AND a.stream_key IS NULL AS is_of_end,
            v.workflow_id IS NOT NULL OR (
                SELECT true
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                    AND s."offset" >= coalesce(a.from_offset, 0)
                LIMIT 1
            ) IS NOT NULL AS is_published,
            w.completed_at IS NOT NULL OR coalesce((
                SELECT s.is_end
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                ORDER BY s."offset" DESC
                LIMIT 1
            ), false) AS is_over,
            v.value, w.output, w.error
        FROM ROWS FROM (
            jsonb_to_recordset(check_watches.watches)
                AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
        ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
        LEFT JOIN lockstep.workflow_status AS w
            ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            AND lockstep._may_see(w.enqueued_by)
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[w.workflow_id])
            AND v.key = ANY (ARRAY[a.event_key])
    )

    SELECT
        s.place,
        CASE
            WHEN s.workflow_id IS NULL THEN 'unknown'
            WHEN s.is_published THEN 'published'
            WHEN s.is_over THEN 'ended'
            ELSE 'busy'
        END,
        s.status,
        CASE WHEN s.is_of_end THEN s.output ELSE s.value END,
        CASE WHEN s.is_of_end AND s.completed_at IS NOT NULL THEN s.error END
    FROM seen AS s
    WHERE s.workflow_id IS NULL
        OR s.is_published
        OR s.is_over
        OR s.place = ANY (v_announced)
        OR (s.workflow_id = ANY (v_changing) AND s.workflow_id <> ALL (v_settled));
END
$$;
COMMENT ON FUNCTION lockstep.check_watches(jsonb, boolean) IS
    'Looks for what a client waits for: ends, events and streams of workflows.';

-- sql/65_watch/watch_workflows.sql

-- Enters a client as waiting for workflows: it is notified on its channel.
--
-- watches: [{"workflow_id"} for its end, {"workflow_id", "event_key"} for an event or
-- {"workflow_id", "stream_key"} for values of a stream, …]. When it comes, or the
-- workflow ends, channel is notified once, with the workflow's id, and the watch is
-- gone. given_up lists watches that are not wanted any more. The channel's name must be
-- "lockstep_" and 32 hexadecimal digits, so that nobody can be made to ring elsewhere.
--
-- What came before the call commits is not notified: a client commits, then looks with
-- check_watches(watches, tells_busy => true), which says why none is missed. Waits for
-- nobody: a watch whose removal is under way is left alone, and reported as busy. Joins and
-- subqueries are written so that they can only look rows up, as _is_held() explains.
CREATE OR REPLACE FUNCTION lockstep.watch_workflows(
    channel text,
    watches jsonb,
    given_up jsonb DEFAULT '[]'
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    IF watch_workflows.channel IS NULL OR watch_workflows.channel !~ '^lockstep_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'channel must be "lockstep_" and 32 hexadecimal digits'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', quote_nullable(left(watch_workflows.channel, 64))),
                  HINT = 'Take a random one, such as ''lockstep_'' || replace(gen_random_uuid()::text, ''-'', '''').';
    END IF;

    DELETE FROM lockstep.waiter AS gone
    WHERE gone.ctid = ANY (
        ARRAY(
            SELECT held.ctid
            FROM jsonb_to_recordset(watch_workflows.given_up)
                AS g (workflow_id text, event_key text, stream_key text)
            INNER JOIN lockstep.waiter AS held ON held.awaited_id = ANY (ARRAY[g.workflow_id])
            WHERE (held.awaited_what, held.is_client, held.waiter) IS NOT DISTINCT FROM (
                coalesce('event:' || g.event_key, 'stream:' || g.stream_key, ''), true, watch_workflows.channel
            )
            FOR UPDATE OF held SKIP LOCKED
        )
    );

    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT w.workflow_id, a.what, true, watch_workflows.channel
    FROM (
        SELECT r.workflow_id, coalesce('event:' || r.event_key, 'stream:' || r.stream_key, '') AS what
        FROM jsonb_to_recordset(watch_workflows.watches)
            AS r (workflow_id text, event_key text, stream_key text)
    ) AS a
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
    WHERE w.completed_at IS NULL
        AND lockstep._may_see(w.enqueued_by)
        AND (
            SELECT true
            FROM lockstep.waiter AS known
            WHERE known.awaited_id = a.workflow_id
                AND known.awaited_what = a.what
                AND known.is_client
                AND known.waiter = watch_workflows.channel
        ) IS NULL
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION lockstep.watch_workflows(text, jsonb, jsonb) IS
    'Enters a client as waiting for workflows: it is notified on its channel.';

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
    p_low_water jsonb,
    p_is_alone boolean,
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
    ELSIF p_is_alone
        AND num_nonnulls(p_queue.partition_concurrency, p_queue.partition_rate_limit) > 0
    THEN
        ready := lockstep._ready_suspect_in_partitions(p_queue, p_executor, p_now);
    ELSIF p_queue.partition_concurrency IS NOT NULL OR p_queue.partition_rate_limit IS NOT NULL THEN
        SELECT r.ready, r.look_again_in
        INTO ready, look_again_in
        FROM lockstep._ready_in_partitions(p_queue, p_executor, v_room, p_now) AS r;
    ELSE
        ready := lockstep._ready_in_queues(ARRAY[p_queue.queue_name], p_executor, v_room, p_low_water, p_is_alone);
    END IF;

    IF p_queue.rate_limit IS NOT NULL AND cardinality(ready) > 0 THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, false, ARRAY[''], ARRAY[cardinality(ready)], p_queue.rate_period, p_now
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_limited_queue(
    lockstep.queue, lockstep.executor, int, timestamptz, jsonb, boolean
) IS
    'Locks the workflows of a limited queue that may start now.';

-- sql/70_queue/ready_in_partition.sql

-- Locks the first workflows of one partition, beside those that are taken already.
--
-- p_partition_key NULL: those without a key. They have no index of their own, so only
-- the first thousand that wait in the queue are looked at for them. Suspects are passed over.
--
-- Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_partition(
    p_queue_name text,
    p_partition_key text,
    p_executor lockstep.executor,
    p_max_count int,
    p_taken tid[]
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_candidates tid[];
BEGIN
    IF p_partition_key IS NOT NULL THEN
        RETURN ARRAY(
            SELECT w.ctid
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                -- not "=": this order only the index by partitions has
                AND w.queue_partition_key BETWEEN p_partition_key AND p_partition_key
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.ctid <> ALL (p_taken)
            ORDER BY w.queue_partition_key, w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        );
    END IF;

    v_candidates := ARRAY(
        SELECT h.row_id
        FROM (
            SELECT
                w.ctid AS row_id, w.queue_partition_key, w.workflow_name, w.app_version,
                lockstep._is_suspect(w.attempts, w.max_attempts) AS is_suspect
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                AND w.status = 'ENQUEUED'
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS h
        WHERE h.queue_partition_key IS NULL
            AND h.workflow_name = ANY (p_executor.workflow_names)
            AND (h.app_version IS NULL OR h.app_version = p_executor.app_version)
            AND NOT h.is_suspect
            AND h.row_id <> ALL (p_taken)
        LIMIT p_max_count
    );

    RETURN ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = ANY (v_candidates)
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partition(text, text, lockstep.executor, int, tid[]) IS
    'Locks the first workflows of one partition, beside those that are taken already.';

-- sql/70_queue/ready_in_partitions.sql

-- Locks the workflows of a queue with limits per partition that may start now.
--
-- The partitions take turns: one workflow of each that has work and room, from behind
-- the one that had the last turn on, and, if all have had theirs, two of each, four and
-- so on. So a partition with one workflow waits for one round, however many wait in
-- others. Priority counts within a partition. Workflows without a key are one too.
--
-- Cost: a look into an index for each partition with work that is passed, at most a
-- thousand in vain in a call; the next call goes on behind them.
--
-- The caller holds the queue row. Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- the order of partitions is to be read from their index and nowhere else
SET enable_sort = off
AS $$
DECLARE
    v_start constant text := coalesce(p_queue.partition_cursor, '');
    v_last_depth constant int := p_max_count + 1000;
    v_running jsonb;
    v_keys text[];
    v_rooms int[];
    v_counts int[];
    v_open int[];
    v_still_open int[];
    v_portion int := 1;
    v_room int;
    v_place int;
    v_taken tid[];
BEGIN
    v_running := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );

    -- The first round. The partitions follow each other as in a ring, where '' stands for the
    -- workflows without a key. Where the ring is cut short, a row without a workflow names the
    -- partition behind which the next call goes on.
    WITH RECURSIVE ring AS (
        SELECT v_start AS partition_key, NULL AS previous_key, 0 AS depth, false AS is_second_lap
        UNION ALL
        SELECT n.partition_key, r.partition_key, r.depth + 1, n.is_second_lap
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT
                r.is_second_lap OR (r.partition_key = '' AND r.depth > 0) AS is_second_lap,
                coalesce((
                    SELECT w.queue_partition_key
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = p_queue.queue_name
                        AND w.queue_partition_key > r.partition_key
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.queue_partition_key
                    LIMIT 1
                ), '') AS partition_key
        ) AS n
        WHERE r.depth < v_last_depth
            AND NOT (n.is_second_lap AND (n.partition_key = '' OR n.partition_key > v_start))
    ),

    turn AS (
        SELECT
            r.depth, head.row_id,
            CASE WHEN r.depth = v_last_depth THEN r.previous_key ELSE r.partition_key END AS partition_key,
            CASE WHEN r.depth < v_last_depth THEN room.room - (head.row_id IS NOT NULL)::int END AS room
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT least(
                p_queue.partition_concurrency - coalesce((v_running ->> r.partition_key)::int, 0),
                CASE
                    WHEN p_queue.partition_rate_limit IS NOT NULL
                        THEN (lockstep._rate_room(
                            p_queue.queue_name, true, r.partition_key, p_queue.partition_rate_limit,
                            p_queue.partition_rate_period, p_now
                        )).room
                END
            ) AS room
            OFFSET 0  -- else the planner puts all this wherever the room is mentioned
        ) AS room
        CROSS JOIN LATERAL (
            -- what _ready_in_partition() says, whose call would cost 8 us for each partition
            SELECT one.row_id
            FROM (
                SELECT w.ctid AS row_id
                FROM lockstep.workflow_status AS w
                WHERE room.room > 0
                    AND r.depth < v_last_depth
                    AND w.queue_name = p_queue.queue_name
                    -- not "=": this order only the index by partitions has
                    AND w.queue_partition_key BETWEEN r.partition_key AND r.partition_key
                    AND w.status = 'ENQUEUED'
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                    AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                ORDER BY w.queue_partition_key, w.priority, w.available_at
                LIMIT 1
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS one
            UNION ALL
            SELECT keyless.row_id
            FROM unnest(
                CASE
                    WHEN room.room > 0 AND r.partition_key = '' AND r.depth < v_last_depth
                        THEN lockstep._ready_in_partition(p_queue.queue_name, NULL, p_executor, 1, '{}')
                END
            ) AS keyless (row_id)
            UNION ALL
            SELECT NULL
            WHERE r.depth = v_last_depth
        ) AS head
        WHERE r.depth > 0
        LIMIT p_max_count
    )

    SELECT
        coalesce(array_agg(t.row_id) FILTER (WHERE t.row_id IS NOT NULL), '{}'),
        array_agg(t.partition_key ORDER BY t.depth), array_agg(t.room ORDER BY t.depth),
        array_agg((t.row_id IS NOT NULL)::int ORDER BY t.depth)
    INTO ready, v_keys, v_rooms, v_counts
    FROM turn AS t;

    IF v_keys IS NOT NULL THEN
        UPDATE lockstep.queue AS q
        SET partition_cursor = v_keys[cardinality(v_keys)]
        WHERE q.queue_name = p_queue.queue_name
            AND q.partition_cursor IS DISTINCT FROM v_keys[cardinality(v_keys)];
    END IF;

    v_open := ARRAY(
        SELECT p.place
        FROM unnest(v_keys, v_rooms) WITH ORDINALITY AS p (partition_key, room, place)
        WHERE p.room > 0
        ORDER BY p.place
    );
    WHILE cardinality(ready) < p_max_count AND cardinality(v_open) > 0 LOOP
        v_portion := v_portion * 2;
        v_still_open := ARRAY[]::int[];
        FOREACH v_place IN ARRAY v_open LOOP
            v_room := least(v_portion, v_rooms[v_place], p_max_count - cardinality(ready));
            CONTINUE WHEN v_room <= 0;

            v_taken := lockstep._ready_in_partition(
                p_queue.queue_name, nullif(v_keys[v_place], ''), p_executor, v_room, ready
            );
            ready := ready || v_taken;
            v_counts[v_place] := v_counts[v_place] + cardinality(v_taken);
            v_rooms[v_place] := v_rooms[v_place] - cardinality(v_taken);
            IF cardinality(v_taken) = v_room THEN
                v_still_open := v_still_open || v_place;
            END IF;
        END LOOP;
        v_open := v_still_open;
    END LOOP;

    IF p_queue.partition_rate_limit IS NOT NULL THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, true, v_keys, v_counts, p_queue.partition_rate_period, p_now
        );
    END IF;

    IF cardinality(ready) < p_max_count THEN
        look_again_in := CASE
            WHEN cardinality(v_keys) > 0 AND v_rooms[cardinality(v_keys)] IS NULL  -- cut short
                THEN CASE WHEN ready = '{}' THEN 0.05 ELSE 0.01 END
            ELSE lockstep._next_partition_in(p_queue, p_now)
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partitions(lockstep.queue, lockstep.executor, int, timestamptz) IS
    'Locks the workflows of a queue with limits per partition that may start now.';

-- sql/70_queue/ready_suspect_in_partitions.sql

-- Locks the first suspect of a queue with limits per partition that may start now.
--
-- Partitions do not take turns here: of the suspects the first is first, of those among the
-- first thousand whose partition has room.
--
-- The caller holds the queue row. Locks a workflow row, skipping locked ones.
CREATE FUNCTION lockstep._ready_suspect_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_now timestamptz
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_running constant jsonb := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );
    r_suspect record;
BEGIN
    FOR r_suspect IN
        SELECT w.ctid AS row_id, coalesce(w.queue_partition_key, '') AS partition_key
        FROM lockstep.workflow_status AS w
        WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
            AND lockstep._is_suspect(w.attempts, w.max_attempts)
            AND w.queue_name = p_queue.queue_name
            AND w.workflow_name = ANY (p_executor.workflow_names)
            AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
        ORDER BY w.priority, w.available_at
        LIMIT 1000
    LOOP
        CONTINUE WHEN (v_running ->> r_suspect.partition_key)::int >= p_queue.partition_concurrency;
        CONTINUE WHEN p_queue.partition_rate_limit IS NOT NULL AND (
            lockstep._rate_room(
                p_queue.queue_name, true, r_suspect.partition_key, p_queue.partition_rate_limit,
                p_queue.partition_rate_period, p_now
            )
        ).room = 0;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = r_suspect.row_id
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue.queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;

        IF p_queue.partition_rate_limit IS NOT NULL THEN
            PERFORM lockstep._log_starts(
                p_queue.queue_name, true, ARRAY[r_suspect.partition_key], ARRAY[1],
                p_queue.partition_rate_period, p_now
            );
        END IF;
        RETURN ARRAY[r_suspect.row_id];
    END LOOP;

    RETURN ARRAY[]::tid[];
END
$$;
COMMENT ON FUNCTION lockstep._ready_suspect_in_partitions(lockstep.queue, lockstep.executor, timestamptz) IS
    'Locks the first suspect of a queue with limits per partition that may start now.';

-- sql/72_trigger/enqueue_rows.sql

-- The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.
--
-- The arguments of the trigger are keys and values, so that \d of the table says what
-- happens: what attach_workflow() was given, primary_key where it was given no
-- named_args, and the search_path of the expressions. Expressions see the row as new, and
-- as it was as old; a row that the event does not have is one of nulls.
--
-- SECURITY INVOKER: expressions run with the rights of who writes the rows, as triggers
-- do. Their search_path may hold a schema in which others create functions and operators
-- that fit better than those of Postgres, so what is written here names pg_catalog, and
-- columns are compared as records, by the equality of their types. No type is named: who
-- writes through a view may not know the schema of the table.
--
-- The statement that evaluates them is planned anew each time, because a plan made for few
-- rows would join the transition tables of a large UPDATE with a nested loop.
--
-- Postgres fills both transition tables of an UPDATE row by row, so the n-th old row
-- belongs to the n-th new one. Only a trigger of a partition that suppresses a row
-- which was moved there leaves an old row alone. IS TRUE keeps the planner from turning
-- a condition into a join, so that rows keep their order.
CREATE OR REPLACE FUNCTION lockstep.enqueue_rows()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings constant jsonb := jsonb_object(TG_ARGV);
    v_row constant text := CASE WHEN TG_OP = 'DELETE' THEN 'old' ELSE 'new' END;
    v_absent constant text := CASE WHEN TG_OP = 'DELETE' THEN 'new' ELSE 'old' END;
    v_named_args text := v_settings ->> 'named_args';
    v_workflow_id constant text := v_settings ->> 'workflow_id';
    v_deduplication_id constant text := v_settings ->> 'deduplication_id';
    v_partition_key constant text := v_settings ->> 'queue_partition_key';
    v_condition text := E'(\n' || (v_settings ->> 'condition') || E'\n)';
    v_columns constant text[] := CASE WHEN TG_OP = 'UPDATE' THEN (v_settings ->> 'columns')::text[] END;
    v_uses_absent constant boolean := v_columns IS NOT NULL OR concat_ws(
        ' ', v_named_args, v_workflow_id, v_deduplication_id, v_partition_key, v_condition
    ) ~* format(E'\\m%s\\M', v_absent);
    v_source text := format('%1$s_rows AS %1$s', v_row);
    v_statement text;
    v_new_count bigint;
    v_old_count bigint;
    v_all_named_args jsonb[];
    v_workflow_ids text[];
    v_deduplication_ids text[];
    v_partition_keys text[];
BEGIN
    IF TG_OP = 'UPDATE' AND v_uses_absent THEN
        v_new_count := (SELECT count(*) FROM new_rows);
        v_old_count := (SELECT count(*) FROM old_rows);

        IF v_old_count = 0 THEN
            RETURN NULL;
        ELSIF v_new_count <> v_old_count THEN
            RAISE EXCEPTION 'cannot tell which old row of "%" belongs to which new one', TG_TABLE_NAME
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('The UPDATE has %s old rows and %s new ones.', v_old_count, v_new_count),
                      HINT = 'A trigger of a partition suppressed a row that was moved there. '
                          'Let it raise instead, or attach the workflow without columns and without old.';
        END IF;

        -- pairing by place costs 100 us of planning, which a statement of one row can do without;
        -- of a subquery a whole row has no dropped columns
        v_source := CASE WHEN v_new_count = 1 THEN 'new_rows AS new CROSS JOIN old_rows AS old' ELSE '(
                SELECT n.new_row, o.old_row
                FROM (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS new_row
                    FROM (SELECT * FROM new_rows) AS r
                ) AS n
                INNER JOIN (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS old_row
                    FROM (SELECT * FROM old_rows) AS r
                ) AS o ON o.place OPERATOR(pg_catalog.=) n.place
                ORDER BY n.place
            ) AS pair
            CROSS JOIN LATERAL (SELECT (pair.new_row).*) AS new
            CROSS JOIN LATERAL (SELECT (pair.old_row).*) AS old'
        END;
    ELSIF v_uses_absent THEN
        v_source := format('%1$s LEFT JOIN %2$s_rows AS %3$s ON false', v_source, v_row, v_absent);
    END IF;

    IF v_columns IS NOT NULL THEN
        SELECT concat_ws(
            ' AND ', format(
                'ROW(%s)::record OPERATOR(pg_catalog.<>) ROW(%s)::record',
                string_agg(format('new.%I', c.name), ', '), string_agg(format('old.%I', c.name), ', ')
            ),
            v_condition
        )
        INTO v_condition
        FROM unnest(v_columns) AS c (name);
    END IF;

    IF v_named_args IS NULL THEN
        SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I', c.name, v_row, c.name), ', '))
        INTO v_named_args
        FROM unnest((v_settings ->> 'primary_key')::text[]) AS c (name);
    END IF;

    -- an expression may end with a comment; the first line is for who reads an error;
    -- enqueue_workflows() would take a null for no arguments
    v_statement := format(
        E'-- workflow %s\nSELECT %s, %s, %s, %s\nFROM %s%s',
        v_settings -> 'workflow_name',
        E'pg_catalog.array_agg(coalesce((\n' || v_named_args || E'\n)::pg_catalog.jsonb, ''null''))',
        coalesce(E'pg_catalog.array_agg((\n' || v_workflow_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_deduplication_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_partition_key || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        v_source, E'\nWHERE (' || v_condition || ') IS TRUE'
    );
    PERFORM set_config('search_path', v_settings ->> 'search_path', true);
    EXECUTE v_statement INTO v_all_named_args, v_workflow_ids, v_deduplication_ids, v_partition_keys;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_all_named_args IS NOT NULL THEN
        PERFORM lockstep.enqueue_workflows(
            v_settings ->> 'workflow_name', v_settings ->> 'queue_name', v_all_named_args,
            workflow_ids => v_workflow_ids, deduplication_ids => v_deduplication_ids,
            on_duplicate => coalesce(v_settings ->> 'on_duplicate', 'return'),
            priority => coalesce((v_settings ->> 'priority')::int, 0),
            queue_partition_keys => v_partition_keys,
            debounce => (v_settings ->> 'debounce')::interval,
            debounce_max_delay => (v_settings ->> 'debounce_max_delay')::interval
        );
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_rows() IS
    'The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.';

-- sql/72_trigger/place_triggers.sql

-- Gives a table, its partitions and children the triggers of an attachment, and no others.
--
-- A statement trigger fires for the table that the statement names, and its transition
-- tables hold the rows of partitions and children too: with one on each of these tables
-- every row meets exactly one. p_arguments are those of enqueue_rows(), the first two are
-- 'workflow_name' and the name. A trigger that has them already stays as it is, another
-- one of the workflow is replaced, or dropped if its event is not wanted; changed_count
-- counts those two. trigger_names are those of the given table.
--
-- Locks: an advisory lock of the table, so that of two calls the second sees what the
-- first created; SHARE ROW EXCLUSIVE on each table that lacks a trigger, the given one
-- first, then by oid; ACCESS EXCLUSIVE where one is dropped.
CREATE OR REPLACE FUNCTION lockstep._place_triggers(
    p_table regclass,
    p_events text[],
    p_arguments text[],
    OUT trigger_names text[],
    OUT changed_count int
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- as CREATE TRIGGER takes them, and as pg_trigger keeps them
    v_arguments text;
    v_tgargs bytea;
    v_workflow_tgargs bytea;
    v_name text;
    v_statement text;
    r_trigger record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('attachments of ' || p_table::oid, 0));

    SELECT
        string_agg(quote_literal(a.text), ', ' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place) FILTER (WHERE a.place <= 2)
    INTO v_arguments, v_tgargs, v_workflow_tgargs
    FROM unnest(p_arguments) WITH ORDINALITY AS a (text, place);

    trigger_names := '{}';
    changed_count := 0;

    FOR r_trigger IN
        WITH RECURSIVE family AS (
            SELECT p_table::oid AS oid
            UNION
            SELECT i.inhrelid
            FROM family AS f
            INNER JOIN pg_inherits AS i ON i.inhparent = f.oid
        )

        SELECT
            c.oid, c.relkind, n.nspname, c.relname,
            e.event, e.transition_tables, t.tgname::text, t.tgargs
        FROM family AS f
        INNER JOIN pg_class AS c ON c.oid = f.oid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN (
            VALUES
                (1, 'INSERT', 4, 'NEW TABLE AS new_rows'),
                (2, 'UPDATE', 16, 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                (3, 'DELETE', 8, 'OLD TABLE AS old_rows')
        ) AS e (place, event, tgtype, transition_tables)
        LEFT JOIN pg_trigger AS t
            ON t.tgrelid = c.oid
            AND t.tgfoid = 'lockstep.enqueue_rows()'::regprocedure
            AND t.tgtype & e.tgtype <> 0
            AND substr(t.tgargs, 1, length(v_workflow_tgargs)) = v_workflow_tgargs
        WHERE e.event = ANY (p_events)
            OR t.oid IS NOT NULL
        ORDER BY c.oid <> p_table, c.oid, e.place
    LOOP
        v_name := coalesce(r_trigger.tgname, 'lockstep_' || lower(r_trigger.event) || '_' || p_arguments[2]);
        IF octet_length(v_name) > 63 THEN
            v_name := left(v_name, 16) || left(md5(p_arguments[2]), 8) || '_' || p_arguments[2];
            v_name := v_name::name::text;
        END IF;

        IF r_trigger.event <> ALL (p_events) THEN
            EXECUTE format('DROP TRIGGER %I ON %I.%I', v_name, r_trigger.nspname, r_trigger.relname);
        ELSIF r_trigger.relkind = 'f' THEN
            RAISE EXCEPTION 'table_name must be a table without foreign tables as partitions or children'
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('"%s" is a foreign table, whose rows Postgres does not collect.', r_trigger.relname),
                      HINT = 'Attach the workflow to the other partitions, one by one.';
        ELSIF r_trigger.tgargs IS DISTINCT FROM v_tgargs THEN
            v_statement := format(
                'CREATE %s TRIGGER %I AFTER %s ON %I.%I REFERENCING %s FOR EACH STATEMENT '
                'EXECUTE FUNCTION lockstep.enqueue_rows(%s)',
                CASE WHEN r_trigger.tgname IS NOT NULL THEN 'OR REPLACE' END, v_name, r_trigger.event,
                r_trigger.nspname, r_trigger.relname, r_trigger.transition_tables, v_arguments
            );
            EXECUTE v_statement;
        END IF;

        IF r_trigger.event = ANY (p_events) AND r_trigger.oid = p_table THEN
            trigger_names := trigger_names || v_name;
        END IF;
        IF r_trigger.tgname IS NOT NULL
            AND (r_trigger.event <> ALL (p_events) OR r_trigger.tgargs <> v_tgargs)
        THEN
            changed_count := changed_count + 1;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._place_triggers(regclass, text[], text[]) IS
    'Gives a table, its partitions and children the triggers of an attachment, and no others.';

-- sql/74_schedule/cron_problem.sql

-- Finds what is wrong with a cron expression: NULL, or message, detail and hint.
--
-- Takes what the library takes that computes the ticks, and nothing else. That leaves
-- out dates that no month has, as the 30th of February, where only the day of the
-- month decides; what else never comes is only found when a worker looks for it.
CREATE OR REPLACE FUNCTION lockstep._cron_problem(p_cron text)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_cron constant text := btrim(upper(p_cron COLLATE "C"), E' \t');
    v_names constant text[] := ARRAY[
        'second', 'minute', 'hour', 'day of month', 'month', 'day of week'
    ];
    v_field_count constant int := cardinality(regexp_split_to_array(v_cron, E'[ \t]+'));
    v_detail text;
    v_first_day numeric;
BEGIN
    IF v_cron IN ('@YEARLY', '@ANNUALLY', '@MONTHLY', '@WEEKLY', '@DAILY', '@MIDNIGHT', '@HOURLY') THEN
        RETURN NULL;
    ELSIF p_cron IS NULL THEN
        v_detail := 'It is null.';
    ELSIF length(p_cron) > 512 THEN
        v_detail := format('It has %s characters, more than 512.', length(p_cron));
    ELSIF v_field_count NOT IN (5, 6) THEN
        v_detail := format('It has %s fields.', CASE WHEN v_cron = '' THEN 0 ELSE v_field_count END);
    ELSE
        SELECT format('The field for the %s has "%s".', v_names[t.field + 1], left(t.term, 40))
        INTO v_detail
        FROM lockstep._cron_terms(p_cron) AS t
        WHERE NOT t.is_good
        ORDER BY t.field
        LIMIT 1;

        -- a day of the week that begins with a star leaves the days to the day of the month
        IF v_detail IS NULL AND v_cron ~ E'[ \t][*][^ \t]*$' THEN
            SELECT min(coalesce(t.low, 1))
            INTO v_first_day
            FROM lockstep._cron_terms(p_cron) AS t
            WHERE t.field = 3;

            IF v_first_day > 29 THEN
                SELECT format('None of its months has %s days.', v_first_day)
                INTO v_detail
                FROM lockstep._cron_terms(p_cron) AS t
                CROSS JOIN LATERAL generate_series(t.low, t.high, coalesce(t.step, 1)) AS m (month)
                WHERE t.field = 4
                HAVING max(CASE WHEN m.month = 2 THEN 29 WHEN m.month IN (4, 6, 9, 11) THEN 30 ELSE 31 END)
                    < v_first_day;
            END IF;
        END IF;
    END IF;

    RETURN CASE
        WHEN v_detail IS NOT NULL THEN ARRAY[
            format('cron expression %s is not valid', coalesce('"' || left(p_cron, 100) || '"', 'null')),
            v_detail,
            'Write five fields (minute, hour, day of month, month, day of week), six with the seconds'
            || ' first, or @hourly, @daily, @weekly, @monthly or @yearly.'
        ]
    END;
END
$$;
COMMENT ON FUNCTION lockstep._cron_problem(text) IS
    'Finds what is wrong with a cron expression: NULL, or message, detail and hint.';

-- sql/74_schedule/cron_terms.sql

-- Takes a cron expression apart into the terms of its fields.
--
-- Field 0 holds the seconds; an expression of five fields begins with field 1. is_good
-- tells whether the library that computes the ticks takes the term: a test compares
-- the two. low, high and step are the range that the term names, in numbers; a term for
-- last or nth days has none. No moment is computed here.
CREATE OR REPLACE FUNCTION lockstep._cron_terms(p_cron text)
RETURNS TABLE (field int, term text, low numeric, high numeric, step numeric, is_good boolean)
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_texts constant text[] := regexp_split_to_array(btrim(upper(p_cron COLLATE "C"), E' \t'), '[ \t]+');
    v_first constant int := (cardinality(v_texts) <> 6)::int;
    v_lowest constant int[] := ARRAY[0, 0, 0, 1, 1, 0];
    v_highest constant int[] := ARRAY[59, 59, 23, 31, 12, 7];
    v_months constant text[] := ARRAY[
        'JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'
    ];
    v_days constant text[] := ARRAY['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
BEGIN
    RETURN QUERY
    WITH terms AS (
        SELECT
            (f.place - 1)::int + v_first AS field,
            t.term,
            -- star, last day, from, to, step
            regexp_match(t.term, '^(?:([*])|(LW?)|([0-9]+|[A-Z]{3})(?:-([0-9]+|[A-Z]{3}))?)(?:/([0-9]+))?$') AS parts
        FROM unnest(v_texts) WITH ORDINALITY AS f (text, place)
        CROSS JOIN LATERAL regexp_split_to_table(f.text, ',') AS t (term)
    ),

    numbered AS (
        SELECT
            t.*,
            CASE
                WHEN t.parts[3] ~ '^[0-9]' THEN t.parts[3]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[3])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[3]) - 1
            END AS first,
            CASE
                WHEN t.parts[4] ~ '^[0-9]' THEN t.parts[4]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[4])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[4]) - 1
            END AS last,
            t.parts[5]::numeric AS step
        FROM terms AS t
    )

    SELECT
        n.field,
        n.term,
        CASE WHEN n.parts[1] IS NULL THEN n.first ELSE v_lowest[n.field + 1] END,
        CASE
            WHEN n.parts[1] IS NOT NULL THEN v_highest[n.field + 1]
            -- the library steps from a single number to the end of the field
            WHEN n.step IS NOT NULL AND (n.parts[4] IS NULL OR n.last = n.first) THEN v_highest[n.field + 1]
            WHEN n.parts[4] IS NULL THEN n.first
            ELSE n.last
        END,
        n.step,
        CASE
            WHEN n.field = 5 AND n.term ~ '^(0*[0-7]L|(0*[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)#0*[1-5])$' THEN true
            WHEN n.parts IS NULL OR n.step = 0 THEN false
            WHEN n.parts[1] IS NOT NULL THEN true
            WHEN n.parts[2] IS NOT NULL THEN n.field = 3
            ELSE coalesce(n.first BETWEEN v_lowest[n.field + 1] AND v_highest[n.field + 1], false)
                AND (n.parts[4] IS NULL OR coalesce(n.last BETWEEN n.first AND v_highest[n.field + 1], false))
        END
    FROM numbered AS n;
END
$$;
COMMENT ON FUNCTION lockstep._cron_terms(text) IS
    'Takes a cron expression apart into the terms of its fields.';

-- sql/74_schedule/due_schedules.sql

-- Lists schedules that want a worker now: a tick fell due, or the next is to be computed.
--
-- asked_at is the time of the database, by which alone the worker goes. Nothing is locked
-- while it computes, so a worker that stops here stops nobody: others find the same
-- schedules, and start_ticks() takes what the first of them sends.
--
-- New schedules come first, then the latest tick: or ticks on time would wait, and be
-- missed themselves, while many schedules make up for those that they missed.
CREATE OR REPLACE FUNCTION lockstep.due_schedules(max_count int DEFAULT 100)
RETURNS TABLE (
    schedule_name text,
    revision bigint,
    cron text,
    time_zone text,
    on_missed text,
    handled_until timestamptz,
    asked_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    SELECT s.schedule_name, s.revision, s.cron, s.time_zone, s.on_missed, s.handled_until, v_now
    FROM lockstep.schedule AS s
    WHERE NOT s.is_paused
        AND s.next_tick_at <= v_now
    ORDER BY s.next_tick_at = '-infinity' DESC, s.next_tick_at DESC
    LIMIT greatest(due_schedules.max_count, 0);
END
$$;
COMMENT ON FUNCTION lockstep.due_schedules(int) IS
    'Lists schedules that want a worker now, with what it needs to compute their ticks.';

-- sql/74_schedule/pg_cron_refusal.sql

-- Says why pg_cron cannot start a schedule's ticks; NULL if it can.
--
-- Called as the owner of Lockstep, whose job it would be. pg_cron is looked for anew each
-- time: it may be installed or dropped while schedules exist. It is given what its
-- parser and the library that computes the ticks read alike, and no more.
CREATE OR REPLACE FUNCTION lockstep._pg_cron_refusal(p_cron text, p_time_zone text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_may_use constant boolean := lockstep._may_use_pg_cron();
    v_utc constant text[] := ARRAY['UTC', 'GMT', 'UCT', 'Zulu', 'Etc/UTC', 'Etc/GMT', 'Etc/UCT', 'Etc/Zulu'];
    v_its_zone constant text := coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT');
    v_term text;
BEGIN
    IF v_may_use IS NULL THEN
        RETURN 'The extension pg_cron, 1.4 or newer, is not in this database.';
    ELSIF NOT v_may_use THEN
        RETURN format('Role "%s", which owns Lockstep, may not use pg_cron.', current_user);
    ELSIF p_time_zone <> v_its_zone
        AND NOT (p_time_zone = ANY (v_utc) AND v_its_zone = ANY (v_utc))
    THEN
        RETURN format('pg_cron runs in time zone %s, the schedule in %s.', v_its_zone, p_time_zone);
    ELSIF btrim(p_cron, E' \t') LIKE '@%' THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM lockstep._cron_terms(p_cron) AS t WHERE t.field = 0) THEN
        RETURN 'The expression has seconds, which pg_cron does not know.';
    END IF;

    SELECT t.term
    INTO v_term
    FROM lockstep._cron_terms(p_cron) AS t
    WHERE t.term !~ '^([*](/[0-9]{1,2})?|([0-9]{1,2}|[A-Z]{3})(-([0-9]{1,2}|[A-Z]{3}))?|[0-9]{1,2}-[0-9]{1,2}/[0-9]{1,2})$'
        -- "50-50/5" is 50 for pg_cron, 50 and 55 for the library
        OR t.term ~ E'^0*([0-9]*)-0*\\1/'
    LIMIT 1;

    RETURN 'The expression has "' || v_term || '", which pg_cron does not know.';
END
$$;
COMMENT ON FUNCTION lockstep._pg_cron_refusal(text, text) IS
    'Says why pg_cron cannot start a schedule''s ticks; NULL if it can.';

-- sql/75_worker/advance_workflows.sql

-- Advances an executor's workflows: records, sends, suspends, finishes and
-- claims in one call and one commit.
--
-- changes: an object with any of "steps", "timers", "events", "streams", "progress",
-- "children", "messages", "receives", "awaits", "outcomes" and "suspensions", each as
-- the function of that part describes it; claim_count: how many new workflows to
-- claim; low_water: where to begin to look for them, for claim_workflows(); [] for the
-- head, where the answer shall tell the places of what was claimed. Returns an object
-- with "lost" (workflow ids), "now", the database's time in seconds since 1970, and,
-- if any, "timers", "streams", "children", "messages", "receives", "awaits" and
-- "suspensions" as those functions return them, and "claimed", with "claim_seconds",
-- what the claim took, and "claim_again_in", the seconds after which another may bring
-- more, if a rate limit or another claim kept this one back. "connection_number" in changes is
-- that of reconcile_workflows(): what was sent on an earlier connection than the worker's last, and
-- comes late, is refused, as the worker has sent it again since. What users wrote (inputs,
-- headers, outputs, errors, messages) comes as JSON texts inside the JSON, as
-- _recorded_steps() explains.
--
-- One call for everything that many workflows wait for, because the commit is
-- the cost and not the row. Lock order: that of the parts, in the order below, where
-- suspensions come after outcomes: they lock what others want to finish and wait for
-- nothing, so that executors whose workflows wait for each other's do not deadlock.
CREATE OR REPLACE FUNCTION lockstep.advance_workflows(
    executor_id text,
    changes jsonb DEFAULT '{}',
    claim_count int DEFAULT 0,
    low_water jsonb DEFAULT NULL
)
RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- for all of its parts: a plan made when the tables were empty must not scan full ones
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_lost text[] := ARRAY[]::text[];
    v_timers json;
    v_messages json;
    v_streams json;
    v_children json;
    v_receives json;
    v_awaits json;
    v_suspensions json;
    v_claimed json;
    v_claim_again_in double precision;
    v_claim_began timestamptz;
    v_claim_seconds double precision;
BEGIN
    PERFORM lockstep._hold_executor(advance_workflows.executor_id);

    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = advance_workflows.executor_id
        AND e.connection_number > (advance_workflows.changes ->> 'connection_number')::int;

    IF FOUND THEN
        RAISE EXCEPTION 'executor "%" has made another connection since', advance_workflows.executor_id
            USING ERRCODE = 'serialization_failure',
                  DETAIL = 'What it wants was sent again there.',
                  HINT = 'Nothing is to be done.';
    END IF;

    IF advance_workflows.changes ? 'steps' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.record_steps(advance_workflows.executor_id, advance_workflows.changes -> 'steps')
        );
    END IF;

    IF advance_workflows.changes ? 'timers' THEN
        SELECT json_agg(t)
        INTO v_timers
        FROM lockstep.start_timers(advance_workflows.executor_id, advance_workflows.changes -> 'timers') AS t;
    END IF;

    IF advance_workflows.changes ? 'events' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.set_events(advance_workflows.executor_id, advance_workflows.changes -> 'events')
        );
    END IF;

    IF advance_workflows.changes ? 'streams' THEN
        SELECT json_agg(w)
        INTO v_streams
        FROM lockstep.write_streams(advance_workflows.executor_id, advance_workflows.changes -> 'streams') AS w;
    END IF;

    IF advance_workflows.changes ? 'progress' THEN
        PERFORM lockstep.set_progress(advance_workflows.executor_id, advance_workflows.changes -> 'progress');
    END IF;

    IF advance_workflows.changes ? 'children' THEN
        SELECT json_agg(c)
        INTO v_children
        FROM lockstep.start_children(advance_workflows.executor_id, advance_workflows.changes -> 'children') AS c;
    END IF;

    IF advance_workflows.changes ? 'messages' THEN
        SELECT json_agg(m)
        INTO v_messages
        FROM lockstep.send_step_messages(advance_workflows.executor_id, advance_workflows.changes -> 'messages') AS m;
    END IF;

    IF advance_workflows.changes ? 'receives' THEN
        SELECT json_agg(
            json_build_object(
                'workflow_id', r.workflow_id, 'step_id', r.step_id, 'outcome', r.outcome,
                'message', r.message::text, 'remaining', r.remaining
            )
        )
        INTO v_receives
        FROM lockstep.receive_messages(advance_workflows.executor_id, advance_workflows.changes -> 'receives') AS r;
    END IF;

    IF advance_workflows.changes ? 'awaits' THEN
        SELECT json_agg(
            json_build_object(
                'workflow_id', a.workflow_id, 'step_id', a.step_id, 'outcome', a.outcome,
                'output', a.output::text, 'error', a.error::text, 'remaining', a.remaining
            )
        )
        INTO v_awaits
        FROM lockstep.await_workflows(advance_workflows.executor_id, advance_workflows.changes -> 'awaits') AS a;
    END IF;

    IF advance_workflows.changes ? 'outcomes' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.finish_workflows(advance_workflows.executor_id, advance_workflows.changes -> 'outcomes')
        );
    END IF;

    IF advance_workflows.changes ? 'suspensions' THEN
        SELECT json_agg(s)
        INTO v_suspensions
        FROM lockstep.suspend_workflows(
            advance_workflows.executor_id, advance_workflows.changes -> 'suspensions'
        ) AS s;
    END IF;

    IF advance_workflows.claim_count > 0 THEN
        v_claim_began := clock_timestamp();
        SELECT c.claimed, c.look_again_in
        INTO v_claimed, v_claim_again_in
        FROM lockstep._claim(
            advance_workflows.executor_id, advance_workflows.claim_count, advance_workflows.low_water,
            advance_workflows.low_water IS NOT NULL
        ) AS c;
        v_claim_seconds := extract(EPOCH FROM clock_timestamp() - v_claim_began)::double precision;
    END IF;

    RETURN json_build_object(
        'lost', v_lost, 'now', extract(EPOCH FROM clock_timestamp()), 'timers', v_timers,
        'streams', v_streams, 'children', v_children, 'messages', v_messages, 'receives', v_receives,
        'awaits', v_awaits, 'suspensions', v_suspensions,
        'claimed', v_claimed, 'claim_seconds', v_claim_seconds, 'claim_again_in', v_claim_again_in
    );
END
$$;
COMMENT ON FUNCTION lockstep.advance_workflows(text, jsonb, int, jsonb) IS
    'Records, sends, suspends, finishes and claims for an executor in one commit.';

-- sql/76_state_machine/fire_event.sql

-- Lets an event happen to a row: moves it as its state machine says, and returns the new state.
--
-- Refused with 23514 if the event does not leave the state of the row, with P0002 if the
-- machine does not know it or the row is gone, with 55000 if the table has no machine.
--
-- Called as SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE …: the type of the
-- row names the table, its primary key the row. The row is locked (FOR NO KEY UPDATE) and
-- read again, so of two calls at once the second sees what the first one did.
--
-- Everything here runs with the rights of the caller, and what the row's table calls, its
-- triggers and policies, with the caller's search_path, as in an UPDATE: the default of the
-- parameter is evaluated by the caller.
CREATE OR REPLACE FUNCTION lockstep.fire_event(
    record anyelement,
    event text,
    search_path text DEFAULT pg_catalog.current_setting('search_path')
)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- names are quoted, or regclass: @plpgsql_check_options: security_warnings = off
DECLARE
    v_table constant regclass := (
        SELECT t.typrelid::regclass
        FROM pg_type AS t
        WHERE t.oid = pg_typeof(fire_event.record)
            AND t.typrelid <> 0
    );
    v_earlier_event constant text := coalesce(current_setting('lockstep.event', true), '');
    v_is_row text;
    v_key text;
    v_state text;
    v_quoted_state text;
    v_version int;
    v_to_state text;
    v_is_there boolean;
    v_problem text[];
    r_machine record;
BEGIN
    SELECT m.machine_name, m.state_column, m.version_column, format_type(a.atttypid, -1) AS state_type
    INTO r_machine
    FROM pg_trigger AS t
    CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS m
    INNER JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attname = m.state_column
    WHERE t.tgrelid = v_table
        AND t.tgname = 'lockstep_state_machine';
    IF NOT FOUND THEN
        RAISE EXCEPTION '% follows no state machine', coalesce(v_table::text, pg_typeof(fire_event.record)::text)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Pass a row of a table with one: SELECT lockstep.fire_event(o, ''pay'') FROM orders AS o.';
    END IF;

    -- with the operators of the key's index, which may be those of an extension
    SELECT
        string_agg(format('t.%1$I OPERATOR(%2$I.%3$s) ($1).%1$I', a.attname, n.nspname, o.oprname), ' AND '),
        string_agg(format('%1$L, ($1).%1$I', a.attname), ', ' ORDER BY k.place)
    INTO STRICT v_is_row, v_key
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
    INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    INNER JOIN pg_opclass AS c ON c.oid = k.opclass
    INNER JOIN pg_amop AS p
        ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
        AND p.amopstrategy = 3
    INNER JOIN pg_operator AS o ON o.oid = p.amopopr
    INNER JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE i.indrelid = v_table
        AND i.indisprimary
        AND k.place <= i.indnkeyatts;

    PERFORM set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'SELECT t.%I::pg_catalog.text, %s, true FROM %s AS t WHERE %s FOR NO KEY UPDATE',
        r_machine.state_column, coalesce(pg_catalog.quote_ident(r_machine.version_column), 'NULL'), v_table, v_is_row
    )
    INTO v_state, v_version, v_is_there
    USING fire_event.record;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    SELECT l.to_state
    INTO v_to_state
    FROM lockstep.list_transitions(r_machine.machine_name, v_state, v_version) AS l
    WHERE l.from_state = v_state
        AND l.event = fire_event.event;

    IF NOT FOUND THEN
        v_quoted_state := coalesce('"' || v_state || '"', 'null');
        EXECUTE format('SELECT format(''Row %%s of %%s'', jsonb_build_object(%s), $2)', v_key)
        INTO v_key
        USING fire_event.record, v_table;

        SELECT CASE
            WHEN v_is_there IS NULL THEN ARRAY[
                'no_data_found', format('row of %s does not exist', v_table), v_key || '.',
                'It was deleted, or your role does not see it.'
            ]
            WHEN count(*) FILTER (WHERE l.event = fire_event.event) = 0 THEN ARRAY[
                'no_data_found',
                format('state machine "%s" has no event "%s"', r_machine.machine_name, fire_event.event),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    'Its events are ' || string_agg(DISTINCT format('"%s"', l.event), ', ') || '.',
                    'Add transitions with add_transition(); none leaves a state.'
                )
            ]
            ELSE ARRAY[
                'check_violation',
                format(
                    'event "%s" of state machine "%s" leads %s, not from %s',
                    fire_event.event, r_machine.machine_name,
                    string_agg(
                        format('from "%s" to "%s"', l.from_state, l.to_state), ' and ' ORDER BY l.from_state
                    ) FILTER (WHERE l.event = fire_event.event),
                    v_quoted_state
                ),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    format('Events in %s: ', v_quoted_state)
                    || string_agg(format('%s (to "%s")', l.event, l.to_state), ', ')
                        FILTER (WHERE l.from_state = v_state)
                    || '.',
                    format('No transition leaves %s.', v_quoted_state)
                )
            ]
        END
        INTO v_problem
        FROM lockstep.list_transitions(r_machine.machine_name, NULL, v_version) AS l
        WHERE l.from_state IS NOT NULL;

        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    PERFORM
        set_config('lockstep.event', fire_event.event, true),
        set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'UPDATE %1$s AS t SET %2$I = $2::%3$s WHERE %4$s RETURNING t.%2$I::pg_catalog.text',
        v_table, r_machine.state_column, r_machine.state_type, v_is_row
    )
    INTO v_to_state
    USING fire_event.record, v_to_state;
    PERFORM
        pg_catalog.set_config('lockstep.event', v_earlier_event, true),
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_to_state IS NULL THEN
        RAISE EXCEPTION 'a trigger of % kept its row in state "%"', v_table, v_state
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A BEFORE UPDATE trigger returned NULL.';
    END IF;
    RETURN v_to_state;
END
$$;
COMMENT ON FUNCTION lockstep.fire_event(anyelement, text, text) IS
    'Lets an event happen to a row: moves it as its state machine says, and returns the new state.';

-- sql/76_state_machine/purge_state_history.sql

-- Deletes up to max_count of the oldest moves that are older than an interval.
--
-- Returns how many; call it until that is fewer than max_count. Ids of moves are ordered
-- by time, so the primary key leads to the oldest. There are none of before 1970, and an id
-- of such a time would be greater than all others.
CREATE OR REPLACE FUNCTION lockstep.purge_state_history(older_than interval, max_count int DEFAULT 10000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count int;
BEGIN
    IF purge_state_history.older_than IS NULL
        OR purge_state_history.older_than NOT BETWEEN interval '0' AND interval '6000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 6000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.older_than::text, 'null')),
                  HINT = 'Pass how long moves are kept, as interval ''1 year''.';
    ELSIF purge_state_history.max_count IS NULL OR purge_state_history.max_count < 1 THEN
        RAISE EXCEPTION 'max_count must be 1 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.max_count::text, 'null')),
                  HINT = 'It bounds how long the call takes.';
    END IF;

    DELETE FROM lockstep.state_history AS h
    WHERE h.transition_id = ANY (ARRAY(
        SELECT o.transition_id
        FROM lockstep.state_history AS o
        WHERE o.transition_id < lockstep._generate_id(
            greatest(clock_timestamp() - purge_state_history.older_than, 'epoch'::timestamptz)
        )
        ORDER BY o.transition_id
        LIMIT purge_state_history.max_count
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
COMMENT ON FUNCTION lockstep.purge_state_history(interval, int) IS
    'Deletes the oldest moves of the history, up to max_count that are older than an interval.';

-- sql/76_state_machine/state_machine_triggers.sql

-- Writes the statements by which attach_state_machine() attaches a state machine to a table.
--
-- A trigger function, <table>_state_machine, beside the table, and the row-level triggers
-- that call it. Rows, because only such triggers see the writes to partitions, those of the
-- future too, and a row's old and new state together; they are not called for updates that
-- leave the state alone. The function belongs to the owner of the table and runs with that
-- role's rights: what the owner's types and casts execute must not run with those of
-- Lockstep's owner. The triggers' argument is what the catalog knows about the machine.
--
-- The key that is recorded leaves the state out, should it be part of the primary key.
CREATE OR REPLACE FUNCTION lockstep.state_machine_triggers(
    table_name regclass,
    state_column name,
    machine_name text,
    version_column name DEFAULT NULL
)
RETURNS TABLE (statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_body constant text := $body$
-- Written by lockstep.attach_state_machine(); lockstep.detach_state_machine() drops it.
BEGIN
%1$s%2$s    PERFORM lockstep.record_transition(
        TG_RELID, TG_OP, %3$L, %4$s,
        jsonb_build_object(%5$s),
        OLD.%6$I::text, NEW.%6$I::text
    );
    RETURN NULL;
END
$body$;
    v_fill constant text := $fill$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'INSERT' THEN
        NEW.%1$I := lockstep.newest_machine_version(%2$L);
        RETURN NEW;
    END IF;

$fill$;
    v_move constant text := $move$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'UPDATE' THEN
        PERFORM lockstep.record_move(TG_RELID, jsonb_build_object(%1$s), jsonb_build_object(%2$s));
        RETURN NEW;
    END IF;

$move$;
    v_argument constant text := json_build_object(
        'machine_name', state_machine_triggers.machine_name,
        'state_column', state_machine_triggers.state_column,
        'version_column', state_machine_triggers.version_column
    )::text;
    v_problem text[];
    v_by_default text;
    r_table record;
    r_key record;
BEGIN
    SELECT
        c.relowner::regrole AS owner, c.relkind = 'p' AS is_partitioned, c.relkind IN ('r', 'p') AS is_table,
        format('%I.%I', n.nspname, (c.relname || '_state_machine')::name) AS function_name,
        ARRAY(
            SELECT a.attname FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
        ) AS columns
    INTO r_table
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = state_machine_triggers.table_name;

    IF r_table.is_table IS NOT TRUE THEN
        v_problem := ARRAY[
            'table_name must be a table',
            coalesce(state_machine_triggers.table_name || ' is none.', 'It is null.'),
            'Pass a table or a partitioned table; its rows are what moves.'
        ];
    ELSE
        SELECT ARRAY[
            format('%s must be a column of %s', c.argument, state_machine_triggers.table_name),
            coalesce('It is "' || c.name || '".', 'It is null.'),
            format('Its columns are "%s".', array_to_string(r_table.columns, '", "'))
        ]
        INTO v_problem
        FROM (
            VALUES
                ('state_column', state_machine_triggers.state_column, false),
                ('version_column', state_machine_triggers.version_column, true)
        ) AS c (argument, name, is_optional)
        WHERE coalesce(c.name <> ALL (r_table.columns), NOT c.is_optional)
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT
        string_agg(format('%1$L, OLD.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS old,
        string_agg(format('%1$L, NEW.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS new,
        string_agg(format('%1$L, coalesce(NEW.%1$I, OLD.%1$I)', k.name), ', ' ORDER BY k.place)
        FILTER (WHERE k.is_recorded) AS either,
        string_agg(
            format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', k.name), ' OR ' ORDER BY k.place
        ) AS is_changed
    INTO STRICT r_key
    FROM (
        SELECT a.attname AS name, u.place, a.attname <> state_machine_triggers.state_column AS is_recorded
        FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, place)
        INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE i.indrelid = state_machine_triggers.table_name
            AND i.indisprimary
            AND u.place <= i.indnkeyatts
    ) AS k;
    IF r_key.new IS NULL THEN
        RAISE EXCEPTION '% has no primary key%', state_machine_triggers.table_name,
            CASE WHEN r_key.is_changed IS NOT NULL THEN ' apart from its state' ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The history names rows by it, and fire_event() finds them by it.',
                  HINT = 'Add a primary key.';
    END IF;

    -- a function that a dropped table left behind, with what was granted on it, and no other
    IF EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = to_regprocedure(r_table.function_name || '()')
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
            AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
    ) THEN
        statement := format('DROP FUNCTION %s()', r_table.function_name);
        RETURN NEXT;
    END IF;

    statement := format(
        'CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L',
        r_table.function_name,
        format(
            v_body,
            CASE
                WHEN state_machine_triggers.version_column IS NOT NULL
                    THEN format(v_fill, state_machine_triggers.version_column, state_machine_triggers.machine_name)
            END,
            CASE WHEN r_table.is_partitioned THEN format(v_move, r_key.old, r_key.new) END,
            state_machine_triggers.machine_name,
            CASE
                WHEN state_machine_triggers.version_column IS NULL THEN 'NULL'
                ELSE format('coalesce(NEW.%1$I, OLD.%1$I)::int', state_machine_triggers.version_column)
            END,
            r_key.either, state_machine_triggers.state_column
        )
    );
    RETURN NEXT;

    FOR statement IN
        SELECT format(
            'CREATE TRIGGER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION %s(%L)',
            t.event, state_machine_triggers.table_name, t.condition, r_table.function_name, v_argument
        )
        FROM (
            VALUES
                (
                    'lockstep_state_machine AFTER UPDATE', true, concat_ws(
                        ' OR ',
                        format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', state_machine_triggers.state_column),
                        CASE
                            WHEN state_machine_triggers.version_column IS NOT NULL
                                THEN format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', state_machine_triggers.version_column)
                        END,
                        CASE WHEN r_table.is_partitioned THEN r_key.is_changed END
                    )
                ),
                ('lockstep_state_machine_ends AFTER INSERT OR DELETE', true, 'true'),
                (
                    'lockstep_state_machine_version BEFORE INSERT', state_machine_triggers.version_column IS NOT NULL,
                    'NEW.' || quote_ident(state_machine_triggers.version_column) || ' IS NULL'
                ),
                -- called last: other triggers may change the key, or suppress the update
                ('zzz_lockstep_state_machine_move BEFORE UPDATE', r_table.is_partitioned, r_key.is_changed)
        ) AS t (event, is_needed, condition)
        WHERE t.is_needed
    LOOP
        RETURN NEXT;
    END LOOP;

    -- whoever may execute the function can make triggers that record what never happened
    SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ')
    INTO v_by_default
    FROM pg_default_acl AS d
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a
    INNER JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE d.defaclobjtype = 'f'
        AND d.defaclrole = current_user::regrole
        AND a.grantee <> d.defaclrole;

    FOREACH statement IN ARRAY ARRAY[
        format('REVOKE ALL ON FUNCTION %s() FROM %s', r_table.function_name, concat_ws(', ', 'public', v_by_default)),
        format('ALTER FUNCTION %s() OWNER TO %s', r_table.function_name, r_table.owner)
    ]
    LOOP
        RETURN NEXT;
    END LOOP;
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'lockstep') THEN
        statement := format('ALTER FUNCTION %s() DEPENDS ON EXTENSION lockstep', r_table.function_name);
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.state_machine_triggers(regclass, name, text, name) IS
    'Writes the statements by which attach_state_machine() attaches a state machine to a table.';

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

-- sql/80_admin/22_attachments.sql

-- The attached workflows, read from the triggers: there is no second place that could
-- say otherwise. A trigger that somebody wrote by hand is left out if it cannot be read.
CREATE OR REPLACE VIEW lockstep.attachments AS
SELECT
    t.tgrelid::regclass AS table_name,
    s.settings ->> 'workflow_name' AS workflow_name,
    s.settings ->> 'queue_name' AS queue_name,
    array_agg(e.event ORDER BY e.place) AS events,
    s.columns,
    s.settings ->> 'condition' AS condition,
    s.primary_key,
    s.settings ->> 'named_args' AS named_args,
    s.settings ->> 'workflow_id' AS workflow_id,
    s.settings ->> 'deduplication_id' AS deduplication_id,
    coalesce(s.settings ->> 'on_duplicate', 'return') AS on_duplicate,
    s.priority,
    s.settings ->> 'queue_partition_key' AS queue_partition_key,
    s.debounce,
    s.debounce_max_delay,
    s.settings ->> 'search_path' AS search_path,
    bool_and(t.tgenabled IN ('O', 'A')) AS is_enabled
FROM pg_catalog.pg_trigger AS t
INNER JOIN (VALUES (1, 'INSERT', 4), (2, 'UPDATE', 16), (3, 'DELETE', 8)) AS e (place, event, tgtype)
    ON t.tgtype & e.tgtype <> 0
CROSS JOIN LATERAL lockstep._attachment_of(t.tgargs) AS s
WHERE t.tgfoid = 'lockstep.enqueue_rows()'::regprocedure
    AND s.settings IS NOT NULL
GROUP BY t.tgrelid, s.settings, s.columns, s.primary_key, s.priority, s.debounce, s.debounce_max_delay;
COMMENT ON VIEW lockstep.attachments IS
    'The workflows that are attached to tables, with a row for each partition and child.';
COMMENT ON COLUMN lockstep.attachments.table_name IS 'Table whose rows enqueue workflows.';
COMMENT ON COLUMN lockstep.attachments.workflow_name IS 'Workflow that each row enqueues.';
COMMENT ON COLUMN lockstep.attachments.queue_name IS 'Queue in which it waits.';
COMMENT ON COLUMN lockstep.attachments.events IS 'Statements that enqueue: INSERT, UPDATE, DELETE.';
COMMENT ON COLUMN lockstep.attachments.columns IS 'Columns of which an UPDATE must change one; NULL: any UPDATE.';
COMMENT ON COLUMN lockstep.attachments.condition IS 'Expression that must be true of a row.';
COMMENT ON COLUMN lockstep.attachments.primary_key IS 'Columns that are the arguments where no expression is.';
COMMENT ON COLUMN lockstep.attachments.named_args IS 'Expression for the arguments.';
COMMENT ON COLUMN lockstep.attachments.workflow_id IS 'Expression for the workflow_id.';
COMMENT ON COLUMN lockstep.attachments.deduplication_id IS 'Expression for the deduplication_id.';
COMMENT ON COLUMN lockstep.attachments.on_duplicate IS 'What a duplicate does: return or raise.';
COMMENT ON COLUMN lockstep.attachments.priority IS 'Priority of the workflows.';
COMMENT ON COLUMN lockstep.attachments.queue_partition_key IS 'Expression for the queue_partition_key.';
COMMENT ON COLUMN lockstep.attachments.debounce IS 'Pause after the last row, after which the workflow starts.';
COMMENT ON COLUMN lockstep.attachments.debounce_max_delay IS 'Longest time that further rows can put it off.';
COMMENT ON COLUMN lockstep.attachments.search_path IS 'Where the expressions find what they name.';
COMMENT ON COLUMN lockstep.attachments.is_enabled IS 'Whether the triggers fire for ordinary sessions.';

-- sql/80_admin/24_attached_state_machines.sql

-- The tables that follow a state machine, as their triggers say.
CREATE OR REPLACE VIEW lockstep.attached_state_machines AS
SELECT
    t.tgrelid::regclass AS table_name,
    a.machine_name,
    a.state_column,
    a.version_column,
    t.tgenabled <> 'D' AS is_enabled
FROM pg_catalog.pg_trigger AS t
CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS a
WHERE t.tgname = 'lockstep_state_machine'
    AND t.tgparentid = 0
    AND a.machine_name IS NOT NULL;
COMMENT ON VIEW lockstep.attached_state_machines IS
    'The tables that follow a state machine, as their triggers say.';
COMMENT ON COLUMN lockstep.attached_state_machines.table_name IS 'Table whose rows follow it.';
COMMENT ON COLUMN lockstep.attached_state_machines.machine_name IS 'State machine that they follow.';
COMMENT ON COLUMN lockstep.attached_state_machines.state_column IS 'Column that holds the state.';
COMMENT ON COLUMN lockstep.attached_state_machines.version_column IS
    'Column that holds the version that a row follows; without one it is the newest.';
COMMENT ON COLUMN lockstep.attached_state_machines.is_enabled IS
    'Whether the trigger is enabled; a disabled one checks and records nothing.';

-- sql/80_admin/30_capabilities.sql

-- The privilege matrix: which functions each capability may execute.
--
-- worker includes client, admin includes both; viewer reads the tables. One
-- page, so that a new function without a line here is noticed: a test compares
-- it with the catalog.
CREATE OR REPLACE FUNCTION lockstep._capabilities()
RETURNS TABLE (capability text, function_name text)
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT c.capability, c.function_name
    FROM (
        VALUES
            ('client', 'enqueue_workflow'),
            ('client', 'enqueue_workflows'),
            ('client', 'attach_workflow'),
            ('client', 'detach_workflow'),
            ('client', 'enqueue_rows'),
            ('client', '_attachment_problem'),
            ('client', '_place_triggers'),
            ('client', '_state_machine_of'),
            ('viewer', '_state_machine_of'),
            ('viewer', '_attachment_of'),
            ('client', 'send_message'),
            ('client', 'send_messages'),
            ('client', 'get_event'),
            ('client', 'get_workflow'),
            ('client', 'read_stream'),
            ('client', 'watch_workflows'),
            ('client', 'check_watches'),
            ('client', 'fire_event'),
            ('client', 'list_transitions'),
            ('client', 'newest_machine_version'),
            ('client', 'version'),
            ('worker', 'declare_queue'),
            ('worker', 'register_executor'),
            ('worker', 'unregister_executor'),
            ('worker', 'heartbeat'),
            ('worker', 'claim_workflows'),
            ('worker', 'fail_too_large'),
            ('worker', 'record_step'),
            ('worker', 'record_steps'),
            ('worker', 'get_step'),
            ('worker', 'start_timers'),
            ('worker', 'start_children'),
            ('worker', 'await_workflows'),
            ('worker', 'set_events'),
            ('worker', 'write_streams'),
            ('worker', 'set_progress'),
            ('worker', 'send_step_messages'),
            ('worker', 'receive_messages'),
            ('worker', 'suspend_workflows'),
            ('worker', 'finish_workflows'),
            ('worker', 'advance_workflows'),
            ('worker', 'pulse'),
            ('worker', 'release_workflows'),
            ('worker', 'reconcile_workflows'),
            ('worker', 'recover_workflows'),
            ('worker', 'promote_due_workflows'),
            ('worker', 'declare_schedules'),
            ('worker', 'due_schedules'),
            ('worker', 'start_ticks'),
            ('worker', 'start_backfill'),
            ('admin', 'list_workflows'),
            ('admin', 'list_steps'),
            ('admin', 'explain_workflow'),
            ('admin', 'cancel_workflow'),
            ('admin', 'cancel_workflows'),
            ('admin', 'resume_workflow'),
            ('admin', 'resume_workflows'),
            ('admin', 'restart_workflow'),
            ('admin', 'restart_workflows'),
            ('admin', 'fork_workflow'),
            ('admin', 'set_priority'),
            ('admin', 'set_priorities'),
            ('admin', 'move_workflow'),
            ('admin', 'move_workflows'),
            ('admin', 'fast_forward'),
            ('admin', 'purge_workflows'),
            ('admin', 'list_queues'),
            ('admin', 'create_queue'),
            ('admin', 'alter_queue'),
            ('admin', 'drop_queue'),
            ('admin', 'pause_queue'),
            ('admin', 'unpause_queue'),
            ('admin', 'create_state_machine'),
            ('admin', 'add_transition'),
            ('admin', 'attach_state_machine'),
            ('admin', 'detach_state_machine'),
            ('admin', 'state_machine_triggers'),
            ('admin', 'record_move'),
            ('admin', 'record_transition'),
            ('admin', 'state_machine_diagram'),
            ('admin', 'purge_state_history'),
            ('admin', 'schedule_workflow'),
            ('admin', 'unschedule_workflow'),
            ('admin', 'pause_schedule'),
            ('admin', 'unpause_schedule'),
            ('admin', 'list_schedules'),
            ('admin', 'trigger_schedule'),
            ('admin', 'backfill_schedule'),
            ('admin', 'enable_tenant_isolation'),
            ('admin', 'disable_tenant_isolation'),
            ('admin', 'grant_usage')
    ) AS c (capability, function_name);
END;
COMMENT ON FUNCTION lockstep._capabilities() IS
    'The privilege matrix: which functions each capability may execute.';

-- sql/80_admin/45_tenant_policies.sql

-- Which rows a role may read that has SELECT on tables, but is no viewer, where tenants are
-- isolated: its own workflows, and those of roles whose rights it has.
--
-- grant_usage() grants SELECT to viewers and admins, on all tables, and they read all rows. The
-- owner of Lockstep, as whom functions run, is not subject to policies.
--
-- The policies are in the install script, because pg_dump does not save those of an extension's
-- tables; enable_tenant_isolation() turns them on.
CREATE POLICY workflow_status_tenant_policy ON lockstep.workflow_status FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- who was granted INSERT enqueues by hand, in its own name
CREATE POLICY workflow_status_tenant_insert_policy ON lockstep.workflow_status FOR INSERT WITH CHECK (
    enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- of the workflows that the first policy lets one see; a viewer, who sees all, is spared the look
CREATE POLICY operation_outputs_tenant_policy ON lockstep.operation_outputs FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = operation_outputs.workflow_id)
);

CREATE POLICY notifications_tenant_policy ON lockstep.notifications FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = notifications.destination_id)
);

CREATE POLICY workflow_events_tenant_policy ON lockstep.workflow_events FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_events.workflow_id)
);

CREATE POLICY workflow_streams_tenant_policy ON lockstep.workflow_streams FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_streams.workflow_id)
);

-- sql/80_admin/47_switch_row_security.sql

-- Turns row-level security on or off for the tables that have a policy for tenants.
--
-- Locks the tables in ACCESS EXCLUSIVE, in the order of the list, until the commit.
CREATE FUNCTION lockstep._switch_row_security(p_is_on boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table regclass;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'lockstep.workflow_status', 'lockstep.operation_outputs', 'lockstep.notifications',
        'lockstep.workflow_events', 'lockstep.workflow_streams'
    ]::regclass[]
    LOOP
        EXECUTE format(
            'ALTER TABLE %s %s ROW LEVEL SECURITY', v_table, CASE WHEN p_is_on THEN 'ENABLE' ELSE 'DISABLE' END
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._switch_row_security(boolean) IS
    'Turns row-level security on or off for the tables that have a policy for tenants.';

-- sql/80_admin/50_enable_tenant_isolation.sql

-- Shows each client the workflows that it enqueued, and no others.
--
-- A tenant is a role. It sees a workflow if the role that enqueued it is its own, or one whose
-- rights it has, and with the workflow its children, forks, messages, events and streams.
-- Any other workflow does not exist for it: functions that a client may call answer for
-- both alike (_may_see()). An id or deduplication id of another's is refused as taken. Workers,
-- viewers and admins see everything, as before.
--
-- Row-level security is turned on for who was granted SELECT on tables by hand. Functions go
-- by the row of tenant_isolation, which a dump brings back; it does not bring back whether
-- row-level security of an extension's table is on: register_executor() turns it on again.
--
-- Locks as _switch_row_security().
CREATE FUNCTION lockstep.enable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.tenant_isolation (enabled_by)
    VALUES (lockstep._caller())
    ON CONFLICT DO NOTHING;

    PERFORM lockstep._switch_row_security(true);
END
$$;
COMMENT ON FUNCTION lockstep.enable_tenant_isolation() IS
    'Shows each client the workflows that it enqueued, and no others.';

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

-- sql/80_admin/52_disable_tenant_isolation.sql

-- Shows each client all workflows again, as it is without enable_tenant_isolation().
--
-- Locks as _switch_row_security().
CREATE FUNCTION lockstep.disable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM lockstep.tenant_isolation;

    PERFORM lockstep._switch_row_security(false);
END
$$;
COMMENT ON FUNCTION lockstep.disable_tenant_isolation() IS
    'Shows each client all workflows, as it is without enable_tenant_isolation().';

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

-- Nothing is PUBLIC's, nor anybody's by default privileges. Only what is new is touched: in an
-- extension a REVOKE makes all grants of the object part of the extension, and pg_dump would
-- leave them out.
DO $$
DECLARE
    v_before constant jsonb := current_setting('lockstep.before_update');
    v_object text;
    v_grantee text;
BEGIN
    FOR v_object, v_grantee IN
        SELECT format('FUNCTION %s', p.oid::regprocedure), g.grantee
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL (
            SELECT 'public' AS grantee
            UNION ALL
            SELECT a.grantee::regrole::text FROM aclexplode(p.proacl) AS a WHERE a.grantee NOT IN (0, p.proowner)
        ) AS g
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND NOT v_before ? p.oid::text
        UNION
        SELECT format('TABLE %s', c.oid::regclass), g.grantee
        FROM pg_catalog.pg_class AS c
        CROSS JOIN LATERAL (
            SELECT 'public' AS grantee
            UNION ALL
            SELECT a.grantee::regrole::text FROM aclexplode(c.relacl) AS a WHERE a.grantee NOT IN (0, c.relowner)
        ) AS g
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relkind IN ('r', 'v')
            AND NOT v_before ? c.oid::text
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', v_object, v_grantee);
    END LOOP;
END
$$;

SET CONSTRAINTS lockstep.pending_grant_at_commit DEFERRED;

-- Who held a capability holds it again with what is new in it, once this transaction commits.
INSERT INTO lockstep.pending_grant (grant_statement)
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', p.oid::regprocedure, h.holder ->> 1)
FROM json_array_elements(current_setting('lockstep.holders_before_update')::json) AS h (holder)
INNER JOIN lockstep._capabilities() AS c ON h.holder ->> 0 = c.capability
INNER JOIN pg_catalog.pg_proc AS p ON c.function_name = p.proname
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
SELECT pg_catalog.pg_extension_config_dump('lockstep.tenant_isolation', '');
