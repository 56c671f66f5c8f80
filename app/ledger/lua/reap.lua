-- Queue again, as the next attempt, what lost its worker; fail what lost too many. ARGV: now, most lost attempts, limit
-- Returns the ids queued again and the ids failed.
local now = now_ms()
local most = tonumber(ARGV[2])
local again, failed = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'leases', '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local key = 'job:' .. id
  local job = redis.call('HMGET', key, 'service', 'order', 'worker', 'route', 'owner')
  local lost = redis.call('HINCRBY', key, 'lost', 1)
  redis.call('ZREM', 'leases', id)
  if job[4] == 'cloud' then end_run(id, job[5], job[3]) else redis.call('HDEL', key, 'owner') end
  count('lost_attempts')
  if lost >= most then
    redis.call('ZREM', 'deadlines', id)
    finish(id, job[1], 'failed', now, 'error', cjson.encode({code = 'worker-lost', fault = 'ours',
      detail = lost .. ' attempts lost their worker, the last one ' .. (job[3] or '?') .. '; the job may be what kills it'}))
    failed[#failed + 1] = id
  else
    redis.call('HDEL', key, 'started_ms')
    redis.call('HSET', key, 'state', 'queued')
    if job[4] == 'cloud' then
      keep_home(id, 'lapsed', now, cjson.encode({rule = 'lapsed', detail = (job[3] or '?') .. ' was not heard of in time'}))
    end
    enqueue(job[1], id, job[2], now)
    again[#again + 1] = id
  end
end
return {again, failed}
