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

-- The chunks that ended before the instant.
CREATE FUNCTION telemetry_due_partitions(domain text, before timestamptz) RETURNS TABLE (name text, ends timestamptz) LANGUAGE sql STABLE AS $$
    SELECT chunk_name::text, range_end FROM timescaledb_information.chunks
    WHERE hypertable_name = domain || '_readings' AND range_end <= before
$$;

-- Drops the chunks that ended before the instant, and says so. Returns their names.
CREATE FUNCTION telemetry_drop_partitions(domain text, before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    due record;
BEGIN
    FOR due IN SELECT * FROM telemetry_due_partitions(domain, before) LOOP
        PERFORM telemetry_keep_from(domain, due.ends);
        RETURN NEXT due.name;
    END LOOP;
    PERFORM drop_chunks((domain || '_readings')::regclass, older_than => before);
END $$;

-- Retention is the work of maintain on this engine, too, for a policy tells nobody what it drops.
CREATE OR REPLACE PROCEDURE telemetry_apply_policies(domain text, retention interval, columnstore_after interval) LANGUAGE plpgsql AS $$
DECLARE
    readings regclass := (domain || '_readings')::regclass;
    level record;
BEGIN
    -- maintain refreshes what late data touched; these keep the aggregates moving when it is away.
    FOR level IN
        SELECT l.name, s.reach, s.lag
        FROM telemetry_roll_up_levels(domain) AS l
        JOIN (VALUES ('15m', interval '1 day', interval '15 minutes'),
                     ('1h', interval '3 days', interval '1 hour'),
                     ('1d', interval '7 days', interval '1 day')) AS s (width, reach, lag) USING (width)
    LOOP
        PERFORM remove_continuous_aggregate_policy(level.name::regclass, if_exists => true);
        PERFORM add_continuous_aggregate_policy(level.name::regclass, start_offset => level.reach, end_offset => level.lag,
                                                schedule_interval => least(level.lag, interval '1 hour'));
    END LOOP;
    CALL remove_columnstore_policy(readings, if_exists => true);
    CALL add_columnstore_policy(readings, after => columnstore_after);
    PERFORM remove_retention_policy(readings, if_exists => true);
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
