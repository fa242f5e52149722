-- The devices of a domain are read in the order of their ids, a page at a time; without it, each page reads and sorts them all.

CREATE INDEX devices_domain_device_id ON devices (domain, device_id COLLATE "C");
