-- About how many rows the parts of a domain's relations hold, from the catalog and the sizes of files: no row is read.

-- Where nothing was analysed yet, a page holds as many rows as readings with some ten values need.
CREATE FUNCTION telemetry_approximate_rows(relation regclass) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT pg_relation_size(oid) / current_setting('block_size')::float8
           * CASE WHEN reltuples > 0 AND relpages > 0 THEN reltuples / relpages ELSE 80 END
    FROM pg_class WHERE oid = relation
$$;

-- A part without start and end holds the rows of all times.
CREATE FUNCTION telemetry_row_estimates(domain text)
RETURNS TABLE (relation text, starts timestamptz, ends timestamptz, rows double precision) LANGUAGE sql STABLE AS $$
    SELECT 'readings', day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC',
           telemetry_approximate_rows(c.oid)
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    CROSS JOIN to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    WHERE i.inhparent = (domain || '_readings')::regclass
    UNION ALL
    SELECT l.width, NULL, NULL, telemetry_approximate_rows(l.name::regclass) FROM telemetry_roll_up_levels(domain) AS l
$$;
