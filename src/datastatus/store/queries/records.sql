-- name: record_sets
SELECT r.id, r.connection_id, r.data_type, r.oldest_publication, p.number AS publication, p.published, p.dataset_id,
    p.record_count
FROM record_set r
JOIN connection c ON c.id = r.connection_id
JOIN publication p ON p.record_set_id = r.id AND p.number = r.publication
WHERE c.company_id = $1 AND c.deleted IS NULL AND r.data_type = $2 AND ($3::uuid IS NULL OR c.id = $3)
ORDER BY r.id;

-- name: publication
SELECT p.number AS publication, p.published, p.dataset_id, p.record_count
FROM publication p JOIN record_set r ON r.id = p.record_set_id
WHERE p.record_set_id = $1 AND p.number = $2 AND p.number >= r.oldest_publication;

-- name: get_record
SELECT record_id, body, modified, source_modified, is_deleted FROM record
WHERE record_set_id = $1 AND record_id = $2 AND valid_to IS NULL;

-- name: raise_oldest_publications
-- What was current an hour ago can be read for as long as it, or anything newer, is a reader's; $1 in seconds.
WITH oldest AS (
    SELECT record_set_id, max(number) AS number FROM publication
    WHERE published < clock_timestamp() - make_interval(secs => $1) GROUP BY record_set_id
), raised AS (
    UPDATE record_set r SET oldest_publication = o.number
    FROM oldest o WHERE r.id = o.record_set_id AND r.oldest_publication < o.number
    RETURNING r.id, r.oldest_publication
)
DELETE FROM publication p USING raised r WHERE p.record_set_id = r.id AND p.number < r.oldest_publication;

-- name: unswept_record_sets
SELECT id, oldest_publication FROM record_set WHERE swept_publication < oldest_publication ORDER BY id LIMIT $1;

-- name: sweep_records
WITH swept AS (
    SELECT ctid FROM record WHERE record_set_id = $1 AND valid_to <= $2 LIMIT $3
)
DELETE FROM record r USING swept WHERE r.ctid = swept.ctid RETURNING 1;

-- name: note_swept
UPDATE record_set SET swept_publication = $2 WHERE id = $1 AND swept_publication < $2;

-- name: erase_records
SELECT erase_records($1, $2);
