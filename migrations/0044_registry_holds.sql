-- Ingest remembers the integer keys of devices between batches. So a device must not be removed between the moment in which a batch
-- found its keys good and that batch's commit, and ingest must learn that one was removed. Keys are never given away again.

CREATE TABLE device_removals (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    removals  bigint NOT NULL
);
COMMENT ON TABLE device_removals IS 'How often devices were removed: while it stays the same, every key that was ever looked up is good';
INSERT INTO device_removals (removals) VALUES (0);

-- Ingest, in each of its transactions: no device is removed until the transaction ends. The lock comes before the look, which is why
-- this is no plain statement: it would look first.
CREATE FUNCTION telemetry_keep_devices() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(x'7E1E0005'::int);
    RETURN (SELECT removals FROM device_removals);
END $$;

-- Whoever removes devices: no batch is under way until the transaction ends, and what is committed is seen by the next statement.
CREATE FUNCTION telemetry_stop_batches() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(x'7E1E0005'::int)
$$;

-- By whatever hand: this release, one of before, or somebody with psql.
CREATE FUNCTION telemetry_count_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM telemetry_stop_batches();
    UPDATE device_removals SET removals = removals + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER telemetry_count_removal BEFORE DELETE OR TRUNCATE ON devices
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry_count_removal();
