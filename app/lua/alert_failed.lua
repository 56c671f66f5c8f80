-- An attempt at a message to a hook of alerts failed.
-- KEYS  alerts:hook:<name>, alerts:delivery
-- ARGV  its last entry, when it is tried again (ms), the hook's index, the error, now (ms)
-- Returns 1, or 0 where the message is not under way any more.
if redis.call('HGET', KEYS[1], 'last') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'next', ARGV[2])
redis.call('HINCRBY', KEYS[2], ARGV[3] .. ' retried', 1)
redis.call('HSET', KEYS[2], ARGV[3] .. ' error', ARGV[4], ARGV[3] .. ' error_ms', ARGV[5])
return 1
