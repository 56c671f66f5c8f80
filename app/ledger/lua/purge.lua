-- Forget jobs past retention, leaving a tombstone. ARGV: now, retention ms, life of a tombstone in ms, limit
-- Returns how many were forgotten.
local now = now_ms()
local old = redis.call('ZRANGEBYSCORE', 'finished', '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, ARGV[4])
for _, id in ipairs(old) do
  local tenant = redis.call('HGET', 'job:' .. id, 'tenant')
  redis.call('SET', 'gone:' .. id, tenant, 'PX', ARGV[3])
  redis.call('ZREM', 'jobs:' .. tenant, id)
  redis.call('DEL', 'job:' .. id, 'said:' .. id)
  redis.call('ZREM', 'finished', id)
end
if #old > 0 then count('purged', #old) end
return #old
