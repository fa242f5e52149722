-- Chunks are dropped by telemetry_drop_partitions here; there are no partitions to detach, and nothing to change.
SELECT 0;
