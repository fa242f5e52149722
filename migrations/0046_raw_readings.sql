-- Roll-ups and cells of counters outlive the raw readings they were made of. So they must never be made anew where raw readings were
-- dropped: what is left there, or comes late, is not what there was. From when on the raw readings of a domain are all there is kept in
-- kept_readings, and asked for with telemetry_raw_from.

-- A quarter of an hour, at the beginning of a UTC day; -infinity where nothing was ever dropped.
CREATE FUNCTION telemetry_raw_from(of_domain text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT kept_from FROM kept_readings WHERE domain = of_domain), '-infinity')
$$;

-- What ingest begins each transaction with: devices and raw readings stay as they are told here until it ends.
CREATE FUNCTION telemetry_begin_batch(OUT removals bigint, OUT domains text[], OUT raw_from timestamptz[]) LANGUAGE plpgsql AS $$
BEGIN
    removals := telemetry_keep_devices();
    SELECT array_agg(domain), array_agg(kept_from) INTO domains, raw_from FROM kept_readings;
END $$;

-- Says that raw readings before an instant are going to be dropped; from then on ingest refuses them. False where some of them are not
-- in the roll-ups yet: nothing must be dropped then.
CREATE FUNCTION telemetry_forget_raw(of_domain text, before timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM telemetry_stop_batches();
    IF EXISTS (SELECT FROM late_ranges WHERE domain = of_domain AND bucket < before) THEN
        RETURN false;
    END IF;
    PERFORM telemetry_keep_from(of_domain, before);
    RETURN true;
END $$;

ALTER TABLE counter_coverage ADD COLUMN former_from timestamptz NOT NULL DEFAULT 'infinity';
COMMENT ON COLUMN counter_coverage.former_from IS 'From when on there were good cells before coverage began anew: those older than the raw readings cannot be made anew, and are as they were';

-- Recomputes the cells over the quarters of an hour in [start_at, end_at) and over the hours and days around them, as far as there are
-- the raw readings that they were made of.
CREATE OR REPLACE PROCEDURE telemetry_refresh_counters(of_domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    counters text[] := (SELECT metrics FROM counter_coverage WHERE domain = of_domain);
    level record;
    counter text;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    start_at := greatest(start_at, telemetry_raw_from(of_domain));
    IF counters IS NULL OR start_at >= end_at THEN
        RETURN;
    END IF;
    FOR level IN SELECT * FROM telemetry_counter_levels(of_domain) LOOP
        EXECUTE format('SELECT %s, %s FROM (SELECT $1 AS a, $2 - interval ''1 microsecond'' AS b) AS ends',
                       telemetry_bucket(level.width, 'a'), telemetry_bucket(level.width, 'b'))
            INTO first_bucket, end_bucket USING start_at, end_at;
        -- A day is a step of the calendar: 23 or 25 hours twice a year.
        end_bucket := CASE level.width
            WHEN '1d' THEN (end_bucket AT TIME ZONE zone + interval '1 day') AT TIME ZONE zone
            ELSE end_bucket + level.width::interval
        END;
        EXECUTE format('DELETE FROM %I WHERE bucket >= $1 AND bucket < $2', level.name) USING first_bucket, end_bucket;
        EXECUTE format('INSERT INTO %I %s', level.name, telemetry_counter_query(of_domain, level.width, level.source, counters))
            USING first_bucket, end_bucket;
        FOR counter IN
            SELECT DISTINCT metric FROM meter_swaps
            WHERE domain = of_domain AND time >= first_bucket AND time < end_bucket AND metric = ANY (counters)
        LOOP
            EXECUTE format('UPDATE %I AS c SET %I = true FROM meter_swaps AS s
                            WHERE s.domain = $3 AND s.metric = $4 AND s.device_key = c.device_key
                              AND s.time >= $1 AND s.time < $2 AND c.bucket >= $1 AND c.bucket < $2
                              AND s.time > c.%I AND s.time <= c.%I',
                           level.name, counter || '_broken', counter || '_first_at', counter || '_last_at')
                USING first_bucket, end_bucket, of_domain, counter;
        END LOOP;
    END LOOP;
    DELETE FROM counter_breaks AS b WHERE b.domain = of_domain AND b.time >= start_at AND b.time < end_at;
    FOREACH counter IN ARRAY counters LOOP
        EXECUTE format('INSERT INTO counter_breaks
                        SELECT $3, $4, device_key, r.time, r.%1$I FROM %2$I AS c JOIN %3$I AS r USING (device_key)
                        WHERE c.%4$I AND c.bucket >= $1 AND c.bucket < $2 AND r.time >= $1 AND r.time < $2
                          AND r.time BETWEEN c.%5$I AND c.%6$I AND r.%1$I IS NOT NULL',
                       counter, of_domain || '_counters_15m', of_domain || '_readings',
                       counter || '_broken', counter || '_first_at', counter || '_last_at')
            USING start_at, end_at, of_domain, counter;
    END LOOP;
END $$;
