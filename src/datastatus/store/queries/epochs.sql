-- name: forks
SELECT number, fork_seq FROM epoch ORDER BY number;

-- name: begin_epoch
-- The number is one that no history that was lost had: the same backup may be restored again.
INSERT INTO epoch (number, fork_seq)
SELECT greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), seq FROM journal_head
RETURNING number, fork_seq;
