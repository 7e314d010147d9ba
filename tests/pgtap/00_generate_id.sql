-- Generated ids: UUIDs of version 7 that sort by the time in them.
BEGIN;
SELECT no_plan();

-- The milliseconds since 1970 that an id begins with.
CREATE FUNCTION pg_temp.milliseconds_in(p_id text)
RETURNS bigint
LANGUAGE sql
AS $$ SELECT ('x' || lpad(left(replace(p_id, '-', ''), 12), 16, '0'))::bit(64)::bigint $$;

CREATE TEMPORARY TABLE generated AS
SELECT t.at, lockstep._generate_id(t.at) AS id
FROM (
    VALUES
        ('1970-01-01 00:00:00+00'::timestamptz),
        ('1970-01-01 00:00:00.000001+00'),
        ('1970-01-01 00:00:00.000999+00'),
        ('1970-01-01 00:00:00.001+00'),
        ('1970-12-31 23:59:59.999999+00'),
        ('2026-01-01 00:00:00+00'),
        ('2026-07-03 12:34:56.123+00'),
        ('2026-07-03 12:34:56.123999+00'),
        ('2026-12-31 23:59:59.999999+00'),
        ('2200-01-01 00:00:00+00'),
        ('2200-01-01 00:00:00.123+00'),
        ('2200-12-31 23:59:59.999999+00')
) AS t (at);
SELECT matches(
    g.id, '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
    format('the id for %s is a UUID of version 7 and of the RFC''s variant', g.at)
)
FROM generated AS g;
SELECT is(length(g.id), 36, format('the id for %s has 36 characters', g.at)) FROM generated AS g;
SELECT is(
    pg_temp.milliseconds_in(g.id), floor(extract(epoch FROM g.at) * 1000)::bigint,
    format('the id for %s begins with that time in milliseconds', g.at)
)
FROM generated AS g;
SELECT is_empty(
    $$
    SELECT n.at, n.id
    FROM (
        SELECT g.at, g.id, lag(g.id) OVER (ORDER BY g.at) AS id_before
        FROM generated AS g
    ) AS n
    WHERE n.id COLLATE "C" <= n.id_before
    $$,
    'ids sort by their times'
);

-- all of a second, also where a double holds no more than its microseconds
SELECT is_empty(
    format(
        $$
        SELECT n.at, n.id
        FROM (
            SELECT t.at, i.id, lag(i.id) OVER (ORDER BY t.at) AS id_before
            FROM generate_series(%1$L::timestamptz, %1$L::timestamptz + interval '5 ms', '1 us') AS t (at)
            CROSS JOIN LATERAL lockstep._generate_id(t.at) AS i (id)
        ) AS n
        WHERE n.id COLLATE "C" <= n.id_before
            OR pg_temp.milliseconds_in(n.id) <> floor(extract(epoch FROM n.at) * 1000)
        $$,
        b.begins_at
    ),
    format('every microsecond after %s has its millisecond, and its place among the others', b.begins_at)
)
FROM unnest(ARRAY['1970-01-01 00:00+00', '2026-07-03 12:34:56+00', '2200-12-31 23:59:58+00']) AS b (begins_at);

-- the time of the call is the default, as it goes on within a transaction

CREATE TEMPORARY TABLE consecutive AS
SELECT g.place, lockstep._generate_id() AS id
FROM generate_series(1, 10000) AS g (place);
SELECT is_empty(
    $$
    SELECT n.id
    FROM (
        SELECT c.id, lag(c.id) OVER (ORDER BY c.place) AS id_before
        FROM consecutive AS c
    ) AS n
    WHERE left(n.id, 18) COLLATE "C" < left(n.id_before, 18)
    $$,
    'of the ids that one transaction generates, none is earlier than the one before'
);
SELECT is(
    (
        SELECT count(*) - count(DISTINCT left(c.id, 18))
        FROM consecutive AS c
        WHERE c.place % 1000 = 0
    ),
    0::bigint,
    'the ids of one transaction have the times of their calls, not that of its start'
);
SELECT isnt(
    lockstep._generate_id('2026-01-01'), lockstep._generate_id('2026-01-01'),
    'two ids of one moment differ'
);

SELECT * FROM finish();
ROLLBACK;
