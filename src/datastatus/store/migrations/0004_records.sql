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

CREATE UNLOGGED TABLE staged_record (
    dataset_id uuid NOT NULL,
    attempt integer NOT NULL,
    ordinal bigint NOT NULL,
    record_id text NOT NULL,
    body jsonb NOT NULL,
    content_hash bytea NOT NULL,
    source_modified timestamptz,
    dated date,
    PRIMARY KEY (dataset_id, attempt, ordinal)
);

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

-- The records of one data type of one connection. `publication` counts the syncs that were published. The last whole
-- fetch among them began at `whole_started` and reached back to `whole_from`, or as far as there was anything.
CREATE TABLE record_set (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connection,
    data_type text NOT NULL,
    publication bigint NOT NULL DEFAULT 0,
    published timestamptz,
    dataset_id uuid REFERENCES dataset,
    record_count bigint NOT NULL DEFAULT 0,
    whole_started timestamptz,
    whole_from date,
    newest_source_modified timestamptz,
    UNIQUE (connection_id, data_type)
);

-- One version of one record: readable in the publications from `valid_from` up to but without `valid_to`.
CREATE TABLE record (
    record_set_id bigint NOT NULL REFERENCES record_set ON DELETE CASCADE,
    record_id text NOT NULL,
    valid_from bigint NOT NULL,
    valid_to bigint,
    body jsonb NOT NULL,
    content_hash bytea NOT NULL,
    modified timestamptz NOT NULL,
    source_modified timestamptz,
    -- The day of the business that it tells of; NULL where it has none, as a customer.
    dated date,
    is_deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (record_set_id, record_id, valid_from),
    CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX record_current ON record (record_set_id, record_id) WHERE valid_to IS NULL;

-- What validation found; kept with the dataset.
CREATE TABLE validation_issue (
    dataset_id uuid NOT NULL REFERENCES dataset ON DELETE CASCADE,
    ordinal integer NOT NULL,
    rule_id text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('WARNING', 'ERROR')),
    record_id text NOT NULL,
    field text NOT NULL,
    message text NOT NULL,
    expected text,
    found text,
    PRIMARY KEY (dataset_id, ordinal)
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

-- Publish the staged records of a dataset and end it COMPLETE, in one transaction: no reader ever sees half a
-- sync. The bulk work goes first; the dataset and the journal are locked last and briefly. Answers with the number
-- of records now readable. Raises, so that nothing of it stays:
--   DS001  the dataset may not be completed: the lease is lost, or it has ended meanwhile
--   DS002  staged records were lost
CREATE FUNCTION publish_dataset(dataset uuid, held_token uuid, description text)
RETURNS TABLE (record_count bigint, seq bigint, version integer, occurred timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    candidate dataset;
    target record_set;
    staged staging;
    next_publication bigint;
    readable bigint;
    newest timestamptz;
    verdict text;
    moment constant timestamptz := clock_timestamp();
BEGIN
    PERFORM refuse_other_isolation();
    SELECT d.* INTO candidate FROM dataset d WHERE d.id = dataset;
    SELECT s.* INTO staged FROM staging s WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt;

    -- A publisher whose lease was lost may still be at work here; the next one waits for its end.
    INSERT INTO record_set (connection_id, data_type) VALUES (candidate.connection_id, candidate.data_type)
    ON CONFLICT DO NOTHING;
    SELECT r.* INTO target FROM record_set r
    WHERE r.connection_id = candidate.connection_id AND r.data_type = candidate.data_type FOR UPDATE;
    next_publication := target.publication + 1;

    SELECT count(*), max(s.source_modified) INTO readable, newest
    FROM staged_record s WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt;
    IF readable IS DISTINCT FROM staged.mapped_records THEN
        RAISE EXCEPTION 'staged records of dataset % were lost', dataset USING ERRCODE = 'DS002';
    END IF;

    UPDATE record r SET valid_to = next_publication
    FROM staged_record s
    WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt AND s.record_id = r.record_id
        AND r.record_set_id = target.id AND r.valid_to IS NULL
        AND (r.content_hash <> s.content_hash OR r.is_deleted);

    INSERT INTO record (record_set_id, record_id, valid_from, body, content_hash, modified, source_modified, dated)
    SELECT target.id, s.record_id, next_publication, s.body, s.content_hash, moment, s.source_modified, s.dated
    FROM staged_record s
    WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt AND NOT EXISTS (
        SELECT FROM record r
        WHERE r.record_set_id = target.id AND r.record_id = s.record_id AND r.valid_to IS NULL);

    IF staged.whole THEN
        WITH vanished AS (
            UPDATE record r SET valid_to = next_publication
            WHERE r.record_set_id = target.id AND r.valid_to IS NULL AND NOT r.is_deleted
                AND (r.dated IS NULL OR staged.whole_from IS NULL OR r.dated >= staged.whole_from)
                AND NOT EXISTS (
                SELECT FROM staged_record s
                WHERE s.dataset_id = dataset AND s.attempt = candidate.attempt AND s.record_id = r.record_id)
            RETURNING r.*
        )
        INSERT INTO record (
            record_set_id, record_id, valid_from, body, content_hash, modified, source_modified, dated, is_deleted)
        SELECT v.record_set_id, v.record_id, next_publication, v.body, v.content_hash, moment, v.source_modified,
            v.dated, true
        FROM vanished v;
    END IF;

    SELECT count(*) INTO readable FROM record r
    WHERE r.record_set_id = target.id AND r.valid_to IS NULL AND NOT r.is_deleted;

    SELECT d.* INTO candidate FROM dataset d WHERE d.id = dataset FOR NO KEY UPDATE;
    verdict := judge_change(candidate, 'COMPLETE', held_token, false, NULL);
    IF verdict <> 'DONE' OR candidate.attempt <> staged.attempt THEN
        RAISE EXCEPTION 'dataset % may not be completed: %', dataset, verdict USING ERRCODE = 'DS001';
    END IF;
    UPDATE dataset d SET records_stored = readable WHERE d.id = dataset;

    SELECT a.seq, a.version, a.occurred INTO seq, version, occurred
    FROM append_transitions(ARRAY[ROW(dataset, 'PROCESSING', 'COMPLETE', description, NULL, NULL, NULL, NULL, NULL)::change]) a;
    UPDATE record_set r
    SET publication = next_publication, published = occurred, dataset_id = dataset, record_count = readable,
        whole_started = CASE WHEN staged.whole THEN candidate.started ELSE r.whole_started END,
        whole_from = CASE WHEN staged.whole THEN staged.whole_from ELSE r.whole_from END,
        -- A whole fetch begins anew: after a re-link it may be another source, with an earlier clock.
        newest_source_modified = CASE WHEN staged.whole THEN newest ELSE greatest(r.newest_source_modified, newest) END
    WHERE r.id = target.id;
    record_count := readable;
    RETURN NEXT;
END
$$;
