-- Forgets the touched minutes that the derivation in this transaction is about to cover: the rows seen by this statement,
-- so that one written by a transaction still under way stays for the next run. Day locks are taken before.
DELETE FROM dxy.touched_range AS t
WHERE t.target = %(target)s AND t.first_ts >= %(start)s AND t.last_ts < %(end)s;
