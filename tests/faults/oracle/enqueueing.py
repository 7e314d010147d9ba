"""What was enqueued is there, and ends."""

from .check import check

# enqueueing

check(
    "acknowledged enqueue is there",
    "What a committed transaction enqueued is a workflow.",
    """
    SELECT j.workflow_id
    FROM bank.journal AS j
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE j.outcome = 'committed' AND w.workflow_id IS NULL
    """,
)
check(
    "rolled-back enqueue is not there",
    "What a rolled-back transaction enqueued is no workflow.",
    """
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    LEFT JOIN bank.journal AS j USING (workflow_id)
    WHERE j.outcome = 'rolled back' OR w.workflow_id LIKE 'undone-%'
    """,
)
check(
    "enqueue and application commit together",
    "A workflow is there exactly if what its transaction wrote is.",
    """
    SELECT coalesce(e.workflow_id, w.workflow_id), e.kind, w.workflow_name
    FROM bank.expected AS e
    FULL JOIN (
        SELECT * FROM lockstep.workflow_status WHERE parent_workflow_id IS NULL
    ) AS w USING (workflow_id)
    WHERE e.kind IS DISTINCT FROM w.workflow_name
    """,
)

# the end

check(
    "nothing is left over",
    "Every workflow ends.",
    """
    SELECT w.workflow_id, w.status, w.attempts, w.available_at, w.waiting_for
    FROM lockstep.workflow_status AS w
    WHERE w.completed_at IS NULL
    """,
)
check(
    "expected end",
    "Every workflow ends in the status that its kind says.",
    """
    SELECT w.workflow_id, w.workflow_name, w.status, w.error ->> 'type', w.error ->> 'message'
    FROM lockstep.workflow_status AS w
    WHERE w.status <> CASE
        WHEN w.workflow_name = 'refused_transfer' THEN 'ERROR'
        WHEN w.workflow_name IN ('endless', 'restless') THEN 'CANCELLED'
        WHEN w.workflow_name = 'hesitant' AND w.status = 'CANCELLED' THEN 'CANCELLED'
        WHEN w.workflow_name = 'poison' THEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
        ELSE 'SUCCESS'
    END
    """,
)
check(
    "cancelled stays cancelled",
    "A workflow whose cancellation was acknowledged ends as CANCELLED.",
    """
    SELECT j.workflow_id, w.status
    FROM bank.journal AS j
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE j.outcome = 'cancelled' AND w.status IS DISTINCT FROM 'CANCELLED'
    """,
)
check(
    "deadline is kept",
    "A workflow with a timeout is cancelled, and not before its time.",
    """
    SELECT w.workflow_id, w.error ->> 'type', w.deadline_at, w.completed_at
    FROM lockstep.workflow_status AS w
    WHERE w.timeout IS NOT NULL
        AND (
            w.error ->> 'type' IS DISTINCT FROM 'DeadlineExceeded'
            OR w.completed_at < w.started_at + w.timeout
        )
    """,
)
check(
    "expected output",
    "A workflow returns what its kind computes.",
    """
    SELECT w.workflow_id, e.args, w.output
    FROM bank.expected AS e
    INNER JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE w.status = 'SUCCESS'
        AND w.output IS DISTINCT FROM CASE e.kind
            WHEN 'transfer' THEN e.args -> 2
            WHEN 'transfer_plain' THEN e.args -> 2
            WHEN 'order' THEN jsonb_build_array(w.output -> 0, (e.args ->> 0)::int * 3)
            WHEN 'fan_out' THEN to_jsonb(
                3 * (e.args ->> 0)::int * ((e.args ->> 0)::int - 1) / 2
            )
            WHEN 'flaky' THEN '"done"'
            WHEN 'hesitant' THEN '"ended"'
            WHEN 'pack' THEN to_jsonb(3 * (e.args ->> 0)::int)
            WHEN 'courier' THEN (
                SELECT jsonb_agg(n) FROM generate_series(0, (e.args ->> 0)::int - 1) AS n
            )
            WHEN 'depot' THEN w.output
            WHEN 'audit' THEN (
                SELECT jsonb_build_array(w.output -> 0, o.output)
                FROM lockstep.workflow_status AS o
                WHERE o.workflow_id = e.args ->> 0 AND w.output ->> 0 IN ('charged', 'shipped')
            )
        END
    """,
)
