-- Escapes a text for a quoted label of Mermaid, whose entities begin with a number sign.
CREATE OR REPLACE FUNCTION lockstep._mermaid_text(p_text text)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT replace(replace(replace(replace(replace(replace(replace(
        p_text, '#', '#35;'), '&', '#amp;'), '"', '#quot;'), '<', '#lt;'), '>', '#gt;'), '`', '#96;'), E'\\', '#92;');
END;
COMMENT ON FUNCTION lockstep._mermaid_text(text) IS
    'Escapes a text for a quoted label of Mermaid.';
