-- What happens to a connection and its datasets together, each in one call. All of them lock the connection
-- first, so that no dataset can be queued on it meanwhile.

-- End the active datasets of a connection whose row the caller has locked: those QUEUED, or all of them. Waits
-- for rows that a batch has locked, which is safe since no batch ever waits for a row.
CREATE FUNCTION end_datasets(
    connection uuid, queued_only boolean, to_status dataset_status, description text,
    error_message text, error_code text
) RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    victims change[];
BEGIN
    PERFORM FROM dataset d WHERE d.connection_id = connection AND d.completed IS NULL ORDER BY d.id
    FOR NO KEY UPDATE;
    -- A statement of its own: the rows as they are now that nobody else can change them.
    SELECT array_agg(ROW(d.id, d.status, to_status, description, error_message, error_code, NULL, NULL, NULL,
        NULL, NULL)::change ORDER BY d.id)
    INTO victims
    FROM dataset d
    WHERE d.connection_id = connection AND d.completed IS NULL AND (d.status = 'QUEUED' OR NOT queued_only);
    IF victims IS NOT NULL THEN
        PERFORM append_transitions(victims);
    END IF;
END
$$;

-- End what is QUEUED on a connection that is not linked: it was between two attempts when the link was lost. Of one that
-- has been linked again meanwhile nothing is ended: false.
CREATE FUNCTION end_strays(connection uuid, description text, error_message text, error_code text) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM connection c WHERE c.id = connection AND c.status <> 'LINKED' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM end_datasets(connection, true, 'AUTH_ERROR', description, error_message, error_code);
    RETURN true;
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
BEGIN
    -- By the clock once the row is had: an attempt that began before that had the credentials of before.
    UPDATE connection c
    SET status = 'LINKED', first_linked = coalesce(c.first_linked, clock_timestamp()), authorized = clock_timestamp()
    WHERE c.id = connection AND c.company_id = company AND c.status = expected AND c.deleted IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF sealed IS NOT NULL THEN
        INSERT INTO connection_credentials VALUES (connection, sealed, key_id)
        ON CONFLICT (connection_id) DO UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id;
    END IF;
    UPDATE connection_error e SET resolved = clock_timestamp() WHERE e.connection_id = connection AND e.resolved IS NULL;
    SELECT connection, (
        SELECT array_agg(u.dataset_id) FROM unnest(dataset_ids, q.decisions) AS u (
            dataset_id, outcome, answer, link, queued_place, ended_place)
        WHERE u.outcome IS NULL
    )
    INTO linked, queued
    FROM queue_datasets(
        (
            SELECT array_agg(ROW(u.dataset_id, company, connection, u.data_type, trigger, u.sync_order, true, false,
                false, '', NULL, NULL, NULL)::queue_item ORDER BY u.ordinality)
            FROM unnest(dataset_ids, data_types, sync_orders) WITH ORDINALITY u (
                dataset_id, data_type, sync_order, ordinality)
        ), queued_description, '', 0) q;
    RETURN NEXT;
END
$$;

-- Unlink a connection, or delete it, forget its credentials and cancel its active datasets. False where there is
-- none. Of one that is deleted nobody reads any more what was wrong with it; the records, which may be many, go later.
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
    DELETE FROM connection_error e WHERE e.connection_id = connection AND delete;
    PERFORM end_datasets(connection, false, 'CANCELLED', description, NULL, NULL);
    RETURN true;
END
$$;

