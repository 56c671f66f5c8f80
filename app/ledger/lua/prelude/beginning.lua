-- How an attempt at a job begins.

-- The next attempt at a waiting job begins, under a lease. Called by claim and take, which have the same
-- ARGV[3..8]: owner, lease ms, worker, server, processor, decision.
local function begin(id, service, order, now)
  local key = 'job:' .. id
  local attempt = redis.call('HINCRBY', key, 'attempt', 1)
  if attempt > 1 and redis.call('DEL', 'said:' .. id) == 1 then redis.call('HDEL', key, 'first_ms') end
  redis.call('HSET', key, 'state', 'running', 'owner', ARGV[3], 'worker', ARGV[5], 'server', ARGV[6], 'processor', ARGV[7],
    'decision', ARGV[8], 'started_ms', whole(now))
  redis.call('ZADD', 'leases', now + tonumber(ARGV[4]), id)
  advance(service, order)
  local job = redis.call('HMGET', key, 'own', 'tenant')
  if job[1] then tell(job[2], id, 'started', service, attempt) end
end

-- What a worker gets with a job that is now its own.
local function claimed(id)
  local got = redis.call('HMGET', 'job:' .. id, 'attempt', 'errors', 'task', 'tenant', 'input', 'created_ms', 'deadline_ms',
    'trace', 'lane', 'fingerprint')
  return {'claimed', id, got[1], got[2] or '0', got[3], got[4], got[5] or '{}', got[6], got[7] or '', got[8] or '', got[9],
    got[10] or ''}
end
