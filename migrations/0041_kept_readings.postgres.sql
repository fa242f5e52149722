-- Which readings are gone. Roll-ups stay when the raw readings under them are dropped, so a question that needs the readings must be told.
-- Who drops readings says so, in the transaction that drops them; upkeep says it beforehand as well, for a question that runs sees the
-- state of before, but no longer the partition.

CREATE TABLE kept_readings (
    domain        text PRIMARY KEY,
    kept_from     timestamptz NOT NULL,
    announced_at  timestamptz NOT NULL
);
COMMENT ON TABLE kept_readings IS 'Domains of which readings were dropped: those before kept_from are gone, or are about to be';

CREATE FUNCTION telemetry_keep_from(of_domain text, instant timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO kept_readings AS k VALUES (of_domain, instant, now())
    ON CONFLICT (domain) DO UPDATE SET kept_from = excluded.kept_from, announced_at = excluded.announced_at
    WHERE k.kept_from < excluded.kept_from
$$;

-- The partitions that ended before the instant.
CREATE FUNCTION telemetry_due_partitions(domain text, before timestamptz) RETURNS TABLE (name text, ends timestamptz) LANGUAGE sql STABLE AS $$
    WITH partitions AS MATERIALIZED (
        SELECT c.relname::text AS name
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = (domain || '_readings')::regclass AND c.relname ~ '_\d{8}$'
    ), days AS (
        SELECT name, (to_date(right(name, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' AS ends FROM partitions
    )
    SELECT name, ends FROM days WHERE ends <= before
$$;

-- Drops the partitions that ended before the instant, and says so. Returns their names.
CREATE OR REPLACE FUNCTION telemetry_drop_partitions(domain text, before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    due record;
BEGIN
    FOR due IN SELECT * FROM telemetry_due_partitions(domain, before) LOOP
        PERFORM telemetry_keep_from(domain, due.ends);
        EXECUTE format('DROP TABLE %I', due.name);
        RETURN NEXT due.name;
    END LOOP;
END $$;

-- What was dropped until now shows in the roll-ups, which begin earlier than the readings then: up to the last such day. Upkeep has taken days for covered by cells
-- of counters whose readings were gone by then; cells are believed from the oldest one on, at the latest from where readings begin.
DO $$
DECLARE
    installed text;
    oldest timestamptz;
    oldest_cell timestamptz;
    dropped_until timestamptz;
BEGIN
    FOR installed IN SELECT name FROM telemetry_domains LOOP
        oldest := coalesce(
            (SELECT min(starts) FROM telemetry_row_estimates(installed) WHERE relation = 'readings'), date_trunc('day', now()));
        EXECUTE format('SELECT date_trunc(''day'', max(bucket), ''UTC'') + interval ''24 hours'' FROM %I WHERE bucket < $1',
                       installed || '_15m') INTO dropped_until USING oldest;
        CONTINUE WHEN dropped_until IS NULL;
        PERFORM telemetry_keep_from(installed, dropped_until);
        CONTINUE WHEN NOT EXISTS (SELECT FROM counter_coverage WHERE domain = installed);
        EXECUTE format('SELECT min(bucket) FROM %I', installed || '_counters_15m') INTO oldest_cell;
        UPDATE counter_coverage SET covered_from = greatest(covered_from, least(oldest, oldest_cell)) WHERE domain = installed;
    END LOOP;
END $$;
