-- Waiting workflows that no live worker can run: nobody serves their queue, knows
-- their name, or has their app_version.
CREATE OR REPLACE VIEW lockstep.unserved_workflows AS
SELECT
    w.queue_name,
    w.workflow_name,
    w.app_version,
    count(*) AS workflow_count,
    min(w.available_at) AS waiting_since
FROM lockstep.workflow_status AS w
WHERE w.status = 'ENQUEUED'
    AND NOT EXISTS (
        SELECT
        FROM lockstep.executor AS e
        WHERE e.queues @> ARRAY[w.queue_name]
            AND e.workflow_names @> ARRAY[w.workflow_name]
            AND (w.app_version IS NULL OR w.app_version = e.app_version)
            AND e.expires_at > clock_timestamp()
    )
GROUP BY w.queue_name, w.workflow_name, w.app_version;
COMMENT ON VIEW lockstep.unserved_workflows IS
    'Waiting workflows that no live worker can run, by queue, name and version.';
COMMENT ON COLUMN lockstep.unserved_workflows.queue_name IS 'Queue in which they wait.';
COMMENT ON COLUMN lockstep.unserved_workflows.workflow_name IS 'Name that they were enqueued under.';
COMMENT ON COLUMN lockstep.unserved_workflows.app_version IS 'Version that they ask for, if any.';
COMMENT ON COLUMN lockstep.unserved_workflows.workflow_count IS 'How many there are.';
COMMENT ON COLUMN lockstep.unserved_workflows.waiting_since IS 'When the oldest became claimable.';
