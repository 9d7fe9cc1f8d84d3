CREATE OR REPLACE FUNCTION mana_ai.take_shard(p_shard text, p_lo int, p_hi int, p_holder text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  taken bigint;
BEGIN
  INSERT INTO mana_ai.shards AS s (shard, buckets, epoch, holder) VALUES (p_shard, int4range(p_lo, p_hi), 1, p_holder)
  ON CONFLICT (shard) DO UPDATE SET epoch = s.epoch + 1, holder = excluded.holder, buckets = excluded.buckets,
         reconcile_after = CASE WHEN s.buckets = excluded.buckets THEN s.reconcile_after END,
         taken_at = clock_timestamp(), heartbeat_at = clock_timestamp()
  RETURNING epoch INTO taken;
  PERFORM setval('mana_ai.snapshot_version',
                 greatest(v.last_value, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + 1000000)
     FROM mana_ai.snapshot_version AS v;
  RETURN taken;
END $$;

COMMENT ON FUNCTION mana_ai.take_shard IS
'Makes a supervisor the one of buckets [p_lo, p_hi): the newest wins, the one before finds its epoch gone and stands down. A
sweep under way goes on where it stood, unless the buckets are others: it compared none of those. Versions go on past the
clock in microseconds, so that a restored database repeats none that an agent has heard of; a second ahead, so that no
other shard''s version can come between.';
ALTER FUNCTION mana_ai.take_shard OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.take_shard TO mana_supervisor;
