-- name: queue_datasets
SELECT outcome, dataset_id, link, requested, completed
FROM queue_datasets($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: transition_datasets
SELECT outcome, status, seq, version, occurred FROM transition_datasets($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: deauthorize_connection
SELECT outcome, status, seq, version, occurred FROM deauthorize_connection($1, $2, $3, $4, $5, $6);

-- name: journal_bounds
SELECT (SELECT max(number) FROM epoch) AS epoch,
    coalesce(max(seq), 0) AS head_seq, coalesce(min(seq), 1) AS oldest_seq
FROM transition;

-- name: read_transitions
SELECT * FROM transition WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: forget_requests
DELETE FROM sync_request WHERE created < clock_timestamp() - make_interval(hours => $1);

-- name: recall_request
SELECT outcome, dataset_id
FROM recall_request($1, $2, $3, clock_timestamp() - make_interval(hours => $4)) WHERE outcome IS NOT NULL;
