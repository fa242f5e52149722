-- Chunks are dropped by the retention policy here; there are no partitions to detach, and nothing to change.
SELECT 0;
