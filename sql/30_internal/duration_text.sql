-- Writes a duration for people, to two places: 340 ms, 2.5 s, 3 min 20 s, 5 h 3 min, 2 d 4 h.
CREATE OR REPLACE FUNCTION lockstep._duration_text(p_duration interval)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN s.seconds < 0.9995 THEN format('%s ms', round(s.seconds * 1000))
        WHEN s.seconds < 60 THEN format('%s s', round(s.seconds, 1))
        WHEN s.seconds < 3600 THEN format('%s min %s s', div(s.seconds, 60), div(s.seconds % 60, 1))
        WHEN s.seconds < 86400 THEN format('%s h %s min', div(s.seconds, 3600), div(s.seconds % 3600, 60))
        ELSE format('%s d %s h', div(s.seconds, 86400), div(s.seconds % 86400, 3600))
    END
    FROM (SELECT greatest(extract(EPOCH FROM p_duration)::numeric, 0) AS seconds) AS s
    WHERE p_duration IS NOT NULL;
END;
COMMENT ON FUNCTION lockstep._duration_text(interval) IS
    'Writes a duration for people.';
