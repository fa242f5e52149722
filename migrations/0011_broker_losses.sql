-- What the broker lost on the way to us, as far as it tells: beside the ledger, which knows only what was received.

CREATE TABLE broker_losses (
    hour    timestamptz NOT NULL,
    broker  text NOT NULL,
    worker  text NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('messages_dropped', 'sessions_lost')),
    count   bigint NOT NULL,
    PRIMARY KEY (hour, broker, worker, kind)
);
COMMENT ON TABLE broker_losses IS 'Losses by the hour in which they were noticed; every worker sees all that its broker dropped, but each has a session of its own';

CREATE TABLE broker_counters (
    broker   text NOT NULL,
    worker   text NOT NULL,
    topic    text NOT NULL,
    value    bigint NOT NULL,
    seen_at  timestamptz NOT NULL,
    PRIMARY KEY (broker, worker, topic)
);
COMMENT ON TABLE broker_counters IS 'How the counters of the broker stood when they were last written, to tell what it dropped while ingest was away';

CREATE VIEW broker_losses_hourly AS
WITH brokers AS (
    SELECT hour,
           max(count) FILTER (WHERE kind = 'messages_dropped') AS messages_dropped,
           sum(count) FILTER (WHERE kind = 'sessions_lost') AS sessions_lost
    FROM broker_losses
    GROUP BY hour, broker
)
SELECT hour,
       coalesce(sum(messages_dropped), 0)::bigint AS messages_dropped,
       coalesce(sum(sessions_lost), 0)::bigint AS sessions_lost
FROM brokers
GROUP BY hour;

CREATE VIEW grafana.broker_losses AS SELECT * FROM broker_losses_hourly;

GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO telemetry_reader;
