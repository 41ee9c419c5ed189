-- name: datasets_by_id
SELECT d.*, wait_reason_of(d) AS waits_for
FROM dataset d WHERE d.id = ANY ($1::uuid[]);

-- name: list_datasets
SELECT d.*, wait_reason_of(d) AS waits_for
FROM dataset d
WHERE ($1::uuid IS NULL OR d.company_id = $1)
    AND ($2::uuid IS NULL OR d.connection_id = $2)
    AND ($3::text IS NULL OR d.data_type = $3)
    AND ($4::text[] IS NULL OR d.status = ANY ($4::text[]::dataset_status[]))
    AND ($5::uuid IS NULL OR d.id < $5)
ORDER BY d.id DESC LIMIT $6;

-- name: erase_messages
-- The next datasets of a connection, and whether each has findings. Locked in the order in which all others do.
WITH following AS MATERIALIZED (
    SELECT id FROM dataset WHERE connection_id = $1 AND id > $2 ORDER BY id LIMIT $3
), telling AS (
    SELECT d.id FROM following f
    CROSS JOIN LATERAL (
        SELECT id FROM dataset WHERE id = f.id AND error_message <> $4 LIMIT 1 FOR NO KEY UPDATE
    ) d
), erased AS (
    UPDATE dataset SET error_message = $4 WHERE id = ANY (ARRAY(SELECT t.id FROM telling t))
)
SELECT f.id, (
    -- In an order that only the index gives.
    SELECT true FROM validation_issue i WHERE i.dataset_id = f.id ORDER BY i.attempt LIMIT 1
) IS NOT NULL AS has_findings
FROM following f ORDER BY f.id;

-- name: data_status_pointers
-- One row a connection, with an array for each column; nulls where nothing was ever queued on it. And of what state of
-- the store all of this is: see data_status_versions.
SELECT h.epoch, h.seq, k.revision, c.company_id, c.id AS connection_id, c.integration_key, of_types.*
FROM connection c
JOIN company k ON k.id = c.company_id
CROSS JOIN journal_head h
CROSS JOIN LATERAL (
    SELECT array_agg(s.data_type) AS data_types, array_agg(s.latest_dataset_id) AS latest_dataset_ids,
        array_agg(s.latest_seq) AS latest_seqs,
        -- Looked up one by one: there may be years of datasets, of which these are few.
        array_agg((SELECT d.status FROM dataset d WHERE d.id = s.latest_dataset_id)) AS statuses,
        array_agg(s.successful_dataset_id) AS successful_dataset_ids,
        array_agg(s.successful_seq) AS successful_seqs, array_agg(s.last_successful_sync) AS last_successful_syncs
    FROM data_status s
    WHERE s.connection_id = c.id
) AS of_types
WHERE c.company_id = ANY ($1::uuid[]) AND c.deleted IS NULL;

-- name: data_status_versions
-- The revision of each company in their order. What data_status_pointers has told of a company is still so where epoch and
-- revision are those of then, and no transition after the `seq` of then, up to this one, is of the company.
SELECT h.epoch, h.seq, (
    SELECT array_agg(k.revision ORDER BY asked.ordinality)
    FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (company_id, ordinality)
    LEFT JOIN company k ON k.id = asked.company_id
) AS revisions
FROM journal_head h;

-- name: latest_syncs
SELECT w.connection_id, w.data_type, d.id, d.requested, d.completed
FROM unnest($1::uuid[], $2::text[]) AS w (connection_id, data_type)
JOIN data_status s ON s.connection_id = w.connection_id AND s.data_type = w.data_type
JOIN dataset d ON d.id = s.latest_dataset_id;

-- name: snapshot_latest
SELECT d.*, s.last_successful_sync, s.successful_dataset_id
FROM data_status s JOIN dataset d ON d.id = s.latest_dataset_id
WHERE ($1::uuid[] IS NULL OR d.company_id = ANY ($1)) AND ($2::uuid[] IS NULL OR d.connection_id = ANY ($2));

-- name: snapshot_named
SELECT d.*, s.last_successful_sync, s.successful_dataset_id
FROM dataset d JOIN data_status s ON s.connection_id = d.connection_id AND s.data_type = d.data_type
WHERE d.id = ANY ($1::uuid[]);

-- name: claimable_datasets
SELECT dataset_id, company_id FROM claimable_datasets($1, $2, $3, $4, $5);

-- name: claimed_datasets
SELECT d.id, d.company_id, d.connection_id, c.integration_key, d.data_type, d.lease_token, d.attempt,
    c.authorized, r.whole_started, r.whole_from, r.newest_source_modified, clock_timestamp() AS now
FROM dataset d JOIN connection c ON c.id = d.connection_id
LEFT JOIN record_set r ON r.connection_id = d.connection_id AND r.data_type = d.data_type
WHERE d.id = ANY ($1::uuid[]) AND d.lease_token IS NOT NULL;

-- name: renew_leases
WITH held AS (
    SELECT d.id FROM dataset d
    JOIN unnest($1::uuid[], $2::uuid[]) AS h (dataset_id, token) ON d.id = h.dataset_id AND d.lease_token = h.token
    ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE dataset d SET lease_expires = clock_timestamp() + make_interval(secs => $3)
FROM held WHERE d.id = held.id RETURNING d.id;

-- name: adopt_leases
WITH held AS (
    SELECT d.id FROM dataset d
    JOIN unnest($1::uuid[], $2::uuid[]) AS h (dataset_id, token) ON d.id = h.dataset_id AND d.lease_token = h.token
    ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE dataset d SET lease_expires = clock_timestamp() + make_interval(secs => $3), lease_holder = $4
FROM held WHERE d.id = held.id RETURNING d.id;

-- name: leases_of
SELECT id, lease_token FROM dataset WHERE lease_holder = $1 AND lease_token IS NOT NULL ORDER BY id;

-- name: expired_leases
SELECT id, attempt FROM dataset
WHERE lease_token IS NOT NULL AND lease_expires < clock_timestamp() ORDER BY id LIMIT $1;

-- name: connections_with_strays
SELECT c.id FROM connection c
WHERE c.status <> 'LINKED' AND EXISTS (
    SELECT FROM dataset d WHERE d.connection_id = c.id AND d.completed IS NULL AND d.lease_token IS NULL)
ORDER BY c.id LIMIT $1;

-- name: end_strays
SELECT end_strays($1, $2, $3, $4) AS is_done;

-- name: record_progress
UPDATE dataset d SET
    records_fetched = greatest(d.records_fetched, coalesce(p.fetched, 0)),
    records_mapped = greatest(d.records_mapped, coalesce(p.mapped, 0)),
    records_validated = greatest(d.records_validated, coalesce(p.validated, 0)),
    records_total = coalesce(p.total, d.records_total),
    wait_reason = p.wait_reason,
    retry_time = p.retry_time
FROM (
    SELECT id, p.fetched, p.mapped, p.validated, p.total, p.wait_reason, p.retry_time
    FROM dataset
    JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
        $8::timestamptz[]) AS p (dataset_id, token, fetched, mapped, validated, total, wait_reason, retry_time)
        ON p.dataset_id = id AND p.token = lease_token
    ORDER BY id FOR NO KEY UPDATE OF dataset
) p
WHERE d.id = p.id;
