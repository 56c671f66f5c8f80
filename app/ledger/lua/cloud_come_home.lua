-- Bring home the jobs that were sent to the cloud and that nobody there has begun in time. ARGV: now, limit
-- Returns their ids.
local now = now_ms()
local late = redis.call('ZRANGEBYSCORE', 'cloud', '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(late) do
  bring_home(id, now, 'lapsed', '{"rule":"lapsed","detail":"no cloud worker began it in time"}')
end
return late
