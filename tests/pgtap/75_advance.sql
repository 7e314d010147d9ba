-- One call does every part of a worker's protocol, in one commit.
BEGIN;
SELECT no_plan();

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at)
SELECT w.workflow_id, 'greet', 'q', 'PENDING', 'alice', 1, now()
FROM unnest(ARRAY['w', 'sleeps', 'waits', 'succeeds', 'fails']) AS w (workflow_id);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority)
VALUES ('new 1', 'greet', 'q', 1), ('new 2', 'greet', 'q', 2), ('new 3', 'greet', 'q', 3);
SELECT lockstep.send_message('w', '"hello"', 'greetings');

SELECT is(
    lockstep.advance_workflows('alice')::jsonb - 'now',
    '{
        "lost": [], "timers": null, "streams": null, "children": null, "messages": null, "receives": null,
        "awaits": null, "suspensions": null, "claimed": null, "claim_seconds": null,
        "claim_again_in": null
    }'::jsonb,
    'a call without changes returns the empty answer'
);
SELECT results_eq(
    $$SELECT count(*) FROM lockstep.workflow_status AS w WHERE w.status = 'ENQUEUED'$$, 'VALUES (3::bigint)',
    'a call that asks for no work claims none'
);

CREATE TEMPORARY TABLE answer AS
SELECT lockstep.advance_workflows('alice', '{
    "steps": [
        {"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "one", "output": 1},
        {"workflow_id": "lost step", "attempt": 1, "step_id": 1, "step_name": "one", "output": 1}
    ],
    "timers": [
        {"workflow_id": "sleeps", "attempt": 1, "step_id": 1, "step_name": "sleep", "delay": 3600},
        {"workflow_id": "lost timer", "attempt": 1, "step_id": 1, "step_name": "sleep", "delay": 3600}
    ],
    "events": [
        {"workflow_id": "w", "attempt": 1, "step_id": 2, "key": "state", "value": "advanced"},
        {"workflow_id": "lost event", "attempt": 1, "step_id": 1, "key": "state", "value": "advanced"}
    ],
    "messages": [
        {"workflow_id": "w", "attempt": 1, "step_id": 3, "destination_id": "new 1", "topic": "t", "message": 3},
        {"workflow_id": "w", "attempt": 1, "step_id": 4, "destination_id": "nowhere", "message": 4}
    ],
    "receives": [
        {"workflow_id": "w", "attempt": 1, "step_id": 5, "topic": "greetings"},
        {"workflow_id": "waits", "attempt": 1, "step_id": 1, "topic": "none", "timeout": 7200}
    ],
    "suspensions": [
        {"workflow_id": "sleeps", "attempt": 1, "step_ids": [1]},
        {"workflow_id": "waits", "attempt": 1, "step_ids": [1], "topics": ["none"]},
        {"workflow_id": "lost suspension", "attempt": 1, "step_ids": [1]}
    ],
    "outcomes": [
        {"workflow_id": "succeeds", "attempt": 1, "output": "done"},
        {"workflow_id": "fails", "attempt": 1, "error": {"type": "E", "message": "m"}},
        {"workflow_id": "lost outcome", "attempt": 1, "output": "done"}
    ]
}', 2)::jsonb AS answer;

SELECT results_eq(
    'SELECT k.part FROM answer AS a CROSS JOIN jsonb_object_keys(a.answer) AS k (part) ORDER BY k.part',
    $$
    VALUES
        ('awaits'), ('children'), ('claim_again_in'), ('claim_seconds'), ('claimed'), ('lost'), ('messages'), ('now'), ('receives'),
        ('streams'), ('suspensions'), ('timers')
    $$,
    'the answer has its documented parts and no other'
);
SELECT is(a.answer -> e.part, e.expected::jsonb, format('the answer tells %s', e.part))
FROM answer AS a
CROSS JOIN (
    VALUES
        ('lost', '["lost step", "lost event", "lost outcome"]'),
        ('timers', '[{"workflow_id": "sleeps", "step_id": 1, "remaining": 3600}]'),
        ('messages', '[{"workflow_id": "w", "step_id": 4, "outcome": "unknown_destination"}]'),
        (
            'receives',
            '[
                {"workflow_id": "w", "step_id": 5, "outcome": "received", "message": "\"hello\"", "remaining": null},
                {"workflow_id": "waits", "step_id": 1, "outcome": "waiting", "message": null, "remaining": 7200}
            ]'
        ),
        (
            'suspensions',
            '[
                {"workflow_id": "sleeps", "outcome": "suspended"},
                {"workflow_id": "waits", "outcome": "suspended"},
                {"workflow_id": "lost suspension", "outcome": "lost"}
            ]'
        ),
        (
            'claimed',
            '[
                {
                    "workflow_id": "new 1", "workflow_name": "greet", "queue_name": "q",
                    "inputs": "{\"namedArgs\": {}, \"positionalArgs\": []}", "headers": null, "attempt": 1, "steps": null,
                    "deadline_in": null, "priority": null, "available_at": null
                },
                {
                    "workflow_id": "new 2", "workflow_name": "greet", "queue_name": "q",
                    "inputs": "{\"namedArgs\": {}, \"positionalArgs\": []}", "headers": null, "attempt": 1, "steps": null,
                    "deadline_in": null, "priority": null, "available_at": null
                }
            ]'
        )
) AS e (part, expected);

