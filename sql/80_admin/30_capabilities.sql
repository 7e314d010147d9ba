-- The privilege matrix: which functions each capability may execute.
--
-- worker includes client, admin includes both; viewer reads the tables. One
-- page, so that a new function without a line here is noticed: a test compares
-- it with the catalog.
CREATE OR REPLACE FUNCTION lockstep._capabilities()
RETURNS TABLE (capability text, function_name text)
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT c.capability, c.function_name
    FROM (
        VALUES
            ('client', 'enqueue_workflow'),
            ('client', 'enqueue_workflows'),
            ('client', 'send_message'),
            ('client', 'send_messages'),
            ('client', 'get_event'),
            ('client', 'get_workflow'),
            ('client', 'read_stream'),
            ('client', 'watch_workflows'),
            ('client', 'check_watches'),
            ('client', 'fire_event'),
            ('client', 'list_transitions'),
            ('client', 'newest_version'),
            ('client', 'version'),
            ('worker', 'register_executor'),
            ('worker', 'unregister_executor'),
            ('worker', 'heartbeat'),
            ('worker', 'claim_workflows'),
            ('worker', 'record_step'),
            ('worker', 'record_steps'),
            ('worker', 'get_step'),
            ('worker', 'start_timers'),
            ('worker', 'start_children'),
            ('worker', 'await_workflows'),
            ('worker', 'set_events'),
            ('worker', 'write_streams'),
            ('worker', 'set_progress'),
            ('worker', 'send_step_messages'),
            ('worker', 'receive_messages'),
            ('worker', 'suspend_workflows'),
            ('worker', 'finish_workflows'),
            ('worker', 'advance_workflows'),
            ('worker', 'pulse'),
            ('worker', 'release_workflows'),
            ('worker', 'recover_workflows'),
            ('worker', 'promote_due_workflows'),
            ('worker', 'declare_schedules'),
            ('worker', 'due_schedules'),
            ('worker', 'start_ticks'),
            ('worker', 'start_backfill'),
            ('admin', 'list_workflows'),
            ('admin', 'list_steps'),
            ('admin', 'explain_workflow'),
            ('admin', 'cancel_workflow'),
            ('admin', 'cancel_workflows'),
            ('admin', 'resume_workflow'),
            ('admin', 'resume_workflows'),
            ('admin', 'restart_workflow'),
            ('admin', 'restart_workflows'),
            ('admin', 'fork_workflow'),
            ('admin', 'set_priority'),
            ('admin', 'set_priorities'),
            ('admin', 'move_workflow'),
            ('admin', 'move_workflows'),
            ('admin', 'fast_forward'),
            ('admin', 'purge_workflows'),
            ('admin', 'list_queues'),
            ('admin', 'create_queue'),
            ('admin', 'alter_queue'),
            ('admin', 'drop_queue'),
            ('admin', 'pause_queue'),
            ('admin', 'unpause_queue'),
            ('admin', 'create_state_machine'),
            ('admin', 'add_transition'),
            ('admin', 'attach_state_machine'),
            ('admin', 'detach_state_machine'),
            ('admin', 'record_transition'),
            ('admin', 'state_machine_diagram'),
            ('admin', 'purge_state_history'),
            ('admin', 'schedule_workflow'),
            ('admin', 'unschedule_workflow'),
            ('admin', 'pause_schedule'),
            ('admin', 'unpause_schedule'),
            ('admin', 'list_schedules'),
            ('admin', 'trigger_schedule'),
            ('admin', 'backfill_schedule'),
            ('admin', 'grant_usage')
    ) AS c (capability, function_name);
END;
COMMENT ON FUNCTION lockstep._capabilities() IS
    'The privilege matrix: which functions each capability may execute.';
