-- Roll-ups are continuous aggregates here, which maintain refreshes a level at a time already; nothing to change.
SELECT 0;
