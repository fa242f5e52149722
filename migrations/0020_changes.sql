-- What changed in quarters of an hour that were closed already, for whoever has billed on them. Written by maintain alone, one process
-- at a time, in the transaction that takes the quarters off late_ranges.

CREATE TABLE closings (
    domain         text PRIMARY KEY,
    first_until    timestamptz NOT NULL,
    closed_until   timestamptz NOT NULL,
    noted_at       timestamptz NOT NULL
);
COMMENT ON TABLE closings IS 'By domain: what ends at or before closed_until is closed, and every change of it that was visible at noted_at is in changes; first_until is where closing began';

CREATE TABLE closed_quarters (
    domain    text NOT NULL,
    quarter   timestamptz NOT NULL,
    readings  bigint NOT NULL,
    PRIMARY KEY (domain, quarter)
);
COMMENT ON TABLE closed_quarters IS 'How many readings each quarter of an hour had when it was last looked at; without readings it has no row';

CREATE TABLE completed_readings (
    domain    text NOT NULL,
    quarter   timestamptz NOT NULL,
    readings  bigint NOT NULL
);
COMMENT ON TABLE completed_readings IS 'Stored readings that later ones completed; written in the transaction of the data, emptied by maintain';

CREATE TABLE changes (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain        text NOT NULL,
    quarter       timestamptz NOT NULL,
    closed_until  timestamptz NOT NULL,
    noted_at      timestamptz NOT NULL,
    late          bigint,
    merged        bigint NOT NULL
);
COMMENT ON TABLE changes IS 'Closed quarters of an hour that changed: closed_until is how far the domain was closed before, late is how many readings were added (NULL: closed before closing began, so not known), merged how many were completed';
CREATE INDEX changes_domain_noted_at ON changes (domain, noted_at);
