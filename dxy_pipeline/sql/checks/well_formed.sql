-- Bars of the pairs that no derivation may ever see: an external writer is held to the contract, too.
SELECT m.* FROM ({malformed}) AS m ORDER BY m.ts_utc, m.canonical_symbol
