-- Renew leases. ARGV: now, lease ms, then id, owner, attempt for each.
-- Returns 1 for each job that is still ours and 0 for each that is not (cancelled, expired, taken over): stop those.
local now = now_ms()
local until_ms = now + tonumber(ARGV[2])
local held = {}
for i = 3, #ARGV, 3 do
  local job = redis.call('HMGET', 'job:' .. ARGV[i], 'state', 'owner', 'attempt')
  if job[1] == 'running' and job[2] == ARGV[i + 1] and job[3] == ARGV[i + 2] then
    redis.call('ZADD', 'leases', 'XX', until_ms, ARGV[i])
    held[#held + 1] = 1
  else
    held[#held + 1] = 0
  end
end
return held
