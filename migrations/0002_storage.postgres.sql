-- Plain PostgreSQL: a partition per UTC day, created ahead; roll-ups are tables that maintain recomputes from late_ranges.

CREATE PROCEDURE telemetry_create_storage(domain text) LANGUAGE plpgsql AS $$
DECLARE
    readings text := domain || '_readings';
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (time)', readings || '_new', readings);
    EXECUTE format('DROP TABLE %I', readings);
    EXECUTE format('ALTER TABLE %I RENAME TO %I', readings || '_new', readings);
    EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', readings, readings || '_new_pkey', readings || '_pkey');
END $$;

CREATE FUNCTION telemetry_first(metric text, type text, at text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN type = 'double precision'
            THEN format('(min(ARRAY[date_part(''epoch'', %2$I), %1$I]) FILTER (WHERE %1$I IS NOT NULL))[2]', metric, at)
        ELSE format('(array_agg(%1$I ORDER BY %2$I) FILTER (WHERE %1$I IS NOT NULL))[1]', metric, at)
    END
$$;

CREATE FUNCTION telemetry_last(metric text, type text, at text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN type = 'double precision'
            THEN format('(max(ARRAY[date_part(''epoch'', %2$I), %1$I]) FILTER (WHERE %1$I IS NOT NULL))[2]', metric, at)
        ELSE format('(array_agg(%1$I ORDER BY %2$I DESC) FILTER (WHERE %1$I IS NOT NULL))[1]', metric, at)
    END
$$;

CREATE FUNCTION telemetry_bucket(width text, at text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE width
        WHEN '15m' THEN format('date_bin(''15 minutes'', %I, ''2000-01-01 00:00+00'')', at)
        WHEN '1h' THEN format('date_bin(''1 hour'', %I, ''2000-01-01 00:00+00'')', at)
        WHEN '1d' THEN format('date_trunc(''day'', %I, %L)', at, (SELECT value FROM telemetry_meta WHERE key = 'timezone'))
    END
$$;

CREATE PROCEDURE telemetry_create_roll_up(name text, query text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I AS %s WITH NO DATA', name, query);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (device_key, bucket)', name);
    EXECUTE format('CREATE INDEX ON %I (bucket)', name);
END $$;

-- Partitions of the given days (UTC); those that exist are left alone. Returns how many were made.
CREATE FUNCTION telemetry_ensure_partitions(domain text, days date[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    readings text := domain || '_readings';
    partition text;
    day date;
    made int := 0;
BEGIN
    FOREACH day IN ARRAY days LOOP
        partition := readings || to_char(day, '_YYYYMMDD');
        CONTINUE WHEN to_regclass(quote_ident(partition)) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtext('telemetry_ensure_partitions'), hashtext(domain));
        CONTINUE WHEN to_regclass(quote_ident(partition)) IS NOT NULL;
        -- Attaching a finished table takes a weaker lock on the parent than creating a partition in place.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, readings);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       readings, partition, day || ' 00:00+00', day + 1 || ' 00:00+00');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions that ended before the instant. Returns their names.
CREATE FUNCTION telemetry_drop_partitions(domain text, before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = (domain || '_readings')::regclass
          AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= before
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
        RETURN NEXT partition;
    END LOOP;
END $$;

-- Recomputes the roll-ups over the quarters of an hour in [start_at, end_at) and over the hours and days around them.
CREATE PROCEDURE telemetry_refresh_roll_ups(domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    level record;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    FOR level IN SELECT * FROM telemetry_roll_up_levels(domain) LOOP
        EXECUTE format('SELECT %s, %s FROM (SELECT $1 AS a, $2 - interval ''1 microsecond'' AS b) AS ends',
                       telemetry_bucket(level.width, 'a'), telemetry_bucket(level.width, 'b'))
            INTO first_bucket, end_bucket USING start_at, end_at;
        -- A day is a step of the calendar: 23 or 25 hours twice a year.
        end_bucket := CASE level.width
            WHEN '1d' THEN (end_bucket AT TIME ZONE zone + interval '1 day') AT TIME ZONE zone
            ELSE end_bucket + level.width::interval
        END;
        EXECUTE format('DELETE FROM %I WHERE bucket >= $1 AND bucket < $2', level.name) USING first_bucket, end_bucket;
        EXECUTE format('INSERT INTO %I SELECT * FROM (%s) AS fresh', level.name,
                       telemetry_roll_up_query(domain, level.width, 'WHERE %1$I >= $1 AND %1$I < $2'))
            USING first_bucket, end_bucket;
    END LOOP;
END $$;

CREATE PROCEDURE telemetry_apply_policies(domain text, retention interval, columnstore_after interval) LANGUAGE plpgsql AS $$
BEGIN
    -- Retention is the work of maintain here: it drops whole partitions.
END $$;
