-- How a domain becomes storage, the same on both engines: its migration creates the table <domain>_readings and calls
-- telemetry_install_domain. Roll-up columns and Grafana's views follow from the columns of that table.

CREATE FUNCTION telemetry_metrics(domain text) RETURNS TABLE (name text, type text) LANGUAGE sql STABLE AS $$
    SELECT attname::text, format_type(atttypid, atttypmod)
    FROM pg_attribute
    WHERE attrelid = (domain || '_readings')::regclass
      AND attnum > 0
      AND NOT attisdropped
      AND attname NOT IN ('time', 'received_at', 'device_key', 'attributes')
    ORDER BY attnum
$$;

-- The roll-ups of a domain, each computed from the one before it.
CREATE FUNCTION telemetry_roll_up_levels(domain text) RETURNS TABLE (width text, name text, source text) LANGUAGE sql STABLE AS $$
    SELECT width, domain || '_' || width, domain || '_' || source
    FROM unnest(ARRAY['15m', '1h', '1d'], ARRAY['readings', '15m', '1h']) WITH ORDINALITY AS l (width, source, position)
    ORDER BY position
$$;

-- The query behind a roll-up: per device and bucket the number of rows, and of each metric count, sum, min, max, first, last
-- (a state has no sum, min or max). The condition is a format() pattern that gets the source's time column.
CREATE FUNCTION telemetry_roll_up_query(domain text, width text, condition text DEFAULT '') RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    source text := (SELECT l.source FROM telemetry_roll_up_levels(domain) AS l WHERE l.width = telemetry_roll_up_query.width);
    base boolean := source = domain || '_readings';
    at text := CASE WHEN base THEN 'time' ELSE 'bucket' END;
    columns text;
BEGIN
    SELECT string_agg(CASE
        WHEN base AND m.type = 'double precision' THEN
            format('count(%1$I) AS %2$I, sum(%1$I) AS %3$I, min(%1$I) AS %4$I, max(%1$I) AS %5$I, %6$s AS %7$I, %8$s AS %9$I',
                   m.name, m.name || '_count', m.name || '_sum', m.name || '_min', m.name || '_max',
                   telemetry_first(m.name, m.type, at), m.name || '_first',
                   telemetry_last(m.name, m.type, at), m.name || '_last')
        WHEN base THEN
            format('count(%1$I) AS %2$I, %3$s AS %4$I, %5$s AS %6$I', m.name, m.name || '_count',
                   telemetry_first(m.name, m.type, at), m.name || '_first',
                   telemetry_last(m.name, m.type, at), m.name || '_last')
        WHEN m.type = 'double precision' THEN
            format('sum(%1$I)::bigint AS %1$I, sum(%2$I) AS %2$I, min(%3$I) AS %3$I, max(%4$I) AS %4$I, %5$s AS %6$I, %7$s AS %8$I',
                   m.name || '_count', m.name || '_sum', m.name || '_min', m.name || '_max',
                   telemetry_first(m.name || '_first', m.type, at), m.name || '_first',
                   telemetry_last(m.name || '_last', m.type, at), m.name || '_last')
        ELSE
            format('sum(%1$I)::bigint AS %1$I, %2$s AS %3$I, %4$s AS %5$I', m.name || '_count',
                   telemetry_first(m.name || '_first', m.type, at), m.name || '_first',
                   telemetry_last(m.name || '_last', m.type, at), m.name || '_last')
        END, ', ')
    INTO columns
    FROM telemetry_metrics(domain) AS m;
    RETURN format('SELECT %s AS bucket, device_key, %s AS samples, %s FROM %I %s GROUP BY 1, 2',
                  telemetry_bucket(width, at), CASE WHEN base THEN 'count(*)' ELSE 'sum(samples)::bigint' END,
                  columns, source, format(condition, at));
END $$;

CREATE SCHEMA grafana;

CREATE PROCEDURE telemetry_create_views(domain text) LANGUAGE plpgsql AS $$
DECLARE
    level record;
    columns text;
BEGIN
    SELECT string_agg(format('r.%I', name), ', ') INTO columns FROM telemetry_metrics(domain);
    EXECUTE format(
        'CREATE VIEW grafana.%I AS
         SELECT r.time, r.received_at, d.device_id, coalesce(d.name, d.device_id) AS device, d.zone, d.latitude, d.longitude, %s, r.attributes
         FROM %I AS r JOIN devices AS d USING (device_key)', domain, columns, domain || '_readings');
    SELECT string_agg(CASE WHEN type = 'double precision' THEN
               format('r.%2$I / nullif(r.%3$I, 0) AS %1$I, r.%4$I, r.%5$I, r.%2$I, r.%3$I, r.%6$I, r.%7$I',
                      name || '_avg', name || '_sum', name || '_count', name || '_min', name || '_max', name || '_first', name || '_last')
           ELSE format('r.%I, r.%I, r.%I', name || '_count', name || '_first', name || '_last') END, ', ')
    INTO columns FROM telemetry_metrics(domain);
    FOR level IN SELECT * FROM telemetry_roll_up_levels(domain) LOOP
        EXECUTE format(
            'CREATE VIEW grafana.%I AS
             SELECT r.bucket AS time, d.device_id, coalesce(d.name, d.device_id) AS device, d.zone, r.samples, %s
             FROM %I AS r JOIN devices AS d USING (device_key)', level.name, columns, level.name);
    END LOOP;
    GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO telemetry_reader;
END $$;

CREATE PROCEDURE telemetry_install_domain(domain text) LANGUAGE plpgsql AS $$
DECLARE
    level record;
BEGIN
    CALL telemetry_create_storage(domain);
    FOR level IN SELECT * FROM telemetry_roll_up_levels(domain) LOOP
        CALL telemetry_create_roll_up(level.name, telemetry_roll_up_query(domain, level.width));
    END LOOP;
    CALL telemetry_create_views(domain);
    INSERT INTO telemetry_domains VALUES (domain);
END $$;

-- The role that dashboards read with: the views of schema grafana and nothing else. It has no password until
-- `db migrate` is given one. Roles belong to the whole server, so another database may have made it before.
DO $$
BEGIN
    CREATE ROLE telemetry_reader LOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$
BEGIN
    EXECUTE format('ALTER ROLE telemetry_reader IN DATABASE %I SET search_path = grafana', current_database());
    EXECUTE format('ALTER ROLE telemetry_reader IN DATABASE %I SET default_transaction_read_only = on', current_database());
END $$;
GRANT USAGE ON SCHEMA grafana TO telemetry_reader;

CREATE VIEW grafana.devices AS
SELECT device_id, coalesce(name, device_id) AS device, domain, zone, latitude, longitude, interval_s, first_seen, updated_at FROM devices;

CREATE VIEW grafana.ledger AS SELECT * FROM ledger_hourly;

CREATE VIEW grafana.quarantine AS
SELECT id, received_at AS time, domain, device_id, reason, detail, topic, length(payload) AS payload_bytes FROM quarantine;

GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO telemetry_reader;
