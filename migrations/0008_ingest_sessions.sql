-- The sessions that ingest has at the broker. A session that is used no more still holds messages; its name must be known
-- to take them.

CREATE TABLE ingest_sessions (
    client_id      text PRIMARY KEY,
    base           text NOT NULL,
    filters        text[] NOT NULL,
    subscribed_at  timestamptz
);
COMMENT ON TABLE ingest_sessions IS 'Sessions of ingest at the broker, until they are drained and given up';
COMMENT ON COLUMN ingest_sessions.base IS 'mqtt.client_id of the ingest that the session belongs to';
COMMENT ON COLUMN ingest_sessions.filters IS 'Topic filters that the broker may have for it; empty where that was not recorded';
COMMENT ON COLUMN ingest_sessions.subscribed_at IS 'When the broker first confirmed them; NULL until then';

INSERT INTO ingest_sessions (client_id, base, filters, subscribed_at)
SELECT worker, worker, '{}', committed_at FROM ingest_commits;
