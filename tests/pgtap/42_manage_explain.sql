-- How explain_workflow() draws a workflow.
BEGIN;
SELECT no_plan();
SET LOCAL timezone = 'UTC';

INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, attempts, started_at, completed_at, available_at,
    waiting_for, parent_workflow_id, error, executor_id, created_at, failures
)
VALUES
    ('w', 'order', 'q', 'WAITING', 2, '2026-01-01', NULL, '2026-01-03', '{message:ok}', NULL, NULL, NULL, '2026-01-01', 0),
    ('c1', 'pack', 'q', 'ERROR', 1, '2026-01-01', '2026-01-01 00:00:02.5', '2026-01-01', NULL, 'w', '{"type": "E", "message": "no stock"}', 'x', '2026-01-01', 1),
    ('c2', 'ship', 'q', 'ENQUEUED', 0, NULL, NULL, '2026-01-01 00:01:00', NULL, 'w', NULL, NULL, '2026-01-01', 0),
    ('c3', 'lockstep.compensate', 'q', 'PENDING', 1, '2026-01-01 00:02:00', NULL, '2026-01-01 00:02:00', NULL, 'c1', NULL, 'x', '2026-01-01', 0);
INSERT INTO lockstep.operation_outputs (
    workflow_id, step_id, step_name, error, attempts, started_at, completed_at, available_at, child_workflow_id
)
VALUES
    ('w', 1, 'charge', NULL, 3, '2026-01-01', '2026-01-01 00:00:00.34', NULL, NULL),
    ('w', 2, 'pack', '{"type": "E", "message": "no stock"}', 1, '2026-01-01', '2026-01-01 00:03:20', NULL, 'c1'),
    ('w', 65536 + 3, 'ship', NULL, 1, '2026-01-01', '2026-01-01 05:03:20', NULL, 'c2'),
    ('w', 4, 'result', NULL, 0, '2026-01-01', '2026-01-03 04:00:00', NULL, 'c2'),
    ('w', 5, 'call bank', '{"type": "E", "message": "busy"}', 2, '2026-01-01', NULL, '2026-01-03', NULL),
    ('w', 6, 'receive', NULL, 0, '2026-01-01', NULL, NULL, NULL),
    ('c1', 1, 'x', NULL, 1, '2026-01-01', '2026-01-01 00:00:59.97', NULL, 'elsewhere');

SELECT is(
    lockstep.explain_workflow('w'),
    '⏳ order (w): WAITING, for message:ok, until 2026-01-03 00:00:00 UTC, 2 attempts
├─ ✓ 1 charge: 340 ms, 3 attempts
├─ ✗ 2 pack: 3 min 20 s, E: no stock
│  └─ ✗ pack (c1): ERROR, 2.5 s, E: no stock
│     ├─ ✓ 1 x: 60.0 s, workflow elsewhere
│     └─ ↩ undone by
│        └─ ▶ lockstep.compensate (c3): PENDING, since 2026-01-01 00:02:00 UTC on x
├─ ✓ 65539 ship: 5 h 3 min
│  └─ ◌ ship (c2): ENQUEUED, in queue q since 2026-01-01 00:01:00 UTC
├─ ✗ 4 result: 2 d 4 h, timed out, workflow c2
├─ ⏳ 5 call bank: attempt 2 failed, waits until 2026-01-03 00:00:00 UTC, E: busy
└─ ⏳ 6 receive: waits',
    'a workflow is drawn as a tree of its steps and children'
);
SELECT is(
    lockstep.explain_workflow('c1', 'mermaid'),
    'flowchart TD
    w(["✗ pack (c1)<br>ERROR, 2.5 s, E: no stock"])
    w_1["✓ 1 x<br>60.0 s, workflow elsewhere"]
    w --> w_1
    w_2["↩ undone by"]
    w_1 --> w_2
    w_2_w(["▶ lockstep.compensate (c3)<br>PENDING, since 2026-01-01 00:02:00 UTC on x"])
    w_2 -.-> w_2_w',
    'a workflow is drawn as a flowchart'
);
SELECT is(
    lockstep.explain_workflow('w', 'mermaid') ~ 'w_2 --> w_3.*w_2 --> w_4', true,
    'a branch and the main branch begin at the same step'
);

-- what users name

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
VALUES (E'evil\n└─ ✓ 1 fake', E'a"]\nclick w "javascript:x" <b>#quot;`\\', 'q');
SELECT is(
    regexp_count, 0, 'a name cannot add lines'
)
FROM (
    SELECT count(*)::int - 1 AS regexp_count
    FROM string_to_table(lockstep.explain_workflow(E'evil\n└─ ✓ 1 fake'), E'\n')
) AS l;
SELECT alike(
    lockstep.explain_workflow(E'evil\n└─ ✓ 1 fake', 'mermaid'),
    E'flowchart TD\n    w(["◌ a#quot;] click w #quot;javascript:x#quot; #lt;b#gt;#35;quot;#96;#92; (evil └─ ✓ 1 fake)<br>%"])',
    'a name cannot leave its label'
);
SELECT is(lockstep._one_line(repeat('x', 300)), repeat('x', 199) || '…', 'a long text is shortened');
SELECT is(lockstep._one_line(E'a\u2028b\u202ec\td'), 'a b c d', 'what separates or turns lines becomes a blank');

-- cycles, depth and length

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, parent_workflow_id)
VALUES ('cycle 1', 'x', 'q', 'cycle 2'), ('cycle 2', 'x', 'q', 'cycle 1');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, started_at, completed_at, child_workflow_id)
VALUES ('cycle 1', 1, 's', now(), now(), 'cycle 2'), ('cycle 2', 1, 's', now(), now(), 'cycle 1');
SELECT is(
    (SELECT count(*)::int FROM string_to_table(lockstep.explain_workflow('cycle 1'), E'\n')), 6, 'a cycle is drawn once'
);
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, started_at, completed_at)
SELECT 'c2', n, 's', now(), now() FROM generate_series(1, 1005) AS n;
SELECT alike(lockstep.explain_workflow('c2'), '%└─ … 5 more steps', 'a very long workflow is cut short');
SELECT is(
    lockstep._duration_text(d.duration), d.expected, format('%s is written as %s', d.duration, d.expected)
)
FROM (
    VALUES
    (interval '0', '0 ms'), ('-1 s', '0 ms'), ('999.4 ms', '999 ms'), ('999.6 ms', '1.0 s'), ('59.9 s', '59.9 s'),
    ('60 s', '1 min 0 s'), ('59 min 59 s', '59 min 59 s'), ('1 h', '1 h 0 min'), ('100 d', '100 d 0 h'), (NULL, NULL)
) AS d (duration, expected);

SELECT * FROM finish();
ROLLBACK;
