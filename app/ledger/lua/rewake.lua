-- Make sure that the first waiting jobs of a service have wake-ups: bring in those whose delay is over, fill the window,
-- and push again the wake-ups that vanished (popped by a worker that died before it claimed; the queue's key lost).
-- ARGV: now, service, wait ms before a wake-up that is not in the queue counts as lost
-- Returns {woken, how many wake-ups had vanished}.
local now = now_ms()
local service = ARGV[2]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'delayed', '-inf', now, 'LIMIT', 0, 100)) do
  local job = redis.call('HMGET', 'job:' .. id, 'service', 'order')
  redis.call('ZREM', 'delayed', id)
  enqueue(job[1], id, job[2], now)
end
forget_idle_flows(service)

local again = 0
local old = redis.call('ZRANGEBYSCORE', 'woken:' .. service, '-inf', now - tonumber(ARGV[3]))
if #old > 0 then
  local queued = {}
  for _, message in ipairs(redis.call('LRANGE', service, 0, -1)) do
    local id = string.match(message, '"id": ?"([^"]+)"')
    if id then queued[id] = true end
  end
  for _, id in ipairs(old) do
    if not queued[id] then
      redis.call('ZREM', 'woken:' .. service, id)
      redis.call('ZADD', 'backlog:' .. service, redis.call('ZSCORE', 'waiting:' .. service, id), id)
      again = again + 1
    end
  end
  if again > 0 then count('rewoken', again) end
end
return {top_up(service, now), again}
