-- Accept a job: record, idempotency key, place in the queue and wake-up, all or nothing.
-- ARGV: now, id, service, task, tenant, input, lane, deadline ms from now or '', idempotency key or '', digest or '',
--       life of the key in ms, parent or '', trace or '', line or '', fingerprint or '', webhook or '', then
--       own ('1' where a tenant asked for it, else ''), tokens that it may cost, the default limits (requests and tokens by
--       the minute, jobs in flight), then result or '', usage and decision of an answer that is known already
-- Returns {accepted, id, created ms, position or -1, pace ms, slots, figures of the limits}, {known | replayed | mismatch |
-- taken | gone, id} or {limited, id, name, ms to wait, figures}; known: there is this very job already, because the call is
-- repeated, or the caller chose its id; mismatch: it is there with another digest; taken: it is another tenant's.
local now = now_ms()
local id, service, tenant, lane, idem, digest = ARGV[2], ARGV[3], ARGV[5], ARGV[7], ARGV[9], ARGV[10]
local line, fingerprint, own, result = ARGV[14], ARGV[15], ARGV[17] ~= '', ARGV[22]
local key = 'job:' .. id

local before = redis.call('HMGET', key, 'tenant', 'digest')
if before[1] then
  if before[1] ~= tenant then return {'taken', id} end
  if idem == '' and (before[2] or '') ~= digest then return {'mismatch', id} end
  return {'known', id}
end
if idem ~= '' then
  local held = redis.call('GET', 'idem:' .. tenant .. ':' .. idem)
  if held then
    local held_id, held_digest = string.match(held, '^(%S+) (.*)$')
    if held_digest == digest then return {'replayed', held_id} end
    return {'mismatch', held_id}
  end
elseif digest ~= '' then
  local was = redis.call('GET', 'gone:' .. id)
  if was then return {was == tenant and 'gone' or 'taken', id} end
end

local figures, took = {}, 0
if own then
  local short, wait_ms
  figures, short, wait_ms, took = admit(tenant, now, {ARGV[19], ARGV[20], ARGV[21]}, tonumber(ARGV[18]))
  if short then
    count('limited')
    return {'limited', id, short, whole(wait_ms), figures}
  end
  redis.call('HINCRBY', 'inflight', tenant, 1)
  redis.call('ZADD', 'jobs:' .. tenant, now, id)
end
if idem ~= '' then redis.call('SET', 'idem:' .. tenant .. ':' .. idem, id .. ' ' .. digest, 'PX', ARGV[11]) end

local record = {'service', service, 'task', ARGV[4], 'tenant', tenant, 'input', ARGV[6], 'lane', lane, 'state', 'queued',
  'route', 'local', 'attempt', 0, 'created_ms', whole(now)}
local function keep(name, value)
  if value ~= '' then
    record[#record + 1] = name
    record[#record + 1] = value
  end
end
keep('parent', ARGV[12])
keep('trace', ARGV[13])
keep('webhook', ARGV[16])
if own then keep('own', '1') end
if took > 0 then keep('tokens', whole(took)) end
if idem == '' then keep('digest', digest) end
if ARGV[8] ~= '' and result == '' then
  local deadline = whole(now + tonumber(ARGV[8]))
  keep('deadline_ms', deadline)
  redis.call('ZADD', 'deadlines', deadline, id)
end
-- one that waits for nobody gets its place now, and is put there when it can be read
local order
if result == '' and line == '' and fingerprint == '' then
  order = next_order(service, tenant, lane)
  keep('order', order)
end
redis.call('HSET', key, unpack(record))
count('accepted')
if own then tell(tenant, id, 'queued', service, 0) end

local position = -1
if order then
  position = enqueue(service, id, order, now)
elseif result ~= '' then
  finish(id, service, 'succeeded', now, 'result', result, 'usage', ARGV[23], 'decision', ARGV[24], 'started_ms', whole(now))
elseif line ~= '' and not join_line(id, line) or line == '' and fingerprint ~= ''
    and follow(id, fingerprint, service, tenant, lane, now) then
  hold(id, now)
else
  position = line_up(service, id, tenant, lane, now)
end
return {'accepted', id, whole(now), position, redis.call('HGET', 'pace', service) or '',
  redis.call('HGET', 'slots', service) or '', figures}
