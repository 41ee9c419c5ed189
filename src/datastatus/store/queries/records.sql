-- name: stage_page
SELECT pages, raw_records FROM stage_page($1, $2, $3, $4);

-- name: seal_staging
INSERT INTO staging (dataset_id, attempt, whole, whole_from) VALUES ($1, $2, $3, $4)
ON CONFLICT (dataset_id, attempt) DO UPDATE SET whole = excluded.whole, whole_from = excluded.whole_from
RETURNING raw_records;

-- name: staged_counts
SELECT s.raw_records, s.mapped_records FROM staging s WHERE s.dataset_id = $1 AND s.attempt = $2;

-- name: count_staged_raw
SELECT coalesce(sum(cardinality(records)), 0) FROM staged_page WHERE dataset_id = $1 AND attempt = $2;

-- name: count_staged_records
SELECT count(*) FROM staged_record WHERE dataset_id = $1 AND attempt = $2;

-- name: read_staged_pages
SELECT page, records FROM staged_page
WHERE dataset_id = $1 AND attempt = $2 AND page > $3 ORDER BY page LIMIT $4;

-- name: add_mapped
WITH staged AS (
    INSERT INTO staged_record (dataset_id, attempt, ordinal, record_id, body, content_hash, source_modified, dated)
    SELECT $1, $2, $3::bigint + r.ordinal, r.record_id, r.body::jsonb, r.content_hash, r.source_modified, r.dated
    FROM unnest($4::text[], $5::text[], $6::bytea[], $7::timestamptz[], $8::date[]) WITH ORDINALITY
        AS r (record_id, body, content_hash, source_modified, dated, ordinal)
)
UPDATE staging SET mapped_records = mapped_records + cardinality($4::text[]) WHERE dataset_id = $1 AND attempt = $2;

-- name: read_staged_records
SELECT ordinal, record_id, body FROM staged_record
WHERE dataset_id = $1 AND attempt = $2 AND ordinal > $3 ORDER BY ordinal LIMIT $4;

-- name: duplicate_record_ids
SELECT record_id, count(*) AS occurrences FROM staged_record
WHERE dataset_id = $1 AND attempt = $2 GROUP BY record_id HAVING count(*) > 1 ORDER BY record_id LIMIT $3;

-- name: add_validation_issues
INSERT INTO validation_issue (dataset_id, ordinal, rule_id, severity, record_id, field, message, expected, found)
SELECT $1, i.ordinal + $2, i.rule_id, i.severity, i.record_id, i.field, i.message, i.expected, i.found
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) WITH ORDINALITY
    AS i (rule_id, severity, record_id, field, message, expected, found, ordinal);

-- name: clear_validation_issues
DELETE FROM validation_issue WHERE dataset_id = $1;

-- name: list_validation_issues
SELECT * FROM validation_issue WHERE dataset_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3;

-- name: count_validation_issues
SELECT count(*) FILTER (WHERE severity = 'ERROR') AS errors, count(*) FILTER (WHERE severity = 'WARNING') AS warnings
FROM validation_issue WHERE dataset_id = $1;

-- name: publish_dataset
SELECT record_count, seq, version, occurred FROM publish_dataset($1, $2, $3);

-- name: discard_staging
-- Of this attempt and earlier ones: the next attempt may be staging already.
WITH pages AS (DELETE FROM staged_page WHERE dataset_id = $1 AND attempt <= $2),
    records AS (DELETE FROM staged_record WHERE dataset_id = $1 AND attempt <= $2)
DELETE FROM staging WHERE dataset_id = $1 AND attempt <= $2;

-- name: abandoned_staging
SELECT DISTINCT s.dataset_id, d.attempt FROM staging s JOIN dataset d ON d.id = s.dataset_id
WHERE d.completed IS NOT NULL LIMIT $1;

-- name: record_sets
SELECT r.id, r.connection_id, r.data_type, r.publication, r.published, r.dataset_id, r.record_count
FROM record_set r JOIN connection c ON c.id = r.connection_id
WHERE c.company_id = $1 AND c.deleted IS NULL AND r.data_type = $2 AND ($3::uuid IS NULL OR c.id = $3)
    AND r.publication > 0
ORDER BY r.id;

-- name: record_set_by_id
SELECT r.id, r.connection_id, r.data_type, r.publication, r.published, r.dataset_id, r.record_count
FROM record_set r JOIN connection c ON c.id = r.connection_id
WHERE r.id = $1 AND c.deleted IS NULL;

-- name: list_records
SELECT record_id, body, modified, source_modified, is_deleted FROM record
WHERE record_set_id = $1 AND valid_from <= $2 AND (valid_to IS NULL OR valid_to > $2)
    AND NOT is_deleted AND record_id > $3
ORDER BY record_id LIMIT $4;

-- name: get_record
SELECT record_id, body, modified, source_modified, is_deleted FROM record
WHERE record_set_id = $1 AND record_id = $2 AND valid_to IS NULL;
