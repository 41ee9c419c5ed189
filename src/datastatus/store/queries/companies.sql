-- name: create_company
INSERT INTO company (id, name, external_id) VALUES ($1, $2, $3)
ON CONFLICT (external_id) WHERE deleted IS NULL DO NOTHING
RETURNING *;

-- name: get_company
SELECT * FROM company WHERE id = $1 AND deleted IS NULL;

-- name: list_companies
SELECT * FROM company
WHERE deleted IS NULL AND ($1::uuid IS NULL OR id > $1) AND ($2::text IS NULL OR external_id = $2)
ORDER BY id LIMIT $3;

-- name: delete_company
SELECT delete_company($1) AS outcome;

-- name: create_connection
-- A deleted company is refused here. Locked as the trigger locks it that revises the company: with a weaker lock two at
-- once would wait for each other.
INSERT INTO connection (id, company_id, integration_key)
SELECT $1, id, $3 FROM company WHERE id = $2 AND deleted IS NULL FOR NO KEY UPDATE
RETURNING id;

-- name: get_connection
SELECT c.*,
    (SELECT max(s.last_successful_sync) FROM data_status s WHERE s.connection_id = c.id) AS last_sync
FROM connection c WHERE c.id = $1 AND c.deleted IS NULL;

-- name: list_connections
SELECT c.*,
    (SELECT max(s.last_successful_sync) FROM data_status s WHERE s.connection_id = c.id) AS last_sync
FROM connection c
WHERE c.deleted IS NULL AND c.company_id = $1 AND ($2::uuid IS NULL OR c.id > $2)
ORDER BY c.id LIMIT $3;

-- name: connection_errors
SELECT * FROM (
    SELECT e.*, row_number() OVER (PARTITION BY connection_id ORDER BY occurred DESC) AS nth
    FROM connection_error e WHERE connection_id = ANY ($1::uuid[])
) e
WHERE nth <= 10 ORDER BY connection_id, occurred DESC;

-- name: connection_presence
SELECT DISTINCT ON (c.id) c.id AS connection_id, s.connector_name, s.version, s.address, s.online_since,
    count(*) OVER (PARTITION BY c.id) AS connectors
FROM connection c CROSS JOIN LATERAL serving_connectors(c.id, c.integration_key) s
WHERE c.id = ANY ($1::uuid[])
ORDER BY c.id, s.online_since;

-- name: connections_of_companies
SELECT c.company_id, c.id, c.status, c.integration_key, c.authorized FROM connection c
WHERE c.company_id = ANY ($1::uuid[]) AND c.deleted IS NULL ORDER BY c.id;

-- name: company_states
-- What connections_of_companies and sync_settings tell, in one round trip, and the revision of it: rows with an id are
-- connections.
SELECT c.company_id, c.id, c.status, c.integration_key, c.authorized, (
    SELECT r.revision FROM company_revision r WHERE r.company_id = c.company_id) AS revision, s.data_type,
    s.fetch_on_first_link, s.frequency, s.sync_order, s.sync_from, s.sync_from_window_months, s.months_to_sync, s.locked
FROM connection c LEFT JOIN sync_setting s ON false
WHERE c.company_id = ANY ($1::uuid[]) AND c.deleted IS NULL
UNION ALL
SELECT s.company_id, NULL, NULL, NULL, NULL, NULL, s.data_type,
    s.fetch_on_first_link, s.frequency, s.sync_order, s.sync_from, s.sync_from_window_months, s.months_to_sync, s.locked
FROM sync_setting s WHERE s.company_id IS NULL OR s.company_id = ANY ($1)
ORDER BY id;

-- name: connections_by_id
SELECT c.company_id, c.id, c.status, c.integration_key, c.authorized FROM connection c
WHERE c.id = ANY ($1::uuid[]) AND c.deleted IS NULL;

-- name: linked_connections
SELECT c.company_id, c.id, c.status, c.integration_key, c.authorized FROM connection c
WHERE c.status = 'LINKED' AND ($1::uuid IS NULL OR c.id > $1) ORDER BY c.id LIMIT $2;

-- name: existing_companies
SELECT id FROM company WHERE id = ANY ($1::uuid[]) AND deleted IS NULL;

-- name: link_connection
SELECT linked, queued FROM link_connection($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: unlink_connection
SELECT unlink_connection($1, $2, $3);

-- name: connections_to_erase
SELECT id FROM connection
WHERE deleted < clock_timestamp() - make_interval(secs => $1) AND erased IS NULL ORDER BY deleted LIMIT $2;

-- name: note_erased
UPDATE connection c SET erased = clock_timestamp()
WHERE c.id = $1 AND c.deleted IS NOT NULL AND c.erased IS NULL
    AND NOT EXISTS (SELECT FROM record_set s WHERE s.connection_id = c.id)
RETURNING c.id;

-- name: open_connector_session
INSERT INTO connector_session (id, connector_name, version, address, integration_keys, connection_ids, capacity,
    company_capacity, expires)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9));

-- name: drain_connector_session
UPDATE connector_session SET capacity = 0, company_capacity = 0 WHERE id = $1;

-- name: renew_connector_session
UPDATE connector_session SET expires = clock_timestamp() + make_interval(secs => $2) WHERE id = $1 RETURNING id;

-- name: close_connector_session
DELETE FROM connector_session WHERE id = $1;

-- name: forget_dead_connector_sessions
DELETE FROM connector_session WHERE expires < clock_timestamp() - interval '1 hour';
