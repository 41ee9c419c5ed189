-- name: add_validation_issues
INSERT INTO validation_issue (dataset_id, attempt, ordinal, rule_id, severity, record_id, field, message, expected,
    found)
SELECT $1, $2, i.ordinal + $3, i.rule_id, i.severity, i.record_id, i.field, i.message, i.expected, i.found
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY
    AS i (rule_id, severity, record_id, field, message, expected, found, ordinal);

-- name: clear_validation_issues
DELETE FROM validation_issue WHERE dataset_id = $1 AND attempt < $2;

-- name: note_validation
UPDATE dataset SET validation_errors = $3, validation_warnings = $4 WHERE id = $1 AND lease_token = $2
RETURNING id;

-- name: list_validation_issues
SELECT i.* FROM validation_issue i JOIN dataset d ON d.id = i.dataset_id AND d.attempt = i.attempt
WHERE i.dataset_id = $1 AND i.ordinal > $2 ORDER BY i.ordinal LIMIT $3;

-- name: drop_validation_issues
DELETE FROM validation_issue WHERE dataset_id = $1;

-- name: old_validation_issues
-- The next datasets after $1 that have findings and were queued before $2. In order of id, which is that of time, and by one
-- look into the index for each, however many findings it has; subqueries, so that no plan reads a whole table.
WITH RECURSIVE found_in (dataset_id) AS (
    (SELECT i.dataset_id FROM validation_issue i WHERE i.dataset_id > $1 ORDER BY i.dataset_id LIMIT 1)
    UNION ALL
    SELECT (SELECT i.dataset_id FROM validation_issue i WHERE i.dataset_id > f.dataset_id ORDER BY i.dataset_id LIMIT 1)
    FROM found_in f WHERE f.dataset_id IS NOT NULL
)
SELECT d.id, d.completed < $2 AND NOT coalesce((
    SELECT c.deleted IS NULL AND d.id IN (s.latest_dataset_id, s.successful_dataset_id)
    FROM data_status s JOIN connection c ON c.id = s.connection_id
    WHERE s.connection_id = d.connection_id AND s.data_type = d.data_type LIMIT 1
), false) AS is_due
FROM (SELECT f.dataset_id FROM found_in f LIMIT $3) f
CROSS JOIN LATERAL (SELECT * FROM dataset d WHERE d.id = f.dataset_id LIMIT 1) d
WHERE d.requested < $2
ORDER BY d.id;
