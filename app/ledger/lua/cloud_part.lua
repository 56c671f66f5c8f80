-- Keep a part of the end of a run in the cloud. ARGV: now (unused), id, run, attempt, number (from 0), of, text, life in ms
-- Returns the whole once all parts are there, or false. Parts stay until the job goes on, so that a repeated call gets the
-- same answer.
local id, key = ARGV[2], 'parts:' .. ARGV[2]
local job = redis.call('HMGET', 'job:' .. id, 'state', 'owner', 'attempt', 'route')
if job[1] ~= 'running' or job[2] ~= ARGV[3] or job[3] ~= ARGV[4] or job[4] ~= 'cloud' then return false end
redis.call('HSET', key, ARGV[5], ARGV[7])
redis.call('PEXPIRE', key, ARGV[8])
if redis.call('HLEN', key) < tonumber(ARGV[6]) then return false end
local parts = {}
for number = 0, tonumber(ARGV[6]) - 1 do
  local part = redis.call('HGET', key, number)
  if not part then return false end
  parts[#parts + 1] = part
end
return table.concat(parts)
