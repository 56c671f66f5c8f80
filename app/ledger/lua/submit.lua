-- Accept a job: record, idempotency key, waiting set and wake-up, all or nothing.
-- ARGV: now, id, service, task, tenant, input, lane, handicap ms, deadline ms from now or '', idempotency key or '',
--       digest, life of the key in ms, parent or '', trace or ''
-- Returns {accepted, id, created ms, position or -1, pace ms, slots} or {known | replayed | mismatch, id}; known: this
-- very call was made before and its reply was lost.
local now = now_ms()
local id, service, tenant, idem, digest = ARGV[2], ARGV[3], ARGV[5], ARGV[10], ARGV[11]
local key, idem_key = 'job:' .. id, nil

if redis.call('EXISTS', key) == 1 then return {'known', id} end
if idem ~= '' then
  idem_key = 'idem:' .. tenant .. ':' .. idem
  local held = redis.call('GET', idem_key)
  if held then
    local held_id, held_digest = string.match(held, '^(%S+) (.*)$')
    if held_digest == digest then return {'replayed', held_id} end
    return {'mismatch', held_id}
  end
  redis.call('SET', idem_key, id .. ' ' .. digest, 'PX', ARGV[12])
end

local order = string.format('%d', now + tonumber(ARGV[8]))
redis.call('HSET', key, 'service', service, 'task', ARGV[4], 'tenant', tenant, 'input', ARGV[6], 'lane', ARGV[7],
  'state', 'queued', 'route', 'local', 'attempt', 0, 'created_ms', string.format('%d', now), 'order', order)
if ARGV[9] ~= '' then
  local deadline = string.format('%d', now + tonumber(ARGV[9]))
  redis.call('HSET', key, 'deadline_ms', deadline)
  redis.call('ZADD', 'deadlines', deadline, id)
end
if ARGV[13] ~= '' then redis.call('HSET', key, 'parent', ARGV[13]) end
if ARGV[14] ~= '' then redis.call('HSET', key, 'trace', ARGV[14]) end
count('accepted')
enqueue(service, id, order, now)
return {'accepted', id, string.format('%d', now), redis.call('ZRANK', 'waiting:' .. service, id),
  redis.call('HGET', 'pace', service) or '', redis.call('HGET', 'slots', service) or ''}