SELECT results_eq(
    $$SELECT w.workflow_id, w.status FROM lockstep.workflow_status AS w ORDER BY w.workflow_id$$,
    $$
    VALUES
        ('fails', 'ERROR'), ('new 1', 'PENDING'), ('new 2', 'PENDING'), ('new 3', 'ENQUEUED'),
        ('sleeps', 'DELAYED'), ('succeeds', 'SUCCESS'), ('w', 'PENDING'), ('waits', 'WAITING')
    $$,
    'the call suspended, finished and claimed'
);
SELECT results_eq(
    $$
    SELECT o.workflow_id, o.step_id, o.step_name, o.output, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    ORDER BY o.workflow_id, o.step_id
    $$,
    $$
    VALUES
        ('sleeps', 1, 'sleep', NULL::jsonb, false), ('w', 1, 'one', '1', true), ('w', 2, 'set_event', NULL, true),
        ('w', 3, 'send', NULL, true), ('w', 5, 'receive', '"hello"', true), ('waits', 1, 'receive', NULL, false)
    $$,
    'the call recorded every step'
);
SELECT is(lockstep.get_event('w', 'state'), '"advanced"'::jsonb, 'the call published the event');
SELECT results_eq(
    $$SELECT n.message FROM lockstep.notifications AS n WHERE n.destination_id = 'new 1'$$, $$VALUES ('3'::jsonb)$$,
    'the call sent the message'
);

-- parts see those before them

SELECT is(
    lockstep.advance_workflows('alice', '{
        "steps": [{"workflow_id": "w", "attempt": 1, "step_id": 6, "step_name": "last", "output": 6}],
        "outcomes": [{"workflow_id": "w", "attempt": 1, "output": "done"}]
    }')::jsonb -> 'lost',
    '[]'::jsonb,
    'a workflow''s last step and its outcome fit in one call'
);
SELECT results_eq(
    $$SELECT g.output FROM lockstep.get_step('w', 6) AS g$$, $$VALUES ('6'::jsonb)$$,
    'the step before the outcome is recorded'
);

-- one part that fails fails the call

SELECT throws_ok(
    $$
    SELECT lockstep.advance_workflows('alice', '{
        "steps": [{"workflow_id": "new 1", "attempt": 1, "step_id": 1, "step_name": "one", "output": 1}],
        "outcomes": [{"workflow_id": "new 1", "attempt": 1, "output": 1, "error": {}}]
    }')
    $$,
    '23514', NULL, 'an impossible outcome is refused'
);
SELECT is_empty(
    $$SELECT g.* FROM lockstep.get_step('new 1', 1) AS g$$, 'a call that fails records nothing'
);

SELECT * FROM finish();
ROLLBACK;
