-- Staging, the cache of records, and publishing.

-- Raw pages as the connector sent them, and records in the standard model. Unlogged: a crash of the database, or
-- of one backend, empties them; the logged counts below tell.
CREATE UNLOGGED TABLE staged_page (
    dataset_id uuid NOT NULL,
    attempt integer NOT NULL,
    page bigint NOT NULL,
    records bytea[] NOT NULL,
    PRIMARY KEY (dataset_id, attempt, page)
);

-- Already as large as the pages of Postgres like them, and read once: compressing them would take longer.
ALTER TABLE staged_page ALTER records SET STORAGE EXTERNAL;

-- A page of records in the standard model, by columns. `days` and `party_ids` are what listings go by;
-- the references are what all records of the page name, each once.
CREATE UNLOGGED TABLE mapped_page (
    dataset_id uuid NOT NULL,
    attempt integer NOT NULL,
    page bigint NOT NULL,
    record_ids text[] NOT NULL,
    bodies jsonb[] NOT NULL,
    content_hashes bytea[] NOT NULL,
    source_modified timestamptz[] NOT NULL,
    days date[] NOT NULL,
    party_ids text[] NOT NULL,
    reference_types text[] NOT NULL,
    reference_ids text[] NOT NULL,
    PRIMARY KEY (dataset_id, attempt, page)
);

ALTER TABLE mapped_page
    ALTER record_ids SET STORAGE EXTERNAL, ALTER bodies SET STORAGE EXTERNAL,
    ALTER content_hashes SET STORAGE EXTERNAL, ALTER party_ids SET STORAGE EXTERNAL,
    ALTER reference_types SET STORAGE EXTERNAL, ALTER reference_ids SET STORAGE EXTERNAL;

CREATE TABLE staging (
    dataset_id uuid NOT NULL REFERENCES dataset ON DELETE CASCADE,
    attempt integer NOT NULL,
    pages bigint NOT NULL DEFAULT 0,
    raw_records bigint NOT NULL DEFAULT 0,
    mapped_records bigint NOT NULL DEFAULT 0,
    -- The fetch proved that it saw everything, from the day `whole_from` on if that is set: what is missing has
    -- vanished at the source.
    whole boolean NOT NULL DEFAULT false,
    whole_from date,
    PRIMARY KEY (dataset_id, attempt)
);

-- The records of one data type of one connection. `publication` counts the syncs that were published. Those from
-- `oldest_publication` on can be read; what only earlier ones had is gone up to `swept_publication`, and is going
-- from there on. The last whole fetch among them began at `whole_started` and reached back to `whole_from`, or as far as
-- there was anything.
CREATE TABLE record_set (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connection,
    data_type text NOT NULL,
    publication bigint NOT NULL DEFAULT 0,
    oldest_publication bigint NOT NULL DEFAULT 1,
    swept_publication bigint NOT NULL DEFAULT 1,
    record_count bigint NOT NULL DEFAULT 0,
    whole_started timestamptz,
    whole_from date,
    newest_source_modified timestamptz,
    UNIQUE (connection_id, data_type),
    CHECK (swept_publication <= oldest_publication)
);

-- One published state of a record set. It can be read for as long as its row is there.
CREATE TABLE publication (
    record_set_id bigint NOT NULL REFERENCES record_set ON DELETE CASCADE,
    number bigint NOT NULL CHECK (number > 0),
    published timestamptz NOT NULL,
    dataset_id uuid NOT NULL,
    record_count bigint NOT NULL,
    PRIMARY KEY (record_set_id, number)
);

-- Letters of all languages have their cases in it, whatever the database was made with: the first that this Postgres has.
DO $$
DECLARE
    properties text;
BEGIN
    FOREACH properties IN ARRAY ARRAY[
        $q$provider = builtin, locale = 'C.UTF-8'$q$,
        $q$provider = icu, locale = 'und'$q$,
        $q$provider = libc, locale = 'C.UTF-8'$q$
    ] LOOP
        BEGIN
            EXECUTE format('CREATE COLLATION every_language (%s)', properties);
            RETURN;
        EXCEPTION WHEN invalid_object_definition OR feature_not_supported OR undefined_object
            OR invalid_parameter_value OR wrong_object_type THEN
            NULL;
        END;
    END LOOP;
    CREATE COLLATION every_language FROM "C";
END
$$;

