-- Whether a job was accepted with an idempotency key. ARGV: now (unused), tenant, key. Returns 1 or 0.
return redis.call('EXISTS', 'idem:' .. ARGV[2] .. ':' .. ARGV[3])
