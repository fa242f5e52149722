-- Parking. Units and valid ranges stand in src/telemetry/domains/parking.py.

CREATE TABLE parking_readings (
    time timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device_key int NOT NULL,
    battery_pct double precision,
    rssi_dbm double precision,
    snr_db double precision,
    occupied_spots double precision,
    total_spots double precision,
    arrivals double precision,
    departures double precision,
    occupied boolean,
    attributes jsonb,
    PRIMARY KEY (device_key, time)
);

CALL telemetry_install_domain('parking');
