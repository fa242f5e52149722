-- Roll-ups are continuous aggregates here, which maintain refreshes from telemetry_raw_from on; nothing to change.
SELECT 0;
