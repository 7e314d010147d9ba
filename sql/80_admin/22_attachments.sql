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
