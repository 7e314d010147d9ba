-- Built by make from sql/. Do not edit.
\echo Use "ALTER EXTENSION lockstep UPDATE" to load this file. \quit

-- sql/95_update/10_owner.sql

-- Opens every update, and the adoption of a plain-SQL install.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Whoever runs it owns what it creates, and runs what is there: it has to be the
-- owner. A superuser's new functions would run with a superuser's rights for everybody who
-- may call them, and what others put into the schema could stand in for ours.
DO $$
DECLARE
    v_owner constant name := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
    v_foreign text := (
        SELECT format('%s of %s', pg_describe_object(o.class_id, o.object_id, 0), pg_get_userbyid(o.owner_id))
        FROM (
            SELECT 'pg_catalog.pg_class'::regclass AS class_id, c.oid AS object_id, c.relowner AS owner_id
            FROM pg_catalog.pg_class AS c
            WHERE c.relnamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_proc'::regclass, p.oid, p.proowner
            FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typowner
            FROM pg_catalog.pg_type AS t
            WHERE t.typnamespace = 'lockstep'::regnamespace
        ) AS o
        WHERE pg_get_userbyid(o.owner_id) <> v_owner
        ORDER BY o.object_id
        LIMIT 1
    );
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'lockstep belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Do this as its owner: SET ROLE %I.', v_owner);
    ELSIF v_foreign IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" holds what others own'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('There is %s.', v_foreign),
                  HINT = 'Drop it, and let nobody else create objects in the schema.';
    END IF;
END
$$;

-- sql/95_update/40_adopt.sql

SET CONSTRAINTS lockstep.pending_grant_at_commit DEFERRED;

-- Makes what plain SQL installed the extension's: every function, table and view of this
-- version, and nothing else that is in the schema.
--
-- An object that joins an extension brings its grants along as the extension's own, and
-- pg_dump leaves those out. So they are taken away before, and granted again at the commit.
DO $$
DECLARE
    v_functions constant text[] := string_to_array('_adjust_cron_job _announce _attachment_of _attachment_problem _await _await_writes _awaited_by_held _caller _cancel_tree _capabilities _change_workflows _checked_filter _claim _cron_job_command _cron_problem _cron_terms _debounce_workflows _deduplication_rival _drop_cron_job _duration_text _enqueue_compensations _enqueue_many_problem _enqueue_problem _error_document _explain_as_mermaid _explain_as_text _explained_steps _explained_workflow _filter_problem _find_workflows _forget_failures _generate_id _grant_at_commit _hold_executor _is_alive _is_announced _is_cancelled_here _is_held _is_open_entry _is_open_to_caller _is_suspect _is_too_large _log_starts _may_see _may_start_suspect _may_use_pg_cron _mermaid_text _move_problem _name_problem _newest_workflows _next_partition_in _next_tick_in _one_line _pg_cron_refusal _place_triggers _pull_back_starts _queue_problem _rate_room _ready _ready_in_limited_queue _ready_in_partition _ready_in_partitions _ready_in_queues _ready_suspect_in_partitions _recorded_steps _refuse_rival _refuse_state _refuse_unknown_queue _refuse_unknown_schedule _refuse_unknown_workflow _rerun_problem _restart _retries_problem _retry_pause _ring_doorbell _ring_for_free_places _ring_for_schedules _schedule_problem _send_problem _settle_ended _size_problem _start_tick _start_tick_of_job _state_machine_of _state_machine_version _step_status _stretches _switch_row_security _system_id _take_move _tick_id _tick_text _timeline _turn_of_suspects _wait_for_standby _wake_waiters _wake_workflows _write_queue add_transition advance_workflows alter_queue attach_state_machine attach_workflow await_workflows backfill_schedule cancel_workflow cancel_workflows check_watches claim_workflows create_queue create_state_machine declare_queue declare_schedules detach_state_machine detach_workflow disable_tenant_isolation drop_queue due_schedules enable_tenant_isolation enqueue_rows enqueue_workflow enqueue_workflows explain_workflow fail_too_large fast_forward finish_workflows fire_event fork_workflow get_event get_step get_workflow grant_usage heartbeat list_queues list_schedules list_steps list_transitions list_workflows move_workflow move_workflows newest_machine_version pause_queue pause_schedule promote_due_workflows pulse purge_state_history purge_workflows read_stream receive_messages reconcile_workflows record_move record_step record_steps record_transition recover_workflows register_executor release_workflows restart_workflow restart_workflows resume_workflow resume_workflows schedule_workflow send_message send_messages send_step_messages set_events set_priorities set_priority set_progress start_backfill start_children start_ticks start_timers state_machine_diagram state_machine_triggers suspend_workflows trigger_schedule unpause_queue unpause_schedule unregister_executor unschedule_workflow version watch_workflows write_streams', ' ');
    v_relations constant text[] := string_to_array('executor notifications operation_outputs pending_grant queue queue_start schedule state_history state_machine state_move state_transition tenant_isolation waiter workflow_events workflow_status workflow_streams attached_state_machines attachments unserved_workflows', ' ');
    v_missing text;
    r_member record;
    r_grant record;
