-- What started lately in queues with a rate limit: a row per claim, and per partition if
-- these have a rate of their own. The counts run on, so that how many started in a
-- window is a difference of two rows, however many there are between them.
CREATE TABLE lockstep.queue_start (
    queue_name text NOT NULL,
    is_partition boolean NOT NULL,
    partition_key text NOT NULL,
    started_at timestamptz NOT NULL,
    count_before bigint NOT NULL,
    count_after bigint NOT NULL,

    CONSTRAINT queue_start_pkey PRIMARY KEY (queue_name, is_partition, partition_key, started_at),

    CONSTRAINT queue_start_key_only_of_partition_check CHECK (is_partition OR partition_key = ''),
    CONSTRAINT queue_start_count_grows_check CHECK (count_after > count_before)
);

-- _log_starts() removes what has left the window, of partitions too that start nothing more
CREATE INDEX queue_start_expired_idx
ON lockstep.queue_start (queue_name, is_partition, started_at);

COMMENT ON TABLE lockstep.queue_start IS
    'What started lately in queues with a rate limit.';
COMMENT ON COLUMN lockstep.queue_start.queue_name IS
    'Name of the queue.';
COMMENT ON COLUMN lockstep.queue_start.is_partition IS
    'Whether the row counts one partition of the queue; else the queue as a whole.';
COMMENT ON COLUMN lockstep.queue_start.partition_key IS
    'Partition that is counted; empty for workflows without a key and for the whole queue.';
COMMENT ON COLUMN lockstep.queue_start.started_at IS
    'When the workflows started.';
COMMENT ON COLUMN lockstep.queue_start.count_before IS
    'Workflows started before these, as far back as is known.';
COMMENT ON COLUMN lockstep.queue_start.count_after IS
    'The same with these.';
