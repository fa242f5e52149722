-- Whether a session is there now is asked and answered here: that it was there in former times proves nothing, for brokers
-- forget sessions. When one was made anew tells what other sessions may hold of its messages.

ALTER TABLE ingest_sessions
    ADD COLUMN answered boolean NOT NULL DEFAULT false,
    ADD COLUMN made_at  timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN ingest_sessions.answered IS 'Whether a running ingest has said that the broker has the session, since it was last asked';
COMMENT ON COLUMN ingest_sessions.made_at IS 'When the session was first announced, or last found forgotten by the broker and made anew';
