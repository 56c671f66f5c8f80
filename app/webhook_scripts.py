"""The Lua scripts of the webhooks' deliveries. What they are for stands in `app.webhook_deliveries` and `app.webhook_dead`.

    hook:<id>              HASH  a delivery that is not done: tenant, job, receiver, url, type, created_ms, attempts, error,
                                 body (deflated); owner while it is being made; dead (its member below) once put aside
    hooks:due:<receiver>   ZSET  deliveries to a receiver, by when they are due; one that is being made, by its lease's end
    hooks:receivers        ZSET  receivers, by when the first of their deliveries is due
    hooks:dead:<tenant>    ZSET  <died, Unix ms>:<id> of those put aside, all of one score: in the order of their names
    hooks:dead             ZSET  the ids of all put aside, by when that was

Each is safe to send twice. Times are Redis's.
"""

_PRELUDE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function plan(receiver)
  local first = redis.call('ZRANGE', 'hooks:due:' .. receiver, 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', 'hooks:receivers', first[2], receiver)
  else redis.call('ZREM', 'hooks:receivers', receiver) end
end

local function due(id, receiver, at)
  redis.call('ZADD', 'hooks:due:' .. receiver, at, id)
  plan(receiver)
end

local function leave(id, receiver)
  redis.call('ZREM', 'hooks:due:' .. receiver, id)
  plan(receiver)
end

local function bury(id, tenant, member)
  redis.call('ZREM', 'hooks:dead:' .. tenant, member)
  redis.call('ZREM', 'hooks:dead', id)
end
"""

#: ARGV: id, tenant, job, receiver, url, type, body, group of the stream `hooks`, its entry that said so, which goes.
#: Returns 1, or 0 where it was recorded before.
RECORD = _PRELUDE + """
local key = 'hook:' .. ARGV[1]
redis.call('XACK', 'hooks', ARGV[8], ARGV[9])
redis.call('XDEL', 'hooks', ARGV[9])
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'tenant', ARGV[2], 'job', ARGV[3], 'receiver', ARGV[4], 'url', ARGV[5], 'type', ARGV[6],
  'body', ARGV[7], 'created_ms', string.format('%d', now), 'attempts', 0)
due(ARGV[1], ARGV[4], now)
return 1
"""

#: ARGV: how many to skip, how many to return at most. Returns the receivers with a delivery that is due, and in how many ms
#: the next of the others has one ('' for none).
DUE = _PRELUDE + """
local found = redis.call('ZRANGEBYSCORE', 'hooks:receivers', '-inf', now, 'LIMIT', ARGV[1], ARGV[2])
local next = redis.call('ZRANGEBYSCORE', 'hooks:receivers', '(' .. string.format('%d', now), '+inf', 'WITHSCORES', 'LIMIT',
  0, 1)
return {found, next[2] and string.format('%d', next[2] - now) or ''}
"""

#: ARGV: receiver, how many at most, lease in ms, owner. Returns for each: id, tenant, url, attempts (this one included),
#: body.
CLAIM = _PRELUDE + """
local claimed, key = {}, 'hooks:due:' .. ARGV[1]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local got = redis.call('HMGET', 'hook:' .. id, 'tenant', 'url', 'body')
  if got[1] then
    redis.call('ZADD', key, now + ARGV[3], id)
    redis.call('HSET', 'hook:' .. id, 'owner', ARGV[4])
    claimed[#claimed + 1] = {id, got[1], got[2], redis.call('HINCRBY', 'hook:' .. id, 'attempts', 1), got[3]}
  else
    redis.call('ZREM', key, id)
  end
end
plan(ARGV[1])
return claimed
"""

#: ARGV: id, owner, done | again | dead | back, ms until it is due again, error, how many dead are kept for a tenant.
#: Returns 1, or 0 where it is not this owner's any more.
SETTLE = _PRELUDE + """
local id, key = ARGV[1], 'hook:' .. ARGV[1]
local got = redis.call('HMGET', key, 'owner', 'receiver', 'tenant')
if got[1] ~= ARGV[2] then return 0 end
redis.call('HDEL', key, 'owner')
if ARGV[3] == 'done' then
  leave(id, got[2])
  redis.call('DEL', key)
  return 1
end
if ARGV[3] == 'back' then
  redis.call('HINCRBY', key, 'attempts', -1)
else
  redis.call('HSET', key, 'error', ARGV[5])
end
if ARGV[3] ~= 'dead' then
  due(id, got[2], now + ARGV[4])
  return 1
end
leave(id, got[2])
local tenants = 'hooks:dead:' .. got[3]
local member = string.format('%015d', now) .. ':' .. id
redis.call('HSET', key, 'dead', member)
redis.call('ZADD', tenants, 0, member)
redis.call('ZADD', 'hooks:dead', now, id)
while redis.call('ZCARD', tenants) > tonumber(ARGV[6]) do
  local oldest = string.sub(redis.call('ZPOPMIN', tenants)[1], 17)
  redis.call('ZREM', 'hooks:dead', oldest)
  redis.call('DEL', 'hook:' .. oldest)
end
return 1
"""

#: ARGV: id, tenant, replay | remove. Returns 1, or 0 where the tenant has no such dead delivery.
RAISE = _PRELUDE + """
local key = 'hook:' .. ARGV[1]
local got = redis.call('HMGET', key, 'tenant', 'dead', 'receiver')
if got[1] ~= ARGV[2] or not got[2] then return 0 end
bury(ARGV[1], got[1], got[2])
if ARGV[3] == 'remove' then
  redis.call('DEL', key)
else
  redis.call('HDEL', key, 'dead')
  redis.call('HSET', key, 'attempts', 0)
  due(ARGV[1], got[3], now)
end
return 1
"""

#: ARGV: older than so many ms, how many at most. Returns how many dead deliveries were thrown away.
PURGE = _PRELUDE + """
local old = redis.call('ZRANGEBYSCORE', 'hooks:dead', '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(old) do
  local got = redis.call('HMGET', 'hook:' .. id, 'tenant', 'dead')
  if got[2] then bury(id, got[1], got[2]) end
  redis.call('ZREM', 'hooks:dead', id)
  redis.call('DEL', 'hook:' .. id)
end
return #old
"""
