-- name: stage_page
SELECT pages, raw_records FROM stage_page($1, $2, $3, $4);

-- name: seal_staging
-- Only by who has it in hand: of a lost attempt nothing may change any more that another one goes on with.
INSERT INTO staging (dataset_id, attempt, whole, whole_from)
SELECT d.id, d.attempt, $4, $5 FROM dataset d
WHERE d.id = $1 AND d.attempt = $2 AND d.lease_token = $3 AND d.status = 'FETCHING'
ON CONFLICT (dataset_id, attempt) DO UPDATE SET whole = excluded.whole, whole_from = excluded.whole_from
RETURNING raw_records;

-- name: staged_counts
SELECT s.raw_records, s.mapped_records, s.whole FROM staging s WHERE s.dataset_id = $1 AND s.attempt = $2;

-- name: read_staged_pages
SELECT page, records FROM staged_page
WHERE dataset_id = $1 AND attempt = $2 AND page > $3 ORDER BY page LIMIT $4;

-- name: add_mapped
-- Not once the attempt was discarded: nobody would find the page, and it would stay for ever.
WITH counted AS (
    UPDATE staging SET mapped_records = mapped_records + cardinality($4::text[])
    WHERE dataset_id = $1 AND attempt = $2 RETURNING dataset_id
)
INSERT INTO mapped_page (dataset_id, attempt, page, record_ids, bodies, content_hashes, source_modified,
    days, party_ids, reference_types, reference_ids)
SELECT c.dataset_id, $2, $3, $4, $5::text[]::jsonb[], $6, $7, $8, $9, $10, $11 FROM counted c;

-- name: count_mapped
SELECT coalesce(sum(cardinality(record_ids)), 0) FROM mapped_page WHERE dataset_id = $1 AND attempt = $2;

-- name: duplicate_record_ids
SELECT s.record_id, count(*) AS occurrences, count(*) OVER () AS ids
FROM mapped_page p CROSS JOIN unnest(p.record_ids) s (record_id)
WHERE p.dataset_id = $1 AND p.attempt = $2
GROUP BY s.record_id HAVING count(*) > 1 ORDER BY s.record_id LIMIT $3;

-- name: count_vanished
-- `cached` are those that publishing marks deleted unless they are among the mapped ones, `kept`.
SELECT CASE WHEN t.whole_from IS NULL THEN r.record_count ELSE (
    SELECT count(*) FROM record c
    WHERE c.record_set_id = r.id AND c.valid_to IS NULL AND NOT c.is_deleted
        AND (c.dated IS NULL OR c.dated >= t.whole_from)
) END AS cached, (
    SELECT count(*) FROM mapped_page p CROSS JOIN unnest(p.record_ids) s (record_id)
    CROSS JOIN LATERAL (
        SELECT FROM record c
        WHERE c.record_set_id = r.id AND c.record_id = s.record_id AND c.valid_to IS NULL AND NOT c.is_deleted
            AND (c.dated IS NULL OR t.whole_from IS NULL OR c.dated >= t.whole_from)
        LIMIT 1
    ) still_there
    WHERE p.dataset_id = t.dataset_id AND p.attempt = t.attempt
) AS kept
FROM staging t
JOIN dataset d ON d.id = t.dataset_id
JOIN record_set r ON r.connection_id = d.connection_id AND r.data_type = d.data_type
WHERE t.dataset_id = $1 AND t.attempt = $2 AND r.record_count > 0;

-- name: mapped_pages
SELECT page FROM mapped_page WHERE dataset_id = $1 AND attempt = $2 ORDER BY page;

-- name: doubtful_references
SELECT page, data_type, record_id, doubt FROM doubtful_references($1, $2, $3);

-- name: mapped_page_bodies
SELECT bodies::text[] AS bodies FROM mapped_page WHERE dataset_id = $1 AND attempt = $2 AND page = $3;

-- name: base_currency
SELECT r.body ->> 'baseCurrency' FROM record_set s JOIN record r ON r.record_set_id = s.id
WHERE s.connection_id = $1 AND s.data_type = 'company' AND r.valid_to IS NULL AND NOT r.is_deleted
ORDER BY r.record_id LIMIT 1;

-- name: publish_dataset
SELECT publish_dataset($1, $2, $3) AS record_count;

-- name: discard_staging
-- Of this attempt and earlier ones: the next attempt may be staging already. What is being published stays.
WITH unused AS (
    SELECT s.attempt FROM staging s WHERE s.dataset_id = $1 AND s.attempt <= $2 FOR UPDATE SKIP LOCKED
), in_use AS (
    SELECT s.attempt FROM staging s WHERE s.dataset_id = $1 AND s.attempt NOT IN (SELECT u.attempt FROM unused u)
), pages AS (
    -- Also of an attempt that was discarded before: a page of it may have been on its way.
    DELETE FROM staged_page p
    WHERE p.dataset_id = $1 AND p.attempt <= $2 AND p.attempt NOT IN (SELECT u.attempt FROM in_use u)
), mapped AS (
    DELETE FROM mapped_page p
    WHERE p.dataset_id = $1 AND p.attempt <= $2 AND p.attempt NOT IN (SELECT u.attempt FROM in_use u)
)
DELETE FROM staging s USING unused u WHERE s.dataset_id = $1 AND s.attempt = u.attempt;

-- name: abandoned_staging
SELECT DISTINCT s.dataset_id, d.attempt FROM staging s JOIN dataset d ON d.id = s.dataset_id
WHERE d.completed IS NOT NULL LIMIT $1;