-- End a dataset AUTH_ERROR, deauthorise its connection and end its QUEUED datasets AUTH_ERROR too; datasets in
-- later stages go on. What the source refuses is not kept: the credentials go. But a dataset whose attempt began
-- before the connection, which is linked, was last authorised goes back to QUEUED, and nothing else changes: what it was
-- refused for is no longer what the link stands on. Outcomes are those of transition_datasets, without RETRY; `status` is the
-- dataset's afterwards.
CREATE FUNCTION deauthorize_connection(
    dataset uuid, held_token uuid, description text, error_message text, error_code text, records_fetched bigint,
    records_total bigint, cascade_description text, again_description text,
    OUT outcome text, OUT status dataset_status
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    current dataset;
    link uuid;
    is_linked boolean;
    last_authorized timestamptz;
    victims change[];
BEGIN
    SELECT d.connection_id INTO link FROM dataset d WHERE d.id = dataset;
    IF NOT FOUND THEN
        outcome := 'UNKNOWN';
        RETURN;
    END IF;
    SELECT c.status = 'LINKED', c.authorized INTO is_linked, last_authorized
    FROM connection c WHERE c.id = link FOR NO KEY UPDATE;
    PERFORM FROM dataset d WHERE d.connection_id = link AND d.completed IS NULL ORDER BY d.id FOR NO KEY UPDATE;
    SELECT d.* INTO current FROM dataset d WHERE d.id = dataset;
    outcome := judge_change(
        current.status, current.lease_token, current.lease_expires, 'AUTH_ERROR', held_token, false, NULL);
    status := current.status;
    IF outcome <> 'DONE' THEN
        RETURN;
    END IF;

    status := 'AUTH_ERROR';
    IF is_linked AND current.status = 'FETCHING' AND current.claimed < last_authorized THEN
        status := 'QUEUED';
    ELSE
        UPDATE connection c SET status = 'DEAUTHORIZED' WHERE c.id = link AND c.status = 'LINKED';
        -- Of several fetches that are refused together the first tells.
        IF FOUND THEN
            DELETE FROM connection_credentials k WHERE k.connection_id = link;
            INSERT INTO connection_error (connection_id, code, message)
            VALUES (link, coalesce(error_code, 'AUTH_ERROR'), coalesce(error_message, description));
        END IF;
    END IF;

    -- The cause first.
    SELECT array_agg(ROW(d.id, d.status, status,
            CASE
                WHEN status = 'QUEUED' THEN again_description
                WHEN d.id = dataset THEN description
                ELSE cascade_description
            END,
            error_message, error_code, NULL, NULL, NULL,
            CASE WHEN d.id = dataset THEN records_fetched END,
            CASE WHEN d.id = dataset THEN records_total END)::change ORDER BY d.id <> dataset, d.id)
    INTO victims
    FROM dataset d
    WHERE d.connection_id = link AND d.completed IS NULL
        AND (d.id = dataset OR (d.status = 'QUEUED' AND status = 'AUTH_ERROR'));
    PERFORM append_transitions(victims);
END
$$;

-- The connectors that are online now and serve the connection.
CREATE FUNCTION serving_connectors(connection uuid, integration_key text) RETURNS SETOF connector_session
LANGUAGE sql STABLE
AS $$
    SELECT s.* FROM connector_session s
    WHERE s.expires > clock_timestamp()
        AND (connection = ANY (s.connection_ids) OR integration_key = ANY (s.integration_keys))
$$;

-- Why a dataset does not move just now; NULL where it does. One that is QUEUED waits for a connector, or until those
-- that serve it have room; one that is in work says so itself.
CREATE FUNCTION wait_reason_of(waiting dataset) RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT CASE
        WHEN waiting.status <> 'QUEUED' THEN waiting.wait_reason
        WHEN NOT EXISTS (SELECT FROM serving_connectors(waiting.connection_id, waiting.integration_key))
            THEN 'WAITING_FOR_CONNECTOR'
        WHEN NOT EXISTS (
            SELECT FROM serving_connectors(waiting.connection_id, waiting.integration_key) s
            WHERE (
                SELECT count(*) < s.capacity
                    AND count(*) FILTER (WHERE d.company_id = waiting.company_id) < s.company_capacity
                FROM dataset d WHERE d.lease_holder = s.id AND d.lease_token IS NOT NULL
            )
        ) THEN 'WAITING_FOR_SYNC'
    END
$$;

-- What a connector that serves these integrations and connections may claim, at most `room` in the order in which it
-- should: the companies take turns, beginning after `after_company`, and of each what goes first by its sync order.
-- Those in `barred` are left out. However much one company has waiting, another's is no further away.
--
-- Each look into `dataset` asks for what dataset_claimable leads with and in its order. No other index gives that
-- without sorting, so that even a plan made while the table was empty takes this one, and never reads what is leased.
CREATE FUNCTION claimable_datasets(
    keys text[], connections uuid[], barred uuid[], after_company uuid, room integer
) RETURNS TABLE (dataset_id uuid, company_id uuid)
LANGUAGE plpgsql STABLE
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    -- Who has something, under which integration: the n-th of each.
    company_ids uuid[] := '{}';
    company_keys text[] := '{}';
    one_key text;
    again boolean;
    turn uuid;
    turns integer;
BEGIN
    -- One look into the index for each company, whatever it has waiting; after the last it goes on with the first.
    FOREACH one_key IN ARRAY keys LOOP
        turns := 0;
        FOREACH again IN ARRAY ARRAY[false, true] LOOP
            turn := CASE WHEN again THEN '00000000-0000-0000-0000-000000000000' ELSE after_company END;
            LOOP
                SELECT d.company_id INTO turn FROM dataset d
                WHERE d.integration_key = one_key AND d.completed IS NULL AND d.lease_token IS NULL
                    AND d.company_id > turn AND d.company_id <> ALL (barred)
                ORDER BY d.company_id LIMIT 1;
                EXIT WHEN NOT FOUND OR turns >= room OR (again AND turn > after_company);
                company_ids := company_ids || turn;
                company_keys := company_keys || one_key;
                turns := turns + 1;
            END LOOP;
        END LOOP;
    END LOOP;

    IF cardinality(connections) > 0 THEN
        SELECT company_ids || coalesce(array_agg(s.company_id), '{}'),
            company_keys || coalesce(array_agg(s.integration_key), '{}')
        INTO company_ids, company_keys
        FROM (
            SELECT DISTINCT c.company_id, c.integration_key FROM connection c
            WHERE c.id = ANY (connections) AND c.company_id <> ALL (barred) AND c.integration_key <> ALL (keys)
        ) s
        CROSS JOIN LATERAL (
            SELECT FROM dataset d
            WHERE d.integration_key = s.integration_key AND d.company_id = s.company_id
                AND d.completed IS NULL AND d.lease_token IS NULL
            ORDER BY d.sync_order, d.id LIMIT 1
        ) d;
    END IF;

    RETURN QUERY
    SELECT f.id, f.company_id FROM (
        SELECT d.id, d.company_id, row_number() OVER (PARTITION BY d.company_id ORDER BY d.sync_order, d.id) AS nth
        FROM unnest(company_ids, company_keys) AS s (company_id, integration_key)
        CROSS JOIN LATERAL (
            SELECT d.id, d.company_id, d.sync_order FROM dataset d
            JOIN connection c ON c.id = d.connection_id AND c.status = 'LINKED'
            WHERE d.integration_key = s.integration_key AND d.company_id = s.company_id
                AND d.completed IS NULL AND d.lease_token IS NULL
                AND (d.integration_key = ANY (keys) OR d.connection_id = ANY (connections))
            ORDER BY d.sync_order, d.id
            LIMIT room / greatest(1, cardinality(company_ids)) + 1
        ) d
    ) f
    ORDER BY f.nth, f.company_id <= after_company, f.company_id LIMIT room;
END
$$;
