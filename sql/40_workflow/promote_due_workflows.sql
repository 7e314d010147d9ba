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
