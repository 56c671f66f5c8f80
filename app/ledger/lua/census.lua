-- Count everything in one step, so that the books balance at any moment. ARGV: now (unused), then the services
-- Returns {counts as a flat list, delayed, running, finished, held, sent to the cloud and not begun, then waiting and woken
-- for each service}.
local out = {redis.call('HGETALL', 'counts'), redis.call('ZCARD', 'delayed'), redis.call('ZCARD', 'leases'),
  redis.call('ZCARD', 'finished'), redis.call('ZCARD', 'held'), redis.call('ZCARD', 'cloud')}
for i = 2, #ARGV do
  out[#out + 1] = redis.call('ZCARD', 'waiting:' .. ARGV[i])
  out[#out + 1] = redis.call('ZCARD', 'woken:' .. ARGV[i])
end
return out
