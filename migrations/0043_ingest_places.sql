-- The last batch that was committed by way of each spool. Another process that takes over a client id has a place of its
-- own, so what it commits does not cover up whether the last commit of the one before took place.

CREATE TABLE ingest_places (
    worker        text NOT NULL,
    place         uuid NOT NULL,
    batch         uuid NOT NULL,
    committed_at  timestamptz NOT NULL,
    PRIMARY KEY (worker, place)
);
COMMENT ON TABLE ingest_places IS 'The last batch that each worker with a spool committed; of those without one, ingest_commits';
COMMENT ON COLUMN ingest_places.place IS 'Where the spool is; it is written in the lock file beside it';
