-- How far a job is, without its record, which may be large. ARGV: now (unused), id. Returns {state or nil, attempt or nil}.
return redis.call('HMGET', 'job:' .. ARGV[2], 'state', 'attempt')
