-- _turn_of_suspects() and claims find those under which workers died, whatever else waits. The
-- predicate is written so that no other query's condition implies it
CREATE INDEX workflow_status_suspect_idx
ON lockstep.workflow_status (queue_name, priority, available_at)
WHERE (status = 'ENQUEUED') IS TRUE AND lockstep._is_suspect(attempts, max_attempts);
