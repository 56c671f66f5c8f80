-- Send to the cloud the jobs of a service that would wait longest here, as far as the purse reaches (see spend.lua).
-- ARGV: now, service, decision, ms after which one that is not begun out there comes home, five figures of the purse, then
--       a fresh ticket for each
-- Returns for each ticket, as far as there are jobs, what claim returns, or {gone}; at the end {capped, jobs | money} where
-- it stopped for a cap. A repeated call gets the same answer, but for jobs that have gone on meanwhile. One whose deadline
-- has passed is not sent, nor one that cloud_keep.lua keeps here.
local now = now_ms()
local service, until_ms, before, most = ARGV[2], now + tonumber(ARGV[4]), 9, #ARGV - 9
local call, answer = 'sent:' .. ARGV[before + 1], {}
for i, id in ipairs(redis.call('LRANGE', call, 0, -1)) do
  local cap = string.match(id, '^capped (.*)$')
  local job = redis.call('HMGET', 'job:' .. id, 'state', 'ticket')
  answer[i] = cap and {'capped', cap} or job[1] == 'queued' and job[2] == ARGV[before + i] and claimed(id) or {'gone'}
end
if answer[1] then return answer end

local purse, passed, lacking = open_purse(5, now), 0, nil
for _ = 1, 100 do
  local last = redis.call('ZREVRANGE', 'waiting:' .. service, passed, passed + most - #answer - 1)
  for _, id in ipairs(last) do
    local job = redis.call('HMGET', 'job:' .. id, 'deadline_ms', 'stays')
    if job[2] or job[1] and tonumber(job[1]) <= now then
      passed = passed + 1
    else
      lacking = send_away(id, service, ARGV[before + 1 + #answer], ARGV[3], until_ms, purse, now)
      if lacking then break end
      redis.call('RPUSH', call, id)
      answer[#answer + 1] = claimed(id)
    end
  end
  if #answer == most or lacking or not last[1] then break end
end
if lacking then
  answer[#answer + 1] = {'capped', lacking}
  redis.call('RPUSH', call, 'capped ' .. lacking)
end
redis.call('PEXPIRE', call, ARGV[4])
top_up(service, now)
return answer
