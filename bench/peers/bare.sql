-- The least that durable steps can be made of: two tables and one function.
CREATE TABLE workflow (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    input text NOT NULL,
    is_waiting boolean NOT NULL DEFAULT true,
    output text,
    claimed_at timestamptz,
    completed_at timestamptz
);

CREATE INDEX workflow_waiting_idx ON workflow (id) WHERE is_waiting;

CREATE TABLE step (
    workflow_id bigint NOT NULL,
    step_id int NOT NULL,
    output text NOT NULL,
    completed_at timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, step_id)
);

-- Records steps, finishes workflows and claims the next ones, in one commit.
CREATE FUNCTION advance(
    step_workflows bigint[], step_ids int[], step_outputs text[],
    finished_workflows bigint[], finished_outputs text[],
    claim_count int
)
RETURNS TABLE (id bigint, input text)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO step
    SELECT s.workflow_id, s.step_id, s.output, clock_timestamp()
    FROM unnest(step_workflows, step_ids, step_outputs) AS s (workflow_id, step_id, output);

    UPDATE workflow AS w
    SET output = f.output, completed_at = clock_timestamp()
    FROM unnest(finished_workflows, finished_outputs) AS f (id, output)
    WHERE w.id = f.id;

    RETURN QUERY
    UPDATE workflow AS w
    SET is_waiting = false, claimed_at = clock_timestamp()
    WHERE w.ctid = ANY (ARRAY(
        SELECT c.ctid FROM workflow AS c WHERE c.is_waiting
        ORDER BY c.id LIMIT claim_count FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING w.id, w.input;
END
$$;
