-- Dropping partitions read a day out of the name of every relation of the database whenever the planner looked at pg_class first, and
-- failed on the first name that has none. The names of the partitions are taken first now.

CREATE OR REPLACE FUNCTION telemetry_drop_partitions(domain text, before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN
        WITH partitions AS MATERIALIZED (
            SELECT c.relname
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = (domain || '_readings')::regclass
        )
        SELECT relname FROM partitions
        WHERE (to_date(right(relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= before
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
        RETURN NEXT partition;
    END LOOP;
END $$;
