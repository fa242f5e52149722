-- About how many rows the parts of a domain's relations hold, from the catalog and the sizes of files: no row is read.

-- Where nothing was analysed yet, a page holds as many rows as readings with some ten values need.
CREATE FUNCTION telemetry_approximate_rows(relation regclass) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT pg_relation_size(oid) / current_setting('block_size')::float8
           * CASE WHEN reltuples > 0 AND relpages > 0 THEN reltuples / relpages ELSE 80 END
    FROM pg_class WHERE oid = relation
$$;

-- Of a chunk in the columnstore, the rows that were counted when it was moved there, and those that came after it.
CREATE FUNCTION telemetry_row_estimates(domain text)
RETURNS TABLE (relation text, starts timestamptz, ends timestamptz, rows double precision) LANGUAGE sql STABLE AS $$
    WITH hypertables AS (
        SELECT 'readings' AS relation, domain || '_readings' AS name
        UNION ALL
        SELECT l.width, a.materialization_hypertable_name
        FROM telemetry_roll_up_levels(domain) AS l
        JOIN timescaledb_information.continuous_aggregates AS a ON a.view_name = l.name
    )
    SELECT h.relation, c.range_start, c.range_end,
           telemetry_approximate_rows(format('%I.%I', c.chunk_schema, c.chunk_name)::regclass)
           + coalesce(s.numrows_pre_compression, 0)
    FROM hypertables AS h
    JOIN timescaledb_information.chunks AS c ON c.hypertable_name = h.name
    JOIN _timescaledb_catalog.chunk AS k ON k.schema_name = c.chunk_schema AND k.table_name = c.chunk_name
    LEFT JOIN _timescaledb_catalog.compression_chunk_size AS s ON s.chunk_id = k.id
$$;
