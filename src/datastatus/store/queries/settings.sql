-- name: sync_settings
SELECT * FROM sync_setting WHERE company_id IS NULL OR company_id = ANY ($1::uuid[]);

-- name: update_sync_settings
-- Of a setting that is there already only the fields named in $11 change; a new one is whole.
WITH reset AS (
    DELETE FROM sync_setting s WHERE s.company_id IS NOT DISTINCT FROM $1 AND s.data_type = ANY ($2::text[])
)
INSERT INTO sync_setting AS s (company_id, data_type, fetch_on_first_link, frequency, sync_order, sync_from,
    sync_from_window_months, months_to_sync, locked)
SELECT $1::uuid, n.* FROM unnest($3::text[], $4::boolean[], $5::sync_frequency[], $6::integer[], $7::timestamptz[],
    $8::integer[], $9::integer[], $10::boolean[]) AS n
ON CONFLICT (company_id, data_type) DO UPDATE SET
    fetch_on_first_link = CASE WHEN 'fetch_on_first_link' = ANY ($11::text[])
        THEN excluded.fetch_on_first_link ELSE s.fetch_on_first_link END,
    frequency = CASE WHEN 'frequency' = ANY ($11) THEN excluded.frequency ELSE s.frequency END,
    sync_order = CASE WHEN 'sync_order' = ANY ($11) THEN excluded.sync_order ELSE s.sync_order END,
    sync_from = CASE WHEN 'sync_from' = ANY ($11) THEN excluded.sync_from ELSE s.sync_from END,
    sync_from_window_months = CASE WHEN 'sync_from_window_months' = ANY ($11)
        THEN excluded.sync_from_window_months ELSE s.sync_from_window_months END,
    months_to_sync = CASE WHEN 'months_to_sync' = ANY ($11) THEN excluded.months_to_sync ELSE s.months_to_sync END,
    locked = CASE WHEN 'locked' = ANY ($11) THEN excluded.locked ELSE s.locked END;
