-- Roll-ups are recomputed a level at a time: see 0048.

-- Recomputes the cells of one level that [start_at, end_at) touches; of quarters of an hour, those whose raw readings are all there.
CREATE PROCEDURE telemetry_refresh_roll_up(domain text, of_width text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    level record;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    IF of_width = '15m' THEN
        start_at := greatest(start_at, telemetry_raw_from(domain));
    END IF;
    IF start_at >= end_at THEN
        RETURN;
    END IF;
    SELECT * INTO level FROM telemetry_roll_up_levels(domain) AS l WHERE l.width = of_width;
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
END $$;

-- All levels of one range, as releases of before ask for it.
CREATE OR REPLACE PROCEDURE telemetry_refresh_roll_ups(domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    level record;
BEGIN
    start_at := greatest(start_at, telemetry_raw_from(domain));
    IF start_at < end_at THEN
        FOR level IN SELECT * FROM telemetry_roll_up_levels(domain) LOOP
            CALL telemetry_refresh_roll_up(domain, level.width, start_at, end_at);
        END LOOP;
    END IF;
END $$;
