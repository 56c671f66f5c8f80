-- Jobs that wait for another: in a line, of which one runs at a time, or for the answer of a job that asks the same.
--
-- Followers get a copy of their leader's answer, or of its failure. A leader that ends in another way leaves its place to
-- the first of them, whose next attempt has a higher number than any the leader had: what was said before is void then.

local function hold(id, now)
  redis.call('ZADD', 'held', now, id)
end

-- A held job may run now.
local function let_go(id, now)
  local job = redis.call('HMGET', 'job:' .. id, 'service', 'tenant', 'lane')
  redis.call('ZREM', 'held', id)
  line_up(job[1], id, job[2], job[3], now)
end

-- Join the line; returns whether it is this one's turn.
local function join_line(id, name)
  redis.call('HSET', 'job:' .. id, 'line', name)
  return redis.call('RPUSH', 'line:' .. name, id) == 1
end

-- A job of a line has ended: the next one's turn.
local function leave_line(id, name, now)
  redis.call('LREM', 'line:' .. name, 1, id)
  local first = redis.call('LINDEX', 'line:' .. name, 0)
  if first and redis.call('ZSCORE', 'held', first) then let_go(first, now) end
end

-- Move a leader that still waits up to where its follower would stand.
local function move_up(leader, service, tenant, lane, now)
  local waits_at = redis.call('ZSCORE', 'waiting:' .. service, leader)
  if waits_at and tonumber(after_last(service, tenant, lane)) < tonumber(waits_at) then
    local order = next_order(service, tenant, lane)
    withdraw(leader, service)
    redis.call('HSET', 'job:' .. leader, 'order', order)
    enqueue(service, leader, order, now)
  end
end

-- Follow the live job that has this fingerprint, or be the one whom others follow. Returns whether it follows.
local function follow(id, fingerprint, service, tenant, lane, now)
  local leader = redis.call('GET', 'flight:' .. fingerprint)
  redis.call('HSET', 'job:' .. id, 'fingerprint', fingerprint)
  if not leader then
    redis.call('SET', 'flight:' .. fingerprint, id)
    return false
  end
  redis.call('HSET', 'job:' .. id, 'follows', leader, 'decision', '{"rule":"coalesced",'
    .. '"detail":"the same request was being answered already"}')
  redis.call('ZADD', 'followers:' .. leader, now, id)
  count('coalesced')
  move_up(leader, service, tenant, lane, now)
  return true
end

-- The first of the followers takes the leader's place.
local function succeed_leader(leader, fingerprint, attempt, now)
  local heir = redis.call('ZPOPMIN', 'followers:' .. leader)[1]
  redis.call('SET', 'flight:' .. fingerprint, heir)
  redis.call('HDEL', 'job:' .. heir, 'follows', 'decision')
  redis.call('HSET', 'job:' .. heir, 'attempt', attempt)
  for _, id in ipairs(redis.call('ZRANGE', 'followers:' .. leader, 0, -1)) do
    redis.call('HSET', 'job:' .. id, 'follows', heir)
  end
  if redis.call('EXISTS', 'followers:' .. leader) == 1 then
    redis.call('RENAME', 'followers:' .. leader, 'followers:' .. heir)
  end
  let_go(heir, now)
  for _, id in ipairs(redis.call('ZRANGE', 'followers:' .. heir, 0, -1)) do
    local job = redis.call('HMGET', 'job:' .. id, 'service', 'tenant', 'lane')
    move_up(heir, job[1], job[2], job[3], now)
  end
end
