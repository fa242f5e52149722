-- What every engine shares: bookkeeping, devices, quarantine, ledger.
-- The runner sets telemetry.engine and telemetry.timezone for the session.

CREATE TABLE telemetry_migrations (
    version     text PRIMARY KEY,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE telemetry_migrations IS 'Migrations that landed, with the SHA-256 of their text';

CREATE TABLE telemetry_meta (
    key    text PRIMARY KEY,
    value  text NOT NULL
);
COMMENT ON TABLE telemetry_meta IS 'Decisions that the first migration takes for good: storage engine and time zone of the days';
INSERT INTO telemetry_meta VALUES
    ('engine', current_setting('telemetry.engine')),
    ('timezone', current_setting('telemetry.timezone'));

CREATE TABLE telemetry_domains (
    name  text PRIMARY KEY
);
COMMENT ON TABLE telemetry_domains IS 'Domains that have storage';

CREATE TABLE devices (
    device_key  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id   text NOT NULL UNIQUE CHECK (device_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    domain      text NOT NULL,
    name        text,
    zone        text,
    latitude    double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude   double precision CHECK (longitude BETWEEN -180 AND 180),
    interval_s  double precision CHECK (interval_s > 0),
    first_seen  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE devices IS 'Registry: readings carry device_key; an id is unique in the city, domain is its home, interval_s the seconds between its readings';

CREATE TABLE quarantine (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at  timestamptz NOT NULL,
    domain       text NOT NULL,
    device_id    text,
    reason       text NOT NULL,
    detail       text NOT NULL,
    topic        text NOT NULL,
    payload      bytea NOT NULL,
    position     int
);
COMMENT ON TABLE quarantine IS 'Messages that are no readings, with the raw bytes; position is the place in an array payload, from 0';
CREATE INDEX quarantine_received_at ON quarantine (received_at);

CREATE TABLE ledger (
    hour      timestamptz NOT NULL,
    domain    text NOT NULL,
    worker    text NOT NULL,
    outcome   text NOT NULL,
    readings  bigint NOT NULL,
    PRIMARY KEY (hour, domain, worker, outcome)
);
COMMENT ON TABLE ledger IS 'Readings by outcome: received, stored (merged: the part of it that completed a row), duplicate, or a quarantine reason; written in the transaction of the data';

CREATE VIEW ledger_hourly AS
WITH totals AS (
    SELECT hour, domain, outcome, sum(readings)::bigint AS readings
    FROM ledger
    GROUP BY hour, domain, outcome
), sides AS (
    SELECT hour,
           domain,
           coalesce(sum(readings) FILTER (WHERE outcome = 'received'), 0)::bigint AS received,
           coalesce(sum(readings) FILTER (WHERE outcome = 'stored'), 0)::bigint AS stored,
           coalesce(sum(readings) FILTER (WHERE outcome = 'merged'), 0)::bigint AS merged,
           coalesce(sum(readings) FILTER (WHERE outcome = 'duplicate'), 0)::bigint AS duplicate,
           coalesce(sum(readings) FILTER (WHERE outcome NOT IN ('received', 'stored', 'merged', 'duplicate')), 0)::bigint AS quarantined,
           coalesce(
               jsonb_object_agg(outcome, readings) FILTER (WHERE outcome NOT IN ('received', 'stored', 'merged', 'duplicate')),
               '{}'
           ) AS reasons
    FROM totals
    GROUP BY hour, domain
)
SELECT *, received - stored - duplicate - quarantined AS imbalance
FROM sides;

CREATE TABLE ingest_commits (
    worker        text PRIMARY KEY,
    batch         uuid NOT NULL,
    committed_at  timestamptz NOT NULL
);
COMMENT ON TABLE ingest_commits IS 'The last batch that each worker committed: tells whether a commit whose answer was lost took place';

CREATE TABLE late_ranges (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain     text NOT NULL,
    bucket     timestamptz NOT NULL,
    marked_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE late_ranges IS 'Quarters of an hour with rows that the roll-ups may not show yet; marked in the transaction of the data, emptied by maintain';
CREATE INDEX late_ranges_domain_bucket ON late_ranges (domain, bucket);
