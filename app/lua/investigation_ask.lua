-- Ask for a report, once.
-- KEYS  investigations, investigation:<id>
-- ARGV  id, who asked and why, now (ms), how long reports are kept (ms), how many
-- Returns 1, or 0 where it was asked for before.
local function forget(ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('DEL', 'investigation:' .. id)
  end
end
forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[3]) - tonumber(ARGV[4])))
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'asked', ARGV[2], 'bytes', #ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
forget(redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[5])))
return 1