BEGIN
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    INTO v_missing
    FROM (
        SELECT f.name
        FROM unnest(v_functions) AS f (name)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = 'lockstep'::regnamespace
                AND p.proname = f.name
        )
        UNION ALL
        SELECT r.name
        FROM unnest(v_relations) AS r (name)
        WHERE to_regclass('lockstep.' || r.name) IS NULL
    ) AS n;
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" is not as lockstep 0.2.0 made it'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It lacks %s.', v_missing);
    END IF;

    FOR r_member IN
        SELECT 'FUNCTION' AS kind, p.oid::regprocedure::text AS name, 0 AS relation_id, p.proowner AS owner_id, p.proacl AS acl
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND p.proname = ANY (v_functions)
        UNION ALL
        SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, c.oid, c.relowner, c.relacl
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relname = ANY (v_relations)
        ORDER BY 1, 2
    LOOP
        FOR r_grant IN
            SELECT
                a.privilege_type AS privilege,
                CASE r_member.kind WHEN 'FUNCTION' THEN 'FUNCTION' ELSE 'TABLE' END AS kind,
                CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END AS grantee,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS grant_option
            FROM aclexplode(r_member.acl) AS a
            WHERE a.grantee <> r_member.owner_id
            UNION ALL
            SELECT
                format('%s (%I)', a.privilege_type, t.attname),
                'TABLE',
                CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            FROM pg_catalog.pg_attribute AS t
            CROSS JOIN LATERAL aclexplode(t.attacl) AS a
            WHERE t.attrelid = r_member.relation_id
                AND a.grantee <> r_member.owner_id
        LOOP
            INSERT INTO lockstep.pending_grant (grant_statement)
            VALUES (
                format(
                    'GRANT %s ON %s %s TO %s%s',
                    r_grant.privilege, r_grant.kind, r_member.name, r_grant.grantee, r_grant.grant_option
                )
            )
            ON CONFLICT DO NOTHING;  -- several may have granted the same
            EXECUTE format(
                'REVOKE %s ON %s %s FROM %s CASCADE',
                r_grant.privilege, r_grant.kind, r_member.name, r_grant.grantee
            );
        END LOOP;

        EXECUTE format('ALTER EXTENSION lockstep ADD %s %s', r_member.kind, r_member.name);
    END LOOP;
END
$$;

-- sql/90_extension.sql

-- What only an extension can do: have pg_dump save the rows of its tables. A
-- table that is missing here comes back empty from a restore, without a warning.
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_status', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.operation_outputs', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.notifications', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_events', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_streams', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.waiter', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.queue', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.queue_start', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.executor', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_machine', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_transition', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_history', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_move', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.pending_grant', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.tenant_isolation', '');
