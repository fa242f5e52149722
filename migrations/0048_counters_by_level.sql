-- Cells of counters are recomputed a level at a time. Many quarters of a day that came late had their day made anew for each of them;
-- now maintain joins the hours and the days around all of them first.

-- Recomputes the cells of one level that [start_at, end_at) touches; of quarters of an hour, those whose raw readings are all there.
CREATE PROCEDURE telemetry_refresh_counter_level(of_domain text, of_width text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    counters text[] := (SELECT metrics FROM counter_coverage WHERE domain = of_domain);
    level record;
    counter text;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    IF of_width = '15m' THEN
        start_at := greatest(start_at, telemetry_raw_from(of_domain));
    END IF;
    IF counters IS NULL OR start_at >= end_at THEN
        RETURN;
    END IF;
    SELECT * INTO level FROM telemetry_counter_levels(of_domain) AS l WHERE l.width = of_width;
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
    IF level.width <> '15m' THEN
        RETURN;
    END IF;
    DELETE FROM counter_breaks AS b WHERE b.domain = of_domain AND b.time >= start_at AND b.time < end_at;
    FOREACH counter IN ARRAY counters LOOP
        EXECUTE format('INSERT INTO counter_breaks
                        SELECT $3, $4, device_key, r.time, r.%1$I FROM %2$I AS c JOIN %3$I AS r USING (device_key)
                        WHERE c.%4$I AND c.bucket >= $1 AND c.bucket < $2 AND r.time >= $1 AND r.time < $2
                          AND r.time BETWEEN c.%5$I AND c.%6$I AND r.%1$I IS NOT NULL',
                       counter, level.name, level.source,
                       counter || '_broken', counter || '_first_at', counter || '_last_at')
            USING start_at, end_at, of_domain, counter;
    END LOOP;
END $$;

-- All levels of one range, as releases of before ask for it.
CREATE OR REPLACE PROCEDURE telemetry_refresh_counters(of_domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    level record;
BEGIN
    start_at := greatest(start_at, telemetry_raw_from(of_domain));
    IF start_at < end_at THEN
        FOR level IN SELECT * FROM telemetry_counter_levels(of_domain) LOOP
            CALL telemetry_refresh_counter_level(of_domain, level.width, start_at, end_at);
        END LOOP;
    END IF;
END $$;
