-- Chunks are dropped by the retention policy here; there are no names of partitions to read, and nothing to change.
SELECT 0;
