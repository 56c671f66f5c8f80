-- How the queues stand, in one step and one short reply, however many jobs there are.
-- KEYS: leases, cloud, held. ARGV: how many jobs of each of them are looked at, how many of each line, then the services
-- Returns {Unix ms, for each key {jobs in all, jobs looked at, then service, route and how many of those looked at}, then
-- for each service: waiting, woken, messages in its Celery queue, when the oldest of those looked at was accepted or ''}.
-- Where there are more jobs than are looked at, those are drawn by lot.
local t = redis.call('TIME')
local most, deep = tonumber(ARGV[1]), tonumber(ARGV[2])
local out = {t[1] * 1000 + math.floor(t[2] / 1000)}

for _, key in ipairs(KEYS) do
  local size = redis.call('ZCARD', key)
  local ids = size > most and redis.call('ZRANDMEMBER', key, most) or redis.call('ZRANGE', key, 0, -1)
  local found, counts = {size, #ids}, {}
  for _, id in ipairs(ids) do
    local job = redis.call('HMGET', 'job:' .. id, 'service', 'route')
    local kind = (job[1] or '') .. ' ' .. (job[2] or '')
    counts[kind] = (counts[kind] or 0) + 1
  end
  for kind, count in pairs(counts) do
    local service, route = string.match(kind, '^(.*) (.*)$')
    found[#found + 1] = service
    found[#found + 1] = route
    found[#found + 1] = count
  end
  out[#out + 1] = found
end

for i = 3, #ARGV do
  local service, oldest = ARGV[i], nil
  for _, id in ipairs(redis.call('ZRANGE', 'waiting:' .. service, 0, deep - 1)) do
    local created = tonumber(redis.call('HGET', 'job:' .. id, 'created_ms') or nil)
    if created and (not oldest or created < oldest) then oldest = created end
  end
  out[#out + 1] = redis.call('ZCARD', 'waiting:' .. service)
  out[#out + 1] = redis.call('ZCARD', 'woken:' .. service)
  out[#out + 1] = redis.call('LLEN', service)
  out[#out + 1] = oldest and string.format('%d', oldest) or ''
end
return out
