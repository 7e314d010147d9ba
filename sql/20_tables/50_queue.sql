-- Limits of a queue. A queue without a row exists too, unlimited.
CREATE TABLE lockstep.queue (
    queue_name text NOT NULL,
    concurrency int,
    worker_concurrency int,
    rate_limit int,
    rate_period interval,
    partition_concurrency int,
    partition_rate_limit int,
    partition_rate_period interval,
    is_paused boolean NOT NULL DEFAULT false,
    partition_cursor text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT queue_pkey PRIMARY KEY (queue_name),

    CONSTRAINT queue_name_has_a_length_check CHECK (length(queue_name) BETWEEN 1 AND 512),
    CONSTRAINT queue_limits_are_positive_check CHECK (
        least(concurrency, worker_concurrency, rate_limit, partition_concurrency, partition_rate_limit) >= 1
    ),
    CONSTRAINT queue_rate_limit_has_a_period_check CHECK (
        (rate_limit IS NULL) = (rate_period IS NULL)
        AND (partition_rate_limit IS NULL) = (partition_rate_period IS NULL)
    ),
    CONSTRAINT queue_rate_periods_are_positive_check CHECK (
        least(rate_period, partition_rate_period) > interval '0'
    )
) WITH (fillfactor = 50);

COMMENT ON TABLE lockstep.queue IS
    'Limits of a queue; a queue without a row exists too, unlimited.';
COMMENT ON COLUMN lockstep.queue.queue_name IS
    'Name of the queue.';
COMMENT ON COLUMN lockstep.queue.concurrency IS
    'Workflows of the queue that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.worker_concurrency IS
    'Workflows of the queue that may run at once in one worker.';
COMMENT ON COLUMN lockstep.queue.rate_limit IS
    'Workflows of the queue that may start in any rate_period, over all workers.';
COMMENT ON COLUMN lockstep.queue.rate_period IS
    'Length of the sliding window in which rate_limit counts.';
COMMENT ON COLUMN lockstep.queue.partition_concurrency IS
    'Workflows of one queue_partition_key that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.partition_rate_limit IS
    'Workflows of one queue_partition_key that may start in any partition_rate_period.';
COMMENT ON COLUMN lockstep.queue.partition_rate_period IS
    'Length of the sliding window in which partition_rate_limit counts.';
COMMENT ON COLUMN lockstep.queue.is_paused IS
    'Whether workers leave the queue alone.';
COMMENT ON COLUMN lockstep.queue.partition_cursor IS
    'Partition that had its turn last; the next claim goes on behind it.';
COMMENT ON COLUMN lockstep.queue.created_at IS
    'When the queue was created.';
