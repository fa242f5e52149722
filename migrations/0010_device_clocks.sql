-- How far the clock of each device is off, as ingest sees it. Its rows may be lost without harm: they are measured again.

CREATE TABLE device_clocks (
    device_id  text PRIMARY KEY,
    skew_s     double precision NOT NULL,
    seen_at    timestamptz NOT NULL
);
COMMENT ON TABLE device_clocks IS 'Apparent skew of each clock in seconds: positive is ahead of ours for certain, negative is behind or late; also of devices that are not registered, for a wrong clock keeps them from it';

CREATE OR REPLACE VIEW grafana.devices AS
SELECT d.device_id, coalesce(d.name, d.device_id) AS device, d.domain, d.zone, d.latitude, d.longitude, d.interval_s, d.first_seen, d.updated_at,
       c.skew_s AS clock_skew_s, c.seen_at AS clock_seen_at
FROM devices AS d LEFT JOIN device_clocks AS c USING (device_id);

CREATE VIEW grafana.clocks AS
SELECT c.device_id, coalesce(d.name, c.device_id) AS device, d.domain, d.zone, c.skew_s, c.seen_at AS time, d.device_id IS NOT NULL AS registered
FROM device_clocks AS c LEFT JOIN devices AS d USING (device_id);

GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO telemetry_reader;
