-- End what is past its deadline: never started = expired, else cancelled. ARGV: now, limit
-- Returns the ids ended.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', 'deadlines', '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  local job = redis.call('HMGET', 'job:' .. id, 'state', 'service', 'attempt')
  leave(id, job[2], job[1])
  end_late(id, job[2], job[3], now)
end
return due
