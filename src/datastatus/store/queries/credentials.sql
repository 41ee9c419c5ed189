-- name: sealed_credentials
SELECT connection_id, sealed, key_id FROM connection_credentials WHERE connection_id = $1;

-- name: credentials_under_other_keys
-- In order of (key, connection), those after the one given.
SELECT connection_id, sealed, key_id FROM connection_credentials
WHERE key_id <> $1 AND (key_id, connection_id) > ($2, $3::uuid)
ORDER BY key_id, connection_id LIMIT $4;

-- name: replace_sealed_credentials
-- Unless they were replaced meanwhile, by a new authorisation say.
UPDATE connection_credentials k SET sealed = n.sealed, key_id = n.key_id
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::text[]) AS n (connection_id, before, sealed, key_id)
WHERE k.connection_id = n.connection_id AND k.sealed = n.before
RETURNING k.connection_id;

-- name: credentials_by_key
SELECT key_id, count(*) AS connections FROM connection_credentials GROUP BY key_id ORDER BY key_id;
