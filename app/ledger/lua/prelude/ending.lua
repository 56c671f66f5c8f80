-- How jobs end.

-- from a leader to its followers
local COPIED = {'result', 'error', 'usage', 'route', 'server', 'processor', 'worker', 'first_ms'}

-- How many characters the job's last attempt has said, or nil where it has said nothing, or too long ago.
local function said_by(id)
  local last = redis.call('XREVRANGE', 'said:' .. id, '+', '-', 'COUNT', 1)[1]
  return last and string.match(last[1], '%d+$')
end

-- What a job used of the tokens that it took: nothing, if it never ran itself; nil, if that is not known.
local function tokens_used(usage, ran)
  if not ran then return 0 end
  local read, used = pcall(cjson.decode, usage or '')
  if not read or type(used) ~= 'table' then return nil end
  return (tonumber(used.prompt_tokens) or 0) + (tonumber(used.completion_tokens) or 0)
end

-- A follower ends: what it has said is what its leader had said up to now. Returns the leader's attempt.
local function leave_leader(id, leader)
  local attempt = redis.call('HGET', 'job:' .. leader, 'attempt') or '0'
  redis.call('HSET', 'job:' .. id, 'attempt', attempt, 'said', said_by(leader) or 0)
  redis.call('HDEL', 'job:' .. id, 'follows')
  redis.call('ZREM', 'followers:' .. leader, id)
  return attempt
end

local finish

-- All who follow get the leader's end. What was begun before they came began for them when they came.
local function share(leader, service, state, now)
  local fields, began = {}, redis.call('HGET', 'job:' .. leader, 'started_ms')
  for i, value in ipairs(redis.call('HMGET', 'job:' .. leader, unpack(COPIED))) do
    if value then
      fields[#fields + 1] = COPIED[i]
      fields[#fields + 1] = value
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', 'followers:' .. leader, 0, -1)) do
    redis.call('ZREM', 'held', id)
    redis.call('ZREM', 'deadlines', id)
    if began then
      redis.call('HSET', 'job:' .. id, 'started_ms',
        whole(math.max(tonumber(began), tonumber(redis.call('HGET', 'job:' .. id, 'created_ms')))))
    end
    finish(id, service, state, now, unpack(fields))
  end
end

-- A job that others may follow has ended.
local function land_flight(id, fingerprint, service, state, attempt, now)
  if redis.call('GET', 'flight:' .. fingerprint) ~= id then return end
  if redis.call('EXISTS', 'followers:' .. id) == 1 and state ~= 'succeeded' and state ~= 'failed' then
    succeed_leader(id, fingerprint, attempt, now)
  else
    redis.call('DEL', 'flight:' .. fingerprint)
    share(id, service, state, now)
  end
end

-- The one way into a terminal state. Callers have checked that the job is live.
finish = function(id, service, state, now, ...)
  local key = 'job:' .. id
  redis.call('HSET', key, 'state', state, 'finished_ms', whole(now), ...)
  redis.call('HINCRBY', key, 'recorded', 1)
  local job = redis.call('HMGET', key, 'tenant', 'own', 'attempt', 'line', 'fingerprint', 'follows', 'webhook', 'tokens',
    'usage', 'worker')
  local tenant, attempt, leader = job[1], job[3], job[6]
  if service == 'auth' then redis.call('HDEL', key, 'input') end  -- holds a sealed password
  redis.call('ZADD', 'finished', now, id)
  if leader then attempt = leave_leader(id, leader) end
  local kept_ms = state == 'succeeded' and SAID_KEPT_OF_SUCCESS_MS or SAID_KEPT_MS
  if redis.call('PEXPIRE', 'said:' .. id, kept_ms) == 1 then redis.call('HSET', key, 'said', said_by(id)) end
  count(state)
  redis.call('XADD', 'announcements', 'MAXLEN', '~', ANNOUNCEMENTS_KEPT, '*', 'id', id, 'state', state)
  if job[2] then
    land(tenant)
    tell(tenant, id, state, service, attempt)
  end
  if job[7] then redis.call('XADD', 'hooks', '*', 'id', id, 'tenant', tenant, 'state', state) end
  if job[8] then settle_tokens(tenant, job[8], tokens_used(job[9], job[10] and not leader)) end
  if job[4] then leave_line(id, job[4], now) end
  if job[5] and not leader then land_flight(id, job[5], service, state, attempt, now) end
end

-- Out of the queue without having run: its flow need not wait for it.
local function leave_queue(id, service)
  if redis.call('ZREM', 'held', id) == 0 then
    local job = redis.call('HMGET', 'job:' .. id, 'tenant', 'lane', 'worker')
    if not job[3] then give_back(service, job[1], job[2]) end
    withdraw(id, service)
    redis.call('ZREM', 'delayed', id)
  end
  redis.call('ZREM', 'deadlines', id)
end

-- Of what belongs to a job's run in the cloud, nothing counts any more. What it reserved is spent.
local function forget_run(id)
  redis.call('HDEL', 'job:' .. id, 'owner', 'ticket', 'reserved')
  redis.call('DEL', 'unsaid:' .. id, 'parts:' .. id)
end

local function leave_worker(id)
  redis.call('ZREM', 'leases', id)
  redis.call('ZREM', 'deadlines', id)
  redis.call('HDEL', 'job:' .. id, 'owner')
end

-- Out of a worker's hands by another's wish: tell it, so that it stops at once and not with its next beat.
local function stop_worker(id)
  local job = redis.call('HMGET', 'job:' .. id, 'worker', 'owner')
  redis.call('PUBLISH', 'stopped:' .. job[1], id .. ' ' .. job[2])
  leave_worker(id)
end

-- End a job whose deadline has passed, and which has left where it was: never started = expired, else cancelled.
local function end_late(id, service, attempt, now)
  local started = attempt ~= '0'
  finish(id, service, started and 'cancelled' or 'expired', now, 'error', cjson.encode({code = 'deadline-passed',
    fault = 'caller', detail = started and 'the deadline passed while the job was being worked on'
      or 'the deadline passed before a worker was free'}))
  top_up(service, now)
end