-- One version of one record: readable in the publications from `valid_from` up to but without `valid_to`.
-- `dated` (the day of the business that it tells of) and `party_id` stand in the body too, where the data type has them:
-- lists are ordered and filtered by them. Bodies stay in their rows and uncompressed as far as a page of Postgres has
-- room for them, which reads and writes faster.
CREATE TABLE record (
    record_set_id bigint NOT NULL REFERENCES record_set ON DELETE CASCADE,
    record_id text COLLATE "C" NOT NULL,
    valid_from bigint NOT NULL,
    valid_to bigint,
    body jsonb NOT NULL,
    content_hash bytea NOT NULL,
    modified timestamptz NOT NULL,
    source_modified timestamptz,
    dated date,
    party_id text COLLATE "C",
    is_deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (record_set_id, record_id, valid_from),
    CHECK (valid_to > valid_from)
) WITH (toast_tuple_target = 8160);

CREATE UNIQUE INDEX record_current ON record (record_set_id, record_id) WHERE valid_to IS NULL;
CREATE INDEX record_superseded ON record (record_set_id, valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX record_by_modified ON record (record_set_id, modified, record_id);
CREATE INDEX record_by_date ON record (record_set_id, dated, record_id) WHERE dated IS NOT NULL;
CREATE INDEX record_by_party ON record (record_set_id, party_id, record_id) WHERE party_id IS NOT NULL;

-- What validation found; kept with the dataset. By attempt, so that a worker that lost its lease cannot get in the
-- way of the next.
CREATE TABLE validation_issue (
    dataset_id uuid NOT NULL REFERENCES dataset ON DELETE CASCADE,
    attempt integer NOT NULL,
    ordinal integer NOT NULL,
    rule_id text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('WARNING', 'ERROR')),
    record_id text NOT NULL,
    field text NOT NULL,
    message text NOT NULL,
    expected text,
    found text,
    PRIMARY KEY (dataset_id, attempt, ordinal)
);

