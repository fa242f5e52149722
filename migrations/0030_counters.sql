-- Cells of counters: roll-ups from which increase and rate are exact. Plain tables on both engines, because a continuous aggregate cannot
-- look from one reading to the next; maintain recomputes them in the transaction that takes quarters of an hour off late_ranges.
--
-- <domain>_counters_15m, _1h and _1d have of each counter the times and values of the first and the last reading of a cell, and whether
-- the counter broke in between: it fell, or its meter was swapped. Unbroken, it rose from the first value to the last, whatever lies in
-- between. Of a broken cell, first and last are the least and the greatest value; its quarters are looked at instead, and of a broken
-- quarter every reading is kept in counter_breaks. So an answer needs no raw readings, which may be gone by then.

CREATE TABLE counter_coverage (
    domain        text PRIMARY KEY,
    metrics       text[] NOT NULL,
    covered_from  timestamptz NOT NULL,
    noted_at      timestamptz
);
COMMENT ON TABLE counter_coverage IS 'Counters that have cells, and from when on: as long as noted_at equals that of closings. Otherwise somebody took quarters off late_ranges who knew no counters, and maintain begins anew';

CREATE TABLE counter_breaks (
    domain      text NOT NULL,
    metric      text NOT NULL,
    device_key  int NOT NULL,
    time        timestamptz NOT NULL,
    value       double precision NOT NULL,
    PRIMARY KEY (domain, metric, device_key, time)
);
CREATE INDEX counter_breaks_domain_time ON counter_breaks (domain, time);
COMMENT ON TABLE counter_breaks IS 'Every reading of a counter in quarters of an hour in which it broke';

CREATE TABLE meter_swaps (
    device_key   int NOT NULL REFERENCES devices ON DELETE CASCADE,
    domain       text NOT NULL,
    metric       text NOT NULL,
    time         timestamptz NOT NULL,
    start_index  double precision NOT NULL,
    final_index  double precision,
    declared_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device_key, metric, time)
);
CREATE INDEX meter_swaps_domain_time ON meter_swaps (domain, time);
COMMENT ON TABLE meter_swaps IS 'Meters that were replaced: readings from time on are those of the new one, which began with start_index; the old one ended with final_index (NULL: not known)';

CREATE FUNCTION telemetry_counter_levels(domain text) RETURNS TABLE (width text, name text, source text) LANGUAGE sql STABLE AS $$
    SELECT width, domain || '_counters_' || width, domain || source
    FROM unnest(ARRAY['15m', '1h', '1d'], ARRAY['_readings', '_counters_15m', '_counters_1h'])
         WITH ORDINALITY AS l (width, source, position)
    ORDER BY position
$$;

-- Makes the cells of a domain's counters that have columns, once. Where there are readings, maintain covers them from now on, and then back in time.
CREATE PROCEDURE telemetry_install_counters(of_domain text, counters text[]) LANGUAGE plpgsql AS $$
DECLARE
    level record;
    columns text;
    has_readings boolean;
BEGIN
    counters := ARRAY (SELECT m.name FROM telemetry_metrics(of_domain) AS m WHERE m.name = ANY (counters));
    IF cardinality(counters) = 0 OR EXISTS (SELECT FROM counter_coverage WHERE domain = of_domain) THEN
        RETURN;
    END IF;
    SELECT string_agg(format('%I boolean NOT NULL', m || '_broken'), ', ') || ', '
           || string_agg(format('%I timestamptz, %I double precision, %I timestamptz, %I double precision',
                                m || '_first_at', m || '_first', m || '_last_at', m || '_last'), ', ')
    INTO columns FROM unnest(counters) AS m;
    FOR level IN SELECT * FROM telemetry_counter_levels(of_domain) LOOP
        EXECUTE format('CREATE TABLE %I (bucket timestamptz NOT NULL, device_key int NOT NULL, %s, PRIMARY KEY (device_key, bucket))',
                       level.name, columns);
        EXECUTE format('CREATE INDEX ON %I (bucket)', level.name);
    END LOOP;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', of_domain || '_readings') INTO has_readings;
    INSERT INTO counter_coverage VALUES (
        of_domain, counters, CASE WHEN has_readings THEN 'infinity' ELSE '-infinity' END::timestamptz,
        (SELECT noted_at FROM closings AS c WHERE c.domain = of_domain));
END $$;

-- The query behind the cells of a level; $1 and $2 are the ends of the range. A counter fell where a value is less than one before it.
CREATE FUNCTION telemetry_counter_query(domain text, width text, source text, counters text[]) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    base boolean := source = domain || '_readings';
    at text := CASE WHEN base THEN 'time' ELSE 'bucket' END;
    read text;
    broken text;
    ends text;
BEGIN
    IF base THEN
        SELECT string_agg(format('%1$I, max(%1$I) OVER before AS %2$I', m, m || '_before'), ', '),
               string_agg(format('coalesce(bool_or(%I < %I), false)', m, m || '_before'), ', '),
               string_agg(format('min(time) FILTER (WHERE %1$I IS NOT NULL), min(%1$I),
                                  max(time) FILTER (WHERE %1$I IS NOT NULL), max(%1$I)', m), ', ')
        INTO read, broken, ends FROM unnest(counters) AS m;
    ELSE
        SELECT string_agg(format('%I, %I, %I, %I, %I, max(%5$I) OVER before AS %6$I', m || '_broken', m || '_first_at', m || '_first',
                                 m || '_last_at', m || '_last', m || '_before'), ', '),
               string_agg(format('bool_or(%I OR coalesce(%I < %I, false))', m || '_broken', m || '_first', m || '_before'), ', '),
               string_agg(format('min(%I), min(%I), max(%I), max(%I)',
                                 m || '_first_at', m || '_first', m || '_last_at', m || '_last'), ', ')
        INTO read, broken, ends FROM unnest(counters) AS m;
    END IF;
    RETURN format('SELECT cell, device_key, %1$s, %2$s
                   FROM (SELECT %3$s AS cell, device_key, %4$I, %5$s FROM %6$I WHERE %4$I >= $1 AND %4$I < $2 %7$s
                         WINDOW before AS (PARTITION BY device_key, %3$s ORDER BY %4$I
                                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS r
                   GROUP BY device_key, cell',
                  broken, ends, telemetry_bucket(width, at), at, read, source,
                  CASE WHEN base THEN (SELECT format('AND num_nonnulls(%s) > 0', string_agg(quote_ident(m), ', ')) FROM unnest(counters) AS m) END);
END $$;

-- Recomputes the cells over the quarters of an hour in [start_at, end_at) and over the hours and days around them.
CREATE PROCEDURE telemetry_refresh_counters(of_domain text, start_at timestamptz, end_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    zone text := (SELECT value FROM telemetry_meta WHERE key = 'timezone');
    counters text[] := (SELECT metrics FROM counter_coverage WHERE domain = of_domain);
    level record;
    counter text;
    first_bucket timestamptz;
    end_bucket timestamptz;
BEGIN
    IF counters IS NULL THEN
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
