-- Take the first waiting job of a service without having been woken for it.
-- ARGV: now, service, owner (fresh for each take call), lease ms, worker, server, processor, decision
-- Returns what claim returns, or {none}; a repeated call of the same owner gets the same answer.
local now = now_ms()
local service, owner = ARGV[2], ARGV[3]
local before = redis.call('GET', 'taken:' .. owner)
if before then
  local job = redis.call('HMGET', 'job:' .. before, 'state', 'owner')
  if job[1] == 'running' and job[2] == owner then return claimed(before) end
  return {'none'}
end

for _ = 1, 100 do
  local first = redis.call('ZRANGE', 'waiting:' .. service, 0, 0, 'WITHSCORES')
  local id = first[1]
  if not id then break end
  local job = redis.call('HMGET', 'job:' .. id, 'deadline_ms', 'attempt')
  if job[1] and tonumber(job[1]) <= now then
    leave_queue(id, service)
    end_late(id, service, job[2], now)
  else
    withdraw(id, service)
    begin(id, service, first[2], now)
    redis.call('SET', 'taken:' .. owner, id, 'PX', ARGV[4])
    top_up(service, now)
    return claimed(id)
  end
end
return {'none'}
