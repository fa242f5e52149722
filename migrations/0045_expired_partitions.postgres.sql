-- A partition is detached concurrently before it is dropped: DROP TABLE of a partition locks its parent against everybody, and where one
-- question runs for long, it waits, and every question and every COPY behind it. Detaching cannot run in a function, so maintain does it.
-- telemetry_drop_partitions stays for releases of before.

-- What ended before the instant: partitions, those of which a detach was begun, and tables that were detached to be dropped, which
-- maintain marks with a comment.
CREATE FUNCTION telemetry_expired_partitions(domain text, before timestamptz, mark text)
RETURNS TABLE (name text, ends timestamptz, state text) LANGUAGE sql STABLE AS $$
    WITH parent AS (
        SELECT oid, relnamespace, relname || '_\d{8}' AS pattern FROM pg_class WHERE oid = (domain || '_readings')::regclass
    ), found AS MATERIALIZED (
        SELECT c.relname::text AS name, CASE WHEN i.inhdetachpending THEN 'detaching' ELSE 'attached' END AS state
        FROM parent AS p JOIN pg_inherits AS i ON i.inhparent = p.oid JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE c.relname ~ ('^' || p.pattern || '$')
        UNION ALL
        SELECT c.relname, 'detached'
        FROM parent AS p JOIN pg_class AS c ON c.relnamespace = p.relnamespace AND c.relname ~ ('^' || p.pattern || '$')
        WHERE NOT c.relispartition AND obj_description(c.oid, 'pg_class') = mark
    ), dated AS (
        SELECT f.name, f.state, (to_date(right(f.name, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' AS ends FROM found AS f
    )
    SELECT name, ends, state FROM dated WHERE ends <= before ORDER BY ends
$$;
