-- Send to the cloud the jobs of a service that would wait longest here.
-- ARGV: now, service, decision, ms after which one that is not begun out there comes home, then a fresh ticket for each
-- Returns for each ticket, as far as there are jobs, what claim returns, or {gone}; a repeated call gets the same answer,
-- but for jobs that have gone on meanwhile. One whose deadline has passed is not sent, nor one that cloud_keep.lua keeps here.
local now = now_ms()
local service, until_ms, most = ARGV[2], now + tonumber(ARGV[4]), #ARGV - 4
local call, answer = 'sent:' .. ARGV[5], {}
for i, id in ipairs(redis.call('LRANGE', call, 0, -1)) do
  local job = redis.call('HMGET', 'job:' .. id, 'state', 'ticket')
  answer[i] = job[1] == 'queued' and job[2] == ARGV[4 + i] and claimed(id) or {'gone'}
end
if answer[1] then return answer end

local passed = 0
for _ = 1, 100 do
  local last = redis.call('ZREVRANGE', 'waiting:' .. service, passed, passed + most - #answer - 1)
  for _, id in ipairs(last) do
    local job = redis.call('HMGET', 'job:' .. id, 'deadline_ms', 'stays')
    if job[2] or job[1] and tonumber(job[1]) <= now then
      passed = passed + 1
    else
      send_away(id, service, ARGV[5 + #answer], ARGV[3], until_ms, now)
      redis.call('RPUSH', call, id)
      answer[#answer + 1] = claimed(id)
    end
  end
  if #answer == most or not last[1] then break end
end
redis.call('PEXPIRE', call, ARGV[4])
top_up(service, now)
return answer
