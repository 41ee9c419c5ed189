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
