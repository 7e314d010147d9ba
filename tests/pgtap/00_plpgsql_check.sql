-- Every function is what a static check of its body finds nothing in.
BEGIN;
SELECT no_plan();

CREATE EXTENSION IF NOT EXISTS plpgsql_check;

CREATE TEMPORARY VIEW routine AS
SELECT p.*, l.lanname, p.oid::regprocedure::text AS signature
FROM pg_proc AS p
INNER JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'lockstep'::regnamespace;

SELECT cmp_ok(count(*), '>=', 30::bigint, 'the schema has its functions')
FROM routine AS r
WHERE r.lanname = 'plpgsql';

-- A function that only raises must stay VOLATILE: the planner may evaluate an
-- IMMUTABLE one before the branch that guards it. One that locks rows must too; the
-- check does not see it where the query is an expression. What attaches a workflow composes
-- statements, with the rights of the caller who wrote their parts; only the owner writes
-- grants that wait for a commit.
SELECT is(
    (
        SELECT string_agg(format('line %s: %s: %s', c.lineno, c.level, c.message), E'\n')
        FROM plpgsql_check_function_tb(
            r.oid, coalesce(t.relid, 0), oldtable => t.oldtable, newtable => t.newtable,
            fatal_errors => false, all_warnings => true
        ) AS c
        WHERE NOT (
            c.message LIKE '%marked as VOLATILE%'
            AND (r.proname LIKE '\_refuse\_%' OR r.prosrc LIKE '%FOR NO KEY UPDATE SKIP LOCKED%')
        )
            AND NOT (
                r.proname IN ('_attachment_problem', '_place_triggers', '_grant_at_commit')
                AND c.message ~ 'is not sanitized|result of dynamic SQL|never read variable "r_nothing"'
            )
    ),
    NULL::text,
    format('plpgsql_check finds nothing in %s', r.signature)
)
FROM routine AS r
LEFT JOIN (
    VALUES
        (false, 'lockstep.queue'::regclass, 'old_rows'::name, 'new_rows'::name),
        (true, 'lockstep.pending_grant'::regclass, NULL, NULL)
) AS t (is_internal, relid, oldtable, newtable)
    ON r.prorettype = 'trigger'::regtype
        AND r.proname LIKE '\_%' = t.is_internal
WHERE r.lanname = 'plpgsql'
ORDER BY r.signature;

SELECT * FROM finish();
ROLLBACK;
