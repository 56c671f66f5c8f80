-- Make sure that the first waiting jobs of a service have wake-ups: bring in those whose delay is over, fill the window,
-- and push again the wake-ups that vanished (popped by a worker that died before it claimed; the queue's key lost).
-- ARGV: now, service, wait ms before a wake-up that is not in the queue counts as lost
-- Returns {woken, pushed again}.
local now = now_ms()
local service = ARGV[2]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'delayed', '-inf', now, 'LIMIT', 0, 100)) do
  local job = redis.call('HMGET', 'job:' .. id, 'service', 'order')
  redis.call('ZREM', 'delayed', id)
  enqueue(job[1], id, job[2], now)
end
local woken = top_up(service, now)
forget_idle_flows(service)

local old = redis.call('ZRANGEBYSCORE', 'woken:' .. service, '-inf', now - tonumber(ARGV[3]))
if #old == 0 then return {woken, 0} end
local queued = {}
for _, message in ipairs(redis.call('LRANGE', service, 0, -1)) do
  local id = string.match(message, '"id": ?"([^"]+)"')
  if id then queued[id] = true end
end
local again = 0
for _, id in ipairs(old) do
  if not queued[id] then
    wake(service, id, now)
    again = again + 1
  end
end
if again > 0 then count('rewoken', again) end
return {woken, again}
