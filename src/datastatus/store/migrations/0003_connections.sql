-- What happens to a connection and its datasets together, each in one call. All of them lock the connection
-- first, so that no dataset can be queued on it meanwhile.

-- End the active datasets of a connection whose row the caller has locked: those QUEUED, or all of them. Waits
-- for rows that a batch has locked, which is safe since no batch ever waits for a row.
CREATE FUNCTION end_datasets(
    connection uuid, queued_only boolean, to_status dataset_status, description text,
    error_message text, error_code text
) RETURNS SETOF appended
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    victims change[];
BEGIN
    PERFORM FROM dataset d WHERE d.connection_id = connection AND d.completed IS NULL ORDER BY d.id
    FOR NO KEY UPDATE;
    -- A statement of its own: the rows as they are now that nobody else can change them.
    SELECT array_agg(ROW(d.id, d.status, to_status, description, error_message, error_code, NULL, NULL, NULL)::change
        ORDER BY d.id)
    INTO victims
    FROM dataset d
    WHERE d.connection_id = connection AND d.completed IS NULL AND (d.status = 'QUEUED' OR NOT queued_only);
    IF victims IS NOT NULL THEN
        RETURN QUERY SELECT * FROM append_transitions(victims);
    END IF;
END
$$;

-- Link a connection that is in `expected`, keep its credentials, and queue its first datasets with it. Of one that
-- is LINKED already the credentials are replaced. Answers with no row where the connection has left `expected`
-- meanwhile: somebody else linked it, or it is gone. `sealed` is NULL where the integration takes no credentials.
CREATE FUNCTION link_connection(
    connection uuid, company uuid, expected connection_status, sealed bytea, key_id text, dataset_ids uuid[],
    data_types text[], trigger sync_trigger, sync_orders integer[], queued_description text
) RETURNS TABLE (linked uuid, queued uuid[])
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    size constant integer := cardinality(dataset_ids);
    moment constant timestamptz := clock_timestamp();
BEGIN
    UPDATE connection c
    SET status = 'LINKED', first_linked = coalesce(c.first_linked, moment), authorized = moment
    WHERE c.id = connection AND c.company_id = company AND c.status = expected AND c.deleted IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF sealed IS NOT NULL THEN
        INSERT INTO connection_credentials VALUES (connection, sealed, key_id)
        ON CONFLICT (connection_id) DO UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id;
    END IF;
    UPDATE connection_error e SET resolved = clock_timestamp() WHERE e.connection_id = connection AND e.resolved IS NULL;
    SELECT connection, array_agg(q.dataset_id) FILTER (WHERE q.outcome = 'QUEUED')
    INTO linked, queued
    FROM queue_datasets(
        dataset_ids, array_fill(company, ARRAY[size]), array_fill(connection, ARRAY[size]), data_types,
        array_fill(trigger, ARRAY[size]), sync_orders, array_fill(true, ARRAY[size]), array_fill(false, ARRAY[size]),
        array_fill(''::text, ARRAY[size]), array_fill(NULL::uuid, ARRAY[size]), array_fill(NULL::bytea, ARRAY[size]),
        queued_description, '', 0) q;
    RETURN NEXT;
END
$$;

-- Unlink a connection, or delete it, forget its credentials and cancel its active datasets. False where there is
-- none.
CREATE FUNCTION unlink_connection(connection uuid, delete boolean, description text) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE connection c
    SET status = CASE WHEN c.status = 'PENDING_AUTH' AND NOT delete THEN c.status ELSE 'UNLINKED' END,
        deleted = CASE WHEN delete THEN clock_timestamp() END
    WHERE c.id = connection AND c.deleted IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM connection_credentials k WHERE k.connection_id = connection;
    PERFORM end_datasets(connection, false, 'CANCELLED', description, NULL, NULL);
    RETURN true;
END
$$;

-- End a dataset AUTH_ERROR, deauthorise its connection and end its QUEUED datasets AUTH_ERROR too; datasets in
-- later stages go on. What the source refuses is not kept: the credentials go. But a dataset that began before the
-- connection was last authorised ends alone: what it was refused for is no longer what the link stands on. Outcomes
-- are those of transition_datasets, without RETRY.
CREATE FUNCTION deauthorize_connection(
    dataset uuid, held_token uuid, description text, error_message text, error_code text, cascade_description text
) RETURNS TABLE (outcome text, status dataset_status, seq bigint, version integer, occurred timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    current dataset;
    link uuid;
    last_authorized timestamptz;
    outdated boolean;
    victims change[];
BEGIN
    PERFORM refuse_other_isolation();
    SELECT d.connection_id INTO link FROM dataset d WHERE d.id = dataset;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'UNKNOWN', NULL::dataset_status, NULL::bigint, NULL::integer, NULL::timestamptz;
        RETURN;
    END IF;
    SELECT c.authorized INTO last_authorized FROM connection c WHERE c.id = link FOR NO KEY UPDATE;
    PERFORM FROM dataset d WHERE d.connection_id = link AND d.completed IS NULL ORDER BY d.id FOR NO KEY UPDATE;
    SELECT d.* INTO current FROM dataset d WHERE d.id = dataset;
    outcome := judge_change(current, 'AUTH_ERROR', held_token, false, NULL);
    IF outcome <> 'DONE' THEN
        RETURN QUERY SELECT outcome, current.status, NULL::bigint, NULL::integer, NULL::timestamptz;
        RETURN;
    END IF;

    outdated := coalesce(current.started < last_authorized, false);
    IF NOT outdated THEN
        UPDATE connection c SET status = 'DEAUTHORIZED' WHERE c.id = link AND c.status = 'LINKED';
        -- Of several fetches that are refused together the first tells.
        IF FOUND THEN
            DELETE FROM connection_credentials k WHERE k.connection_id = link;
            INSERT INTO connection_error (connection_id, code, message)
            VALUES (link, coalesce(error_code, 'AUTH_ERROR'), coalesce(error_message, description));
        END IF;
    END IF;

    SELECT array_agg(ROW(d.id, d.status, 'AUTH_ERROR',
            CASE WHEN d.id = dataset THEN description ELSE cascade_description END,
            error_message, error_code, NULL, NULL, NULL)::change ORDER BY d.id <> dataset, d.id)
    INTO victims
    FROM dataset d
    WHERE d.connection_id = link AND d.completed IS NULL
        AND (d.id = dataset OR (d.status = 'QUEUED' AND NOT outdated));
    RETURN QUERY
    SELECT 'DONE', 'AUTH_ERROR'::dataset_status, a.seq, a.version, a.occurred
    FROM append_transitions(victims) a WHERE a.dataset_id = dataset;
END
$$;

-- Whether a connector that is online now serves the connection.
CREATE FUNCTION is_served(connection uuid) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM connector_session s
        WHERE s.expires > clock_timestamp() AND (
            is_served.connection = ANY (s.connection_ids)
            OR (SELECT c.integration_key FROM connection c WHERE c.id = is_served.connection) = ANY (s.integration_keys)))
$$;
