-- TimescaleDB: a hypertable per domain with a columnstore; roll-ups are hierarchical continuous aggregates, real-time.

CREATE PROCEDURE telemetry_create_storage(domain text) LANGUAGE plpgsql AS $$
DECLARE
    readings text := domain || '_readings';
BEGIN
    PERFORM create_hypertable(readings::regclass, by_range('time', interval '1 day'), create_default_indexes => false);
    EXECUTE format(
        'ALTER TABLE %I SET (timescaledb.enable_columnstore, timescaledb.segmentby = ''device_key'', timescaledb.orderby = ''time'')',
        readings);
END $$;

CREATE FUNCTION telemetry_first(metric text, type text, at text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('first(%1$I, %2$I) FILTER (WHERE %1$I IS NOT NULL)', metric, at)
$$;

CREATE FUNCTION telemetry_last(metric text, type text, at text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('last(%1$I, %2$I) FILTER (WHERE %1$I IS NOT NULL)', metric, at)
$$;

CREATE FUNCTION telemetry_bucket(width text, at text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE width
        WHEN '15m' THEN format('time_bucket(''15 minutes'', %I)', at)
        WHEN '1h' THEN format('time_bucket(''1 hour'', %I)', at)
        WHEN '1d' THEN format('time_bucket(''1 day'', %I, %L)', at, (SELECT value FROM telemetry_meta WHERE key = 'timezone'))
    END
$$;

CREATE PROCEDURE telemetry_create_roll_up(name text, query text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE MATERIALIZED VIEW %I WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS %s WITH NO DATA',
        name, query);
END $$;

CREATE FUNCTION telemetry_ensure_partitions(domain text, days date[]) RETURNS int LANGUAGE sql AS $$
    SELECT 0 -- chunks are made on insert
$$;

CREATE PROCEDURE telemetry_apply_policies(domain text, retention interval, columnstore_after interval) LANGUAGE plpgsql AS $$
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
    PERFORM add_retention_policy(readings, drop_after => retention);
END $$;
