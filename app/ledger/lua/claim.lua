-- Take a queued job: the next attempt begins under a lease.
-- ARGV: now, id, owner (fresh for each claim call), lease ms, worker, server, processor, decision
-- Returns {claimed, attempt, errors, task, tenant, input, created ms, deadline ms or '', trace or ''} or {refused, state};
-- a repeated call of the same owner gets the same answer.
local now = now_ms()
local id, owner = ARGV[2], ARGV[3]
local key = 'job:' .. id
local job = redis.call('HMGET', key, 'state', 'service', 'owner', 'deadline_ms', 'route', 'attempt')
local state, service = job[1], job[2]
if not state then return {'refused', 'unknown'} end

if state == 'queued' and job[5] == 'local' and redis.call('ZSCORE', 'waiting:' .. service, id) then
  if job[4] and tonumber(job[4]) <= now then
    finish_late(id, service, state, job[6], now)
    return {'refused', redis.call('HGET', key, 'state')}
  end
  redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, 'state', 'running', 'owner', owner, 'worker', ARGV[5], 'server', ARGV[6], 'processor', ARGV[7],
    'decision', ARGV[8], 'started_ms', string.format('%d', now))
  dequeue(service, id)
  redis.call('ZADD', 'leases', now + tonumber(ARGV[4]), id)
elseif not (state == 'running' and job[3] == owner) then
  if state == 'running' then count('claims_refused') end
  top_up(service, now)
  return {'refused', state}
end
top_up(service, now)
local got = redis.call('HMGET', key, 'attempt', 'errors', 'task', 'tenant', 'input', 'created_ms', 'deadline_ms', 'trace')
return {'claimed', got[1], got[2] or '0', got[3], got[4], got[5] or '{}', got[6], got[7] or '', got[8] or ''}
