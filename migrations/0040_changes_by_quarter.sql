-- Changes are read in the order of the quarters, a page at a time, however many there are.

CREATE INDEX changes_domain_quarter ON changes (domain, quarter, noted_at);
