-- name: queue_datasets
SELECT called, first_seq, queued, first_ended_seq, ended, epoch, decisions
FROM queue_datasets($1, $2, $3, $4);

-- name: transition_datasets
SELECT first_seq, occurred, epoch, judged FROM transition_datasets($1);

-- name: deauthorize_connection
SELECT outcome, status FROM deauthorize_connection($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: journal_bounds
SELECT epoch, seq AS head_seq, oldest_seq FROM journal_head;

-- name: journal_partitions
SELECT from_seq, to_seq FROM journal_partition ORDER BY from_seq;

-- name: make_journal_room
SELECT make_journal_room($1);

-- name: oldest_seq_since
-- By halves, as time does not go back along seq.
WITH RECURSIVE search (low, high) AS (
    SELECT greatest(oldest_seq, $1), seq FROM journal_head
    UNION ALL
    SELECT CASE WHEN t.occurred < $2 THEN t.seq + 1 ELSE s.low END, CASE WHEN t.occurred < $2 THEN s.high ELSE t.seq END
    FROM search s JOIN transition t ON t.seq = (s.low + s.high) / 2
    WHERE s.low < s.high
)
SELECT max(low) FROM search;

-- name: raise_oldest_seq
UPDATE journal_retention SET oldest_seq = greatest(oldest_seq, $1);

-- name: drop_journal_partition
SELECT drop_journal_partition($1);

-- name: read_transitions
-- In the order of a Transition.
SELECT seq, dataset_id, company_id, connection_id, data_type, version, from_status, to_status, occurred, trigger,
    description, error_message, error_code
FROM transition WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: read_tail
-- The epoch, and the rest in the order of a Transition.
SELECT (SELECT max(number) FROM epoch) AS epoch, seq, dataset_id, company_id, connection_id, data_type, version,
    from_status, to_status, occurred, trigger, description, error_message, error_code
FROM transition WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: forget_requests
DELETE FROM sync_request WHERE created < clock_timestamp() - make_interval(hours => $1);

-- name: recall_request
SELECT outcome, dataset_id
FROM recall_request($1, $2, $3, clock_timestamp() - make_interval(hours => $4)) WHERE outcome IS NOT NULL;

-- name: store_time
SELECT clock_timestamp();

-- name: announce_transitions
-- Nothing is lost with it, so its commit does not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('datastatus_transitions', $1);
