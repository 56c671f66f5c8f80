-- Make up a message to a hook of alerts, unless one is under way.
-- KEYS  alerts:hook:<name>
-- ARGV  the position it comes after, the last entry that it holds, now (ms)
-- Returns 1, or 0 where the hook is elsewhere by now.
local hook = redis.call('HMGET', KEYS[1], 'position', 'last')
if hook[1] ~= ARGV[1] or hook[2] then return 0 end
redis.call('HSET', KEYS[1], 'last', ARGV[2], 'packed', ARGV[3], 'attempts', 0, 'next', 0)
return 1
