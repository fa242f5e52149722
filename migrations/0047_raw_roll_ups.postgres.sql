-- Roll-ups, too, are never made anew where raw readings were dropped.

-- Recomputes the roll-ups over the quarters of an hour in [start_at, end_at) and over the hours and days around them, as far as
-- there are the raw readings that they were made of.
CREATE OR REPLACE PROCEDURE telemetry_refresh_roll_ups(domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    level record;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    start_at := greatest(start_at, telemetry_raw_from(domain));
    IF start_at >= end_at THEN
        RETURN;
    END IF;
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
