-- A run in the cloud begins the next attempt at a job that was sent there, under a lease. It is told to those who listen.
-- The service's virtual time stays: jobs are sent from the end of the line, and those here must not fall behind it.
-- ARGV: now, id, ticket, run, lease ms, worker, server, processor
-- Returns what claim returns, or {void} where the ticket, or this run, does not count; a repeated call of the same run gets
-- the same answer.
local now = now_ms()
local id, ticket, run = ARGV[2], ARGV[3], ARGV[4]
local key = 'job:' .. id
local job = redis.call('HMGET', key, 'state', 'service', 'ticket', 'owner', 'deadline_ms', 'attempt', 'own', 'tenant')
local state, service = job[1], job[2]
if state == 'running' and job[3] == ticket and job[4] == run then return claimed(id) end
if state ~= 'queued' or job[3] ~= ticket then return {'void'} end
if job[5] and tonumber(job[5]) <= now then
  leave(id, service, state)
  end_late(id, service, job[6], now)
  return {'void'}
end

local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('ZREM', 'cloud', id)
redis.call('DEL', 'said:' .. id, 'unsaid:' .. id, 'parts:' .. id)
redis.call('HDEL', key, 'first_ms')
redis.call('HSET', key, 'state', 'running', 'owner', run, 'worker', ARGV[6], 'server', ARGV[7], 'processor', ARGV[8],
  'started_ms', whole(now))
redis.call('ZADD', 'leases', now + tonumber(ARGV[5]), id)
note_move(id, 'begun', now, cjson.encode({worker = ARGV[6]}))
count('begun')
if job[7] then tell(job[8], id, 'started', service, attempt) end
redis.call('XADD', 'said:' .. id, attempt .. '-0', 'started', '')
redis.call('PUBLISH', 'said', cmsgpack.pack({{id, whole(attempt), '0', 'started', ''}}))
return claimed(id)
