-- Take a queued job: the next attempt begins under a lease.
-- ARGV: now, id, owner (fresh for each claim call), lease ms, worker, server, processor, decision
-- Returns {claimed, id, attempt, errors, task, tenant, input, created ms, deadline ms or '', trace or '', lane, fingerprint
-- or ''} or {refused, state}; a repeated call of the same owner gets the same answer.
local now = now_ms()
local id, owner = ARGV[2], ARGV[3]
local job = redis.call('HMGET', 'job:' .. id, 'state', 'service', 'owner', 'deadline_ms', 'route', 'attempt')
local state, service = job[1], job[2]
if not state then return {'refused', 'unknown'} end

local order = state == 'queued' and job[5] == 'local' and redis.call('ZSCORE', 'waiting:' .. service, id)
if order then
  if job[4] and tonumber(job[4]) <= now then
    leave_queue(id, service)
    end_late(id, service, job[6], now)
    return {'refused', redis.call('HGET', 'job:' .. id, 'state')}
  end
  dequeue(service, id)
  begin(id, service, order, now)
elseif not (state == 'running' and job[3] == owner) then
  if state == 'running' then count('claims_refused') end
  top_up(service, now)
  return {'refused', state}
end
top_up(service, now)
return claimed(id)
