-- Hand a running job back for another attempt, at home, by the worker that owns it.
-- ARGV: now, id, owner, attempt, error | drain (only errors count against the job), wait ms before the next attempt
-- Returns released, again, or stale.
local now = now_ms()
local id, owner = ARGV[2], ARGV[3]
local key = 'job:' .. id
local job = redis.call('HMGET', key, 'state', 'owner', 'attempt', 'service', 'order', 'released_by', 'route', 'worker')
local token = owner .. ' ' .. ARGV[4]
if job[6] == token then return 'again' end
if job[1] ~= 'running' or job[2] ~= owner or job[3] ~= ARGV[4] then
  count('stale')
  return 'stale'
end
redis.call('ZREM', 'leases', id)
redis.call('HDEL', key, 'owner', 'started_ms')
redis.call('HSET', key, 'state', 'queued', 'released_by', token)
if job[7] == 'cloud' then
  end_run(id, owner, job[8])
  keep_home(id, 'returned', now, cjson.encode({rule = 'returned', detail = job[8] .. ' gave it back ('
    .. (ARGV[5] == 'error' and 'its attempt failed' or 'it stops') .. ')'}))
end
if ARGV[5] == 'error' then redis.call('HINCRBY', key, 'errors', 1) end
count('released')
if tonumber(ARGV[6]) > 0 then
  redis.call('ZADD', 'delayed', now + tonumber(ARGV[6]), id)
else
  enqueue(job[4], id, job[5], now)
end
return 'released'
