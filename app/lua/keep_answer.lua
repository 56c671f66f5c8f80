-- An answer is kept, under the generations of its bucket: an answer counts only while both are as they were.
-- On the main Redis, which evicts nothing, an index bounds how much is kept: what would end first goes first.
-- KEYS  entry, generation of everything, generation of the scope; on the main Redis also the index (of '<bytes>:<entry>'
--       by when it ends, ms) and the bytes kept
-- ARGV  the packed answer, a fresh generation, life (ms); on the main Redis also the most bytes, and what an entry costs
--       besides its value
local life_ms = tonumber(ARGV[3])
local value = ''
for i = 2, 3 do
  redis.call('SET', KEYS[i], ARGV[2], 'NX')
  redis.call('PEXPIRE', KEYS[i], 2 * life_ms) -- it outlives all that was kept under it
  value = value .. redis.call('GET', KEYS[i])
end
value = value .. ARGV[1]
if not KEYS[4] then
  redis.call('SET', KEYS[1], value, 'PX', life_ms)
  return 1
end

local function forget(member)
  if redis.call('ZREM', KEYS[4], member) == 1 then
    redis.call('DECRBY', KEYS[5], string.match(member, '^%d+'))
  end
end
local function member_of(length)
  return string.format('%d:%s', length + ARGV[5], KEYS[1])
end

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + now[2] / 1000 -- with its fraction: of two within one, the older goes first
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now_ms, 'LIMIT', 0, 100)) do
  forget(ended)
end
forget(member_of(redis.call('STRLEN', KEYS[1])))
forget(member_of(#value))
redis.call('SET', KEYS[1], value, 'PX', life_ms)
redis.call('ZADD', KEYS[4], now_ms + life_ms, member_of(#value))
redis.call('INCRBY', KEYS[5], #value + ARGV[5])
while tonumber(redis.call('GET', KEYS[5])) > tonumber(ARGV[4]) do
  local oldest = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
  if not oldest then
    break
  end
  redis.call('DEL', string.match(oldest, '^%d+:(.*)$'))
  forget(oldest)
end
local end_ms = math.ceil(now_ms) + life_ms
redis.call('PEXPIREAT', KEYS[4], end_ms)
redis.call('PEXPIREAT', KEYS[5], end_ms)
return 1
