-- Record how an attempt ended. Only the attempt that owns the lease may.
-- ARGV: now, id, owner, attempt, succeeded | failed, result or '', error or '', usage or '', then list key and its new
--       elements: appended in the same step as the result is recorded, or not at all
-- Returns recorded, again (this owner recorded it before and lost the reply), or stale.
local now = now_ms()
local id, owner, state = ARGV[2], ARGV[3], ARGV[5]
local key = 'job:' .. id
local job = redis.call('HMGET', key, 'state', 'owner', 'attempt', 'service', 'started_ms', 'settled_by', 'route')
if job[6] == owner and job[3] == ARGV[4] and job[1] == state then return 'again' end
if job[1] ~= 'running' or job[2] ~= owner or job[3] ~= ARGV[4] then
  if job[1] then redis.call('HINCRBY', key, 'stale', 1) end
  count('stale')
  return 'stale'
end

leave_worker(id)
if job[7] == 'cloud' then
  local used = tokens_used(ARGV[8], true)
  if used then correct_spend(id, used) end
  forget_run(id)
  -- what the caller got wrong says nothing of the cloud
  if state == 'succeeded' then count('cloud_succeeded')
  elseif not string.find(ARGV[7], '"fault": ?"caller"') then count('cloud_failed') end
end
local fields = {'settled_by', owner}
for i, name in ipairs({'result', 'error', 'usage'}) do
  if ARGV[5 + i] ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = ARGV[5 + i]
  end
end
finish(id, job[4], state, now, unpack(fields))
if ARGV[9] then
  for i = 10, #ARGV do redis.call('RPUSH', ARGV[9], ARGV[i]) end
end
if job[7] ~= 'cloud' then redis.call('HINCRBY', 'served', job[4], 1) end
local run_ms, whose = math.max(now - tonumber(job[5]), 1), job[7] == 'cloud' and 'cloud' or job[4]
local pace = tonumber(redis.call('HGET', 'pace', whose) or run_ms)
redis.call('HSET', 'pace', whose, string.format('%.1f', pace + 0.1 * (run_ms - pace)))
return 'recorded'