-- Stage one raw page under a lease. NULL where the lease is not the caller's or the dataset is not FETCHING;
-- else the pages and records staged in this attempt. A page that is there already is not staged again.
CREATE FUNCTION stage_page(dataset uuid, held_token uuid, page_number bigint, page_records bytea[])
RETURNS TABLE (pages bigint, raw_records bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    this_attempt integer;
BEGIN
    -- Unlocked: pages are kept by attempt, so one that a lost lease lets through here is never looked at.
    SELECT d.attempt INTO this_attempt FROM dataset d
    WHERE d.id = dataset AND d.lease_token = held_token AND d.status = 'FETCHING';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO staging (dataset_id, attempt) VALUES (dataset, this_attempt) ON CONFLICT DO NOTHING;
    INSERT INTO staged_page VALUES (dataset, this_attempt, page_number, page_records) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN QUERY
        UPDATE staging s SET pages = s.pages + 1, raw_records = s.raw_records + cardinality(page_records)
        WHERE s.dataset_id = dataset AND s.attempt = this_attempt
        RETURNING s.pages, s.raw_records;
    ELSE
        RETURN QUERY
        SELECT s.pages, s.raw_records FROM staging s WHERE s.dataset_id = dataset AND s.attempt = this_attempt;
    END IF;
END
$$;

-- How records are looked up by id: by a subquery with a LIMIT of its own for each, in a LATERAL join. The planner takes a
-- data type that it has no statistics of for a single record; a plain join of it with a page of ids would compare all
-- its records with all of them.

-- What some mapped pages refer to at other data types of their connection and that is doubtful: DANGLING or ARCHIVED.
-- Nothing is said of a data type that has never been published.
CREATE FUNCTION doubtful_references(dataset uuid, this_attempt integer, pages bigint[])
RETURNS TABLE (page bigint, data_type text, record_id text, doubt text)
LANGUAGE sql STABLE
SET enable_seqscan = off SET jit = off
AS $$
    WITH named AS MATERIALIZED (
        SELECT s.id AS record_set_id, n.data_type, n.record_id, array_agg(p.page) AS pages
        FROM dataset d
        CROSS JOIN unnest(pages) chosen (page)
        JOIN mapped_page p ON p.dataset_id = d.id AND p.attempt = this_attempt AND p.page = chosen.page
        CROSS JOIN unnest(p.reference_types, p.reference_ids) n (data_type, record_id)
        JOIN record_set s ON s.connection_id = d.connection_id AND s.data_type = n.data_type AND s.publication > 0
        WHERE d.id = dataset
        GROUP BY 1, 2, 3
    ), looked_up AS MATERIALIZED (
        SELECT n.*,
            CASE
                WHEN r.is_deleted IS NOT FALSE THEN 'DANGLING'
                WHEN n.data_type = 'chartOfAccounts' AND r.status = 'Archived' THEN 'ARCHIVED'
            END AS doubt
        FROM named n
        LEFT JOIN LATERAL (
            SELECT c.is_deleted, c.body ->> 'status' AS status FROM record c
            WHERE c.record_set_id = n.record_set_id AND c.record_id = n.record_id AND c.valid_to IS NULL LIMIT 1
        ) r ON true
    )
    SELECT of_page, l.data_type, l.record_id, l.doubt
    FROM looked_up l CROSS JOIN unnest(l.pages) of_page
    WHERE l.doubt IS NOT NULL
$$;

-- Close the versions of records that are current in a set and not among the staged ones, and add one that says that
-- they are deleted; how many.
CREATE FUNCTION publish_vanished(
    target record_set, staged staging, next_publication bigint, moment timestamptz
) RETURNS bigint
LANGUAGE plpgsql
-- How many are staged the planner cannot know: any plan but a hash of them could take for ever.
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
AS $$
DECLARE
    vanished_count bigint;
BEGIN
    WITH vanished AS (
        UPDATE record r SET valid_to = next_publication
        WHERE r.record_set_id = target.id AND r.valid_to IS NULL AND NOT r.is_deleted
            AND (r.dated IS NULL OR staged.whole_from IS NULL OR r.dated >= staged.whole_from)
            AND NOT EXISTS (
                SELECT FROM mapped_page p CROSS JOIN unnest(p.record_ids) s (record_id)
                WHERE p.dataset_id = staged.dataset_id AND p.attempt = staged.attempt AND s.record_id = r.record_id)
        RETURNING r.*
    )
    INSERT INTO record (record_set_id, record_id, valid_from, body, content_hash, modified, source_modified,
        dated, party_id, is_deleted)
    SELECT v.record_set_id, v.record_id, next_publication, v.body, v.content_hash, moment, v.source_modified,
        v.dated, v.party_id, true
    FROM vanished v;
    GET DIAGNOSTICS vanished_count = ROW_COUNT;
    RETURN vanished_count;
END
$$;

-- Publish the mapped records of a dataset and end it COMPLETE, in one transaction: no reader ever sees half a
-- sync. The bulk work goes first, page by page, and leaves what has not changed untouched; the dataset and the
-- journal are locked last and briefly. Answers with the number of records now readable. Raises, so that nothing of
-- it stays:
--   DS001  the dataset may not be completed: the lease is lost, or it has ended meanwhile
--   DS002  mapped records were lost
CREATE FUNCTION publish_dataset(dataset uuid, held_token uuid, description text) RETURNS bigint
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    candidate dataset;
    target record_set;
    staged staging;
    page mapped_page;
    next_publication bigint;
    moment timestamptz;
    completed timestamptz;
    -- Of a page: the places of what is new or has changed, the ids whose current versions end with that, and how many
    -- of these were deleted.
    fresh bigint[];
    stale text[];
    revived_count bigint;
    found_count bigint := 0;
    added_count bigint := 0;
    closed_count bigint := 0;
    page_count bigint;
    readable bigint;
    newest timestamptz;
    verdict text;
BEGIN
    SELECT d.* INTO candidate FROM dataset d WHERE d.id = dataset;
    IF candidate.lease_token IS DISTINCT FROM held_token THEN
        RAISE EXCEPTION 'dataset % may not be completed: LEASE_LOST', dataset USING ERRCODE = 'DS001';
    END IF;
    -- Locked, so that nobody discards it half-way: what is gone by then would count as vanished from the source.
    SELECT s.* INTO staged FROM staging s WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt FOR UPDATE;

    -- A publisher whose lease was lost may still be at work here; the next one waits for its end.
    INSERT INTO record_set (connection_id, data_type) VALUES (candidate.connection_id, candidate.data_type)
    ON CONFLICT DO NOTHING;
    SELECT r.* INTO target FROM record_set r
    WHERE r.connection_id = candidate.connection_id AND r.data_type = candidate.data_type FOR UPDATE;
    next_publication := target.publication + 1;
    readable := target.record_count;
    -- After the publication before, whatever the clock says: who asks for what has changed since misses nothing.
    SELECT greatest(clock_timestamp(), p.published + interval '1 microsecond') INTO moment
    FROM (SELECT max(published) AS published FROM publication
        WHERE record_set_id = target.id AND number = target.publication) p;

    FOR page IN
        SELECT p.* FROM mapped_page p WHERE p.dataset_id = dataset AND p.attempt = candidate.attempt ORDER BY p.page
    LOOP
        found_count := found_count + cardinality(page.record_ids);
        -- Times that were still to come say nothing: of changes before them, later fetches would see none.
        newest := greatest(newest, (SELECT max(m) FROM unnest(page.source_modified) m WHERE m <= candidate.started));
        IF target.publication > 0 THEN
            SELECT array_agg(s.ordinal) FILTER (WHERE c.is_same IS NOT TRUE),
                array_agg(s.record_id) FILTER (WHERE NOT c.is_same),
                count(*) FILTER (WHERE NOT c.is_same AND c.is_deleted)
            INTO fresh, stale, revived_count
            FROM unnest(page.record_ids, page.content_hashes) WITH ORDINALITY s (record_id, content_hash, ordinal)
            LEFT JOIN LATERAL (
                SELECT r.is_deleted, r.content_hash = s.content_hash AND NOT r.is_deleted AS is_same FROM record r
                WHERE r.record_set_id = target.id AND r.record_id = s.record_id AND r.valid_to IS NULL LIMIT 1
            ) c ON true;
            CONTINUE WHEN fresh IS NULL;
            UPDATE record r SET valid_to = next_publication
            WHERE r.record_set_id = target.id AND r.record_id = ANY (stale) AND r.valid_to IS NULL;
            GET DIAGNOSTICS page_count = ROW_COUNT;
            closed_count := closed_count + page_count;
            readable := readable + revived_count;
        END IF;
        INSERT INTO record (record_set_id, record_id, valid_from, body, content_hash, modified, source_modified,
            dated, party_id)
        SELECT target.id, s.record_id, next_publication, s.body, s.content_hash, moment, s.source_modified,
            s.dated, s.party_id
        FROM unnest(page.record_ids, page.bodies, page.content_hashes, page.source_modified, page.days,
            page.party_ids) WITH ORDINALITY
            s (record_id, body, content_hash, source_modified, dated, party_id, ordinal)
        WHERE target.publication = 0 OR s.ordinal = ANY (fresh);
        GET DIAGNOSTICS page_count = ROW_COUNT;
        added_count := added_count + page_count;
    END LOOP;
    IF found_count IS DISTINCT FROM staged.mapped_records THEN
        RAISE EXCEPTION 'mapped records of dataset % were lost', dataset USING ERRCODE = 'DS002';
    END IF;
    -- What was added without closing anything was not there before.
    readable := readable + added_count - closed_count;
    IF staged.whole AND target.record_count > 0 THEN
        readable := readable - publish_vanished(target, staged, next_publication, moment);
    END IF;

    SELECT d.* INTO candidate FROM dataset d WHERE d.id = dataset FOR NO KEY UPDATE;
    verdict := judge_change(
        candidate.status, candidate.lease_token, candidate.lease_expires, 'COMPLETE', held_token, false, NULL);
    IF verdict <> 'DONE' OR candidate.attempt <> staged.attempt THEN
        RAISE EXCEPTION 'dataset % may not be completed: %', dataset, verdict USING ERRCODE = 'DS001';
    END IF;
    UPDATE dataset d SET records_stored = readable WHERE d.id = dataset;

    SELECT a.occurred INTO completed
    FROM append_transitions(ARRAY[ROW(dataset, 'PROCESSING', 'COMPLETE', description, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL)::change]) a;
    INSERT INTO publication (record_set_id, number, published, dataset_id, record_count)
    VALUES (target.id, next_publication, greatest(completed, moment), dataset, readable);
    UPDATE record_set r
    SET publication = next_publication, record_count = readable,
        whole_started = CASE WHEN staged.whole THEN candidate.started ELSE r.whole_started END,
        whole_from = CASE WHEN staged.whole THEN staged.whole_from ELSE r.whole_from END,
        -- A whole fetch begins anew: after a re-link it may be another source, with an earlier clock.
        newest_source_modified = CASE WHEN staged.whole THEN newest ELSE greatest(r.newest_source_modified, newest) END
    WHERE r.id = target.id;
    RETURN readable;
END
$$;

-- Remove up to `count_max` records of a deleted connection, and a set once it has none. Whether to call again: not where
-- nothing is left, nor where another has what is left in hand, a server that does the same or a publication, which will
-- fail.
CREATE FUNCTION erase_records(connection uuid, count_max integer) RETURNS boolean
LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    target bigint;
BEGIN
    SELECT s.id INTO target FROM record_set s JOIN connection c ON c.id = s.connection_id
    WHERE s.connection_id = connection AND c.deleted IS NOT NULL LIMIT 1 FOR UPDATE OF s SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM record r
    WHERE r.ctid = ANY (ARRAY(SELECT v.ctid FROM record v WHERE v.record_set_id = target LIMIT count_max));
    -- Looked for, not counted: somebody may be sweeping superseded versions.
    DELETE FROM record_set s
    WHERE s.id = target AND NOT EXISTS (SELECT FROM record r WHERE r.record_set_id = target);
    RETURN true;
END
$$;
