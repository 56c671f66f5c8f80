-- Note what a cloud worker says of itself.
-- KEYS  cloud:workers, cloud:worker:<name>
-- ARGV  name, life of the entry (ms), then field, value, ...
-- Returns 1 where there was no entry: the worker is new, or was not heard of for so long.
local now = redis.call('TIME')
local fresh = redis.call('EXISTS', KEYS[2]) == 0
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
return fresh and 1 or 0
