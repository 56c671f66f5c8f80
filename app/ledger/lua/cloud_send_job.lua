-- Send a job to the cloud that waits here, if the purse has enough (see spend.lua).
-- ARGV: now, id, fresh ticket, decision, ms after which it comes home if not begun, five figures of the purse
-- Returns what claim returns, or {capped, jobs | money}; a repeated call with the same ticket gets the same answer.
local now = now_ms()
local id, ticket = ARGV[2], ARGV[3]
local job = redis.call('HMGET', 'job:' .. id, 'state', 'service', 'ticket', 'deadline_ms', 'attempt')
local state, service = job[1], job[2]
if not state then return {'refused', 'unknown'} end
if state == 'queued' and job[3] == ticket then return claimed(id) end
if state ~= 'queued' or not redis.call('ZSCORE', 'waiting:' .. service, id) then return {'refused', state} end
if job[4] and tonumber(job[4]) <= now then
  leave_queue(id, service)
  end_late(id, service, job[5], now)
  return {'refused', redis.call('HGET', 'job:' .. id, 'state')}
end
local lacking = send_away(id, service, ticket, ARGV[4], now + tonumber(ARGV[5]), open_purse(6, now), now)
if lacking then return {'capped', lacking} end
top_up(service, now)
return claimed(id)
