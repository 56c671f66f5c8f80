-- A worker says that it lives. ARGV: now, name, life of the entry in ms, then field, value, ...
-- Returns the pid that was asked to restart itself since it last said so, or ''.
local now = now_ms()
local key = 'worker:' .. ARGV[2]
redis.call('HSET', key, 'beat_ms', string.format('%d', now), unpack(ARGV, 4))
redis.call('PEXPIRE', key, ARGV[3])
redis.call('ZADD', 'workers', now, ARGV[2])
local asked = redis.call('GET', 'restart:' .. ARGV[2])
redis.call('DEL', 'restart:' .. ARGV[2])
return asked or ''
