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
