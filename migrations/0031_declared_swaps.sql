-- A meter swap that is declared, changed or withdrawn after its quarter of an hour was closed is a change of that quarter.

CREATE TABLE declared_swaps (
    domain   text NOT NULL,
    quarter  timestamptz NOT NULL
);
COMMENT ON TABLE declared_swaps IS 'Meter swaps that were declared, changed or withdrawn; written in that transaction, emptied by maintain';

ALTER TABLE changes ADD COLUMN swaps bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE changes IS 'Closed quarters of an hour that changed: closed_until is how far the domain was closed before, late is how many readings were added (NULL: closed before closing began, so not known), merged how many were completed, swaps how many meter swaps were declared, changed or withdrawn';
