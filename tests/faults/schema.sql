-- The tables of the workload. None has a unique key on what must happen once: it is the
-- oracle that finds a second row, not a constraint that hides it.
CREATE SCHEMA bank;

CREATE TABLE bank.account (
    account_id int PRIMARY KEY,
    balance bigint NOT NULL
);
INSERT INTO bank.account SELECT n, 1000000 FROM generate_series(0, 999) AS n;

-- what the transactional steps wrote: kind is the step, position the place in a sequence
CREATE TABLE bank.entry (
    entry_id bigint GENERATED ALWAYS AS IDENTITY,
    workflow_id text NOT NULL,
    kind text NOT NULL,
    account_id int,
    amount bigint,
    position int,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot()
);

-- for the oracle
CREATE INDEX ON bank.entry (workflow_id);

-- what the driver enqueued, written in the transaction that enqueued it
CREATE TABLE bank.expected (
    workflow_id text PRIMARY KEY,
    kind text NOT NULL,
    args jsonb NOT NULL
);

-- what the driver was told outside of the database, and the outside side effects; filled
-- from files when everything has drained
CREATE TABLE bank.journal (workflow_id text NOT NULL, outcome text NOT NULL);
CREATE TABLE bank.effect (
    workflow_id text NOT NULL,
    kind text NOT NULL,
    attempt int NOT NULL,
    pid int NOT NULL,
    outcome text NOT NULL,
    receipt bigint NOT NULL
);
-- the workers that were asked to stop, which hand back what they run
CREATE TABLE bank.stopped_worker (pid int NOT NULL);

-- updates that must never happen, caught in the act
CREATE TABLE bank.forbidden_update (
    workflow_id text NOT NULL,
    what text NOT NULL,
    before jsonb NOT NULL,
    after jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION bank.note_forbidden_update()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $$
BEGIN
    INSERT INTO bank.forbidden_update (workflow_id, what, before, after)
    VALUES (
        coalesce(to_jsonb(new) ->> 'workflow_id', to_jsonb(new) ->> 'destination_id'), tg_argv[0],
        to_jsonb(old), to_jsonb(new)
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER step_recorded_twice
AFTER UPDATE ON lockstep.operation_outputs
FOR EACH ROW WHEN (old.completed_at IS NOT NULL)
EXECUTE FUNCTION bank.note_forbidden_update('step recorded twice');

CREATE TRIGGER timer_moved
AFTER UPDATE ON lockstep.operation_outputs
FOR EACH ROW WHEN (
    old.step_name IN ('sleep', 'receive') AND old.available_at IS DISTINCT FROM new.available_at
)
EXECUTE FUNCTION bank.note_forbidden_update('timer moved');

CREATE TRIGGER ended_workflow_changed
AFTER UPDATE ON lockstep.workflow_status
FOR EACH ROW WHEN (old.completed_at IS NOT NULL)
EXECUTE FUNCTION bank.note_forbidden_update('ended workflow changed');

CREATE TRIGGER message_consumed_twice
AFTER UPDATE ON lockstep.notifications
FOR EACH ROW WHEN (old.consumed_at IS NOT NULL)
EXECUTE FUNCTION bank.note_forbidden_update('message consumed twice');

CREATE ROLE bank_worker LOGIN;
CREATE ROLE bank_driver LOGIN;
SELECT lockstep.grant_usage('bank_worker', 'worker');
SELECT lockstep.grant_usage('bank_driver', 'admin');
GRANT USAGE ON SCHEMA bank TO bank_worker, bank_driver;
GRANT SELECT, UPDATE ON bank.account TO bank_worker;
GRANT SELECT, INSERT ON bank.entry TO bank_worker;
GRANT SELECT, INSERT ON bank.expected TO bank_driver;
