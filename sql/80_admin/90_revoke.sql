-- Nothing is PUBLIC's: grant_usage() is the only way in.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lockstep FROM public;
REVOKE ALL ON ALL TABLES IN SCHEMA lockstep FROM public;
